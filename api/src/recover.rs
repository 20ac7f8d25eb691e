//! `berth recover`: a data directory rebuilt from Redis alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use berth_engine::CodeKey;
use berth_engine::journal::redis_stream::RedisStream;
use berth_engine::recover::{Progress, RecoverReport, Recovery, recover};
use clap::Args;
use serde_json::json;

use crate::cli::{self, say, tell};
use crate::config::{ConfigFile, RedisEntry};
use crate::meter::{Meter, Unit};

/// What a recovery is told. What the configuration file says of Redis, the cell and the segments is taken from there.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Redis to rebuild from, as redis://host:port/db. Its password is better put in --password-file.
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    from: Option<String>,
    /// The data directory to make; absent or empty.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// The old owner is dead, or is to stop: from now on Redis refuses it.
    #[arg(long)]
    old_owner_is_dead: bool,
    /// A copy of the old directory's code.key: it is in neither journal nor Redis.
    #[arg(long, value_name = "FILE")]
    code_key: Option<PathBuf>,
    /// Make a new key: no booking code that was given out so far will be known any more.
    #[arg(long, conflicts_with = "code_key")]
    new_code_key: bool,
    /// Prefix of the keys. Default berth:{cell}.
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Which cell it is of. Default 1.
    #[arg(long, value_name = "N")]
    cell: Option<u16>,
    /// A file that holds Redis's password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Who signed Redis's certificate, as PEM, for rediss://.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The server's configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show no progress on standard error.
    #[arg(long)]
    quiet: bool,
}

/// `berth recover`
pub(crate) fn run(args: RecoverArgs) -> Result<ExitCode, String> {
    // rule: FNC-7
    if !args.old_owner_is_dead {
        return Err("a recovery takes the cell away from its old owner, which Redis refuses from then on: say \
                    --old-owner-is-dead when it is"
            .to_owned());
    }
    let code_key = match (&args.code_key, args.new_code_key) {
        (Some(path), _) => Some(read_key(path)?),
        (None, true) => None,
        (None, false) => {
            return Err(
                "the key of the booking codes is in neither journal nor Redis: say --code-key FILE with a copy \
                        of the old directory's code.key, or --new-code-key, and then no booking code that was given \
                        out so far is known any more"
                    .to_owned(),
            );
        }
    };
    let mut file = cli::config_file(args.config.as_deref())?;
    file.cell = args.cell.or(file.cell);
    let mut entry = file.redis.take().unwrap_or_default();
    entry.url = args.from.or(entry.url);
    entry.prefix = args.prefix.or(entry.prefix);
    entry.password_file = args.password_file.or(entry.password_file);
    entry.ca_file = args.ca_file.or(entry.ca_file);
    let place = args.config.map_or_else(|| "the flags".to_owned(), |path| path.display().to_string());
    let (recovery, redis) =
        settings(file, entry, args.into, code_key).map_err(|faults| cli::sentence(&place, &faults))?;
    let mut stream = RedisStream::new(&redis)?;
    let mut meter = Meter::new(args.quiet);
    let report = recover(&mut stream, &recovery, &mut |progress| show(&mut meter, progress));
    drop(meter);
    let report = report.map_err(|error| error.to_string())?;
    summary(&recovery, &report)?;
    Ok(ExitCode::SUCCESS)
}

fn settings(
    file: ConfigFile,
    entry: RedisEntry,
    dir: PathBuf,
    code_key: Option<CodeKey>,
) -> Result<(Recovery, berth_engine::RedisConfig), Vec<berth_programme::KeyFault>> {
    let (cell, segment_bytes, redis) = file.for_recovery(entry)?;
    Ok((Recovery { dir, cell, segment_bytes, code_key }, redis))
}

fn read_key(path: &Path) -> Result<CodeKey, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    CodeKey::from_text(&text).ok_or_else(|| format!("{}: not 32 hexadecimal digits", path.display()))
}

fn show(meter: &mut Meter, progress: Progress) {
    match progress {
        Progress::Fenced { epoch } => {
            meter.clear();
            tell(&format!("epoch {epoch} is taken: the old owner is refused from now on"));
        }
        Progress::Snapshot { pieces, of, .. } => {
            meter.show("bringing the snapshot", pieces, of, Unit::Things("pieces"));
        }
        Progress::Journal { seq, of } => meter.show("bringing the journal", seq.0, of.0, Unit::Things("entries")),
    }
}

fn summary(recovery: &Recovery, report: &RecoverReport) -> Result<(), String> {
    for (s0, why) in &report.snapshots_damaged {
        tell(&format!("berth: passed over the snapshot at {s0}: {why}"));
    }
    let damaged = report.snapshots_damaged.len();
    say(&json!({
        "recovered": recovery.dir.display().to_string(),
        "cell": recovery.cell.0,
        "epoch": report.epoch.0,
        "snapshot": report.snapshot.map(|s0| s0.0),
        "snapshots_damaged": damaged,
        "first_entry": report.base.0 + 1,
        "last_entry": report.last.0,
        "frames": report.frames,
        "bytes": report.bytes,
    })
    .to_string())
}
