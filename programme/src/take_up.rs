//! A programme taken up while serving, and the one that a start finds in force.

use berth_engine::{Command, Engine, Failure, Idempotency, Outcome, Refusal, Request, Seq, Submitted, TimestampMs};

use sha2::{Digest as _, Sha256};

use crate::campaign::CampaignError;
use crate::catalogue::Catalogue;
use crate::file::{KeyFault, ProgrammeFileError};
use crate::in_force::InForce;
use crate::note::{self, ProgrammeNote};
use crate::programme::Programme;
use crate::publish::Publisher;

/// Where a programme comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file that a start reads.
    File,
    /// A call, while a start would read a file of this SHA-256: the next start goes on with the call's, unless that file has changed.
    Call {
        /// Of the file's text.
        file_sha256: [u8; 32],
    },
}

/// What taking a programme up did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenUp {
    /// SHA-256 of the text in force.
    pub sha256: [u8; 32],
    /// When it was taken up.
    pub since: TimestampMs,
    /// The entry that says so.
    pub entry: Option<Seq>,
    /// Whether it was another before.
    pub changed: bool,
    /// The answer to an earlier request with the same key.
    pub replayed: bool,
}

/// Why the programme before stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeUpError {
    /// Not TOML, or not of the shape of a programme.
    #[error("{0}")]
    Shape(String),
    /// Values are wrong, or do not keep what journal and people rest on: every one of them.
    #[error("{}", crate::faults::joined(.0))]
    Faults(Vec<KeyFault>),
    /// The engine says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The engine could not. Which is in force shows after a restart.
    #[error("{0}")]
    Failed(#[from] Failure),
}

impl Publisher {
    /// Checks a programme and puts it in force, once its note is durable. Blocks until then. Bookings stay what they are.
    ///
    /// # Errors
    /// Nothing has changed; except after [`TakeUpError::Failed`], when a restart shows.
    // rule: ELG-2
    pub fn take_up(
        &self,
        text: &str,
        source: Source,
        idempotency: Option<Idempotency>,
        now: TimestampMs,
    ) -> Result<TakenUp, TakeUpError> {
        let _turn = self.turn();
        let (engine, in_force) = (self.engine(), self.in_force());
        if let Some(Submitted { result, seq, .. }) = idempotency.and_then(|given| engine.repeat_of(given)) {
            engine.ticket(seq).wait()?;
            result?;
            // What that request was told, whatever was taken up since.
            let kept = self.catalogue().programmes().into_iter().find(|kept| kept.entry == seq);
            let then = kept.map(|kept| TakenUp {
                sha256: Sha256::digest(kept.text()).into(),
                since: kept.since(),
                entry: Some(seq),
                changed: true,
                replayed: true,
            });
            return Ok(then.unwrap_or(TakenUp { replayed: true, ..standing(in_force, false) }));
        }
        let programme = Programme::from_toml(text).map_err(|error| match error {
            ProgrammeFileError::Shape(what) => TakeUpError::Shape(what),
            ProgrammeFileError::Values(faults) => TakeUpError::Faults(faults),
        })?;
        let faults = programme.file().breaks_with(in_force.get().file());
        if !faults.is_empty() {
            return Err(TakeUpError::Faults(faults));
        }
        debug_assert_eq!(self.catalogue().fits(&programme), Ok(()), "it keeps what is in force, which fits");
        // A file that says again what a call had said is told, too: from now on it is the file's.
        let (note, came_by_call) = (ProgrammeNote::new(text, source, now), source != Source::File);
        if programme.sha256() == in_force.get().sha256() && came_by_call == in_force.get().by_call {
            return Ok(standing(in_force, false));
        }
        let encoded = note::encode_programme(&note);
        let request = Request { command: Command::Note { note: &encoded }, idempotency };
        let Submitted { result, seq, replayed } = engine.submit(&request, now)?;
        // rule: IDM-2 a refusal too rests on entries that must be durable before it is told
        engine.ticket(seq).wait()?;
        result?;
        if !replayed {
            self.catalogue().took_up(seq, note);
            in_force.set(programme, now, Some(seq), came_by_call);
        }
        Ok(TakenUp { replayed, ..standing(in_force, !replayed) })
    }
}

fn standing(in_force: &InForce, changed: bool) -> TakenUp {
    let now = in_force.get();
    TakenUp { sha256: *now.sha256(), since: now.since, entry: now.entry, changed, replayed: false }
}

/// Puts in force what a start must: the file's programme, or a call's that came after it; and keeps in the journal which.
///
/// # Errors
/// What is to be in force does not keep what the campaign rests on. Nothing was written.
pub(crate) fn begin(engine: &Engine, catalogue: &Catalogue, in_force: &InForce) -> Result<(), CampaignError> {
    let file_sha256 = *in_force.get().sha256();
    let kept = catalogue.programmes().last().cloned();
    // What was in force was right then, so it is right now; if a newer Berth asks for more of it, the file's word goes.
    let before = kept.as_ref().and_then(|kept| Some((kept, Programme::from_toml(kept.text()).ok()?)));
    if let Some((kept, before)) = before {
        let by_call = kept.note.source == Source::Call { file_sha256 };
        // What had come by a call and now stands in the file is the file's: it is noted again, as such.
        if by_call || *before.sha256() == file_sha256 && kept.note.source == Source::File {
            catalogue.fits(&before)?;
            in_force.set(before, kept.since(), Some(kept.entry), by_call);
            return Ok(());
        }
        catalogue.fits(&in_force.get())?;
        let faults = in_force.get().file().breaks_with(before.file());
        if !faults.is_empty() {
            return Err(CampaignError::Breaks { seq: kept.entry.0, faults });
        }
    }
    catalogue.fits(&in_force.get())?;
    let now = engine.now();
    let note = ProgrammeNote::new(in_force.get().text(), Source::File, now);
    let encoded = note::encode_programme(&note);
    let request = Request { command: Command::Note { note: &encoded }, idempotency: None };
    // On a full disk the campaign goes on, and the journal does not say by which rules until it is taken up again.
    let entry = match engine.submit(&request, now) {
        Ok(Submitted { result: Ok(Outcome::Noted), seq, .. }) => engine.ticket(seq).wait().ok().map(|()| seq),
        _ => None,
    };
    if let Some(entry) = entry {
        catalogue.took_up(entry, note);
    }
    let programme = Programme::clone(&in_force.get());
    in_force.set(programme, now, entry, false);
    Ok(())
}
