//! An engine with its programme and catalogue, opened together.

use std::path::Path;
use std::sync::Arc;

use berth_engine::progress::Progress;
use berth_engine::{AllowAll, Config, Engine, Limits, Note, OpenError, ReplayReport};

use crate::catalogue::{ApplyError, Catalogue};
use crate::faults::joined;
use crate::file::KeyFault;
use crate::in_force::InForce;
use crate::note::{self, NoteError};
use crate::programme::Programme;
use crate::publish::Publisher;
use crate::take_up;

/// Everything a server or an embedding process needs of one cell. Cheap to clone; all of it is shared.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Slots, parties, bookings, journal.
    pub engine: Arc<Engine>,
    /// The rules.
    pub programme: Arc<InForce>,
    /// Regions, centres, sessions.
    pub catalogue: Arc<Catalogue>,
    /// Bulk publishing.
    pub publisher: Arc<Publisher>,
}

/// Why a campaign cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// The engine cannot be.
    #[error("{0}")]
    Engine(#[from] OpenError),
    /// The journal keeps a note that this programme cannot use.
    #[error("journal entry {seq}: {error}")]
    Note {
        /// The entry.
        seq: u64,
        /// What is wrong with it.
        error: NoteError,
    },
    /// The programme does not number as the journal does, or has another currency.
    #[error("{0}")]
    Numbering(#[from] NoteError),
    /// The programme file does not keep what the campaign rests on.
    #[error("the programme file breaks with the one in force since journal entry {seq}: {}", joined(.faults))]
    Breaks {
        /// The entry.
        seq: u64,
        /// What is wrong with the file.
        faults: Vec<KeyFault>,
    },
    /// The journal keeps a note that does not follow from those before it.
    #[error("journal entry {seq}: {error}")]
    Apply {
        /// The entry.
        seq: u64,
        /// What is wrong with it.
        error: ApplyError,
    },
}

impl Campaign {
    /// Opens the engine and replays its journal, notes into the catalogue.
    ///
    /// # Errors
    /// What is wrong, in one sentence. The engine is closed again.
    pub fn open(config: Config, programme: Programme) -> Result<(Campaign, ReplayReport), CampaignError> {
        Self::open_watched(config, programme, &mut |_| {})
    }

    /// As [`Campaign::open`]; `on_progress` is told many times a second how far it is.
    ///
    /// # Errors
    /// As [`Campaign::open`].
    pub fn open_watched(
        config: Config,
        programme: Programme,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(Campaign, ReplayReport), CampaignError> {
        let programme = Arc::new(InForce::new(programme));
        let catalogue = Arc::new(Catalogue::default());
        let mut bad_note = None;
        let mut on_note = |note: Note<'_>| {
            if bad_note.is_none() {
                bad_note = replay(&catalogue, &note).err();
            }
        };
        let (engine, report) =
            Engine::open_watched(config, Arc::<InForce>::clone(&programme), &mut on_note, on_progress)?;
        let engine = Arc::new(engine);
        if let Some(error) = bad_note {
            // The note is what to tell; a journal that also fails to close says so at the next start.
            let _ = engine.close();
            return Err(error);
        }
        if let Err(error) = take_up::begin(&engine, &catalogue, &programme) {
            let _ = engine.close();
            return Err(error);
        }
        let publisher = Arc::new(Publisher::new(engine.clone(), programme.clone(), catalogue.clone()));
        Ok((Campaign { engine, programme, catalogue, publisher }, report))
    }
}

/// Replays a data directory that no other process owns, to read from: its engine, which refuses every
/// command, and its catalogue. Needs no programme file. `on_progress` is told how far it is, many times a second.
///
/// # Errors
/// What is wrong, in one sentence.
pub fn open_read_only(
    dir: &Path,
    limits: &Limits,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<(Engine, Catalogue), CampaignError> {
    let catalogue = Catalogue::default();
    let mut bad_note = None;
    let mut on_note = |note: Note<'_>| {
        if bad_note.is_none() {
            bad_note = replay(&catalogue, &note).err();
        }
    };
    let engine = Engine::open_read_only_watched(dir, limits, Arc::new(AllowAll), &mut on_note, on_progress)?;
    match bad_note {
        Some(error) => Err(error),
        None => Ok((engine, catalogue)),
    }
}

fn replay(catalogue: &Catalogue, note: &Note<'_>) -> Result<(), CampaignError> {
    let seq = note.seq.0;
    let bad = |error| CampaignError::Note { seq, error };
    let decoded = note::decode(note.note).map_err(bad)?;
    catalogue.apply(note.seq, decoded, note.slots).map_err(|error| CampaignError::Apply { seq, error })?;
    Ok(())
}
