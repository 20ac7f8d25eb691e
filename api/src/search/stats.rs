//! How searching fares, for the metrics. Relaxed counters: nothing is published by them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct SearchStats {
    hits: AtomicU64,
    misses: AtomicU64,
    waits: AtomicU64,
    not_modified: AtomicU64,
    renders: AtomicU64,
    unchanged: AtomicU64,
    render_nanos: AtomicU64,
}

/// What they have come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SearchCounts {
    /// Answers that were there.
    pub(crate) hits: u64,
    /// Answers that had to be rendered.
    pub(crate) misses: u64,
    /// Answers that somebody else was rendering.
    pub(crate) waits: u64,
    /// Answers that the client had already.
    pub(crate) not_modified: u64,
    /// Renderings.
    pub(crate) renders: u64,
    /// Those that came to what was there before.
    pub(crate) unchanged: u64,
    /// The time that all of them took.
    pub(crate) render_time: Duration,
}

impl SearchStats {
    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Relaxed);
    }

    pub(crate) fn miss(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    pub(crate) fn waited(&self) {
        self.waits.fetch_add(1, Relaxed);
    }

    pub(crate) fn not_modified(&self) {
        self.not_modified.fetch_add(1, Relaxed);
    }

    pub(crate) fn rendered(&self, took: Duration, unchanged: bool) {
        self.renders.fetch_add(1, Relaxed);
        self.unchanged.fetch_add(unchanged.into(), Relaxed);
        self.render_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn counts(&self) -> SearchCounts {
        SearchCounts {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            waits: self.waits.load(Relaxed),
            not_modified: self.not_modified.load(Relaxed),
            renders: self.renders.load(Relaxed),
            unchanged: self.unchanged.load(Relaxed),
            render_time: Duration::from_nanos(self.render_nanos.load(Relaxed)),
        }
    }
}
