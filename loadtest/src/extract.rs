//! `berth-surge history`: a run's history as NDJSON, whole or only what speaks of somebody or something.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::audit::Verdict;
use crate::console;
use crate::error::{CannotRun, Doing};

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The run's report directory.
    directory: PathBuf,
    /// Only operations that name this: a party, slot, booking, hold, key or district. Given several times: any of them.
    #[arg(long, value_name = "NAME")]
    about: Vec<String>,
    /// Only operations of this kind (`hold`, `confirm`, `search`, ...). Given several times: any of them.
    #[arg(long, value_name = "OP")]
    op: Vec<String>,
    /// Only operations that came to this.
    #[arg(long, value_name = "OUTCOME", value_parser = ["ok", "refused", "unknown"])]
    outcome: Option<String>,
}

/// Prints the lines in their order, as they stand in the file (docs/history.md).
pub(crate) fn history(args: &HistoryArgs) -> Result<Verdict, CannotRun> {
    let path = args.directory.join("history.ndjson");
    match copy(&path, args, &mut console::out())? {
        Ok(()) => Ok(Verdict::Held),
        // Whoever reads has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Verdict::Held),
        Err(error) => Err(error).doing(|| "print the history".into()),
    }
}

/// Outer errors are of reading, inner ones of writing.
fn copy(path: &Path, args: &HistoryArgs, out: &mut impl Write) -> Result<std::io::Result<()>, CannotRun> {
    let file = File::open(path).doing(|| format!("open {}", path.display()))?;
    // A name stands in its line between quotation marks, and nothing else in a line can look like one.
    let quoted: Vec<String> = args.about.iter().map(|name| format!("\"{name}\"")).collect();
    let ops: Vec<String> = args.op.iter().map(|op| format!("\"op\":\"{op}\"")).collect();
    let outcome = args.outcome.as_ref().map(|outcome| format!("\"outcome\":\"{outcome}\""));
    let all = quoted.is_empty() && ops.is_empty() && outcome.is_none();
    for line in BufReader::with_capacity(1 << 20, file).lines() {
        let line = line.doing(|| format!("read {}", path.display()))?;
        let any = |wanted: &[String]| wanted.is_empty() || wanted.iter().any(|text| line.contains(text.as_str()));
        let operation = line.starts_with("{\"line\":\"operation\"");
        let wanted = any(&quoted) && any(&ops) && outcome.iter().all(|text| line.contains(text.as_str()));
        if (all || (operation && wanted))
            && let Err(error) = writeln!(out, "{line}")
        {
            return Ok(Err(error));
        }
    }
    Ok(out.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(about: &[&str], op: &[&str], outcome: Option<&str>) -> usize {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.ndjson");
        let text = concat!(
            r#"{"line":"mark","at_us":1,"mark":{"kind":"drive_began"}}"#,
            "\n",
            r#"{"line":"operation","arrival":0,"op":"search","attempt":1,"target":"d005","outcome":"ok"}"#,
            "\n",
            r#"{"line":"operation","arrival":0,"op":"hold","key":"k-1","attempt":1,"asked":[{"party":"p1.12","slot":"s1.5","dose":1}],"outcome":"refused"}"#,
            "\n",
            r#"{"line":"operation","arrival":1,"op":"hold","key":"k-12","attempt":1,"asked":[{"party":"p1.1","slot":"s1.5","dose":1}],"outcome":"ok"}"#,
            "\n",
            r#"{"line":"end","lines":4}"#,
            "\n",
        );
        std::fs::write(&path, text).unwrap();
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let args = HistoryArgs {
            directory: directory.path().to_owned(),
            about: owned(about),
            op: owned(op),
            outcome: outcome.map(str::to_owned),
        };
        let mut out = Vec::new();
        copy(&path, &args, &mut out).unwrap().unwrap();
        String::from_utf8(out).unwrap().lines().count()
    }

    #[test]
    fn the_whole_history_or_what_speaks_of_something() {
        assert_eq!(lines(&[], &[], None), 5);
        assert_eq!(lines(&["p1.1"], &[], None), 1, "p1.12 is somebody else");
        assert_eq!(lines(&["s1.5"], &[], None), 2);
        assert_eq!(lines(&["k-1", "k-12"], &[], None), 2);
        assert_eq!(lines(&["s1.5"], &["hold"], Some("ok")), 1);
        assert_eq!(lines(&[], &["search"], None), 1);
    }
}
