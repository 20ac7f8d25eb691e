//! The register with its engine, journal, store and people: which certificate stands after what, and which is told as ended.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_engine::journal::entry::Entry;
use berth_engine::{
    BookingNumber, CellId, Claim, Command, Config, Dose, Idempotency, IdempotencyKey, Outcome, PartyFacts, PartyId,
    ProductId, Request, Seq, Submitted, TimestampMs,
};
use jiff::civil::date;
use parking_lot::Mutex;

use super::record::{NoClaims, Record};
use super::register::Standing::{NoDose, Valid, Withheld};
use super::register::*;
use super::*;
use crate::campaign::Campaign;
use crate::doses::{Correction, Details, DoseNote, Doses};
use crate::people::{Intent, KEY_TABLE, MasterKey, People, PeopleConfig, RecordRules, Said};
use crate::programme::Programme;
use crate::publish::BulkKind;
use crate::store::{Change, Projection, Store, StoreError};

/// How many days ago there were sessions.
const DAYS: [u64; 6] = [0, 1, 3, 9, 30, 40];
const WAIT: Duration = Duration::from_secs(30);
const DAY_MS: u64 = 86_400_000;
const COVISHIELD: ProductId = ProductId(1);

/// Who holds it keeps the store where it is.
struct Gate(Arc<Mutex<()>>);

impl Projection for Gate {
    fn apply(&self, _: &mut Change, _: Seq, _: &Entry) -> Result<(), StoreError> {
        drop(self.0.lock());
        Ok(())
    }
}

struct World {
    campaign: Campaign,
    store: Arc<Store>,
    people: Arc<People>,
    doses: Arc<Doses>,
    register: Arc<Register>,
    gate: Arc<Mutex<()>>,
    keys: AtomicU64,
}

fn rules() -> RecordRules {
    RecordRules { country_code: None, sexes: Vec::new(), programme: None, document_needed: false }
}

fn programme() -> Programme {
    let text = include_str!("../../../programmes/india-2021.toml");
    let days = ["21", "28", "42", "84"].map(|days| format!("gap_days_min = {days}"));
    Programme::from_toml(&days.iter().fold(text.to_owned(), |text, gap| text.replace(gap, "gap_days_min = 0"))).unwrap()
}

impl World {
    fn open(dir: &Path) -> World {
        let campaign = Campaign::open(Config::new(dir.join("data")), programme()).unwrap().0;
        let engine = &campaign.engine;
        let store = Arc::new(Store::open(&dir.join("store")).unwrap());
        let config = PeopleConfig { key_table: dir.join(KEY_TABLE), rules: rules(), members_max: 3, offer_ms: DAY_MS };
        let (people, kept) = People::open(engine, &store, &Arc::new(MasterKey::new(&[9; 32])), config).unwrap();
        let people = Arc::new(people);
        let doses = Arc::new(Doses::open(Arc::clone(engine), &store).unwrap());
        doses.seal_with(Arc::<People>::clone(&people));
        let register = Arc::new(Register::open(&campaign, Arc::clone(&doses), &store).unwrap());
        let gate = Arc::new(Mutex::new(()));
        let projections: Vec<Arc<dyn Projection>> = vec![
            Arc::new(Gate(Arc::clone(&gate))),
            Arc::<Doses>::clone(&doses),
            Arc::<Register>::clone(&register),
            kept,
        ];
        store.follow(engine, projections, |told| panic!("{told:?}")).unwrap();
        store.wait(engine.durable(), WAIT).unwrap();
        let _checked = people.check().unwrap();
        let keys = AtomicU64::new((engine.appended().0 + 1) * 1000);
        World { campaign, store, people, doses, register, gate, keys }
    }

    /// With a place where people come, today and before.
    fn begin(dir: &Path) -> World {
        let world = World::open(dir);
        let regions = r#"{"id":"27","kind":"state","name":"Maharashtra"}
{"id":"395","kind":"district","name":"Mumbai","parent":"27"}"#;
        let centre = r#"{"id":"c1","name":"PHC One","district":"395","pincode":"400001"}"#;
        let session = |ago: u64| {
            let day = world.campaign.programme.calendar().date(world.ago(ago));
            format!(
                r#"{{"id":"s{ago}","centre":"c1","date":"{day}","product":"covishield","windows":[{{"start":"00:00","end":"23:59","pools":{{"open":99}}}}]}}"#
            )
        };
        let sessions = DAYS.map(session).join("\n");
        for (kind, body) in
            [(BulkKind::Regions, regions), (BulkKind::Centres, centre), (BulkKind::Sessions, sessions.as_str())]
        {
            world.campaign.publisher.publish(kind, body.as_bytes(), None, world.ago(100)).unwrap();
        }
        world
    }

    fn now(&self) -> TimestampMs {
        self.campaign.engine.now()
    }

    fn key(&self) -> Idempotency {
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        Idempotency { key: IdempotencyKey(u128::from(key)), fingerprint: key }
    }

    fn intent(&self) -> Intent {
        Intent { record: self.key(), party: self.key(), facts: self.key() }
    }

    fn submit(&self, command: Command<'_>) -> Submitted {
        self.campaign.engine.submit(&Request { command, idempotency: None }, self.now()).unwrap()
    }

    /// The store has seen all that was appended.
    fn settle(&self) {
        let seq = self.campaign.engine.appended();
        self.campaign.engine.ticket(seq).wait().unwrap();
        self.store.wait(seq, WAIT).unwrap();
    }

    fn person(&self) -> PartyId {
        let (name, born) = (Some("Asha Rao".to_owned()), Some("1975-03-01".to_owned()));
        let person = rules().person(Said { name, born, ..Said::default() }, date(2026, 11, 27)).unwrap();
        let party = self.people.register(None, person, &self.intent(), self.now()).unwrap().what;
        self.settle();
        party
    }

    fn rename(&self, party: PartyId, name: &str) {
        let said = Said { name: Some(name.to_owned()), ..Said::default() };
        let change = |before: &crate::people::Person| {
            rules().changed(Some(before), said.clone(), date(2026, 11, 27)).map_err(crate::people::PeopleError::Faults)
        };
        let _done = self.people.correct(party, None, change, &self.intent(), self.now()).unwrap();
        self.settle();
    }

    fn merge(&self, stays: PartyId, goes: PartyId) {
        let _done = self.people.merge(stays, goes, &self.intent(), self.now()).unwrap();
        self.settle();
    }

    fn facts(&self, party: PartyId) -> PartyFacts {
        self.campaign.engine.party_bookings(party).unwrap().facts
    }

    fn ago(&self, days: u64) -> TimestampMs {
        TimestampMs(self.now().0 - days * DAY_MS)
    }

    /// The next dose of somebody, as it was given so many days ago.
    fn give(&self, party: PartyId, days_ago: u64) -> BookingNumber {
        let slot = self.campaign.catalogue.session(&format!("s{days_ago}")).unwrap().slots[0].slot;
        let claim = Claim { party, slot, dose: Dose(self.facts(party).doses + 1) };
        let given_at = self.ago(days_ago);
        let walked = self.submit(Command::WalkInLate { claim, came_at: given_at }).result.unwrap();
        let Outcome::WalkedIn { claim } = walked else { panic!("{walked:?}") };
        let booking = claim.number;
        let details = Details { given_at, product: COVISHIELD, batch: "B1".to_owned(), ..Details::default() };
        let note = self.doses.bytes(party, &DoseNote::Given { details, author: String::new() }).unwrap();
        let command = Command::CompleteNoted { booking, given_at, product: Some(COVISHIELD), note: &note };
        self.submit(command).result.unwrap();
        booking
    }

    fn note(&self, party: PartyId, note: &DoseNote) {
        let note = self.doses.bytes(party, note).unwrap();
        let facts = self.facts(party);
        self.submit(Command::ChangeFacts { party, facts, expected: None, note: &note }).result.unwrap();
    }

    fn correct(&self, party: PartyId, booking: BookingNumber, correction: Correction) {
        let (reason, author) = ("typo".to_owned(), String::new());
        self.note(party, &DoseNote::Corrected { booking, correction, reason, author });
    }

    fn other_batch(&self, party: PartyId, booking: BookingNumber) {
        self.correct(party, booking, Correction { batch: Some("B2".to_owned()), ..Correction::default() });
    }

    fn revoke(&self, party: PartyId, booking: BookingNumber) {
        let (reason, author) = ("not_given".to_owned(), String::new());
        self.note(party, &DoseNote::Revoked { booking, reason, author });
    }

    fn judge(&self, booking: BookingNumber, version: u16, verdict: Verdict) -> Result<Judged, NotDone> {
        let id = self.register.id(booking, version);
        self.register.judge(&id, verdict, Reason::Fraud, self.key(), self.now())
    }

    /// Version and standing of the certificate of each dose.
    fn stand(&self, bookings: &[BookingNumber]) -> Vec<(u16, Standing)> {
        let one = |booking: &BookingNumber| self.register.of_dose(*booking).unwrap().unwrap();
        bookings.iter().map(one).map(|one| (one.version, one.standing)).collect()
    }

    /// What is on the list of those that ended, by dose; it is as long as it says.
    fn list(&self) -> Vec<(BookingNumber, u16, Reason)> {
        let rows: Vec<Revoked> = self.register.ended_after(Seq(0)).map(Result::unwrap).collect();
        assert_eq!(self.register.ended_count().unwrap(), rows.len() as u64);
        let named = |row: &Revoked| {
            let (booking, version) = self.register.dose(&row.id).unwrap();
            assert_eq!(self.register.has_ended(&row.id), Ok(Some(true)), "what is on the list has ended");
            (booking, version, row.reason)
        };
        let mut named: Vec<_> = rows.iter().map(named).collect();
        named.sort_by_key(|row| (row.1, row.0));
        named
    }

    fn claims(&self, booking: BookingNumber) -> Result<Claims, NoClaims> {
        let (campaign, doses, register) = (&self.campaign, &*self.doses, &*self.register);
        let one = self.register.of_dose(booking).unwrap().unwrap();
        Record { campaign, doses, register, cell: CellId(1) }.claims(&one, &self.people, self.now())
    }

    /// Which dose of how many each of those is that it says were given.
    fn numbers(&self, booking: BookingNumber) -> Vec<(u8, u8)> {
        self.claims(booking).unwrap().doses.iter().map(|dose| (dose.number, dose.of)).collect()
    }

    fn close(self) {
        self.campaign.engine.close().unwrap();
        self.store.close();
    }
}

// rule: CRT-6
#[test]
fn a_dose_that_is_revoked_while_its_certificate_is_withheld_ends_those_that_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::begin(dir.path());
    let party = world.person();
    let (first, second) = (world.give(party, 0), world.give(party, 0));
    world.settle();
    world.judge(first, 1, Verdict::Withheld).unwrap();
    world.settle();
    assert_eq!(world.stand(&[first, second]), [(2, Withheld), (1, Valid)]);
    assert!(world.register.is_revoked(&world.register.id(first, 2)), "the next has not begun");
    world.revoke(party, first);
    world.settle();
    assert_eq!(world.stand(&[first, second]), [(2, NoDose), (2, Valid)]);
    assert_eq!(world.list(), [(first, 1, Reason::Fraud), (second, 1, Reason::DoseRevoked)]);
    // What was withheld does not begin again without its dose.
    let released = world.judge(first, 1, Verdict::Released);
    assert!(matches!(released, Err(NotDone::Ended(_))), "{released:?}");
    assert_eq!(world.claims(first).err(), Some(NoClaims::Ended));
    world.close();
}

// rule: CRT-6
#[test]
fn doses_that_are_written_down_in_another_order_end_each_others_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::begin(dir.path());
    let party = world.person();
    let late = world.give(party, 1);
    world.settle();
    assert_eq!(world.numbers(late), [(1, 2)]);
    // Written down behind it, and given before it: what the one before says is not so any more.
    let early = world.give(party, 40);
    world.settle();
    assert_eq!(world.stand(&[late, early]), [(2, Valid), (1, Valid)]);
    assert_eq!((world.numbers(late), world.numbers(early)), (vec![(1, 2), (2, 2)], vec![(1, 2)]));
    // Whichever is corrected, both say another thing.
    world.other_batch(party, early);
    world.settle();
    assert_eq!(world.stand(&[late, early]), [(3, Valid), (2, Valid)]);
    world.correct(party, late, Correction { given_at: Some(world.ago(50)), ..Correction::default() });
    world.settle();
    assert_eq!(world.stand(&[late, early]), [(4, Valid), (3, Valid)]);
    assert_eq!(world.numbers(early), [(1, 2), (2, 2)], "now it is the later one");
    world.revoke(party, late);
    world.settle();
    assert_eq!(world.stand(&[late, early]), [(5, NoDose), (4, Valid)]);
    assert_eq!(world.claims(early).unwrap().doses.len(), 1);
    // One of today, written down today, comes before none.
    let (other, third) = (world.person(), world.person());
    let first = world.give(other, 0);
    let second = world.give(other, 0);
    let stranger = world.give(third, 3);
    world.settle();
    assert_eq!(world.stand(&[first, second, stranger, early]), [(1, Valid), (1, Valid), (1, Valid), (4, Valid)]);
    // Nor does one that is given anew behind one that was revoked.
    world.revoke(other, second);
    let facts = PartyFacts { doses: 1, ..world.facts(other) };
    world.submit(Command::ChangeFacts { party: other, facts, expected: None, note: b"" }).result.unwrap();
    world.settle();
    assert_eq!(world.stand(&[first, second]), [(2, Valid), (2, NoDose)]);
    let anew = world.give(other, 0);
    world.settle();
    assert_eq!(world.stand(&[first, second, anew]), [(2, Valid), (2, NoDose), (1, Valid)]);
    // Unless it was booked as no later a dose than one that is there.
    let facts = PartyFacts { doses: 0, ..world.facts(third) };
    world.submit(Command::ChangeFacts { party: third, facts, expected: None, note: b"" }).result.unwrap();
    let again = world.give(third, 0);
    world.settle();
    assert_eq!(world.stand(&[stranger, again]), [(2, Valid), (1, Valid)]);
    assert_eq!((world.numbers(stranger), world.numbers(again)), (vec![(1, 2)], vec![(1, 2), (2, 2)]));
    world.close();
}

// rule: CRT-6
#[test]
fn a_merge_ends_what_both_records_said_and_numbers_are_those_of_the_days() {
    for reversed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let world = World::begin(dir.path());
        let (one, other, stranger) = (world.person(), world.person(), world.person());
        let (late, early) = (world.give(one, 0), world.give(other, 30));
        let apart = world.give(stranger, 0);
        world.settle();
        assert_eq!((world.numbers(late), world.numbers(early)), (vec![(1, 2)], vec![(1, 2)]));
        let (stays, goes) = if reversed { (other, one) } else { (one, other) };
        world.merge(stays, goes);
        assert_eq!(world.stand(&[late, early, apart]), [(2, Valid), (2, Valid), (1, Valid)]);
        assert_eq!(
            world.list(),
            [(late, 1, Reason::RecordsMerged), (early, 1, Reason::RecordsMerged)],
            "reversed: {reversed}"
        );
        assert_eq!((world.numbers(late), world.numbers(early)), (vec![(1, 2), (2, 2)], vec![(1, 2)]));
        // From then on what is said of the one is said of both, wherever the dose was written down.
        world.rename(stays, "Asha Iyer");
        assert_eq!(world.stand(&[late, early, apart]), [(3, Valid), (3, Valid), (1, Valid)]);
        world.other_batch(stays, if reversed { late } else { early });
        world.settle();
        assert_eq!(world.stand(&[late, early, apart]), [(4, Valid), (4, Valid), (1, Valid)]);
        assert_eq!(world.claims(early).unwrap().holder.name, "Asha Iyer");
        world.close();
    }
}

// rule: CRT-6
#[test]
fn no_number_is_of_what_the_store_has_not_or_of_a_merge_that_is_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::begin(dir.path());
    let (one, other, third) = (world.person(), world.person(), world.person());
    let (late, early) = (world.give(one, 0), world.give(other, 30));
    world.give(third, 0);
    world.settle();
    world.merge(one, other);
    assert_eq!(world.numbers(late), [(1, 2), (2, 2)]);
    // The doses of another come over, and the merge comes no further: nobody's paper says three of three.
    let facts = PartyFacts { doses: 3, ..world.facts(one) };
    let [a, b, c, d] = third.0.to_le_bytes();
    let taken = [6, a, b, c, d, 1];
    world.submit(Command::ChangeFacts { party: one, facts, expected: None, note: &taken }).result.unwrap();
    world.settle();
    assert_eq!((world.numbers(late), world.numbers(early)), (vec![(1, 2), (2, 2)], vec![(1, 2)]));
    assert_eq!(world.stand(&[late, early]), [(2, Valid), (2, Valid)]);
    // A dose of another record is revoked, and the store has not seen it: what is signed meanwhile is of before, all of it.
    let held = world.gate.lock();
    world.revoke(one, early);
    let facts = PartyFacts { doses: 1, ..world.facts(one) };
    world.submit(Command::ChangeFacts { party: one, facts, expected: None, note: b"" }).result.unwrap();
    assert_eq!(world.numbers(late), [(1, 2), (2, 2)]);
    let before = world.register.id(late, 2);
    assert_eq!(world.claims(late).unwrap().id, before);
    drop(held);
    world.settle();
    assert_eq!(world.register.has_ended(&before), Ok(Some(true)));
    assert_eq!(world.numbers(late), [(1, 2)]);
    world.close();
}

// rule: CRT-6
#[test]
fn what_a_store_does_not_know_of_our_own_is_never_taken_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::begin(dir.path());
    let party = world.person();
    let dose = world.give(party, 0);
    world.settle();
    let id = world.register.id(dose, 1);
    assert_eq!((world.register.has_ended(&id), world.register.is_revoked(&id)), (Ok(Some(false)), false));
    // Of a version that never was, as where a store from before was put back.
    assert!(world.register.is_revoked(&world.register.id(dose, 2)));
    // Of a dose that was never recorded here, and of a store that was made anew and knows of none.
    assert!(world.register.is_revoked(&world.register.id(BookingNumber(dose.0 + 1), 1)));
    let empty = Store::open(&dir.path().join("anew")).unwrap();
    let doses = Arc::new(Doses::open(Arc::clone(&world.campaign.engine), &empty).unwrap());
    let anew = Register::open(&world.campaign, doses, &empty).unwrap();
    assert_eq!((anew.has_ended(&id), anew.is_revoked(&id)), (Ok(Some(true)), true));
    // Another's is not ours to judge.
    let foreign: CertificateId = "TESTCERTIFICATE00001".parse().unwrap();
    assert_eq!((anew.has_ended(&foreign), anew.is_revoked(&foreign)), (Ok(None), false));
    let last = id.as_str().as_bytes()[21];
    let guessed = format!("{}{}", &id.as_str()[..21], if last == b'0' { '1' } else { '0' });
    assert_eq!(world.register.dose(&guessed.parse().unwrap()), None, "a digest that is not ours");
    empty.close();
    world.close();
}

// rule: CRT-6
#[test]
fn a_word_of_the_administration_that_came_behind_a_correction_is_told_as_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::begin(dir.path());
    let party = world.person();
    let dose = world.give(party, 0);
    world.settle();
    let held = world.gate.lock();
    world.other_batch(party, dose);
    let (fraud, again) =
        (world.judge(dose, 1, Verdict::Withheld).unwrap(), world.judge(dose, 1, Verdict::Replaced).unwrap());
    drop(held);
    world.settle();
    assert_eq!(world.stand(&[dose]), [(2, Valid)], "the next of it stands");
    assert_eq!((world.register.did(&fraud), world.register.did(&again)), (Ok(false), Ok(false)));
    assert_eq!(world.list(), [(dose, 1, Reason::DoseCorrected)]);
    // Of two that come at once the first did it.
    let held = world.gate.lock();
    let (first, second) =
        (world.judge(dose, 2, Verdict::Withheld).unwrap(), world.judge(dose, 2, Verdict::Replaced).unwrap());
    drop(held);
    world.settle();
    assert_eq!((world.register.did(&first), world.register.did(&second)), (Ok(true), Ok(false)));
    assert_eq!(world.stand(&[dose]), [(3, Withheld)]);
    // What is withheld begins again, unless its dose is gone by then.
    let held = world.gate.lock();
    world.revoke(party, dose);
    let released = world.judge(dose, 2, Verdict::Released).unwrap();
    drop(held);
    world.settle();
    assert_eq!(world.register.did(&released), Ok(false));
    assert_eq!(world.stand(&[dose]), [(3, NoDose)]);
    world.close();
}

// rule: CRT-6
#[test]
fn the_last_that_a_dose_can_have_is_ended_with_none_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::begin(dir.path());
    let party = world.person();
    let dose = world.give(party, 0);
    for _ in 1..1023 {
        world.other_batch(party, dose);
    }
    world.settle();
    assert_eq!(world.stand(&[dose]), [(1023, Standing::Valid)]);
    assert!(matches!(world.judge(dose, 1023, Verdict::Replaced), Err(NotDone::TooMany(_))));
    let ended = world.judge(dose, 1023, Verdict::Withheld).unwrap();
    world.settle();
    assert!(world.register.did(&ended).unwrap());
    assert_ne!(world.stand(&[dose])[0].1, Standing::Valid);
    assert_eq!(world.list().len(), 1023);
    world.close();
}

#[test]
fn a_store_that_is_made_anew_from_the_whole_log_has_the_same_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::begin(dir.path());
    let (one, other) = (world.person(), world.person());
    let doses = [world.give(one, 1), world.give(one, 9), world.give(other, 30)];
    world.settle();
    world.judge(doses[0], 2, Verdict::Withheld).unwrap();
    world.settle();
    world.judge(doses[0], 2, Verdict::Released).unwrap();
    world.rename(other, "Asha Iyer");
    world.merge(one, other);
    world.revoke(one, doses[2]);
    world.settle();
    let told = |world: &World| (world.stand(&doses), world.list());
    let before = told(&world);
    assert_eq!(before.0, [(5, Valid), (3, Valid), (4, NoDose)]);
    world.close();
    let world = World::open(dir.path());
    assert_eq!(told(&world), before, "opened again");
    world.close();
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    let world = World::open(dir.path());
    assert_eq!(told(&world), before, "made anew");
    assert_eq!(world.numbers(doses[0]), [(1, 2), (2, 2)]);
    world.close();
}
