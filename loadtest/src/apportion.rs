//! Sharing whole units by weight so that the sum is exact (the method of the largest remainder).

/// Splits `total` over `weights` in proportion, exactly: every share is the exact share rounded down or up, and the
/// shares add up to `total`. Equal remainders go to the earlier place, so the same input gives the same answer.
///
/// Without any weight there is nobody to give to: the shares are all zero.
pub(crate) fn by_largest_remainder(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&w| u128::from(w)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: u64| u128::from(total) * u128::from(weight);
    let mut shares: Vec<u64> =
        weights.iter().map(|&w| u64::try_from(exact(w) / sum).expect("a share is at most the total")).collect();
    let given: u64 = shares.iter().sum();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&place| (std::cmp::Reverse(exact(weights[place]) % sum), place));
    let left = usize::try_from(total - given).expect("fewer units are left than there are places");
    for &place in order.iter().take(left) {
        shares[place] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_the_largest_remainders_win() {
        assert_eq!(by_largest_remainder(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(by_largest_remainder(5, &[24, 51, 25]), [1, 3, 1]);
        assert_eq!(by_largest_remainder(0, &[3, 4]), [0, 0]);
        assert_eq!(by_largest_remainder(7, &[0, 0]), [0, 0]);
        assert_eq!(by_largest_remainder(7, &[]), [0u64; 0]);
        assert_eq!(by_largest_remainder(2, &[0, 5, 0]), [0, 2, 0]);
    }

    #[test]
    fn no_share_is_a_whole_unit_away_from_exact() {
        for total in [0_u64, 1, 999, 26_656, u64::from(u32::MAX)] {
            let weights = [7, 0, 31, 1_000_003, 12, 12, 12];
            let shares = by_largest_remainder(total, &weights);
            assert_eq!(shares.iter().sum::<u64>(), total);
            let sum: u128 = weights.iter().map(|&w| u128::from(w)).sum();
            for (share, weight) in shares.iter().zip(weights) {
                let floor = u128::from(total) * u128::from(weight) / sum;
                assert!(u128::from(*share) == floor || u128::from(*share) == floor + 1);
            }
        }
    }
}
