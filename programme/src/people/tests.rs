//! People over a real engine, store and key table.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_engine::{
    CentreKey, Claim, Config, Dose, IdempotencyKey, Outcome, PoolId, ProductId, SlotFacts, SlotId, SlotSpec, Units,
};

use super::*;
use crate::doses::Doses;
use crate::programme::Programme;
use crate::rules::PROGRAMME;

const TIME: Duration = Duration::from_secs(30);
const TODAY: jiff::civil::Date = jiff::civil::date(2026, 11, 26);

struct World {
    engine: Arc<Engine>,
    store: Arc<Store>,
    people: Arc<People>,
    doses: Arc<Doses>,
    next: AtomicU64,
    checked: Checked,
}

fn rules() -> RecordRules {
    RecordRules { country_code: Some("91".to_owned()), sexes: Vec::new(), programme: None, document_needed: false }
}

fn open(dir: &Path, life: u64) -> World {
    let programme = Programme::from_toml(include_str!("../../../programmes/india-2021.toml")).unwrap();
    let (engine, _) = Engine::open(Config::new(dir.join("data")), Arc::new(programme), &mut |_| {}).unwrap();
    let engine = Arc::new(engine);
    let store = Arc::new(Store::open(&dir.join("store")).unwrap());
    let config = PeopleConfig { key_table: dir.join(KEY_TABLE), rules: rules(), members_max: 3, offer_ms: 86_400_000 };
    let master = Arc::new(MasterKey::new(&[9; 32]));
    let (people, projection) = People::open(&engine, &store, &master, config).unwrap();
    let (people, doses) = (Arc::new(people), Arc::new(Doses::open(Arc::clone(&engine), &store).unwrap()));
    doses.seal_with(Arc::<People>::clone(&people));
    store.follow(&engine, vec![projection, Arc::<Doses>::clone(&doses)], |told| panic!("{told:?}")).unwrap();
    store.wait(engine.durable(), TIME).unwrap();
    let checked = people.check().unwrap();
    World { engine, store, people, doses, next: AtomicU64::new(life * 1_000_000), checked }
}

impl World {
    fn intent(&self) -> Intent {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let step =
            |step: u128| Idempotency { key: IdempotencyKey(u128::from(number) << 8 | step), fingerprint: number };
        Intent { record: step(1), party: step(2), facts: step(3) }
    }

    /// As whoever is shown what was done.
    fn shown<T>(&self, done: Done<T>) -> T {
        self.engine.ticket(done.seq).wait().unwrap();
        self.store.wait(done.seq, TIME).unwrap();
        done.what
    }

    fn account(&self, last: u8) -> Account {
        let phone = self.people.rules().phone(&format!("98765432{last:02}")).unwrap();
        self.shown(self.people.open_account(&phone, self.engine.now()).unwrap())
    }

    fn register(&self, account: Option<Account>, document: Option<&str>) -> Result<PartyId, PeopleError> {
        let done = self.people.register(account, person("Asha Rao", document), &self.intent(), self.engine.now())?;
        Ok(self.shown(done))
    }

    fn rename(&self, party: PartyId, said: Said) -> Result<PartyId, PeopleError> {
        let change = |before: &Person| rules().changed(Some(before), said.clone(), TODAY).map_err(PeopleError::Faults);
        let done = self.people.correct(party, None, change, &self.intent(), self.engine.now())?;
        Ok(self.shown(done))
    }

    fn erase(&self, party: PartyId) -> Result<PartyId, PeopleError> {
        Ok(self.shown(self.people.erase(party, None, self.intent().record, self.engine.now())?))
    }

    fn merge(&self, stays: PartyId, goes: PartyId) -> Result<Merged, PeopleError> {
        Ok(self.shown(self.people.merge(stays, goes, &self.intent(), self.engine.now())?))
    }

    fn submit(&self, command: Command<'_>) -> Result<Outcome, Refusal> {
        let request = Request { command, idempotency: None };
        self.engine.submit(&request, self.engine.now()).unwrap().result
    }

    /// A slot of tomorrow, for any dose.
    fn slot(&self) -> SlotId {
        let starts_at = TimestampMs(self.engine.now().0 + 86_400_000);
        let facts =
            SlotFacts { programme: PROGRAMME, dose: Dose(0), product: ProductId(1), pool: PoolId(3), starts_at };
        let slots = [SlotSpec { centre: CentreKey(1), capacity: Units::new(9).unwrap(), facts }];
        match self.submit(Command::Publish { slots: &slots, note: b"" }).unwrap() {
            Outcome::Published { slots, .. } => slots[0],
            other => panic!("{other:?}"),
        }
    }

    fn book(&self, party: PartyId, slot: SlotId, dose: u8) -> Result<BookingNumber, Refusal> {
        let claims = [Claim { party, slot, dose: Dose(dose) }];
        match self.submit(Command::Book { claims: &claims })? {
            Outcome::Booked { claims } => Ok(claims[0].number),
            other => panic!("{other:?}"),
        }
    }

    fn close(self) {
        self.engine.close().unwrap();
        self.store.close();
    }
}

fn person(name: &str, document: Option<&str>) -> Person {
    let said = Said {
        name: Some(name.to_owned()),
        born: Some("1975-03-01".to_owned()),
        document: document.map(|number| ("passport".to_owned(), number.to_owned())),
        ..Said::default()
    };
    rules().person(said, TODAY).unwrap()
}

fn named(name: &str) -> Said {
    Said { name: Some(name.to_owned()), ..Said::default() }
}

mod calling;
mod keys;
mod merges;

#[test]
fn a_family_registers_and_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let account = world.account(1);
    assert_eq!(world.account(1), account, "a phone has one account");
    assert_ne!(world.account(2), account);
    let family: Vec<_> = ["A1", "A2", "A3"].map(|id| world.register(Some(account), Some(id)).unwrap()).into();
    assert_eq!(world.register(Some(account), Some("A4")), Err(PeopleError::Members(3)));
    assert_eq!(world.register(Some(Account([7; 16])), None), Err(PeopleError::NoAccount));
    world.close();
    let world = open(dir.path(), 1);
    assert_eq!(world.people.members(account).unwrap(), family);
    let view = world.people.view(family[0]).unwrap();
    assert_eq!((view.account, view.person.name.as_str()), (Some(account), "Asha Rao"));
    assert_eq!(view.account_phone.unwrap().as_str(), "+919876543201");
    assert_eq!(world.engine.party_bookings(family[0]).unwrap().facts.birth_year, 1975);
    let phone = rules().phone("9876543201").unwrap();
    assert_eq!(world.people.of_phone(&phone).unwrap(), family);
    assert_eq!(world.people.of_document(&Document::new("passport", "a2").unwrap()).unwrap(), Some(family[1]));
    assert_eq!(world.people.views_from(family[1]).count(), 2);
    world.close();
}

// rule: PPL-1
#[test]
fn of_many_who_register_one_document_at_once_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    for round in 0..20 {
        let document = format!("R{round}");
        let results: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4).map(|_| scope.spawn(|| world.register(None, Some(&document)))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let there: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok().copied()).collect();
        assert_eq!(there.len(), 1, "{results:?}");
        let refused = results.iter().filter(|result| **result == Err(PeopleError::Registered(there[0]))).count();
        assert_eq!(refused, 3, "{results:?}");
    }
    world.close();
}

// rule: PPL-1
#[test]
fn a_correction_takes_no_document_of_anothers_and_frees_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let (one, two) = (world.register(None, Some("D1")).unwrap(), world.register(None, Some("D2")).unwrap());
    let document =
        |number: &str| Said { document: Some(("passport".to_owned(), number.to_owned())), ..Said::default() };
    assert_eq!(world.rename(one, document("D2")), Err(PeopleError::Registered(two)));
    world.rename(one, document("D3")).unwrap();
    world.rename(two, document("D1")).unwrap();
    assert_eq!(world.register(None, Some("D3")), Err(PeopleError::Registered(one)));
    world.rename(one, Said { born: Some("1960".to_owned()), ..named("Asha Iyer") }).unwrap();
    let view = world.people.view(one).unwrap();
    assert_eq!((view.person.name.as_str(), view.person.document.unwrap().number.as_str()), ("Asha Iyer", "D3"));
    assert_eq!(world.engine.party_bookings(one).unwrap().facts.birth_year, 1960, "judged by the new year");
    assert_eq!(world.rename(PartyId(99), named("x")), Err(PeopleError::Unknown(PartyId(99))));
    world.close();
}

#[test]
fn a_repeat_does_nothing_more_and_tells_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let account = world.account(1);
    let intent = world.intent();
    let register = || world.people.register(Some(account), person("A", Some("X1")), &intent, world.engine.now());
    let first = register().unwrap();
    let again = register().unwrap();
    assert_eq!((again.what, again.replayed, first.replayed), (first.what, true, false));
    assert_eq!(world.people.members(account).unwrap().len(), 1);
    // The party was made, and then the server was killed: the repeat goes on with that party.
    let intent = world.intent();
    let facts = berth_engine::PartyFacts { birth_year: 1975, ..Default::default() };
    let command = Command::AddParties { count: 1, facts };
    let request = Request { command, idempotency: Some(intent.party) };
    let orphan = world.engine.submit(&request, world.engine.now()).unwrap().result.unwrap();
    let Outcome::PartiesAdded { first: orphan, .. } = orphan else { panic!("{orphan:?}") };
    let done = world.people.register(Some(account), person("B", None), &intent, world.engine.now()).unwrap();
    assert_eq!(world.shown(done), orphan);
    let offer = |intent: &Intent| world.people.offer(orphan, account, intent, world.engine.now()).unwrap();
    let intent = world.intent();
    let (code, _) = world.shown(offer(&intent));
    assert_eq!((offer(&intent).what.0, offer(&intent).replayed), (code, true));
    world.close();
}

// rule: PPL-3
#[test]
fn an_erased_person_can_be_read_nowhere_and_their_document_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let account = world.account(1);
    let (one, two) =
        (world.register(Some(account), Some("E1")).unwrap(), world.register(Some(account), Some("E2")).unwrap());
    let slot = world.slot();
    let booking = world.book(one, slot, 1).unwrap();
    assert_eq!(world.erase(one), Err(PeopleError::LiveClaims { party: one, bookings: vec![booking] }));
    world.submit(Command::Cancel { booking, by: berth_engine::By::Holder }).unwrap();
    let row = world.people.tables.person(one).unwrap().unwrap();
    let units = world.engine.unit_totals(TimestampMs(0));
    world.erase(one).unwrap();
    assert_eq!(world.engine.unit_totals(TimestampMs(0)), units, "what is counted stays");
    assert!(world.people.tables.keys.get(row.key).unwrap().is_none(), "the key is destroyed");
    assert!(world.people.tables.opened(&row).unwrap().is_none(), "a copy of the row opens nothing");
    assert!(world.people.view(one) == Err(PeopleError::Unknown(one)));
    assert_eq!(world.people.members(account).unwrap(), [two]);
    assert_eq!(world.erase(one), Err(PeopleError::Unknown(one)));
    assert_ne!(world.register(None, Some("E1")).unwrap(), one, "a new party");
    assert_eq!(
        world.people.close_account(account, world.intent().record, world.engine.now()),
        Err(PeopleError::NotEmpty(1))
    );
    world.erase(two).unwrap();
    world.shown(world.people.close_account(account, world.intent().record, world.engine.now()).unwrap());
    assert_eq!(world.people.account_phone(account), Ok(None));
    assert_ne!(world.account(1), account, "the phone opens another account");
    world.close();
    // The projection made anew from the log: what was erased does not come back.
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    let world = open(dir.path(), 1);
    assert!(world.people.view(one) == Err(PeopleError::Unknown(one)));
    assert_eq!(world.people.account_phone(account), Ok(None));
    assert!(world.people.stats().unreadable >= 2);
    world.close();
}

#[test]
fn a_person_goes_to_another_account_when_both_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let (from, to, third) = (world.account(1), world.account(2), world.account(3));
    let party = world.register(Some(from), Some("T1")).unwrap();
    let now = world.engine.now();
    let accept = |to, code: &str, now| world.people.accept(party, to, code, &world.intent(), now);
    assert_eq!(accept(to, "0000000000", now), Err(PeopleError::NoOffer));
    assert!(world.people.offer(party, to, &world.intent(), now) == Err(PeopleError::Unknown(party)), "not theirs");
    let (void, _) = world.shown(world.people.offer(party, from, &world.intent(), now).unwrap());
    let (code, until) = world.shown(world.people.offer(party, from, &world.intent(), now).unwrap());
    assert_eq!(accept(to, &void, now), Err(PeopleError::NoOffer), "a later offer voids it");
    assert_eq!(accept(to, &code, until), Err(PeopleError::NoOffer), "too late");
    assert_eq!(accept(from, &code, now), Err(PeopleError::SameAccount));
    let spelled = format!("{}-{}", code[..5].to_lowercase(), &code[5..]);
    world.shown(accept(to, &spelled, now).unwrap());
    assert_eq!(accept(third, &code, now), Err(PeopleError::NoOffer), "it opens once");
    assert_eq!((world.people.members(from).unwrap(), world.people.members(to).unwrap()), (vec![], vec![party]));
    world.rename(party, named("Asha Iyer")).unwrap();
    assert_eq!(world.people.view(party).unwrap().account, Some(to), "a correction leaves them there");
    world.close();
}

// rule: PPL-4
#[test]
fn a_merge_leaves_one_live_claim_for_a_dose_and_no_way_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let (stays, goes) = (world.register(None, Some("M1")).unwrap(), world.register(None, Some("M2")).unwrap());
    let slot = world.slot();
    let (one, two) = (world.book(stays, slot, 1).unwrap(), world.book(goes, slot, 1).unwrap());
    assert_eq!(world.merge(stays, goes), Err(PeopleError::BothClaimed { dose: 1, stays: one, goes: two }));
    world.submit(Command::Cancel { booking: one, by: berth_engine::By::Holder }).unwrap();
    assert_eq!(world.merge(stays, goes), Err(PeopleError::LiveClaims { party: goes, bookings: vec![two] }));
    assert_eq!(world.merge(goes, goes), Err(PeopleError::Itself));
    // The other way round: who has the claim stays.
    let merged = world.merge(goes, stays).unwrap();
    assert_eq!(merged, Merged { stays: goes, goes: stays, doses: 0 });
    assert!(matches!(world.book(stays, slot, 1), Err(Refusal::NotEligible { .. })), "nobody books for it any more");
    assert!(world.people.view(stays) == Err(PeopleError::Merged(stays, goes)));
    for document in ["M1", "M2"] {
        assert_eq!(world.register(None, Some(document)), Err(PeopleError::Registered(goes)), "both are theirs");
    }
    world.erase(goes).unwrap_err();
    world.submit(Command::Cancel { booking: two, by: berth_engine::By::Holder }).unwrap();
    world.erase(goes).unwrap();
    for document in ["M1", "M2"] {
        world.register(None, Some(document)).unwrap();
    }
    world.close();
}

// rule: PPL-4
#[test]
fn a_merge_adds_the_doses_once_also_when_it_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let (stays, goes) = (world.register(None, None).unwrap(), world.register(None, None).unwrap());
    let had = |party, doses, day| {
        let known = world.engine.party_bookings(party).unwrap().facts;
        let facts = berth_engine::PartyFacts { doses, product: ProductId(doses), last_dose_day: day, ..known };
        world.submit(Command::ChangeFacts { party, facts, expected: None, note: b"" }).unwrap();
    };
    had(stays, 1, 20_000);
    had(goes, 1, 20_100);
    let intent = world.intent();
    for repeat in [false, true] {
        let done = world.people.merge(stays, goes, &intent, world.engine.now()).unwrap();
        assert_eq!((done.what.doses, done.replayed), (2, repeat));
    }
    let facts = world.engine.party_bookings(stays).unwrap().facts;
    assert_eq!((facts.doses, facts.last_dose_day), (2, 20_100));
    world.close();
}

// rule: PPL-4 a dose that was had by the other number is not given once more on a booking from before
#[test]
fn who_has_booked_a_dose_that_the_other_record_has_had_gives_it_up_first() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let (stays, goes) = (world.register(None, None).unwrap(), world.register(None, None).unwrap());
    let slot = world.slot();
    let booking = world.book(stays, slot, 1).unwrap();
    let known = world.engine.party_bookings(goes).unwrap().facts;
    let facts = berth_engine::PartyFacts { doses: 1, product: ProductId(1), last_dose_day: 20_000, ..known };
    world.submit(Command::ChangeFacts { party: goes, facts, expected: None, note: b"" }).unwrap();
    let refused = Err(PeopleError::LiveClaims { party: stays, bookings: vec![booking] });
    assert_eq!(world.merge(stays, goes), refused);
    assert_eq!(world.engine.party_bookings(stays).unwrap().facts.doses, 0, "nothing was done");
    world.submit(Command::Cancel { booking, by: berth_engine::By::Holder }).unwrap();
    assert_eq!(world.merge(stays, goes).unwrap().doses, 1);
    world.close();
}

// rule: PPL-6
#[test]
fn names_and_numbers_stand_nowhere_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let account = world.account(42);
    let person = person("Quetzalcoatl Unmistakable", Some("ZQ77XW31"));
    let done = world.people.register(Some(account), person, &world.intent(), world.engine.now()).unwrap();
    world.shown(done);
    world.engine.snapshot().unwrap();
    world.close();
    let mut files = 0;
    let mut folders = vec![dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            for secret in ["Quetzalcoatl", "Unmistakable", "ZQ77XW31", "9876543242", "1975-03-01"] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} stands in {}", path.display());
            }
        }
    }
    assert!(files > 5, "{files}");
}

#[test]
fn racing_families_fill_an_account_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let account = world.account(1);
    let there: HashSet<PartyId> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..6).map(|_| scope.spawn(|| world.register(Some(account), None).ok())).collect();
        racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(there.len(), 3);
    assert_eq!(world.people.members(account).unwrap().len(), 3);
    world.close();
}
