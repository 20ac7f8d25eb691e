//! The programme file: TOML as a ministry writes it, and every fault in it by key (`check`).
//!
//! Products, pools and cohorts are numbered by their place in the file and the journal keeps those numbers, so entries may be
//! appended and renamed in their `name`, but never reordered or removed once sessions were published or people told with them. A
//! start with a reordered file is refused (see `note`).
//!
//! Every key but those of the first files has a default that changes nothing: an old file means what it meant.
//!
//! The file is told as JSON in the same keys, for who makes an app of it.
//!
//! **Two kinds of dates.** What says *who may come* ([`AgeBand`], [`CohortFile::opens`]) goes by the day of the visit. What changes
//! *the rules* ([`Change`], [`Mix`]) goes by the moment of asking, as if the file had been reloaded at the first instant of that
//! day: who has booked before keeps the booking. Both are days of the programme's zone.

mod certificate;
mod check;
mod shape;
mod values;

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use certificate::{CertificateFile, ProductCodes};
pub(crate) use check::{DOSES_MAX, whole};
pub use values::{CivilDate, CivilTime, Names, WalkIn};

/// A programme as its file says it. [`ProgrammeFile::validate`] before use.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProgrammeFile {
    /// What people call the campaign. 1 to 200 characters.
    pub name: String,
    /// The same in other languages.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub names: Names,
    /// The languages of the file, as `en` or `pt-BR`: the first is that of every `name`, the others may stand in `names`.
    /// 1 to 50; default `["en"]`.
    #[serde(default = "languages")]
    pub languages: Vec<String>,
    /// IANA name of the zone in which session times are civil times, as `Asia/Kolkata`.
    pub time_zone: String,
    /// How long a hold lives unless the caller asks for less; also the longest. 5 to 3600. Too short and
    /// people lose units while they type; too long and hoarders keep them.
    pub hold_seconds: u32,
    /// Claims one request may make. 1 to 16, the engine's own limit.
    pub group_claims_max: usize,
    /// How many days ahead of its date a session can be booked, from midnight of that day on. 1 to 365.
    pub booking_horizon_days: u16,
    /// How long before its start a slot stops taking claims. 0 to 10080 (a week).
    pub booking_cutoff_minutes: u32,
    /// How long before its start a booking can no longer be cancelled. 0 to 10080.
    pub cancel_cutoff_minutes: u32,
    /// How long before its start a booking can no longer be moved away. 0 to 10080. Absent: as long as it can be cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_cutoff_minutes: Option<u32>,
    /// How long after its start nobody of a slot's bookings is a no-show yet. 0 to 1440 (a day); default 30. Too short and who was
    /// late finds the unit given away; too long and nobody is left at the door to have it.
    #[serde(default = "no_show_grace_minutes")]
    pub no_show_grace_minutes: u32,
    /// Live holds that one party may have at once. 0 to 100; 0 for no limit but one live claim for each dose; default 2.
    #[serde(default = "holds_live_max")]
    pub holds_live_max: u16,
    /// Holds that one party may let expire within an hour before it has to wait. 0 to 100; 0 for no limit; default 5. Without it
    /// a handful of people can keep units from everybody by holding them again and again.
    #[serde(default = "holds_expired_per_hour_max")]
    pub holds_expired_per_hour_max: u16,
    /// Whether a dose can be claimed only by who has had the one before. Default true. A platform that keeps no record of the
    /// doses given elsewhere says false.
    #[serde(default = "doses_in_order", alias = "steps_in_order")]
    pub doses_in_order: bool,
    /// Whether every dose must be of the product of the one before; [`Mix`] names exceptions. Default false.
    #[serde(default)]
    pub same_product: bool,
    /// Whether whose year of birth is not known may claim what has an age band. Default `allow`: the centre looks at the paper.
    #[serde(default)]
    pub unknown_age: UnknownAge,
    /// People one account may look after. 1 to 1000; default 4.
    #[serde(default = "members_per_account_max")]
    pub members_per_account_max: u32,
    /// The share of each session's units that must lie in pools with `walk_in = "only"`, in percent. 0 to 100; default 0. A session
    /// line with less is a fault: whoever cannot book must find something at the door.
    #[serde(default)]
    pub walk_in_share_percent: u8,
    /// What fees are in: three capital letters of ISO 4217, as `INR`. Absent: no session can have a fee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// What is given. 1 to 200 products.
    pub products: Vec<ProductFile>,
    /// Who parts of a session's capacity are for. 1 to 200 pools.
    pub pools: Vec<PoolFile>,
    /// Groups of people that age bands and pools may name. At most 32, one bit each.
    #[serde(default)]
    pub cohorts: Vec<CohortFile>,
    /// Who may have what, from which day on. With any, whoever none of them covers may claim nothing; without, everybody may.
    #[serde(default)]
    pub age_bands: Vec<AgeBand>,
    /// Exceptions from `same_product`.
    #[serde(default)]
    pub mixes: Vec<Mix>,
    /// Rules that change on a day, in the order of their days.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Papers by which people show who they are.
    #[serde(default)]
    pub documents: Vec<DocumentFile>,
    /// Who signs certificates, and which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateFile>,
    /// How what is given back goes to those who wait for it. Absent: nobody waits, and it is everybody's at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waitlist: Option<WaitlistFile>,
    /// How doses and sessions are held against the books of stock. Absent: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supply: Option<SupplyFile>,
}

/// What is done about who has no year of birth on record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownAge {
    /// Ages are not judged.
    #[default]
    Allow,
    /// Refused as `age_unknown` where there are age bands.
    Refuse,
}

/// A product.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProductFile {
    /// The name used in session lines and searches.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The same in other languages.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub names: Names,
    /// Doses of a full course. 1 to 10; default 1.
    #[serde(default = "one", alias = "steps")]
    pub doses: u8,
    /// Days from one dose to the next, at least. 0 to 3650; default 0.
    #[serde(default)]
    pub gap_days_min: u16,
    /// Days from one dose to the next, at most. 0 to 3650; default 0: no such day. Who comes later is not refused, because a late dose
    /// is better than none: the day is told to who asks.
    #[serde(default)]
    pub gap_days_max: u16,
    /// Doses whose gap is another.
    #[serde(default)]
    pub schedule: Vec<Step>,
    /// Who makes it, for people. Needed for a W3C certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// By which codes certificates name it.
    #[serde(default, skip_serializing_if = "ProductCodes::is_empty")]
    pub codes: ProductCodes,
}

/// The gap before one dose.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The dose, from 2 on.
    #[serde(alias = "step")]
    pub dose: u8,
    /// As in [`ProductFile`], whose values hold where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_days_min: Option<u16>,
    /// As in [`ProductFile`], whose values hold where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_days_max: Option<u16>,
}

/// A pool.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PoolFile {
    /// The name used in session lines and searches.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The same in other languages.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub names: Names,
    /// The one dose this pool serves. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(alias = "step")]
    pub dose: Option<u8>,
    /// Whether its free units can be had at the door, without a booking, on the day; `"only"`: in no other way. Default false.
    #[serde(default)]
    pub walk_in: WalkIn,
    /// Only for members of one of these cohorts, once it has opened. Absent: for everybody.
    #[serde(default)]
    pub cohorts: Vec<String>,
    /// Whether a unit is had only by who was invited to the pool, once for each invitation. Default false.
    #[serde(default)]
    pub invitation: bool,
    /// Whose people may have its units, too, from `spill_minutes_before` on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spills_to: Option<String>,
    /// So long before a slot's start what is still free spills over. 0 to 40320 (28 days).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spill_minutes_before: Option<u32>,
}

/// A group of people, as whoever registers them says it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CohortFile {
    /// The name used in age bands, pools and registrations.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The same in other languages.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub names: Names,
    /// The first day on which its members may come as such. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens: Option<CivilDate>,
}

/// Who may have what. Every condition that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AgeBand {
    /// The first day of a visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<CivilDate>,
    /// The last day of a visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<CivilDate>,
    /// From when it can be booked, where not as soon as the horizon lets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub books_from: Option<CivilTime>,
    /// The youngest, in years: the year of the visit less that of the birth. 0 to 150.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_min: Option<u8>,
    /// The oldest, counted the same way. 0 to 150.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_max: Option<u8>,
    /// What of. Absent: of all.
    #[serde(default)]
    pub products: Vec<String>,
    /// Which doses. Absent: all.
    #[serde(default, alias = "steps")]
    pub doses: Vec<u8>,
    /// Members of one of these cohorts, once it has opened. Absent: everybody.
    #[serde(default)]
    pub cohorts: Vec<String>,
}

/// A product that may follow another.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// What was had last.
    pub after: String,
    /// What may follow.
    pub product: String,
    /// As which doses. Absent: any.
    #[serde(default, alias = "steps")]
    pub doses: Vec<u8>,
    /// From which day on this is asked for. Absent: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<CivilDate>,
    /// In place of the product's own gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_days_min: Option<u16>,
    /// In place of the product's own gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_days_max: Option<u16>,
}

/// Values that hold from a day on, in place of those above it. The others go on.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// From the first instant of this day on.
    pub from: CivilDate,
    /// Why, for people: the notice that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// As in [`ProgrammeFile`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booking_horizon_days: Option<u16>,
    /// As in [`ProgrammeFile`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booking_cutoff_minutes: Option<u32>,
    /// As in [`ProgrammeFile`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_cutoff_minutes: Option<u32>,
    /// As in [`ProgrammeFile`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_cutoff_minutes: Option<u32>,
    /// As in [`ProgrammeFile`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_show_grace_minutes: Option<u32>,
    /// As in [`ProgrammeFile`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(alias = "steps_in_order")]
    pub doses_in_order: Option<bool>,
    /// As in [`ProgrammeFile`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_product: Option<bool>,
    /// Gaps that change.
    #[serde(default)]
    pub products: Vec<ChangedGap>,
}

/// A gap that changes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedGap {
    /// The product.
    pub id: String,
    /// Before which dose. Absent: before each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(alias = "step")]
    pub dose: Option<u8>,
    /// As in [`ProductFile`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_days_min: Option<u16>,
    /// As in [`ProductFile`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_days_max: Option<u16>,
}

/// A paper by which people show who they are.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentFile {
    /// The name used in registrations.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The same in other languages.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub names: Names,
    /// What its number looks like, the whole of it: a regular expression. Spaces, hyphens and small letters are taken out of it before
    /// (see [`crate::Programme::document_number`]).
    pub pattern: String,
    /// A number that is none, to show people. It must fit the pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

/// How what is given back goes to those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WaitlistFile {
    /// How long an offer stands. 1 to 10080 (a week). Too short and who works finds it gone; too long and the unit waits instead of them.
    pub offer_minutes: u32,
    /// The same for what is offered on the day itself. 1 to 1440, and no more than `offer_minutes`; default 15, or `offer_minutes` if
    /// that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer_minutes_on_the_day: Option<u32>,
    /// So long before the end of a slot's window the last offer is made; what is free after it is everybody's, and the door's. 0 to
    /// 10080; default 60. Before the end, and not the start: who does not come is known after the start, and others can come still.
    #[serde(default = "cutoff_minutes_before_end")]
    pub cutoff_minutes_before_end: u32,
    /// After so many offers that were declined or let pass an entry ends. 1 to 20; default 3.
    #[serde(default = "offers_max")]
    pub offers_max: u8,
    /// Entries that one party may have at once. 1 to 20; default 3.
    #[serde(default = "entries_per_party_max")]
    pub entries_per_party_max: u16,
    /// Days that one entry may span. 1 to 365; default 31.
    #[serde(default = "days_max")]
    pub days_max: u16,
}

impl WaitlistFile {
    /// How long an offer on the day itself stands.
    #[must_use]
    pub fn offer_minutes_on_the_day(&self) -> u32 {
        self.offer_minutes_on_the_day.unwrap_or(OFFER_MINUTES_ON_THE_DAY.min(self.offer_minutes))
    }
}

/// How doses and sessions are held against the books of stock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SupplyFile {
    /// What is done about a dose of a batch that is not known or not in stock at its centre, and about sessions that offer more than
    /// there is. Default off. A batch that is recalled, expired or of another product is refused whatever stands here.
    #[serde(default)]
    pub enforce: Enforce,
}

/// What is done about what the books of stock do not cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforce {
    /// Nothing: for who keeps no books.
    #[default]
    Off,
    /// It is done, and told.
    Warn,
    /// It is refused.
    Refuse,
}

/// One thing wrong with a file of ours, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFault {
    /// The key, as `products[1].doses`.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// Why a programme file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgrammeFileError {
    /// Not TOML. The text names the line.
    #[error("{0}")]
    Shape(String),
    /// Keys that are none, are missing or of another type; or, if all are of the right shape, values out of bounds: every one of them.
    #[error("{}", crate::faults::joined(.0))]
    Values(Vec<KeyFault>),
}

const OFFER_MINUTES_ON_THE_DAY: u32 = 15;

const fn cutoff_minutes_before_end() -> u32 {
    60
}

const fn offers_max() -> u8 {
    3
}

const fn entries_per_party_max() -> u16 {
    3
}

const fn days_max() -> u16 {
    31
}

const fn no_show_grace_minutes() -> u32 {
    30
}

const fn holds_live_max() -> u16 {
    2
}

const fn holds_expired_per_hour_max() -> u16 {
    5
}

const fn doses_in_order() -> bool {
    true
}

const fn members_per_account_max() -> u32 {
    4
}

const fn one() -> u8 {
    1
}

fn languages() -> Vec<String> {
    vec!["en".to_owned()]
}

impl ProductFile {
    /// The gap before a dose as the file has it at first: at least and at most, in days.
    #[must_use]
    pub fn gap(&self, dose: u8) -> (u16, u16) {
        let step = self.schedule.iter().find(|step| step.dose == dose);
        let min = step.and_then(|step| step.gap_days_min).unwrap_or(self.gap_days_min);
        (min, step.and_then(|step| step.gap_days_max).unwrap_or(self.gap_days_max))
    }
}

impl ChangedGap {
    /// Whether it changes the gap before this dose of this product.
    #[must_use]
    pub fn is_for(&self, product: &str, dose: u8) -> bool {
        self.id == product && self.dose.is_none_or(|only| only == dose)
    }
}

impl ProgrammeFile {
    /// Reads the file's text; checks its shape, not its values.
    ///
    /// # Errors
    /// [`ProgrammeFileError::Shape`] if it is no TOML; else [`ProgrammeFileError::Values`] with every fault of its shape.
    pub fn parse(text: &str) -> Result<ProgrammeFile, ProgrammeFileError> {
        let not_toml =
            |error: toml::de::Error| ProgrammeFileError::Shape(toml_fault(text, error.message(), error.span()));
        toml::from_str(text).or_else(|_: toml::de::Error| {
            let table = toml::de::DeTable::parse(text).map_err(not_toml)?;
            Err(ProgrammeFileError::Values(shape::faults(text, table)))
        })
    }
}

/// What a TOML parser says of a text, in one sentence: the place, if it is known, and the message.
#[must_use]
pub fn toml_fault(text: &str, message: &str, span: Option<Range<usize>>) -> String {
    let message = message.trim().replace('\n', ", ");
    match span.filter(|span| text.is_char_boundary(span.start)) {
        Some(span) => format!("{}: {message}", line_and_column(text, span.start)),
        None => message,
    }
}

/// `line 3, column 1`
fn line_and_column(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("line {line}, column {column}")
}

#[cfg(test)]
mod tests;
