//! Listing by slot and by party: pages while others book, and after a start from log and snapshot.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_engine::*;
use support::{book, config, open, run, seed};

/// All pages of a slot.
fn slot_list(engine: &Engine, slot: SlotId, limit: usize) -> Vec<BookingView> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = engine.slot_bookings(slot, after, limit).unwrap();
        assert!(page.bookings.len() <= limit);
        assert!(page.bookings.iter().all(|view| view.seq <= page.seq));
        all.extend(page.bookings);
        let Some(next) = page.next else { return all };
        after = Some(next);
    }
}

fn history(engine: &Engine, party: PartyId, limit: usize) -> Vec<BookingView> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = engine.party_history(party, after, limit).unwrap();
        all.extend(page.bookings);
        let Some(next) = page.next else { return all };
        after = Some(next);
    }
}

#[test]
fn a_slot_and_a_party_list_all_they_ever_had_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    let other = seed(&engine, 10, 5);
    let mut expected = Vec::new();
    for round in 0..7 {
        let (booking, _) = book(&engine, 3, slot);
        expected.push((booking, State::Cancelled));
        if round == 4 {
            let (Outcome::Moved { to, .. }, _) = run(&engine, Command::Move { booking, to: other, by: By::Holder })
            else {
                panic!("not moved")
            };
            expected.pop();
            expected.push((booking, State::Moved));
            expected.push((to.number, State::Cancelled));
            run(&engine, Command::Cancel { booking: to.number, by: By::Holder });
        } else {
            run(&engine, Command::Cancel { booking, by: By::Holder });
        }
        book(&engine, round, other);
        run(&engine, Command::Cancel { booking: BookingNumber(engine.stats().bookings - 1), by: By::Holder });
    }
    let (last, _) = book(&engine, 3, slot);
    expected.push((last, State::Booked));
    expected.reverse();

    let check = |engine: &Engine| {
        for limit in [1, 3, 100] {
            let mut found: Vec<_> =
                history(engine, PartyId(3), limit).iter().map(|view| (view.number, view.state)).collect();
            // The one that it had in its turn as all others.
            found.retain(|row| expected.contains(row));
            assert_eq!(found, expected, "limit {limit}");
            let of_slot: Vec<_> = slot_list(engine, slot, limit).iter().map(|view| view.number).collect();
            let here: Vec<_> = expected.iter().map(|row| row.0).filter(|number| of_slot.contains(number)).collect();
            assert_eq!((of_slot.len(), of_slot), (8, here), "limit {limit}");
        }
        assert_eq!(history(engine, PartyId(3), 100).len(), 10);
        assert_eq!(history(engine, PartyId(9), 100), []);
        assert_eq!(slot_list(engine, other, 4).len(), 8);
    };
    check(&engine);
    let nobody = BookingNumber(1 << 20);
    let foreign = history(&engine, PartyId(0), 1)[0].number;
    for after in [nobody, foreign] {
        let unknown = Err(Refusal::UnknownBooking { booking: after });
        assert_eq!(engine.party_history(PartyId(3), Some(after), 5), unknown);
        assert_eq!(engine.slot_bookings(slot, Some(after), 5), unknown);
    }
    let gone = PartyId(99);
    assert_eq!(engine.party_history(gone, None, 5), Err(Refusal::UnknownParty { party: gone }));
    assert_eq!(engine.slot_bookings(SlotId(999), None, 5), Err(Refusal::UnknownSlot { slot: SlotId(999) }));
    engine.close().unwrap();
    drop(engine);

    let engine = open(&config);
    check(&engine);
    engine.snapshot().unwrap().unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = open(&config);
    check(&engine);
    // The chain goes on where it was.
    run(&engine, Command::Cancel { booking: last, by: By::Holder });
    let (next, _) = book(&engine, 3, slot);
    let numbers: Vec<_> = history(&engine, PartyId(3), 2).iter().map(|view| view.number).collect();
    assert_eq!((numbers.len(), &numbers[..2]), (11, &[next, last][..]));
}

/// What was there when a listing began is in it once, however many are made meanwhile.
#[test]
fn a_listing_misses_nothing_while_others_book() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(open(&config(dir.path())));
    let slot = seed(&engine, 400, 100);
    let writers: Vec<_> = (0..3u32)
        .map(|writer| {
            let engine = Arc::clone(&engine);
            std::thread::spawn(move || {
                for round in 0..400u32 {
                    let (booking, _) = book(&engine, writer * 100 + round % 20, slot);
                    run(&engine, Command::Cancel { booking, by: By::Holder });
                }
            })
        })
        .collect();
    let mut before = BTreeSet::new();
    loop {
        let last = writers.iter().all(std::thread::JoinHandle::is_finished);
        let list = slot_list(&engine, slot, 16);
        let numbers: BTreeSet<_> = list.iter().map(|view| view.number).collect();
        assert_eq!(numbers.len(), list.len(), "one stands twice");
        assert!(before.is_subset(&numbers), "{} are lost", before.difference(&numbers).count());
        before = numbers;
        if last {
            break;
        }
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!((before.len(), engine.stats().bookings), (1200, 1200));
}
