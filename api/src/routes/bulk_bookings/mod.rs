//! Many bookings in one request: a line in, a result out (see [`line_by_line`](super::line_by_line)).

mod asked;

use std::sync::Arc;

use berth_engine::{Group, Outcome, Seq, State, Submitted, TimestampMs};
use bytes::Bytes;
use hyper::Response;
use serde::Serialize;

use self::asked::{LineRequest, Prints};
use super::holds::{admitted, made};
use super::line_by_line::{Answering, Stream, answer};
use super::lines::Stop;
use crate::access::AccountId;
use crate::body::ResponseBody;
use crate::idempotency;
use crate::problem::{self, Problem};
use crate::router::Call;

/// `POST /v1/bulk/bookings`
pub(crate) async fn stream(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let account = call.account().copied();
    answer(call, |stream| Bulk { stream, account, prints: Prints::new() }).await
}

struct Bulk {
    stream: Stream,
    /// The request's account, for lines that name none.
    account: Option<AccountId>,
    prints: Prints,
}

/// A line that was done.
#[derive(Default, Serialize)]
struct Done<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    status: u16,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bookings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    booking: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_from: Option<String>,
}

impl Answering for Bulk {
    fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    fn into_stream(self) -> Stream {
        self.stream
    }

    async fn answer(&mut self, line: &Bytes, _: TimestampMs) -> Result<(), Stop> {
        let request = match LineRequest::parse(line) {
            Ok(request) => request,
            Err(problem) => {
                self.refuse(None, problem, Seq(0));
                return Ok(());
            }
        };
        let key = request.key().filter(|key| idempotency::is_key(key));
        match request.check(&self.stream, &self.prints, self.account) {
            Err(problem) => self.refuse(key, problem, Seq(0)),
            Ok(asked) => {
                let app = Arc::clone(&self.stream.app);
                // rule: HLD-6 a line holds for an account as a request does
                let admitted = match admitted(&app, asked.account(), asked.idempotency()) {
                    Ok(admitted) => admitted,
                    Err(problem) => {
                        self.refuse(key, problem, Seq(0));
                        return Ok(());
                    }
                };
                let submitted = self.stream.lines.submit(&app, asked.command(), asked.idempotency()).await?;
                made(admitted, &submitted);
                match &submitted.result {
                    Ok(outcome) => self.done(key, outcome, &submitted),
                    Err(refusal) => {
                        let problem = problem::refused(refusal, &app.names());
                        self.refuse(key, problem, submitted.seq);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Bulk {
    fn refuse(&mut self, key: Option<&str>, problem: Problem, seq: Seq) {
        self.stream.refuse(self.stream.line, key, problem, seq);
    }

    fn done(&mut self, key: Option<&str>, outcome: &Outcome, submitted: &Submitted) {
        let app = Arc::clone(&self.stream.app);
        let names = app.names();
        let codes = |claims: &Group| claims.iter().map(|claim| names.booking(claim.number)).collect::<Vec<_>>();
        let hold = |claims: &Group| claims.first().map(|claim| names.booking(claim.number));
        let done = Done { line: self.stream.line, key, replayed: submitted.replayed, status: 200, ..Done::default() };
        let done = match outcome {
            Outcome::Booked { claims } => Done { status: 201, hold: hold(claims), bookings: codes(claims), ..done },
            Outcome::Held { expires_at, claims } => Done {
                status: 201,
                hold: hold(claims),
                expires_at: Some(names.time(*expires_at)),
                bookings: codes(claims),
                ..done
            },
            Outcome::Confirmed { claims } => Done { hold: hold(claims), bookings: codes(claims), ..done },
            Outcome::Released { claims } => Done { hold: hold(claims), state: Some(State::Released.as_str()), ..done },
            Outcome::Cancelled { claim } => {
                Done { booking: Some(names.booking(claim.number)), state: Some(State::Cancelled.as_str()), ..done }
            }
            Outcome::Moved { from, to } => Done {
                booking: Some(names.booking(to.number)),
                slot: Some(names.slot(to.claim.slot)),
                moved_from: Some(names.booking(*from)),
                ..done
            },
            // No line asks for anything else.
            Outcome::PartiesAdded { .. }
            | Outcome::Published { .. }
            | Outcome::Noted
            | Outcome::Expired { .. }
            | Outcome::GroupCancelled { .. }
            | Outcome::CheckedIn { .. }
            | Outcome::Completed { .. }
            | Outcome::NoShow { .. }
            | Outcome::WalkedIn { .. }
            | Outcome::FactsChanged { .. }
            | Outcome::Recorded
            | Outcome::SlotChanged { .. } => done,
        };
        self.stream.done(&done, submitted.replayed, submitted.seq);
    }
}
