//! Bodies: reading a request's within limits of size and time, and the two kinds of answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, EXPECT};
use tokio::sync::mpsc;

use crate::app::Inflight;
use crate::problem::{Code, Problem};
use crate::traffic::{self, Running, Unsent};

/// The largest bulk body.
pub(crate) const BULK_BYTES_MAX: usize = 8 << 20;
/// The largest other body: a request of 16 claims has about 1 KiB.
pub(crate) const JSON_BYTES_MAX: usize = 64 << 10;
/// How much of a body that is too large is still read and thrown away, so that a client that writes all before
/// it reads sees the 413 instead of a reset connection.
const DISCARD_BYTES_MAX: usize = 32 << 20;

/// Reads a body of at most `bytes_max`, all of it within `time`.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: &mut Incoming,
    bytes_max: usize,
    time: Duration,
) -> Result<Bytes, Problem> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|len| len > bytes_max as u64) && headers.contains_key(EXPECT) {
        // The client waits for a go-ahead and has sent nothing yet.
        return Err(too_large(bytes_max));
    }
    let limited = async {
        let mut read = BytesMut::new();
        let mut bytes_read = 0usize;
        while let Some(frame) = body.frame().await {
            // A connection that breaks here has no reader for this answer; one that was only half closed has.
            let frame = frame.map_err(|_| Problem::new(Code::MalformedRequest, "the body broke off before its end"))?;
            let Ok(data) = frame.into_data() else { continue };
            bytes_read = bytes_read.saturating_add(data.len());
            if bytes_read > bytes_max {
                read = BytesMut::new();
                if bytes_read > DISCARD_BYTES_MAX {
                    break;
                }
            } else {
                read.extend_from_slice(&data);
            }
        }
        if bytes_read > bytes_max { Err(too_large(bytes_max)) } else { Ok(read.freeze()) }
    };
    tokio::time::timeout(time, limited).await.unwrap_or_else(|_| {
        Err(Problem::new(Code::BodyTimeout, format!("the body did not arrive within {} seconds", time.as_secs())))
    })
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("the body is larger than {bytes_max} bytes"))
}

/// The body of an answer.
pub(crate) enum ResponseBody {
    /// All of it at once; `None` when it was handed over.
    Whole(Option<Bytes>),
    /// In pieces, as they are made.
    Pieces(Pieces),
}

/// An answer in pieces.
pub(crate) struct Pieces {
    made: mpsc::Receiver<Result<Bytes, CutShort>>,
    /// Who asked.
    running: Option<(Option<Inflight>, Running)>,
    /// The next piece, while the connection has no room to ask for it.
    unasked: Option<Unsent>,
}

/// The maker of a body gave up: the connection ends without the body's end, so nobody takes it for whole.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer was cut short")]
pub(crate) struct CutShort;

impl ResponseBody {
    pub(crate) fn whole(bytes: Bytes) -> ResponseBody {
        ResponseBody::Whole(Some(bytes))
    }

    pub(crate) fn none() -> ResponseBody {
        ResponseBody::Whole(None)
    }

    pub(crate) fn pieces(made: mpsc::Receiver<Result<Bytes, CutShort>>) -> ResponseBody {
        ResponseBody::Pieces(Pieces { made, running: None, unasked: None })
    }

    /// The same body; the request counts as running until its last byte is written or nobody wants it any more.
    pub(crate) fn of(self, inflight: Option<Inflight>, running: Running, now: Instant) -> ResponseBody {
        match self {
            ResponseBody::Whole(bytes) => {
                ResponseBody::Whole(bytes.map(|bytes| traffic::carrying(bytes, (inflight, running.answered(now)))))
            }
            ResponseBody::Pieces(Pieces { made, .. }) => {
                let unasked = Some(running.traffic().piece());
                ResponseBody::Pieces(Pieces { made, running: Some((inflight, running)), unasked })
            }
        }
    }
}

impl Pieces {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CutShort>>> {
        let Pieces { made, running, unasked } = self;
        // If none is there yet, that is not the client's doing.
        *unasked = None;
        made.poll_recv(cx).map_ok(|piece| {
            let Some((_, running)) = running else { return piece };
            *unasked = Some(running.traffic().piece());
            traffic::carrying(piece, running.traffic().piece())
        })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match self.get_mut() {
            ResponseBody::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            ResponseBody::Pieces(pieces) => pieces.poll(cx).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ResponseBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            ResponseBody::Pieces(_) => SizeHint::default(),
        }
    }
}
