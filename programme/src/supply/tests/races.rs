//! What happens at one moment: two who correct one dose, a recall while doses are given, a correction while the store goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::*;

/// Two correct the same doses, each to a batch of its own, while the store follows: books and rows come to the same.
// rule: SUP-1
// rule: SUP-2
#[test]
fn corrections_of_one_dose_that_race_leave_books_and_rows_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, bookings) = Cell::seeded(dir.path(), "warn");
    for batch in ["A", "B", "C"] {
        cell.batch(batch, date(2099, 1, 1), 1000);
        for centre in CENTRES {
            cell.ledger.receive((batch, centre), 100, "", cell.key(), cell.now()).unwrap();
        }
    }
    let doses = 6;
    for booking in &bookings[..doses] {
        cell.give(*booking, "A", false).unwrap();
    }
    cell.settle();
    std::thread::scope(|scope| {
        for batches in [["B", "A"], ["C", "A"], ["B", "C"]] {
            let (cell, bookings) = (&cell, &bookings);
            scope.spawn(move || {
                for round in 0..40usize {
                    for (who, booking) in bookings[..doses].iter().enumerate() {
                        let party = PartyId(u32::try_from(who).unwrap());
                        cell.correct(party, *booking, batches[(round + who) % 2]).unwrap();
                    }
                    // Now and then the store has all of it on the disk, and the books forget.
                    if round % 10 == 9 {
                        cell.settle();
                    }
                }
            });
        }
    });
    cell.settle();
    let mut given = 0;
    for batch in ["A", "B", "C"] {
        for centre in CENTRES {
            let lot = cell.lot(batch, centre);
            assert_eq!(cell.held(batch, centre), lot.held, "{batch} at {centre}");
            assert_eq!(lot.held.on_hand + lot.given, 100, "{batch} at {centre}");
            given += lot.given;
        }
        for dose in cell.ledger.doses_of(batch, None, None).map(Result::unwrap) {
            assert_eq!(cell.ledger.use_of(dose.booking).unwrap().unwrap().batch, batch);
        }
    }
    assert_eq!(given, doses as u64);
    cell.close();
}

/// Once a recall has its place in the journal no dose of the batch has one behind it.
// rule: SUP-3
#[test]
fn no_dose_of_a_batch_comes_behind_its_recall() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, bookings) = Cell::seeded(dir.path(), "warn");
    for round in 0..4usize {
        let batch = format!("R{round}");
        cell.batch(&batch, date(2099, 1, 1), 1000);
        let (newest, some) = (AtomicU64::new(0), AtomicBool::new(false));
        let recalled = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..2usize)
                .map(|worker| {
                    let (cell, batch, newest, some) = (&cell, &batch, &newest, &some);
                    let mine = bookings.iter().skip(round * 10 + worker).step_by(2).take(5);
                    scope.spawn(move || {
                        let mut refused = 0;
                        for booking in mine {
                            match cell.give_under(None, *booking, batch, false) {
                                Ok(recorded) => {
                                    recorded.submitted.result.unwrap();
                                    newest.fetch_max(recorded.submitted.seq.0, Relaxed);
                                }
                                Err(Unrecorded::Doubt(Doubt::Recalled, _)) => refused += 1,
                                Err(other) => panic!("{other:?}"),
                            }
                            some.store(true, Relaxed);
                        }
                        refused
                    })
                })
                .collect();
            while !some.load(Relaxed) {
                std::thread::yield_now();
            }
            let recalled = cell.ledger.recall(&batch, "quality", cell.key(), cell.now()).unwrap().seq;
            let refused: i32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
            let given = cell.settle_and_count(&batch);
            assert_eq!(given + u64::try_from(refused).unwrap(), 10, "round {round}");
            recalled
        });
        assert!(newest.load(Relaxed) < recalled.0, "round {round}: a dose behind the recall");
    }
    cell.close();
}

impl Cell {
    fn settle_and_count(&self, batch: &str) -> u64 {
        self.settle();
        self.ledger.doses_of(batch, None, None).count() as u64
    }
}

/// What happens on one day is told of in the order in which it was written down, whenever it was asked for.
#[test]
fn who_waited_for_the_books_comes_later_than_it_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (cell, _) = Cell::seeded(dir.path(), "off");
    cell.batch("A", date(2099, 1, 1), 1000);
    // Asked for two days ago, as far as the caller knows.
    let long_ago = TimestampMs(cell.now().0 - 2 * 86_400_000);
    let before = cell.now();
    cell.ledger.receive(("A", "c1"), 7, "", cell.key(), cell.now()).unwrap();
    cell.ledger.waste(("A", "c1"), 2, Waste::Broken, cell.key(), long_ago).unwrap();
    cell.ledger.recall("A", "quality", cell.key(), long_ago).unwrap();
    cell.settle();
    let days: Vec<_> = cell.ledger.days("c1", u16::MAX).map(Result::unwrap).collect();
    let all: u64 = days.iter().map(|(_, day)| day.received).sum();
    assert_eq!((all, days.last().and_then(|(_, day)| day.on_hand())), (7, Some(5)), "{days:?}");
    let calendar = cell.campaign.programme.calendar();
    assert!(days.iter().all(|(day, _)| *day >= calendar.day(before)), "{days:?}");
    assert!(cell.ledger.batch("A").unwrap().unwrap().recall.unwrap().at >= before.0);
    cell.close();
}
