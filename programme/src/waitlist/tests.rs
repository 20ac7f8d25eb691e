//! The waitlist over a real engine, catalogue and store, with the time of the tests' own; held against a plain reading of its journal.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use berth_engine::journal::entry::Event;
use berth_engine::{
    By, Claim, Config, Dose, LogPlace, LogTail, Outcome, PartyFacts, Policy as _, ProductId, State, Units,
};
use proptest::prelude::*;

use super::entry::offered_for;
use super::*;
use crate::calendar::Calendar;
use crate::programme::Programme;
use crate::publish::BulkKind;

const TIME: Duration = Duration::from_secs(60);
const MINUTE: u64 = 60_000;
const REGIONS: &str = "{\"id\":\"s\",\"kind\":\"state\",\"name\":\"S\"}\n{\"id\":\"d\",\"kind\":\"district\",\"name\":\"D\",\"parent\":\"s\"}";
const CENTRES: &str = "{\"id\":\"a\",\"name\":\"A\",\"district\":\"d\",\"pincode\":\"400001\"}\n{\"id\":\"b\",\"name\":\"B\",\"district\":\"d\",\"pincode\":\"400002\"}";
const PROGRAMME: &str = r#"
name = "Test"
time_zone = "Asia/Kolkata"
hold_seconds = 600
group_claims_max = 4
booking_horizon_days = 28
booking_cutoff_minutes = 600
cancel_cutoff_minutes = 0

[[products]]
id = "x"
name = "X"
doses = 2

[[pools]]
id = "open"
name = "Open"
walk_in = true

[[pools]]
id = "second"
name = "Second"
dose = 2
spills_to = "open"
spill_minutes_before = 120

[[age_bands]]
age_min = 18

[waitlist]
offer_minutes = 30
offer_minutes_on_the_day = 10
"#;

/// A cell with two centres, and a clock that the test sets.
struct World {
    campaign: Campaign,
    store: Option<Arc<Store>>,
    waitlist: Arc<Waitlist>,
    now: TimestampMs,
    slots: Vec<SlotId>,
}

fn session(id: &str, centre: &str, day: u16, pools: &str) -> String {
    let date = Calendar::date_of(day);
    format!(
        r#"{{"id":"{id}","centre":"{centre}","date":"{date}","product":"x","windows":[{{"start":"10:00","end":"14:00","pools":{pools}}}]}}"#
    )
}

impl World {
    /// Two slots of two units at centre a on two days, and one of one unit at centre b on the second; twelve adults.
    fn new(dir: &Path) -> World {
        let mut world = World::open(dir);
        let day = world.today() + 1;
        let publish = |kind, body: &str| world.campaign.publisher.publish(kind, body.as_bytes(), None, world.now);
        publish(BulkKind::Regions, REGIONS).unwrap();
        publish(BulkKind::Centres, CENTRES).unwrap();
        let two = r#"{"open":2}"#;
        let body = [
            session("a1", "a", day, two),
            session("a2", "a", day + 1, two),
            session("b2", "b", day + 1, r#"{"open":1}"#),
        ];
        publish(BulkKind::Sessions, &body.join("\n")).unwrap();
        let facts = PartyFacts { birth_year: 1980, ..PartyFacts::default() };
        world.ask(Command::AddParties { count: 12, facts }).unwrap();
        world.find_slots();
        world.settle();
        world
    }

    fn open(dir: &Path) -> World {
        let programme = Programme::from_toml(PROGRAMME).unwrap();
        let (campaign, _) = Campaign::open(Config::new(dir.join("data")), programme).unwrap();
        let store = Arc::new(Store::open(&dir.join("store")).unwrap());
        let waitlist = Waitlist::open(&campaign, &store).unwrap();
        let projection = Arc::<Waitlist>::clone(&waitlist) as Arc<dyn Projection>;
        store.follow(&campaign.engine, vec![projection], |_| {}).unwrap();
        store.wait(campaign.engine.durable(), TIME).unwrap();
        waitlist.begin(&store).unwrap();
        let now = campaign.engine.now();
        let mut world = World { campaign, store: Some(store), waitlist, now, slots: Vec::new() };
        world.find_slots();
        world
    }

    fn find_slots(&mut self) {
        let ids = ["a1", "a2", "b2"];
        let sessions = ids.iter().filter_map(|id| self.campaign.catalogue.session(id));
        self.slots =
            sessions.flat_map(|session| session.slots.iter().map(|slot| slot.slot).collect::<Vec<_>>()).collect();
    }

    /// As after a kill: nothing is told that it ends.
    fn close(mut self) {
        self.campaign.engine.close().unwrap();
        self.store.take().unwrap().close();
    }

    fn today(&self) -> u16 {
        self.campaign.programme.calendar().day(self.now)
    }

    fn ask(&self, command: Command<'_>) -> Result<Outcome, Refusal> {
        self.campaign.engine.submit(&Request { command, idempotency: None }, self.now).unwrap().result
    }

    /// Until the log holds nothing that was not seen, and nothing is left to do.
    fn settle(&self) {
        loop {
            let newest = Seq(self.campaign.engine.stats().appended);
            self.campaign.engine.ticket(newest).wait().unwrap();
            self.store.as_ref().unwrap().wait(newest, TIME).unwrap();
            while self.waitlist.turn(self.now) {}
            if Seq(self.campaign.engine.stats().appended) == newest {
                return;
            }
        }
    }

    fn wish(&self, party: u32, scope: Scope) -> Wish {
        let (first, last) = (self.today() + 1, self.today() + 2);
        Wish { party: PartyId(party), scope, first, last, dose: Dose(1), product: ProductId(0) }
    }

    fn join(&self, party: u32, scope: Scope) -> Seq {
        let joined = self.waitlist.join(self.wish(party, scope), None, self.now).unwrap();
        self.settle();
        joined
    }

    fn stand(&self, entry: Seq) -> Stand {
        self.waitlist.see(entry).unwrap().unwrap().stand
    }

    fn offered(&self, entry: Seq) -> BookingNumber {
        let Stand::Offered { booking } = self.stand(entry) else { panic!("{:?}", self.waitlist.see(entry)) };
        booking
    }

    fn why(&self, entry: Seq) -> Option<Why> {
        if let Stand::Ended { why, .. } = self.stand(entry) { Some(why) } else { None }
    }

    fn book(&self, party: u32, slot: usize) -> Result<BookingNumber, Refusal> {
        let claim = Claim { party: PartyId(party), slot: self.slots[slot], dose: Dose(1) };
        match self.ask(Command::Book { claims: &[claim] })? {
            Outcome::Booked { claims } => Ok(claims[0].number),
            other => panic!("{other:?}"),
        }
    }

    /// Time passes, and holds whose deadline has passed expire.
    fn pass(&mut self, ms: u64) {
        self.now = TimestampMs(self.now.0 + ms);
        let mut due = Vec::new();
        self.campaign.engine.for_each_booking(&mut |view| {
            if view.state == State::Held && view.expires_at <= self.now && view.number == view.hold {
                due.push(view.number);
            }
        });
        for hold in due {
            self.ask(Command::Expire { hold }).unwrap();
        }
        self.settle();
    }
}

fn centre_a() -> Scope {
    Scope::Centre(Arc::from("a"))
}

fn district() -> Scope {
    Scope::District(Arc::from("d"))
}

// rule: WTL-1
// rule: WTL-2
#[test]
fn a_freed_unit_goes_to_the_first_and_then_to_the_next_and_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path());
    let bookings: Vec<_> = (0..5).map(|n| world.book(n, n as usize / 2).unwrap()).collect();
    let (first, second) = (world.join(5, centre_a()), world.join(6, district()));
    assert_eq!(world.stand(first), Stand::Waiting { ahead: 0 });
    assert!(world.slots.iter().all(|slot| world.campaign.engine.counts(*slot).unwrap().is_reserved()));
    world.ask(Command::Cancel { booking: bookings[2], by: By::Holder }).unwrap();
    assert!(matches!(world.book(9, 1), Err(Refusal::Reserved { .. })), "before anybody looked at what became free");
    world.settle();
    let offer = world.offered(first);
    assert_eq!(world.stand(second), Stand::Waiting { ahead: 0 });
    let view = world.campaign.engine.booking(offer).unwrap();
    assert_eq!((view.claim.slot, view.expires_at.0 - world.now.0), (world.slots[1], 30 * MINUTE));

    // Let pass: the next has it, and the first is not asked again for this slot.
    world.pass(30 * MINUTE);
    assert_eq!(
        (world.stand(first), world.stand(second)),
        (Stand::Waiting { ahead: 0 }, Stand::Offered { booking: world.offered(second) })
    );
    let slot = world.slots[1];
    assert!(!world.campaign.engine.counts(slot).unwrap().is_reserved(), "nobody waits who would be offered it");
    world.ask(Command::Confirm { hold: world.offered(second) }).unwrap();
    world.settle();
    assert_eq!(world.why(second), Some(Why::Served));
    // Another slot is.
    world.ask(Command::Cancel { booking: bookings[0], by: By::Holder }).unwrap();
    world.settle();
    let again = world.offered(first);
    world.ask(Command::Release { hold: again }).unwrap();
    world.settle();
    assert_eq!(world.stand(first), Stand::Waiting { ahead: 0 });
    assert!(world.book(9, 0).is_ok(), "declined, and nobody waits for it: everybody's");
    world.ask(Command::Resize { slot: world.slots[0], capacity: Units::new(5).unwrap() }).unwrap();
    world.settle();
    assert_eq!(world.stand(first), Stand::Waiting { ahead: 0 }, "not the same slot again");
    let stats = world.waitlist.stats();
    assert_eq!((stats.offers, stats.taken, stats.missed, stats.declined), (3, 1, 1, 1));
    world.waitlist.leave(first, None, world.now).unwrap();
    assert_eq!(world.why(first), Some(Why::Left), "before the store has seen it");
    world.settle();
    assert_eq!(world.why(first), Some(Why::Left));
    assert!(world.slots.iter().all(|slot| !world.campaign.engine.counts(*slot).unwrap().is_reserved()));
    world.close();
}

// rule: WTL-1
#[test]
fn an_entry_ends_after_so_many_offers_or_days_and_with_any_booking() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path());
    // There are free units: whoever joins is offered one at once.
    let missed = world.join(0, district());
    for _ in 0..3 {
        let _ = world.offered(missed);
        world.pass(30 * MINUTE);
    }
    assert_eq!(world.why(missed), Some(Why::Missed));
    let again = world.join(0, district());
    assert!(matches!(world.stand(again), Stand::Offered { .. }), "anew, at the end of the queue");
    let twice = world.waitlist.join(world.wish(0, district()), None, world.now);
    assert_eq!(twice, Err(JoinError::Twice(again)));
    let elsewhere = world.join(0, centre_a());
    assert_eq!(world.stand(elsewhere), Stand::PassedOver, "one offer at a time");
    world.ask(Command::Confirm { hold: world.offered(again) }).unwrap();
    world.settle();
    assert_eq!((world.why(again), world.why(elsewhere)), (Some(Why::Served), Some(Why::Served)));
    assert_eq!(world.waitlist.join(world.wish(0, district()), None, world.now), Err(JoinError::Served(PartyId(0))));

    let child = PartyFacts { birth_year: 2020, ..PartyFacts::default() };
    world.ask(Command::ChangeFacts { party: PartyId(1), facts: child, expected: None, note: b"" }).unwrap();
    let waits = world.join(1, district());
    assert_eq!(world.stand(waits), Stand::Waiting { ahead: 0 });
    assert!(
        world.slots.iter().all(|slot| !world.campaign.engine.counts(*slot).unwrap().is_reserved()),
        "nothing is kept for who may not"
    );
    let adult = PartyFacts { birth_year: 1990, ..PartyFacts::default() };
    world.ask(Command::ChangeFacts { party: PartyId(1), facts: adult, expected: None, note: b"" }).unwrap();
    world.settle();
    assert!(matches!(world.stand(waits), Stand::Offered { .. }));
    // Erased: what people note of it in the open.
    let erased = world.join(3, Scope::Centre(Arc::from("b")));
    let head = [&[1, 3][..], &3u32.to_le_bytes(), &u32::MAX.to_le_bytes(), &0u64.to_le_bytes()].concat();
    world.ask(Command::Record { kind: crate::people::RECORDED_PEOPLE, bytes: &head, urgent: false }).unwrap();
    world.settle();
    assert_eq!(world.why(erased), Some(Why::Gone));
    let own = world.join(2, centre_a());
    world.ask(Command::Release { hold: world.offered(own) }).unwrap();
    world.settle();
    world.pass(3 * 24 * 60 * MINUTE);
    assert_eq!((world.why(own), world.why(waits)), (Some(Why::Past), Some(Why::Past)));
    world.close();
}

/// On the day the deadline is shorter; behind the cut-off the unit is everybody's, and the door's.
#[test]
fn late_units_go_to_those_who_wait_until_the_cut_off_and_then_to_the_door() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path());
    let slot = world.slots[0];
    let bookings = [world.book(0, 0).unwrap(), world.book(1, 0).unwrap()];
    let entry = world.join(2, centre_a());
    let (other, third) = (world.join(3, centre_a()), world.join(4, centre_a()));
    // The other slots have free units, which all three decline.
    for entry in [entry, other, third] {
        world.ask(Command::Release { hold: world.offered(entry) }).unwrap();
        world.settle();
    }
    let start = world.campaign.engine.slot_facts(slot).unwrap().starts_at;
    // 10:00 to 14:00, and the cut-off an hour before the end. Who has not come by half past ten is a no-show.
    world.now = TimestampMs(start.0 + 31 * MINUTE);
    world.settle();
    world.ask(Command::NoShow { booking: bookings[0] }).unwrap();
    world.settle();
    let view = world.campaign.engine.booking(world.offered(entry)).unwrap();
    assert_eq!((view.claim.slot, view.expires_at.0 - world.now.0), (slot, 10 * MINUTE));
    world.ask(Command::Confirm { hold: view.number }).unwrap();
    world.ask(Command::CheckIn { booking: view.number }).unwrap();
    world.settle();
    assert_eq!(world.why(entry), Some(Why::Served));
    // Somebody stands at the door while the second no-show is offered to who waits: the unit is gone.
    world.ask(Command::NoShow { booking: bookings[1] }).unwrap();
    world.settle();
    let held = world.offered(other);
    let walk_in = |party| Command::WalkIn { claim: Claim { party: PartyId(party), slot, dose: Dose(1) } };
    assert!(matches!(world.ask(walk_in(9)), Err(Refusal::Full { .. })), "it is set aside for ten minutes");
    world.pass(10 * MINUTE);
    let _ = (held, world.offered(third));
    world.now = TimestampMs(start.0 + 3 * 60 * MINUTE);
    world.pass(0);
    assert_eq!(world.stand(third), Stand::Waiting { ahead: 1 });
    let counts = world.campaign.engine.counts(slot).unwrap();
    assert_eq!((counts.free(), counts.is_reserved()), (Units::ONE, false));
    assert!(world.ask(walk_in(9)).is_ok());
    world.close();
}

/// What a pool has not used goes, from its spill on, to those who wait.
#[test]
fn a_pool_that_spills_is_offered_when_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path());
    let day = world.today() + 3;
    let line = session("late", "b", day, r#"{"second":1}"#);
    world.campaign.publisher.publish(BulkKind::Sessions, line.as_bytes(), None, world.now).unwrap();
    let wish = Wish { first: day, last: day, ..world.wish(0, Scope::Centre(Arc::from("b"))) };
    let entry = world.waitlist.join(wish, None, world.now).unwrap();
    world.settle();
    assert_eq!(world.stand(entry), Stand::Waiting { ahead: 0 });
    let slot = world.campaign.catalogue.session("late").unwrap().slots[0].slot;
    let facts = world.campaign.engine.slot_facts(slot).unwrap();
    assert!(!world.campaign.engine.counts(slot).unwrap().is_reserved(), "it is the others' until then");
    world.now = TimestampMs(facts.starts_at.0 - 120 * MINUTE);
    world.settle();
    assert_eq!(world.campaign.engine.booking(world.offered(entry)).unwrap().claim.slot, slot);
    world.close();
}

/// A process that ends between any two steps: the order is kept, and nobody is offered anything twice.
// rule: WTL-1
// rule: WTL-2
#[test]
fn a_restart_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path());
    let bookings: Vec<_> = (0..5).map(|n| world.book(n, n as usize / 2).unwrap()).collect();
    let entries: Vec<_> = (5..9).map(|party| world.join(party, centre_a())).collect();
    world.ask(Command::Cancel { booking: bookings[0], by: By::Holder }).unwrap();
    world.settle();
    let offer = world.offered(entries[0]);
    // Of this nobody saw anything yet.
    world.ask(Command::Cancel { booking: bookings[2], by: By::Holder }).unwrap();
    world.campaign.engine.ticket(Seq(world.campaign.engine.stats().appended)).wait().unwrap();
    world.close();

    let world = World::open(dir.path());
    assert_eq!(world.offered(entries[0]), offer, "the same offer");
    let reserved = |at: usize| world.campaign.engine.counts(world.slots[at]).unwrap().is_reserved();
    assert!(reserved(0) && reserved(1), "before anybody is served");
    assert!(matches!(world.book(9, 1), Err(Refusal::Full { .. })), "what became free is offered");
    let second = world.offered(entries[1]);
    world.settle();
    assert_eq!((world.offered(entries[1]), world.waitlist.stats().offered), (second, 2));
    assert_eq!(world.stand(entries[3]), Stand::Waiting { ahead: 1 });
    world.ask(Command::Release { hold: second }).unwrap();
    world.settle();
    world.close();

    let world = World::open(dir.path());
    let seen = world.waitlist.see(entries[1]).unwrap().unwrap();
    assert_eq!((seen.not_taken, seen.stand), (1, Stand::Waiting { ahead: 0 }));
    assert_eq!(world.campaign.engine.booking(world.offered(entries[2])).unwrap().claim.slot, world.slots[1]);
    let listed = world.waitlist.of_party(PartyId(6), 10).unwrap();
    assert_eq!(listed, [seen]);
    world.close();
}

/// What the journal says so far, kept as plainly as can be.
#[derive(Default)]
struct Plain {
    open: BTreeMap<Seq, (Wish, Vec<SlotId>)>,
    offers: HashMap<BookingNumber, Seq>,
    offered: HashMap<Seq, BookingNumber>,
    live: HashMap<BookingNumber, Claim>,
    facts: HashMap<PartyId, PartyFacts>,
}

impl Plain {
    /// Those who may be offered a unit of this slot, in order.
    fn able(&self, world: &World, slot: SlotId, now: TimestampMs) -> Option<Seq> {
        let facts = world.campaign.engine.slot_facts(slot).unwrap();
        let place = world.campaign.catalogue.slot(slot).unwrap();
        let day = Calendar::day_of(place.session.date).unwrap();
        let able = self.open.iter().find(|(entry, (wish, passed))| {
            let here = match &wish.scope {
                Scope::Centre(id) => *id == place.session.centre,
                Scope::District(_) => true,
            };
            let claims = self.live.values().any(|claim| claim.party == wish.party && claim.dose == wish.dose);
            let may = || world.campaign.programme.may_be_offered(&self.facts[&wish.party], &facts, wish.dose, now);
            let fits = here && (wish.first..=wish.last).contains(&day) && !passed.contains(&slot);
            fits && !claims && !self.offered.contains_key(entry) && may().is_ok()
        });
        able.map(|(entry, _)| *entry)
    }

    fn over(&mut self, hold: BookingNumber) {
        let claim = self.live.remove(&hold);
        if let Some(entry) = self.offers.remove(&hold) {
            self.offered.remove(&entry);
            if let (Some((_, passed)), Some(claim)) = (self.open.get_mut(&entry), claim) {
                passed.push(claim.slot);
            }
        }
    }

    /// Takes an entry into account; of an offer, whether it was the first's.
    fn read(&mut self, world: &World, seq: Seq, entry: &Entry) {
        match &entry.event {
            Event::Recorded { kind: RECORDED_WAITLIST, bytes } => match Said::read(bytes).unwrap() {
                Said::Joined(wish) => drop(self.open.insert(seq, (wish, Vec::new()))),
                Said::Ended { entry, .. } => drop(self.open.remove(&entry)),
            },
            Event::PartiesAdded { first, count, facts } => {
                self.facts.extend((first.0..first.0 + count).map(|party| (PartyId(party), *facts)));
            }
            Event::FactsChanged { party, facts, .. } => drop(self.facts.insert(*party, *facts)),
            Event::Offered { number, claim, note, .. } => {
                let of = offered_for(note).unwrap();
                assert_eq!(self.able(world, claim.slot, entry.at), Some(of), "entry {seq} offers out of turn");
                self.offers.insert(*number, of);
                self.offered.insert(of, *number);
                self.live.insert(*number, *claim);
            }
            Event::Held { first, claims, .. } | Event::Booked { first, claims } => {
                self.live.insert(*first, claims[0]);
            }
            Event::WalkedIn { claim } => drop(self.live.insert(claim.number, claim.claim)),
            Event::Confirmed { hold, .. } => {
                if let Some(entry) = self.offers.remove(hold) {
                    self.offered.remove(&entry);
                }
            }
            Event::Released { hold, .. } | Event::Expired { hold, .. } => self.over(*hold),
            Event::Cancelled { booking } | Event::NoShow { booking } => drop(self.live.remove(booking)),
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(u32, u8),
    Leave(usize),
    Book(u32, usize),
    Hold(u32, usize),
    Cancel(usize),
    Confirm(usize),
    Release(usize),
    Pass(u64),
    Resize(usize, u32),
    Age(u32, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u32..12, 0u8..4).prop_map(|(party, scope)| Step::Join(party, scope)),
        1 => (0usize..8).prop_map(Step::Leave),
        4 => (0u32..12, 0usize..3).prop_map(|(party, slot)| Step::Book(party, slot)),
        2 => (0u32..12, 0usize..3).prop_map(|(party, slot)| Step::Hold(party, slot)),
        5 => (0usize..8).prop_map(Step::Cancel),
        3 => (0usize..8).prop_map(Step::Confirm),
        3 => (0usize..8).prop_map(Step::Release),
        3 => prop_oneof![Just(5 * MINUTE), Just(31 * MINUTE)].prop_map(Step::Pass),
        1 => (0usize..3, 0u32..4).prop_map(|(slot, units)| Step::Resize(slot, units)),
        1 => (0u32..12, any::<bool>()).prop_map(|(party, adult)| Step::Age(party, adult)),
    ];
    prop::collection::vec(step, 10..60)
}

impl World {
    fn of_state(&self, state: State, at: usize) -> Option<BookingNumber> {
        let mut found = Vec::new();
        self.campaign.engine.for_each_booking(&mut |view| {
            if view.state == state {
                found.push(view.number);
            }
        });
        (!found.is_empty()).then(|| found[at % found.len()])
    }

    fn step(&mut self, step: &Step) {
        let refused = |result: Result<Outcome, Refusal>| drop(result);
        match *step {
            Step::Join(party, scope) => {
                let places = [centre_a(), Scope::Centre(Arc::from("b")), district(), district()];
                let mut wish = self.wish(party, places[usize::from(scope)].clone());
                if scope == 3 {
                    wish.first = wish.last;
                }
                let _ = self.waitlist.join(wish, None, self.now);
            }
            Step::Leave(at) => {
                let open: Vec<_> = self.waitlist.core.lock().queues.waiters().map(|(entry, _)| entry).collect();
                if !open.is_empty() {
                    self.waitlist.leave(open[at % open.len()], None, self.now).unwrap();
                }
            }
            Step::Book(party, slot) => drop(self.book(party, slot)),
            Step::Hold(party, slot) => {
                let claim = Claim { party: PartyId(party), slot: self.slots[slot], dose: Dose(1) };
                refused(self.ask(Command::Hold { claims: &[claim], ttl: Duration::from_secs(600) }));
            }
            Step::Cancel(at) => {
                let by = By::Holder;
                self.of_state(State::Booked, at)
                    .into_iter()
                    .for_each(|booking| refused(self.ask(Command::Cancel { booking, by })));
            }
            Step::Confirm(at) => {
                self.of_state(State::Held, at)
                    .into_iter()
                    .for_each(|hold| refused(self.ask(Command::Confirm { hold })));
            }
            Step::Release(at) => {
                self.of_state(State::Held, at)
                    .into_iter()
                    .for_each(|hold| refused(self.ask(Command::Release { hold })));
            }
            Step::Pass(ms) => self.pass(ms),
            Step::Resize(slot, units) => {
                refused(self.ask(Command::Resize { slot: self.slots[slot], capacity: Units::new(units).unwrap() }));
            }
            Step::Age(party, adult) => {
                let facts = PartyFacts { birth_year: if adult { 1980 } else { 2020 }, ..PartyFacts::default() };
                refused(self.ask(Command::ChangeFacts { party: PartyId(party), facts, expected: None, note: b"" }));
            }
        }
        self.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    /// Whatever happens, each offer is made to the first who may have it; when all is done nothing is free that somebody who waits may
    /// have, and a slot is reserved if and only if somebody waits who may.
    // rule: WTL-1
    // rule: WTL-2
    #[test]
    fn offers_are_made_in_order_and_nothing_is_kept_from_anybody_for_nobody(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path());
        let mut plain = Plain::default();
        let mut tail: LogTail = world.campaign.engine.tail(LogPlace::default()).unwrap();
        for step in &steps {
            world.step(step);
            while tail.next(&mut |seq, _, entry| plain.read(&world, seq, entry)).unwrap() {}
            for slot in &world.slots {
                let counts = world.campaign.engine.counts(*slot).unwrap();
                let able = plain.able(&world, *slot, world.now);
                prop_assert_eq!(counts.is_reserved(), able.is_some(), "slot {} after {:?}: {}", slot, step, counts);
                prop_assert!(able.is_none() || counts.free() == Units::ZERO, "slot {} after {:?}: {}", slot, step, counts);
            }
        }
        let memory: BTreeMap<Seq, usize> =
            world.waitlist.core.lock().queues.waiters().map(|(entry, waiter)| (entry, waiter.passed.len())).collect();
        let rows = world.waitlist.rows.still_open().unwrap();
        prop_assert_eq!(memory, rows.into_iter().map(|(entry, row)| (entry, row.passed.len())).collect());
        world.close();
    }
}
