//! Many people at once: a register that is taken over, and everything there is, for a platform that goes on elsewhere.
//!
//! A line in, a result out, as with bulk bookings: a bad line does not stop the others, and a repeat does nothing twice. Several lines
//! are done at once, each on a thread that may block; results come in the order of the lines.

use std::collections::VecDeque;
use std::sync::Arc;

use berth_engine::{PartyId, TimestampMs};
use berth_programme::people::{Done, Intent, PeopleError, View};
use bytes::Bytes;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::super::bulk_bookings::input::{Input, Line};
use super::super::lines::{Gone, Lines, Stop, turn};
use super::assisted::assisted;
use super::shapes::{PersonAnswer, Shown};
use super::{account_of, intent_of, of_error, registration, today, with_region};
use crate::access::{Caller, Standing};
use crate::app::App;
use crate::body::{CutShort, JSON_BYTES_MAX, ResponseBody};
use crate::gate;
use crate::idempotency::{self, Fingerprint, KeySpace};
use crate::problem::{Code, Problem};
use crate::router::{Call, Media};

/// Lines done at once: each waits for the disk now and then, and none for another.
const AT_ONCE: usize = 64;
/// Pieces of an export made ahead of the client.
const PIECES_AHEAD: usize = 4;
const PIECE_BYTES: usize = 32 << 10;

/// `POST /v1/bulk/people`
pub(crate) async fn import(call: Call) -> Result<Response<ResponseBody>, Problem> {
    registration(&call.app)?;
    gate::reason_needed(&call.headers)?;
    let request = idempotency::given(&call.headers)?.map(str::to_owned);
    let (standing, caller) = call.standing()?;
    let print = Fingerprint::new(call.endpoint.method.as_str(), call.endpoint.template);
    let permit = turn(&call.app, &call.app.streams).await?;
    let mut input = Input::new(call.body, &call.app);
    // The first bytes come before the head of the answer: a client that waits for a go-ahead gets it.
    input.more().await?;
    let (lines, response) = Lines::start(&call.app, call.ack);
    let import = Import {
        keys: KeySpace::of(&caller),
        app: call.app,
        standing,
        caller,
        request,
        print,
        lines,
        turns: Arc::new(Semaphore::new(AT_ONCE)),
        running: VecDeque::new(),
        tally: Tally::default(),
    };
    tokio::spawn(async move {
        let _permit = permit;
        import.run(input).await;
    });
    Ok(response)
}

#[derive(Default)]
struct Tally {
    lines: u64,
    done: u64,
    replayed: u64,
    refused: u64,
}

struct Import {
    app: Arc<App>,
    standing: Standing,
    caller: Arc<Caller>,
    keys: KeySpace,
    request: Option<String>,
    print: Fingerprint,
    lines: Lines,
    turns: Arc<Semaphore>,
    running: VecDeque<Running>,
    tally: Tally,
}

/// A line under way.
struct Running {
    line: u64,
    key: Option<String>,
    done: Result<JoinHandle<Result<Done<PartyId>, PeopleError>>, Problem>,
}

impl Import {
    async fn run(mut self, mut input: Input) {
        let mut stopped = self.answer_all(&mut input).await.err();
        // What is under way is done, whoever still listens.
        if let Err(gone) = self.drain(0).await {
            stopped.get_or_insert(gone.into());
        }
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
                        let (access, now) = (&self.app.access, self.app.campaign.engine.now());
                        self.standing.check(access, now).await.map_err(Stop::Problem)?;
                        self.begin(&line, now).await;
                    }
                    Line::TooLong => {
                        let detail = format!("the line is longer than {JSON_BYTES_MAX} bytes");
                        let done = Err(Problem::new(Code::BodyTooLarge, detail));
                        self.running.push_back(Running { line: self.tally.lines, key: None, done });
                    }
                }
                self.drain(AT_ONCE).await?;
                if self.lines.is_full() {
                    self.lines.flush().await?;
                }
            }
            self.drain(0).await?;
            self.lines.flush().await?;
            if !more {
                return Ok(());
            }
            more = input.more().await.map_err(Stop::Problem)?;
        }
    }

    /// Begins a line; waits while too many are under way.
    async fn begin(&mut self, line: &Bytes, now: TimestampMs) {
        let number = self.tally.lines;
        let (key, done) = match self.asked(line) {
            Err(problem) => (None, Err(problem)),
            Ok((key, intent, said, phone)) => {
                let turn = Arc::clone(&self.turns).acquire_owned().await;
                let (app, today) = (Arc::clone(&self.app), today(&self.app));
                let work = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    let Some(registration) = &app.registration else { return Err(PeopleError::NoAccount) };
                    let people = &registration.people;
                    let said = with_region(&app, said.into())?;
                    let person = people.rules().person(said, today).map_err(PeopleError::Faults)?;
                    let account = phone.map(|text| account_of(people, &text, now)).transpose()?;
                    people.register(account, person, &intent, now)
                });
                (key, Ok(work))
            }
        };
        self.running.push_back(Running { line: number, key, done });
    }

    /// What a line asks, under its own key or its place in the request's.
    fn asked(
        &self,
        line: &[u8],
    ) -> Result<(Option<String>, Intent, super::shapes::PersonSaid, Option<String>), Problem> {
        let people = &registration(&self.app)?.people;
        let malformed = |error: &dyn std::fmt::Display| Problem::new(Code::MalformedJson, format!("the line: {error}"));
        let mut value: Value = serde_json::from_slice(line).map_err(|error| malformed(&error))?;
        let key = match value.as_object_mut().and_then(|object| object.remove("key")) {
            None => None,
            Some(Value::String(key)) if idempotency::is_key(&key) => Some(key),
            Some(_) => return Err(idempotency::malformed()),
        };
        let text = value.to_string();
        let (said, phone) = assisted(text.as_bytes())?;
        let print = self.print.clone().piece(&people.request_print(text.as_bytes()));
        let intent = match (&key, &self.request) {
            (Some(key), _) => intent_of(&self.keys, key, &print),
            (None, Some(request)) => intent_of(&self.keys, &format!("{request}\u{0}line {}", self.tally.lines), &print),
            (None, None) => {
                let detail = "a line has a key of its own, or the request an Idempotency-Key";
                return Err(Problem::new(Code::IdempotencyKeyMissing, detail));
            }
        };
        Ok((key, intent, said, phone))
    }

    /// Tells of the oldest lines under way, until so many are left.
    async fn drain(&mut self, left: usize) -> Result<(), Gone> {
        while self.running.len() > left {
            let Some(Running { line, key, done }) = self.running.pop_front() else { break };
            let done = match done {
                Ok(work) => {
                    let done = work.await.expect("what is done of people does not panic, and nobody cancels it");
                    done.map_err(|error| of_error(&self.app.names(), &self.caller, error))
                }
                Err(problem) => Err(problem),
            };
            let (mut result, seq) = match done {
                Ok(done) => {
                    self.tally.done += 1;
                    self.tally.replayed += u64::from(done.replayed);
                    let party = self.app.names().party(done.what);
                    let mut result = json!({"line": line, "status": 201, "party": party});
                    if done.replayed {
                        result["replayed"] = true.into();
                    }
                    (result, done.seq)
                }
                Err(problem) => {
                    self.tally.refused += 1;
                    let status = problem.code().status().as_u16();
                    let result = json!({"line": line, "status": status, "problem": problem.into_member()});
                    (result, self.app.campaign.engine.appended())
                }
            };
            if let Some(key) = key {
                result["key"] = key.into();
            }
            self.lines.push(&result, seq);
        }
        Ok(())
    }
}

/// `GET /v1/bulk/people`: everybody, a line each, and a last one that says how many.
pub(crate) fn export(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    registration(&call.app)?;
    gate::reason_needed(&call.headers)?;
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    let app = Arc::clone(&call.app);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write_all(&app, &pieces) {
            if let Some(error) = error {
                tracing::error!(%error, "an export of people was cut short");
            }
            // Without the last line nobody takes it for whole.
            let _ = pieces.blocking_send(Err(CutShort));
        }
    });
    let mut response = Response::new(ResponseBody::pieces(receiver));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Media::Ndjson.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `Err(None)`: nobody takes it any more.
fn write_all(app: &App, pieces: &mpsc::Sender<Result<Bytes, CutShort>>) -> Result<(), Option<PeopleError>> {
    let Some(registration) = &app.registration else { return Err(None) };
    let (people, names) = (&registration.people, app.names());
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut count = 0u64;
    for view in people.views_from(PartyId(0)) {
        let mut view: View = view.map_err(Some)?;
        view.account_phone = match view.account {
            Some(account) => people.account_phone(account).map_err(Some)?,
            None => None,
        };
        let answer = PersonAnswer::of(&names, view, Shown::All);
        serde_json::to_writer(&mut piece, &answer).expect("a line has only string keys, and memory takes it");
        piece.push(b'\n');
        count += 1;
        if piece.len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES));
            pieces.blocking_send(Ok(full.into())).map_err(|_| None)?;
        }
    }
    piece.extend_from_slice(format!("{}\n", json!({"end": true, "people": count})).as_bytes());
    pieces.blocking_send(Ok(piece.into())).map_err(|_| None)
}
