//! How searches fare, and what is told and published in FHIR.

use super::Page;
use crate::search::{Search, SearchCounts};

pub(super) fn search(page: &mut Page, search: &Search) {
    let SearchCounts { hits, misses, waits, not_modified, renders, unchanged, render_time } = search.stats.counts();
    page.family("berth_search_answers_total", "counter", "Searches answered, by where the answer came from.");
    for (source, count) in [("cache", hits), ("rendered", misses), ("waited", waits)] {
        page.sample("berth_search_answers_total", &format!("source=\"{source}\""), count);
    }
    page.counter("berth_search_not_modified_total", "Those that the client had already: 304.", not_modified);
    page.family(
        "berth_search_renders_total",
        "counter",
        "Answers rendered, by whether they had changed since the last time.",
    );
    for (changed, count) in [("yes", renders.saturating_sub(unchanged)), ("no", unchanged)] {
        page.sample("berth_search_renders_total", &format!("changed=\"{changed}\""), count);
    }
    page.family("berth_search_render_seconds_total", "counter", "Time spent in rendering and compressing.");
    page.bare("berth_search_render_seconds_total", render_time.as_secs_f64());
    page.gauge("berth_search_cache_bytes", "Bytes of answers that are kept.", search.cache_bytes() as u64);
    page.counter(
        "berth_search_evictions_total",
        "Answers and spellings of queries dropped to make room.",
        search.evictions(),
    );
}

/// The same of what is told in FHIR: what is asked for, and published files.
pub(super) fn fhir(page: &mut Page, kinds: &[(&str, &Search)]) {
    let counts = kinds.iter().map(|(kind, search)| (*kind, search.stats.counts(), search.cache_bytes() as u64));
    let counts: Vec<_> = counts.collect();
    page.family(
        "berth_fhir_answers_total",
        "counter",
        "Searches and published files of FHIR, by where they came from.",
    );
    for (kind, SearchCounts { hits, misses, waits, .. }, _) in &counts {
        for (source, count) in [("cache", hits), ("rendered", misses), ("waited", waits)] {
            page.sample("berth_fhir_answers_total", &format!("kind=\"{kind}\",source=\"{source}\""), *count);
        }
    }
    page.family("berth_fhir_not_modified_total", "counter", "Those that the client had already: 304.");
    for (kind, counts, _) in &counts {
        page.sample("berth_fhir_not_modified_total", &format!("kind=\"{kind}\""), counts.not_modified);
    }
    page.family(
        "berth_fhir_renders_total",
        "counter",
        "Those rendered, by whether they had changed since the last time.",
    );
    for (kind, SearchCounts { renders, unchanged, .. }, _) in &counts {
        for (changed, count) in [("yes", renders.saturating_sub(*unchanged)), ("no", *unchanged)] {
            page.sample("berth_fhir_renders_total", &format!("kind=\"{kind}\",changed=\"{changed}\""), count);
        }
    }
    page.family("berth_fhir_render_seconds_total", "counter", "Time spent in rendering and compressing them.");
    for (kind, counts, _) in &counts {
        let seconds = counts.render_time.as_secs_f64();
        page.sample("berth_fhir_render_seconds_total", &format!("kind=\"{kind}\""), seconds);
    }
    page.family("berth_fhir_cache_bytes", "gauge", "Bytes of those that are kept.");
    for (kind, _, bytes) in &counts {
        page.sample("berth_fhir_cache_bytes", &format!("kind=\"{kind}\""), *bytes);
    }
}
