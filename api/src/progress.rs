//! How far a start is, on standard error: one line that changes where somebody looks, a log line every few seconds elsewhere.

use std::io::{IsTerminal as _, Write};

use berth_engine::progress::{Progress, Stage};

/// Between two changes of the line on a terminal, in nanoseconds.
const LIVE_EVERY: u64 = 100_000_000;
/// Between two log lines, in nanoseconds: a start that takes less says only how it ended.
const LOG_EVERY: u64 = 5_000_000_000;

/// Tells of a start. Dropped, it leaves the line empty for what comes next.
pub(crate) struct Teller {
    /// Where a line may be written over.
    live: Option<Box<dyn Write>>,
    stage: Stage,
    told: u64,
}

impl Teller {
    pub(crate) fn new() -> Self {
        let stderr = std::io::stderr();
        let live: Option<Box<dyn Write>> = if stderr.is_terminal() { Some(Box::new(stderr)) } else { None };
        Self { live, stage: Stage::CheckSnapshot, told: 0 }
    }

    pub(crate) fn tell(&mut self, progress: Progress) {
        if !self.is_due(&progress) {
            return;
        }
        let far = Far::new(&progress);
        match &mut self.live {
            Some(terminal) => {
                // Who cannot be told goes without.
                let _ = write!(terminal, "\r{}\x1b[K", far.line(progress.stage)).and_then(|()| terminal.flush());
            }
            None => tracing::info!(
                percent = far.percent,
                entries = progress.entries,
                entries_per_second = far.entries_per_second,
                seconds_left = far.seconds_left,
                "{}",
                doing(progress.stage)
            ),
        }
    }

    fn is_due(&mut self, progress: &Progress) -> bool {
        if self.stage != progress.stage {
            (self.stage, self.told) = (progress.stage, 0);
        }
        let every = if self.live.is_some() { LIVE_EVERY } else { LOG_EVERY };
        let due = progress.nanos >= self.told.saturating_add(every);
        if due {
            self.told = progress.nanos;
        }
        due
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(terminal) = &mut self.live {
            let _ = write!(terminal, "\r\x1b[K").and_then(|()| terminal.flush());
        }
    }
}

/// What a start, or a reading of a whole directory, is doing.
pub(crate) fn doing(stage: Stage) -> &'static str {
    match stage {
        Stage::CheckSnapshot => "checking the snapshot",
        Stage::LoadSnapshot => "loading the snapshot",
        Stage::Log => "applying the log",
    }
}

/// How far, how fast, and how long at most until the end of the stage: the last segments of a log are not full.
#[derive(Debug, PartialEq, Eq)]
struct Far {
    percent: u64,
    entries_per_second: u64,
    seconds_left: u64,
}

impl Far {
    fn new(progress: &Progress) -> Self {
        let (bytes, max) = (u128::from(progress.bytes), u128::from(progress.bytes_max));
        let nanos = u128::from(progress.nanos);
        let left = nanos * max.saturating_sub(bytes) / bytes.max(1) / 1_000_000_000;
        let rate = u128::from(progress.entries) * 1_000_000_000 / nanos.max(1);
        let number = |wide: u128| u64::try_from(wide).unwrap_or(u64::MAX);
        Self {
            percent: number((100 * bytes / max.max(1)).min(100)),
            entries_per_second: number(rate),
            seconds_left: number(left),
        }
    }

    fn line(&self, stage: Stage) -> String {
        let rate = match self.entries_per_second {
            0 => String::new(),
            rate => format!(", {rate} entries/s"),
        };
        format!("{}: {} %{rate}, at most {} s left", doing(stage), self.percent, self.seconds_left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::tests::Screen;

    fn at(stage: Stage, milliseconds: u64, bytes: u64) -> Progress {
        Progress { stage, entries: bytes / 50, bytes, bytes_max: 1000, nanos: milliseconds * 1_000_000 }
    }

    #[test]
    fn a_terminal_sees_each_stage_go_on_and_an_empty_line_at_the_end() {
        let screen = Screen::default();
        let mut teller = Teller { live: Some(Box::new(screen.clone())), stage: Stage::CheckSnapshot, told: 0 };
        teller.tell(at(Stage::CheckSnapshot, 50, 10));
        teller.tell(Progress { entries: 0, ..at(Stage::CheckSnapshot, 200, 500) });
        teller.tell(at(Stage::CheckSnapshot, 250, 600));
        teller.tell(at(Stage::Log, 1000, 250));
        drop(teller);
        let seen = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = seen.split('\r').filter_map(|line| line.strip_suffix("\x1b[K")).collect();
        assert_eq!(
            lines,
            [
                "checking the snapshot: 50 %, at most 0 s left",
                "applying the log: 25 %, 5 entries/s, at most 3 s left",
                ""
            ]
        );
    }

    #[test]
    fn elsewhere_a_line_comes_every_five_seconds_of_a_stage() {
        let mut teller = Teller { live: None, stage: Stage::CheckSnapshot, told: 0 };
        let due = [
            (Stage::LoadSnapshot, 4999, false),
            (Stage::LoadSnapshot, 5000, true),
            (Stage::LoadSnapshot, 9000, false),
            (Stage::Log, 6000, true),
            (Stage::Log, 11_000, true),
        ];
        for (stage, milliseconds, expected) in due {
            assert_eq!(teller.is_due(&at(stage, milliseconds, 1)), expected, "{stage:?} at {milliseconds}");
        }
    }
}
