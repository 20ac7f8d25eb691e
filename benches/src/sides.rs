//! Two sides measured in turns in one run, so that a noisy machine troubles both alike.

use std::io::Write;
use std::time::Duration;

/// One round of one side: how long `n` operations took, and a checksum of what they did.
pub type Round = (Duration, u64);

/// Runs both sides `rounds` times in turn and prints the median rate of each, the spread and the ratio of the medians.
pub fn side_by_side(
    title: &str,
    n: u64,
    rounds: usize,
    (left, mut left_round): (&str, impl FnMut() -> Round),
    (right, mut right_round): (&str, impl FnMut() -> Round),
) {
    let (mut lefts, mut rights) = (Vec::new(), Vec::new());
    let mut checksum = 0u64;
    for _ in 0..rounds {
        for (times, round) in
            [(&mut lefts, &mut left_round as &mut dyn FnMut() -> Round), (&mut rights, &mut right_round)]
        {
            let (time, sum) = round();
            times.push(time);
            checksum = checksum.wrapping_add(sum);
        }
    }
    lefts.sort();
    rights.sort();
    #[expect(clippy::cast_precision_loss, reason = "a printed rate")]
    let rate = |times: &[Duration], at: usize| n as f64 / times[at].as_secs_f64();
    let side = |name: &str, times: &[Duration]| {
        let (worst, median, best) = (rate(times, times.len() - 1), rate(times, times.len() / 2), rate(times, 0));
        format!("{name} {:.3} M/s ({:.3} to {:.3})", median / 1e6, worst / 1e6, best / 1e6)
    };
    let ratio = rights[rights.len() / 2].as_secs_f64() / lefts[lefts.len() / 2].as_secs_f64();
    let line = format!(
        "{title}: {}; {}; {right} takes {ratio:.2}x the time of {left}; {rounds} rounds of {n}, checksum {checksum:x}",
        side(left, &lefts),
        side(right, &rights),
    );
    // A bench that cannot print has nobody to tell.
    let _ = writeln!(std::io::stdout(), "{line}");
}
