//! A line in, a result out, in order and as they come: what all bulk streams of lines do in the same way.
//!
//! Nothing ties the lines together: a bad one is a result with a problem in it and does not stop the others. Lines are submitted as
//! they arrive and shown as the journal gets there (see [`lines`](super::lines)).

use std::future::Future;
use std::sync::Arc;

use berth_engine::{Seq, TimestampMs};
use bytes::Bytes;
use hyper::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::line_input::{Input, Line};
use super::lines::{Lines, Stop, turn};
use crate::access::{Caller, Standing};
use crate::app::App;
use crate::body::{JSON_BYTES_MAX, ResponseBody};
use crate::idempotency::{self, KeySpace};
use crate::problem::{Code, Problem};
use crate::router::Call;

/// What all streams of lines have.
pub(super) struct Stream {
    pub(super) app: Arc<App>,
    pub(super) caller: Arc<Caller>,
    /// Whose keys the lines' are.
    pub(super) scope: KeySpace,
    /// The request's own key, for lines that have none.
    pub(super) request: Option<String>,
    pub(super) lines: Lines,
    /// Lines that were looked at, empty ones too: the number of the newest.
    pub(super) line: u64,
    /// Whether whoever sends the lines may still.
    standing: Standing,
    done: u64,
    repeated: u64,
    refused: u64,
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

impl Stream {
    /// Tells that a line was done, which rests on entries up to `seq`.
    pub(super) fn done(&mut self, line: &impl Serialize, repeated: bool, seq: Seq) {
        self.done += 1;
        self.repeated += u64::from(repeated);
        self.lines.push(line, seq);
    }

    /// Tells that a line was not done.
    pub(super) fn refuse(&mut self, line: u64, key: Option<&str>, problem: Problem, seq: Seq) {
        self.refused += 1;
        let status = problem.code().status().as_u16();
        self.lines.push(&Refused { line, key, status, problem: problem.into_member() }, seq);
    }

    /// The key of a line and the number that tells it from others under that key: its own, or the request's and its place.
    pub(super) fn key_of<'k>(&'k self, own: Option<&'k str>) -> Result<(&'k str, u64), Problem> {
        match (own, &self.request) {
            (Some(key), _) if idempotency::is_key(key) => Ok((key, 0)),
            (Some(_), _) => Err(idempotency::malformed()),
            (None, Some(request)) => Ok((request, self.line)),
            (None, None) => {
                let detail = "the line has no key, and the request no Idempotency-Key to derive one from";
                Err(Problem::new(Code::IdempotencyKeyMissing, detail))
            }
        }
    }
}

/// What is done with each line.
pub(super) trait Answering: Send + Sized + 'static {
    fn stream(&mut self) -> &mut Stream;

    fn into_stream(self) -> Stream;

    /// Answers the newest line. `now` is when its sender was last known to be allowed.
    fn answer(&mut self, line: &Bytes, now: TimestampMs) -> impl Future<Output = Result<(), Stop>> + Send;

    /// Tells that the newest line was not read.
    fn unread(&mut self, problem: Problem) {
        let stream = self.stream();
        stream.refuse(stream.line, None, problem, Seq(0));
    }

    /// Tells what is still under way.
    fn settle(&mut self) -> impl Future<Output = Result<(), Stop>> + Send {
        async { Ok(()) }
    }
}

/// Answers a request line by line.
pub(super) async fn answer<A: Answering>(
    call: Call,
    make: impl FnOnce(Stream) -> A,
) -> Result<Response<ResponseBody>, Problem> {
    let (standing, caller) = call.standing()?;
    let request = idempotency::given(&call.headers)?.map(str::to_owned);
    let permit = turn(&call.app, &call.app.streams).await?;
    let mut input = Input::new(call.body, &call.app);
    // The first bytes come before the head of the answer: a client that waits for a go-ahead gets it.
    input.more().await?;
    let (lines, response) = Lines::start(&call.app, call.ack);
    let scope = KeySpace::of(&caller);
    let (app, line, done, repeated, refused) = (call.app, 0, 0, 0, 0);
    let answering = make(Stream { app, caller, scope, request, lines, line, standing, done, repeated, refused });
    // A task of its own, which nobody cancels: it ends with its input or when nobody takes its answers. The permit goes with
    // it, so that draining waits for it.
    tokio::spawn(async move {
        let _permit = permit;
        run(answering, input).await;
    });
    Ok(response)
}

async fn run(mut answering: impl Answering, mut input: Input) {
    let mut stopped = answer_all(&mut answering, &mut input).await.err();
    // What is under way is done, whoever still listens.
    if let Err(stop) = answering.settle().await {
        stopped.get_or_insert(stop);
    }
    let Stream { app, lines, line, done, repeated, refused, .. } = answering.into_stream();
    app.metrics.bulk_lines(done - repeated, repeated, refused);
    let summary = json!({"end": true, "lines": line, "done": done, "repeated": repeated, "refused": refused});
    match stopped {
        None => lines.end(summary, None).await,
        Some(Stop::Gone) => {}
        Some(Stop::Problem(problem)) => {
            app.metrics.refused(problem.code());
            lines.end(summary, Some(problem)).await;
            input.discard().await;
        }
    }
}

async fn answer_all(answering: &mut impl Answering, input: &mut Input) -> Result<(), Stop> {
    let mut more = true;
    loop {
        while let Some(line) = input.line() {
            let stream = answering.stream();
            stream.line += 1;
            let now = stream.app.campaign.engine.now();
            match line {
                Line::Whole(line) if line.trim_ascii().is_empty() => {}
                Line::Whole(line) => {
                    // A stream may be long, and a key that is revoked meanwhile opens nothing more.
                    stream.standing.check(&stream.app.access, now).await.map_err(Stop::Problem)?;
                    answering.answer(&line, now).await?;
                }
                Line::TooLong => {
                    let detail = format!("the line is longer than {JSON_BYTES_MAX} bytes");
                    answering.unread(Problem::new(Code::BodyTooLarge, detail));
                }
            }
            let lines = &mut answering.stream().lines;
            if lines.is_full() {
                lines.flush().await?;
                // Others have requests, too.
                tokio::task::yield_now().await;
            }
        }
        // Whoever sends the next line only after the answer to this one must get it.
        answering.settle().await?;
        answering.stream().lines.flush().await?;
        if !more {
            return Ok(());
        }
        // After the end of the body there may be a last line that has none.
        more = input.more().await.map_err(Stop::Problem)?;
    }
}
