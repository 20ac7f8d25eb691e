//! Units on sale, held and booked in all: a walk over the words of all slots, so not at every scrape.

use std::sync::Arc;
use std::time::Duration;

use berth_engine::UnitTotals;

use super::Page;
use super::sampler::Sampler;
use crate::app::App;

/// How old the totals may be, at least.
const AGE: Duration = Duration::from_secs(5);
/// A walk takes at most this part of one thread's time.
const PART: u32 = 50;
/// Totals that are older are told to nobody.
const TOLD_FOR: Duration = Duration::from_secs(600);

/// Who walks.
pub(crate) struct Units(Sampler<UnitTotals>);

impl Units {
    pub(crate) fn new() -> Units {
        Units(Sampler::new(TOLD_FOR))
    }

    /// The totals, a few seconds old.
    pub(crate) async fn totals(&self, app: &Arc<App>) -> Option<Arc<UnitTotals>> {
        let walk = || {
            let app = Arc::clone(app);
            move || app.campaign.engine.unit_totals(app.campaign.engine.now())
        };
        self.0.sample(|took| AGE.max(took * PART), walk).await
    }
}

pub(super) fn units(page: &mut Page, totals: &UnitTotals) {
    let UnitTotals { slots, capacity, held, booked } = *totals;
    page.gauge("berth_units_slots", "Slots that have not begun yet; this and the next are some seconds old.", slots);
    page.gauge("berth_units_capacity", "Units of those slots, taken or not.", capacity);
    page.gauge("berth_units_held", "Units of those slots that are in live holds.", held);
    page.gauge("berth_units_booked", "Units of those slots that are booked.", booked);
}
