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
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::super::line_by_line::{self, Answering, Stream};
use super::super::lines::Stop;
use super::assisted::assisted;
use super::shapes::{PersonAnswer, Shown};
use super::{account_of, intent_of, of_error, registration, today, with_region};
use crate::app::App;
use crate::body::{CutShort, ResponseBody};
use crate::gate;
use crate::idempotency::{self, Fingerprint};
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
    let print = Fingerprint::new(call.endpoint.method.as_str(), call.endpoint.template);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    line_by_line::answer(call, |stream| Import { stream, print, turns, running: VecDeque::new() }).await
}

struct Import {
    stream: Stream,
    print: Fingerprint,
    turns: Arc<Semaphore>,
    running: VecDeque<Running>,
}

/// A line under way.
struct Running {
    line: u64,
    key: Option<String>,
    done: Result<JoinHandle<Result<Done<PartyId>, PeopleError>>, Problem>,
}

impl Answering for Import {
    fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    fn into_stream(self) -> Stream {
        self.stream
    }

    async fn answer(&mut self, line: &Bytes, now: TimestampMs) -> Result<(), Stop> {
        self.begin(line, now).await;
        self.drain(AT_ONCE).await;
        Ok(())
    }

    /// In its place behind those under way.
    fn unread(&mut self, problem: Problem) {
        self.running.push_back(Running { line: self.stream.line, key: None, done: Err(problem) });
    }

    async fn settle(&mut self) -> Result<(), Stop> {
        self.drain(0).await;
        Ok(())
    }
}

impl Import {
    /// Begins a line; waits while too many are under way.
    async fn begin(&mut self, line: &Bytes, now: TimestampMs) {
        let number = self.stream.line;
        let (key, done) = match self.asked(line) {
            Err(problem) => (None, Err(problem)),
            Ok((key, intent, said, phone)) => {
                let turn = Arc::clone(&self.turns).acquire_owned().await;
                let (app, today) = (Arc::clone(&self.stream.app), today(&self.stream.app));
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
        let people = &registration(&self.stream.app)?.people;
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
        let keys = &self.stream.scope;
        let intent = match self.stream.key_of(key.as_deref())? {
            (own, 0) => intent_of(keys, own, &print),
            (request, line) => intent_of(keys, &format!("{request}\u{0}line {line}"), &print),
        };
        Ok((key, intent, said, phone))
    }

    /// Tells of the oldest lines under way, until so many are left.
    async fn drain(&mut self, left: usize) {
        while self.running.len() > left {
            let Some(Running { line, key, done }) = self.running.pop_front() else { break };
            let Stream { app, caller, .. } = &self.stream;
            let done = match done {
                Ok(work) => {
                    let done = work.await.expect("what is done of people does not panic, and nobody cancels it");
                    done.map_err(|error| of_error(&app.names(), caller, error))
                }
                Err(problem) => Err(problem),
            };
            match done {
                Ok(Done { what, replayed, seq }) => {
                    let registered = Registered { line, key, status: 201, party: app.names().party(what), replayed };
                    self.stream.done(&registered, replayed, seq);
                }
                Err(problem) => {
                    let seq = app.campaign.engine.appended();
                    self.stream.refuse(line, key.as_deref(), problem, seq);
                }
            }
        }
    }
}

/// A line whose person is registered.
#[derive(Serialize)]
struct Registered {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    status: u16,
    party: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
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
