//! Doses of one party in whatever order they are given, told late, corrected and revoked: what is on record, and what the policy
//! knows, is what a plain list says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use berth_engine::*;
use berth_programme::Calendar;
use berth_programme::doses::history::{corrected, revoked};
use berth_programme::doses::{CannotChange, Correction, Details, DoseNote, Doses};
use berth_programme::store::Store;
use proptest::prelude::*;

const DAY_MS: u64 = 86_400_000;
const PARTY: PartyId = PartyId(1);

#[derive(Clone, Debug)]
enum Op {
    /// The next dose, of this product, on this day.
    Give(u8, u64),
    /// Of which dose: another product, another day.
    Correct(usize, Option<u8>, Option<u64>),
    Revoke(usize),
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let day = || 100u64..112;
    let op = prop_oneof![
        4 => (1u8..5, day()).prop_map(|(product, day)| Op::Give(product, day)),
        3 => (0usize..6, prop::option::of(1u8..5), prop::option::of(day())).prop_map(|(at, p, d)| Op::Correct(at, p, d)),
        2 => (0usize..6).prop_map(Op::Revoke),
        1 => Just(Op::Restart),
    ];
    prop::collection::vec(op, 1..14)
}

/// One dose, as plainly as it goes.
#[derive(Clone, Debug)]
struct Plain {
    booking: BookingNumber,
    dose: u8,
    product: u8,
    day: u64,
    stands: bool,
    changes: usize,
}

/// What the list says the policy should know.
fn facts(doses: &[Plain]) -> (u8, u8, u64) {
    let standing: Vec<_> = doses.iter().filter(|dose| dose.stands).collect();
    // Of one day the one that was written down later.
    let last = standing.iter().enumerate().max_by_key(|(at, dose)| (dose.day, *at)).map(|(_, dose)| *dose);
    (u8::try_from(standing.len()).unwrap(), last.map_or(0, |dose| dose.product), last.map_or(0, |dose| dose.day))
}

struct Cell {
    engine: Arc<Engine>,
    store: Store,
    doses: Arc<Doses>,
}

fn open(dir: &std::path::Path) -> Cell {
    let mut config = Config::new(dir.join("data"));
    config.journal.segment_bytes = 1 << 20;
    config.journal.buffer_bytes = 1 << 18;
    let engine = Arc::new(Engine::open(config, Arc::new(AllowAll), &mut |_| {}).unwrap().0);
    let store = Store::open(&dir.join("store")).unwrap();
    let doses = Arc::new(Doses::open(Arc::clone(&engine), &store).unwrap());
    store.follow(&engine, vec![Arc::<Doses>::clone(&doses)], |_| {}).unwrap();
    Cell { engine, store, doses }
}

impl Cell {
    fn run(&self, command: Command<'_>) -> Result<Outcome, Refusal> {
        let submitted = self.engine.submit(&Request { command, idempotency: None }, self.engine.now()).unwrap();
        self.engine.ticket(submitted.seq).wait().unwrap();
        self.store.wait(submitted.seq, Duration::from_secs(30)).unwrap();
        submitted.result
    }

    fn close(self) {
        self.engine.close().unwrap();
        self.store.close();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    // rule: DOS-1
    // rule: PTY-2
    #[test]
    fn what_is_on_record_and_what_the_policy_knows_is_what_a_plain_list_says(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let calendar = Calendar::utc();
        let mut cell = open(dir.path());
        cell.run(Command::AddParties { count: 3, facts: PartyFacts::default() }).unwrap();
        let spec = SlotSpec {
            centre: CentreKey(1),
            capacity: Units::new(100).unwrap(),
            facts: SlotFacts { product: ProductId(9), ..SlotFacts::default() },
        };
        let Ok(Outcome::Published { slots, .. }) = cell.run(Command::Publish { slots: &[spec], note: b"" }) else {
            panic!("not published")
        };
        let mut plain: Vec<Plain> = Vec::new();
        for op in ops {
            let known = cell.engine.party_bookings(PARTY).unwrap().facts;
            let records = cell.doses.records(PARTY).unwrap();
            match op {
                Op::Restart => {
                    cell.close();
                    cell = open(dir.path());
                    cell.store.wait(cell.engine.durable(), Duration::from_secs(30)).unwrap();
                }
                Op::Give(product, day) => {
                    let given_at = TimestampMs(day * DAY_MS + 1);
                    let claim = Claim { party: PARTY, slot: slots[0], dose: Dose(known.doses + 1) };
                    let Ok(Outcome::WalkedIn { claim: walked }) = cell.run(Command::WalkInLate { claim, came_at: given_at }) else {
                        panic!("not taken")
                    };
                    let booking = walked.number;
                    let details = Details { given_at, product: ProductId(product), batch: "B1".to_owned(), ..Details::default() };
                    let note = DoseNote::Given { details, author: "operator:c1".to_owned() }.encode();
                    let product_id = Some(ProductId(product));
                    let give = || cell.run(Command::CompleteNoted { booking, given_at, product: product_id, note: &note });
                    give().unwrap();
                    // Never twice, and never on who has gone.
                    let twice = Refusal::WrongState { booking, from: State::Completed, to: State::Completed };
                    prop_assert_eq!(give(), Err(twice));
                    plain.push(Plain { booking, dose: known.doses + 1, product, day, stands: true, changes: 0 });
                }
                Op::Correct(at, product, day) => {
                    let Some(dose) = plain.get_mut(at) else { continue };
                    let correction = Correction {
                        given_at: day.map(|day| TimestampMs(day * DAY_MS + 2)),
                        product: product.map(ProductId),
                        ..Correction::default()
                    };
                    let made = corrected(known, &records, dose.booking, &correction, &calendar);
                    if !dose.stands {
                        prop_assert_eq!(made, Err(CannotChange::Revoked));
                        continue;
                    }
                    let (reason, author) = ("typo".to_owned(), "admin:a".to_owned());
                    let note = DoseNote::Corrected { booking: dose.booking, correction, reason, author }.encode();
                    let command = Command::ChangeFacts { party: PARTY, facts: made.unwrap(), expected: Some(&known), note: &note };
                    cell.run(command).unwrap();
                    // Who rests on what was before is refused, if that was another.
                    let again = cell.run(Command::ChangeFacts { party: PARTY, facts: known, expected: Some(&PartyFacts { birth_year: 1, ..known }), note: b"" });
                    prop_assert_eq!(again, Err(Refusal::ChangedMeanwhile { party: PARTY }));
                    dose.product = product.unwrap_or(dose.product);
                    dose.day = day.unwrap_or(dose.day);
                    dose.changes += 1;
                }
                Op::Revoke(at) => {
                    let last = facts(&plain).0;
                    let Some(dose) = plain.get_mut(at) else { continue };
                    let made = revoked(known, &records, dose.booking, dose.dose, &calendar);
                    if !dose.stands || dose.dose < last {
                        let why = if dose.stands { CannotChange::LaterDose } else { CannotChange::Revoked };
                        prop_assert_eq!(made, Err(why));
                        continue;
                    }
                    let (reason, author) = ("wrong_person".to_owned(), "admin:a".to_owned());
                    let note = DoseNote::Revoked { booking: dose.booking, reason, author }.encode();
                    cell.run(Command::ChangeFacts { party: PARTY, facts: made.unwrap(), expected: Some(&known), note: &note }).unwrap();
                    dose.stands = false;
                    dose.changes += 1;
                }
            }
            let found = cell.engine.party_bookings(PARTY).unwrap().facts;
            prop_assert_eq!((found.doses, found.product.0, u64::from(found.last_dose_day)), facts(&plain), "{:?}", plain);
            let records = cell.doses.records(PARTY).unwrap();
            let told: Vec<_> = records
                .iter()
                .map(|record| (record.booking, record.details.product.0, record.details.given_at.0 / DAY_MS, record.valid, record.changes.len()))
                .collect();
            let expected: Vec<_> = plain.iter().map(|dose| (dose.booking, dose.product, dose.day, dose.stands, dose.changes)).collect();
            prop_assert_eq!(told, expected);
        }
        prop_assert!(cell.doses.records(PartyId(0)).unwrap().is_empty(), "nobody else has any");
        cell.close();
    }
}
