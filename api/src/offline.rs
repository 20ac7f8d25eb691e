//! Reading a data directory that no server owns: `berth export` and `berth verify`.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::verify::Ledger;
use berth_engine::{BookingNumber, Claim, Epoch, JournalFiles, Limits, Seq};
use berth_programme::Calendar;
use serde_json::{Map, Value, json};

use crate::cli;
use crate::export::{self, Sink, Stopped};
use crate::wire::Names;

/// `berth export`
pub(crate) fn export(data_dir: &Path, limits: &Limits) -> Result<ExitCode, String> {
    let (engine, catalogue) = berth_programme::open_read_only(data_dir, limits).map_err(|error| error.to_string())?;
    export::everything(&engine, &catalogue, &mut Stdout).map_err(|Stopped| cannot_write())?;
    Ok(ExitCode::SUCCESS)
}

/// `berth export --entries`
pub(crate) fn export_entries(data_dir: &Path) -> Result<ExitCode, String> {
    let files = JournalFiles::open(data_dir).map_err(|error| error.to_string())?;
    let (codes, calendar) = (files.codes(), Calendar::utc());
    let names = Names { cell: files.cell(), codes: &codes, calendar: &calendar };
    let mut lines = EntryLines { names, live: HashMap::new() };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    files
        .entries(&mut |seq, epoch, entry| {
            let line = lines.line(seq, epoch, entry);
            if written.is_ok() {
                written = writeln!(out, "{line}");
            }
        })
        .map_err(|error| error.to_string())?;
    written.and_then(|()| out.flush()).map_err(|_| cannot_write())?;
    Ok(ExitCode::SUCCESS)
}

/// `berth verify`
pub(crate) fn verify(data_dir: &Path, limits: &Limits) -> Result<ExitCode, String> {
    let files = JournalFiles::open(data_dir).map_err(|error| error.to_string())?;
    let mut ledger = Ledger::new(limits.idempotency_window);
    let (mut entries, mut keys) = (0u64, 0usize);
    files
        .entries(&mut |seq, _, entry| {
            entries += 1;
            keys += usize::from(entry.idempotency.is_some());
            ledger.apply(seq, entry);
        })
        .map_err(|error| error.to_string())?;
    // The journal does not say when a key had to make room for newer ones, and after that it may be used again.
    let keys_max = limits.idempotency_keys_max;
    let keys_judged = keys <= keys_max;
    let findings: Vec<_> = ledger
        .findings()
        .iter()
        .filter(|finding| keys_judged || finding.rule != "IDM-1")
        .map(|finding| json!({"rule": finding.rule, "seq": finding.seq.0, "detail": finding.detail}))
        .collect();
    let held = findings.is_empty();
    let verdict = if held { "held" } else { "broken" };
    let mut told = json!({"verdict": verdict, "entries": entries, "findings": findings});
    if !keys_judged {
        let reason = format!(
            "not judged: {keys} entries have keys, the server keeps {keys_max} and may have dropped some early"
        );
        told["idempotency"] = reason.into();
    }
    cli::say(&told.to_string())?;
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cannot_write() -> String {
    "cannot write to standard output".to_owned()
}

/// Journal entries as lines. Every line about claims names them whole, also where the entry itself only says
/// which: whoever audits the lines need not join them first.
struct EntryLines<'a> {
    names: Names<'a>,
    /// Claims that can still be resolved.
    live: HashMap<BookingNumber, Claim>,
}

impl EntryLines<'_> {
    fn line(&mut self, seq: Seq, epoch: Epoch, entry: &Entry) -> Value {
        let names = self.names;
        let mut line = Map::new();
        let mut put = |key: &str, value: Value| line.insert(key.to_owned(), value);
        put("seq", seq.0.into());
        put("at", names.time(entry.at).into());
        put("epoch", epoch.0.into());
        put("kind", entry.event.kind().into());
        if let Some(idempotency) = entry.idempotency {
            // The hash that the engine knows; the client's key is in nobody's hands but the client's.
            put("key", format!("{:032x}", idempotency.key.0).into());
        }
        match &entry.event {
            Event::PartiesAdded { first, count, .. } => {
                put("first", names.party(*first).into());
                put("count", (*count).into());
            }
            Event::Published { slots, note } => {
                let slot = |s: &berth_engine::journal::entry::PublishedSlot| json!({"slot": names.slot(s.slot), "capacity": s.capacity.get()});
                put("slots", slots.iter().map(slot).collect());
                put("note_bytes", note.len().into());
            }
            Event::Note { note } => {
                put("note_bytes", note.len().into());
            }
            Event::Held { first, expires_at, claims } => {
                put("hold", names.booking(*first).into());
                put("expires_at", names.time(*expires_at).into());
                put("claims", self.born(*first, claims));
            }
            Event::Booked { first, claims } => {
                put("hold", names.booking(*first).into());
                put("claims", self.born(*first, claims));
            }
            Event::Confirmed { hold, len } => {
                put("hold", names.booking(*hold).into());
                put("claims", self.claims(*hold, *len));
            }
            Event::Released { hold, len } | Event::Expired { hold, len } => {
                put("hold", names.booking(*hold).into());
                put("claims", self.ended(*hold, *len));
            }
            Event::Cancelled { booking } => {
                put("claims", self.ended(*booking, 1));
            }
            Event::Moved { from, to } => {
                self.live.remove(from);
                put("from", names.booking(*from).into());
                put("claims", self.born(to.number, &[to.claim]));
            }
            Event::SlotChanged { slot, capacity, open } => {
                put("slot", names.slot(*slot).into());
                put("capacity", capacity.get().into());
                put("open", (*open).into());
            }
        }
        Value::Object(line)
    }

    fn born(&mut self, first: BookingNumber, claims: &[Claim]) -> Value {
        for (number, claim) in (first.0..).map(BookingNumber).zip(claims) {
            self.live.insert(number, *claim);
        }
        (first.0..).map(BookingNumber).zip(claims).map(|(number, _)| self.claim(number)).collect()
    }

    fn claims(&self, first: BookingNumber, len: u8) -> Value {
        (first.0..first.0 + u64::from(len)).map(|number| self.claim(BookingNumber(number))).collect()
    }

    fn ended(&mut self, first: BookingNumber, len: u8) -> Value {
        let claims = self.claims(first, len);
        for number in first.0..first.0 + u64::from(len) {
            self.live.remove(&BookingNumber(number));
        }
        claims
    }

    /// Of a claim that was never made, in a journal that breaks its rules, only the code is known.
    fn claim(&self, number: BookingNumber) -> Value {
        let booking = self.names.booking(number);
        match self.live.get(&number) {
            None => json!({"booking": booking}),
            Some(claim) => json!({
                "booking": booking,
                "party": self.names.party(claim.party),
                "slot": self.names.slot(claim.slot),
                "dose": claim.dose.0,
            }),
        }
    }
}

struct Stdout;

impl Sink for Stdout {
    fn piece(&mut self, bytes: Vec<u8>) -> Result<(), Stopped> {
        std::io::stdout().lock().write_all(&bytes).map_err(|_| Stopped)
    }
}
