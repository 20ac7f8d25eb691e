//! TLS by rustls: certificate and key from files, taken up again when they change or on SIGHUP, without a connection lost.
//!
//! A pair that cannot be used is told of and the one before stays in force, so a renewal that goes wrong half-way does no
//! harm until the certificate runs out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

mod expiry;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What may be spoken inside, the better first.
const SPOKEN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where certificate and key lie, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// A pair that can be used.
pub(crate) struct Loaded {
    config: Arc<ServerConfig>,
    /// When the server's own certificate runs out, in seconds since 1970, if that can be read.
    expires: Option<i64>,
}

/// What is shown to who connects.
pub(crate) struct Tls {
    files: TlsFiles,
    in_force: RwLock<Loaded>,
    /// When the files that were last tried were written.
    tried: Mutex<[Option<SystemTime>; 2]>,
}

impl Tls {
    /// # Errors
    /// In one sentence, with the file.
    pub(crate) fn new(files: TlsFiles) -> Result<Tls, String> {
        let tried = Mutex::new(files.written());
        Ok(Tls { in_force: RwLock::new(files.load()?), tried, files })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.in_force.read().config))
    }

    /// When the certificate in force runs out, in seconds since 1970.
    pub(crate) fn expires(&self) -> Option<i64> {
        self.in_force.read().expires
    }

    /// Takes the files up again.
    pub(crate) fn reload(&self) {
        *self.tried.lock() = self.files.written();
        match self.files.load() {
            Ok(loaded) => {
                *self.in_force.write() = loaded;
                tracing::info!(cert = %self.files.cert.display(), "took up the certificate again");
            }
            Err(why) => tracing::error!(why, "cannot take up the certificate again: the one before stays in force"),
        }
    }

    fn changed(&self) -> bool {
        *self.tried.lock() != self.files.written()
    }
}

/// Looks at the files for as long as the process lives, and at once when it is told to.
pub(crate) async fn watch(tls: &Tls, mut hang_up: tokio::signal::unix::Signal) {
    loop {
        tokio::select! {
            _ = hang_up.recv() => tls.reload(),
            () = tokio::time::sleep(LOOK_EVERY) => {
                if tls.changed() {
                    // Two files are not written at one instant: the second may be a moment behind.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    tls.reload();
                }
            }
        }
    }
}

impl TlsFiles {
    fn written(&self) -> [Option<SystemTime>; 2] {
        let written = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        [written(&self.cert), written(&self.key)]
    }

    /// Reads the pair and sees that one fits the other.
    ///
    /// # Errors
    /// In one sentence, with the file.
    pub(crate) fn load(&self) -> Result<Loaded, String> {
        let at = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&self.cert)
            .map_err(|error| at(&self.cert, &error))?
            .collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| at(&self.cert, &error))?;
        if chain.is_empty() {
            return Err(at(&self.cert, &"there is no certificate in it"));
        }
        let expires = chain.first().and_then(|own| expiry::not_after(own));
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| at(&self.key, &error))?;
        let of_both = |error: rustls::Error| format!("{} and {}: {error}", self.cert.display(), self.key.display());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(of_both)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(of_both)?;
        config.alpn_protocols = SPOKEN.map(<[u8]>::to_vec).to_vec();
        Ok(Loaded { config: Arc::new(config), expires })
    }
}
