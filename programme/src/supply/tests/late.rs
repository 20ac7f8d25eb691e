//! Without the books, and with a store that began late: what is certain is judged all the same, and nothing stands still for ever.

use super::*;

/// Fills the log with what nobody keeps, until what was before is trimmed.
fn trim(cell: &Cell) {
    let engine = &cell.campaign.engine;
    let bytes = vec![7; 4000];
    for _ in 0..4 {
        for _ in 0..400 {
            let command = Command::Record { kind: 200, bytes: &bytes, urgent: false };
            let submitted = cell.submit(command, cell.now());
            engine.ticket(submitted.seq).wait().unwrap();
        }
        cell.settle();
        // The log is let go once the store has it on its disk.
        while cell.store.persisted() < engine.durable() {
            std::thread::yield_now();
        }
        engine.snapshot().unwrap();
    }
}

fn without_store(dir: &Path, cell: Cell) -> Cell {
    cell.close();
    std::fs::remove_dir_all(dir.join("store")).unwrap();
    Cell::open(dir, "warn")
}

// rule: SUP-3
#[test]
fn without_books_what_is_certain_is_refused_and_who_insists_on_stock_waits() {
    for enforce in ["off", "warn", "refuse"] {
        let dir = tempfile::tempdir().unwrap();
        let (cell, bookings) = Cell::seeded(dir.path(), enforce);
        cell.batch("good", date(2099, 1, 1), 100);
        cell.batch("old", date(2021, 1, 1), 100);
        cell.batch("back", date(2099, 1, 1), 100);
        cell.ledger.receive(("good", "c1"), 10, "", cell.key(), cell.now()).unwrap();
        cell.ledger.recall("back", "quality", cell.key(), cell.now()).unwrap();
        cell.settle();
        cell.close();
        // Nobody makes the books here: a store that stands still at a start.
        let cell = Cell::without_books(dir.path(), enforce);
        let give = |who: usize, batch: &str, told| cell.give_under(None, bookings[who], batch, told);
        if enforce == "refuse" {
            for batch in ["good", "back", "none"] {
                assert!(matches!(give(0, batch, false), Err(Unrecorded::Store(_))), "{batch}");
            }
        } else {
            for (batch, doubt) in [("old", Doubt::Expired), ("back", Doubt::Recalled)] {
                let refused = give(0, batch, false);
                assert!(
                    matches!(&refused, Err(Unrecorded::Doubt(found, _)) if *found == doubt),
                    "{batch}: {refused:?}"
                );
            }
            give(0, "good", false).unwrap().submitted.result.unwrap();
        }
        // What was given is on record, and told of.
        let told = give(2, "back", true).unwrap();
        assert_eq!((told.submitted.result.is_ok(), told.doubts), (true, vec![Doubt::Recalled]), "{enforce}");
        // The books that are made later have seen all of it.
        cell.settle();
        cell.ledger.begin().unwrap();
        let given = if enforce == "refuse" { 0 } else { 1 };
        assert_eq!(cell.held("good", "c1").on_hand, 10 - given, "{enforce}");
        assert_eq!(cell.held("back", "c1").uncovered, 1, "{enforce}");
        assert_eq!(cell.held("back", "c1"), cell.lot("back", "c1").held);
        cell.close();
    }
}

// rule: SUP-2
// rule: SUP-3
#[test]
fn a_store_that_began_late_goes_on_and_keeps_the_recall() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, bookings) = Cell::seeded(dir.path(), "warn");
    for batch in ["A", "B"] {
        cell.batch(batch, date(2099, 1, 1), 100);
        cell.ledger.receive((batch, "c1"), 10, "", cell.key(), cell.now()).unwrap();
    }
    cell.give(bookings[0], "A", false).unwrap();
    let sending = |to: &str, quantity| {
        let (batch, from, to) = ("A".to_owned(), "c1".to_owned(), to.to_owned());
        cell.ledger.send(Sending { batch, from, to, quantity }, cell.key(), cell.now()).unwrap().seq
    };
    let (arrives, back) = (sending("c2", 4), sending("c2", 3));
    trim(&cell);
    // Behind what is left of the log: of batches, transfers and doses that it does not tell of.
    cell.ledger.recall("A", "quality", cell.key(), cell.now()).unwrap();
    cell.ledger.arrive(arrives, 4, cell.key(), cell.now()).unwrap();
    cell.ledger.cancel(back, cell.key(), cell.now()).unwrap();
    cell.correct(PartyId(0), bookings[0], "B").unwrap();
    cell.settle();
    let cell = without_store(dir.path(), cell);
    cell.settle();
    assert!(cell.ledger.began() > Seq(0), "it does not say that all is there");
    let row = cell.ledger.batch("A").unwrap().unwrap();
    assert_eq!((row.is_known(), row.recall.map(|recall| recall.reason)), (false, Some("quality".to_owned())));
    for (transfer, state) in [(arrives, TransferState::Arrived), (back, TransferState::Cancelled)] {
        assert_eq!(cell.ledger.transfer(transfer).unwrap().unwrap().state, state);
    }
    // The recall is judged by, and the dose is found by what was said of it last.
    assert_eq!(cell.give(bookings[2], "A", false), Err(Doubt::Recalled));
    let traced: Vec<_> = cell.ledger.doses_of("B", None, None).map(Result::unwrap).collect();
    assert_eq!(traced.iter().map(|dose| dose.party).collect::<Vec<_>>(), [PartyId(0)]);
    // One of before may be corrected again, also to the batch of which only the recall is known: of what product it is nobody knows.
    cell.correct(PartyId(0), bookings[0], "A").unwrap();
    // Written down again it has its recall still, and what came of it since then.
    cell.batch("A", date(2099, 1, 1), 100);
    assert_eq!(cell.give(bookings[2], "A", false), Err(Doubt::Recalled));
    cell.settle();
    for batch in ["A", "B"] {
        for centre in CENTRES {
            assert_eq!(cell.held(batch, centre), cell.lot(batch, centre).held, "{batch} at {centre}");
        }
    }
    cell.close();
    let cell = Cell::open(dir.path(), "warn");
    assert!(cell.ledger.began() > Seq(0));
    assert_eq!(cell.give(bookings[2], "A", false), Err(Doubt::Recalled));
    cell.close();
}

/// A dose whose batch was sealed with the rest of it, before there was a ledger, is not found by it: that is told.
#[test]
fn a_dose_that_was_sealed_before_the_ledger_makes_it_incomplete() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, bookings) = Cell::seeded(dir.path(), "warn");
    cell.give(bookings[0], "A", false).unwrap();
    cell.settle();
    assert_eq!(cell.ledger.began(), Seq(0));
    // As it was: sealed, which of them (1 given, 2 corrected, 3 revoked), key, booking.
    let sealed = |which: u8| [&[5, which][..], &[0; 16], &[9; 40]].concat();
    let revoked = sealed(3);
    let facts = cell.campaign.engine.party_bookings(PartyId(0)).unwrap().facts;
    let change = |note: &[u8]| {
        cell.submit(Command::ChangeFacts { party: PartyId(4), facts, expected: None, note }, cell.visit())
    };
    change(&revoked).result.unwrap();
    cell.settle();
    assert_eq!(cell.ledger.began(), Seq(0), "a revocation hides no batch");
    let given = sealed(1);
    let command = Command::CompleteNoted { booking: bookings[2], given_at: cell.visit(), product: None, note: &given };
    let seq = cell.submit(command, cell.visit()).seq;
    cell.settle();
    assert_eq!(cell.ledger.began(), seq);
    let corrected = sealed(2);
    let seq = change(&corrected).seq;
    cell.settle();
    cell.close();
    let cell = Cell::open(dir.path(), "warn");
    assert_eq!(cell.ledger.began(), seq, "also after a restart");
    cell.close();
}

/// A slot that is in no catalogue: its doses are found by their batch, and nothing stands still for want of a place to count them at.
// rule: SUP-2
#[test]
fn a_dose_at_no_centre_is_found_by_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, _) = Cell::seeded(dir.path(), "warn");
    let (engine, product) = (&cell.campaign.engine, cell.product());
    let known = engine.slot_facts(cell.campaign.catalogue.session("sc1").unwrap().slots[0].slot).unwrap();
    let slots = [berth_engine::SlotSpec {
        centre: berth_engine::CentreKey(9),
        capacity: berth_engine::Units::new(5).unwrap(),
        facts: known,
    }];
    let published = cell.submit(Command::Publish { slots: &slots, note: b"" }, cell.now()).result.unwrap();
    let Outcome::Published { slots, .. } = published else { panic!("{published:?}") };
    let facts = PartyFacts { birth_year: 1980, ..PartyFacts::default() };
    cell.submit(Command::AddParties { count: 2, facts }, cell.now()).result.unwrap();
    let booking = cell.checked_in(PartyId(PEOPLE), slots[0]);
    assert_eq!(cell.give(booking, "A", false), Ok(vec![]), "there are no books of it");
    let gone = cell.checked_in(PartyId(PEOPLE + 1), slots[0]);
    cell.submit(Command::Complete { booking: gone }, cell.visit()).result.unwrap();
    cell.settle();
    let traced: Vec<_> = cell.ledger.doses_of("A", None, None).map(Result::unwrap).collect();
    assert_eq!(traced.iter().map(|dose| (dose.booking, dose.product)).collect::<Vec<_>>(), [(booking, product)]);
    assert_eq!((cell.ledger.lots_of("A").unwrap().len(), cell.ledger.days("", u16::MAX).count()), (0, 0));
    cell.close();
}
