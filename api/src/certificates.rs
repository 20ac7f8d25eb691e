//! Certificates at the server: which there are, the keys that sign them, and the letters of their papers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use berth_engine::Seq;
use berth_programme::certificates::fonts::Fonts;
use berth_programme::certificates::register::Register;
use berth_programme::certificates::{KeyRing, key_files, revoked_cards};
use berth_programme::store::StoreError;
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::config::certificates::warnings;

/// How often the directory of keys is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the routes of certificates work with.
pub(crate) struct Certificates {
    /// Which there are.
    pub(crate) register: Arc<Register>,
    /// What they are signed with; `None`: this server issues none, and verifies none.
    pub(crate) signing: Option<Signing>,
    /// So many are made at once: each takes a thread for its time, and the rest wait for their turn.
    pub(crate) permits: Arc<Semaphore>,
    /// The same of what is public: whoever asks for lists keeps nobody from their certificate.
    pub(crate) public: Arc<Semaphore>,
    /// The list of revoked cards of a key, as long as no more have ended.
    cards: Mutex<HashMap<String, (u64, Bytes)>>,
}

/// What certificates are signed with, and set in.
pub(crate) struct Signing {
    dir: PathBuf,
    keys: ArcSwap<KeyRing>,
    pub(crate) fonts: Fonts,
}

impl Certificates {
    pub(crate) fn new(register: Arc<Register>, signing: Option<Signing>) -> Certificates {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let permits = || Arc::new(Semaphore::new(threads));
        Certificates { register, signing, permits: permits(), public: permits(), cards: Mutex::default() }
    }
}

impl Certificates {
    /// The list of revoked cards of one of our keys, made anew only where more have ended since.
    pub(crate) fn revoked_cards(&self, key_id: &str) -> Result<Bytes, StoreError> {
        let count = self.register.ended_count()?;
        let mut cards = self.cards.lock();
        if let Some((of, list)) = cards.get(key_id)
            && *of == count
        {
            return Ok(list.clone());
        }
        let ended = self.register.ended_after(Seq(0)).map(|row| Ok(row?.id)).collect::<Result<Vec<_>, StoreError>>()?;
        // It says by which state of the list a verifier has it: it only grows.
        let list = Bytes::from(revoked_cards(key_id, ended.len() as u64, &ended));
        cards.insert(key_id.to_owned(), (ended.len() as u64, list.clone()));
        Ok(list)
    }
}

impl Signing {
    /// With the keys of a directory.
    ///
    /// # Errors
    /// In one sentence.
    pub(crate) fn open(dir: &Path) -> Result<Signing, String> {
        let keys = key_files::load(dir).map_err(|error| error.to_string())?;
        Ok(Signing { dir: dir.to_owned(), keys: ArcSwap::from_pointee(keys), fonts: Fonts::new() })
    }

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Arc<KeyRing> {
        self.keys.load_full()
    }

    /// Takes the directory up again. What is wrong changes nothing.
    fn reload(&self) -> bool {
        let dir = self.dir.display();
        match key_files::load(&self.dir) {
            Ok(keys) => {
                self.keys.store(Arc::new(keys));
                tracing::info!(%dir, "took up the keys of certificates");
                true
            }
            Err(error) => {
                tracing::error!(%dir, %error, "the keys of certificates are wrong: those before go on");
                false
            }
        }
    }

    fn stamp(&self) -> Option<SystemTime> {
        std::fs::metadata(self.dir.join(key_files::INDEX)).and_then(|found| found.modified()).ok()
    }
}

/// Tells the operator what keeps certificates from being signed, or found good, if any are to be signed here.
pub(crate) fn warn(app: &App) {
    let Some(signing) = app.signing() else { return };
    let (rules, keys) = (app.campaign.programme.get(), signing.keys());
    let public_url = app.limits.fhir.public_url.as_deref();
    for warning in warnings(rules.file(), Some(&keys), public_url, Timestamp::now()) {
        tracing::warn!("{warning}");
    }
}

/// Follows the directory of keys until the server ends: when its list changes, and on SIGHUP.
///
/// # Errors
/// The signal cannot be listened for.
pub(crate) fn follow(app: Arc<App>) -> std::io::Result<()> {
    if app.signing().is_none() {
        return Ok(());
    }
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut seen = app.signing().and_then(Signing::stamp);
        loop {
            let asked = tokio::select! {
                received = hang_up.recv() => received.is_some(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let looking = Arc::clone(&app);
            let look = move || {
                let signing = looking.signing()?;
                let found = signing.stamp();
                // What cannot be taken up yet is tried again: a list may be there before its keys.
                if (asked || found != seen) && !signing.reload() {
                    return seen;
                }
                if found != seen {
                    warn(&looking);
                }
                found
            };
            match tokio::task::spawn_blocking(look).await {
                Ok(found) => seen = found,
                // The server is ending.
                Err(_) => return,
            }
        }
    });
    Ok(())
}
