//! Random commands, answered by the engine as by the plain reference model, and again after a replay.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use berth_engine::testing::{Model, ModelRefusal, Picky};
use berth_engine::verify::Ledger;
use berth_engine::*;
use proptest::prelude::*;

const PARTIES: u32 = 5;
const SLOTS: usize = 4;

fn limits() -> Limits {
    Limits { parties_max: 100, slots_max: 1000, bookings_max: 1000, ..Limits::default() }
}

const PICKY: Picky = Picky { hold_ttl_max: Duration::from_millis(300) };

/// A command with its slots and bookings named by small numbers.
#[derive(Clone, Debug)]
enum Step {
    Hold(Vec<(u32, usize, u8)>, u64),
    Book(Vec<(u32, usize, u8)>),
    Offer(u32, usize, u8, u64, usize),
    Reserve(usize, bool, bool),
    Confirm(u64),
    Release(u64),
    Expire(u64),
    Cancel(u64, By),
    CancelGroup(Vec<u64>, By),
    Move(u64, usize, By),
    CheckIn(u64),
    Complete(u64),
    CompleteNoted(u64, i64, Option<u8>, usize),
    ChangeFacts(u32, u8, Option<u8>, usize),
    Record(usize),
    NoShow(u64),
    WalkIn(u32, usize, u8),
    WalkInLate(u32, usize, u8, u64),
    Resize(usize, u32),
    Open(usize),
    Close(usize),
}

/// A step, how much time passes before it, and its idempotency key with a salt for its fingerprint.
type Timed = (Step, u64, Option<(u8, u8)>);

fn steps() -> impl Strategy<Value = Vec<Timed>> {
    // One party and one slot too many, so that unknown ones turn up.
    let claims = || prop::collection::vec((0..=PARTIES, 0..=SLOTS, 1u8..4), 0..5);
    let number = || 0u64..24;
    let by = || prop_oneof![2 => Just(By::Holder), 1 => Just(By::Administration)];
    let step = prop_oneof![
        6 => (claims(), 0u64..500).prop_map(|(claims, ttl)| Step::Hold(claims, ttl)),
        4 => claims().prop_map(Step::Book),
        4 => (0..=PARTIES, 0..=SLOTS, 1u8..4, 0u64..900, length(NOTE_BYTES_MAX))
            .prop_map(|(party, slot, dose, ttl, note)| Step::Offer(party, slot, dose, ttl, note)),
        2 => (0..SLOTS, any::<bool>(), any::<bool>()).prop_map(|(slot, lottery, on)| Step::Reserve(slot, lottery, on)),
        5 => number().prop_map(Step::Confirm),
        3 => number().prop_map(Step::Release),
        3 => number().prop_map(Step::Expire),
        3 => (number(), by()).prop_map(|(booking, by)| Step::Cancel(booking, by)),
        // Neighbours, so that they are of one group now and then.
        3 => (number(), prop::collection::vec(0u64..4, 0..5), by()).prop_map(|(first, offsets, by)| {
            Step::CancelGroup(offsets.iter().map(|offset| first + offset).collect(), by)
        }),
        4 => (number(), 0..=SLOTS, by()).prop_map(|(booking, to, by)| Step::Move(booking, to, by)),
        3 => number().prop_map(Step::CheckIn),
        3 => number().prop_map(Step::Complete),
        3 => (number(), -2i64..3, prop::option::of(2u8..4), length(NOTE_BYTES_MAX)).prop_map(|(booking, day, product, note)| Step::CompleteNoted(booking, day, product, note)),
        3 => (0..=PARTIES, 0u8..4, prop::option::of(0u8..4), length(NOTE_BYTES_MAX))
            .prop_map(|(party, doses, expected, note)| Step::ChangeFacts(party, doses, expected, note)),
        1 => length(RECORD_BYTES_MAX).prop_map(Step::Record),
        3 => number().prop_map(Step::NoShow),
        3 => (0..=PARTIES, 0..=SLOTS, 1u8..4).prop_map(|(party, slot, dose)| Step::WalkIn(party, slot, dose)),
        2 => (0..=PARTIES, 0..=SLOTS, 1u8..4, 0u64..3000)
            .prop_map(|(party, slot, dose, came_at)| Step::WalkInLate(party, slot, dose, came_at)),
        1 => (0..=SLOTS, 0u32..5).prop_map(|(slot, capacity)| Step::Resize(slot, capacity)),
        1 => (0..=SLOTS).prop_map(Step::Open),
        1 => (0..=SLOTS).prop_map(Step::Close),
    ];
    prop::collection::vec((step, 0u64..60, prop::option::of((0u8..6, 0u8..8))), 0..60)
}

/// Of bytes that may be at most so many: few, all, and one too many.
fn length(max: usize) -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0usize..20, 1 => Just(max), 1 => Just(max + 1)]
}

/// The engine with its slots published and parties created, and the model told the same.
fn setting() -> (Engine, Model, Vec<SlotId>) {
    let engine = Engine::in_memory(&limits(), Arc::new(PICKY));
    let mut model = Model::new(Arc::new(PICKY));
    for birth_year in [1980, 2020] {
        let facts = PartyFacts { birth_year, ..PartyFacts::default() };
        let request = Request { command: Command::AddParties { count: 3, facts }, idempotency: None };
        let told = engine.submit(&request, TimestampMs(0)).unwrap().result;
        assert_eq!(told.map_err(|refusal| ModelRefusal::from(&refusal)), model.submit(&request, TimestampMs(0)).0);
    }
    let facts = |dose, programme, starts_at| SlotFacts {
        programme: ProgrammeId(programme),
        dose: Dose(dose),
        product: ProductId(1),
        pool: PoolId(1),
        starts_at: TimestampMs(starts_at),
    };
    let all = [(facts(0, 1, 1500), 2u32), (facts(1, 1, 1500), 1), (facts(0, 1, 900), 3), (facts(0, 2, 1500), 1)];
    let specs = all.map(|(facts, n)| SlotSpec { centre: CentreKey(1), capacity: Units::new(n).unwrap(), facts });
    let request = Request { command: Command::Publish { slots: &specs, note: b"" }, idempotency: None };
    let Ok(Outcome::Published { slots, .. }) = engine.submit(&request, TimestampMs(0)).unwrap().result else {
        panic!("not published")
    };
    let told: Vec<_> = slots.iter().zip(all).map(|(slot, (facts, n))| (*slot, facts, n)).collect();
    model.publish(&told);
    (engine, model, slots)
}

fn agree(engine: &Engine, model: &Model, slots: &[SlotId]) {
    for slot in slots {
        let counts = engine.counts(*slot).unwrap();
        let found = (counts.capacity().get(), counts.held().get(), counts.booked().get());
        assert_eq!(found, model.counts(*slot), "slot {slot}");
    }
    for party in (0..PARTIES).map(PartyId) {
        let view = engine.party_bookings(party).unwrap();
        let mut live: Vec<_> = view.bookings.iter().map(|booking| (booking.number, booking.state)).collect();
        live.sort_by_key(|(number, _)| *number);
        assert_eq!(live, model.live(party), "party {party}");
        for booking in &view.bookings {
            assert_eq!(booking.offered, model.is_offered(booking.number), "booking {}", booking.number);
        }
        assert_eq!(view.facts, model.facts(party), "party {party}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Every answer, and after every history the counts and the parties' claims, in memory and after a replay.
    // rule: CAP-1
    // rule: CAP-3
    // rule: PTY-1
    // rule: HLD-1
    // rule: HLD-2
    // rule: HLD-4
    // rule: BKG-1
    // rule: BKG-2
    // rule: WLK-1
    // rule: WTL-1
    // rule: WTL-2
    // rule: NSH-1
    // rule: DOS-1
    // rule: PTY-2
    // rule: IDM-1
    #[test]
    fn the_engine_answers_as_the_model(steps in steps()) {
        let (engine, mut model, slots) = setting();
        let slot = |index: usize| slots.get(index).copied().unwrap_or(SlotId(999));
        let mut reserved = HashSet::new();
        let mut now = TimestampMs(0);
        for (step, pass, key) in steps {
            now = TimestampMs(now.0 + pass);
            if let Step::Reserve(at, lottery, on) = step {
                let owner = if lottery { ReservedFor::Lottery } else { ReservedFor::Waitlist };
                let _ = if on { reserved.insert((at, owner)) } else { reserved.remove(&(at, owner)) };
                let counts = engine.reserve(slot(at), owner, on).unwrap();
                let any = reserved.iter().any(|(slot, _)| *slot == at);
                model.reserve(slot(at), any);
                prop_assert_eq!((counts.is_reserved_for(owner), counts.is_reserved()), (on, any));
                continue;
            }
            let claims = match &step {
                Step::Hold(claims, _) | Step::Book(claims) => claims
                    .iter()
                    .map(|(party, at, dose)| Claim { party: PartyId(*party), slot: slot(*at), dose: Dose(*dose) })
                    .collect(),
                _ => Vec::new(),
            };
            let bookings: Vec<_> = match &step {
                Step::CancelGroup(numbers, _) => numbers.iter().copied().map(BookingNumber).collect(),
                _ => Vec::new(),
            };
            let bytes = match &step {
                Step::CompleteNoted(.., len) | Step::ChangeFacts(.., len) | Step::Record(len) | Step::Offer(.., len) => {
                    vec![7; *len]
                }
                _ => Vec::new(),
            };
            let expected = match &step {
                Step::ChangeFacts(party, _, Some(doses), _) if *party < model.parties() => {
                    Some(PartyFacts { doses: *doses, ..model.facts(PartyId(*party)) })
                }
                Step::ChangeFacts(_, _, expected, _) => expected.map(|_| PartyFacts::default()),
                _ => None,
            };
            let command = match step {
                Step::Hold(_, ttl) => Command::Hold { claims: &claims, ttl: Duration::from_millis(ttl) },
                Step::Reserve(..) => unreachable!("no command"),
                Step::Offer(party, at, dose, ttl, _) => {
                    let claim = Claim { party: PartyId(party), slot: slot(at), dose: Dose(dose) };
                    Command::Offer { claim, ttl: Duration::from_millis(ttl), note: &bytes }
                }
                Step::Book(_) => Command::Book { claims: &claims },
                Step::Confirm(hold) => Command::Confirm { hold: BookingNumber(hold) },
                Step::Release(hold) => Command::Release { hold: BookingNumber(hold) },
                Step::Expire(hold) => Command::Expire { hold: BookingNumber(hold) },
                Step::Cancel(booking, by) => Command::Cancel { booking: BookingNumber(booking), by },
                Step::CancelGroup(_, by) => Command::CancelGroup { bookings: &bookings, by },
                Step::Move(booking, to, by) => Command::Move { booking: BookingNumber(booking), to: slot(to), by },
                Step::CheckIn(booking) => Command::CheckIn { booking: BookingNumber(booking) },
                Step::Complete(booking) => Command::Complete { booking: BookingNumber(booking) },
                Step::CompleteNoted(booking, day, product, _) => {
                    let given_at = TimestampMs(now.0.saturating_add_signed(day * 86_400_000));
                    let product = product.map(ProductId);
                    Command::CompleteNoted { booking: BookingNumber(booking), given_at, product, note: &bytes }
                }
                Step::ChangeFacts(party, doses, ..) => {
                    let known = Some(party).filter(|party| *party < model.parties()).map(|party| model.facts(PartyId(party)));
                    let facts = PartyFacts { doses, last_dose_day: u16::from(doses), ..known.unwrap_or_default() };
                    let (party, expected) = (PartyId(party), expected.as_ref());
                    Command::ChangeFacts { party, facts, expected, note: &bytes }
                }
                Step::Record(_) => Command::Record { kind: 3, bytes: &bytes, urgent: false },
                Step::NoShow(booking) => Command::NoShow { booking: BookingNumber(booking) },
                Step::WalkIn(party, at, dose) => {
                    Command::WalkIn { claim: Claim { party: PartyId(party), slot: slot(at), dose: Dose(dose) } }
                }
                Step::WalkInLate(party, at, dose, came_at) => {
                    let claim = Claim { party: PartyId(party), slot: slot(at), dose: Dose(dose) };
                    Command::WalkInLate { claim, came_at: TimestampMs(came_at) }
                }
                Step::Resize(at, n) => Command::Resize { slot: slot(at), capacity: Units::new(n).unwrap() },
                Step::Open(at) => Command::Open { slot: slot(at) },
                Step::Close(at) => Command::Close { slot: slot(at) },
            };
            // The fingerprint is of the command, as a server would make it: the same key with another is a conflict.
            let idempotency = key.map(|(key, salt)| Idempotency {
                key: IdempotencyKey(u128::from(key)),
                fingerprint: u64::from(salt % 2),
            });
            let request = Request { command, idempotency };
            let told = engine.submit(&request, now).unwrap();
            let (expected, replayed) = model.submit(&request, now);
            prop_assert_eq!(told.result.map_err(|refusal| ModelRefusal::from(&refusal)), expected);
            prop_assert_eq!(told.replayed, replayed);
        }
        agree(&engine, &model, &slots);

        let journal = engine.journal_so_far();
        let mut ledger = Ledger::new(Duration::from_secs(60));
        journal.iter().for_each(|(seq, entry)| ledger.apply(*seq, entry));
        prop_assert!(ledger.findings().is_empty(), "{:?}", ledger.findings());
        let again = Engine::from_journal(&limits(), Arc::new(PICKY), &journal).unwrap();
        agree(&again, &model, &slots);
        for key in (0..6).map(IdempotencyKey) {
            prop_assert_eq!(again.outcome(key), engine.outcome(key));
        }
    }
}
