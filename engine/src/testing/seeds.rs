//! Where fuzzing begins: small inputs for each decoder, made from what a real cell writes, so that no run spends its time on finding
//! the way to the first checksum.
//!
//! Made anew whenever they are needed: a format that changes leaves none behind.

use std::sync::Arc;
use std::time::Duration;

use super::decoders::shipped;
use super::disk::MemoryDisk;
use crate::clock::Clock;
use crate::command::{By, Claim, Command, PartyFacts, Request, SlotFacts, SlotSpec};
use crate::config::Config;
use crate::engine::Engine;
use crate::ids::{BookingNumber, CentreKey, Dose, Idempotency, IdempotencyKey, PartyId, SlotId};
use crate::journal::entry::Entry;
use crate::journal::frame::Frame;
use crate::journal::segment::{self, SEGMENT_HEADER_BYTES};
use crate::journal::snapshot as snapshot_file;
use crate::journal::storage::Storage;
use crate::journal::writer::Turn;
use crate::open::Parts;
use crate::policy::AllowAll;
use crate::units::Units;

/// A decoder in [`super::decoders`], by the name of its fuzz target, and inputs for it.
#[derive(Debug)]
pub struct Seeds {
    /// The fuzz target.
    pub target: &'static str,
    /// What it is given; whether something in it was taken as whole.
    pub decoder: fn(&[u8]) -> bool,
    /// Inputs, each of a few KiB at most.
    pub inputs: Vec<Vec<u8>>,
}

/// Seeds for every decoder.
///
/// # Panics
/// If a cell in memory cannot do what it is asked.
#[must_use]
pub fn seeds() -> Vec<Seeds> {
    use super::decoders;
    let (segment, snapshot) = files();
    let frames = frames(&segment);
    let last = frames.last().map_or(0, |frame| u8::try_from(frame.header.last().0).expect("few entries"));
    // What a target makes of pieces: a byte of what each is, two of its length, then so many.
    let pieces = |kind: &dyn Fn(usize) -> u8, payloads: &[Vec<u8>]| -> Vec<u8> {
        let piece = |(at, payload): (usize, &Vec<u8>)| {
            let len = u16::try_from(payload.len()).expect("small pieces").to_le_bytes();
            [&[kind(at)][..], &len, payload].concat()
        };
        payloads.iter().enumerate().flat_map(piece).collect()
    };
    let payloads: Vec<Vec<u8>> = frames.iter().map(|frame| frame.payload().to_vec()).collect();
    let chunks = chunks(&snapshot);
    let chunk_payloads: Vec<Vec<u8>> = chunks.iter().map(|(_, _, payload)| payload.clone()).collect();
    let chunk_kind = |at: usize| (chunks[at].0 - 1) << 4 | chunks[at].1.min(15);
    let counted = |payload: &Vec<u8>| [&[0][..], payload].concat();
    vec![
        Seeds { target: "entry", decoder: decoders::entry, inputs: entries(&frames) },
        Seeds {
            target: "frame",
            decoder: decoders::frame,
            inputs: frames.iter().map(|frame| frame.bytes.to_vec()).chain(payloads.iter().map(counted)).collect(),
        },
        Seeds {
            target: "segment",
            decoder: decoders::segment,
            inputs: vec![segment.clone(), pieces(&|_| 0, &payloads), pieces(&|at| u8::from(at > 3) << 7, &payloads)],
        },
        Seeds {
            target: "snapshot",
            decoder: decoders::snapshot,
            inputs: vec![snapshot.clone(), pieces(&chunk_kind, &chunk_payloads)],
        },
        Seeds {
            target: "stream",
            decoder: decoders::stream,
            inputs: vec![
                shipped(&segment),
                // A head that ends where the frames do, with the link of the last, and frames sealed in their places.
                [&[6, 1, 0, 0, 0, 0, 0][..], &pieces(&|_| 0, &payloads)].concat(),
                // A snapshot in one piece, made whole, and nothing behind it.
                [&[15, 1, last, 0, last, last, 1][..], &pieces(&|_| 0xC0, &[pieces(&chunk_kind, &chunk_payloads)])]
                    .concat(),
            ],
        },
    ]
}

/// The used bytes of a segment and a whole snapshot, of a cell in which something of nearly every kind happened.
fn files() -> (Vec<u8>, Vec<u8>) {
    let disk = MemoryDisk::new(1);
    let mut config = Config::new("memory");
    config.limits.parties_max = 1000;
    config.limits.slots_max = 1000;
    config.limits.bookings_max = 1000;
    config.limits.idempotency_keys_max = 1000;
    config.journal.segment_bytes = 64 << 10;
    config.journal.buffer_bytes = 16 << 10;
    let storage = Arc::new(disk.clone());
    let opened = Engine::assemble(storage, None, &config, Arc::new(AllowAll), &Clock::start, &mut |_| {});
    let (engine, Parts { mut writer, .. }, _) = opened.expect("a new directory opens");
    let mut key = 0;
    let mut run = |command: Command<'_>| {
        key += 1;
        // Every other one has a key.
        let idempotency = (key % 2 == 0).then_some(Idempotency { key: IdempotencyKey(key), fingerprint: 1 });
        let told = engine.submit(&Request { command, idempotency }, engine.now()).expect("the journal runs");
        told.result.unwrap_or_else(|refusal| panic!("{command:?}: {refusal:?}"));
        assert_eq!(writer.turn(), Turn::Wrote);
    };
    let claim = |party, slot| Claim { party: PartyId(party), slot: SlotId(slot), dose: Dose(1) };
    let ttl = Duration::from_secs(60);
    run(Command::AddParties { count: 20, facts: PartyFacts { birth_year: 1980, cohorts: 5, ..PartyFacts::default() } });
    let capacity = Units::new(9).expect("small");
    let facts = SlotFacts { starts_at: engine.now().plus(Duration::from_secs(3600)), ..SlotFacts::default() };
    let spec = SlotSpec { centre: CentreKey(1), capacity, facts };
    run(Command::Publish { slots: &[spec, spec], note: b"a note" });
    run(Command::Note { note: b"another" });
    run(Command::Hold { claims: &[claim(0, 0), claim(1, 0), claim(2, 1)], ttl });
    run(Command::Confirm { hold: BookingNumber(0) });
    run(Command::Hold { claims: &[claim(3, 0)], ttl });
    run(Command::Release { hold: BookingNumber(3) });
    run(Command::Book { claims: &[claim(4, 0), claim(5, 1)] });
    run(Command::Move { booking: BookingNumber(0), to: SlotId(1), by: By::Holder });
    run(Command::Move { booking: BookingNumber(4), to: SlotId(1), by: By::Administration });
    run(Command::Cancel { booking: BookingNumber(1), by: By::Holder });
    run(Command::Hold { claims: &[claim(6, 0)], ttl });
    let facts = PartyFacts { birth_year: 1990, ..PartyFacts::default() };
    run(Command::ChangeFacts { party: PartyId(7), facts, expected: None, note: b"why" });
    run(Command::Offer { claim: claim(8, 0), ttl, note: b"for" });
    run(Command::Record { kind: 1, bytes: b"sealed", urgent: false });
    run(Command::WalkIn { claim: claim(7, 1) });
    run(Command::CompleteNoted { booking: BookingNumber(10), given_at: engine.now(), product: None, note: b"batch" });
    run(Command::Resize { slot: SlotId(0), capacity: Units::new(5).expect("small") });
    let taken = engine.begin_snapshot().expect("it can be taken").expect("something has happened");
    engine.publish_snapshot(taken).expect("it is named");
    let mut bytes = disk.read(&segment::name(1)).expect("the first segment");
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used.next_multiple_of(8));
    let s0 = snapshot_file::list(&disk).expect("it can be listed")[0];
    (bytes, disk.read(&snapshot_file::name(s0)).expect("the snapshot"))
}

fn frames(segment: &[u8]) -> Vec<Frame<'_>> {
    let (mut frames, mut at) = (Vec::new(), SEGMENT_HEADER_BYTES);
    while let Ok(frame) = Frame::read(&segment[at..]) {
        at += frame.bytes.len();
        frames.push(frame);
    }
    frames
}

/// Each entry as bytes.
fn entries(frames: &[Frame<'_>]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    for frame in frames {
        let each = |_, entry: Entry| {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            entries.push(bytes);
        };
        frame.entries(each).expect("entries of a whole frame");
    }
    entries
}

/// The kind, the number of records and the payload of each chunk but the last, whose place is its kind.
fn chunks(snapshot: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let number = |at: usize| u32::from_le_bytes([snapshot[at], snapshot[at + 1], snapshot[at + 2], snapshot[at + 3]]);
    let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    let (mut chunks, mut at) = (Vec::new(), 64);
    while at < snapshot.len() {
        let len = number(at + 12) as usize;
        chunks.push((small(number(at + 4)), small(number(at + 8)), snapshot[at + 40..at + 40 + len].to_vec()));
        at += (40 + len).next_multiple_of(8);
    }
    chunks
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    /// Where a run begins is behind every checksum.
    #[test]
    fn every_seed_is_small_and_is_taken_as_whole() {
        for Seeds { target, decoder, inputs } in seeds() {
            assert!(inputs.len() > 1, "{target}");
            for (number, input) in inputs.iter().enumerate() {
                assert!(input.len() <= 8 << 10, "{target} {number} has {} bytes", input.len());
                assert!(decoder(input), "{target} {number} is refused");
            }
        }
    }
}
