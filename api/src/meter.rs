//! How far a long command is, on standard error: one line that changes where somebody looks, a line every ten seconds elsewhere.
//!
//! Used by all that read or write a data directory offline. A start of the server tells of itself in its log
//! ([`crate::progress`]).

use std::io::{IsTerminal as _, Write};
use std::time::{Duration, Instant};

/// Between two changes of the line on a terminal.
const LIVE_EVERY: Duration = Duration::from_millis(100);
/// Between two lines elsewhere: a command that takes less says only how it ended.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    /// Things with a name.
    Things(&'static str),
}

/// Tells how far a command is. Dropped, it leaves its line empty for what comes next.
pub(crate) struct Meter {
    out: Option<Out>,
    /// What is being done, from where and since when.
    stage: Option<Stage>,
}

struct Out {
    to: Box<dyn Write>,
    live: bool,
    /// Something stands on the terminal's line.
    shown: bool,
}

#[derive(Clone, Copy)]
struct Stage {
    doing: &'static str,
    from: u64,
    began: Instant,
    told: Instant,
}

impl Meter {
    /// One that is silent if it is to be, and where its line would run into what stands on the same terminal.
    pub(crate) fn new(quiet: bool) -> Self {
        let stderr = std::io::stderr();
        let live = stderr.is_terminal();
        let out = (!quiet).then(|| Out { to: Box::new(stderr), live, shown: false });
        Self { out, stage: None }
    }

    /// As [`Meter::new`], for a command whose output is long: on a terminal that shows it, this would stand in between.
    pub(crate) fn beside_output(quiet: bool) -> Self {
        Self::new(quiet || std::io::stdout().is_terminal())
    }

    /// So much is done, of so much. To be called as often as it changes.
    pub(crate) fn show(&mut self, doing: &'static str, done: u64, of: u64, unit: Unit) {
        let Some(out) = &mut self.out else { return };
        let now = Instant::now();
        let stage = match &mut self.stage {
            Some(stage) if stage.doing == doing => stage,
            stage => stage.insert(Stage { doing, from: done, began: now, told: now }),
        };
        if now.duration_since(stage.told) < if out.live { LIVE_EVERY } else { LINE_EVERY } {
            return;
        }
        stage.told = now;
        let line = line(doing, (stage.from, done, of), unit, now.duration_since(stage.began));
        out.put(&line);
    }

    /// Takes the line away, for something else to be said.
    pub(crate) fn clear(&mut self) {
        self.out.iter_mut().for_each(Out::clear);
    }
}

impl Out {
    fn put(&mut self, line: &str) {
        // Nobody reads standard error: then there is nobody to tell.
        let _ = if self.live { write!(self.to, "\r{line}\x1b[K") } else { writeln!(self.to, "berth: {line}") }
            .and_then(|()| self.to.flush());
        self.shown = self.live;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(self.to, "\r\x1b[K").and_then(|()| self.to.flush());
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `done` of `of`, how fast it went from `from` on, and how long the rest takes if it goes on so.
fn line(doing: &str, (from, done, of): (u64, u64, u64), unit: Unit, took: Duration) -> String {
    let percent = (u128::from(done) * 100 / u128::from(of.max(1))).min(100);
    let number = |wide: u128| u64::try_from(wide).unwrap_or(u64::MAX);
    let nanos = took.as_nanos().max(1);
    let rate = number(u128::from(done.saturating_sub(from)) * 1_000_000_000 / nanos);
    let left = of.saturating_sub(done).checked_div(rate);
    let left = left.map_or_else(String::new, |seconds| format!(", {} left", time(seconds)));
    match unit {
        Unit::Bytes => format!("{doing}: {percent} %, {} of {}, {}/s{left}", size(done), size(of), size(rate)),
        Unit::Things(things) => format!("{doing}: {percent} %, {done} of {of} {things}, {rate}/s{left}"),
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    pub(crate) struct Screen(pub(crate) Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Shows two stages, each of whose second looks comes late enough to be told; what was written.
    fn shown(live: bool) -> String {
        let screen = Screen::default();
        let out = Some(Out { to: Box::new(screen.clone()), live, shown: false });
        let mut meter = Meter { out, stage: None };
        for doing in ["reading", "judging"] {
            meter.show(doing, 0, 4096, Unit::Bytes);
            meter.show(doing, 1024, 4096, Unit::Bytes);
            let late = LINE_EVERY * 3;
            let stage = meter.stage.as_mut().unwrap();
            // As if time had passed: the machine may be too young to look back so far.
            let earlier = |at: Instant| at.checked_sub(late).unwrap_or(at);
            (stage.began, stage.told) = (earlier(stage.began), earlier(stage.told));
            meter.show(doing, 2048, 4096, Unit::Bytes);
            meter.show(doing, 3072, 4096, Unit::Bytes);
        }
        drop(meter);
        String::from_utf8(screen.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_terminal_sees_one_line_change_and_go_and_others_see_whole_lines() {
        let told = |doing: &str| format!("{doing}: 50 %, 2.0 KiB of 4.0 KiB, 0.0 KiB/s, 30 s left");
        let (reading, judging) = (told("reading"), told("judging"));
        assert_eq!(shown(true), format!("\r{reading}\x1b[K\r{judging}\x1b[K\r\x1b[K"));
        assert_eq!(shown(false), format!("berth: {reading}\nberth: {judging}\n"));
    }

    #[test]
    fn a_quiet_one_says_nothing() {
        let mut meter = Meter::new(true);
        meter.show("reading", 1, 2, Unit::Bytes);
        assert!(meter.out.is_none() && meter.stage.is_none());
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let second = Duration::from_secs(1);
        for (counts, unit, took, expected) in [
            (
                (0, 3 << 29, 6 << 29),
                Unit::Bytes,
                second * 3,
                "copying: 50 %, 1.5 GiB of 3.0 GiB, 512.0 MiB/s, 3 s left",
            ),
            (
                (100, 300, 1100),
                Unit::Things("entries"),
                second * 2,
                "copying: 27 %, 300 of 1100 entries, 100/s, 8 s left",
            ),
            ((0, 10, 10_000), Unit::Things("pieces"), second, "copying: 0 %, 10 of 10000 pieces, 10/s, 16 min left"),
            ((0, 1, 10_000), Unit::Things("pieces"), second, "copying: 0 %, 1 of 10000 pieces, 1/s, 2 h left"),
            ((5, 5, 10), Unit::Things("pieces"), second, "copying: 50 %, 5 of 10 pieces, 0/s"),
            ((0, u64::MAX, 0), Unit::Bytes, second, "copying: 100 %, 16383.9 PiB of 0.0 KiB, 16383.9 PiB/s, 0 s left"),
        ] {
            assert_eq!(line("copying", counts, unit, took), expected);
        }
    }
}
