//! An answer of many lines, each shown once what it rests on is as safe as was asked.
//!
//! Who makes the lines submits and writes ahead. Behind it one task waits for the journal, a piece at a time: a piece
//! costs one wait and not one a line, and nobody waits for a disk between two lines. What is ahead of the client is
//! bounded; then the maker waits, and so does whoever sends it lines. The last line says `end`: an answer without it
//! was cut.

use std::sync::Arc;

use berth_engine::{Command, Failure, Idempotency, Refusal, Request, Seq, Submitted};
use bytes::Bytes;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::safe;
use crate::ack::AckMode;
use crate::app::App;
use crate::body::{CutShort, ResponseBody};
use crate::problem::{self, Code, Problem};
use crate::router::Media;

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces that may wait for the journal.
const PIECES_AHEAD: usize = 64;
/// Pieces that may wait for the client, on top of that: 8 MiB in all, so that one that reads only after it has sent
/// everything gets far.
const PIECES_SHOWN: usize = 192;

/// How often a step is tried while the journal's buffer is full, each time after the disk has taken what was in it.
const JOURNAL_FULL_TRIES: usize = 5;

/// Nobody takes the answer any more, or nothing more of it may be shown.
#[derive(Debug)]
pub(in crate::routes) struct Gone;

/// Why no more lines are made.
pub(in crate::routes) enum Stop {
    Gone,
    Problem(Problem),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Stop {
        Stop::Gone
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Problem(problem::failed(&failure))
    }
}

/// Where the lines of an answer go.
pub(in crate::routes) struct Lines {
    buffer: Vec<u8>,
    /// The newest entry that the lines in the buffer rest on.
    seq: Seq,
    ahead: mpsc::Sender<(Vec<u8>, Seq)>,
}

/// A turn among the requests of many steps of one kind.
pub(in crate::routes) async fn turn(app: &App, turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    let busy = || Problem::new(Code::Overloaded, "too many bulk requests are waiting for their turn");
    let wait = Arc::clone(turns).acquire_owned();
    tokio::time::timeout(app.limits.body_time, wait).await.map_err(|_| busy())?.map_err(|_| busy())
}

impl Lines {
    /// The lines and the answer they come out of.
    pub(in crate::routes) fn start(app: &Arc<App>, mode: AckMode) -> (Lines, Response<ResponseBody>) {
        let (ahead, written) = mpsc::channel(PIECES_AHEAD);
        let (shown, receiver) = mpsc::channel(PIECES_SHOWN);
        tokio::spawn(show(Arc::clone(app), mode, written, shown));
        let mut response = Response::new(ResponseBody::pieces(receiver));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Media::Ndjson.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        (Lines { buffer: Vec::with_capacity(PIECE_BYTES), seq: Seq(0), ahead }, response)
    }

    /// Adds a line that rests on entries up to `seq`.
    pub(in crate::routes) fn push(&mut self, line: &impl Serialize, seq: Seq) {
        serde_json::to_writer(&mut self.buffer, line).expect("a line has only string keys, and memory takes it");
        self.buffer.push(b'\n');
        self.seq = self.seq.max(seq);
    }

    /// Whether it is time for [`Lines::flush`].
    pub(in crate::routes) fn is_full(&self) -> bool {
        self.buffer.len() >= PIECE_BYTES
    }

    /// Hands on what was added; waits while the client is too far behind.
    pub(in crate::routes) async fn flush(&mut self) -> Result<(), Gone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        let seq = std::mem::take(&mut self.seq);
        self.ahead.send((piece, seq)).await.map_err(|_| Gone)
    }

    /// Submits one step. A journal's buffer that these very steps have filled is waited for, not refused.
    pub(in crate::routes) async fn submit(
        &mut self,
        app: &App,
        command: Command<'_>,
        idempotency: Idempotency,
    ) -> Result<Submitted, Stop> {
        let engine = &app.campaign.engine;
        let request = Request { command, idempotency: Some(idempotency) };
        self.submit_by(app, || Ok(engine.submit(&request, engine.now())?)).await
    }

    /// As [`Lines::submit`], where more than the engine has a say.
    pub(in crate::routes) async fn submit_by(
        &mut self,
        app: &App,
        mut submit: impl FnMut() -> Result<Submitted, Stop>,
    ) -> Result<Submitted, Stop> {
        let engine = &app.campaign.engine;
        for _ in 1..JOURNAL_FULL_TRIES {
            let submitted = submit()?;
            if submitted.result != Err(Refusal::JournalFull) {
                return Ok(submitted);
            }
            self.flush().await?;
            safe(app, AckMode::Disk, engine.appended()).await.map_err(Stop::Problem)?;
        }
        submit()
    }

    /// The last line: what `summary` says, and what ended the answer before its time.
    pub(in crate::routes) async fn end(mut self, mut summary: Value, problem: Option<Problem>) {
        if let Some(problem) = problem {
            summary["problem"] = problem.into_member();
        }
        self.push(&summary, Seq(0));
        // Gone is gone.
        let _ = self.flush().await;
    }
}

/// Shows pieces as they become safe.
// rule: IDM-2 no answer shows what is not yet as safe as was asked
async fn show(
    app: Arc<App>,
    mode: AckMode,
    mut written: mpsc::Receiver<(Vec<u8>, Seq)>,
    shown: mpsc::Sender<Result<Bytes, CutShort>>,
) {
    while let Some((piece, seq)) = written.recv().await {
        if let Err(problem) = safe(&app, mode, seq).await {
            app.metrics.refused(problem.code());
            let end = json!({"end": true, "problem": problem.into_member()});
            let _ = shown.send(Ok(format!("{end}\n").into())).await;
            return;
        }
        if shown.send(Ok(piece.into())).await.is_err() {
            return;
        }
    }
}
