//! `[tls]` of the configuration file.

use std::path::PathBuf;

use serde::Deserialize;

use super::Faults;
use crate::tls::TlsFiles;

/// TLS on `listen`, by files that are taken up again when they change and on SIGHUP.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsEntry {
    /// The certificate's chain as PEM, the server's own first. Required.
    pub(crate) cert_file: Option<PathBuf>,
    /// Its key as PEM. Required.
    pub(crate) key_file: Option<PathBuf>,
}

impl Faults {
    pub(super) fn tls(&mut self, entry: TlsEntry) -> Option<TlsFiles> {
        let cert = self.required("tls.cert_file", entry.cert_file);
        let key = self.required("tls.key_file", entry.key_file);
        let files = TlsFiles { cert: cert?, key: key? };
        if let Err(why) = files.load() {
            self.push("tls", why);
        }
        Some(files)
    }
}
