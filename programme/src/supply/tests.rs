//! The ledger with its engine, journal and store: against a plain model, with threads that race, and opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_engine::{
    BookingNumber, Claim, Command, Config, Dose as DoseNumber, Idempotency, IdempotencyKey, Outcome, PartyFacts,
    PartyId, ProductId, Refusal, Request, Seq, SlotId, Submitted, TimestampMs,
};
use jiff::ToSpan as _;
use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::campaign::Campaign;
use crate::doses::{Correction, Details, DoseNote};
use crate::programme::Programme;
use crate::publish::BulkKind;
use crate::store::{Store, Told};

mod amended;
mod late;
mod races;
mod twice;

const REGIONS: &str = r#"{"id":"27","kind":"state","name":"Maharashtra"}
{"id":"395","kind":"district","name":"Mumbai","parent":"27"}"#;
const CENTRES: [&str; 2] = ["c1", "c2"];
const BATCHES: [&str; 3] = ["A", "B", "unknown"];
const WAIT: Duration = Duration::from_secs(30);
const PEOPLE: u32 = 40;

pub(super) struct Cell {
    pub(super) campaign: Campaign,
    store: Arc<Store>,
    pub(super) ledger: Ledger,
    keys: std::sync::atomic::AtomicU64,
}

impl Cell {
    pub(super) fn open(dir: &Path, enforce: &str) -> Cell {
        let cell = Cell::without_books(dir, enforce);
        cell.store.wait(cell.campaign.engine.durable(), WAIT).unwrap();
        cell.ledger.begin().unwrap();
        cell
    }

    /// As a server is whose store has not come so far at its start.
    fn without_books(dir: &Path, enforce: &str) -> Cell {
        let text = include_str!("../../../programmes/india-2021.toml");
        let text = text.replace("enforce = \"warn\"", &format!("enforce = \"{enforce}\""));
        let programme = Programme::from_toml(&text).unwrap();
        let mut config = Config::new(dir);
        config.journal.segment_bytes = 1 << 20;
        config.journal.buffer_bytes = 1 << 18;
        let campaign = Campaign::open(config, programme).unwrap().0;
        let store = Arc::new(Store::open(&dir.join("store")).unwrap());
        let (ledger, projection) = Ledger::open(&campaign, &store).unwrap();
        let tell = |told| assert!(matches!(told, Told::BeganLate(_)), "{told:?}");
        store.follow(&campaign.engine, vec![projection], tell).unwrap();
        let keys = std::sync::atomic::AtomicU64::new(campaign.engine.appended().0 * 1000);
        Cell { campaign, store, ledger, keys }
    }

    pub(super) fn close(self) {
        self.store.close();
        self.campaign.engine.close().unwrap();
    }

    pub(super) fn now(&self) -> TimestampMs {
        self.campaign.engine.now()
    }

    pub(super) fn key(&self) -> Idempotency {
        let key = self.keys.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Idempotency { key: IdempotencyKey(u128::from(key)), fingerprint: 1 }
    }

    fn submit(&self, command: Command<'_>, now: TimestampMs) -> Submitted {
        self.campaign.engine.submit(&Request { command, idempotency: None }, now).unwrap()
    }

    /// The store has seen all that was appended.
    pub(super) fn settle(&self) {
        let seq = self.campaign.engine.appended();
        self.campaign.engine.ticket(seq).wait().unwrap();
        self.store.wait(seq, WAIT).unwrap();
    }

    /// A day on which people come, in the middle of its sessions.
    fn visit(&self) -> TimestampMs {
        let calendar = self.campaign.programme.calendar();
        let day = calendar.date(self.now()).saturating_add(2.days());
        calendar.instant(day, jiff::civil::time(10, 0, 0, 0)).unwrap()
    }

    /// Two centres with a session each, and people of whom each has a booking, checked in, by turns at the one and at the other.
    pub(super) fn seeded(dir: &Path, enforce: &str) -> (Cell, Vec<BookingNumber>) {
        let cell = Cell::open(dir, enforce);
        let day = cell.campaign.programme.calendar().date(cell.visit());
        let centre = |id: &str| format!(r#"{{"id":"{id}","name":"One","district":"395","pincode":"400001"}}"#);
        let centres = CENTRES.map(centre).join("\n");
        let session = |centre: &str| {
            format!(
                r#"{{"id":"s{centre}","centre":"{centre}","date":"{day}","product":"covaxin","windows":[{{"start":"09:00","end":"11:00","pools":{{"dose1":{PEOPLE}}}}}]}}"#
            )
        };
        for (kind, body) in [(BulkKind::Regions, REGIONS), (BulkKind::Centres, &centres)] {
            cell.campaign.publisher.publish(kind, body.as_bytes(), None, cell.now()).unwrap();
        }
        if enforce == "refuse" {
            cell.batch("session", date(2099, 1, 1), 1_000_000);
            for centre in CENTRES {
                cell.ledger.receive(("session", centre), 1000, "", cell.key(), cell.now()).unwrap();
            }
        }
        let sessions = CENTRES.map(session).join("\n");
        cell.campaign.publisher.publish(BulkKind::Sessions, sessions.as_bytes(), None, cell.now()).unwrap();
        let facts = PartyFacts { birth_year: 1980, ..PartyFacts::default() };
        cell.submit(Command::AddParties { count: PEOPLE, facts }, cell.now()).result.unwrap();
        let slot = |centre: &str| cell.campaign.catalogue.session(&format!("s{centre}")).unwrap().slots[0].slot;
        let slots = CENTRES.map(slot);
        let bookings = (0..PEOPLE).map(|party| cell.checked_in(PartyId(party), slots[party as usize % 2])).collect();
        (cell, bookings)
    }

    fn checked_in(&self, party: PartyId, slot: SlotId) -> BookingNumber {
        let claims = [Claim { party, slot, dose: DoseNumber(1) }];
        let booked = self.submit(Command::Book { claims: &claims }, self.now()).result.unwrap();
        let Outcome::Booked { claims } = booked else { panic!("{booked:?}") };
        let booking = claims[0].number;
        self.submit(Command::CheckIn { booking }, self.visit()).result.unwrap();
        booking
    }

    pub(super) fn product(&self) -> ProductId {
        self.campaign.programme.get().product_number("covaxin").unwrap()
    }

    pub(super) fn batch(&self, id: &str, expires: jiff::civil::Date, quantity: u64) {
        let product = self.product().0;
        let (id, manufacturer) = (id.to_owned(), String::new());
        let spec = BatchSpec { id, product, quantity, expires, manufacturer, doses_per_vial: None };
        self.ledger.make_batch(spec, self.key(), self.now()).unwrap();
    }

    fn give(&self, booking: BookingNumber, batch: &str, told: bool) -> Result<Vec<Doubt>, Doubt> {
        match self.give_under(None, booking, batch, told) {
            Ok(Recorded { submitted, doubts }) => {
                submitted.result.unwrap();
                Ok(doubts)
            }
            Err(Unrecorded::Doubt(doubt, _)) => Err(doubt),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// As the routes do it: under the client's key.
    fn give_under(
        &self,
        idempotency: Option<Idempotency>,
        booking: BookingNumber,
        batch: &str,
        told: bool,
    ) -> Result<Recorded, Unrecorded<Refusal>> {
        let (given_at, product) = (self.visit(), self.product());
        let details = Details { given_at, product, batch: batch.to_owned(), ..Details::default() };
        let note = DoseNote::Given { details, author: String::new() }.encode();
        let command = Command::CompleteNoted { booking, given_at, product: Some(product), note: &note };
        let dose = Dose { booking, batch, product, given_at };
        let engine = &self.campaign.engine;
        let submit = || Ok::<_, Refusal>(engine.submit(&Request { command, idempotency }, given_at).unwrap());
        let repeated = || idempotency.is_some_and(|key| engine.repeat_of(key).is_some());
        self.ledger.give(dose, told, repeated, submit)
    }

    fn note(&self, party: PartyId, note: &DoseNote) -> Submitted {
        self.note_under(None, party, note)
    }

    fn note_under(&self, idempotency: Option<Idempotency>, party: PartyId, note: &DoseNote) -> Submitted {
        let facts = self.campaign.engine.party_bookings(party).unwrap().facts;
        let note = note.encode();
        let command = Command::ChangeFacts { party, facts, expected: None, note: &note };
        self.campaign.engine.submit(&Request { command, idempotency }, self.visit()).unwrap()
    }

    fn correct(&self, party: PartyId, booking: BookingNumber, batch: &str) -> Result<(), Doubt> {
        self.correct_under(None, party, booking, batch).map(|submitted| assert!(submitted.result.is_ok()))
    }

    fn correct_under(
        &self,
        idempotency: Option<Idempotency>,
        party: PartyId,
        booking: BookingNumber,
        batch: &str,
    ) -> Result<Submitted, Doubt> {
        let correction = Correction { batch: Some(batch.to_owned()), ..Correction::default() };
        let (reason, author) = ("typo".to_owned(), String::new());
        let note = DoseNote::Corrected { booking, correction, reason, author };
        let submit = || Ok::<_, Refusal>(self.note_under(idempotency, party, &note));
        match self.ledger.correct(booking, (Some(batch), None), submit) {
            Ok(recorded) => Ok(recorded.submitted),
            Err(Unrecorded::Doubt(doubt, _)) => Err(doubt),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn revoke(&self, party: PartyId, booking: BookingNumber) {
        let (reason, author) = ("typo".to_owned(), String::new());
        self.note(party, &DoseNote::Revoked { booking, reason, author }).result.unwrap();
    }

    fn lot(&self, batch: &str, centre: &str) -> Lot {
        self.ledger.tables.lot(batch, centre).unwrap()
    }

    fn held(&self, batch: &str, centre: &str) -> Held {
        self.ledger.books().unwrap().held(batch, centre)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Receive { batch: usize, at: usize, doses: u64 },
    Send { batch: usize, from: usize, doses: u64 },
    Arrive { transfer: usize, doses: u64 },
    Cancel { transfer: usize },
    Waste { batch: usize, at: usize, doses: u64 },
    Count { batch: usize, at: usize, doses: u64 },
    Give { who: usize, batch: usize },
    Correct { who: usize, batch: usize },
    Revoke { who: usize },
    Recall { batch: usize },
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (batch, at, doses, who) = (|| 0usize..2, || 0usize..2, || 1u64..6, || 0..PEOPLE as usize);
    let op = prop_oneof![
        3 => (batch(), at(), doses()).prop_map(|(batch, at, doses)| Op::Receive { batch, at, doses }),
        2 => (batch(), at(), doses()).prop_map(|(batch, from, doses)| Op::Send { batch, from, doses }),
        2 => (0usize..4, 0u64..6).prop_map(|(transfer, doses)| Op::Arrive { transfer, doses }),
        1 => (0usize..4).prop_map(|transfer| Op::Cancel { transfer }),
        2 => (batch(), at(), doses()).prop_map(|(batch, at, doses)| Op::Waste { batch, at, doses }),
        1 => (batch(), at(), 0u64..8).prop_map(|(batch, at, doses)| Op::Count { batch, at, doses }),
        8 => (who(), 0usize..3).prop_map(|(who, batch)| Op::Give { who, batch }),
        3 => (who(), 0usize..3).prop_map(|(who, batch)| Op::Correct { who, batch }),
        2 => who().prop_map(|who| Op::Revoke { who }),
        1 => batch().prop_map(|batch| Op::Recall { batch }),
        1 => Just(Op::Restart),
    ];
    prop::collection::vec(op, 1..40)
}

/// Stock as plainly as it goes: what came less what went, and what nothing was there for.
#[derive(Default)]
struct Plain {
    /// By batch and centre: may be negative, as far as doses were given that were not there.
    balance: BTreeMap<(usize, usize), i64>,
    transfers: Vec<(Seq, usize, usize, u64, bool)>,
    /// By person: the batch, and whether the dose stands.
    doses: BTreeMap<usize, (usize, bool)>,
    lost: u64,
    recalled: BTreeSet<usize>,
}

impl Plain {
    fn there(&mut self, batch: usize, at: usize) -> &mut i64 {
        self.balance.entry((batch, at)).or_default()
    }

    fn has(&mut self, batch: usize, at: usize) -> u64 {
        u64::try_from(*self.there(batch, at)).unwrap_or(0)
    }
}

fn run(cell: &Cell, plain: &mut Plain, bookings: &[BookingNumber], op: &Op) {
    let (now, key) = (cell.visit(), cell.key());
    let ledger = &cell.ledger;
    match *op {
        Op::Receive { batch, at, doses } => {
            ledger.receive((BATCHES[batch], CENTRES[at]), doses, "", key, now).unwrap();
            *plain.there(batch, at) += i64::try_from(doses).unwrap();
        }
        Op::Send { batch, from, doses } => {
            let (id, to) = (BATCHES[batch].to_owned(), CENTRES[1 - from].to_owned());
            let sending = Sending { batch: id, from: CENTRES[from].to_owned(), to, quantity: doses };
            let sent = ledger.send(sending, key, now);
            let goes = !plain.recalled.contains(&batch) && plain.has(batch, from) >= doses;
            assert_eq!(sent.is_ok(), goes, "{sent:?}");
            if let Ok(done) = sent {
                *plain.there(batch, from) -= i64::try_from(doses).unwrap();
                plain.transfers.push((done.seq, batch, from, doses, true));
            }
        }
        Op::Arrive { transfer, doses } => {
            cell.settle();
            let Some((seq, batch, from, sent, open)) = plain.transfers.get(transfer).copied() else { return };
            let arrived = ledger.arrive(seq, doses, key, now);
            assert_eq!(arrived.is_ok(), open && doses <= sent, "{arrived:?}");
            if arrived.is_ok() {
                *plain.there(batch, 1 - from) += i64::try_from(sent).unwrap();
                let lost = sent - doses;
                // What is lost is lost of what arrived, also where that was given before it came.
                *plain.there(batch, 1 - from) -= i64::try_from(lost).unwrap();
                plain.lost += lost;
                plain.transfers[transfer].4 = false;
            }
        }
        Op::Cancel { transfer } => {
            cell.settle();
            let Some((seq, batch, from, sent, open)) = plain.transfers.get(transfer).copied() else { return };
            let cancelled = ledger.cancel(seq, key, now);
            assert_eq!(cancelled.is_ok(), open, "{cancelled:?}");
            if open {
                *plain.there(batch, from) += i64::try_from(sent).unwrap();
                plain.transfers[transfer].4 = false;
            }
        }
        Op::Waste { batch, at, doses } => {
            let wasted = ledger.waste((BATCHES[batch], CENTRES[at]), doses, Waste::Broken, key, now);
            assert_eq!(wasted.is_ok(), plain.has(batch, at) >= doses, "{wasted:?}");
            if wasted.is_ok() {
                *plain.there(batch, at) -= i64::try_from(doses).unwrap();
            }
        }
        Op::Count { batch, at, doses } => {
            ledger.count((BATCHES[batch], CENTRES[at]), doses, "count", key, now).unwrap();
            *plain.there(batch, at) = i64::try_from(doses).unwrap();
        }
        Op::Give { who, batch } => {
            if plain.doses.contains_key(&who) {
                return;
            }
            let there = plain.has(batch, who % 2);
            let recalled = plain.recalled.contains(&batch);
            let mut expected = if batch == 2 { vec![Doubt::Unknown] } else { vec![] };
            expected.extend(recalled.then_some(Doubt::Recalled));
            expected.extend((batch != 2 && there == 0).then_some(Doubt::NoStock));
            // At the door it is not given; what was given all the same is told.
            if recalled {
                assert_eq!(cell.give(bookings[who], BATCHES[batch], false), Err(Doubt::Recalled));
            }
            assert_eq!(cell.give(bookings[who], BATCHES[batch], recalled), Ok(expected));
            *plain.there(batch, who % 2) -= 1;
            plain.doses.insert(who, (batch, true));
        }
        Op::Correct { who, batch } => {
            let Some((before, valid)) = plain.doses.get(&who).copied() else { return };
            if !valid {
                return;
            }
            // Sometimes behind another correction that the store has not seen yet.
            if who % 3 == 0 {
                cell.settle();
            }
            // The route waits for the dose itself.
            if cell.ledger.use_of(bookings[who]).unwrap().is_none() {
                cell.settle();
            }
            cell.correct(PartyId(u32::try_from(who).unwrap()), bookings[who], BATCHES[batch]).unwrap();
            *plain.there(before, who % 2) += 1;
            *plain.there(batch, who % 2) -= 1;
            plain.doses.insert(who, (batch, true));
        }
        Op::Revoke { who } => {
            if let Some((_, valid)) = plain.doses.get_mut(&who).filter(|(_, valid)| *valid) {
                cell.settle();
                cell.revoke(PartyId(u32::try_from(who).unwrap()), bookings[who]);
                cell.settle();
                *valid = false;
            }
        }
        Op::Recall { batch } => {
            let id = BATCHES[batch];
            if plain.recalled.remove(&batch) {
                ledger.lift_recall(id, "tested", key, now).unwrap();
            } else {
                ledger.recall(id, "quality", key, now).unwrap();
                plain.recalled.insert(batch);
            }
        }
        Op::Restart => {}
    }
}

fn agrees(cell: &Cell, plain: &mut Plain, bookings: &[BookingNumber]) {
    cell.settle();
    let mut lost = 0;
    for (batch, id) in BATCHES.iter().enumerate() {
        let mut sum = Lot::default();
        for (at, centre) in CENTRES.iter().enumerate() {
            let balance = *plain.there(batch, at);
            let recall = cell.ledger.batch(id).unwrap().and_then(|row| row.recall);
            assert_eq!(recall.is_some(), plain.recalled.contains(&batch), "{id}");
            let held =
                Held { on_hand: u64::try_from(balance).unwrap_or(0), uncovered: u64::try_from(-balance).unwrap_or(0) };
            let lot = cell.lot(id, centre);
            assert_eq!(cell.held(id, centre), held, "{id} at {centre}, in memory");
            assert_eq!(lot.held, held, "{id} at {centre}, in the store");
            let (came, went) = lot.sides();
            assert_eq!(came, went, "{lot:?}");
            sum.add(&lot);
        }
        lost += sum.wasted[Waste::LostInTransit as usize];
        assert_eq!(sum.sent, sum.arrived + sum.on_the_way, "{id}: {sum:?}");
        let doses = plain.doses.values().copied().filter(|(of, _)| *of == batch);
        let (valid, revoked): (Vec<_>, Vec<_>) = doses.partition(|(_, valid)| *valid);
        assert_eq!((sum.given, sum.revoked), (valid.len() as u64, revoked.len() as u64));
        // Every dose is found by its batch, and its batch by the dose.
        let traced: Vec<_> = cell.ledger.doses_of(id, None, None).map(Result::unwrap).collect();
        let expected: BTreeSet<_> =
            plain.doses.iter().filter(|(_, (of, _))| *of == batch).map(|(who, (_, valid))| (*who, *valid)).collect();
        let found: BTreeSet<_> = traced.iter().map(|dose| (dose.party.0 as usize, dose.valid)).collect();
        assert_eq!((found, traced.len()), (expected.clone(), expected.len()), "{id}");
        for dose in &traced {
            assert_eq!(
                (dose.booking, &*dose.centre),
                (bookings[dose.party.0 as usize], CENTRES[dose.party.0 as usize % 2])
            );
            let of = cell.ledger.use_of(dose.booking).unwrap().unwrap();
            assert_eq!((of.batch.as_str(), of.valid), (*id, dose.valid));
        }
    }
    assert_eq!(lost, plain.lost);
    // Days have all that was counted, and the last of them what is there.
    for (at, centre) in CENTRES.iter().enumerate() {
        let days: Vec<_> = cell.ledger.days(centre, u16::MAX).map(Result::unwrap).collect();
        let mut sum = Day::default();
        days.iter().for_each(|(_, day)| sum.add(day));
        let here = plain.doses.iter().filter(|(who, _)| *who % 2 == at);
        let valid = here.clone().filter(|(_, (_, valid))| *valid).count() as u64;
        assert_eq!((sum.given, sum.revoked), (valid, here.count() as u64 - valid));
        let there: u64 = (0..3).map(|batch| plain.has(batch, at)).sum();
        let told = days.iter().rev().find_map(|(_, day)| day.on_hand()).unwrap_or(0);
        assert_eq!(told, there, "{centre}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    // rule: SUP-1
    // rule: SUP-2
    #[test]
    fn stock_doses_and_sums_are_what_a_plain_model_says_also_after_restarts(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let (mut cell, bookings) = Cell::seeded(dir.path(), "warn");
        for batch in &BATCHES[..2] {
            cell.batch(batch, date(2099, 1, 1), DOSES_MAX);
        }
        let mut plain = Plain::default();
        for op in &ops {
            run(&cell, &mut plain, &bookings, op);
            if matches!(op, Op::Restart) {
                agrees(&cell, &mut plain, &bookings);
                cell.close();
                cell = Cell::open(dir.path(), "warn");
                agrees(&cell, &mut plain, &bookings);
            }
        }
        agrees(&cell, &mut plain, &bookings);
        cell.close();
    }
}

// rule: SUP-1
#[test]
fn of_those_who_race_for_the_last_doses_as_many_get_one_as_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, bookings) = Cell::seeded(dir.path(), "refuse");
    cell.batch("A", date(2099, 1, 1), 30);
    for (at, doses) in [("c1", 14), ("c2", 9)] {
        cell.ledger.receive(("A", at), doses, "", cell.key(), cell.now()).unwrap();
    }
    let given = std::sync::atomic::AtomicU64::new(0);
    let gone = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..4usize {
            let (cell, bookings, given, gone) = (&cell, &bookings, &given, &gone);
            scope.spawn(move || {
                for booking in bookings.iter().skip(worker).step_by(4) {
                    match cell.give(*booking, "A", false) {
                        Ok(doubts) => {
                            assert_eq!(doubts, []);
                            given.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                        Err(doubt) => assert_eq!(doubt, Doubt::NoStock),
                    }
                    let wasted = cell.ledger.waste(("A", "c1"), 1, Waste::Other, cell.key(), cell.now());
                    gone.fetch_add(u64::from(wasted.is_ok()), std::sync::atomic::Ordering::Relaxed);
                    let (batch, from, to) = ("A".to_owned(), "c2".to_owned(), "c1".to_owned());
                    let sent = cell.ledger.send(Sending { batch, from, to, quantity: 1 }, cell.key(), cell.now());
                    if let Ok(done) = sent {
                        cell.ledger.arrive(done.seq, 1, cell.key(), cell.now()).unwrap();
                    }
                }
            });
        }
    });
    cell.settle();
    let (given, gone) = (given.into_inner(), gone.into_inner());
    let check = |cell: &Cell| {
        let mut sum = Lot::default();
        CENTRES.iter().for_each(|centre| sum.add(&cell.lot("A", centre)));
        assert_eq!((sum.given, sum.wasted_in_all(), sum.held.uncovered), (given, gone, 0));
        assert_eq!(sum.held.on_hand + given + gone, 23, "{sum:?}");
        for centre in CENTRES {
            assert_eq!(cell.lot("A", centre).held, cell.held("A", centre));
        }
    };
    check(&cell);
    cell.close();
    let cell = Cell::open(dir.path(), "refuse");
    check(&cell);
    cell.close();
}

// rule: SUP-3
#[test]
fn what_must_not_be_given_is_refused_and_what_was_given_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, bookings) = Cell::seeded(dir.path(), "refuse");
    cell.batch("old", date(2021, 1, 1), 100);
    cell.batch("back", date(2099, 1, 1), 100);
    let other = BatchSpec { product: cell.product().0 - 1, id: "other".to_owned(), ..spec(&cell) };
    cell.ledger.make_batch(other, cell.key(), cell.now()).unwrap();
    for batch in ["old", "back", "other"] {
        cell.ledger.receive((batch, "c1"), 10, "", cell.key(), cell.now()).unwrap();
    }
    cell.ledger.recall("back", "quality", cell.key(), cell.now()).unwrap();
    let refused = [("old", Doubt::Expired), ("back", Doubt::Recalled), ("other", Doubt::OtherProduct)];
    for (batch, doubt) in refused.into_iter().chain([("none", Doubt::Unknown), ("", Doubt::Unknown)]) {
        assert_eq!(cell.give(bookings[0], batch, false), Err(doubt), "{batch}");
    }
    // A centre that tells what it gave: it is in somebody's arm.
    for (who, (batch, doubt)) in [0, 2, 4].into_iter().zip(refused) {
        assert_eq!(cell.give(bookings[who], batch, true), Ok(vec![doubt]), "{batch}");
    }
    cell.settle();
    let traced: Vec<_> = cell.ledger.doses_of("back", None, None).map(Result::unwrap).collect();
    assert_eq!(traced.iter().map(|dose| dose.party).collect::<Vec<_>>(), [PartyId(2)]);
    // It goes nowhere, is wasted as recalled, and may be given once the recall is lifted.
    let sending = Sending { batch: "back".to_owned(), from: "c1".to_owned(), to: "c2".to_owned(), quantity: 1 };
    let sent = cell.ledger.send(sending, cell.key(), cell.now());
    assert_eq!(sent, Err(SupplyError::Recalled("back".to_owned())));
    cell.ledger.waste(("back", "c1"), 1, Waste::Recalled, cell.key(), cell.now()).unwrap();
    let again = cell.ledger.recall("back", "quality", cell.key(), cell.now());
    assert!(matches!(again, Err(SupplyError::RecallState(_))), "{again:?}");
    // A correction to it is taken: that is what was given. One to another product, or to a batch that nobody knows, is not.
    let party = PartyId(0);
    assert_eq!(cell.correct(party, bookings[0], "other"), Err(Doubt::OtherProduct));
    assert_eq!(cell.correct(party, bookings[0], "none"), Err(Doubt::Unknown));
    assert_eq!(cell.correct(party, bookings[0], "back"), Ok(()));
    cell.ledger.lift_recall("back", "tested", cell.key(), cell.now()).unwrap();
    assert_eq!(cell.give(bookings[6], "back", false), Ok(vec![]));
    cell.close();
}

fn spec(cell: &Cell) -> BatchSpec {
    BatchSpec {
        id: String::new(),
        product: cell.product().0,
        quantity: 100,
        expires: date(2099, 1, 1),
        manufacturer: String::new(),
        doses_per_vial: None,
    }
}
