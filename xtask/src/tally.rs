//! How many tests passed and failed, read from what the runners print.

use std::iter::Sum;
use std::ops::Add;

/// A count of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// One check of our own that passed.
    pub(crate) const ONE: Tally = Tally { passed: 1, failed: 0 };

    /// Adds up the closing lines of `cargo nextest run` and of `cargo test` (one for each test binary).
    pub(crate) fn read(text: &str) -> Tally {
        text.lines().filter_map(summary).map(counts).sum()
    }
}

impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        tallies.fold(Tally::default(), Add::add)
    }
}

/// The counting part of a closing line.
fn summary(line: &str) -> Option<&str> {
    // nextest sets its own line in a little, and the output of a test that failed too: `test result:` counts only at the margin.
    if line.trim_start().starts_with("Summary [") {
        line.split_once(" run: ").map(|(_, rest)| rest)
    } else if let Some(rest) = line.strip_prefix("test result: ") {
        rest.split_once(". ").map(|(_, rest)| rest)
    } else {
        None
    }
}

/// Reads `11 passed (2 slow), 1 failed, 1 timed out, 3 skipped`, or the same with semicolons.
fn counts(part: &str) -> Tally {
    let mut tally = Tally::default();
    for item in part.split([',', ';']) {
        let Some((count, word)) = item.trim().split_once(' ') else {
            continue;
        };
        let Ok(count) = count.parse::<u64>() else { continue };
        match word.split(" (").next() {
            Some("passed") => tally.passed += count,
            Some("failed" | "timed out" | "exec failed") => tally.failed += count,
            _ => {}
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextest_closing_lines_are_read() {
        let text = "        PASS [   0.005s] (1/1) berth-engine::t cfgs\n     Summary [   0.006s] 1 test run: 1 passed, 0 skipped\n";
        assert_eq!(Tally::read(text), Tally { passed: 1, failed: 0 });
        let text =
            "     Summary [  61.0s] 14/20 tests run: 11 passed (2 slow, 1 leaky), 1 failed, 2 timed out, 3 skipped";
        assert_eq!(Tally::read(text), Tally { passed: 11, failed: 3 });
    }

    #[test]
    fn what_nextest_quotes_of_a_failed_test_is_not_counted_again() {
        let text = "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 37 filtered out\n     \
                    Summary [   0.2s] 38 tests run: 37 passed, 1 failed, 0 skipped\n";
        assert_eq!(Tally::read(text), Tally { passed: 37, failed: 1 });
    }

    #[test]
    fn cargo_test_closing_lines_add_up() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                    test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(Tally::read(text), Tally { passed: 5, failed: 1 });
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(Tally::read("3 passed, 1 failed\nerror: could not compile `m`"), Tally::default());
    }
}
