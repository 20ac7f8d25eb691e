//! A batch that was written down wrongly is put right; and a recall on a disk that is full.

use super::*;

// rule: SUP-3
#[test]
fn a_batch_is_put_right_and_what_came_of_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, bookings) = Cell::seeded(dir.path(), "refuse");
    let product = cell.product();
    let wrong = BatchSpec { product: product.0 - 1, id: "A".to_owned(), expires: date(2021, 1, 1), ..spec(&cell) };
    cell.ledger.make_batch(wrong.clone(), cell.key(), cell.now()).unwrap();
    cell.ledger.receive(("A", "c1"), 60, "", cell.key(), cell.now()).unwrap();
    assert_eq!(cell.give(bookings[0], "A", false), Err(Doubt::OtherProduct));
    let amend = |change: Amendment| cell.ledger.amend_batch("A", change, "typo", cell.key(), cell.now());
    let of = Amendment { product: Some(product), ..Amendment::default() };
    amend(of).unwrap();
    assert_eq!(cell.give(bookings[0], "A", false), Err(Doubt::Expired));
    let until = Amendment { expires: Some(date(2099, 1, 1)), ..Amendment::default() };
    let key = cell.key();
    for replayed in [false, true] {
        let done = cell.ledger.amend_batch("A", until.clone(), "typo", key, cell.now()).unwrap();
        assert_eq!(done.replayed, replayed);
    }
    assert_eq!(cell.give(bookings[0], "A", false), Ok(vec![]));
    // It cannot have had less than was received, and may have had just that.
    let made_of = |quantity| Amendment { quantity: Some(quantity), ..Amendment::default() };
    let below = SupplyError::BelowReceived { batch: "A".to_owned(), received: 60, wanted: 59 };
    assert_eq!(amend(made_of(59)), Err(below));
    amend(made_of(60)).unwrap();
    let beyond = cell.ledger.receive(("A", "c2"), 1, "", cell.key(), cell.now());
    assert!(matches!(beyond, Err(SupplyError::BeyondBatch { quantity: 60, received: 60, .. })), "{beyond:?}");
    for (change, reason) in [
        (Amendment::default(), "typo"),
        (made_of(0), "typo"),
        (made_of(70), "It was a typo"),
        (Amendment { doses_per_vial: Some(0), ..Amendment::default() }, "typo"),
    ] {
        let faults = cell.ledger.amend_batch("A", change, reason, cell.key(), cell.now());
        assert!(matches!(&faults, Err(SupplyError::Faults(faults)) if faults.len() == 1), "{faults:?}");
    }
    let unknown = cell.ledger.amend_batch("B", until, "typo", cell.key(), cell.now());
    assert_eq!(unknown, Err(SupplyError::UnknownBatch("B".to_owned())));
    // Its recall stands, and so do its doses and its stock.
    cell.ledger.recall("A", "quality", cell.key(), cell.now()).unwrap();
    amend(Amendment { manufacturer: Some("Other".to_owned()), doses_per_vial: Some(10), ..Amendment::default() })
        .unwrap();
    assert_eq!(cell.give(bookings[2], "A", false), Err(Doubt::Recalled));
    cell.settle();
    cell.close();
    let cell = Cell::open(dir.path(), "refuse");
    let row = cell.ledger.batch("A").unwrap().unwrap();
    assert_eq!((row.spec.product(), row.spec.quantity, row.spec.manufacturer.as_str()), (product, 60, "Other"));
    let before: Vec<_> = row.amended.iter().map(|amended| (amended.before.product, amended.before.expires)).collect();
    let (old, new) = (wrong.expires, date(2099, 1, 1));
    assert_eq!(before, [(product.0 - 1, old), (product.0, old), (product.0, new), (product.0, new)]);
    assert_eq!((row.amended[0].before.clone(), &*row.amended[0].reason), (wrong, "typo"));
    assert_eq!((cell.give(bookings[2], "A", false), cell.held("A", "c1").on_hand), (Err(Doubt::Recalled), 59));
    assert_eq!(cell.settle_and_list("A"), [PartyId(0)]);
    cell.close();
}

impl Cell {
    fn settle_and_list(&self, batch: &str) -> Vec<PartyId> {
        self.settle();
        self.ledger.doses_of(batch, None, None).map(|dose| dose.unwrap().party).collect()
    }
}

/// Of many corrections the newest are kept.
#[test]
fn what_is_put_right_again_and_again_stays_in_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, _) = Cell::seeded(dir.path(), "off");
    cell.batch("A", date(2099, 1, 1), 1);
    let times = AMENDED_KEPT as u64 + 5;
    for quantity in 0..times {
        let change = Amendment { quantity: Some(2 + quantity), ..Amendment::default() };
        cell.ledger.amend_batch("A", change, "typo", cell.key(), cell.now()).unwrap();
    }
    cell.settle();
    let row = cell.ledger.batch("A").unwrap().unwrap();
    let kept: Vec<_> = row.amended.iter().map(|amended| amended.before.quantity).collect();
    assert_eq!(kept, (6..=times).collect::<Vec<_>>());
    cell.close();
}

/// A number that a path would lose is none.
#[test]
fn a_batch_whose_number_a_path_would_lose_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, _) = Cell::seeded(dir.path(), "off");
    for id in [".", "..", "/", "a/", "/a", "a//b", "a/../b", "./a"] {
        let wrong = cell.ledger.make_batch(BatchSpec { id: id.to_owned(), ..spec(&cell) }, cell.key(), cell.now());
        assert!(matches!(&wrong, Err(SupplyError::Faults(faults)) if faults.len() == 1), "{id}: {wrong:?}");
    }
    for id in ["a/b", "a.b", "..a", "4120Z/1-x"] {
        cell.ledger.make_batch(BatchSpec { id: id.to_owned(), ..spec(&cell) }, cell.key(), cell.now()).unwrap();
    }
    cell.close();
}

/// While the disk has no room for the next segment stock stands still, doses go on, and so does a recall.
// rule: JNL-5
// rule: SUP-3
#[test]
fn a_recall_is_taken_by_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, bookings) = Cell::seeded(dir.path(), "warn");
    cell.batch("A", date(2099, 1, 1), 100);
    cell.ledger.receive(("A", "c1"), 10, "", cell.key(), cell.now()).unwrap();
    cell.settle();
    // Nothing more can be made: the names of the segments to come are taken.
    for number in 4..9 {
        std::fs::create_dir(dir.path().join(format!("journal/{number:010}.seg"))).unwrap();
    }
    let engine = &cell.campaign.engine;
    let bytes = vec![7; 4000];
    let full = (0..5000).any(|_| {
        let told = cell.submit(Command::Record { kind: 200, bytes: &bytes, urgent: false }, cell.now());
        if told.result.is_err() {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        told.result == Err(Refusal::JournalFull) && engine.stats().journal_starved == 1
    });
    assert!(full);
    let received = cell.ledger.receive(("A", "c1"), 1, "", cell.key(), cell.now());
    assert_eq!(received, Err(SupplyError::Refused(Refusal::JournalFull)));
    assert_eq!(cell.give(bookings[0], "A", false), Ok(vec![]), "what settles goes on");
    let key = cell.key();
    let recalled = cell.ledger.recall("A", "quality", key, cell.now()).unwrap();
    assert_eq!(cell.give(bookings[2], "A", false), Err(Doubt::Recalled));
    assert_eq!(cell.ledger.recall("A", "quality", key, cell.now()), Ok(Done { seq: recalled.seq, replayed: true }));
    engine.ticket(recalled.seq).wait().unwrap();
    cell.settle();
    assert_eq!(cell.ledger.batch("A").unwrap().unwrap().recall.unwrap().reason, "quality");
    cell.close();
}
