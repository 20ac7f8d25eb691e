//! What the configuration says of the audit log.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Faults;
use crate::access::Role;
use crate::audit::AuditConfig;

/// The audit log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditEntry {
    /// Where it is written, one JSON object a line. Required.
    pub(crate) file: Option<PathBuf>,
    /// It is set aside under a name with the time when it has so many MiB. 0 to 1048576; 0: never. Default 256.
    pub(crate) rotate_mib: Option<u64>,
    /// A line is synced so long after its answer, at most. 0 to 60000. Default 1000.
    pub(crate) sync_ms: Option<u64>,
    /// Lines that may wait to be written. 16 to 10 million. Default 65536.
    pub(crate) queue_max: Option<usize>,
    /// Whose requests are refused as `audit_unavailable` when they cannot be audited; those of others go on and are counted
    /// as lost. Default `admin` and `operator`.
    pub(crate) refuse: Option<Vec<Role>>,
}

impl Faults {
    pub(super) fn audit(&mut self, entry: AuditEntry) -> AuditConfig {
        let file = self.required("audit.file", entry.file);
        if let Some(file) = &file {
            let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            if parent.is_some_and(|parent| !parent.is_dir()) {
                self.push("audit.file", format!("{}: its folder is not there", file.display()));
            }
        }
        let rotate_mib = self.within("audit.rotate_mib", entry.rotate_mib, 256, 0, 1 << 20);
        AuditConfig {
            file: file.unwrap_or_default(),
            rotate_bytes: (rotate_mib > 0).then_some(rotate_mib << 20),
            sync_every: Duration::from_millis(self.within("audit.sync_ms", entry.sync_ms, 1000, 0, 60_000)),
            queue_max: self.within("audit.queue_max", entry.queue_max, 65_536, 16, 10_000_000),
            refuse: entry.refuse.unwrap_or_else(|| vec![Role::Admin, Role::Operator]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConfigFile;

    #[test]
    fn an_audit_log_needs_a_folder_that_is_there() {
        let audit = |text: &str| {
            let faults = ConfigFile::parse(text).unwrap().validate().unwrap_err();
            let faults = faults.iter().map(ToString::to_string);
            faults.filter(|fault| fault.starts_with("audit")).collect::<Vec<_>>()
        };
        assert_eq!(audit("[audit]\nsync_ms = 60001").len(), 2);
        assert_eq!(
            audit("[audit]\nfile = 'no/such/audit.ndjson'"),
            ["audit.file: no/such/audit.ndjson: its folder is not there"]
        );
        assert_eq!(audit("[audit]\nfile = 'audit.ndjson'"), [""; 0]);
    }
}
