//! Which certificates there are: one for each dose on record, from the entry that recorded it. A projection of the journal.
//!
//! None is made by a step of its own, so none can be forgotten: a dose that is durable has its certificate. What changes what a
//! certificate says ends it and begins the next in the same entry: a correction of its dose or of one before it, of who they are, a merge of
//! two records. What takes a dose away ends it for good. The administration can end one by an entry of its own, with or without a next.
//!
//! Its id names the dose and the version, and cannot be guessed: two symbols for the cell and eleven for the dose's public number, two for
//! the version, seven of a keyed digest of both. So nothing is kept by id, and an id that this cell never gave is known as such.

use std::sync::Arc;

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::{
    BookingNumber, Command, Engine, Failure, Idempotency, PartyId, Refusal, Request, Seq, Submitted, TimestampMs,
};
use ring::hmac;

use super::{CertificateId, Revocations};
use crate::calendar::Calendar;
use crate::campaign::Campaign;
use crate::doses::{Doses, Told};
use crate::people::{Changed, changed};
use crate::store::{Change, Projection, Store, StoreError, Table};

/// The kind of `Recorded` entries that are of certificates.
pub const RECORDED_CERTIFICATES: u8 = 7;

const FORMAT: u8 = 1;
const LIVE_BYTES: usize = 8 + 2 + 1 + 8;
const ENTRY_BYTES: usize = 1 + 1 + 8 + 2 + 1;
const SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Symbols of cell and dose, of the version, and of the digest.
const NUMBER: usize = 13;
const VERSION: usize = 2;
const DIGEST: usize = 7;
/// Two symbols hold it.
const VERSION_MAX: u16 = 32 * 32 - 1;
const COUNT: &[u8] = b"revoked";

/// Whether a dose's certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// It does.
    Valid = 0,
    /// The dose was revoked: there is none any more.
    NoDose = 1,
    /// The administration ended it, and has not let the next begin.
    Withheld = 2,
}

/// Why one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The dose was corrected, or one before it.
    DoseCorrected = 0,
    /// The dose was revoked.
    DoseRevoked = 1,
    /// Name, birth, sex, document or district were corrected.
    PersonCorrected = 2,
    /// The record went together with another.
    RecordsMerged = 3,
    /// It was given to somebody whose it was not.
    Fraud = 4,
    /// Its paper was lost, or is in wrong hands.
    Lost = 5,
    /// What was wrong was none of these.
    Error = 6,
}

impl Reason {
    /// Every one.
    pub const ALL: [Reason; 7] = [
        Reason::DoseCorrected,
        Reason::DoseRevoked,
        Reason::PersonCorrected,
        Reason::RecordsMerged,
        Reason::Fraud,
        Reason::Lost,
        Reason::Error,
    ];

    /// Those that the administration may give.
    pub const GIVEN: [Reason; 3] = [Reason::Fraud, Reason::Lost, Reason::Error];

    /// As it is spelled in requests and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::DoseCorrected => "dose_corrected",
            Reason::DoseRevoked => "dose_revoked",
            Reason::PersonCorrected => "person_corrected",
            Reason::RecordsMerged => "records_merged",
            Reason::Fraud => "fraud",
            Reason::Lost => "lost",
            Reason::Error => "error",
        }
    }

    fn of(byte: u8) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| *reason as u8 == byte)
    }
}

/// What the administration says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// It ends, and the next begins.
    Replaced = 0,
    /// It ends, and none begins.
    Withheld = 1,
    /// The next may begin.
    Released = 2,
}

/// The certificate of a dose, as it stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The booking that the dose was given on.
    pub booking: BookingNumber,
    /// The party it was given to, whose record may have gone to another's since.
    pub of: PartyId,
    /// The entry that recorded the dose.
    pub given: Seq,
    /// Counts from 1.
    pub version: u16,
    /// Whether it stands.
    pub standing: Standing,
    /// Since when it does, or does not.
    pub since: TimestampMs,
}

/// One that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The entry that ended it; others may have been ended by the same.
    pub seq: Seq,
    /// Which.
    pub id: CertificateId,
    /// When.
    pub at: TimestampMs,
    /// Why.
    pub reason: Reason,
}

/// Why the administration's word was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// This cell never gave such an id.
    #[error("there is no certificate {0}")]
    Unknown(CertificateId),
    /// It is not the newest of its dose, or its dose was revoked.
    #[error("certificate {0} was ended before")]
    Ended(CertificateId),
    /// It stands: there is nothing to release.
    #[error("certificate {0} is not withheld")]
    Stands(CertificateId),
    /// Too many of one dose.
    #[error("the dose of certificate {0} has had as many as there can be: it can be ended with none behind it")]
    TooMany(CertificateId),
    /// The engine says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The journal could not do its part.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// The store could not.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// The certificates of a cell.
pub struct Register {
    engine: Arc<Engine>,
    doses: Arc<Doses>,
    calendar: Calendar,
    key: hmac::Key,
    /// Party and booking: the entry of the dose, version, standing, since when.
    live: Table,
    /// Entry, booking and version: when, and why it ended.
    ended: Table,
    /// How many have ended.
    counts: Table,
}

impl Register {
    /// The tables of certificates in this store.
    ///
    /// # Errors
    /// The database cannot make them.
    pub fn open(campaign: &Campaign, doses: Arc<Doses>, store: &Store) -> Result<Register, StoreError> {
        let engine = Arc::clone(&campaign.engine);
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &engine.codes().secret());
        let own = hmac::sign(&secret, b"berth certificate ids");
        Ok(Register {
            engine,
            doses,
            calendar: campaign.programme.calendar().clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()),
            live: store.table("certificates.live")?,
            ended: store.table("certificates.ended")?,
            counts: store.table("certificates.counts")?,
        })
    }

    /// The id of a dose's certificate.
    #[must_use]
    pub fn id(&self, booking: BookingNumber, version: u16) -> CertificateId {
        let number = self.engine.codes().doses().encode_unchecked(booking);
        let mut text = number.to_vec();
        text.extend(symbols(version.into(), VERSION));
        let digest = hmac::sign(&self.key, &text);
        let digest = digest.as_ref().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        text.extend(symbols(digest, DIGEST));
        let text = String::from_utf8(text).expect("its symbols are letters and digits");
        text.parse().expect("22 of A-Z 0-9")
    }

    /// The dose and version behind an id; `None` if this cell never gave it.
    #[must_use]
    pub fn dose(&self, id: &CertificateId) -> Option<(BookingNumber, u16)> {
        let text = id.as_str();
        let booking = self.engine.codes().doses().decode_unchecked(text.get(..NUMBER)?)?;
        let version = number(text.get(NUMBER..NUMBER + VERSION)?)?;
        let version = u16::try_from(version).ok().filter(|version| *version > 0)?;
        (self.id(booking, version) == *id).then_some((booking, version))
    }

    /// What stands of a dose; `None`: no dose was recorded on this booking since the store began.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn of_dose(&self, booking: BookingNumber) -> Result<Option<Registered>, StoreError> {
        let Some((claim, _)) = self.engine.claimed(booking) else { return Ok(None) };
        let row = self.live.get(&key(claim.party, booking))?;
        row.map(|row| read(claim.party, booking, &row)).transpose()
    }

    /// What stands of each dose of a party, and of those whose record went to it, in the order in which they were recorded.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn of_party(&self, party: PartyId) -> Result<Vec<Registered>, StoreError> {
        let mut all = Vec::new();
        for of in self.doses.family(party)? {
            for row in self.live.scan(&of.0.to_be_bytes()) {
                let (key, row) = row?;
                let (_, booking) = key.split_last_chunk::<8>().ok_or_else(|| broken("certificates.live"))?;
                all.push(read(of, BookingNumber(u64::from_be_bytes(*booking)), &row)?);
            }
        }
        all.sort_by_key(|one| one.given);
        Ok(all)
    }

    /// Whether a certificate was ended; `None` if this cell never gave it. Of one that it gave, and that a store which began late knows nothing of, nothing
    /// is believed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn has_ended(&self, id: &CertificateId) -> Result<Option<bool>, StoreError> {
        let Some((booking, version)) = self.dose(id) else { return Ok(None) };
        let stands = |one: &Registered| one.version == version && one.standing == Standing::Valid;
        Ok(Some(!self.of_dose(booking)?.is_some_and(|one| stands(&one))))
    }

    /// Whether the administration's word did what it says, once the store has seen its entry: the record may have changed meanwhile.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn did(&self, judged: &Judged) -> Result<bool, StoreError> {
        match judged.verdict {
            Verdict::Replaced | Verdict::Withheld => {
                self.ended.has(&listed(judged.seq, judged.booking, judged.version))
            }
            Verdict::Released => {
                let found = self.of_dose(judged.booking)?;
                Ok(found.is_some_and(|one| one.version > judged.version && one.standing == Standing::Valid))
            }
        }
    }

    /// How many have ended so far.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn ended_count(&self) -> Result<u64, StoreError> {
        Ok(self.counts.get(COUNT)?.and_then(|row| row.try_into().ok()).map_or(0, u64::from_be_bytes))
    }

    /// Those that ended behind this entry, in the order in which they did.
    pub fn ended_after(&self, seq: Seq) -> impl Iterator<Item = Result<Revoked, StoreError>> + '_ {
        let from = Seq(seq.0.saturating_add(1));
        self.ended.from(&from.0.to_be_bytes()).map(move |row| {
            let (key, value) = row?;
            let parse = || {
                let (seq, rest) = key.split_first_chunk::<8>()?;
                let (booking, version) = rest.split_first_chunk::<8>()?;
                let (at, reason) = value.split_first_chunk::<8>()?;
                let version = u16::from_be_bytes(version.try_into().ok()?);
                Some(Revoked {
                    seq: Seq(u64::from_be_bytes(*seq)),
                    id: self.id(BookingNumber(u64::from_be_bytes(*booking)), version),
                    at: TimestampMs(u64::from_be_bytes(*at)),
                    reason: Reason::of(*reason.first()?)?,
                })
            };
            parse().ok_or_else(|| broken("certificates.ended"))
        })
    }

    /// The administration's word on a certificate: that it ends, or that the next may begin.
    ///
    /// # Errors
    /// There is none, or it is not so that this can be said of it.
    pub fn judge(
        &self,
        id: &CertificateId,
        verdict: Verdict,
        reason: Reason,
        idempotency: Idempotency,
        now: TimestampMs,
    ) -> Result<Judged, NotDone> {
        let (booking, version) = self.dose(id).ok_or_else(|| NotDone::Unknown(id.clone()))?;
        if self.engine.repeat_of(idempotency).is_none() {
            let found = self.of_dose(booking)?.ok_or_else(|| NotDone::Unknown(id.clone()))?;
            match (verdict, found.standing) {
                (Verdict::Replaced | Verdict::Withheld, Standing::Valid) if found.version == version => {}
                // Of the one that was ended.
                (Verdict::Released, Standing::Withheld) if found.version == version + 1 => {}
                (Verdict::Released, Standing::Valid) if found.version == version => {
                    return Err(NotDone::Stands(id.clone()));
                }
                _ => return Err(NotDone::Ended(id.clone())),
            }
            // It can be ended all the same, with none behind it.
            if verdict == Verdict::Replaced && version >= VERSION_MAX {
                return Err(NotDone::TooMany(id.clone()));
            }
        }
        let mut bytes = vec![FORMAT, verdict as u8];
        bytes.extend(booking.0.to_le_bytes());
        bytes.extend(version.to_le_bytes());
        bytes.push(reason as u8);
        let command = Command::Record { kind: RECORDED_CERTIFICATES, bytes: &bytes, urgent: false };
        let Submitted { result, seq, replayed } =
            self.engine.submit(&Request { command, idempotency: Some(idempotency) }, now)?;
        result?;
        Ok(Judged { booking, version, verdict, seq, replayed })
    }

    /// Ends these, each for its reason, and says what is to be of the next.
    // rule: CRT-6 in the entry that changes what it says
    fn end(
        &self,
        change: &mut Change,
        (seq, at): (Seq, TimestampMs),
        these: impl IntoIterator<Item = (Registered, Reason, Standing)>,
    ) -> Result<(), StoreError> {
        let mut ended = 0;
        for (one, reason, then) in these {
            if one.standing == Standing::Withheld && then == Standing::NoDose {
                self.set(change, Registered { standing: then, since: at, ..one });
            }
            if one.standing != Standing::Valid {
                continue;
            }
            change.put(
                &self.ended,
                &listed(seq, one.booking, one.version),
                &[&at.0.to_be_bytes()[..], &[reason as u8]].concat(),
            );
            // A dose that has had as many as there can be has none any more: two symbols hold no more versions.
            let then = if one.version >= VERSION_MAX { Standing::NoDose } else { then };
            self.set(change, Registered { version: one.version + 1, standing: then, since: at, ..one });
            ended += 1;
        }
        if ended > 0 {
            change.put(&self.counts, COUNT, &(self.ended_count()? + ended).to_be_bytes());
        }
        Ok(())
    }

    fn set(&self, change: &mut Change, one: Registered) {
        change.put(&self.live, &key(one.of, one.booking), &row(&one));
    }

    fn said(&self, change: &mut Change, (seq, at): (Seq, TimestampMs), bytes: &[u8]) -> Result<(), StoreError> {
        let not_understood = || StoreError::Broken(format!("journal entry {seq} of a certificate"));
        let bytes: &[u8; ENTRY_BYTES] = bytes.try_into().map_err(|_| not_understood())?;
        let [FORMAT, verdict, .., reason] = *bytes else { return Err(not_understood()) };
        let number =
            |at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let (booking, version) = (BookingNumber(number(2, 8)), number(10, 2));
        let reason = Reason::of(reason).ok_or_else(not_understood)?;
        // What came too late, or twice, changes nothing.
        let Some(one) = self.of_dose(booking)? else { return Ok(()) };
        let this = [one].into_iter().filter(|one| u64::from(one.version) == version);
        match verdict {
            0 => self.end(change, (seq, at), this.map(|one| (one, reason, Standing::Valid))),
            1 => self.end(change, (seq, at), this.map(|one| (one, reason, Standing::Withheld))),
            2 => {
                if one.standing == Standing::Withheld && u64::from(one.version) == version + 1 {
                    self.set(change, Registered { standing: Standing::Valid, since: at, ..one });
                }
                Ok(())
            }
            _ => Err(not_understood()),
        }
    }
}

/// What the administration's word did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The booking of the dose.
    pub booking: BookingNumber,
    /// Of which of its certificates it was said.
    pub version: u16,
    /// What was said.
    pub verdict: Verdict,
    /// The entry.
    pub seq: Seq,
    /// The answer to an earlier request with the same key.
    pub replayed: bool,
}

impl Projection for Register {
    fn apply(&self, change: &mut Change, seq: Seq, entry: &Entry) -> Result<(), StoreError> {
        let when = (seq, entry.at);
        match &entry.event {
            Event::Completed { booking, given } | Event::CompletedNoted { booking, given, .. } => {
                let unknown = || StoreError::Broken(format!("journal entry {seq} names a booking without a record"));
                let (claim, _) = self.engine.claimed(*booking).ok_or_else(unknown)?;
                let one = Registered {
                    booking: *booking,
                    of: claim.party,
                    given: seq,
                    version: 1,
                    standing: Standing::Valid,
                    since: entry.at,
                };
                self.set(change, one);
                let mut others = self.of_party(self.doses.owner(one.of)?)?;
                others.retain(|other| other.booking != *booking);
                // One that is written down late may come before others, which then count behind it; and so may one that was booked as no later a
                // dose than they were.
                let number = |one: &Registered| self.engine.claimed(one.booking).map(|(claim, _)| claim.dose);
                let last = others.iter().filter(|other| other.standing != Standing::NoDose).filter_map(number).max();
                if given.day >= self.calendar.day(entry.at) && last < Some(claim.dose) {
                    return Ok(());
                }
                let others = others.into_iter().map(|other| (other, Reason::DoseCorrected, Standing::Valid));
                self.end(change, when, others)
            }
            Event::FactsChanged { note, .. } => {
                let (booking, reason, then) = match crate::doses::told(note) {
                    Some(Told::Corrected(booking)) => (booking, Reason::DoseCorrected, Standing::Valid),
                    Some(Told::Revoked(booking)) => (booking, Reason::DoseRevoked, Standing::NoDose),
                    None => return Ok(()),
                };
                let Some(dose) = self.of_dose(booking)? else { return Ok(()) };
                // The others say it, too, or count behind it: which of them does not is not worth being wrong about.
                let all =
                    self.of_party(self.doses.owner(dose.of)?)?.into_iter().map(|one| match one.booking == booking {
                        true => (one, reason, then),
                        false => (one, reason, Standing::Valid),
                    });
                self.end(change, when, all)
            }
            Event::Recorded { kind: RECORDED_CERTIFICATES, bytes } => self.said(change, when, bytes),
            Event::Recorded { kind, bytes } => match changed(*kind, bytes) {
                Some(Changed::Restated(party)) => {
                    let all = self.of_party(party)?.into_iter();
                    self.end(change, when, all.map(|one| (one, Reason::PersonCorrected, Standing::Valid)))
                }
                Some(Changed::Merged { stays, goes }) => {
                    // Whichever of the two projections comes first: some may be found under both.
                    let mut all = self.of_party(stays)?;
                    all.extend(self.of_party(goes)?);
                    all.sort_by_key(|one| one.booking);
                    all.dedup_by_key(|one| one.booking);
                    let all = all.into_iter();
                    self.end(change, when, all.map(|one| (one, Reason::RecordsMerged, Standing::Valid)))
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Where reads fail nothing is taken for good.
impl Revocations for Register {
    fn is_revoked(&self, id: &CertificateId) -> bool {
        // One that the command line issued is on no list of ours.
        self.has_ended(id).unwrap_or(Some(true)).unwrap_or(false)
    }
}

fn key(party: PartyId, booking: BookingNumber) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&party.0.to_be_bytes());
    key[4..].copy_from_slice(&booking.0.to_be_bytes());
    key
}

/// A place in the list of those that ended.
fn listed(seq: Seq, booking: BookingNumber, version: u16) -> Vec<u8> {
    [&seq.0.to_be_bytes()[..], &booking.0.to_be_bytes(), &version.to_be_bytes()].concat()
}

fn row(one: &Registered) -> [u8; LIVE_BYTES] {
    let mut row = [0; LIVE_BYTES];
    row[..8].copy_from_slice(&one.given.0.to_be_bytes());
    row[8..10].copy_from_slice(&one.version.to_be_bytes());
    row[10] = one.standing as u8;
    row[11..].copy_from_slice(&one.since.0.to_be_bytes());
    row
}

fn read(of: PartyId, booking: BookingNumber, row: &[u8]) -> Result<Registered, StoreError> {
    let parse = || {
        let row: &[u8; LIVE_BYTES] = row.try_into().ok()?;
        let standing = match row[10] {
            0 => Standing::Valid,
            1 => Standing::NoDose,
            2 => Standing::Withheld,
            _ => return None,
        };
        let number = |at: usize| row.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        let version = u16::from_be_bytes([row[8], row[9]]);
        Some(Registered { booking, of, given: Seq(number(0)?), version, standing, since: TimestampMs(number(11)?) })
    };
    parse().ok_or_else(|| broken("certificates.live"))
}

fn broken(table: &str) -> StoreError {
    StoreError::Broken(format!("a row of {table}"))
}

/// The lowest bits of a number as symbols of five bits each.
fn symbols(number: u64, count: usize) -> impl Iterator<Item = u8> {
    (0..count).rev().map(move |at| SYMBOLS[usize::from((number >> (5 * at)).to_le_bytes()[0] & 31)])
}

fn number(text: &str) -> Option<u64> {
    text.bytes().try_fold(0, |number, byte| {
        let digit = SYMBOLS.iter().position(|symbol| *symbol == byte)?;
        Some(number << 5 | u64::try_from(digit).ok()?)
    })
}
