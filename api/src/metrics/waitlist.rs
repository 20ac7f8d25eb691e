//! How the waitlist fares, for whoever watches.

use berth_programme::waitlist::WaitlistStats;

use super::Page;

pub(super) fn waitlist(page: &mut Page, stats: &WaitlistStats) {
    let WaitlistStats { waiting, offered, slots_reserved, .. } = *stats;
    page.gauge("berth_waitlist_waiting", "Entries that wait, those passed over for now among them.", waiting);
    page.gauge("berth_waitlist_offered", "Entries that have an offer.", offered);
    page.gauge("berth_waitlist_slots_reserved", "Slots whose free units are kept for those who wait.", slots_reserved);
    page.counter("berth_waitlist_offers_total", "Offers made.", stats.offers);
    page.family("berth_waitlist_offers_ended_total", "counter", "Offers that ended, by how.");
    for (how, count) in [("taken", stats.taken), ("missed", stats.missed), ("declined", stats.declined)] {
        page.sample("berth_waitlist_offers_ended_total", &format!("how=\"{how}\""), count);
    }
    page.family("berth_waitlist_offer_delay_seconds", "summary", "From when a unit became free to its offer.");
    page.bare("berth_waitlist_offer_delay_seconds_sum", seconds(stats.freed_to_offered_ms));
    page.bare("berth_waitlist_offer_delay_seconds_count", stats.freed_to_offered);
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a run are far below what a float holds")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}
