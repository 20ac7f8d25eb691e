//! What a run needs before it begins: a directory for its report, a programme and a configuration for its server, keys.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Order;
use crate::error::{CannotRun, Doing};
use crate::scenario::Scenario;

/// Where reports go unless told otherwise: under `target/`, which no checkout tracks.
pub(super) fn make_report_dir(order: &Order) -> Result<PathBuf, CannotRun> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let directory = order
        .report_dir
        .clone()
        .unwrap_or_else(|| Path::new("target").join("surge").join(format!("{}-{stamp}", order.scenario.name)));
    std::fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
    let directory = directory.canonicalize().doing(|| format!("find {}", directory.display()))?;
    if directory.join("run.json").exists() || directory.join("data").exists() {
        return Err(CannotRun::because(format!("{} already holds a run", directory.display())));
    }
    Ok(directory)
}

/// The programme the server is started with: that of India 2021, with the scenario's hold time and group size, and what the
/// scenario says of it itself.
pub(super) fn write_programme(directory: &Path, scenario: &Scenario, zone: &str) -> Result<PathBuf, CannotRun> {
    let text = format!(
        r#"name = "surge rehearsal"
time_zone = "{zone}"
hold_seconds = {}
group_claims_max = {}
booking_horizon_days = 60
booking_cutoff_minutes = 0
cancel_cutoff_minutes = 0
doses_in_order = false
holds_live_max = 0
holds_expired_per_hour_max = 0
products = [
  {{ id = "covishield", name = "Covishield", doses = 2 }},
  {{ id = "covaxin", name = "Covaxin", doses = 2 }},
  {{ id = "sputnik-v", name = "Sputnik V", doses = 2 }},
]
pools = [
  {{ id = "dose1", name = "First dose", dose = 1 }},
  {{ id = "dose2", name = "Second dose", dose = 2 }},
  {{ id = "open", name = "Any dose" }},
  {{ id = "walk_in", name = "Walk-in", walk_in = true }},
]
"#,
        scenario.server.hold_seconds, scenario.server.group_claims_max
    );
    let mut programme: toml::Table = toml::from_str(&text).doing(|| "write the programme".into())?;
    programme.extend(scenario.server.programme.clone());
    let text = toml::to_string(&programme).doing(|| "write the programme".into())?;
    let path = directory.join("programme.toml");
    std::fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// A configuration file for what no flag says; none where the scenario says nothing of it.
pub(super) fn write_config(directory: &Path, scenario: &Scenario) -> Result<Option<PathBuf>, CannotRun> {
    let server = &scenario.server;
    let mut lines: String = [("segment_mib", server.segment_mib), ("buffer_mib", server.buffer_mib)]
        .iter()
        .filter_map(|(key, value)| Some(format!("{key} = {}\n", (*value)?)))
        .collect();
    // After the lines: what follows a table would be part of it.
    lines.push_str(&toml::to_string(&server.config).doing(|| "write the server's configuration".into())?);
    if lines.is_empty() {
        return Ok(None);
    }
    let path = directory.join("server.toml");
    std::fs::write(&path, lines).doing(|| format!("write {}", path.display()))?;
    Ok(Some(path))
}

pub(super) fn random_hex() -> Result<String, CannotRun> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).doing(|| "make a key".into())?;
    Ok(hex(&bytes))
}

pub(super) fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
