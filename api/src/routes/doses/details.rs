//! What a centre says of a dose: read, and held against the rules of its words.

use std::borrow::Cow;

use berth_engine::{ProductId, TimestampMs};
use berth_programme::doses::note::{BATCH_RULE, STAFF_RULE, WORD_RULE, is_batch, is_staff, is_word};
use berth_programme::doses::{AdverseEvent, Correction, Details, Severity};
use serde::Deserialize;

use crate::app::App;
use crate::idempotency::Fingerprint;
use crate::problem::{Code, Problem};

/// A clock may be so far ahead of the server's.
const AHEAD_MAX_MS: u64 = 5 * 60 * 1000;

/// Text that is borrowed also where it is optional.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// What was given, in the body of a completion and in a line of an upload.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DetailsRequest<'a> {
    #[serde(borrow)]
    pub(super) product: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) batch: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) site: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) vaccinator: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) given_at: Option<Text<'a>>,
}

/// `POST /v1/doses/{dose}/correct`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CorrectRequest<'a> {
    #[serde(borrow)]
    pub(super) reason: Text<'a>,
    #[serde(borrow)]
    pub(super) product: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) batch: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) site: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) vaccinator: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) given_at: Option<Text<'a>>,
}

/// `POST /v1/doses/{dose}/revoke`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeRequest<'a> {
    #[serde(borrow)]
    pub(super) reason: Text<'a>,
}

/// `POST /v1/doses/{dose}/adverse-events`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdverseRequest<'a> {
    #[serde(borrow)]
    event: Text<'a>,
    #[serde(borrow)]
    severity: Text<'a>,
    #[serde(borrow)]
    began_at: Option<Text<'a>>,
    #[serde(borrow)]
    case: Option<Text<'a>>,
}

/// A product of the programme by its name.
fn product(app: &App, Text(name): &Text<'_>) -> Result<ProductId, Problem> {
    let number = app.campaign.programme.get().product_number(name);
    number.ok_or_else(|| wrong("product", "is none of the programme's"))
}

/// An instant, no later than now but for a clock that is a little ahead; as it was said, so that a repeat says the same.
pub(super) fn instant(name: &str, Text(text): &Text<'_>, now: TimestampMs) -> Result<TimestampMs, Problem> {
    let at = text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
    match at.map(TimestampMs) {
        None => Err(wrong(name, "must be an instant as 2026-11-24T09:30:00+05:30")),
        Some(at) if at.0 > now.0.saturating_add(AHEAD_MAX_MS) => Err(wrong(name, "lies ahead")),
        Some(at) => Ok(at),
    }
}

fn text(name: &str, text: Option<&Text<'_>>, fits: fn(&str) -> bool, rule: &str) -> Result<Option<String>, Problem> {
    match text {
        Some(Text(text)) if !fits(text) => Err(wrong(name, rule)),
        text => Ok(text.map(|Text(text)| text.clone().into_owned())),
    }
}

/// Why a dose is changed.
pub(super) fn reason(Text(reason): &Text<'_>) -> Result<String, Problem> {
    if is_word(reason) { Ok(reason.clone().into_owned()) } else { Err(wrong("reason", WORD_RULE)) }
}

fn wrong(name: &str, rule: &str) -> Problem {
    Problem::new(Code::MalformedRequest, format!("{name}: {rule}"))
}

impl DetailsRequest<'_> {
    /// Whether nothing is said of the dose.
    pub(super) fn is_empty(&self) -> bool {
        let Self { product, batch, site, vaccinator, given_at } = self;
        [product, batch, site, vaccinator, given_at].iter().all(|text| text.is_none())
    }

    /// What was given; the product, where nobody says it, is the slot's.
    pub(super) fn check(&self, app: &App, slot: ProductId, now: TimestampMs) -> Result<Details, Problem> {
        let of = |correction: Correction| Details {
            given_at: correction.given_at.unwrap_or(now).min(now),
            product: correction.product.unwrap_or(slot),
            batch: correction.batch.unwrap_or_default(),
            site: correction.site.unwrap_or_default(),
            vaccinator: correction.vaccinator.unwrap_or_default(),
        };
        self.said(app, now).map(of)
    }

    /// What is said, and nothing else.
    pub(super) fn said(&self, app: &App, now: TimestampMs) -> Result<Correction, Problem> {
        Ok(Correction {
            given_at: self.given_at.as_ref().map(|at| instant("given_at", at, now)).transpose()?,
            product: self.product.as_ref().map(|name| product(app, name)).transpose()?,
            batch: text("batch", self.batch.as_ref(), is_batch, BATCH_RULE)?,
            site: text("site", self.site.as_ref(), is_word, WORD_RULE)?,
            vaccinator: text("vaccinator", self.vaccinator.as_ref(), is_staff, STAFF_RULE)?,
        })
    }
}

impl<'a> CorrectRequest<'a> {
    /// What is right, and why.
    pub(super) fn check(self, app: &App, now: TimestampMs) -> Result<(Correction, String), Problem> {
        let CorrectRequest { reason: why, product, batch, site, vaccinator, given_at } = self;
        let correction = DetailsRequest { product, batch, site, vaccinator, given_at }.said(app, now)?;
        if correction.is_empty() {
            return Err(Problem::new(Code::MalformedRequest, "nothing is corrected"));
        }
        Ok((correction, reason(&why)?))
    }
}

impl AdverseRequest<'_> {
    pub(super) fn check(&self, now: TimestampMs) -> Result<AdverseEvent, Problem> {
        let Text(severity) = &self.severity;
        let severity = Severity::ALL.into_iter().find(|known| known.as_str() == severity);
        let event = text("event", Some(&self.event), is_word, WORD_RULE)?.unwrap_or_default();
        let began_at = self.began_at.as_ref().map(|at| instant("began_at", at, now)).transpose()?;
        Ok(AdverseEvent {
            event,
            severity: severity.ok_or_else(|| wrong("severity", "must be minor, severe or serious"))?,
            began_at: began_at.unwrap_or(now).min(now),
            case: text("case", self.case.as_ref(), is_batch, BATCH_RULE)?.unwrap_or_default(),
        })
    }
}

/// What is said, as the fingerprint sees it: a time that was not said is the time of asking, and is not of the request.
pub(super) fn with_said(app: &App, fingerprint: Fingerprint, said: &Correction) -> Fingerprint {
    let Correction { given_at, product, batch, site, vaccinator } = said;
    let mut bytes = given_at.map_or(u64::MAX, |at| at.0).to_le_bytes().to_vec();
    bytes.extend(product.map_or(256, |product| u16::from(product.0)).to_le_bytes());
    for text in [batch, site, vaccinator] {
        // No text is empty, so an empty one is none; and none has a zero.
        bytes.extend_from_slice(text.as_deref().unwrap_or("").as_bytes());
        bytes.push(0);
    }
    fingerprint.piece(&keyed(app, &bytes))
}

/// What a request says of a person's dose, as its fingerprint has it. That stands in the journal and outlives an erasure, and of few values
/// the right one is found by trying all: where people register it is keyed.
pub(super) fn keyed(app: &App, said: &[u8]) -> Vec<u8> {
    match &app.registration {
        Some(registration) => registration.people.request_print(said).to_vec(),
        None => said.to_vec(),
    }
}
