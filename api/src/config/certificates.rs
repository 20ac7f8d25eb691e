//! What the configuration says of certificates: where the keys lie that sign them.

use std::path::PathBuf;

use berth_programme::certificates::key_files;
use serde::Deserialize;

use super::Faults;

/// Certificates. docs/certificates.md tells more.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificatesEntry {
    /// Where the keys lie that sign them, as `berth certificate keygen` makes them; taken up again when `keys.toml` changes, and on SIGHUP.
    /// Required.
    pub(crate) keys_dir: Option<PathBuf>,
}

impl Faults {
    pub(super) fn certificates(&mut self, entry: CertificatesEntry) -> Option<PathBuf> {
        let dir = self.required("certificates.keys_dir", entry.keys_dir)?;
        if let Err(error) = key_files::load(&dir) {
            self.push("certificates.keys_dir", error.to_string());
        }
        Some(dir)
    }
}
