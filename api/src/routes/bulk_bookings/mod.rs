//! Many bookings in one request: a line in, a result out, in order and as they come.
//!
//! Nothing ties the lines together: a bad one is a result with a problem in it and does not stop the others. Lines
//! are submitted as they arrive and shown as the journal gets there (see [`lines`](super::lines)).

mod asked;
pub(super) mod input;

use std::sync::Arc;

use berth_engine::{Group, Outcome, Seq, State, Submitted};
use hyper::Response;
use serde::Serialize;
use serde_json::{Value, json};

use self::asked::{Keys, LineRequest, Prints};
use self::input::{Input, Line};
use super::holds::{admitted, made};
use super::lines::{Lines, Stop, turn};
use crate::access::Standing;
use crate::app::App;
use crate::body::{JSON_BYTES_MAX, ResponseBody};
use crate::idempotency::{self, KeySpace};
use crate::problem::{self, Code, Problem};
use crate::router::Call;

/// `POST /v1/bulk/bookings`
pub(crate) async fn stream(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (standing, caller) = call.standing()?;
    let keys = Keys {
        scope: KeySpace::of(&caller),
        caller,
        account: call.account().copied(),
        request: idempotency::given(&call.headers)?.map(str::to_owned),
    };
    let permit = turn(&call.app, &call.app.streams).await?;
    let mut input = Input::new(call.body, &call.app);
    // The first bytes come before the head of the answer: a client that waits for a go-ahead gets it.
    input.more().await?;
    let (lines, response) = Lines::start(&call.app, call.ack);
    let bulk = Bulk { app: call.app, standing, keys, prints: Prints::new(), lines, tally: Tally::default() };
    // A task of its own, which nobody cancels: it ends with its input or when nobody takes its answers. The permit goes with
    // it, so that draining waits for it.
    tokio::spawn(async move {
        let _permit = permit;
        bulk.run(input).await;
    });
    Ok(response)
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    lines: u64,
    done: u64,
    replayed: u64,
    refused: u64,
}

struct Bulk {
    app: Arc<App>,
    /// Whether whoever sends the lines may still.
    standing: Standing,
    keys: Keys,
    prints: Prints,
    lines: Lines,
    tally: Tally,
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

/// A line that was refused.
#[derive(Serialize)]
struct Refused<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    status: u16,
    problem: Value,
}

impl Bulk {
    async fn run(mut self, mut input: Input) {
        let stopped = self.answer_all(&mut input).await.err();
        let Tally { lines, done, replayed, refused } = self.tally;
        self.app.metrics.bulk_lines(done - replayed, replayed, refused);
        let summary = json!({"end": true, "lines": lines, "done": done, "refused": refused});
        match stopped {
            None => self.lines.end(summary, None).await,
            Some(Stop::Gone) => {}
            Some(Stop::Problem(problem)) => {
                self.app.metrics.refused(problem.code());
                self.lines.end(summary, Some(problem)).await;
                input.discard().await;
            }
        }
    }

    async fn answer_all(&mut self, input: &mut Input) -> Result<(), Stop> {
        let mut more = true;
        loop {
            while let Some(line) = input.line() {
                self.tally.lines += 1;
                match line {
                    Line::Whole(line) if line.trim_ascii().is_empty() => {}
                    Line::Whole(line) => {
                        // A stream may be long, and a key that is revoked meanwhile opens nothing more.
                        let (access, now) = (&self.app.access, self.app.campaign.engine.now());
                        self.standing.check(access, now).await.map_err(Stop::Problem)?;
                        self.answer(&line).await?;
                    }
                    Line::TooLong => {
                        let detail = format!("the line is longer than {JSON_BYTES_MAX} bytes");
                        self.refuse(None, Problem::new(Code::BodyTooLarge, detail), Seq(0));
                    }
                }
                if self.lines.is_full() {
                    self.lines.flush().await?;
                    // Others have requests, too.
                    tokio::task::yield_now().await;
                }
            }
            // Whoever sends the next line only after the answer to this one must get it.
            self.lines.flush().await?;
            if !more {
                return Ok(());
            }
            // After the end of the body there may be a last line that has none.
            more = input.more().await.map_err(Stop::Problem)?;
        }
    }

    async fn answer(&mut self, line: &[u8]) -> Result<(), Stop> {
        let request = match LineRequest::parse(line) {
            Ok(request) => request,
            Err(problem) => {
                self.refuse(None, problem, Seq(0));
                return Ok(());
            }
        };
        let key = request.key().filter(|key| idempotency::is_key(key));
        match request.check(&self.app, &self.prints, &self.keys, self.tally.lines) {
            Err(problem) => self.refuse(key, problem, Seq(0)),
            Ok(asked) => {
                let app = Arc::clone(&self.app);
                // rule: HLD-6 a line holds for an account as a request does
                let admitted = match admitted(&app, asked.account(), asked.idempotency()) {
                    Ok(admitted) => admitted,
                    Err(problem) => {
                        self.refuse(key, problem, Seq(0));
                        return Ok(());
                    }
                };
                let submitted = self.lines.submit(&app, asked.command(), asked.idempotency()).await?;
                made(admitted, &submitted);
                match &submitted.result {
                    Ok(outcome) => self.done(key, outcome, &submitted),
                    Err(refusal) => {
                        let problem = problem::refused(refusal, &self.app.names());
                        self.refuse(key, problem, submitted.seq);
                    }
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, key: Option<&str>, problem: Problem, seq: Seq) {
        self.tally.refused += 1;
        let status = problem.code().status().as_u16();
        let refused = Refused { line: self.tally.lines, key, status, problem: problem.into_member() };
        self.lines.push(&refused, seq);
    }

    fn done(&mut self, key: Option<&str>, outcome: &Outcome, submitted: &Submitted) {
        self.tally.done += 1;
        self.tally.replayed += u64::from(submitted.replayed);
        let names = self.app.names();
        let codes = |claims: &Group| claims.iter().map(|claim| names.booking(claim.number)).collect::<Vec<_>>();
        let hold = |claims: &Group| claims.first().map(|claim| names.booking(claim.number));
        let done = Done { line: self.tally.lines, key, replayed: submitted.replayed, status: 200, ..Done::default() };
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
        self.lines.push(&done, submitted.seq);
    }
}
