//! One connection: which HTTP it speaks, and its limits of time.
//!
//! hyper's own detection of the protocol has no limit of time, so a client that sends half an HTTP/2 preface
//! and stops would keep its connection for ever. Here the first bytes are looked at, without taking them, until
//! they can only be one of the two.

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::net::TcpStream;

use crate::app::{App, Phase};
use crate::router;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How soon to look again while a preface is incomplete; its bytes are in the buffer, so waiting for
/// readiness would not wait.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Streams one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 256;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// An HTTP/2 peer that does not answer a ping this long is gone.
const PING_EVERY: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves a connection until it ends or the server drains.
pub(crate) async fn serve(app: Arc<App>, stream: TcpStream, watcher: Watcher) {
    // Answers are small and waited for: better a packet too many than 40 ms too late.
    let _ = stream.set_nodelay(true);
    let Some(protocol) = detect(&app, &stream).await else { return };
    let service = {
        let app = Arc::clone(&app);
        service_fn(move |request| router::answer(Arc::clone(&app), request))
    };
    let io = TokioIo::new(stream);
    let ended = match protocol {
        Protocol::Http1 => {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(app.limits.head_time)
                .max_buf_size(HEAD_BYTES_MAX)
                // A client may close its half after the request; one that broke off inside a body is told so.
                .half_close(true)
                .pipeline_flush(true);
            watcher.watch(builder.serve_connection(io, service)).await
        }
        Protocol::Http2 => {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(app.limits.head_time);
            watcher.watch(builder.serve_connection(io, service)).await
        }
    };
    if let Err(error) = ended {
        // Clients come and go; only who debugs one wants to read of it.
        tracing::debug!(%error, "connection ended");
    }
}

/// `None` if the client took too long, left, or the server drains.
async fn detect(app: &App, stream: &TcpStream) -> Option<Protocol> {
    let mut phase = app.phase.subscribe();
    let looking = async {
        let mut seen = [0; PREFACE.len()];
        loop {
            let len = stream.peek(&mut seen).await.ok()?;
            let seen = seen.get(..len)?;
            if seen == PREFACE {
                return Some(Protocol::Http2);
            }
            if seen.is_empty() {
                return None;
            }
            if !PREFACE.starts_with(seen) {
                return Some(Protocol::Http1);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::select! {
        protocol = tokio::time::timeout(app.limits.head_time, looking) => protocol.ok().flatten(),
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => None,
    }
}
