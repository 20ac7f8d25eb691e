//! The lines of a body as they come: none is kept longer than until it is whole.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::app::{App, Phase};
use crate::body::JSON_BYTES_MAX;
use crate::problem::{Code, Problem};

/// How much is still read and thrown away after an early end, and for how long, so that the client reads why.
const DISCARD_BYTES_MAX: usize = 32 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// A body that comes line by line.
pub(in crate::routes) struct Input {
    body: Incoming,
    phase: watch::Receiver<Phase>,
    /// A line must be whole this long after the one before, not counting the time the server took.
    line_time: Duration,
    waited: Duration,
    /// What came and was not looked at yet.
    data: Bytes,
    /// The beginning of a line.
    rest: BytesMut,
    /// The line is too long: what comes of it is thrown away.
    skipping: bool,
    ended: bool,
}

/// What stands in a line.
pub(in crate::routes) enum Line {
    /// Its bytes, without their end.
    Whole(Bytes),
    /// More than a line may have.
    TooLong,
}

impl Input {
    pub(in crate::routes) fn new(body: Incoming, app: &App) -> Input {
        Input {
            body,
            phase: app.phase.subscribe(),
            line_time: app.limits.body_time,
            waited: Duration::ZERO,
            data: Bytes::new(),
            rest: BytesMut::new(),
            skipping: false,
            ended: false,
        }
    }

    /// Waits for more; false at the end of the body. To be called when [`Input::line`] has none.
    pub(in crate::routes) async fn more(&mut self) -> Result<bool, Problem> {
        let Input { body, phase, line_time, waited, data, ended, .. } = self;
        let started = Instant::now();
        let frame = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => {
                let detail = "this server is stopping: send the lines without an answer to another, or again soon";
                return Err(Problem::new(Code::Draining, detail));
            }
            frame = tokio::time::timeout(line_time.saturating_sub(*waited), body.frame()) => frame,
        };
        *waited += started.elapsed();
        match frame {
            Err(_) => {
                let detail = format!("the next line did not arrive within {} seconds", line_time.as_secs());
                Err(Problem::new(Code::BodyTimeout, detail))
            }
            Ok(Some(Err(_))) => Err(Problem::new(Code::MalformedRequest, "the body broke off before its end")),
            Ok(Some(Ok(frame))) => {
                *data = frame.into_data().unwrap_or_default();
                Ok(true)
            }
            Ok(None) => {
                *ended = true;
                Ok(false)
            }
        }
    }

    /// The next whole line of what has come; after the end of the body also one that has no end of its own.
    pub(in crate::routes) fn line(&mut self) -> Option<Line> {
        let Some(at) = self.data.iter().position(|byte| *byte == b'\n') else {
            self.keep();
            let last = self.ended && (self.skipping || !self.rest.is_empty());
            return last.then(|| self.finish());
        };
        let mut line = self.data.split_to(at + 1);
        line.truncate(at);
        self.waited = Duration::ZERO;
        if self.rest.is_empty() && !self.skipping {
            return Some(if line.len() > JSON_BYTES_MAX { Line::TooLong } else { Line::Whole(line) });
        }
        let after = std::mem::replace(&mut self.data, line);
        self.keep();
        self.data = after;
        Some(self.finish())
    }

    /// What came is a part of a line.
    fn keep(&mut self) {
        let part = std::mem::take(&mut self.data);
        if self.skipping || self.rest.len() + part.len() > JSON_BYTES_MAX {
            self.skipping = true;
            self.rest = BytesMut::new();
        } else {
            self.rest.extend_from_slice(&part);
        }
    }

    fn finish(&mut self) -> Line {
        let rest = self.rest.split().freeze();
        if std::mem::take(&mut self.skipping) { Line::TooLong } else { Line::Whole(rest) }
    }

    /// Reads on for a while without looking: who writes all before it reads would otherwise see a reset connection and
    /// not the last line of the answer.
    pub(in crate::routes) async fn discard(mut self) {
        let reading = async {
            let mut bytes = 0;
            while let Some(Ok(frame)) = self.body.frame().await {
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if bytes > DISCARD_BYTES_MAX {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
    }
}
