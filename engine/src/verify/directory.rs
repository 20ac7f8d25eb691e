//! A whole data directory read and judged: every snapshot, every frame, every entry.
//!
//! The books begin empty when the log does, or with the oldest whole snapshot that the log goes back to. Every other
//! snapshot gets books of its own when its S0 is passed; at its S1 they must say what the first ones say.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::records::{Record, Totals, records};
use super::{Finding, Judged, Ledger};
use crate::clock::Stopwatch;
use crate::ids::{Epoch, Seq};
use crate::journal::directory::{JournalFiles, OpenError};
use crate::journal::entry::Entry;
use crate::journal::reader::Tail;
use crate::journal::snapshot::{SnapshotError, SnapshotReader};

/// Frames that the reader may be ahead of the books.
const FRAMES_AHEAD: usize = 16;

/// How far a verification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Entries taken into the books.
    pub entries: u64,
    /// Bytes of snapshots and of the log read.
    pub bytes: u64,
    /// Bytes of all snapshots and of all segments in use, of which the last may be mostly empty.
    pub bytes_total: u64,
}

/// A snapshot that was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSeen {
    /// Where.
    pub path: PathBuf,
    /// Every entry up to here is in it.
    pub s0: Seq,
    /// No record has seen a later entry; `None` if it is damaged.
    pub s1: Option<Seq>,
    /// Bytes of the file.
    pub bytes: u64,
    /// What is wrong with it.
    pub fault: Option<String>,
}

/// What a verification came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries of the log.
    pub entries: u64,
    /// The first of them.
    pub first: Seq,
    /// The last entry there is.
    pub last: Seq,
    /// The books began behind this one: 0, or the S0 of a snapshot.
    pub judged_from: Seq,
    /// And until this one, CAP-1 and PTY-1 were not judged: the S1 of that snapshot.
    pub counted_from: Seq,
    /// Bytes of the frames.
    pub bytes: u64,
    /// The newest epoch.
    pub epoch: Epoch,
    /// A torn last frame, which the next start will cut.
    pub torn: Option<(PathBuf, u64)>,
    /// The snapshots, oldest first.
    pub snapshots: Vec<SnapshotSeen>,
    /// How many times each rule was judged.
    pub judged: Judged,
    /// What was found; empty if every rule held.
    pub findings: Vec<Finding>,
    /// How long it took, in nanoseconds.
    pub nanos: u64,
}

/// Reads everything in a data directory and judges every rule that it can show. Writes nothing.
///
/// # Errors
/// Damage in the log, a log without its beginning, or what the operating system said: there is then no whole journal to judge.
/// A damaged snapshot is a finding.
pub fn verify(
    files: &JournalFiles,
    idempotency_window: Duration,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Report, OpenError> {
    let watch = Stopwatch::start();
    let mut report = Report::default();
    let start = files.log_start()?;
    let mut waiting = Vec::new();
    let snapshots = files.snapshots()?;
    let of_snapshots: u64 = snapshots.iter().filter_map(|s0| Some(files.snapshot(*s0).ok()?.bytes())).sum();
    let bytes_total = of_snapshots + files.log_bytes()?;
    let mut progress = Progress { entries: 0, bytes: 0, bytes_total };
    for s0 in snapshots.into_iter().rev() {
        let before = progress.bytes;
        let mut read = |bytes: u64| {
            progress.bytes = before + bytes;
            on_progress(progress);
        };
        if let Some(s1) = look_at(files, s0, start, &mut report, &mut read)? {
            waiting.push((s0, s1));
        }
    }
    let mut books = Books::begin(files, start, waiting, idempotency_window, &mut report)?;
    report.judged_from = books.from;
    report.counted_from = books.counted_from;
    // Reading and decoding in one thread, the books in this one.
    let tail = std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel::<(Epoch, u64, Vec<(Seq, Entry)>)>(FRAMES_AHEAD);
        let reading = scope.spawn(move || {
            files.frames(start, &mut |frame| {
                let mut entries = Vec::with_capacity(frame.header.count.min(1 << 16) as usize);
                frame.entries(|seq, entry| entries.push((seq, entry)))?;
                // The other side goes only when it panics, and then this ends with it.
                let _ = send.send((frame.header.epoch, frame.bytes.len() as u64, entries));
                Ok(())
            })
        });
        for (epoch, bytes, entries) in receive {
            progress.entries += entries.len() as u64;
            progress.bytes += bytes;
            books.take(epoch, &entries, &mut report);
            on_progress(progress);
        }
        reading.join().expect("reading does not panic")
    })?;
    books.end(&tail, &mut report);
    report.entries = progress.entries;
    report.first = start.next();
    report.last = if tail.index == 0 { books.from } else { tail.last };
    report.bytes = tail.bytes;
    report.epoch = tail.epoch;
    report.torn = tail.torn.map(|torn| (files.path(&torn.name), torn.offset));
    report.judged.jnl_4 += tail.frames;
    report.nanos = watch.nanos();
    Ok(report)
}

/// Reads a snapshot through; its S1 if it is whole. `on_read` is told how many bytes of it were read.
// rule: SNP-1
fn look_at(
    files: &JournalFiles,
    s0: Seq,
    start: Seq,
    report: &mut Report,
    on_read: &mut dyn FnMut(u64),
) -> Result<Option<Seq>, OpenError> {
    let path = files.snapshot_path(s0);
    let mut seen = SnapshotSeen { path: path.clone(), s0, s1: None, bytes: 0, fault: None };
    let whole = files.snapshot(s0).and_then(|reader| {
        seen.bytes = reader.bytes();
        let (mut totals, mut read) = (None, 0);
        let mut each = |record| {
            if let Record::End(end) = record {
                totals = Some(end);
            }
            Ok(())
        };
        reader.chunks(&mut |kind, count, payload| {
            records(kind, count, payload, &mut each)?;
            read += payload.len() as u64;
            on_read(read);
            Ok(())
        })?;
        totals.ok_or_else(|| SnapshotError::Damaged { offset: 0, what: "no totals in its last chunk".to_owned() })
    });
    match whole {
        Ok(Totals { s1, .. }) => seen.s1 = Some(s1),
        Err(error @ (SnapshotError::Damaged { .. } | SnapshotError::Io(_))) => {
            let detail = format!("{}: {error}", path.display());
            report.findings.push(Finding { rule: "SNP-1", seq: s0, detail });
            seen.fault = Some(error.to_string());
        }
        Err(error) => return Err(OpenError::Snapshot { path, error }),
    }
    report.judged.snp_2 += 1;
    if s0 < start {
        let detail =
            format!("the log begins behind {start}, and the snapshot {} needs it from {s0} on", path.display());
        report.findings.push(Finding { rule: "SNP-2", seq: s0, detail });
        seen.s1 = None;
    }
    let s1 = seen.s1;
    report.snapshots.push(seen);
    Ok(s1)
}

/// Every record of a snapshot, after the checksum of its chunk was found right.
///
/// # Errors
/// Damage, or what `each` said.
pub fn each_record(
    reader: &SnapshotReader,
    each: &mut dyn FnMut(Record) -> Result<(), String>,
) -> Result<(), SnapshotError> {
    reader.chunks(&mut |kind, count, payload| records(kind, count, payload, each))
}

/// The books of the log, and those of a snapshot that is to be compared with them.
struct Books<'a> {
    files: &'a JournalFiles,
    window: Duration,
    main: Ledger,
    /// Entries up to here were in what the books began with.
    from: Seq,
    counted_from: Seq,
    /// Snapshots by S0 and S1 whose S0 is still to come, in order.
    waiting: std::collections::VecDeque<(Seq, Seq)>,
    /// Books begun with a snapshot and not yet past its S1.
    shadows: Vec<(Seq, Seq, Ledger)>,
    epoch: Epoch,
    last: Seq,
}

impl<'a> Books<'a> {
    fn begin(
        files: &'a JournalFiles,
        start: Seq,
        snapshots: Vec<(Seq, Seq)>,
        window: Duration,
        report: &mut Report,
    ) -> Result<Self, OpenError> {
        let mut waiting = std::collections::VecDeque::from(snapshots);
        let (mut main, mut from, mut counted_from) = (Ledger::new(window), Seq(0), Seq(0));
        let no_log = files.log_bytes()? == 0;
        if no_log {
            // What a recovery without a log leaves: the newest says all there is.
            waiting = waiting.pop_back().into_iter().collect();
        }
        if start > Seq(0) || (no_log && !waiting.is_empty()) {
            let Some((s0, s1)) = waiting.pop_front() else {
                let what = "the log begins here, and no whole snapshot says what was before".to_owned();
                return Err(OpenError::Replay { seq: start.next(), what });
            };
            main = load(files, s0, window)?;
            (from, counted_from) = (s0, s1);
            report.judged.snp_1 += 1;
        }
        let mut books =
            Self { files, window, main, from, counted_from, waiting, shadows: Vec::new(), epoch: Epoch(0), last: from };
        books.meet_snapshots(report);
        Ok(books)
    }

    fn take(&mut self, epoch: Epoch, entries: &[(Seq, Entry)], report: &mut Report) {
        if epoch > self.epoch {
            // One that goes back is damage to the reader, which names the place.
            report.judged.fnc_1 += 1;
            self.epoch = epoch;
            self.main.begin_run();
        }
        for (seq, entry) in entries {
            if *seq <= self.from {
                continue;
            }
            self.main.apply(*seq, entry);
            for (_, _, shadow) in &mut self.shadows {
                shadow.apply(*seq, entry);
            }
            self.last = *seq;
            if !self.shadows.is_empty() {
                self.compare(report);
            }
            if self.waiting.front().is_some_and(|(s0, _)| *s0 <= *seq) {
                self.meet_snapshots(report);
            }
        }
    }

    /// Begins books with each snapshot whose S0 is reached.
    fn meet_snapshots(&mut self, report: &mut Report) {
        while self.waiting.front().is_some_and(|(s0, _)| *s0 <= self.last) {
            let Some((s0, s1)) = self.waiting.pop_front() else { return };
            match load(self.files, s0, self.window) {
                Ok(shadow) => self.shadows.push((s0, s1, shadow)),
                Err(error) => {
                    report.findings.push(Finding { rule: "SNP-3", seq: s0, detail: error.to_string() });
                }
            }
        }
        self.compare(report);
    }

    // rule: SNP-3
    fn compare(&mut self, report: &mut Report) {
        let (main, last) = (&self.main, self.last);
        self.shadows.retain(|(s0, s1, shadow)| {
            if shadow.in_span() || last < *s1 {
                return true;
            }
            let (compared, differences) = main.differences(shadow);
            report.judged.snp_1 += 1;
            report.judged.snp_3 += compared;
            let of_the_span = shadow.findings().iter().filter(|finding| finding.rule == "SNP-3");
            report.findings.extend(of_the_span.cloned());
            report.findings.extend(differences.into_iter().map(|what| Finding {
                rule: "SNP-3",
                seq: *s1,
                detail: format!("the log, and the snapshot at {s0} with the log behind it: {what}"),
            }));
            false
        });
    }

    fn end(&mut self, tail: &Tail, report: &mut Report) {
        let unreached = self.shadows.drain(..).map(|(s0, s1, _)| (s0, s1)).chain(self.waiting.drain(..));
        let begun = self.main.in_span().then_some((self.from, self.counted_from));
        for (s0, s1) in unreached.chain(begun) {
            let detail =
                format!("the log ends at {}, and the snapshot at {s0} was named when it reached {s1}", tail.last);
            report.findings.push(Finding { rule: "SNP-1", seq: s1, detail });
        }
        let Judged { snp_1, snp_2, snp_3, fnc_1, jnl_4, .. } = report.judged;
        report.judged = Judged { snp_1, snp_2, snp_3, fnc_1, jnl_4, ..self.main.judged() };
        report.findings.extend_from_slice(self.main.findings());
        report.findings.sort_by_key(|finding| finding.seq);
    }
}

fn load(files: &JournalFiles, s0: Seq, window: Duration) -> Result<Ledger, OpenError> {
    let failed = |error| OpenError::Snapshot { path: files.snapshot_path(s0), error };
    let reader = files.snapshot(s0).map_err(failed)?;
    let mut ledger = Ledger::new(window);
    each_record(&reader, &mut |record| ledger.load(s0, record)).map_err(failed)?;
    Ok(ledger)
}
