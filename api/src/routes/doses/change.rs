//! Corrections, revocations and adverse events: entries of their own, never edits.

use berth_engine::{BookingNumber, By, Command, Idempotency, PartyFacts, PartyId, Refusal, Request, State};
use berth_programme::doses::history::{corrected, ordinal, revoked};
use berth_programme::doses::{CannotChange, DoseNote, DoseRecord};
use berth_programme::people::NOBODY_DOSES;
use berth_programme::supply::Recorded;
use hyper::Response;

use super::details::{AdverseRequest, CorrectRequest, RevokeRequest, keyed, reason, with_said};
use super::{author, changed, dose, may_be_of, noted, owner, records, stock};
use crate::ack::AckMode;
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
use crate::router::Call;
use crate::routes::{apply, fingerprint, key, parse, read_json, settled};

/// How often a change is tried that meets another of the same party.
const TRIES: usize = 8;

/// `POST /v1/doses/{dose}/correct`
pub(crate) async fn correct(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let (booking, party, _) = dose(&call)?;
    let app = &call.app;
    let now = app.campaign.engine.now();
    let (mut correction, reason) = parse::<CorrectRequest<'_>>(&body)?.check(app, now)?;
    let print = with_said(app, fingerprint(&call).number(booking.0).piece(&keyed(app, reason.as_bytes())), &correction);
    correction.given_at = correction.given_at.map(|at| at.min(now));
    if let Some(given_at) = correction.given_at {
        may_be_of(app, booking, given_at)?;
    }
    let calendar = app.campaign.programme.calendar();
    let facts = |facts, records: &[DoseRecord]| corrected(facts, records, booking, &correction, calendar);
    let author = author(call.caller());
    let note = DoseNote::Corrected { booking, correction: correction.clone(), reason, author };
    let Recorded { submitted, doubts } = change(app, call.ack, party, &note, print.under(key), facts).await?;
    let response = changed(app, call.ack, call.caller(), (booking, party), &submitted).await?;
    Ok(stock::warned(response, &doubts))
}

/// `POST /v1/doses/{dose}/revoke`
pub(crate) async fn revoke(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let (booking, party, number) = dose(&call)?;
    let app = &call.app;
    let reason = reason(&parse::<RevokeRequest<'_>>(&body)?.reason)?;
    let print = fingerprint(&call).number(booking.0).piece(&keyed(app, reason.as_bytes()));
    let calendar = app.campaign.programme.calendar();
    let facts = |facts, records: &[DoseRecord]| {
        // Who is booked for a later one rests on this one.
        // Where doses of two records came together their numbers say nothing any more.
        let merged = records.iter().any(|record| record.of != party);
        let number = if merged { ordinal(&facts, records, booking, calendar) } else { number };
        let left = revoked(facts, records, booking, number, calendar)?;
        if !resting(app, party, left.doses).is_empty() {
            return Err(CannotChange::LaterDose);
        }
        Ok(left)
    };
    let note = DoseNote::Revoked { booking, reason, author: author(call.caller()) };
    let Recorded { submitted, .. } = change(app, call.ack, party, &note, print.under(key), facts).await?;
    give_back(app, party);
    changed(app, call.ack, call.caller(), (booking, party), &submitted).await
}

/// `POST /v1/doses/{dose}/adverse-events`
pub(crate) async fn adverse(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let (booking, party, _) = dose(&call)?;
    let app = &call.app;
    let request: AdverseRequest<'_> = parse(&body)?;
    let event = request.check(app.campaign.engine.now())?;
    let print = fingerprint(&call).number(booking.0).piece(&keyed(app, body.trim_ascii()));
    let (began_at, calendar) = (event.began_at, app.campaign.programme.calendar());
    let note = DoseNote::Adverse { booking, event, author: author(call.caller()) };
    // What happened after a dose happened, whatever became of its record.
    let facts = |facts, records: &[DoseRecord]| {
        let given = records.iter().find(|record| record.booking == booking).map(|record| record.details.given_at);
        if given.is_some_and(|given| calendar.day(began_at) < calendar.day(given)) {
            return Err(CannotChange::Before);
        }
        Ok(facts)
    };
    let Recorded { submitted, .. } = change(app, call.ack, party, &note, print.under(key), facts).await?;
    changed(app, call.ack, call.caller(), (booking, party), &submitted).await
}

/// Live claims of a party for doses that are not due to it with so many.
fn resting(app: &App, party: PartyId, doses: u8) -> Vec<BookingNumber> {
    let live = app.campaign.engine.party_bookings(party).map(|view| view.bookings).unwrap_or_default();
    let rests = |dose: u8| dose > doses.saturating_add(1);
    live.iter().filter(|view| rests(view.claim.dose.0)).map(|view| view.number).collect()
}

/// What was claimed between the look at a party's claims and the entry by which its dose went rests on nothing.
fn give_back(app: &App, party: PartyId) {
    let engine = &app.campaign.engine;
    let Some(view) = engine.party_bookings(party) else { return };
    for booking in resting(app, party, view.facts.doses) {
        // A hold too: to confirm it would be no new claim.
        let held = engine.booking(booking).is_some_and(|view| view.state == State::Held);
        let command = match held {
            true => Command::Release { hold: booking },
            false => Command::Cancel { booking, by: By::Administration },
        };
        // Ended meanwhile: as well.
        let _ = engine.submit(&Request { command, idempotency: None }, engine.now());
    }
}

/// Makes a change that rests on what is on record, again if that moved meanwhile.
// rule: PTY-2
async fn change(
    app: &App,
    mode: AckMode,
    party: PartyId,
    note: &DoseNote,
    idempotency: Idempotency,
    facts: impl Fn(PartyFacts, &[DoseRecord]) -> Result<PartyFacts, CannotChange>,
) -> Result<Recorded, Problem> {
    let engine = &app.campaign.engine;
    let corrected = match note {
        DoseNote::Corrected { booking, correction, .. } => Some((*booking, correction)),
        _ => None,
    };
    for _ in 0..TRIES {
        // A merge may have come between.
        let party = owner(app, party)?;
        let (known, records) = records(app, mode, party).await?;
        let facts = facts(known, &records);
        // What is on record may have the first one's effect: a repeat must not be judged by it.
        if let Some(repeat) = engine.repeat_of(idempotency) {
            return answered(app, Recorded::plain(settled(app, mode, repeat).await?));
        }
        // Who was erased is nobody whose record could be put right.
        if known.doses == NOBODY_DOSES && app.registration.is_some() {
            return Err(problem::refused(&Refusal::UnknownParty { party }, &app.names()));
        }
        let facts = facts.map_err(cannot)?;
        let note = &noted(app, party, note)?;
        let command = Command::ChangeFacts { party, facts, expected: Some(&known), note };
        let submit = || apply(app, command, idempotency);
        let Recorded { submitted, doubts } = match corrected {
            Some((booking, correction)) => stock::correct(app, booking, correction, submit)?,
            None => Recorded::plain(submit()?),
        };
        let submitted = settled(app, mode, submitted).await?;
        if submitted.result != Err(Refusal::ChangedMeanwhile { party }) {
            return answered(app, Recorded { submitted, doubts });
        }
    }
    Err(problem::refused(&Refusal::ChangedMeanwhile { party }, &app.names()))
}

fn answered(app: &App, recorded: Recorded) -> Result<Recorded, Problem> {
    match &recorded.submitted.result {
        Ok(_) => Ok(recorded),
        Err(refusal) => Err(problem::refused(refusal, &app.names())),
    }
}

fn cannot(why: CannotChange) -> Problem {
    match why {
        CannotChange::Revoked => Problem::new(Code::DoseRevoked, "the dose was revoked before: nothing of it stands"),
        CannotChange::LaterDose => {
            Problem::new(Code::LaterDose, "a later dose of this party is on record or booked: that goes first")
        }
        CannotChange::Before => Problem::new(Code::MalformedRequest, "began_at: is before the day of the dose"),
    }
}
