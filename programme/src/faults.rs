//! What is wrong with a bulk body: every fault with its place, a bounded number of them kept.

use std::fmt;

/// Faults listed in one answer; the rest are only counted.
pub const FAULTS_LISTED_MAX: usize = 100;

/// One thing wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFault {
    /// From 1.
    pub line: u32,
    /// Where in the line, as `windows[0].pools.dose1`; empty when it is the line as a whole.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

/// The faults of one body, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    listed: Vec<LineFault>,
    count: u64,
}

impl Faults {
    /// At most [`FAULTS_LISTED_MAX`].
    #[must_use]
    pub fn listed(&self) -> &[LineFault] {
        &self.listed
    }

    /// All of them, listed or not.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Checks that run after all lines were read push out of order; the lowest lines are kept.
    pub(crate) fn push(&mut self, line: u32, field: impl Into<String>, reason: impl Into<String>) {
        self.count += 1;
        let at = self.listed.partition_point(|listed| listed.line <= line);
        if at < FAULTS_LISTED_MAX {
            self.listed.insert(at, LineFault { line, field: field.into(), reason: reason.into() });
            self.listed.truncate(FAULTS_LISTED_MAX);
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.count, self.listed.first()) {
            (1, Some(only)) => write!(f, "1 fault, in {only}"),
            (count, Some(first)) => write!(f, "{count} faults, the first in {first}"),
            (count, None) => write!(f, "{count} faults"),
        }
    }
}

/// `a; b; c`.
pub(crate) fn joined<T: fmt::Display>(faults: &[T]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_faults_is_counted_but_not_kept() {
        let mut faults = Faults::default();
        for line in 1..=1000 {
            faults.push(line, "id", "bad");
        }
        assert_eq!((faults.listed().len(), faults.count()), (FAULTS_LISTED_MAX, 1000));
        assert_eq!(faults.to_string(), "1000 faults, the first in line 1: id: bad");
    }

    #[test]
    fn the_lowest_lines_are_kept_whatever_the_order() {
        let mut faults = Faults::default();
        faults.push(3, "", "not JSON");
        assert_eq!(faults.to_string(), "1 fault, in line 3: not JSON");
        for line in (1..=200).rev() {
            faults.push(line, "id", "bad");
        }
        let lines: Vec<_> = faults.listed().iter().map(|f| f.line).collect();
        assert_eq!((lines.len(), lines.is_sorted(), lines.last()), (FAULTS_LISTED_MAX, true, Some(&99)));
        assert_eq!((faults.listed()[2].reason.as_str(), faults.count()), ("not JSON", 201));
        assert_eq!(faults.to_string(), "201 faults, the first in line 1: id: bad");
    }
}
