//! Every pair of transitions of the slot word under loom, each with a second datum that the word publishes:
//! a count alone would hide a weak ordering.
//!
//! Run with `cargo xtask test --only loom`. The reader starts in a spawned thread: loom 0.7 skips runs in which
//! a thread loads, then writes, an atomic that another has already read.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use berth_engine::Units;
use berth_engine::slot::{Give, ReservedFor, Resize, SlotWord, Take};
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

fn units(n: u32) -> Units {
    Units::new(n).unwrap()
}

/// A transition to pair with others.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Hold,
    Book,
    Confirm,
    Release,
    Expire,
    Cancel,
    Shrink,
    Grow,
    Open,
    Close,
    Offer,
    Reserve,
    Unreserve,
}

const OPS: [Op; 13] = [
    Op::Hold,
    Op::Book,
    Op::Confirm,
    Op::Release,
    Op::Expire,
    Op::Cancel,
    Op::Shrink,
    Op::Grow,
    Op::Open,
    Op::Close,
    Op::Offer,
    Op::Reserve,
    Op::Unreserve,
];

/// Applies `op`; returns the change of (held, booked).
fn apply(op: Op, word: &SlotWord) -> (i64, i64) {
    let took = |take| if matches!(take, Take::Taken(_)) { 1 } else { 0 };
    let gave = |give| if matches!(give, Give::Given(_)) { 1 } else { 0 };
    match op {
        Op::Hold => (took(word.hold(units(1))), 0),
        Op::Book => (0, took(word.book(units(1)))),
        Op::Confirm => {
            let n = gave(word.confirm(units(1)));
            (-n, n)
        }
        Op::Release => (-gave(word.release(units(1))), 0),
        Op::Expire => (-gave(word.expire(units(1))), 0),
        Op::Cancel => (0, -gave(word.cancel(units(1)))),
        Op::Shrink => {
            let _: Resize = word.resize(units(2));
            (0, 0)
        }
        Op::Grow => {
            let _: Resize = word.resize(units(4));
            (0, 0)
        }
        Op::Open => {
            let _ = word.open();
            (0, 0)
        }
        Op::Close => {
            let _ = word.close();
            (0, 0)
        }
        Op::Offer => (took(word.hold_offered(units(1))), 0),
        Op::Reserve => {
            let _ = word.reserve(ReservedFor::Waitlist);
            (0, 0)
        }
        Op::Unreserve => {
            let _ = word.unreserve(ReservedFor::Waitlist);
            (0, 0)
        }
    }
}

/// A word with capacity 3, one unit held and one booked.
fn word() -> SlotWord {
    let word = SlotWord::new();
    assert!(word.publish(units(3)));
    assert!(matches!(word.hold(units(1)), Take::Taken(_)));
    assert!(matches!(word.book(units(1)), Take::Taken(_)));
    word
}

// rule: CAP-1
#[test]
fn every_pair_of_transitions_keeps_the_counts_exact() {
    for a in OPS {
        for b in OPS {
            loom::model(move || {
                let word = Arc::new(word());
                let threads = [a, b].map(|op| {
                    let word = Arc::clone(&word);
                    thread::spawn(move || apply(op, &word))
                });
                let mut expected = (1, 1);
                for thread in threads {
                    let (held, booked) = thread.join().unwrap();
                    expected = (expected.0 + held, expected.1 + booked);
                }
                let counts = word.counts().unwrap();
                let found = (i64::from(counts.held().get()), i64::from(counts.booked().get()));
                assert_eq!(found, expected, "CAP-1: {a:?} beside {b:?}");
                assert!(found.0 + found.1 <= i64::from(counts.capacity().get()), "CAP-1: {a:?} beside {b:?}");
            });
        }
    }
}

/// Whoever takes a unit that another gave back sees what the giver wrote before it: the giver's journal entry.
// rule: JNL-1
#[test]
fn every_give_publishes_what_came_before_it_to_every_take() {
    for give in [Op::Release, Op::Expire, Op::Cancel, Op::Grow, Op::Open, Op::Unreserve] {
        for take in [Op::Hold, Op::Book, Op::Offer] {
            if (give, take) == (Op::Unreserve, Op::Offer) {
                // An offer does not wait for the flag to go.
                continue;
            }
            loom::model(move || {
                let word = SlotWord::new();
                assert!(word.publish(units(1)));
                // One unit, taken in the way that `give` gives back, or kept out by the capacity or the flag.
                match give {
                    Op::Release | Op::Expire => assert!(matches!(word.hold(units(1)), Take::Taken(_))),
                    Op::Cancel => assert!(matches!(word.book(units(1)), Take::Taken(_))),
                    Op::Unreserve => assert!(word.reserve(ReservedFor::Waitlist).is_reserved()),
                    Op::Grow => assert!(matches!(word.resize(units(0)), Resize::Resized(_))),
                    _ => {
                        let _ = word.close();
                    }
                }
                let word = Arc::new(word);
                let entry = Arc::new(AtomicU64::new(0));
                let taker = {
                    let (word, entry) = (Arc::clone(&word), Arc::clone(&entry));
                    thread::spawn(move || {
                        let (held, booked) = apply(take, &word);
                        if held + booked == 1 {
                            assert_eq!(entry.load(Relaxed), 1, "JNL-1: {take:?} outran {give:?}");
                        }
                    })
                };
                let giver = thread::spawn(move || {
                    entry.store(1, Relaxed);
                    let _ = apply(give, &word);
                });
                taker.join().unwrap();
                giver.join().unwrap();
            });
        }
    }
}

/// Whoever reserves a slot with a free unit in it either finds the unit taken, or nobody else takes it.
// rule: WTL-2
#[test]
fn a_unit_is_passed_on_or_kept_and_never_both() {
    for take in [Op::Hold, Op::Book] {
        loom::model(move || {
            let word = Arc::new(SlotWord::new());
            assert!(word.publish(units(1)));
            let owner = {
                let word = Arc::clone(&word);
                thread::spawn(move || {
                    let seen = word.reserve(ReservedFor::Waitlist);
                    (seen.free().get(), matches!(word.hold_offered(units(1)), Take::Taken(_)))
                })
            };
            let rival = {
                let word = Arc::clone(&word);
                thread::spawn(move || apply(take, &word))
            };
            let (free, offered) = owner.join().unwrap();
            let (held, booked) = rival.join().unwrap();
            assert_eq!(free == 1, offered, "WTL-2: {take:?} took a unit that was seen reserved");
            assert_eq!(held + booked, i64::from(!offered), "WTL-2: {take:?}");
        });
    }
}

/// Who sees a slot published sees its facts.
#[test]
fn publish_makes_the_facts_visible() {
    loom::model(|| {
        let word = Arc::new(SlotWord::new());
        let facts = Arc::new(AtomicU64::new(0));
        let reader = {
            let (word, facts) = (Arc::clone(&word), Arc::clone(&facts));
            thread::spawn(move || {
                if word.counts().is_some() {
                    assert_eq!(facts.load(Relaxed), 1);
                }
            })
        };
        let publisher = thread::spawn(move || {
            facts.store(1, Relaxed);
            assert!(word.publish(units(1)));
        });
        reader.join().unwrap();
        publisher.join().unwrap();
    });
}
