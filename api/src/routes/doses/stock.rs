//! A dose and the books of stock: what stands against it is refused, or told beside it.

use berth_engine::{Command, Idempotency, Request, Submitted};
use berth_programme::doses::Correction;
use berth_programme::supply::{Dose, Doubt, Recorded, Unrecorded};
use hyper::Response;
use hyper::header::HeaderValue;

use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
use crate::store;

/// What stands against a dose that was recorded all the same, in the head of the answer.
const WARNING: &str = "berth-supply-warning";

/// Appends a dose through the books, where there are any.
pub(super) fn give(
    app: &App,
    dose: Dose<'_>,
    command: Command<'_>,
    idempotency: Idempotency,
) -> Result<Recorded, Problem> {
    let engine = &app.campaign.engine;
    let request = Request { command, idempotency: Some(idempotency) };
    let submit = || engine.submit(&request, engine.now()).map_err(|failure| problem::failed(&failure));
    let Some(ledger) = &app.ledger else { return submit().map(Recorded::plain) };
    let repeated = || engine.repeat_of(idempotency).is_some();
    ledger.give(dose, false, repeated, submit).map_err(|error| unrecorded(error, dose.batch))
}

/// Appends a correction through the books, where there are any.
pub(super) fn correct(
    app: &App,
    booking: berth_engine::BookingNumber,
    correction: &Correction,
    submit: impl FnOnce() -> Result<Submitted, Problem>,
) -> Result<Recorded, Problem> {
    let Some(ledger) = &app.ledger else { return submit().map(Recorded::plain) };
    let batch = correction.batch.as_deref();
    let done = ledger.correct(booking, (batch, correction.product), submit);
    done.map_err(|error| unrecorded(error, batch.unwrap_or("")))
}

pub(super) fn unrecorded(error: Unrecorded<Problem>, batch: &str) -> Problem {
    match error {
        Unrecorded::Doubt(doubt, centre) => refused(doubt, batch, &centre),
        Unrecorded::Store(error) => store::failed(&error),
        Unrecorded::Submit(problem) => problem,
    }
}

fn refused(doubt: Doubt, batch: &str, centre: &str) -> Problem {
    let named = if batch.is_empty() { "of this dose".to_owned() } else { batch.to_owned() };
    let (code, detail) = match doubt {
        Doubt::OtherProduct => (Code::BatchOtherProduct, format!("batch {named} is of another product than this dose")),
        Doubt::Recalled => (Code::BatchRecalled, format!("batch {named} is recalled: it must not be given")),
        Doubt::Expired => (Code::BatchExpired, format!("batch {named} had expired by the day of this dose")),
        Doubt::Unknown if batch.is_empty() => {
            (Code::BatchUnknown, "no batch is named, and this programme keeps stock".to_owned())
        }
        Doubt::Unknown => (Code::BatchUnknown, format!("batch {named} is not known: an admin makes it known")),
        Doubt::NoStock => {
            (Code::NoStock, format!("centre {centre} has no dose of batch {named}: write down what it received"))
        }
    };
    let problem = Problem::new(code, detail).with("centre", centre);
    if batch.is_empty() { problem } else { problem.with("batch", batch) }
}

/// Tells in the head what stands against a dose.
pub(super) fn warned(mut response: Response<ResponseBody>, doubts: &[Doubt]) -> Response<ResponseBody> {
    let told = doubts.iter().map(|doubt| doubt.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(value) = HeaderValue::try_from(told).ok().filter(|value| !value.is_empty()) {
        response.headers_mut().insert(WARNING, value);
    }
    response
}
