//! The programme taken up while serving: by a call, and on SIGHUP.
//!
//! Not by itself when its file changes, as other files are: rules bind people, so somebody says when.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use berth_engine::Idempotency;
use berth_programme::{Source, TakeUpError, TakenUp};
use tokio::signal::unix::{SignalKind, signal};

use crate::access::{hash, hex};
use crate::app::App;

/// Where the programme lies, and how often it was taken up.
#[derive(Debug, Default)]
pub(crate) struct ProgrammeSource {
    /// The file; none in the demo.
    pub(crate) file: Option<PathBuf>,
    /// SHA-256 of the text that the start read: in the demo, of the one that is built in.
    pub(crate) sha256: [u8; 32],
    pub(crate) reloads: AtomicU64,
    pub(crate) failures: AtomicU64,
}

/// Why the programme before stays in force.
#[derive(Debug)]
pub(crate) enum NotTakenUp {
    /// There is no file to read again.
    NoFile,
    /// The file cannot be read.
    Unreadable(String),
    /// It can be read, and not be taken up.
    Programme(TakeUpError),
}

/// Takes up this text, or the file again. Blocks on file and disk.
pub(crate) fn take_up(app: &App, text: Option<&str>, idempotency: Option<Idempotency>) -> Result<TakenUp, NotTakenUp> {
    let taken = try_to_take_up(app, text, idempotency);
    match &taken {
        Ok(taken) if taken.changed => {
            app.programme.reloads.fetch_add(1, Relaxed);
            tracing::info!(
                sha256 = hex(&taken.sha256),
                entry = taken.entry.map(|entry| entry.0),
                "took up the programme"
            );
        }
        Ok(_) => {}
        Err(_) => {
            app.programme.failures.fetch_add(1, Relaxed);
        }
    }
    taken
}

fn try_to_take_up(app: &App, text: Option<&str>, idempotency: Option<Idempotency>) -> Result<TakenUp, NotTakenUp> {
    let read = || {
        let path = app.programme.file.as_ref().ok_or(NotTakenUp::NoFile)?;
        let unreadable = |error| NotTakenUp::Unreadable(format!("the programme file cannot be read: {error}"));
        std::fs::read_to_string(path).map_err(unreadable)
    };
    let now = app.campaign.engine.now();
    let publisher = &app.campaign.publisher;
    let taken = match text {
        // What a start would read. If that cannot be known now, the next start could not say whether it has changed.
        Some(text) => {
            let file_sha256 = match app.programme.file {
                Some(_) => hash(&read()?),
                None => app.programme.sha256,
            };
            publisher.take_up(text, Source::Call { file_sha256 }, idempotency, now)
        }
        None => publisher.take_up(&read()?, Source::File, idempotency, now),
    };
    taken.map_err(NotTakenUp::Programme)
}

/// Whether a call's programme is in force, and the file is the one that was there then.
fn file_is_as_it_was(app: &App) -> bool {
    let noted = app.campaign.catalogue.programmes().last().and_then(|kept| kept.file_sha256());
    let file = app.programme.file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    noted.is_some() && noted == file.map(|file| hash(&file))
}

/// From now on SIGHUP takes the file up again.
///
/// # Errors
/// The signal cannot be listened for.
pub(crate) fn follow(app: Arc<App>) -> std::io::Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            let app = Arc::clone(&app);
            let taken = tokio::task::spawn_blocking(move || {
                // SIGHUP is for other files, too: what came by a call stays until the file itself has changed, as at a start.
                if file_is_as_it_was(&app) {
                    tracing::info!("the programme came by a call, and its file has not changed since: it stays");
                    return Ok(None);
                }
                take_up(&app, None, None).map(Some)
            })
            .await;
            match taken {
                Ok(Err(NotTakenUp::Programme(why))) => {
                    tracing::error!(%why, "the programme file is wrong: what was in force goes on");
                }
                Ok(Err(NotTakenUp::Unreadable(why))) => tracing::error!(why, "what was in force goes on"),
                Ok(Ok(_) | Err(NotTakenUp::NoFile)) => {}
                // The server is ending.
                Err(_) => return,
            }
        }
    });
    Ok(())
}
