//! `berth journal dump`, and `berth export --entries`: the journal's entries as lines.
//!
//! Every line about claims names them whole, also where the entry itself only says which: whoever reads the lines need not
//! join them first. For that the live claims are kept while reading; a log that was trimmed begins with those of a snapshot.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::verify::directory::each_record;
use berth_engine::verify::records::Record;
use berth_engine::{BookingNumber, Claim, JournalFiles, PartyId, Seq, SlotId, TimestampMs};
use berth_programme::Calendar;
use clap::{Args, Subcommand};

use self::line::{Claims, EntryLines, Met};
use crate::cli;
use crate::meter::{Meter, Unit};
use crate::wire::Names;

mod line;

/// What can be done with a journal.
#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Print the entries of a journal that no server owns, one JSON object a line.
    ///
    /// Filters narrow what is printed; an entry is printed if it passes all of them. A line about claims names each with
    /// party, slot and dose. A run that was cut off goes on with `--after` the last `seq` it printed. Of a log that was
    /// trimmed behind snapshots, the entries that are left are printed.
    ///
    /// Damage ends the output with one sentence that names segment and offset, and status 1; the lines before it stand.
    #[command(after_help = "Examples:\n  \
        berth journal dump --data-dir D --kind booked --kind confirmed\n  \
        berth journal dump --data-dir D --slot s1.42 --from 2026-11-24T09:00:00Z\n  \
        berth journal dump --data-dir D --after 120000")]
    Dump(DumpArgs),
}

/// What to print.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Only entries with a higher number.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    /// Only entries about this slot, as s1.42.
    #[arg(long, value_name = "SLOT")]
    slot: Option<String>,
    /// Only entries about this party, as p1.17.
    #[arg(long, value_name = "PARTY")]
    party: Option<String>,
    /// Only entries about this hold or booking, by its code.
    #[arg(long, value_name = "CODE")]
    booking: Option<String>,
    /// Only entries judged at this time or later, in RFC 3339.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only entries judged before this time, in RFC 3339.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only entries of this kind; may be given more than once.
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Show no progress on standard error.
    #[arg(long)]
    quiet: bool,
}

impl DumpArgs {
    /// Everything in a directory.
    pub(crate) fn all_of(data_dir: &Path, quiet: bool) -> Self {
        let data_dir = data_dir.to_owned();
        Self {
            data_dir,
            after: 0,
            slot: None,
            party: None,
            booking: None,
            from: None,
            to: None,
            kind: Vec::new(),
            quiet,
        }
    }
}

/// What an entry must be about.
#[derive(Debug, Default)]
struct Filter {
    after: Seq,
    slot: Option<SlotId>,
    party: Option<PartyId>,
    booking: Option<BookingNumber>,
    from: Option<TimestampMs>,
    to: Option<TimestampMs>,
    kinds: Vec<String>,
}

impl Filter {
    fn new(args: &DumpArgs, names: &Names<'_>) -> Result<Self, String> {
        if let Some(unknown) = args.kind.iter().find(|kind| !Event::kinds().contains(&kind.as_str())) {
            return Err(format!("--kind {unknown}: there is none; the kinds are {}", Event::kinds().join(" ")));
        }
        let wrong = |flag: &'static str| move |_| format!("{flag}: no such name in this cell");
        let slot = args.slot.as_deref().map(|text| names.parse_slot(text).map_err(wrong("--slot")));
        let party = args.party.as_deref().map(|text| names.parse_party(text).map_err(wrong("--party")));
        let booking = args.booking.as_deref().map(|text| names.parse_booking(text).map_err(wrong("--booking")));
        Ok(Self {
            after: Seq(args.after),
            slot: slot.transpose()?,
            party: party.transpose()?,
            booking: booking.transpose()?,
            from: args.from.as_deref().map(|text| time("--from", text)).transpose()?,
            to: args.to.as_deref().map(|text| time("--to", text)).transpose()?,
            kinds: args.kind.clone(),
        })
    }

    fn passes(&self, seq: Seq, entry: &Entry, claims: &[(BookingNumber, Option<Claim>)]) -> bool {
        let claim_with =
            |wanted: &dyn Fn(&Claim) -> bool| claims.iter().any(|(_, claim)| claim.as_ref().is_some_and(wanted));
        let of_slot = |slot: SlotId| match &entry.event {
            Event::Published { slots, .. } => slots.iter().any(|published| published.slot == slot),
            Event::SlotChanged { slot: changed, .. } => *changed == slot,
            _ => claim_with(&|claim| claim.slot == slot),
        };
        let of_party = |party: PartyId| match &entry.event {
            Event::PartiesAdded { first, count, .. } => party.0.checked_sub(first.0).is_some_and(|at| at < *count),
            _ => claim_with(&|claim| claim.party == party),
        };
        seq > self.after
            && self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at < to)
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == entry.event.kind()))
            && self.slot.is_none_or(of_slot)
            && self.party.is_none_or(of_party)
            && self.booking.is_none_or(|booking| claims.iter().any(|(number, _)| *number == booking))
    }
}

fn time(flag: &str, text: &str) -> Result<TimestampMs, String> {
    let at: jiff::Timestamp = text.parse().map_err(|_| format!("{flag} {text}: no time in RFC 3339"))?;
    u64::try_from(at.as_millisecond()).map(TimestampMs).map_err(|_| format!("{flag} {text}: before 1970"))
}

/// `berth journal dump`
pub(crate) fn run(args: &DumpArgs) -> Result<ExitCode, String> {
    let files = JournalFiles::open(&args.data_dir).map_err(|error| error.to_string())?;
    let codes = files.codes().ok_or("opened without the code key")?;
    let calendar = Calendar::utc();
    let names = Names { cell: files.cell(), codes, calendar: &calendar };
    let filter = Filter::new(args, &names)?;
    let (begin, known) = claims_before(&files, filter.after).map_err(|error| error.to_string())?;
    let (mut lines, mut claims) = (EntryLines::new(names, known), Met::new());
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let of = files.log_bytes_behind(begin).map_err(|error| error.to_string())?;
    let (mut meter, mut bytes, mut written) = (Meter::beside_output(args.quiet), 0, Ok(()));
    let read = files.frames(begin, &mut |frame| {
        bytes += frame.bytes.len() as u64;
        meter.show("printing", bytes, of, Unit::Bytes);
        frame.entries(|seq, entry| {
            if seq <= begin {
                return;
            }
            lines.meet(&entry, &mut claims);
            if written.is_ok() && filter.passes(seq, &entry, &claims) {
                written = out.write_all(lines.line(seq, frame.header.epoch, &entry, &claims));
            }
        })
    });
    drop(meter);
    written.and_then(|()| out.flush()).map_err(|_| cli::CANNOT_WRITE.to_owned())?;
    match read {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            cli::tell(&format!("berth: {error}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Where reading can begin for entries behind `after`, and the claims that what follows may name: with the newest whole snapshot
/// before it, with the log's own beginning, or, if that was trimmed, with the oldest snapshot's claims.
fn claims_before(files: &JournalFiles, after: Seq) -> Result<(Seq, Claims), berth_engine::OpenError> {
    let start = files.log_start()?;
    let snapshots = files.snapshots()?;
    let before = snapshots.iter().filter(|s0| (start..=after).contains(s0));
    let oldest = if start > Seq(0) { snapshots.last() } else { None };
    for s0 in before.chain(oldest) {
        let begin = if *s0 <= after { *s0 } else { start };
        let mut claims = Claims::default();
        // A record that changed behind the place may have been live there.
        let read = files.snapshot(*s0).and_then(|reader| {
            each_record(&reader, &mut |record| {
                if let Record::Booking(booking) = record
                    && (booking.state.is_live() || booking.seq > begin)
                {
                    claims.insert(booking.number, booking.claim);
                }
                Ok(())
            })
        });
        if read.is_ok() {
            return Ok((begin, claims));
        }
    }
    Ok((start, Claims::default()))
}
