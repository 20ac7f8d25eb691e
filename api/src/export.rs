//! Everything there is as NDJSON: slots, then every hold and booking ever made, then `end`.
//!
//! Used by `GET /v1/export` beside running bookings and by `berth export` on a directory at rest. Beside
//! running bookings it is no snapshot: a slot may be read before a booking that is listed. No claim is listed
//! before it is durable, and whoever wants sums that agree stops the bookings first.

use berth_engine::{BookingView, Counts, Engine, SlotId};
use berth_programme::{Calendar, Catalogue};
use serde::Serialize;

use crate::wire::Names;

/// Where pieces of the export go.
pub(crate) trait Sink {
    /// Takes whole lines. An error ends the export.
    fn piece(&mut self, bytes: Vec<u8>) -> Result<(), Stopped>;

    /// So many bookings are in the pieces so far and the next.
    fn at(&mut self, _bookings: u64) {}

    /// Waits until what the next piece rests on may be shown: is durable, where nothing else was asked.
    fn wait(&mut self, engine: &Engine, seq: berth_engine::Seq) -> Result<(), Stopped> {
        engine.ticket(seq).wait().map_err(|_| Stopped)
    }
}

/// Nobody takes the export any more, or the journal stopped.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Bytes of one piece, about.
const PIECE_BYTES: usize = 64 << 10;
/// Whoever looks how far it is, is told at every so many.
const BOOKINGS_PER_LOOK: u64 = 4096;

#[derive(Serialize)]
struct SlotLine {
    kind: &'static str,
    slot: String,
    session: String,
    pool: String,
    capacity: u32,
    held: u32,
    booked: u32,
}

#[derive(Serialize)]
struct BookingLine {
    kind: &'static str,
    booking: String,
    hold: String,
    state: &'static str,
    party: String,
    slot: String,
    dose: u8,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct EndLine {
    kind: &'static str,
    slots: u64,
    bookings: u64,
    seq: u64,
}

/// Writes the whole export.
pub(crate) fn everything(engine: &Engine, catalogue: &Catalogue, sink: &mut dyn Sink) -> Result<(), Stopped> {
    // Read on many sites and compared byte by byte: universal time, whatever the programme's zone.
    let calendar = Calendar::utc();
    let names = Names { cell: engine.cell(), codes: engine.codes(), calendar: &calendar };
    let mut export = Export { engine, sink, buffer: Vec::new(), seq: berth_engine::Seq(0), stopped: false };
    let (mut slots, mut bookings) = (0, 0);
    engine.for_each_slot(&mut |slot, facts, counts| {
        // What is not in the catalogue yet is not durable yet.
        if let Some(place) = catalogue.slot(slot) {
            slots += 1;
            let pool = catalogue.pool_name(facts.pool);
            export.line(&slot_line(&names, slot, &place.session.id, pool, counts));
        }
    });
    engine.for_each_booking(&mut |view| {
        bookings += 1;
        export.seq = export.seq.max(view.seq);
        export.line(&booking_line(&names, &view));
        if bookings % BOOKINGS_PER_LOOK == 0 {
            export.sink.at(bookings);
        }
    });
    export.seq = engine.appended();
    export.line(&EndLine { kind: "end", slots, bookings, seq: export.seq.0 });
    export.flush();
    if export.stopped { Err(Stopped) } else { Ok(()) }
}

fn slot_line(names: &Names<'_>, slot: SlotId, session: &str, pool: String, counts: Counts) -> SlotLine {
    SlotLine {
        kind: "slot",
        slot: names.slot(slot),
        session: session.to_owned(),
        pool,
        capacity: counts.capacity().get(),
        held: counts.held().get(),
        booked: counts.booked().get(),
    }
}

fn booking_line(names: &Names<'_>, view: &BookingView) -> BookingLine {
    BookingLine {
        kind: "booking",
        booking: names.booking(view.number),
        hold: names.booking(view.hold),
        state: view.state.as_str(),
        party: names.party(view.claim.party),
        slot: names.slot(view.claim.slot),
        dose: view.claim.dose.0,
        // What was booked in one step had no deadline.
        expires_at: (view.expires_at.0 > 0).then(|| names.time(view.expires_at)),
    }
}

struct Export<'a> {
    engine: &'a Engine,
    sink: &'a mut dyn Sink,
    buffer: Vec<u8>,
    /// The newest entry that the lines in the buffer rest on.
    seq: berth_engine::Seq,
    stopped: bool,
}

impl Export<'_> {
    fn line(&mut self, line: &impl Serialize) {
        if self.stopped {
            return;
        }
        serde_json::to_writer(&mut self.buffer, line).expect("writing to memory cannot fail");
        self.buffer.push(b'\n');
        if self.buffer.len() >= PIECE_BYTES {
            self.flush();
        }
    }

    // rule: IDM-2 no answer shows what is not yet as safe as was asked
    fn flush(&mut self) {
        // Slots are read from memory and do not say what they rest on: nothing newer than this.
        self.seq = self.seq.max(self.engine.appended());
        let safe = !self.stopped && self.sink.wait(self.engine, self.seq).is_ok();
        let piece = std::mem::take(&mut self.buffer);
        self.stopped = !safe || self.sink.piece(piece).is_err();
    }
}
