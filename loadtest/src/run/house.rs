//! Whose server is driven: the run's own, or one that was there before and goes on afterwards.
//!
//! Of the other's nothing is known but what it says over HTTP: no data directory, no process. What a run publishes there has names
//! of its own, and the witnesses are narrowed to it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::audit::EvidenceFiles;
use crate::drive::{Field, ServerSeat};
use crate::error::{CannotRun, Doing};
use crate::fault::Kill;
use crate::inventory::Inventory;
use crate::process::Server;
use crate::scenario::Scenario;

/// A server that the run does not start, and the keys it is asked with.
#[derive(Clone)]
pub(crate) struct Target {
    /// Without a slash at the end.
    pub(crate) url: String,
    pub(crate) platform_key: String,
    pub(crate) admin_key: String,
}

/// Keys are not for any log.
impl std::fmt::Debug for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Target").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Target {
    /// The server at `url`, with the keys that stand in these variables of the environment.
    pub(crate) fn new(url: &str, key_env: &str, admin_key_env: &str) -> Result<Self, CannotRun> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(CannotRun::because(format!("--target {url} is no http:// or https:// address")));
        }
        let key = |name: &str| match std::env::var(name) {
            Ok(key) if !key.trim().is_empty() => Ok(key.trim().to_owned()),
            _ => Err(CannotRun::because(format!("the environment has no {name}, from which a key was to be taken"))),
        };
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            platform_key: key(key_env)?,
            admin_key: key(admin_key_env)?,
        })
    }

    /// What of a scenario cannot be done to a server that the run did not start.
    pub(crate) fn allows(scenario: &Scenario) -> Result<(), CannotRun> {
        let mut wrong = Vec::new();
        for (index, fault) in scenario.faults.iter().enumerate() {
            let own = fault.kill.is_some() || fault.server.is_some() || fault.redis.is_some() || fault.disk.is_some();
            if own {
                let word = fault.word();
                wrong.push(format!("faults[{index}] ({word}) is done to a server of the run's own; name a `command`"));
            }
        }
        for (name, there) in [
            ("[redis]", scenario.redis.is_some()),
            ("[disk]", scenario.disk.is_some()),
            ("server.cpu_share", scenario.server.cpu_share.is_some()),
            ("server.config", !scenario.server.config.is_empty()),
            ("server.programme", !scenario.server.programme.is_empty()),
            ("server.snapshot_every_seconds", scenario.server.snapshot_every_seconds.is_some()),
        ] {
            if there {
                wrong.push(format!("{name} is of a server of the run's own"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(CannotRun::because(format!("with --target: {}", wrong.join("; ")))) }
    }
}

/// The server of a run.
#[derive(Debug)]
pub(super) enum House {
    Own(Box<Server>),
    /// At this address.
    Elsewhere(String),
}

impl House {
    pub(super) fn base_url(&self) -> String {
        match self {
            Self::Own(server) => server.base_url(),
            Self::Elsewhere(url) => url.clone(),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Own(server) => server.pid(),
            Self::Elsewhere(_) => None,
        }
    }

    /// Whether the run's own server ended without being asked to.
    pub(super) fn gone(&mut self) -> Option<CannotRun> {
        match self {
            Self::Own(server) => server.gone(),
            Self::Elsewhere(_) => None,
        }
    }

    pub(super) fn starts(&self) -> &[Duration] {
        match self {
            Self::Own(server) => &server.starts,
            Self::Elsewhere(_) => &[],
        }
    }

    pub(super) async fn drain(self) -> Result<(), CannotRun> {
        match self {
            Self::Own(server) => server.drain().await,
            Self::Elsewhere(_) => Ok(()),
        }
    }
}

impl ServerSeat for House {
    async fn kill(&mut self) -> Result<(), CannotRun> {
        match self {
            Self::Own(server) => server.kill().await,
            Self::Elsewhere(_) => Err(CannotRun::because("only a server of the run's own can be killed")),
        }
    }

    fn set_clock_back(&mut self, back: Duration) {
        if let Self::Own(server) = self {
            server.set_clock_back(back);
        }
    }

    async fn restart(&mut self, next: Option<Kill>) -> Result<(), CannotRun> {
        match self {
            Self::Own(server) => server.restart(next).await,
            Self::Elsewhere(_) => Err(CannotRun::because("only a server of the run's own can be started")),
        }
    }
}

/// The witnesses of a server elsewhere: its export, narrowed to what is the run's own, in the place of all that a data directory
/// would tell.
pub(super) fn witness_from_outside(
    files: &EvidenceFiles,
    inventory: &Inventory,
    field: &Field,
    parties: u32,
) -> Result<(), CannotRun> {
    let sessions: BTreeSet<&str> = inventory.sessions.iter().map(|session| session.id.as_str()).collect();
    let own = |line: &Value| match line["kind"].as_str() {
        Some("slot") => line["session"].as_str().is_some_and(|session| sessions.contains(session)),
        Some("booking") => {
            let number = line["party"].as_str().and_then(|party| field.number_of(party));
            number.is_some_and(|number| number < u64::from(parties))
        }
        _ => false,
    };
    narrow(&files.live_export, &files.export, own)?;
    std::fs::copy(&files.export, &files.live_export).doing(|| "keep the export".into())?;
    std::fs::write(&files.entries, "").doing(|| "write no entries".into())?;
    let verify = r#"{"verdict":"not read","entries":0,"findings":[]}"#;
    std::fs::write(&files.verify, verify).doing(|| "write no verification".into())
}

/// Copies the lines of an export that are `own`, and ends it with their counts.
fn narrow(from: &Path, to: &Path, own: impl Fn(&Value) -> bool) -> Result<(), CannotRun> {
    let reading = || format!("read {}", from.display());
    let writing = || format!("write {}", to.display());
    let mut out = BufWriter::new(std::fs::File::create(to).doing(writing)?);
    let (mut slots, mut bookings, mut ended) = (0_u64, 0_u64, false);
    for line in BufReader::new(std::fs::File::open(from).doing(reading)?).lines() {
        let line = line.doing(reading)?;
        let value: Value = serde_json::from_str(&line).doing(reading)?;
        ended |= value["kind"] == "end";
        if own(&value) {
            slots += u64::from(value["kind"] == "slot");
            bookings += u64::from(value["kind"] == "booking");
            writeln!(out, "{line}").doing(writing)?;
        }
    }
    if !ended {
        return Err(CannotRun::because(format!("{} has no end line: the export was cut", from.display())));
    }
    let end = serde_json::json!({ "kind": "end", "slots": slots, "bookings": bookings });
    writeln!(out, "{end}").doing(writing)?;
    out.flush().doing(writing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::SMALL;

    #[test]
    fn an_export_is_narrowed_to_the_runs_own() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        let whole = "{\"kind\":\"slot\",\"n\":1}\n{\"kind\":\"slot\",\"n\":2}\n{\"kind\":\"booking\",\"n\":2}\n";
        std::fs::write(&from, format!("{whole}{{\"kind\":\"end\",\"slots\":2,\"bookings\":1}}\n")).unwrap();
        narrow(&from, &to, |line| line["n"] == 2).unwrap();
        let text = std::fs::read_to_string(&to).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((text.lines().count(), last["slots"].as_u64(), last["bookings"].as_u64()), (3, Some(1), Some(1)));
        std::fs::write(&from, whole).unwrap();
        assert!(narrow(&from, &to, |_| true).unwrap_err().to_string().contains("was cut"));
    }

    #[test]
    fn what_needs_a_server_of_its_own_is_named_at_once() {
        let text = format!(
            "{SMALL}\n[redis]\n[[faults]]\nkill = \"plain\"\nat_seconds = 1.0\n[[faults]]\ncommand = \"true\"\nat_seconds = 1.0\n"
        );
        let scenario: Scenario = toml::from_str(&text).unwrap();
        let said = Target::allows(&scenario).unwrap_err().to_string();
        assert!(
            said.contains("faults[0] (plain)") && said.contains("[redis]") && !said.contains("faults[1]"),
            "{said}"
        );
        Target::allows(&toml::from_str(SMALL).unwrap()).unwrap();
    }

    #[test]
    fn a_key_is_taken_from_the_environment_and_shown_nowhere() {
        let said = Target::new("http://h", "BERTH_NO_SUCH_KEY", "BERTH_NO_SUCH_KEY").unwrap_err().to_string();
        assert!(said.contains("has no BERTH_NO_SUCH_KEY"));
        assert!(Target::new("ftp://h", "PATH", "PATH").unwrap_err().to_string().contains("is no http://"));
        let target = Target::new("http://h/", "PATH", "PATH").unwrap();
        let path = std::env::var("PATH").unwrap();
        assert!(target.url == "http://h" && !format!("{target:?}").contains(&path));
    }
}
