//! docs/journal-format.md held against the code: every example on the page is what the code writes, and every kind of entry and of
//! chunk has one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::directory;
use super::entry::{Entry, Event, KINDS, PublishedSlot};
use super::frame::{Frame, FrameHeader, Link};
use super::segment::{FORMAT_VERSION, SegmentHeader};
use super::snapshot::{self, ChunkKind, SnapshotHeader, SnapshotReader, SnapshotWriter};
use super::storage::Disk;
use crate::command::{By, Claim, Given, NumberedClaim, PartyFacts, Places, SlotFacts};
use crate::ids::*;
use crate::units::{TimestampMs, Units};
use crate::verify::records::{Record, records};

const PAGE: &str = include_str!("../../../docs/journal-format.md");
const AT: TimestampMs = TimestampMs(1_795_500_000_000);
const PREVIOUS: Link = Link(0x1122_3344_5566_7788);

/// The blocks of the page that begin with ```` ```hex NAME ````. What follows a semicolon is for the reader.
fn examples() -> BTreeMap<String, Vec<u8>> {
    let mut examples = BTreeMap::new();
    for block in PAGE.split("```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let (lines, _) = rest.split_once("```").unwrap();
        let bytes = lines.lines().flat_map(|line| line.split(';').next().unwrap().split_whitespace());
        let bytes = bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert!(examples.insert(name.to_owned(), bytes).is_none(), "{name} stands twice");
    }
    examples
}

fn claim(party: u32, slot: u32) -> Claim {
    Claim { party: PartyId(party), slot: SlotId(slot), dose: Dose(1) }
}

fn facts() -> PartyFacts {
    PartyFacts { birth_year: 1980, cohorts: 5, ..PartyFacts::default() }
}

fn moved(by: By) -> Event {
    let to = NumberedClaim { number: BookingNumber(44), claim: claim(11, 6) };
    Event::Moved { from: BookingNumber(43), to, by }
}

/// One of each kind.
fn entries() -> Vec<Entry> {
    let (hold, booking) = (BookingNumber(41), BookingNumber(43));
    let slot = SlotFacts {
        programme: ProgrammeId(1),
        dose: Dose(1),
        product: ProductId(2),
        pool: PoolId(3),
        starts_at: TimestampMs(AT.0 + 3_600_000),
    };
    let slot = PublishedSlot { slot: SlotId(5), centre: CentreKey(7), capacity: Units::new(20).unwrap(), facts: slot };
    let claims = [claim(9, 5), claim(10, 5)].into_iter().collect();
    let events = vec![
        Event::PartiesAdded { first: PartyId(0), count: 1000, facts: facts() },
        Event::Published { slots: vec![slot], note: b"note".to_vec() },
        Event::Note { note: b"note".to_vec() },
        Event::Held { first: hold, expires_at: TimestampMs(AT.0 + 60_000), claims },
        Event::Booked { first: booking, claims: [claim(11, 5)].into_iter().collect() },
        Event::Confirmed { hold, len: 2 },
        Event::Released { hold, len: 2 },
        Event::Expired { hold, len: 2 },
        Event::Cancelled { booking },
        moved(By::Holder),
        Event::SlotChanged { slot: SlotId(5), capacity: Units::new(18).unwrap(), open: true },
        Event::HoldsGraced { from: TimestampMs(AT.0 + 1), until: TimestampMs(AT.0 + 120_000) },
        Event::GroupCancelled { hold, places: Places::new(0b11).unwrap(), by: By::Administration },
        Event::CheckedIn { booking },
        Event::Completed { booking, given: Given { doses: 1, product: ProductId(2), day: 20_781 } },
        Event::NoShow { booking },
        Event::WalkedIn { claim: NumberedClaim { number: BookingNumber(45), claim: claim(12, 5) } },
        moved(By::Administration),
        Event::FactsChanged { party: PartyId(9), facts: facts(), note: b"why".to_vec() },
        Event::Recorded { kind: 1, bytes: b"sealed".to_vec() },
        Event::CompletedNoted {
            booking,
            given: Given { doses: 1, product: ProductId(2), day: 20_781 },
            note: b"note".to_vec(),
        },
        Event::Offered {
            number: BookingNumber(46),
            expires_at: TimestampMs(AT.0 + 60_000),
            claim: claim(13, 5),
            note: b"why".to_vec(),
        },
    ];
    let key = Idempotency {
        key: IdempotencyKey(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        fingerprint: 0x0102_0304_0506_0708,
    };
    let keyed = |event: &Event| matches!(event, Event::Held { .. }).then_some(key);
    events.into_iter().map(|event| Entry { at: AT, idempotency: keyed(&event), event }).collect()
}

fn encoded(kind: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    entries().iter().find(|entry| entry.event.kind() == kind).unwrap().encode(&mut bytes);
    bytes
}

/// The frame of the page: entries 120 and 121.
fn frame() -> Vec<u8> {
    let mut frame = vec![0; super::frame::FRAME_HEADER_BYTES];
    frame.extend([encoded("confirmed"), encoded("cancelled")].concat());
    let payload_bytes = u32::try_from(frame.len() - super::frame::FRAME_HEADER_BYTES).unwrap();
    FrameHeader { count: 2, payload_bytes, epoch: Epoch(3), first: Seq(120), previous: PREVIOUS }.seal(&mut frame);
    frame
}

fn what_the_code_writes() -> BTreeMap<String, Vec<u8>> {
    let mut written: BTreeMap<_, _> = KINDS.iter().map(|kind| (format!("entry {kind}"), encoded(kind))).collect();
    written.insert("frame".to_owned(), frame());
    let header = SegmentHeader {
        version: FORMAT_VERSION,
        cell: CellId(1),
        index: 4,
        epoch: Epoch(3),
        segment_bytes: 1 << 20,
        first: Seq(120),
        previous: PREVIOUS,
    };
    written.insert("segment header".to_owned(), header.to_bytes().to_vec());
    written
}

/// The snapshot of the page: its header, then a chunk of each kind.
const CHUNKS: [(ChunkKind, &str, u32); 6] = [
    (ChunkKind::Catalogue, "chunk catalogue", 1),
    (ChunkKind::Parties, "chunk parties", 1),
    (ChunkKind::Slots, "chunk slots", 1),
    (ChunkKind::Bookings, "chunk bookings", 2),
    (ChunkKind::Keys, "chunk keys", 1),
    (ChunkKind::End, "chunk end", 1),
];

#[test]
fn every_example_is_what_the_code_writes_and_every_kind_has_one() {
    let mut examples = examples();
    for (name, bytes) in what_the_code_writes() {
        let example = examples.remove(&name).unwrap_or_else(|| panic!("no example of {name}: {bytes:02x?}"));
        assert_eq!(example, bytes, "{name}");
    }
    for (_, name, _) in CHUNKS {
        examples.remove(name).unwrap_or_else(|| panic!("no example of {name}"));
    }
    examples.remove("snapshot header");
    assert_eq!(examples.into_keys().collect::<Vec<_>>(), [""; 0], "examples of nothing");
}

#[test]
fn the_examples_read_back_as_what_they_say() {
    let examples = examples();
    for entry in entries() {
        let bytes = &examples[&format!("entry {}", entry.event.kind())];
        assert_eq!(Entry::decode(bytes), Ok((entry, bytes.len())));
    }
    let frame = Frame::read(&examples["frame"]).unwrap();
    let mut seqs = Vec::new();
    frame.entries(|seq, _| seqs.push(seq)).unwrap();
    assert_eq!(seqs, [Seq(120), Seq(121)]);
    let page = PAGE.split_whitespace().find_map(|word| word.strip_prefix("key=")).unwrap();
    let code_key = std::array::from_fn(|at| u8::try_from(at).unwrap());
    assert!(directory::meta(CellId(1), code_key).ends_with(&format!("key={page}\n")), "{page}");
}

/// The snapshot writer makes the header and the chunks; what is in them are the page's payloads, read here record by record.
#[test]
fn the_snapshot_of_the_page_is_written_and_read_back_so() {
    let examples = examples();
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(Disk::new(dir.path(), false));
    let header = SnapshotHeader { cell: CellId(1), epoch: Epoch(3), s0: Seq(121), newest: AT };
    let mut writer = SnapshotWriter::create(Arc::clone(&storage) as _, header).unwrap();
    let mut whole = examples["snapshot header"].clone();
    for (kind, name, count) in CHUNKS {
        let example = &examples[name];
        let len = u32::from_le_bytes(example[12..16].try_into().unwrap()) as usize;
        writer.chunk(kind, count, &example[40..40 + len]).unwrap();
        whole.extend_from_slice(example);
    }
    writer.sync().unwrap();
    writer.publish().unwrap();
    let name = snapshot::name(Seq(121));
    assert_eq!(std::fs::read(dir.path().join(&name)).unwrap(), whole, "the writer's bytes, not the page's");

    let reader = SnapshotReader::open(&*storage, &name, CellId(1)).unwrap();
    let mut read = Vec::new();
    reader
        .chunks(&mut |kind, count, payload| {
            records(kind, count, payload, &mut |record| {
                read.push(record);
                Ok(())
            })
        })
        .unwrap();
    let [
        Record::Catalogue(Seq(3), note),
        Record::Parties { count: 1000, facts: run },
        Record::Slot { slot: SlotId(5), capacity, open: true },
        Record::Booking(booking),
        Record::Key { key, at: AT, seq: Seq(119), fingerprint },
        Record::End(totals),
    ] = &read[..]
    else {
        panic!("{read:#?}")
    };
    assert_eq!((&note.event, *run, capacity.get()), (&Event::Note { note: b"note".to_vec() }, facts(), 18));
    assert_eq!((booking.number, booking.claim, booking.seq), (BookingNumber(41), claim(9, 5), Seq(120)));
    assert_eq!((booking.state, booking.group_index, booking.group_len), (crate::booking::State::Booked, 0, 2));
    assert_eq!((booking.programme, booking.link), (ProgrammeId(1), None));
    let held = entries().into_iter().find_map(|entry| entry.idempotency).unwrap();
    assert_eq!((*key, *fingerprint), (held.key, held.fingerprint));
    assert_eq!((totals.s1, totals.parties, totals.bookings_end, totals.keys), (Seq(124), 1000, 43, 1));
}
