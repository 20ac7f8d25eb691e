//! People at the server: opened with the cell, and how codes reach their phones. What is kept of them, and how, is the programme's.

pub(crate) mod command;
mod sink;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_engine::Engine;
use berth_programme::Campaign;
use berth_programme::people::{Checked, CodeDesk, CodeLimits, KEY_TABLE, MasterKey, People, PeopleConfig, RecordRules};
use berth_programme::store::{Projection, Store, StoreError};

pub(crate) use self::sink::{Secret, Sink, SinkSettings, WebhookSettings};

/// Tokens of ours that open nothing any more, in the data directory.
pub(crate) const REVOKED: &str = "people.revoked";
/// How long a start waits for the store to have seen the log.
const CATCH_UP_MAX: Duration = Duration::from_secs(24 * 3600);
const CATCH_UP_LOOK: Duration = Duration::from_secs(5);

/// Where the master key comes from.
#[derive(Clone, Debug)]
pub(crate) enum Master {
    /// A file, made if there is none.
    File(PathBuf),
    /// The environment.
    Key(Arc<MasterKey>),
}

/// What the configuration says of people.
#[derive(Clone, Debug)]
pub(crate) struct PeopleSettings {
    pub(crate) master: Master,
    pub(crate) rules: RecordRules,
    /// `None`: as the programme has it.
    pub(crate) members_max: Option<usize>,
    pub(crate) offer_ms: u64,
    pub(crate) session_life: Duration,
    pub(crate) codes: CodeLimits,
    /// `None`: nobody is sent codes, so nobody registers by themselves.
    pub(crate) sink: Option<SinkSettings>,
}

/// Codes, where they are sent.
pub(crate) struct Codes {
    pub(crate) desk: CodeDesk,
    pub(crate) sink: Sink,
}

/// What the routes of people work with.
pub(crate) struct Registration {
    pub(crate) people: Arc<People>,
    pub(crate) codes: Option<Codes>,
}

/// The master key, made at a cell's first start.
///
/// # Errors
/// In one sentence.
pub(crate) fn master_key(master: &Master, data_dir: &Path) -> Result<Arc<MasterKey>, String> {
    let path = match master {
        Master::Key(key) => return Ok(Arc::clone(key)),
        Master::File(path) => path,
    };
    let wrong = |error: &dyn std::fmt::Display| format!("people.master_key_file {}: {error}", path.display());
    if path.exists() {
        return MasterKey::load(path).map(Arc::new).map_err(|error| wrong(&error));
    }
    if People::has_key_table(&data_dir.join(KEY_TABLE)) {
        return Err(wrong(&"is gone, and what is kept of people can be read with it alone"));
    }
    let made = MasterKey::make(path).map_err(|error| wrong(&error))?;
    tracing::warn!(
        file = %path.display(),
        "made the master key of people: keep a copy of this file apart from the data directory and its backups; without it nothing \
         of people can be read again"
    );
    Ok(Arc::new(made))
}

/// Opens the tables of people; the store is to follow the log with what comes back.
///
/// # Errors
/// In one sentence.
pub(crate) fn open(
    settings: &PeopleSettings,
    master: &Arc<MasterKey>,
    campaign: &Campaign,
    store: &Arc<Store>,
    data_dir: &Path,
) -> Result<(Registration, Arc<dyn Projection>), String> {
    let Campaign { engine, programme, .. } = campaign;
    let members = usize::try_from(programme.get().file().members_per_account_max).unwrap_or(usize::MAX);
    let config = PeopleConfig {
        key_table: data_dir.join(KEY_TABLE),
        rules: RecordRules { programme: Some(Arc::clone(programme)), ..settings.rules.clone() },
        members_max: settings.members_max.unwrap_or(members),
        offer_ms: settings.offer_ms,
    };
    let (people, projection) = People::open(engine, store, master, config).map_err(|error| error.to_string())?;
    let codes = settings.sink.clone().map(|sink| {
        let desk = CodeDesk::new(master, settings.codes).map_err(|error| format!("codes: {error}"))?;
        Ok::<_, String>(Codes { desk, sink: Sink::open(sink).map_err(|error| format!("codes: {error}"))? })
    });
    Ok((Registration { people: Arc::new(people), codes: codes.transpose()? }, projection))
}

/// Looks whether keys and records belong together, once the store has seen the log; tells the operator of what it mended.
///
/// # Errors
/// In one sentence.
pub(crate) fn check(people: &People) -> Result<(), String> {
    let Checked { destroyed_again, missing } = people.check().map_err(|error| error.to_string())?;
    if destroyed_again > 0 {
        tracing::warn!(
            keys = destroyed_again,
            "the key table is a copy from before erasures and merges that the store knows of: those keys are destroyed again"
        );
    }
    if missing > 0 {
        tracing::error!(
            records = missing,
            "the key table is a copy from before people registered: their records cannot be read; if there is a newer copy of \
             people.keys, stop this server and put it in its place"
        );
    }
    Ok(())
}

/// Waits until the store has seen what the log holds: before that nobody's record would be found.
///
/// # Errors
/// In one sentence.
pub(crate) fn catch_up(store: &Store, engine: &Engine) -> Result<(), String> {
    let durable = engine.durable();
    let started = std::time::Instant::now();
    loop {
        match store.wait(durable, CATCH_UP_LOOK) {
            Ok(()) => return Ok(()),
            Err(StoreError::Behind(_)) if started.elapsed() < CATCH_UP_MAX => {
                let (applied, durable) = (store.applied().0, durable.0);
                tracing::info!(applied, durable, "the store of projections is catching up with the log");
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
