//! The demo's stock: a batch of each product, received at every centre that offers it, a few doses given today and a few wasted.

use std::time::Duration;

use berth_engine::{
    Claim, Command, Dose as DoseNumber, Idempotency, IdempotencyKey, Outcome, PartyId, Request, SlotId,
};
use berth_programme::doses::{Details, DoseNote};
use berth_programme::supply::{BatchSpec, Dose, Ledger, Recorded, Waste};
use jiff::ToSpan;

use super::inventory;
use crate::app::App;

/// Batch, its product, its maker.
const BATCHES: [(&str, &str, &str); 2] =
    [("DEMO-S1", "covishield", "Serum Institute of India"), ("DEMO-X1", "covaxin", "Bharat Biotech")];
const DOSES_IN_ALL: u64 = 1_000_000;
/// Enough for two weeks of the largest sessions.
const DOSES_AT_A_CENTRE: u64 = 3000;
/// Those who had one today: of the oldest people, and away from those whom the printed lines book for.
const GIVEN_TO: std::ops::Range<u32> = 100..105;
const WASTED: u64 = 3;
const WAIT: Duration = Duration::from_secs(30);

/// Where there is something to look at.
pub(super) struct Shown {
    pub(super) centre: String,
    pub(super) batch: &'static str,
}

/// Writes down what is not there yet.
pub(super) fn seed(app: &App) -> Result<Shown, String> {
    let ledger = app.ledger.as_deref().ok_or("the demo has no ledger")?;
    settle(app)?;
    let (campaign, now) = (&app.campaign, app.campaign.engine.now());
    let (programme, today) = (campaign.programme.get(), campaign.programme.calendar().date(now));
    let mut new = false;
    for (id, product, maker) in BATCHES {
        if ledger.batch(id).map_err(told)?.is_none() {
            let product = programme.product_number(product).ok_or("the demo's programme has another product")?.0;
            let spec = BatchSpec {
                id: id.to_owned(),
                product,
                quantity: DOSES_IN_ALL,
                expires: today.saturating_add(1.year()),
                manufacturer: maker.to_owned(),
                doses_per_vial: Some(10),
            };
            ledger.make_batch(spec, fresh()?, now).map_err(told)?;
            new = true;
        }
    }
    let mut shown = None;
    for centre in inventory::centre_ids() {
        let Some(found) = campaign.catalogue.centre(&centre) else { continue };
        let stock = ledger.stock(&centre, "", true).collect::<Result<Vec<_>, _>>().map_err(told)?;
        for (batch, product, _) in BATCHES {
            let of = programme.product_number(product);
            let mut sessions = found.sessions().iter().filter(|session| Some(session.product) == of);
            if sessions.clone().next().is_none() {
                continue;
            }
            if stock.iter().all(|(there, _)| there != batch) {
                let done = ledger.receive((batch, &centre), DOSES_AT_A_CENTRE, "DEMO", fresh()?, now);
                done.map_err(told)?;
            }
            let slot = sessions.find(|session| session.date == today).and_then(|session| session.slots.first());
            if shown.is_none() && centre.starts_with(&format!("c{}-", inventory::FAVOURITE_DISTRICT)) {
                shown = slot.map(|slot| (Shown { centre: centre.clone(), batch }, slot.slot));
            }
        }
    }
    let (shown, slot) = shown.ok_or("the demo has no session today")?;
    settle(app)?;
    if new {
        give(app, ledger, &shown, slot)?;
        let at = (shown.batch, shown.centre.as_str());
        ledger.waste(at, WASTED, Waste::OpenedUnused, fresh()?, now).map_err(told)?;
        settle(app)?;
    }
    Ok(shown)
}

/// Some who came without a booking today.
fn give(app: &App, ledger: &Ledger, shown: &Shown, slot: SlotId) -> Result<(), String> {
    let engine = &app.campaign.engine;
    let product = engine.slot_facts(slot).unwrap_or_default().product;
    for party in GIVEN_TO.map(PartyId) {
        let claim = Claim { party, slot, dose: DoseNumber(1) };
        let command = Command::WalkIn { claim };
        let came = engine.submit(&Request { command, idempotency: None }, engine.now()).map_err(told)?;
        // In an old directory somebody may have had theirs.
        let Ok(Outcome::WalkedIn { claim }) = came.result else { continue };
        let (booking, given_at) = (claim.number, engine.now());
        let (batch, site) = (shown.batch.to_owned(), "left_arm".to_owned());
        let details = Details { given_at, product, batch, site, ..Details::default() };
        let note = DoseNote::Given { details, author: "demo".to_owned() }.encode();
        let command = Command::CompleteNoted { booking, given_at, product: Some(product), note: &note };
        let submit = || engine.submit(&Request { command, idempotency: None }, engine.now());
        let dose = Dose { booking, batch: shown.batch, product, given_at };
        let done = ledger.give(dose, false, || false, submit);
        let Recorded { submitted, .. } = done.map_err(|why| format!("the demo's dose is not taken: {why:?}"))?;
        submitted.result.map_err(told)?;
    }
    Ok(())
}

/// What was written down is on the disk and in the store.
fn settle(app: &App) -> Result<(), String> {
    let (engine, store) = (&app.campaign.engine, app.store.as_ref().ok_or("the demo has no store")?);
    let seq = engine.appended();
    engine.ticket(seq).wait().map_err(told)?;
    store.wait(seq, WAIT).map_err(told)
}

fn told(error: impl std::fmt::Display) -> String {
    format!("cannot write down the demo's stock: {error}")
}

/// A key that nobody has had: what is there already is looked for, and not asked for again.
fn fresh() -> Result<Idempotency, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(told)?;
    Ok(Idempotency { key: IdempotencyKey(u128::from_le_bytes(bytes)), fingerprint: 1 })
}
