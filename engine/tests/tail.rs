//! The log followed while it grows: every durable entry once and in order, from any frame on, and nothing trimmed that is
//! still to be read.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use berth_engine::journal::Entry;
use berth_engine::*;
use support::{book, config, open, run, seed};

/// So long that only a tail that never wakes meets it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything the tail can show now, and where each frame ended.
fn drain(tail: &mut LogTail) -> (Vec<(Seq, Entry)>, Vec<LogPlace>) {
    let (mut entries, mut places) = (Vec::new(), Vec::new());
    while tail.next(&mut |seq, _, entry| entries.push((seq, entry.clone()))).unwrap() {
        places.push(tail.place());
    }
    (entries, places)
}

/// Notes until the log has `segments` segments more.
fn fill(engine: &Engine, segments: usize) {
    let note = vec![7; 100 << 10];
    for _ in 0..segments * 11 {
        let (_, seq) = run(engine, Command::Note { note: &note });
        engine.ticket(seq).wait().unwrap();
    }
}

#[test]
fn a_tail_shows_every_durable_entry_once_and_in_order_while_callers_race() {
    const CALLERS: u32 = 4;
    const EACH: u32 = 300;
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let mut tail = engine.tail(LogPlace::default()).unwrap();
    assert_eq!(drain(&mut tail).0, [], "a fresh log has nothing to show, and that is no error");
    let slot = seed(&engine, CALLERS * EACH, CALLERS * EACH);
    // What was decided while the tail ran, in whatever batches the writer made of it.
    let followed = std::thread::scope(|scope| {
        let engine = &engine;
        for caller in 0..CALLERS {
            scope.spawn(move || {
                for party in caller * EACH..(caller + 1) * EACH {
                    let (booking, _) = book(engine, party, slot);
                    let (_, seq) = run(engine, Command::Cancel { booking, by: By::Holder });
                    if party % 50 == 0 {
                        engine.ticket(seq).wait().unwrap();
                    }
                }
            });
        }
        scope
            .spawn(move || {
                let mut entries = Vec::new();
                while entries.len() < 2 + 2 * (CALLERS * EACH) as usize {
                    assert!(tail.wait(PATIENCE).unwrap(), "it never wakes");
                    entries.extend(drain(&mut tail).0);
                    let shown = entries.last().map_or(Seq(0), |(seq, _): &(Seq, Entry)| *seq);
                    assert!(shown <= engine.durable(), "entry {shown} is shown and not durable");
                }
                entries
            })
            .join()
            .unwrap()
    });
    engine.close().unwrap();
    drop(engine);
    let mut kept = Vec::new();
    let files = JournalFiles::open(dir.path()).unwrap();
    files.entries(&mut |seq, _, entry| kept.push((seq, entry.clone()))).unwrap();
    assert_eq!(followed, kept);
}

#[test]
fn a_tail_goes_on_behind_any_frame_and_refuses_the_place_of_another_log() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 10);
    for party in 0..5 {
        let (_, seq) = book(&engine, party, slot);
        engine.ticket(seq).wait().unwrap();
    }
    fill(&engine, 2);
    engine.close().unwrap();
    drop(engine);
    // Another run: another epoch, another segment.
    let engine = open(&config);
    let (_, seq) = book(&engine, 9, slot);
    engine.ticket(seq).wait().unwrap();
    let (all, places) = drain(&mut engine.tail(LogPlace::default()).unwrap());
    assert_eq!(all.iter().map(|(seq, _)| seq.0).collect::<Vec<_>>(), (1..=seq.0).collect::<Vec<_>>());
    let mut epochs = Vec::new();
    let mut tail = engine.tail(LogPlace::default()).unwrap();
    while tail.next(&mut |_, epoch, _| epochs.push(epoch)).unwrap() {}
    assert_eq!((epochs.first(), epochs.last()), (Some(&Epoch(1)), Some(&Epoch(2))));

    for place in &places {
        let (rest, _) = drain(&mut engine.tail(*place).unwrap());
        assert_eq!(rest, all[usize::try_from(place.seq.0).unwrap()..], "behind {place:?}");
    }
    let mut wrong = places[2];
    wrong.link.0 ^= 1;
    let told = engine.tail(wrong).unwrap().next(&mut |_, _, _| panic!("it shows what does not follow"));
    assert_eq!(told, Err(FollowError::OtherLog(wrong)));
    let past = LogPlace { seq: Seq(all.len() as u64 + 5), link: wrong.link };
    assert_eq!(engine.tail(past).unwrap().next(&mut |_, _, _| ()), Ok(false), "past the end there is nothing yet");
    assert!(Engine::in_memory(&config.limits, Arc::new(AllowAll)).tail(LogPlace::default()).is_none());
}

// rule: SNP-2
#[test]
fn the_log_is_not_trimmed_past_what_a_tail_needs_and_is_once_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path()));
    let slot = seed(&engine, 10, 10);
    let (_, seq) = book(&engine, 0, slot);
    engine.ticket(seq).wait().unwrap();
    // A registered tail that has read nothing yet, and one that has let go of what it read.
    let mut needs_all = engine.tail(LogPlace::default()).unwrap();
    let mut far = engine.tail(LogPlace::default()).unwrap();
    for party in 1..4 {
        book(&engine, party, slot);
        fill(&engine, 2);
        drain(&mut far);
        far.let_go(far.place().seq);
        assert_eq!(engine.snapshot().unwrap().unwrap().segments_trimmed, 0, "one tail still needs the beginning");
    }
    assert_eq!(drain(&mut needs_all).0.len() as u64, engine.durable().0);
    drop(needs_all);
    // Also where nothing is new: on a full disk nothing new comes before the log is trimmed.
    let segments = || std::fs::read_dir(dir.path().join("journal")).unwrap().count();
    let before = segments();
    assert_eq!(engine.snapshot().unwrap(), None);
    assert!(segments() < before, "{before} segments, and none is let go");
    let (_, seq) = book(&engine, 4, slot);
    engine.ticket(seq).wait().unwrap();
    let taken = engine.snapshot().unwrap().unwrap();
    assert!(taken.segments_trimmed > 0, "a tail that is gone holds nothing back");
    let (rest, _) = drain(&mut far);
    assert_eq!(rest.len(), 1, "what was let go is trimmed behind the one that goes on");

    // Who comes late is told where the log begins, and can go on from there.
    let mut late = engine.tail(LogPlace::default()).unwrap();
    let Err(FollowError::Trimmed { oldest }) = late.next(&mut |_, _, _| panic!("it shows what does not follow")) else {
        panic!("not told that the log was trimmed")
    };
    assert!(oldest.seq > Seq(0));
    let (rest, _) = drain(&mut engine.tail(oldest).unwrap());
    assert_eq!(rest.first().map(|(seq, _)| *seq), Some(oldest.seq.next()));
    assert_eq!(rest.last().map(|(seq, _)| *seq), Some(engine.durable()));
}

#[test]
fn a_wait_ends_with_the_time_with_an_entry_and_with_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path()));
    let mut tail = engine.tail(LogPlace::default()).unwrap();
    assert_eq!(tail.wait(Duration::from_millis(1)), Ok(false));
    let slot = seed(&engine, 1, 1);
    assert_eq!(tail.wait(PATIENCE), Ok(true));
    book(&engine, 0, slot);
    engine.close().unwrap();
    assert_eq!(drain(&mut tail).0.len(), 3, "what is durable is shown after the end, too");
    assert!(tail.wait(PATIENCE).is_err());
}
