//! Keys: what they stand for, how long, and how replay puts them back.

use proptest::prelude::*;

use super::*;

fn idempotency(key: u128) -> Idempotency {
    Idempotency { key: IdempotencyKey(key), fingerprint: 1 }
}

fn row(key: u128, at: u64, seq: u64) -> KeyRow {
    KeyRow::new(idempotency(key), TimestampMs(at), Seq(seq), Remembered::Noted)
}

fn finish(keys: &Keys, key: u128, now: u64) {
    let Begun::Fresh(claim) = keys.begin(idempotency(key), TimestampMs(now)) else { panic!("not fresh") };
    claim.done(Seq(9), Remembered::Noted);
}

#[test]
fn every_outcome_is_remembered_whole() {
    let first = BookingNumber((1 << 56) - 1);
    for outcome in [
        Remembered::PartiesAdded { first: u32::MAX, count: 1 },
        Remembered::Published { count: u32::MAX },
        Remembered::Noted,
        Remembered::Held { first, len: 16 },
        Remembered::Booked { first, len: 1 },
        Remembered::Confirmed { first, len: 255 },
        Remembered::Released { first, len: 2 },
        Remembered::Expired { first, len: 3 },
        Remembered::Cancelled { booking: first },
        Remembered::Moved { from: first },
        Remembered::SlotChanged { slot: u32::MAX },
        Remembered::WalkedIn { number: first },
        Remembered::FactsChanged { party: u32::MAX },
        Remembered::Recorded,
    ] {
        let seq = Seq((1 << 60) - 1);
        assert_eq!(Known::done(7, seq, outcome).outcome(), Some((seq, outcome)));
    }
    assert!(Known::RUNNING.outcome().is_none());
    assert_eq!(size_of::<(MapKey, Known)>(), 40);
}

// rule: IDM-1
#[test]
fn a_refused_key_is_free_again_and_a_done_one_is_not() {
    let keys = Keys::new(10, Duration::from_secs(1));
    let Begun::Fresh(claim) = keys.begin(idempotency(1), TimestampMs(0)) else { panic!("not fresh") };
    assert!(matches!(keys.begin(idempotency(1), TimestampMs(0)), Begun::Running));
    drop(claim);
    finish(&keys, 1, 0);
    assert!(matches!(keys.begin(idempotency(1), TimestampMs(0)), Begun::Done { seq: Seq(9), .. }));
    let other = Idempotency { fingerprint: 2, ..idempotency(1) };
    assert!(matches!(keys.begin(other, TimestampMs(0)), Begun::Conflict { .. }));
}

/// Done, forgotten, done again, and read back from a journal with both: the old line forgets nothing new.
// rule: IDM-1
#[test]
fn a_key_done_again_after_its_window_is_kept_for_its_second_window() {
    let keys = Keys::new(10, Duration::from_millis(100));
    let rows = [(0, 1), (150, 2)].map(|(at, seq)| row(1, at, seq));
    assert!(keys.restore(&rows, Seq(0), &mut Sorter::default()));
    keys.forget_old(TimestampMs(160), 10);
    assert!(matches!(keys.begin(idempotency(1), TimestampMs(160)), Begun::Done { seq: Seq(2), .. }));
    keys.forget_old(TimestampMs(250), 10);
    assert!(keys.get(IdempotencyKey(1)).is_none());
}

proptest! {
    /// However many are put back at once, and whatever a snapshot had of them: the same keys stand for the same outcomes, and the
    /// same are kept.
    // rule: IDM-1
    #[test]
    fn keys_put_back_together_are_those_put_back_one_by_one(
        keys in prop::collection::vec(0u128..40, 1..200),
        had in prop::collection::btree_set(0usize..200, 0..40),
        at_once in 1usize..100,
        each_once in any::<bool>(),
        len_max in 5usize..60,
    ) {
        let keys: Vec<u128> = if each_once { (0..keys.len() as u128).collect() } else { keys };
        let rows: Vec<KeyRow> = keys.iter().zip(1..).map(|(key, seq)| row(*key, 0, seq)).collect();
        let had: Vec<KeyRow> = had.iter().filter_map(|index| rows.get(*index)).copied().collect();
        let seen = Seq(rows.len() as u64 / 2);
        let had: Vec<KeyRow> = had.into_iter().filter(|row| row.known().seq() <= seen).collect();
        let restored = [1, at_once].map(|at_once| {
            let restored = Keys::new(len_max, Duration::from_secs(1));
            for rows in [(&had, Seq(0)), (&rows, seen)].into_iter().flat_map(|(rows, seen)| rows.chunks(at_once).map(move |rows| (rows, seen))) {
                assert!(restored.restore(rows.0, rows.1, &mut Sorter::default()));
            }
            let all = (0..200).map(|key| restored.get(IdempotencyKey(key)));
            (all.collect::<Vec<_>>(), restored.len(), restored.copy_from(0).0.iter().map(|row| row.0).collect::<Vec<_>>())
        });
        prop_assert_eq!(&restored[0], &restored[1]);
        // What a snapshot had counts once.
        prop_assert!(!each_once || restored[0].1 == rows.len().min(len_max));
        let newest = keys.last().map(|key| restored[0].0[usize::try_from(*key).unwrap()]);
        prop_assert_eq!(newest, Some(Some(Some((Seq(keys.len() as u64), Remembered::Noted)))));
    }
}

#[test]
fn keys_are_kept_for_the_window_and_number_whichever_is_less() {
    let keys = Keys::new(3, Duration::from_millis(100));
    for key in 0..4 {
        finish(&keys, key, 0);
    }
    assert!(keys.get(IdempotencyKey(0)).is_none(), "the oldest gives way to the fourth");
    assert!(keys.get(IdempotencyKey(1)).is_some());
    keys.forget_old(TimestampMs(99), 10);
    assert!(keys.get(IdempotencyKey(1)).is_some(), "still inside the window");
    keys.forget_old(TimestampMs(100), 10);
    assert!(keys.get(IdempotencyKey(1)).is_none() && keys.get(IdempotencyKey(3)).is_none());
    assert_eq!(keys.len(), 0);
}
