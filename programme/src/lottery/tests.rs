//! A lottery with its engine, journal and store; broken off where it hurts, and opened again.

use std::collections::HashSet;
use std::path::Path;

use berth_engine::{Claim, Config, PartyFacts};
use jiff::ToSpan as _;

use super::draw::{commitment, in_order_of_parties, order};
use super::drawing::offer_key;
use super::result::verify;
use super::*;
use crate::programme::Programme;
use crate::publish::BulkKind;
use crate::waitlist::{Scope, Waitlist, Wish};

const REGIONS: &str = r#"{"id":"27","kind":"state","name":"Maharashtra"}
{"id":"395","kind":"district","name":"Mumbai","parent":"27"}"#;
const CENTRES: &str = r#"{"id":"c1","name":"One","district":"395","pincode":"400001"}"#;
const HOUR: Duration = Duration::from_secs(3600);

struct Cell {
    campaign: Campaign,
    store: Arc<Store>,
    lotteries: Lotteries,
    waitlist: Arc<Waitlist>,
}

impl Cell {
    fn open(dir: &Path) -> Cell {
        let text = include_str!("../../../programmes/india-2021.toml");
        let text = if text.contains("[waitlist]") {
            text.to_owned()
        } else {
            format!("{text}\n[waitlist]\noffer_minutes = 30\n")
        };
        let programme = Programme::from_toml(&text).unwrap();
        let campaign = Campaign::open(Config::new(dir), programme).unwrap().0;
        let store = Arc::new(Store::open(&dir.join("store")).unwrap());
        let (lotteries, projection) = Lotteries::open(&campaign, &store, CellId(1)).unwrap();
        let waitlist = Waitlist::open(&campaign, &store).unwrap();
        let projections = vec![projection, Arc::<Waitlist>::clone(&waitlist) as Arc<dyn Projection>];
        store.follow(&campaign.engine, projections, |_| {}).unwrap();
        store.wait(campaign.engine.durable(), STORE_WAIT).unwrap();
        lotteries.reserve_all().unwrap();
        Cell { campaign, store, lotteries, waitlist }
    }

    fn close(self) {
        self.waitlist.close();
        self.store.close();
        self.campaign.engine.close().unwrap();
    }

    fn now(&self) -> TimestampMs {
        self.campaign.engine.now()
    }

    fn submit(&self, command: Command<'_>) -> Result<berth_engine::Outcome, Refusal> {
        let request = Request { command, idempotency: None };
        self.campaign.engine.submit(&request, self.now()).unwrap().result
    }

    /// Two sessions of one window and three units each, and eight parties.
    fn seeded(dir: &Path) -> Cell {
        let cell = Cell::open(dir);
        let day = cell.campaign.programme.calendar().date(cell.now()).saturating_add(2.days());
        let session = |id: &str| {
            format!(
                r#"{{"id":"{id}","centre":"c1","date":"{day}","product":"covaxin","windows":[{{"start":"09:00","end":"11:00","pools":{{"dose1":3}}}}]}}"#
            )
        };
        let sessions = [session("a"), session("b")].join("\n");
        for (kind, body) in
            [(BulkKind::Regions, REGIONS), (BulkKind::Centres, CENTRES), (BulkKind::Sessions, &sessions)]
        {
            cell.campaign.publisher.publish(kind, body.as_bytes(), None, cell.now()).unwrap();
        }
        let facts = PartyFacts { birth_year: 1980, ..PartyFacts::default() };
        cell.submit(Command::AddParties { count: 8, facts }).unwrap();
        cell
    }

    fn slots(&self) -> Vec<SlotId> {
        let catalogue = &self.campaign.catalogue;
        ["a", "b"].iter().flat_map(|id| catalogue.session(id).unwrap().slots.to_vec()).map(|slot| slot.slot).collect()
    }

    fn make(&self, begins: TimestampMs) -> Result<Done, LotteryError> {
        let making = Making {
            id: "l".to_owned(),
            name: "L".to_owned(),
            dose: 1,
            slots: self.slots(),
            opens_at: begins,
            closes_at: begins.plus(HOUR),
            draws_at: begins.plus(HOUR),
            offers_until: begins.plus(HOUR).plus(HOUR),
        };
        self.lotteries.make(making, key(1), begins)
    }

    fn register(&self, party: u32, at: TimestampMs) -> Result<Done, LotteryError> {
        let wishes = ["session:a", "session:b"].map(|wish| wish.parse().unwrap()).to_vec();
        let done = self.lotteries.register("l", PartyId(party), wishes, key(100 + u128::from(party)), at);
        done.inspect(|done| self.lotteries.wait(done.seq).unwrap())
    }

    fn file(&self) -> String {
        let lines = self.lotteries.result("l").unwrap();
        lines.map(|line| serde_json::to_string(&line.unwrap()).unwrap() + "\n").collect()
    }
}

fn key(number: u128) -> Idempotency {
    Idempotency { key: berth_engine::IdempotencyKey(number), fingerprint: 1 }
}

// rule: LOT-1
// rule: LOT-2
#[test]
fn a_draw_that_breaks_off_goes_on_with_the_same_order_and_offers_nobody_twice() {
    let dir = tempfile::tempdir().unwrap();
    let cell = Cell::seeded(dir.path());
    let begins = cell.now();
    cell.make(begins).unwrap();
    assert!(cell.make(begins).unwrap().replayed, "the same request makes no other");
    let slots = cell.slots();
    let claim = |party, slot| Claim { party: PartyId(party), slot, dose: berth_engine::Dose(1) };
    let booked = cell.submit(Command::Book { claims: &[claim(7, slots[0])] });
    assert!(matches!(booked, Err(Refusal::Reserved { .. })), "{booked:?}");
    for party in 0..8 {
        cell.register(party, begins).unwrap();
    }
    let closes = begins.plus(HOUR);
    assert!(matches!(cell.register(0, closes), Ok(Done { replayed: true, .. })), "what was told stays told");
    let late = cell.lotteries.register("l", PartyId(0), Vec::new(), key(9), closes);
    assert!(matches!(late, Err(LotteryError::State(State::Registering, _))), "{late:?}");

    // Broken off before the first offer, and then behind an offer whose outcome is not written.
    cell.lotteries.stop();
    assert_eq!(cell.lotteries.step(closes).unwrap_err().1, LotteryError::Stopping);
    let Lottery { spec, standing, .. } = cell.lotteries.get("l").unwrap();
    let seed = unhex(standing.seed.as_ref().unwrap()).unwrap();
    assert_eq!((standing.state, hex(&commitment(&seed))), (State::Drawing, spec.commitment.clone()));
    let mut list: Vec<_> = (0..8)
        .map(|party| draw::Registration {
            party: format!("p1.{party}"),
            preferences: cell.lotteries.registration("l", PartyId(party)).unwrap().preferences,
        })
        .collect();
    in_order_of_parties(&mut list);
    let digest = draw::digest("l", &list);
    assert_eq!(standing.digest, Some(hex(&digest)));
    let first = order(&seed, &digest, &list)[0].party.rsplit('.').next().unwrap().parse().unwrap();
    let note = [2, b'l'];
    // Not its first wish: as if that had been refused then.
    let offer = Command::Offer { claim: claim(first, slots[1]), ttl: HOUR, note: &note };
    let request = Request { command: offer, idempotency: Some(offer_key("l", PartyId(first))) };
    cell.campaign.engine.submit(&request, cell.now()).unwrap().result.unwrap();
    cell.close();

    let cell = Cell::open(dir.path());
    let booked = cell.submit(Command::Book { claims: &[claim(7, slots[0])] });
    assert!(matches!(booked, Err(Refusal::Reserved { .. })), "reserved again: {booked:?}");
    assert_eq!(cell.lotteries.step(closes).unwrap(), [("l".to_owned(), State::Drawn)]);
    let (place, came) = cell.lotteries.registration("l", PartyId(first)).unwrap().came.unwrap();
    assert_eq!((place, came.given.unwrap().0), (1, slots[1].0), "the unit that it had been offered");
    let told = verify(&cell.file()).unwrap();
    assert_eq!((told.registrations, told.given), (8, 6), "{}", cell.file());
    let mut holds = HashSet::new();
    for party in 0..8 {
        let view = cell.campaign.engine.party_bookings(PartyId(party)).unwrap();
        assert!(view.bookings.len() <= 1, "party {party} has {}", view.bookings.len());
        holds.extend(view.bookings.iter().map(|view| view.number));
    }
    assert_eq!(holds.len(), 6);
    let held = |slot| cell.campaign.engine.counts(slot).unwrap().held().get();
    assert_eq!((held(slots[0]), held(slots[1])), (3, 3));

    // Once more does nothing; and when the offers have run out what is left is everybody's.
    assert_eq!(cell.lotteries.step(closes).unwrap(), []);
    assert_eq!(cell.lotteries.step(closes.plus(HOUR)).unwrap(), [("l".to_owned(), State::Over)]);
    assert!(!cell.campaign.engine.counts(slots[0]).unwrap().is_reserved());
    cell.close();
}

/// What was told to be registered is in the list, whoever closes it meanwhile.
// rule: LOT-1
#[test]
fn nobody_is_told_to_be_registered_who_is_not_in_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let cell = Cell::seeded(dir.path());
    let begins = cell.now();
    cell.make(begins).unwrap();
    cell.submit(Command::AddParties { count: 400, facts: PartyFacts::default() }).unwrap();
    let registered = std::sync::atomic::AtomicUsize::new(0);
    let told: usize = std::thread::scope(|scope| {
        let register = |from: u32| {
            let (cell, registered) = (&cell, &registered);
            scope.spawn(move || {
                let wishes = vec!["session:a".parse().unwrap()];
                let one = |party| {
                    cell.lotteries.register("l", PartyId(party), wishes.clone(), key(1000 + u128::from(party)), begins)
                };
                let counted = |party: &u32| {
                    let is_in = one(*party).is_ok();
                    registered.fetch_add(usize::from(is_in), std::sync::atomic::Ordering::Relaxed);
                    is_in
                };
                (from..from + 200).filter(counted).count()
            })
        };
        let both = [register(0), register(200)];
        // Closed among them, whatever the machine does.
        while registered.load(std::sync::atomic::Ordering::Relaxed) < 20 {
            std::thread::yield_now();
        }
        cell.lotteries.stop();
        let _ = cell.lotteries.step(begins.plus(HOUR));
        both.into_iter().map(|one| one.join().unwrap()).sum()
    });
    let lottery = cell.lotteries.get("l").unwrap();
    assert_eq!(lottery.registrations, told as u64);
    assert_eq!(cell.lotteries.list(&lottery.spec).unwrap().len(), told);
    cell.close();
}

/// Who waits for a slot is offered nothing of it before the draw, and what is left when the lottery is over.
// rule: LOT-2
#[test]
fn who_waits_gets_what_is_left_and_nothing_before() {
    let dir = tempfile::tempdir().unwrap();
    let cell = Cell::seeded(dir.path());
    let begins = cell.now();
    cell.make(begins).unwrap();
    cell.waitlist.begin(&cell.store).unwrap();
    cell.waitlist.start(&cell.store, || {}).unwrap();
    let slots = cell.slots();
    let first = cell.campaign.programme.calendar().day(begins);
    let wish = Wish {
        party: PartyId(0),
        scope: Scope::Centre(Arc::from("c1")),
        first,
        last: first + 5,
        dose: berth_engine::Dose(1),
        product: berth_engine::ProductId(0),
    };
    let _ = cell.waitlist.join(wish, None, begins).unwrap();
    let counts = |slot| cell.campaign.engine.counts(slot).unwrap();
    let until = |what: &dyn Fn() -> bool| {
        let began = std::time::Instant::now();
        while !what() {
            assert!(began.elapsed() < STORE_WAIT, "it never comes to it");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    until(&|| slots.iter().all(|slot| counts(*slot).is_reserved_for(ReservedFor::Waitlist)));
    assert_eq!(cell.waitlist.stats().offers, 0, "it is kept for who waits, and not offered");
    // Nobody registered: all is left.
    assert_eq!(cell.lotteries.step(begins.plus(HOUR)).unwrap(), [("l".to_owned(), State::Drawn)]);
    assert_eq!((cell.waitlist.stats().offers, counts(slots[0]).held().get()), (0, 0));
    assert_eq!(cell.lotteries.step(begins.plus(HOUR).plus(HOUR)).unwrap(), [("l".to_owned(), State::Over)]);
    until(&|| cell.waitlist.stats().offers == 1);
    assert_eq!(slots.iter().map(|slot| counts(*slot).held().get()).sum::<u32>(), 1);
    cell.close();
}

/// A lottery that was made with another key is not drawn by this one.
#[test]
fn without_the_cells_key_nothing_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let cell = Cell::seeded(dir.path());
    let begins = cell.now();
    cell.make(begins).unwrap();
    let mut spec = cell.lotteries.get("l").unwrap().spec;
    spec.id = "m".to_owned();
    spec.commitment = hex(&[7; 32]);
    let done = cell.lotteries.submit(&Said::Made { lottery: spec }, None, begins).unwrap();
    cell.lotteries.wait(done.seq).unwrap();
    let told = cell.lotteries.draw_now("m", begins.plus(HOUR)).unwrap_err();
    assert_eq!(told, LotteryError::SeedLost("m".to_owned()));
    // It is over with its offers, undrawn: nothing stays reserved for ever.
    let over = [("l".to_owned(), State::Over), ("m".to_owned(), State::Over)];
    assert_eq!(cell.lotteries.step(begins.plus(HOUR).plus(HOUR)).unwrap(), over);
    assert_eq!(cell.lotteries.get("m").unwrap().standing.state, State::Over);
    assert!(matches!(cell.lotteries.result("m").err(), Some(LotteryError::State(..))), "it was never drawn");
    assert!(!cell.campaign.engine.counts(cell.slots()[0]).unwrap().is_reserved());
    cell.close();
}

/// Seed and list of a draw under way are those that were published, whatever the key gives now; else it is over with its offers.
// rule: LOT-1
#[test]
fn a_draw_under_way_goes_by_what_was_published() {
    let dir = tempfile::tempdir().unwrap();
    let cell = Cell::seeded(dir.path());
    let begins = cell.now();
    cell.make(begins).unwrap();
    let made = cell.lotteries.get("l").unwrap().spec;
    let tell = |said: Said| cell.lotteries.wait(cell.lotteries.submit(&said, None, begins).unwrap().seq).unwrap();
    // m: of another key, and under way. n: its list is not the one of its digest.
    for (id, seed, digest) in [("m", [7; 32], hex(&draw::digest("m", &[]))), ("n", [8; 32], hex(&[1; 32]))] {
        let lottery = Spec { id: id.to_owned(), commitment: hex(&commitment(&seed)), ..made.clone() };
        tell(Said::Made { lottery });
        tell(Said::Closed { id: id.to_owned(), digest, registrations: 0 });
        tell(Said::Drawing { id: id.to_owned(), seed: hex(&seed), units: vec![3, 3] });
    }
    let now = begins.plus(HOUR);
    assert_eq!(cell.lotteries.draw_now("m", now).unwrap().standing.state, State::Drawn);
    assert!(matches!(cell.lotteries.draw_now("n", now), Err(LotteryError::Store(StoreError::Broken(_)))));
    // Reserved again by each step, though a start missed it.
    let slots = cell.slots();
    cell.campaign.engine.reserve(slots[0], ReservedFor::Lottery, false);
    let _ = cell.lotteries.step(begins);
    assert!(cell.campaign.engine.counts(slots[0]).unwrap().is_reserved());
    assert_eq!(cell.lotteries.step(now.plus(HOUR)).unwrap().len(), 3);
    assert!(!cell.campaign.engine.counts(slots[0]).unwrap().is_reserved());
    cell.close();
}

#[test]
fn offers_end_before_the_earliest_slot_begins() {
    let dir = tempfile::tempdir().unwrap();
    let cell = Cell::seeded(dir.path());
    // Two days on is behind the slots' start, or not far from it: three are behind it in any case.
    let begins = cell.now().plus(HOUR * 72);
    let told = cell.make(begins).unwrap_err();
    assert!(
        matches!(&told, LotteryError::Faults(faults) if faults.iter().any(|fault| fault.key == "offers_until")),
        "{told:?}"
    );
    cell.close();
}
