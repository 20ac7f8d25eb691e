//! Journals no kernel wrote, and commands no client should send: an error or a refusal, never a panic.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use berth_engine::journal::entry::{Entry, Event, PublishedSlot};
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
        (booking(), claims()).prop_map(|(first, claims)| Event::Booked { first, claims: claims.into_iter().collect() }),
        (booking(), 1u8..5).prop_map(|(hold, len)| Event::Confirmed { hold, len }),
        (booking(), 1u8..5).prop_map(|(hold, len)| Event::Released { hold, len }),
        (booking(), 1u8..5).prop_map(|(hold, len)| Event::Expired { hold, len }),
        booking().prop_map(|booking| Event::Cancelled { booking }),
        (booking(), booking(), claims())
            .prop_map(|(from, number, claims)| Event::Moved { from, to: NumberedClaim { number, claim: claims[0] } }),
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
    engine.close().unwrap();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}
