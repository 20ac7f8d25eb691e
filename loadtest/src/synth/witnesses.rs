//! The files of a made-up run, written line by line in the shape of the real ones (docs/history.md, docs/http-api.md).

use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;

use crate::error::{CannotRun, Doing};

/// The files that are written while people live.
pub(super) struct Witnesses {
    history: BufWriter<File>,
    entries: BufWriter<File>,
    exports: [BufWriter<File>; 2],
    verify: File,
    pub(super) lines: u64,
    pub(super) seq: u64,
    bookings: u64,
    slots: u64,
}

/// One operation, as far as a made-up one differs from another.
#[derive(Default)]
pub(super) struct Line<'a> {
    pub(super) arrival: u64,
    pub(super) op: &'a str,
    pub(super) key: Option<u64>,
    pub(super) attempt: u32,
    pub(super) sent_us: i64,
    pub(super) received_us: i64,
    pub(super) outcome: &'a str,
    pub(super) status: u16,
    /// The fields that only some have, each with its comma.
    pub(super) more: String,
}

pub(super) fn slot_name(slot: u32) -> String {
    format!("s1.{slot}")
}

pub(super) fn party_name(party: u64) -> String {
    format!("p1.{party}")
}

/// A code in the shape of the real ones.
pub(super) fn code(number: u64) -> String {
    const SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    // An odd factor: every number has a code of its own.
    let mixed = number.wrapping_add(1).wrapping_mul(0x5851_F42D_4C95_7F2D) & ((1 << 55) - 1);
    let symbol = |place: u32| char::from(SYMBOLS[usize::from((mixed >> (5 * place)).to_le_bytes()[0] & 31)]);
    let mut text = "01".to_owned();
    for place in 0..11 {
        if place == 2 || place == 7 {
            text.push('-');
        }
        text.push(symbol(10 - place));
    }
    text.push(symbol(3));
    text
}

/// A claim as requests and answers have it.
pub(super) fn claim(booking: Option<&str>, party: u64, slot: u32) -> String {
    let booking = booking.map(|code| format!("\"booking\":\"{code}\",")).unwrap_or_default();
    format!("{{{booking}\"party\":\"p1.{party}\",\"slot\":\"s1.{slot}\",\"dose\":1}}")
}

fn time(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map(|at| at.to_string()).unwrap_or_default()
}

impl Witnesses {
    pub(super) fn create(directory: &Path) -> std::result::Result<Self, CannotRun> {
        let create = |name: &str| {
            let path = directory.join(name);
            File::create(&path).doing(|| format!("create {}", path.display()))
        };
        let buffered = |name: &str| Ok(BufWriter::with_capacity(1 << 20, create(name)?));
        Ok(Self {
            history: buffered("history.ndjson")?,
            entries: buffered("entries.ndjson")?,
            exports: [buffered("export.ndjson")?, buffered("live-export.ndjson")?],
            verify: create("verify.json")?,
            lines: 0,
            seq: 0,
            bookings: 0,
            slots: 0,
        })
    }

    pub(super) fn operation(&mut self, line: &Line<'_>) -> Result<()> {
        let Line { arrival, op, attempt, sent_us, received_us, outcome, status, more, .. } = line;
        let mut text = format!("{{\"line\":\"operation\",\"arrival\":{arrival},\"op\":\"{op}\"");
        if let Some(key) = line.key {
            let _ = write!(text, ",\"key\":\"surge-5eed5eed-{key}\"");
        }
        self.lines += 1;
        writeln!(
            self.history,
            "{text},\"attempt\":{attempt}{more},\"intended_us\":{sent_us},\"sent_us\":{sent_us},\"received_us\":{received_us},\
             \"outcome\":\"{outcome}\",\"status\":{status}}}"
        )
    }

    /// An entry with what its kind has, written for a key or by the clock.
    pub(super) fn entry(&mut self, at_us: i64, kind: &str, key: Option<u64>, more: impl Display) -> Result<()> {
        self.seq += 1;
        let key = key.map(|key| format!(",\"key\":\"{:032x}\"", u128::from(key) + 1)).unwrap_or_default();
        let seq = self.seq;
        writeln!(
            self.entries,
            "{{\"at\":\"{}\",\"epoch\":1{key},\"kind\":\"{kind}\"{more},\"seq\":{seq}}}",
            time(at_us)
        )
    }

    pub(super) fn expires(us: i64) -> String {
        format!(",\"expires_at\":\"{}\"", time(us))
    }

    pub(super) fn slot(&mut self, slot: u32, capacity: u64, booked: u64) -> Result<()> {
        self.slots += 1;
        for export in &mut self.exports {
            writeln!(
                export,
                "{{\"kind\":\"slot\",\"slot\":\"s1.{slot}\",\"session\":\"{}\",\"pool\":\"dose1\",\"capacity\":{capacity},\"held\":0,\"booked\":{booked}}}",
                session(slot)
            )?;
        }
        Ok(())
    }

    pub(super) fn booking(&mut self, code: &str, hold: &str, state: &str, party: u64, slot: u32) -> Result<()> {
        self.bookings += 1;
        for export in &mut self.exports {
            writeln!(
                export,
                "{{\"kind\":\"booking\",\"booking\":\"{code}\",\"hold\":\"{hold}\",\"state\":\"{state}\",\"party\":\"p1.{party}\",\"slot\":\"s1.{slot}\",\"dose\":1}}"
            )?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<u64> {
        let Self { bookings, slots, seq, lines, .. } = self;
        writeln!(self.history, "{{\"line\":\"end\",\"lines\":{lines}}}")?;
        for mut export in self.exports {
            writeln!(export, "{{\"kind\":\"end\",\"slots\":{slots},\"bookings\":{bookings},\"seq\":{seq}}}")?;
            export.flush()?;
        }
        writeln!(self.verify, "{{\"verdict\":\"held\",\"entries\":{seq},\"findings\":[]}}")?;
        self.history.flush()?;
        self.entries.flush()?;
        Ok(lines)
    }
}

/// Sixteen slots to a session.
pub(super) fn session(slot: u32) -> String {
    format!("c{}", slot / 16)
}
