//! The only place that writes to the terminal: results to standard output, progress and complaints to standard error.
//!
//! A closed pipe is not a failure of the run, so write errors are dropped here and nowhere else.

use std::io::{self, IsTerminal, Write};

/// One line of result.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Standard output for many lines, whose reader may leave before the last.
pub(crate) fn out() -> impl Write {
    io::BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// One line that says why something did not work.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A line about a step of the run, on standard error so that results can be piped.
pub(crate) fn step(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}{line}", if live() { "\r\x1b[K" } else { "" });
}

/// The live line: rewritten in place on a terminal, silent elsewhere but for what [`step`] says.
pub(crate) fn progress(line: &str) {
    if live() {
        let mut err = io::stderr().lock();
        let _ = write!(err, "\r\x1b[K{line}");
        let _ = err.flush();
    }
}

fn live() -> bool {
    io::stderr().is_terminal()
}
