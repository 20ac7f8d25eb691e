//! More than noise or not: the Mann-Whitney test on per-second values, and Holm's correction for asking many questions.
//!
//! The test asks whether seconds of the one run tend to be above seconds of the other. It assumes nothing of how the values are
//! distributed, which latencies need. Seconds of one run are not quite independent of each other, so a finding near the level is weaker
//! than it looks; a difference must also be large enough to matter.

/// So many whole seconds a side must have; fewer say nothing.
pub(super) const SECONDS_MIN: usize = 5;

/// Two-sided probability that samples as far apart come of one distribution; none where there are too few.
pub(super) fn mann_whitney(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < SECONDS_MIN || b.len() < SECONDS_MIN {
        return None;
    }
    let mut ranked: Vec<(f64, bool)> =
        a.iter().map(|&value| (value, true)).chain(b.iter().map(|&v| (v, false))).collect();
    ranked.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (n_a, n_b, n) = (count(a.len()), count(b.len()), count(ranked.len()));
    let (mut rank_sum, mut ties, mut passed) = (0.0, 0.0, 0.0);
    // Equal values share the mean of their ranks.
    for equal in ranked.chunk_by(|one, next| one.0.total_cmp(&next.0).is_eq()) {
        let size = count(equal.len());
        let rank = passed + (size + 1.0) / 2.0;
        rank_sum += rank * count(equal.iter().filter(|(_, of_a)| *of_a).count());
        ties += size * size * size - size;
        passed += size;
    }
    let u = rank_sum - n_a * (n_a + 1.0) / 2.0;
    let variance = n_a * n_b / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
    if variance <= 0.0 {
        // All values are one.
        return Some(1.0);
    }
    let z = ((u - n_a * n_b / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    Some((2.0 * upper_tail(z)).min(1.0))
}

/// Which of the probabilities are small enough at `level`, when so many were asked for at once (Holm).
pub(super) fn stands_out(probabilities: &[Option<f64>], level: f64) -> Vec<bool> {
    let mut order: Vec<(usize, f64)> =
        probabilities.iter().enumerate().filter_map(|(place, p)| Some((place, (*p)?))).collect();
    order.sort_by(|one, other| one.1.total_cmp(&other.1));
    let mut stands = vec![false; probabilities.len()];
    for (rank, (place, p)) in order.iter().enumerate() {
        if p * count(order.len() - rank) > level {
            break;
        }
        stands[*place] = true;
    }
    stands
}

/// How much of the normal distribution lies above (Abramowitz and Stegun 26.2.17, to 7.5e-8).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let factors = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = factors.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum
}

#[expect(clippy::cast_precision_loss, reason = "a number of seconds")]
fn count(len: usize) -> f64 {
    len as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_come_out() {
        assert!((upper_tail(0.0) - 0.5).abs() < 1e-7);
        assert!((upper_tail(1.96) - 0.024_998).abs() < 1e-6);
        // Of two times ten values that do not overlap, by hand: U = 0, z = 49.5 / sqrt(175).
        let (low, high): (Vec<f64>, Vec<f64>) = ((0..10).map(f64::from).collect(), (20..30).map(f64::from).collect());
        let p = mann_whitney(&low, &high).unwrap();
        assert!((p - 2.0 * upper_tail(49.5 / 175.0_f64.sqrt())).abs() < 1e-12 && p < 0.001, "{p}");
        assert_eq!(mann_whitney(&low, &high), mann_whitney(&high, &low));
        assert!(mann_whitney(&low, &low).unwrap() > 0.9);
        assert_eq!(mann_whitney(&[1.0; 9], &[1.0; 9]), Some(1.0));
        assert_eq!(mann_whitney(&[1.0; 4], &[2.0; 9]), None);
    }

    #[test]
    fn of_many_questions_only_what_is_small_enough_for_all_of_them_stands_out() {
        assert_eq!(stands_out(&[Some(0.04)], 0.05), [true]);
        assert_eq!(stands_out(&[Some(0.04), Some(0.9), None], 0.05), [false, false, false]);
        assert_eq!(stands_out(&[Some(0.001), Some(0.04), Some(0.02)], 0.05), [true, true, true]);
        assert_eq!(stands_out(&[Some(0.03), Some(0.001), Some(0.03)], 0.05), [false, true, false]);
    }
}
