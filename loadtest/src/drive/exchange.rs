//! One request over the wire, and what its client then knows: ok, refused, or unknown.

use std::borrow::Cow;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;

use super::ask::Ask;
use super::field::Field;
use super::meter::Meter;
use super::own::OwnConnection;
use crate::history::{Op, Operation, Outcome};
use crate::wire::{Answer, Availability, Problem};

/// The code of a refusal for want of room in the journal: a no for now, so a client asks again.
pub(super) const JOURNAL_FULL: &str = "journal_full";

/// The code of a request whose connection the scenario cut.
const CUT: &str = "connection_cut";

/// On what a request goes.
pub(crate) enum Line<'a> {
    /// A connection of some pool.
    Pooled(Box<RequestBuilder>),
    Own(&'a OwnConnection),
}

/// Sends a request once and records it. The body of a search or of a read booking is handed back; of some searches the history
/// keeps what they showed.
///
/// Everything that is not an answer in full leaves the outcome unknown: a lost connection, a timeout, a cut body, a
/// body that cannot be read, and any 5xx but `journal_full` and an `overloaded` that says why.
pub(crate) async fn exchange(
    field: &Field,
    line: Line<'_>,
    ask: &Ask,
    intended_us: i64,
    attempt: u32,
) -> (Operation, Option<Vec<u8>>) {
    let mut operation = Operation {
        arrival: ask.arrival,
        op: ask.op,
        key: ask.key.clone(),
        attempt,
        asked: ask.asked.clone(),
        target: ask.target.clone(),
        intended_us,
        sent_us: field.clock.now_us(),
        ..Operation::default()
    };
    let flight = Flight::start(&field.meter, ask.op.changes());
    let answer = match field.meter.cut_after() {
        None => answer(field, line, ask).await,
        // Whoever lets go of a request closes its connection.
        Some(after) => tokio::time::timeout(after, answer(field, line, ask)).await.unwrap_or(Err(CUT)),
    };
    drop(flight);
    operation.received_us = field.clock.now_us();
    let body = match answer {
        Ok(answer) => read_answer(&mut operation, answer),
        Err(why) => {
            operation.code = Some(why.to_owned());
            None
        }
    };
    if ask.op == Op::Search && operation.outcome == Outcome::Ok && field.notes_search(ask.arrival) {
        operation.shown = body.as_deref().and_then(parse::<Availability>).and_then(Availability::shown);
    }
    count(&field.meter, &operation);
    field.recorder.operation(operation.clone());
    (operation, body)
}

/// How long the exchange took, for Goose.
pub(crate) fn took(operation: &Operation) -> Duration {
    Duration::from_micros(u64::try_from(operation.received_us - operation.sent_us).unwrap_or(0))
}

/// The headers of a request, but for those that every client adds by itself.
fn headers<'a>(field: &'a Field, ask: &'a Ask) -> impl Iterator<Item = (&'static str, Cow<'a, str>)> {
    let authorization = (ask.op != Op::Search).then(|| ("authorization", field.authorization.as_str().into()));
    let key = ask.key.as_ref().map(|key| ("idempotency-key", key.as_str().into()));
    let account = ask.asked.first().and_then(|claim| field.account_of(&claim.party));
    let account = account.map(|account| ("berth-account", account.into()));
    let body = ask.body.as_ref().map(|_| ("content-type", "application/json".into()));
    [authorization, key, account, body].into_iter().flatten()
}

struct Received {
    status: u16,
    replayed: bool,
    retry_after_s: Option<u64>,
    body: Vec<u8>,
}

impl Received {
    fn new(status: u16, headers: &HeaderMap, body: Vec<u8>) -> Self {
        let replayed = headers.get("idempotent-replayed").is_some_and(|value| value == "true");
        let retry_after = headers.get("retry-after");
        let retry_after_s = retry_after.and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
        Self { status, replayed, retry_after_s, body }
    }
}

async fn answer(field: &Field, line: Line<'_>, ask: &Ask) -> Result<Received, &'static str> {
    match line {
        Line::Pooled(request) => {
            let mut request =
                headers(field, ask).fold(*request, |request, (name, value)| request.header(name, &*value));
            if let Some(body) = &ask.body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(|error| why(&error))?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.bytes().await.map_err(|error| why(&error))?.to_vec();
            Ok(Received::new(status, &headers, body))
        }
        Line::Own(connection) => {
            let method = if ask.op.changes() { "POST" } else { "GET" };
            let request = hyper::Request::builder().method(method).uri(&ask.path);
            let request = headers(field, ask).fold(request, |request, (name, value)| request.header(name, &*value));
            let body = Full::new(Bytes::from(ask.body.clone().unwrap_or_default()));
            let request = request.body(body).map_err(|_| "connection_lost")?;
            let answered = connection.send(request).await?;
            Ok(Received::new(answered.status, &answered.headers, answered.body.to_vec()))
        }
    }
}

/// A constant word for what went wrong, so that the history can be counted by it.
fn why(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timed_out"
    } else if error.is_connect() {
        "no_connection"
    } else if error.is_body() || error.is_decode() {
        "cut_answer"
    } else {
        "connection_lost"
    }
}

fn read_answer(operation: &mut Operation, received: Received) -> Option<Vec<u8>> {
    operation.status = Some(received.status);
    operation.replayed = received.replayed;
    operation.retry_after_s = received.retry_after_s;
    match received.status {
        200..=299 if operation.op == Op::Search => {
            operation.outcome = Outcome::Ok;
            return Some(received.body);
        }
        200..=299 => match parse::<Answer>(&received.body) {
            Some(answer) => {
                operation.outcome = Outcome::Ok;
                operation.expires_us = answer.expires_us();
                operation.hold.clone_from(&answer.hold);
                operation.told = answer.told();
                if operation.op == Op::Read {
                    return Some(received.body);
                }
            }
            None => operation.code = Some("unreadable_answer".into()),
        },
        status => {
            let problem = parse::<Problem>(&received.body).unwrap_or_default();
            operation.counts = problem.counts();
            let sent_off = status == 503 && problem.reason.is_some() && problem.code.as_deref() == Some("overloaded");
            operation.code = Some(problem.code.unwrap_or_else(|| format!("status_{status}")));
            // 408 is as open as a lost connection: the server did not read the request to its end. Of the 5xx one is a clear
            // no, which leaves its key free: that the journal has no room, or that the server took nobody in.
            let full = status == 503 && operation.code.as_deref() == Some(JOURNAL_FULL);
            if full || sent_off || ((400..500).contains(&status) && status != 408) {
                operation.outcome = Outcome::Refused;
            }
        }
    }
    None
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

fn count(meter: &Meter, operation: &Operation) {
    meter.operations.fetch_add(1, Relaxed);
    match operation.outcome {
        Outcome::Ok if !operation.replayed && matches!(operation.op, Op::Confirm | Op::Book) => {
            meter.bookings.fetch_add(u64::try_from(operation.told.len()).unwrap_or(0), Relaxed);
        }
        Outcome::Ok => {}
        Outcome::Refused => {
            meter.refused.fetch_add(1, Relaxed);
        }
        Outcome::Unknown => {
            meter.unknown.fetch_add(1, Relaxed);
            // A search or a read that was cut leaves nothing open.
            if operation.op.changes() && operation.sent_us <= meter.killed_us.load(Relaxed) {
                meter.cut_by_kill.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Counts a request as in flight for as long as it lives, whatever ends it.
struct Flight<'a> {
    meter: &'a Meter,
    changes: bool,
}

impl<'a> Flight<'a> {
    fn start(meter: &'a Meter, changes: bool) -> Self {
        meter.operations_in_flight.fetch_add(1, Relaxed);
        if changes {
            meter.changes_in_flight.fetch_add(1, Relaxed);
        }
        Self { meter, changes }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.meter.operations_in_flight.fetch_sub(1, Relaxed);
        if self.changes {
            self.meter.changes_in_flight.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_that_was_cut_makes_a_blow_land() {
        let meter = Meter::default();
        meter.killed_us.store(100, Relaxed);
        for (op, cut) in [(Op::Search, 0), (Op::Read, 0), (Op::Outcome, 0), (Op::Hold, 1), (Op::Cancel, 2)] {
            count(&meter, &Operation { op, sent_us: 99, received_us: 150, ..Operation::default() });
            assert_eq!(meter.cut_by_kill.load(Relaxed), cut, "{op:?}");
        }
    }
}
