//! What is found broken: all of it counted, the first of it shown, each as a short story.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Promise;
use super::evidence::Evidence;
use super::lives::tell;
use super::record::Operation;
use crate::name::{Map, Name};

/// One way in which one promise is broken, with the few facts that prove it.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) promise: Promise,
    pub(crate) what: String,
    /// The operations, export lines or entries that prove it, in order of time.
    pub(crate) story: Vec<String>,
    /// Bookings, holds and keys whose operations belong into the story.
    #[serde(skip)]
    about: Vec<Name>,
}

/// How many findings of one promise a report shows; all are counted.
const SHOWN_MAX: usize = 12;
/// How many lines a story has of the history.
const LINES_MAX: usize = 10;

impl Finding {
    pub(crate) fn new(promise: Promise, what: String, story: Vec<String>) -> Self {
        Self { promise, what, story, about: Vec::new() }
    }
}

/// All findings of one promise.
#[derive(Debug)]
pub(crate) struct Found {
    promise: Promise,
    pub(crate) count: usize,
    pub(crate) shown: Vec<Finding>,
}

impl Found {
    pub(crate) fn none(promise: Promise) -> Self {
        Self { promise, count: 0, shown: Vec::new() }
    }

    pub(crate) fn from_all(promise: Promise, findings: Vec<Finding>) -> Self {
        let count = findings.len();
        Self { promise, count, shown: findings.into_iter().take(SHOWN_MAX).collect() }
    }

    /// One that the operations on these names prove.
    pub(crate) fn about(&mut self, what: impl FnOnce() -> String, names: &[Name]) {
        self.with(what, names, Vec::new);
    }

    /// One with its story.
    pub(crate) fn told(&mut self, what: impl FnOnce() -> String, story: impl FnOnce() -> Vec<String>) {
        self.with(what, &[], story);
    }

    /// Both: the operations, and then what else is to be said.
    pub(crate) fn with(&mut self, what: impl FnOnce() -> String, names: &[Name], story: impl FnOnce() -> Vec<String>) {
        self.count += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(Finding { promise: self.promise, what: what(), story: story(), about: names.to_vec() });
        }
    }
}

/// Puts the operations into the stories, all in one pass through the history.
pub(crate) fn tell_stories<'a>(evidence: &Evidence, findings: impl Iterator<Item = &'a mut Finding>) {
    let mut findings: Vec<&mut Finding> = findings.filter(|finding| !finding.about.is_empty()).collect();
    if findings.is_empty() {
        return;
    }
    let mut wanted: Map<Name, Vec<usize>> = Map::default();
    for (index, finding) in findings.iter().enumerate() {
        for name in &finding.about {
            wanted.entry(*name).or_default().push(index);
        }
    }
    let mut told: BTreeMap<usize, Vec<&Operation>> = BTreeMap::new();
    for operation in &evidence.operations {
        let named = [operation.key, operation.target, operation.hold];
        let named = named.into_iter().flatten().chain(operation.told.iter().map(|told| told.booking));
        let mut of: Vec<usize> = named.filter_map(|name| wanted.get(&name)).flatten().copied().collect();
        of.sort_unstable();
        of.dedup();
        for index in of {
            told.entry(index).or_default().push(operation);
        }
    }
    let began_us = evidence.began_us();
    for (index, mut operations) in told {
        operations.sort_by_key(|operation| operation.sent_us);
        let mut lines: Vec<String> = operations.iter().take(LINES_MAX).map(|one| tell(one, began_us)).collect();
        let said = std::mem::take(&mut findings[index].story);
        lines.extend(said.into_iter().filter(|line| !operations.iter().any(|one| tell(one, began_us) == *line)));
        findings[index].story = lines;
    }
}
