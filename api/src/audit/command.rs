//! `berth audit`: prints the lines of an audit log that fit.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;

use crate::access::Role;
use crate::cli;

/// What is printed: what fits everything that is said.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Files, oldest first: those set aside, too.
    #[arg(value_name = "FILE", required_unless_present = "config")]
    files: Vec<PathBuf>,
    /// The server's configuration file: its audit log and what was set aside of it, oldest first.
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    config: Option<PathBuf>,
    /// A key's name, or an account as the log shows it (account:1f0a..).
    #[arg(long)]
    who: Option<String>,
    /// The role it came with.
    #[arg(long)]
    role: Option<Role>,
    /// A party, as p1.17.
    #[arg(long)]
    party: Option<String>,
    /// A booking by its reference, as b1.7.
    #[arg(long)]
    booking: Option<String>,
    /// A centre.
    #[arg(long)]
    centre: Option<String>,
    /// A route, as the log has it.
    #[arg(long)]
    route: Option<String>,
    /// How it ended: ok, or a code.
    #[arg(long)]
    outcome: Option<String>,
    /// The trace of the request.
    #[arg(long)]
    trace: Option<String>,
    /// From this instant on, as 2026-11-26T09:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Before this instant.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// For people, in columns; without it the lines are printed as they are.
    #[arg(long)]
    text: bool,
}

/// A line as it is read back. What a later version adds is not in the way.
#[derive(Debug, Deserialize)]
struct Line {
    at: Timestamp,
    #[serde(default)]
    trace: Option<String>,
    role: String,
    who: String,
    method: String,
    route: String,
    #[serde(default)]
    party: Option<String>,
    /// See [`super::in_rows`].
    #[serde(default)]
    parties: Vec<String>,
    #[serde(default)]
    booking: Option<String>,
    #[serde(default)]
    slot: Option<String>,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    centre: Option<String>,
    status: u16,
    outcome: String,
}

impl AuditArgs {
    fn fits(&self, line: &Line) -> bool {
        let is = |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
        let has = |asked: &Option<String>, found: &Option<String>| asked.is_none() || asked == found;
        is(&self.who, &line.who)
            && self.role.is_none_or(|role| role.as_str() == line.role)
            && (has(&self.party, &line.party)
                || self.party.as_ref().is_some_and(|party| line.parties.iter().any(|row| is_in_row(party, row))))
            && has(&self.booking, &line.booking)
            && has(&self.centre, &line.centre)
            && is(&self.route, &line.route)
            && is(&self.outcome, &line.outcome)
            && has(&self.trace, &line.trace)
            && self.from.is_none_or(|from| line.at >= from)
            && self.to.is_none_or(|to| line.at < to)
    }
}

/// Whether a party is one of a row, as `p1.20..p1.29`, or of one alone.
fn is_in_row(party: &str, row: &str) -> bool {
    let number = |name: &str| {
        let (cell, number) = name.split_once('.')?;
        number.parse::<u32>().ok().map(|number| (cell.to_owned(), number))
    };
    let (first, last) = row.split_once("..").unwrap_or((row, row));
    match (number(party), number(first), number(last)) {
        (Some(party), Some(first), Some(last)) => party.0 == first.0 && (first.1..=last.1).contains(&party.1),
        _ => party == row,
    }
}

/// Runs `berth audit`.
///
/// # Errors
/// One sentence: a file cannot be read, or nobody takes the output.
pub(crate) fn run(args: &AuditArgs) -> Result<ExitCode, String> {
    let files = match &args.config {
        Some(config) => of_config(config)?,
        None => args.files.clone(),
    };
    let mut unreadable = 0_u64;
    for path in &files {
        let place = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = BufReader::new(std::fs::File::open(path).map_err(place)?);
        for text in file.split(b'\n') {
            let text = text.map_err(place)?;
            if text.is_empty() {
                continue;
            }
            let Ok(line) = serde_json::from_slice::<Line>(&text) else {
                unreadable += 1;
                continue;
            };
            if args.fits(&line) {
                cli::say(&if args.text { shown(&line) } else { String::from_utf8_lossy(&text).into_owned() })?;
            }
        }
    }
    if unreadable > 0 {
        // A process that was killed while it wrote leaves one.
        cli::tell(&format!("berth: {unreadable} lines are none, as a killed process leaves one, and were passed over"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration's file and those set aside, whose names sort by time.
fn of_config(config: &Path) -> Result<Vec<PathBuf>, String> {
    let file = cli::config_file(Some(config))?.audit.and_then(|audit| audit.file);
    let file = file.ok_or_else(|| format!("{}: has no audit.file", config.display()))?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut prefix = file.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let entries = std::fs::read_dir(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut aside: Vec<PathBuf> = names
        .filter(|name| name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes()))
        .map(|name| file.with_file_name(name))
        .collect();
    aside.sort();
    aside.push(file);
    Ok(aside)
}

fn shown(line: &Line) -> String {
    let Line { at, role, who, method, route, party, parties, booking, slot, session, centre, status, outcome, .. } =
        line;
    let whom = [party, booking, slot, session, centre].into_iter().flatten().chain(parties);
    let whom: Vec<_> = whom.map(String::as_str).collect();
    format!("{at}  {role} {who}  {method} {route}  {}  {status} {outcome}", whom.join(" ")).replace("    ", "  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_is_found_alone_and_in_a_row() {
        for (party, row, found) in [
            ("p1.17", "p1.17", true),
            ("p1.17", "p1.1", false),
            ("p1.20", "p1.20..p1.29", true),
            ("p1.29", "p1.20..p1.29", true),
            ("p1.30", "p1.20..p1.29", false),
            ("p2.25", "p1.20..p1.29", false),
        ] {
            assert_eq!(is_in_row(party, row), found, "{party} in {row}");
        }
    }
}
