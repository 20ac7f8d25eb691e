//! What is said twice counts once: doses and corrections under the key of a client that did not hear the answer.

use super::*;

/// The last unit under a key, and that key again.
// rule: SUP-1
#[test]
fn a_dose_that_is_said_twice_takes_one_unit_and_is_not_refused_for_want_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, bookings) = Cell::seeded(dir.path(), "refuse");
    cell.batch("A", date(2099, 1, 1), 100);
    for (told, who) in [(false, 0), (true, 2)] {
        cell.ledger.receive(("A", "c1"), 1, "", cell.key(), cell.now()).unwrap();
        let key = cell.key();
        let first = cell.give_under(Some(key), bookings[who], "A", told).unwrap();
        assert_eq!((first.submitted.result.is_ok(), first.submitted.replayed, first.doubts), (true, false, vec![]));
        for _ in 0..2 {
            let again = cell.give_under(Some(key), bookings[who], "A", told).unwrap();
            assert_eq!((again.submitted.replayed, again.submitted.seq), (true, first.submitted.seq));
            assert_eq!(again.doubts, [], "told {told}");
        }
        assert_eq!(cell.held("A", "c1"), Held::default(), "told {told}");
    }
    // Under another key the booking is in another state, and nothing is taken.
    let other = cell.give_under(Some(cell.key()), bookings[0], "A", false).unwrap();
    assert!(matches!(other.submitted.result, Err(Refusal::WrongState { .. })), "{other:?}");
    cell.settle();
    let lot = cell.lot("A", "c1");
    assert_eq!((lot.given, lot.held, cell.held("A", "c1")), (2, Held::default(), Held::default()));
    cell.close();
}

/// A to B under one key, B back to A under another, and the first key again: it is of A still.
// rule: SUP-2
#[test]
fn a_correction_that_is_said_twice_moves_a_dose_once() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, bookings) = Cell::seeded(dir.path(), "warn");
    for batch in ["A", "B"] {
        cell.batch(batch, date(2099, 1, 1), 100);
        cell.ledger.receive((batch, "c1"), 10, "", cell.key(), cell.now()).unwrap();
    }
    cell.give(bookings[0], "A", false).unwrap();
    cell.settle();
    let (there, back) = (cell.key(), cell.key());
    let correct = |key, batch| cell.correct_under(Some(key), PartyId(0), bookings[0], batch).unwrap();
    let first = correct(there, "B");
    assert!(!first.replayed);
    assert_eq!([cell.held("A", "c1").on_hand, cell.held("B", "c1").on_hand], [10, 9]);
    assert!(!correct(back, "A").replayed);
    for settled in [false, true] {
        let again = correct(there, "B");
        assert_eq!((again.replayed, again.seq), (true, first.seq));
        assert_eq!([cell.held("A", "c1").on_hand, cell.held("B", "c1").on_hand], [9, 10], "settled {settled}");
        cell.settle();
    }
    assert_eq!(cell.ledger.use_of(bookings[0]).unwrap().unwrap().batch, "A");
    assert_eq!([cell.lot("A", "c1").given, cell.lot("B", "c1").given], [1, 0]);
    cell.close();
}

/// The books are not there yet, and the answer to what was done before the restart is asked for again.
// rule: IDM-1
#[test]
fn what_was_done_before_is_told_again_also_without_the_books() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, _) = Cell::seeded(dir.path(), "off");
    cell.batch("A", date(2099, 1, 1), 100);
    let key = cell.key();
    let first = cell.ledger.receive(("A", "c1"), 60, "", key, cell.now()).unwrap();
    cell.settle();
    // Something is in the log that the store has not seen, and never will.
    cell.store.close();
    cell.submit(Command::AddParties { count: 1, facts: PartyFacts::default() }, cell.now()).result.unwrap();
    cell.campaign.engine.close().unwrap();
    let Cell { campaign, store, ledger, .. } = cell;
    drop((campaign, store, ledger));
    let cell = Cell::without_books(dir.path(), "off");
    cell.store.close();
    let newest = cell.campaign.engine.appended();
    cell.ledger.appended_without(newest.next());
    let again = cell.ledger.receive(("A", "c1"), 60, "", key, cell.now());
    assert_eq!(again, Ok(Done { seq: first.seq, replayed: true }));
    let fresh = cell.ledger.receive(("A", "c1"), 1, "", cell.key(), cell.now());
    assert!(matches!(fresh, Err(SupplyError::Store(_))), "{fresh:?}");
    cell.close();
}

#[test]
fn what_is_said_twice_is_done_once_and_what_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, _) = Cell::seeded(dir.path(), "off");
    let (now, key) = (cell.now(), cell.key());
    let made = BatchSpec { id: "A".to_owned(), ..spec(&cell) };
    let first = cell.ledger.make_batch(made.clone(), key, now).unwrap();
    let again = cell.ledger.make_batch(made.clone(), key, now).unwrap();
    assert_eq!((first.replayed, again), (false, Done { seq: first.seq, replayed: true }));
    let there = cell.ledger.make_batch(made.clone(), cell.key(), now);
    assert_eq!(there, Err(SupplyError::BatchThere("A".to_owned())));
    let key = cell.key();
    for replayed in [false, true] {
        let done = cell.ledger.receive(("A", "c1"), 60, "", key, now).unwrap();
        assert_eq!(done.replayed, replayed);
    }
    let beyond = cell.ledger.receive(("A", "c2"), 41, "", cell.key(), now);
    assert!(
        matches!(beyond, Err(SupplyError::BeyondBatch { quantity: 100, received: 60, wanted: 41, .. })),
        "{beyond:?}"
    );
    for (id, quantity, manufacturer) in [("a b", 1, ""), ("B", 0, ""), ("B", 1, "two\nlines"), ("B", DOSES_MAX + 1, "")]
    {
        let manufacturer = manufacturer.to_owned();
        let spec = BatchSpec { id: id.to_owned(), quantity, manufacturer, ..spec(&cell) };
        let wrong = cell.ledger.make_batch(spec, cell.key(), now);
        assert!(matches!(&wrong, Err(SupplyError::Faults(faults)) if faults.len() == 1), "{wrong:?}");
    }
    let unknown = cell.ledger.receive(("B", "c1"), 1, "", cell.key(), now);
    assert_eq!(unknown, Err(SupplyError::UnknownBatch("B".to_owned())));
    let nowhere = cell.ledger.receive(("A", "c9"), 1, "", cell.key(), now);
    assert!(matches!(nowhere, Err(SupplyError::Faults(_))), "{nowhere:?}");
    assert_eq!(cell.held("A", "c1"), Held { on_hand: 60, uncovered: 0 });
    cell.close();
}
