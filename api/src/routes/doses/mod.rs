//! Doses: recorded at the centre, read, corrected, revoked; and what happened after them.
//!
//! A dose is named by a number of its own, made from its booking's (`D-0126-YN8ZR-4W7CK`): it stands on certificates and opens nothing.

mod bulk;
mod change;
mod details;
mod stock;

use berth_engine::{BookingNumber, Claim, Command, PartyId, Policy as _, Refusal, State, Submitted, TimestampMs};
use berth_programme::doses::history::{Change, What};
use berth_programme::doses::{Correction, Details, DoseNote, DoseRecord};
use berth_programme::supply::{Dose, Recorded};
use hyper::header::{HeaderValue, LINK};
use hyper::{Response, StatusCode};
use serde::Serialize;

pub(crate) use self::bulk::stream;
pub(crate) use self::change::{adverse, correct, revoke};
use self::details::{DetailsRequest, with_said};
use super::bookings::{json, place};
use super::{fingerprint, key, parse, read_json, safe, settled, told};
use crate::access::{Caller, Role, Scope};
use crate::ack::AckMode;
use crate::app::App;
use crate::body::ResponseBody;
use crate::idempotency::Fingerprint;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::store;

/// `POST /v1/bookings/{booking}/complete`
pub(crate) async fn complete(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let request: DetailsRequest<'_> =
        if body.trim_ascii().is_empty() { DetailsRequest::default() } else { parse(&body)? };
    let booking = call.app.names().parse_booking(&call.parameter)?;
    call.caller().may_touch(booking, &call.app)?;
    let print = fingerprint(&call).number(booking.0);
    let app = &call.app;
    let (idempotency, recorded);
    if request.is_empty() {
        idempotency = print.under(key);
        let engine = &app.campaign.engine;
        let slot = engine.claimed(booking).and_then(|(claim, _)| engine.slot_facts(claim.slot)).unwrap_or_default();
        let dose = Dose { booking, batch: "", product: slot.product, given_at: engine.now() };
        recorded = stock::give(app, dose, Command::Complete { booking }, idempotency)?;
    } else {
        let given = Given::of(app, call.caller(), booking, &request, print)?;
        idempotency = given.print.clone().under(key);
        recorded = stock::give(app, given.dose(), given.command(), idempotency)?;
    }
    let Recorded { submitted, doubts } = recorded;
    let response = told(app, call.sight(), &settled(app, call.ack, submitted).await?).await?;
    Ok(stock::warned(response, &doubts))
}

/// A dose that is to be recorded.
struct Given {
    booking: BookingNumber,
    details: Details,
    note: Vec<u8>,
    print: Fingerprint,
}

impl Given {
    fn of(
        app: &App,
        caller: &Caller,
        booking: BookingNumber,
        request: &DetailsRequest<'_>,
        print: Fingerprint,
    ) -> Result<Given, Problem> {
        let engine = &app.campaign.engine;
        let unknown = Refusal::UnknownBooking { booking };
        let claimed = engine.claimed(booking).ok_or_else(|| problem::refused(&unknown, &app.names()))?;
        let slot = engine.slot_facts(claimed.0.slot).unwrap_or_default();
        let now = engine.now();
        let print = with_said(app, print, &request.said(app, now)?);
        let details = request.check(app, slot.product, now)?;
        let note = DoseNote::Given { details: details.clone(), author: author(caller) };
        let note = noted(app, claimed.0.party, &note)?;
        Ok(Given { booking, details, note, print })
    }

    fn dose(&self) -> Dose<'_> {
        let Details { given_at, product, batch, .. } = &self.details;
        Dose { booking: self.booking, batch, product: *product, given_at: *given_at }
    }

    fn command(&self) -> Command<'_> {
        let Details { given_at, product, .. } = self.details;
        Command::CompleteNoted { booking: self.booking, given_at, product: Some(product), note: &self.note }
    }
}

/// Whether a dose of this booking can have been given then: not before the day of its slot.
fn may_be_of(app: &App, booking: BookingNumber, given_at: TimestampMs) -> Result<(), Problem> {
    let engine = &app.campaign.engine;
    let Some((claim, _)) = engine.claimed(booking) else { return Ok(()) };
    may_be_at(app, claim, given_at)
}

fn may_be_at(app: &App, Claim { party, slot, .. }: Claim, given_at: TimestampMs) -> Result<(), Problem> {
    let facts = app.campaign.engine.slot_facts(slot).unwrap_or_default();
    app.campaign.programme.may_check_in(&facts, given_at).map_err(|no| {
        problem::refused(&Refusal::NotEligible { party, slot, rule: no.rule, from: no.from }, &app.names())
    })
}

/// The bytes of a note: sealed, where it is of somebody who has registered.
fn noted(app: &App, party: PartyId, note: &DoseNote) -> Result<Vec<u8>, Problem> {
    match &app.doses {
        Some(doses) => doses.bytes(party, note).map_err(|error| store::failed(&error)),
        None => Ok(note.encode()),
    }
}

/// Who a party is, after whatever merges.
pub(crate) fn owner(app: &App, party: PartyId) -> Result<PartyId, Problem> {
    app.doses.as_ref().map_or(Ok(party), |doses| doses.owner(party)).map_err(|error| store::failed(&error))
}

/// Who writes something down, as the audit log names them.
fn author(caller: &Caller) -> String {
    format!("{}:{}", caller.role, caller.name)
}

/// A dose, as every answer shows it.
#[derive(Debug, Serialize)]
pub(super) struct DoseAnswer {
    number: String,
    party: String,
    dose: u8,
    state: &'static str,
    product: Option<String>,
    given_at: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    batch: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    site: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    vaccinator: String,
    centre: String,
    session: String,
    recorded_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_by: Option<String>,
    changes: Vec<ChangeAnswer>,
}

#[derive(Debug, Serialize)]
struct ChangeAnswer {
    kind: &'static str,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vaccinator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    began_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    case: Option<String>,
}

impl DoseAnswer {
    /// Who asks for their own is not told who of the staff wrote it down.
    async fn of(app: &App, caller: &Caller, party: PartyId, record: DoseRecord) -> Result<DoseAnswer, Problem> {
        let (names, engine) = (app.names(), &app.campaign.engine);
        let DoseRecord { booking, details, valid, recorded_at, author, changes, .. } = record;
        let (claim, _) = engine.claimed(booking).ok_or_else(|| unknown(app, booking))?;
        let place = place(app, claim.slot).await?;
        let staff = caller.role != Role::Citizen;
        let Details { given_at, product, mut batch, site, vaccinator } = details;
        if let Some(ledger) = app.ledger.as_ref().filter(|_| batch.is_empty()) {
            // Of who was erased the batch stands in the open still.
            let of = ledger.use_of(booking).map_err(|error| store::failed(&error))?;
            batch = of.map(|of| of.batch).unwrap_or_default();
        }
        Ok(DoseAnswer {
            number: names.dose(booking),
            party: names.party(party),
            dose: claim.dose.0,
            state: if valid { "valid" } else { "revoked" },
            product: app.campaign.programme.get().product(product).map(|product| product.id.clone()),
            given_at: names.time(given_at),
            batch,
            site,
            vaccinator,
            centre: place.session.centre.to_string(),
            session: place.session.id.to_string(),
            recorded_at: names.time(recorded_at),
            recorded_by: Some(author).filter(|author| staff && !author.is_empty()),
            changes: changes.into_iter().map(|change| ChangeAnswer::of(app, staff, change)).collect(),
        })
    }
}

impl ChangeAnswer {
    fn of(app: &App, staff: bool, Change { at, author, what, .. }: Change) -> ChangeAnswer {
        let names = app.names();
        let mut answer = ChangeAnswer {
            kind: "",
            at: names.time(at),
            by: Some(author).filter(|_| staff),
            reason: None,
            given_at: None,
            product: None,
            batch: None,
            site: None,
            vaccinator: None,
            event: None,
            severity: None,
            began_at: None,
            case: None,
        };
        match what {
            What::Corrected { correction, reason } => {
                let Correction { given_at, product, batch, site, vaccinator } = correction;
                answer.kind = "corrected";
                answer.reason = Some(reason);
                answer.given_at = given_at.map(|at| names.time(at));
                let rules = app.campaign.programme.get();
                let product = product.and_then(|product| rules.product(product));
                answer.product = product.map(|product| product.id.clone());
                (answer.batch, answer.site, answer.vaccinator) = (batch, site, vaccinator);
            }
            What::Revoked { reason } => (answer.kind, answer.reason) = ("revoked", Some(reason)),
            What::Adverse(event) => {
                answer.kind = "adverse_event";
                answer.event = Some(event.event);
                answer.severity = Some(event.severity.as_str());
                answer.began_at = Some(names.time(event.began_at));
                answer.case = Some(event.case).filter(|case| !case.is_empty());
            }
        }
        answer
    }
}

/// There is no such dose, or it is nobody's business of the caller's.
pub(crate) fn unknown(app: &App, booking: BookingNumber) -> Problem {
    let number = app.names().dose(booking);
    Problem::new(Code::UnknownDose, format!("there is no dose {number}")).with("dose_record", number)
}

/// The booking of the dose in the path, which the caller reaches, and its party.
fn dose(call: &Call) -> Result<(BookingNumber, PartyId, u8), Problem> {
    let app = &call.app;
    let booking = app.names().parse_dose(&call.parameter)?;
    let party = reached(app, call.caller(), booking)?;
    let dose = app.campaign.engine.claimed(booking).map_or(0, |(claim, _)| claim.dose.0);
    Ok((booking, party, dose))
}

/// The party of a dose, by its booking, if the caller reaches it.
pub(crate) fn reached(app: &App, caller: &Caller, booking: BookingNumber) -> Result<PartyId, Problem> {
    let view = app.campaign.engine.booking(booking).filter(|view| view.state == State::Completed);
    let Some(view) = view else { return Err(unknown(app, booking)) };
    let party = owner(app, view.claim.party)?;
    // A dose of a record that went to another is of whoever that is now.
    let reaches = match caller.scope {
        Scope::Everything | Scope::Centres { .. } => caller.may_touch(booking, app),
        Scope::Parties(_) | Scope::Account(_) => caller.may_act_for(party, &app.names()),
    };
    reaches.map_err(|_| unknown(app, booking))?;
    Ok(party)
}

/// What is on record of a party, as of now, and what the policy knows of it.
pub(crate) async fn records(
    app: &App,
    mode: AckMode,
    party: PartyId,
) -> Result<(berth_engine::PartyFacts, Vec<DoseRecord>), Problem> {
    let engine = &app.campaign.engine;
    let unknown = || problem::refused(&Refusal::UnknownParty { party }, &app.names());
    let party = owner(app, party)?;
    let view = engine.party_bookings(party).ok_or_else(unknown)?;
    safe(app, mode, view.seq).await?;
    // The store has what is durable, also where the answer to a write was not waited for.
    safe(app, AckMode::Disk, view.seq).await?;
    store::reached(app, view.seq).await?;
    let doses = app.doses.clone().ok_or_else(store::unavailable)?;
    let read = tokio::task::spawn_blocking(move || doses.records(party)).await;
    let read = read.map_err(|_| store::unavailable())?;
    Ok((view.facts, read.map_err(|error| store::failed(&error))?))
}

/// `GET /v1/doses/{dose}`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (booking, party, _) = dose(&call)?;
    let answer = shown(&call.app, call.ack, call.caller(), booking, party).await?;
    let mut response = respond(StatusCode::OK, Media::Json, json(&answer));
    // A slash is the one character of a batch that a path cannot have.
    let batch = format!("</v1/batches/{}>; rel=\"related\"", answer.batch.replace('/', "%2F"));
    if let Some(link) = HeaderValue::try_from(batch).ok().filter(|_| !answer.batch.is_empty()) {
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

async fn shown(
    app: &App,
    mode: AckMode,
    caller: &Caller,
    booking: BookingNumber,
    party: PartyId,
) -> Result<DoseAnswer, Problem> {
    let (_, records) = records(app, mode, party).await?;
    let record = records.into_iter().find(|record| record.booking == booking);
    DoseAnswer::of(app, caller, party, record.ok_or_else(|| unknown(app, booking))?).await
}

/// `GET /v1/parties/{party}/doses`
pub(crate) async fn of_party(call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        party: String,
        /// How many the policy knows of, those given elsewhere among them.
        known: u8,
        doses: Vec<DoseAnswer>,
        /// Whether nothing recorded can be missing.
        complete: bool,
    }
    let app = &call.app;
    let names = app.names();
    let party = owner(app, names.parse_party(&call.parameter)?)?;
    may_read(&call, party)?;
    let (facts, records) = records(app, call.ack, party).await?;
    let mut doses = Vec::with_capacity(records.len());
    for record in records {
        doses.push(DoseAnswer::of(app, call.caller(), party, record).await?);
    }
    let complete = app.store.as_ref().is_some_and(|store| store.began().0 == 0);
    let answer = Answer { party: names.party(party), known: facts.doses, doses, complete };
    Ok(respond(StatusCode::OK, Media::Json, json(&answer)))
}

/// Whoever acts for the party; and at a centre whoever has it before them: with a live booking there.
pub(crate) fn may_read(call: &Call, party: PartyId) -> Result<(), Problem> {
    let app = &call.app;
    let refused = match call.caller().may_act_for(party, &app.names()) {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    let live = app.campaign.engine.party_bookings(party).map(|view| view.bookings).unwrap_or_default();
    let here = |slot| call.caller().works_at_slot(slot, &app.campaign.catalogue);
    if call.caller().role == Role::Operator && live.iter().any(|view| here(view.claim.slot)) {
        return Ok(());
    }
    Err(refused)
}

/// The answer to a change: the dose as it stands now.
async fn changed(
    app: &App,
    mode: AckMode,
    caller: &Caller,
    (booking, party): (BookingNumber, PartyId),
    submitted: &Submitted,
) -> Result<Response<ResponseBody>, Problem> {
    let answer = shown(app, mode, caller, booking, party).await?;
    let mut response = respond(StatusCode::OK, Media::Json, json(&answer));
    if submitted.replayed {
        super::mark_replayed(&mut response);
    }
    Ok(response)
}
