//! `berth people`: what an operator does to the keys of people while no server runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use berth_engine::JournalFiles;
use berth_programme::people::{KEY_TABLE, MasterKey, Rekeyed, rekey};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli;
use crate::config::people::MASTER_VARIABLE;

/// Its commands.
#[derive(Debug, Subcommand)]
pub(crate) enum PeopleCommand {
    /// Change the master key: wrap every person's key anew. The server must be stopped.
    ///
    /// Records, journal and store stay as they are. Then name the new file as `people.master_key_file` and start; everybody logs in again.
    /// Cut off, the table is whole under one of the two keys: run it again. Backups of the key table from before still open under the old
    /// master key: take a new one and destroy them, then destroy the old key. docs/people.md tells more.
    Rekey(RekeyArgs),
}

/// Whose keys, and the two master keys.
#[derive(Debug, Args)]
pub(crate) struct RekeyArgs {
    /// The data directory. No server may own it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The file of the master key so far. Without it the environment's `BERTH_PEOPLE_KEY` is taken.
    #[arg(long, value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// The file of the new one; made if it is not there.
    #[arg(long, value_name = "FILE")]
    new_master_key_file: PathBuf,
}

/// Runs `berth people`.
///
/// # Errors
/// In one sentence.
pub(crate) fn run(command: &PeopleCommand) -> Result<ExitCode, String> {
    let PeopleCommand::Rekey(RekeyArgs { data_dir, master_key_file, new_master_key_file }) = command;
    // Held to the end: nobody makes keys under the old one meanwhile.
    let _files = JournalFiles::open(data_dir).map_err(|error| error.to_string())?;
    let old = match master_key_file {
        Some(path) => load(path)?,
        None => {
            let text = std::env::var(MASTER_VARIABLE);
            let text = text.map_err(|_| format!("--master-key-file is missing, and there is no {MASTER_VARIABLE}"))?;
            MasterKey::parse(&text).map_err(|error| format!("{MASTER_VARIABLE}: {error}"))?
        }
    };
    let table = data_dir.join(KEY_TABLE);
    if !table.exists() {
        return Err(format!("{}: nobody has registered here yet: name another master key and start", table.display()));
    }
    let new = match new_master_key_file.exists() {
        true => load(new_master_key_file)?,
        false => MasterKey::make(new_master_key_file)
            .map_err(|error| format!("{}: {error}", new_master_key_file.display()))?,
    };
    let done = rekey(&table, &Arc::new(old), &new).map_err(|error| format!("{}: {error}", table.display()))?;
    let Rekeyed { keys, destroyed, already } = done;
    let file = new_master_key_file.display();
    cli::tell(&match already {
        true => {
            format!("berth: the key table is under this key already: name {file} as people.master_key_file and start")
        }
        false => format!(
            "berth: {keys} keys wrapped anew: name {file} as people.master_key_file, start, and keep a copy of it apart"
        ),
    });
    cli::say(
        &json!({"rekeyed": data_dir.display().to_string(), "keys": keys, "destroyed": destroyed, "already": already})
            .to_string(),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn load(path: &Path) -> Result<MasterKey, String> {
    MasterKey::load(path).map_err(|error| format!("{}: {error}", path.display()))
}
