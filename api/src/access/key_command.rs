//! `berth key`: makes, lists and revokes keys in a keys file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::keys_file::Locked;
use super::{KeyEntry, KeyRing, Role, hash, new_key};
use crate::cli;

/// `berth key add|rotate|list|revoke`
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key, print it once, and keep its SHA-256.
    ///
    /// The key stands alone on standard output; nobody can show it again. A running server that has the file as its
    /// `keys_file` takes it up within seconds, or at once on SIGHUP.
    ///
    ///   berth key add --role platform --name web --keys-file keys.toml
    ///   berth key add --role operator --name mumbai --districts 395 --expires 90d --config berth.toml
    #[command(verbatim_doc_comment)]
    Add(AddArgs),
    /// Make a key that takes over from one of the same role, name and scope, which goes on for a while.
    ///
    /// Clients that change over keep their idempotency keys, which are scoped to role and name.
    ///
    ///   berth key rotate --role platform --name web --overlap 7d --keys-file keys.toml
    #[command(verbatim_doc_comment)]
    Rotate(RotateArgs),
    /// Print the keys of the file: id, role, name, scope, and how long each is valid.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Take keys out of the file: from then on they open nothing.
    ///
    ///   berth key revoke --id 3f9a01c2 --keys-file keys.toml        one key, by the id that `list` shows
    ///   berth key revoke --name web --role platform --config berth.toml   every key of that name
    #[command(verbatim_doc_comment)]
    Revoke(RevokeArgs),
}

/// Which file.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Place {
    /// The keys file.
    #[arg(long, value_name = "FILE")]
    keys_file: Option<PathBuf>,
    /// The server's configuration file, which names it as `keys_file`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    fn path(&self) -> Result<PathBuf, String> {
        self.path_and_inline().map(|(path, _)| path)
    }

    /// The file, and the keys of the configuration beside it, as far as that is known.
    fn path_and_inline(&self) -> Result<(PathBuf, Vec<KeyEntry>), String> {
        if let Some(path) = &self.keys_file {
            return Ok((path.clone(), Vec::new()));
        }
        let config = self.config.as_deref();
        let file = cli::config_file(config)?;
        let place = config.unwrap_or(Path::new("")).display();
        let path = file
            .keys_file
            .ok_or_else(|| format!("{place}: names no keys_file: add the line keys_file = \"keys.toml\""))?;
        Ok((path, file.keys))
    }
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// What it is for. Citizens come with tokens, not with keys.
    #[arg(long)]
    role: Role,
    /// Whose it is: 1 to 64 of A-Z a-z 0-9 . _ -
    #[arg(long)]
    name: String,
    /// An operator's centres, with commas between.
    #[arg(long, value_delimiter = ',', value_name = "ID,ID")]
    centres: Vec<String>,
    /// Districts at whose centres an operator works.
    #[arg(long, value_delimiter = ',', value_name = "ID,ID")]
    districts: Vec<String>,
    /// When it ends: a day (2027-01-31: at its start, UTC), an instant (2027-01-31T18:00:00Z), or how long from now (90d, 12h).
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// What the old key is for.
    #[arg(long)]
    role: Role,
    /// Whose it is.
    #[arg(long)]
    name: String,
    /// How long the old key goes on, as 7d or 12h.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    overlap: String,
    /// When the new key ends; as for `add`. Without it when the old one was to end, if it was.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The key's id: the first digits of its SHA-256, at least 8.
    #[arg(long, value_name = "HEX", conflicts_with_all = ["name", "role"], required_unless_present = "name")]
    id: Option<String>,
    /// Every key of this name and role.
    #[arg(long, requires = "role")]
    name: Option<String>,
    /// The role beside `--name`.
    #[arg(long, requires = "name")]
    role: Option<Role>,
    #[command(flatten)]
    place: Place,
}

/// Digits of a digest that stand for a key.
const ID_LEN: usize = 8;

/// Runs a command.
///
/// # Errors
/// One sentence; the file is as before.
pub(crate) fn run(command: &KeyCommand) -> Result<ExitCode, String> {
    let now = Timestamp::now();
    match command {
        KeyCommand::Add(args) => add(args, now)?,
        KeyCommand::Rotate(args) => rotate(args, now)?,
        KeyCommand::List { place } => list(place, now)?,
        KeyCommand::Revoke(args) => revoke(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add(args: &AddArgs, now: Timestamp) -> Result<(), String> {
    let (path, inline) = args.place.path_and_inline()?;
    let mut locked = Locked::open(&path)?;
    let expires = args.expires.as_deref().map(|text| instant(text, now)).transpose()?;
    let scope = KeyEntry {
        centres: args.centres.clone(),
        districts: args.districts.clone(),
        expires,
        ..KeyEntry::new(args.role, &args.name, [0; 32])
    };
    make(&mut locked, scope, now, &path, &inline)
}

fn rotate(args: &RotateArgs, now: Timestamp) -> Result<(), String> {
    let (path, inline) = args.place.path_and_inline()?;
    let mut locked = Locked::open(&path)?;
    let ends = instant(&args.overlap, now)?;
    let expires = args.expires.as_deref().map(|text| instant(text, now)).transpose()?;
    let (mut scope, mut end) = (None, None);
    for entry in locked.file.keys.iter_mut().filter(|e| e.role == args.role && e.name == args.name) {
        // Who was let in for a time is not let in for good; what ends sooner goes on ending sooner.
        end = entry.expires;
        entry.expires = Some(entry.expires.map_or(ends, |at| at.min(ends)));
        scope = Some(entry.clone());
    }
    let old = scope.ok_or_else(|| format!("{}: has no {} key {}", path.display(), args.role, args.name))?;
    make(&mut locked, KeyEntry { expires: expires.or(end), ..old }, now, &path, &inline)
}

/// Makes a key of this scope, and prints it when it is kept.
fn make(locked: &mut Locked, scope: KeyEntry, now: Timestamp, path: &Path, inline: &[KeyEntry]) -> Result<(), String> {
    let key = new_key(scope.role).map_err(|error| format!("cannot make a key: {error}"))?;
    let fresh = KeyEntry::new(scope.role, &scope.name, hash(&key));
    // To the second: for people.
    let created = Timestamp::from_second(now.as_second()).ok();
    let entry = KeyEntry { sha256: fresh.sha256, created, ..scope };
    let (id, until) = (id(&entry).to_owned(), entry.expires.map_or("for good".to_owned(), |at| format!("until {at}")));
    locked.file.keys.push(entry);
    // As the server will: with those of its configuration.
    let all = [inline, &locked.file.keys].concat();
    KeyRing::new(&all, "keys").map_err(|faults| cli::sentence(&path.display().to_string(), &faults))?;
    locked.write()?;
    cli::say(&key)?;
    cli::tell(&format!(
        "key {id}, valid {until}, kept as its SHA-256 in {}: this is the only time it is shown",
        path.display()
    ));
    Ok(())
}

fn list(place: &Place, now: Timestamp) -> Result<(), String> {
    let path = place.path()?;
    let locked = Locked::open(&path)?;
    let mut lines = vec![["id", "role", "name", "reaches", "created", "expires"].map(str::to_owned)];
    for entry in &locked.file.keys {
        let time = |at: Option<Timestamp>, none: &str| at.map_or(none.to_owned(), |at| at.to_string());
        let named = |what: &str, ids: &[String]| (!ids.is_empty()).then(|| format!("{what} {}", ids.join(",")));
        let scope: Vec<_> =
            [named("districts", &entry.districts), named("centres", &entry.centres)].into_iter().flatten().collect();
        let reaches = if scope.is_empty() { "-".to_owned() } else { scope.join("; ") };
        let mut expires = time(entry.expires, "never");
        if entry.expires.is_some_and(|at| at <= now) {
            expires.push_str(" (over)");
        }
        lines.push([
            id(entry).to_owned(),
            entry.role.to_string(),
            entry.name.clone(),
            reaches,
            time(entry.created, "-"),
            expires,
        ]);
    }
    let widths: Vec<usize> =
        (0..6).map(|i| lines.iter().map(|l| l.get(i).map_or(0, String::len)).max().unwrap_or(0)).collect();
    for line in lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cli::say(cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn revoke(args: &RevokeArgs) -> Result<(), String> {
    let path = args.place.path()?;
    let mut locked = Locked::open(&path)?;
    let chosen = |entry: &KeyEntry| match (&args.id, &args.name) {
        (Some(digits), _) => entry.sha256.to_ascii_lowercase().starts_with(&digits.to_ascii_lowercase()),
        (None, Some(name)) => entry.name == *name && Some(entry.role) == args.role,
        (None, None) => false,
    };
    if args.id.as_ref().is_some_and(|digits| digits.len() < ID_LEN) {
        return Err(format!("--id: at least {ID_LEN} digits, as `berth key list` shows them"));
    }
    let (gone, left): (Vec<_>, Vec<_>) = std::mem::take(&mut locked.file.keys).into_iter().partition(chosen);
    if gone.is_empty() {
        return Err(format!("{}: has no such key, see `berth key list`", path.display()));
    }
    if args.id.is_some() && gone.len() > 1 {
        return Err("--id: more than one key begins like this, give more digits".to_owned());
    }
    locked.file.keys = left;
    locked.write()?;
    for entry in gone {
        cli::say(&format!("revoked {} {} {}", id(&entry), entry.role, entry.name))?;
    }
    Ok(())
}

fn id(entry: &KeyEntry) -> &str {
    entry.sha256.get(..ID_LEN).unwrap_or(&entry.sha256)
}

/// A day, an instant, or a time from now.
fn instant(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || format!("{text:?} is not a day as 2027-01-31, an instant as 2027-01-31T18:00:00Z, or a time as 90d");
    let found = if let Ok(at) = text.parse::<Timestamp>() {
        at
    } else if let Ok(day) = text.parse::<jiff::civil::Date>() {
        day.to_zoned_datetime(TimeZone::UTC).map_err(|_| wrong())?.timestamp()
    } else {
        let span: jiff::Span = text.parse().map_err(|_| wrong())?;
        now.to_zoned_datetime(TimeZone::UTC).checked_add(span).map_err(|_| wrong())?.timestamp()
    };
    if found <= now {
        return Err(format!("{text:?} is not in the future"));
    }
    Timestamp::from_second(found.as_second()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_day_an_instant_or_a_time_from_now() {
        let now: Timestamp = "2026-11-26T13:00:00.7Z".parse().unwrap();
        let end = |text| instant(text, now).map(|at| at.to_string());
        assert_eq!(end("2027-01-31").as_deref(), Ok("2027-01-31T00:00:00Z"));
        assert_eq!(end("2027-01-31T18:00:00+05:30").as_deref(), Ok("2027-01-31T12:30:00Z"));
        assert_eq!(end("90d").as_deref(), Ok("2027-02-24T13:00:00Z"));
        assert_eq!(end("12h").as_deref(), Ok("2026-11-27T01:00:00Z"));
        for bad in ["", "soon", "2026-11-26", "-1d", "0s", "2027-02-30"] {
            assert!(end(bad).is_err(), "{bad}");
        }
    }
}
