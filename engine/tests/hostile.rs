//! Journals no kernel wrote, and commands no client should send: an error or a refusal, never a panic.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use berth_engine::journal::entry::{Entry, Event, PublishedSlot};
use berth_engine::testing::decoders;
use berth_engine::testing::seeds::{Seeds, seeds};
use berth_engine::verify::Ledger;
use berth_engine::*;
use proptest::prelude::*;

fn limits() -> Limits {
    Limits { parties_max: 100, slots_max: 1000, bookings_max: 1000, ..Limits::default() }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0u64..6, 1 => Just(u64::MAX), 1 => Just((1 << 55) + 1), 1 => 995u64..1005]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0u32..4, 1 => Just(u32::MAX), 1 => 95u32..105]
}

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let claim = (small(), small(), prop_oneof![0u8..3, Just(255)]);
    prop::collection::vec(claim, 1..5).prop_map(|claims| {
        let claim = |(party, slot, dose)| Claim { party: PartyId(party), slot: SlotId(slot), dose: Dose(dose) };
        claims.into_iter().map(claim).collect()
    })
}

fn events() -> impl Strategy<Value = Event> {
    let booking = || number().prop_map(BookingNumber);
    prop_oneof![
        (small(), small()).prop_map(|(first, count)| Event::PartiesAdded {
            first: PartyId(first),
            count,
            facts: PartyFacts::default()
        }),
        prop::collection::vec((small(), 0u32..4), 0..4).prop_map(|slots| Event::Published {
            slots: slots
                .into_iter()
                .map(|(slot, n)| PublishedSlot {
                    slot: SlotId(slot),
                    centre: CentreKey(n),
                    capacity: Units::new(n).unwrap(),
                    facts: SlotFacts::default(),
                })
                .collect(),
            note: Vec::new(),
        }),
        (booking(), number(), claims()).prop_map(|(first, at, claims)| Event::Held {
            first,
            expires_at: TimestampMs(at),
            claims: claims.into_iter().collect()
        }),
        (booking(), number(), claims()).prop_map(|(number, at, claims)| Event::Offered {
            number,
            expires_at: TimestampMs(at),
            claim: claims[0],
            note: vec![1; 9]
        }),
        (booking(), claims()).prop_map(|(first, claims)| Event::Booked { first, claims: claims.into_iter().collect() }),
        (booking(), 1u8..5).prop_map(|(hold, len)| Event::Confirmed { hold, len }),
        (booking(), 1u8..5).prop_map(|(hold, len)| Event::Released { hold, len }),
        (booking(), 1u8..5).prop_map(|(hold, len)| Event::Expired { hold, len }),
        booking().prop_map(|booking| Event::Cancelled { booking }),
        (booking(), booking(), claims()).prop_map(|(from, number, claims)| Event::Moved {
            from,
            to: NumberedClaim { number, claim: claims[0] },
            by: if number.0 % 2 == 0 { By::Holder } else { By::Administration },
        }),
        (booking(), 1u16..16).prop_map(|(hold, places)| Event::GroupCancelled {
            hold,
            places: Places::new(places).unwrap(),
            by: By::Holder
        }),
        booking().prop_map(|booking| Event::CheckedIn { booking }),
        (booking(), 0u8..3).prop_map(|(booking, doses)| Event::Completed {
            booking,
            given: Given { doses, product: ProductId(1), day: 20_000 }
        }),
        (booking(), 0u8..3).prop_map(|(booking, doses)| Event::CompletedNoted {
            booking,
            given: Given { doses, product: ProductId(1), day: 20_000 },
            note: vec![doses; 9]
        }),
        (small(), 0u8..3).prop_map(|(party, doses)| Event::FactsChanged {
            party: PartyId(party),
            facts: PartyFacts { doses, ..PartyFacts::default() },
            note: Vec::new()
        }),
        (0u8..3).prop_map(|kind| Event::Recorded { kind, bytes: vec![kind; 9] }),
        booking().prop_map(|booking| Event::NoShow { booking }),
        (booking(), claims())
            .prop_map(|(number, claims)| Event::WalkedIn { claim: NumberedClaim { number, claim: claims[0] } }),
        (small(), 0u32..4, any::<bool>()).prop_map(|(slot, n, open)| Event::SlotChanged {
            slot: SlotId(slot),
            capacity: Units::new(n).unwrap(),
            open
        }),
        (number(), number()).prop_map(|(a, b)| Event::HoldsGraced {
            from: TimestampMs(a.min(b)),
            until: TimestampMs(a.max(b).saturating_add(1))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Replay takes it or names the entry; where replay takes it, the ledger finds no broken rule either.
    // rule: CAP-1
    // rule: PTY-1
    // rule: BKG-1
    #[test]
    fn a_journal_nobody_wrote_is_replayed_or_refused(events in prop::collection::vec(events(), 0..12)) {
        let setting = [
            Event::PartiesAdded { first: PartyId(0), count: 3, facts: PartyFacts::default() },
            Event::Published {
                slots: (0..3).map(|n| PublishedSlot {
                    slot: SlotId(n),
                    centre: CentreKey(0),
                    capacity: Units::new(n).unwrap(),
                    facts: SlotFacts::default(),
                }).collect(),
                note: Vec::new(),
            },
        ];
        let journal: Vec<(Seq, Entry)> = (1u64..)
            .map(Seq)
            .zip(setting.into_iter().chain(events))
            .map(|(seq, event)| (seq, Entry { at: TimestampMs(3), idempotency: None, event }))
            .collect();
        let mut ledger = Ledger::new(Duration::from_secs(60));
        journal.iter().for_each(|(seq, entry)| ledger.apply(*seq, entry));
        if let Ok(engine) = Engine::from_journal(&limits(), Arc::new(AllowAll), &journal) {
            // Deadlines are the kernel's to judge, not replay's.
            let findings: Vec<_> = ledger.findings().iter().filter(|finding| finding.rule != "HLD-4").collect();
            prop_assert!(findings.is_empty(), "replayed, though {findings:?}");
            engine.for_each_booking(&mut |_| {});
            engine.for_each_slot(&mut |_, _, counts| {
                assert!(counts.held().get() + counts.booked().get() <= counts.capacity().get());
            });
        }
    }
}

#[test]
fn a_closing_engine_takes_no_more_commands() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(Config::new(dir.path()), Arc::new(AllowAll), &mut |_| {}).unwrap();
    let engine = Arc::new(engine);
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let engine = Arc::clone(&engine);
            // Ends only because closing refuses.
            std::thread::spawn(move || {
                let request = Request { command: Command::Note { note: b"x" }, idempotency: None };
                while engine.submit(&request, engine.now()).is_ok() {}
            })
        })
        .collect();
    // What was inside `submit` as the writer ended is appended and never durable. Closing says so; nobody was told of it.
    if let Err(failure) = engine.close() {
        assert_eq!(failure, Failure::JournalStopped { reason: "the journal is closed".to_owned() });
    }
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

/// Changes to real bytes: flips, cuts, runs of zeros, pieces copied elsewhere.
fn mutated(bytes: &[u8], changes: &[(usize, usize, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(at, len, kind, value) in changes {
        if bytes.is_empty() {
            break;
        }
        let at = at % bytes.len();
        let end = (at + len % 64).min(bytes.len());
        match kind % 5 {
            0 => bytes[at] ^= value | 1,
            1 => bytes.truncate(at),
            2 => bytes[at..end].fill(0),
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = value as usize * 7 % bytes.len();
                bytes.splice(to..to, piece);
            }
            _ => bytes[at..end].fill(value),
        }
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(usize, usize, u8, u8)>> {
    prop::collection::vec((any::<usize>(), any::<usize>(), any::<u8>(), any::<u8>()), 1..6)
}

/// The small sister of `cargo xtask fuzz`, with its seeds: the same promises, on changed copies of what a cell writes and on noise. Also
/// that every decoder is a target, by its name, so that none of the two is left behind.
// rule: JNL-4
#[test]
fn no_decoder_panics_or_reads_something_else_than_was_written() {
    let seeds = seeds();
    for Seeds { target, inputs, decoder } in &seeds {
        let place = format!("{}/../fuzz/fuzz_targets/{target}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&place).unwrap_or_else(|error| panic!("{target}: {error}"));
        assert!(text.contains(&format!("decoders::{target}(data)")), "{target} is no fuzz target");
        // Whole, each is taken: none of this is about bytes that are refused at once.
        assert!(inputs.iter().all(|input| decoder(input)), "{target}");
    }
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(changes in changes(), which in any::<usize>(), noise in prop::collection::vec(any::<u8>(), 0..300))| {
        for Seeds { inputs, decoder, .. } in &seeds {
            decoder(&mutated(&inputs[which % inputs.len()], &changes));
            // Of another decoder, and of nobody.
            let other = &seeds[which / 7 % seeds.len()].inputs;
            decoder(&mutated(&other[which % other.len()], &changes));
            decoder(&noise);
        }
    });
}

/// Bookings from the last number there is: what follows has none. Found by `cargo xtask fuzz`.
#[test]
fn a_snapshot_of_bookings_past_the_last_number_is_refused() {
    let records = u16::try_from(8 + 40 * 2).unwrap();
    let mut data = vec![0x32];
    data.extend(records.to_le_bytes());
    data.extend(u64::MAX.to_le_bytes());
    data.extend([0; 80]);
    assert!(!decoders::snapshot(&data));
}
