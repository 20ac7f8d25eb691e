//! What a centre gave while it had no network, line by line: each says who was there, when, and what was given.
//!
//! A line checks the person in, or takes them as a walk-in, and records the dose: as if it had been told at once, so that a conflict with
//! what happened meanwhile is a result of its own. It may be sent again, in whatever order and under whatever key: what is on record
//! already, word for word, is told as done.

use std::sync::Arc;

use berth_engine::{
    BookingNumber, Claim, CodeTry, Command, Dose, Outcome, Refusal, Request, Seq, State, Submitted, TimestampMs,
};
use berth_programme::doses::DoseRecord;
use berth_programme::supply::{Doubt, Unrecorded};
use bytes::Bytes;
use hyper::Response;
use serde::{Deserialize, Serialize};

use super::details::{DetailsRequest, Text, instant};
use super::{Given, may_be_at, may_be_of, records};
use crate::access::Caller;
use crate::ack::AckMode;
use crate::app::App;
use crate::body::ResponseBody;
use crate::idempotency::{self, Fingerprint};
use crate::problem::{self, Code, Problem};
use crate::router::Call;
use crate::routes::door::four_digits;
use crate::routes::line_by_line::{self, Answering, Stream};
use crate::routes::lines::Stop;
use crate::routes::parse;
use crate::store;

/// A line of an upload. Of a booking, or of a party that came without one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineRequest<'a> {
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    booking: Option<Text<'a>>,
    /// What the person said at the door; of a booking that is not checked in yet.
    #[serde(borrow)]
    code: Option<Text<'a>>,
    #[serde(borrow)]
    party: Option<Text<'a>>,
    #[serde(borrow)]
    slot: Option<Text<'a>>,
    dose: Option<u8>,
    /// When they came; without it, when the dose was given.
    #[serde(borrow)]
    came_at: Option<Text<'a>>,
    #[serde(borrow)]
    given_at: Text<'a>,
    #[serde(borrow)]
    product: Option<Text<'a>>,
    #[serde(borrow)]
    batch: Option<Text<'a>>,
    #[serde(borrow)]
    site: Option<Text<'a>>,
    #[serde(borrow)]
    vaccinator: Option<Text<'a>>,
}

impl LineRequest<'_> {
    fn key(&self) -> Option<&str> {
        self.key.as_ref().map(|Text(key)| &**key)
    }
}

/// Who was there.
#[derive(Clone, Copy)]
enum Came {
    Booked(BookingNumber, Option<u16>),
    Walked(Claim, TimestampMs),
}

/// `POST /v1/bulk/doses`
pub(crate) async fn stream(call: Call) -> Result<Response<ResponseBody>, Problem> {
    line_by_line::answer(call, |stream| Upload { stream }).await
}

struct Upload {
    stream: Stream,
}

/// A line whose dose is on record.
#[derive(Serialize)]
struct Done<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    status: u16,
    booking: String,
    dose_record: String,
    /// It was on record before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    already: bool,
    /// What stands against it: it was given, and is on record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    supply: Vec<&'static str>,
}

/// How a line ends early.
enum No {
    /// A result of its own; it rests on entries up to this one.
    Problem(Problem, Seq),
    Stop(Stop),
}

impl From<Problem> for No {
    fn from(problem: Problem) -> No {
        No::Problem(problem, Seq(0))
    }
}

impl From<Stop> for No {
    fn from(stop: Stop) -> No {
        No::Stop(stop)
    }
}

/// What came of a line.
struct Recorded {
    booking: BookingNumber,
    seq: Seq,
    already: bool,
    doubts: Vec<Doubt>,
}

impl Recorded {
    /// It was on record, word for word.
    fn before(booking: BookingNumber, seq: Seq) -> Recorded {
        Recorded { booking, seq, already: true, doubts: Vec::new() }
    }
}

impl Answering for Upload {
    fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    fn into_stream(self) -> Stream {
        self.stream
    }

    async fn answer(&mut self, line: &Bytes, _: TimestampMs) -> Result<(), Stop> {
        let request: LineRequest<'_> = match parse(line) {
            Ok(request) => request,
            Err(problem) => {
                self.refuse(None, problem, Seq(0));
                return Ok(());
            }
        };
        let key = request.key().filter(|key| idempotency::is_key(key));
        match self.record(&request).await {
            Ok(Recorded { booking, seq, already, doubts }) => {
                let names = self.stream.app.names();
                let (shown, dose_record) = (names.booking(booking), names.dose(booking));
                let status = if already { 200 } else { 201 };
                let supply = doubts.iter().map(|doubt| doubt.as_str()).collect();
                let done = Done { line: self.stream.line, key, status, booking: shown, dose_record, already, supply };
                self.stream.done(&done, already, seq);
            }
            Err(No::Problem(problem, seq)) => self.refuse(key, problem, seq),
            Err(No::Stop(stop)) => return Err(stop),
        }
        Ok(())
    }
}

impl Upload {
    fn refuse(&mut self, key: Option<&str>, problem: Problem, seq: Seq) {
        self.stream.refuse(self.stream.line, key, problem, seq);
    }

    /// Checks in or takes at the door, then records; each under a key of its own, so that a line that broke off goes on.
    // rule: DOS-1
    async fn record(&mut self, request: &LineRequest<'_>) -> Result<Recorded, No> {
        let app = Arc::clone(&self.stream.app);
        let caller = Arc::clone(&self.stream.caller);
        let (key, number) = self.stream.key_of(request.key())?;
        let step = |step: &str| self.stream.scope.step(key, step, number);
        let (came_step, given_key) = (step("came"), step("given"));
        let (came, details) = check(&app, &caller, request)?;
        let print = |step: &str| Fingerprint::new("POST", "/v1/bulk/doses").piece(step.as_bytes());
        let came_key = match came {
            Came::Booked(booking, _) => print("came").number(booking.0).under(came_step),
            Came::Walked(claim, at) => {
                let Claim { party, slot, dose } = claim;
                let print = print("came").number(party.0.into()).number(slot.0.into()).number(dose.0.into());
                print.number(at.0).under(came_step)
            }
        };
        let booking = match came {
            Came::Booked(booking, code) => {
                if let Some(done) = self.check_in(booking, code, came_key, &details).await? {
                    return Ok(done);
                }
                booking
            }
            Came::Walked(claim, came_at) => {
                if let Some(done) = self.on_record(claim, &details).await? {
                    return Ok(done);
                }
                self.walk_in(claim, came_at, came_key).await?
            }
        };
        let given = Given::of(&app, &caller, booking, &details, print("given").number(booking.0))?;
        let (submitted, doubts) = self.give(&given, given.print.clone().under(given_key)).await?;
        match &submitted.result {
            Ok(_) => Ok(Recorded { booking, seq: submitted.seq, already: submitted.replayed, doubts }),
            Err(refusal) => self.already(booking, refusal, &submitted, &details).await,
        }
    }

    /// Records a dose that was given: it is on record whatever stands against it, and that is told.
    // rule: SUP-3
    async fn give(
        &mut self,
        given: &Given,
        idempotency: berth_engine::Idempotency,
    ) -> Result<(Submitted, Vec<Doubt>), No> {
        let app = Arc::clone(&self.stream.app);
        let engine = &app.campaign.engine;
        let request = Request { command: given.command(), idempotency: Some(idempotency) };
        let mut doubts = Vec::new();
        let submit = || {
            let submit = || Ok::<_, Stop>(engine.submit(&request, engine.now())?);
            let Some(ledger) = &app.ledger else { return submit() };
            let repeated = || engine.repeat_of(idempotency).is_some();
            let recorded = ledger.give(given.dose(), true, repeated, submit).map_err(|error| match error {
                Unrecorded::Submit(stop) => stop,
                Unrecorded::Store(error) => Stop::Problem(store::failed(&error)),
                Unrecorded::Doubt(..) => Stop::Problem(store::unavailable()),
            })?;
            doubts = recorded.doubts;
            Ok(recorded.submitted)
        };
        let submitted = self.stream.lines.submit_by(&app, submit).await?;
        Ok((submitted, doubts))
    }

    /// Checks the person in, if that is still to be done. `Some`: the dose is on record already.
    async fn check_in(
        &mut self,
        booking: BookingNumber,
        code: Option<u16>,
        key: berth_engine::Idempotency,
        details: &DetailsRequest<'_>,
    ) -> Result<Option<Recorded>, No> {
        let app = Arc::clone(&self.stream.app);
        let engine = &app.campaign.engine;
        let view = engine.booking(booking).ok_or_else(|| refused(&app, &Refusal::UnknownBooking { booking }))?;
        if view.state == State::CheckedIn {
            return Ok(None);
        }
        if view.state == State::Booked {
            let said = code.ok_or_else(|| Problem::new(Code::MalformedRequest, "code: is missing"))?;
            match engine.try_check_in_code(booking, said, engine.now()) {
                CodeTry::Right => {}
                CodeTry::Wrong { tries_left } => {
                    return Err(No::Problem(problem::wrong_check_in_code(tries_left), view.seq));
                }
                CodeTry::Locked { until } => {
                    return Err(No::Problem(problem::codes_locked(until, &app.names()), view.seq));
                }
            }
        }
        let submitted = self.stream.lines.submit(&app, Command::CheckIn { booking }, key).await?;
        match &submitted.result {
            Ok(_) => Ok(None),
            // Somebody else did it at this moment.
            Err(Refusal::WrongState { from: State::CheckedIn, .. }) => Ok(None),
            Err(refusal) => self.already(booking, refusal, &submitted, details).await.map(Some),
        }
    }

    /// Takes the party as a walk-in, or goes on with the one that the line began before.
    async fn walk_in(
        &mut self,
        claim: Claim,
        came_at: TimestampMs,
        key: berth_engine::Idempotency,
    ) -> Result<BookingNumber, No> {
        let app = Arc::clone(&self.stream.app);
        let submitted = self.stream.lines.submit(&app, Command::WalkInLate { claim, came_at }, key).await?;
        match &submitted.result {
            Ok(Outcome::WalkedIn { claim }) => Ok(claim.number),
            Err(Refusal::AlreadyClaimed { booking, .. }) if self.is_there(*booking, claim) => Ok(*booking),
            Err(refusal) => {
                let problem = match refusal {
                    Refusal::AlreadyClaimed { booking, .. }
                        if self.stream.caller.may_touch(*booking, &app).is_err() =>
                    {
                        problem::claimed_elsewhere(refusal, &app.names())
                    }
                    refusal => problem::refused(refusal, &app.names()),
                };
                Err(No::Problem(problem, submitted.seq))
            }
            Ok(_) => Err(refused(&app, &Refusal::UnknownSlot { slot: claim.slot })),
        }
    }

    /// Whether this booking is of this very claim, and its party checked in.
    fn is_there(&self, booking: BookingNumber, claim: Claim) -> bool {
        let view = self.stream.app.campaign.engine.booking(booking);
        view.is_some_and(|view| view.claim == claim && view.state == State::CheckedIn)
    }

    /// What is on record of this very claim: done before as the line says it, or in its way. What was revoked is not brought back by
    /// sending the file again.
    async fn on_record(&self, claim: Claim, details: &DetailsRequest<'_>) -> Result<Option<Recorded>, No> {
        let (app, engine) = (&*self.stream.app, &self.stream.app.campaign.engine);
        if engine.party_bookings(claim.party).is_none() {
            return Ok(None);
        }
        let slot = engine.slot_facts(claim.slot).unwrap_or_default();
        let said = details.check(app, slot.product, engine.now())?;
        let (_, records) = records(app, AckMode::Disk, claim.party).await?;
        let same = |record: &&DoseRecord| engine.claimed(record.booking).is_some_and(|(found, _)| found == claim);
        if let Some(record) = records.iter().filter(same).find(|record| record.valid) {
            let (booking, seq) = (record.booking, record.seq);
            let done = (record.first == said).then_some(Some(Recorded::before(booking, seq)));
            return done.ok_or_else(|| No::Problem(self.conflict(booking), seq));
        }
        match records.iter().filter(same).find(|record| record.first == said) {
            None => Ok(None),
            Some(record) => {
                let number = app.names().dose(record.booking);
                let detail = "this dose was recorded and revoked since";
                Err(No::Problem(Problem::new(Code::DoseRevoked, detail).with("dose_record", number), record.seq))
            }
        }
    }

    fn conflict(&self, booking: BookingNumber) -> Problem {
        let detail = "a dose is on record for this booking, and it is not the one of this line";
        Problem::new(Code::DoseConflict, detail).with("dose_record", self.stream.app.names().dose(booking))
    }

    /// A step was refused: fine if the dose is on record as the line says it, else a conflict.
    async fn already(
        &self,
        booking: BookingNumber,
        refusal: &Refusal,
        submitted: &Submitted,
        details: &DetailsRequest<'_>,
    ) -> Result<Recorded, No> {
        let app = &*self.stream.app;
        let problem = || No::Problem(problem::refused(refusal, &app.names()), submitted.seq);
        let view = app.campaign.engine.booking(booking).filter(|view| view.state == State::Completed);
        let Some(view) = view else { return Err(problem()) };
        let slot = app.campaign.engine.slot_facts(view.claim.slot).unwrap_or_default();
        let said = details.check(app, slot.product, app.campaign.engine.now())?;
        let (_, records) = records(app, AckMode::Disk, view.claim.party).await?;
        let Some(record) = records.into_iter().find(|record| record.booking == booking) else { return Err(problem()) };
        if record.valid && record.first == said {
            return Ok(Recorded::before(booking, view.seq));
        }
        Err(No::Problem(self.conflict(booking), view.seq))
    }
}

fn refused(app: &App, refusal: &Refusal) -> No {
    problem::refused(refusal, &app.names()).into()
}

/// What a line says, held against all but the state of things.
fn check<'a>(app: &App, caller: &Caller, request: &'a LineRequest<'a>) -> Result<(Came, DetailsRequest<'a>), Problem> {
    let borrowed = |text: &'a Option<Text<'a>>| text.as_ref().map(|Text(text)| Text((&**text).into()));
    let details = DetailsRequest {
        product: borrowed(&request.product),
        batch: borrowed(&request.batch),
        site: borrowed(&request.site),
        vaccinator: borrowed(&request.vaccinator),
        given_at: Some(Text((&*request.given_at.0).into())),
    };
    let (names, now) = (app.names(), app.campaign.engine.now());
    let given_at = instant("given_at", &request.given_at, now)?;
    let came_at = request.came_at.as_ref().map(|at| instant("came_at", at, now)).transpose()?.unwrap_or(given_at);
    if came_at > given_at {
        return Err(Problem::new(Code::MalformedRequest, "came_at: is after given_at"));
    }
    details.said(app, now)?;
    let malformed = |detail: &str| Problem::new(Code::MalformedRequest, detail);
    let LineRequest { booking, code, party, slot, dose, .. } = request;
    match (booking, party, slot, dose) {
        (Some(Text(booking)), None, None, None) => {
            let booking = names.parse_booking(booking)?;
            caller.may_touch(booking, app)?;
            if request.came_at.is_some() {
                return Err(malformed("came_at: is for a party without a booking"));
            }
            // Before anybody is checked in: there is no way back from that.
            may_be_of(app, booking, given_at)?;
            let code = code.as_ref().map(|Text(code)| four_digits(code)).transpose()?;
            Ok((Came::Booked(booking, code), details))
        }
        (None, Some(Text(party)), Some(Text(slot)), Some(dose)) => {
            if code.is_some() {
                return Err(malformed("code: is for a booking"));
            }
            let claim = Claim { party: names.parse_party(party)?, slot: names.parse_slot(slot)?, dose: Dose(*dose) };
            match app.campaign.catalogue.slot(claim.slot) {
                Some(place) => caller.may_work_at(&place.session.centre, &app.campaign.catalogue)?,
                None => return Err(problem::refused(&Refusal::UnknownSlot { slot: claim.slot }, &names)),
            }
            may_be_at(app, claim, given_at)?;
            Ok((Came::Walked(claim, came_at), details))
        }
        _ => Err(malformed("a line names a booking, or a party with slot and dose")),
    }
}
