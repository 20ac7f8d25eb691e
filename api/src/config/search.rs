//! `[search]` of the configuration file.

use std::time::Duration;

use serde::Deserialize;

use super::Faults;
use crate::search::SearchConfig;

/// Searching.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchEntry {
    /// How old the counts of an answer may be when it is asked for. 0 to 60000; 0: every search is rendered anew. Default
    /// 500. Longer costs less and shows more slots that are gone.
    pub(crate) staleness_ms: Option<u64>,
    /// MiB of answers that are kept. 1 to 65536. Default 128. Too few, and answers are rendered again before their time.
    pub(crate) cache_mib: Option<usize>,
}

impl Faults {
    pub(super) fn search(&mut self, entry: &SearchEntry) -> SearchConfig {
        let staleness = self.within("search.staleness_ms", entry.staleness_ms, 500, 0, 60_000);
        let cache_mib = self.within("search.cache_mib", entry.cache_mib, 128, 1, 65_536);
        SearchConfig { staleness: Duration::from_millis(staleness), cache_bytes: cache_mib << 20 }
    }
}
