//! One connection: TLS or not, which HTTP it speaks, and its limits of time.
//!
//! hyper's own detection of the protocol has no limit of time, so a client that sends half an HTTP/2 preface
//! and stops would keep its connection for ever. Here the first bytes are looked at, without taking them, until
//! they can only be one of the two.
//!
//! Nor has hyper a limit for a client that does not take its answers, or for an HTTP/2 connection on which nothing
//! is asked: [`Traffic`] knows, and here it is looked at now and then.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::app::{App, Phase};
use crate::router;
use crate::tls::Tls;
use crate::traffic::{Door, Traffic, Verdict};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How soon to look again while a preface is incomplete; its bytes are in the buffer, so waiting for
/// readiness would not wait. Twice as long each time: the rest of an honest one is there at once.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(500);
/// Streams one HTTP/2 connection may have open: with their answers, what a client that takes none can hold.
const STREAMS_MAX: u32 = 32;
/// Bytes of one stream that may wait for the socket.
const STREAM_BYTES_MAX: usize = 64 << 10;
/// How often a limit of time is looked at while it runs: it is met at most this part too late.
const LOOKS_PER_LIMIT: u32 = 4;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// An HTTP/2 peer that does not answer a ping this long is gone.
const PING_EVERY: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves a connection until it ends, is given up or the server drains. `watcher` is how the server knows that.
pub(crate) async fn serve(app: Arc<App>, stream: TcpStream, door: Door, watcher: Watcher) {
    // Answers are small and waited for: better a packet too many than 40 ms too late.
    let _ = stream.set_nodelay(true);
    // Whoever is gone already is nobody's address.
    let peer = stream.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    let traffic = Traffic::new(door);
    match app.tls.as_ref().filter(|_| door == Door::Main) {
        None => {
            let Some(protocol) = detect(&app, &stream).await else { return };
            speak(app, TokioIo::new(stream), protocol, traffic, peer).await;
        }
        Some(tls) => {
            let Some(stream) = shake_hands(&app, tls, stream).await else { return };
            let protocol = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Protocol::Http2,
                _ => Protocol::Http1,
            };
            speak(app, TokioIo::new(stream), protocol, traffic, peer).await;
        }
    }
    drop(watcher);
}

/// `None` if the client took too long, spoke no TLS, left, or the server drains.
async fn shake_hands(app: &App, tls: &Tls, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    let mut phase = app.phase.subscribe();
    tokio::select! {
        shaken = tokio::time::timeout(app.limits.head_time, tls.acceptor().accept(stream)) => {
            let shaken = shaken.ok().and_then(Result::ok);
            if shaken.is_none() {
                app.metrics.handshake_failed();
            }
            shaken
        }
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => None,
    }
}

async fn speak<S>(app: Arc<App>, io: TokioIo<S>, protocol: Protocol, traffic: Arc<Traffic>, peer: IpAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = {
        let (app, traffic) = (Arc::clone(&app), Arc::clone(&traffic));
        service_fn(move |request| router::answer(Arc::clone(&app), Arc::clone(&traffic), peer, request))
    };
    match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(app.limits.head_time)
                .max_buf_size(HEAD_BYTES_MAX)
                // No `pipeline_flush`: it makes pipelined searches twice as fast, but holds an answer back while a piece of
                // the next request is there, swallows the answer to a bad head, and copies answers, so that one
                // nobody reads would pass for taken.
                // A client may close its half after the request; one that broke off inside a body is told so.
                .half_close(true);
            let leave = http1::Connection::graceful_shutdown;
            drive(&app, &traffic, builder.serve_connection(io, service), leave).await;
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .max_send_buf_size(STREAM_BYTES_MAX)
                .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(app.limits.head_time);
            let leave = http2::Connection::graceful_shutdown;
            drive(&app, &traffic, builder.serve_connection(io, service), leave).await;
        }
    }
}

/// Runs a connection. `leave` tells it to take no more requests and to end after those it has.
async fn drive<C>(app: &App, traffic: &Traffic, connection: C, leave: impl Fn(Pin<&mut C>))
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut phase = app.phase.subscribe();
    let (idle_time, send_time) = (app.limits.head_time, app.limits.send_time);
    let look_every = idle_time.min(send_time) / LOOKS_PER_LIMIT;
    let mut leaving = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    // Clients come and go; only who debugs one wants to read of it.
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            _ = phase.wait_for(|phase| *phase == Phase::Draining), if !leaving => {
                leaving = true;
                leave(connection.as_mut());
            }
            // What it asked before is answered; a new connection waits for its turn at the listener.
            () = traffic.asked_to_leave(), if !leaving => {
                leaving = true;
                leave(connection.as_mut());
            }
            () = tokio::time::sleep(look_every) => match traffic.verdict(Instant::now(), idle_time, send_time) {
                Verdict::Keep => {}
                Verdict::Idle if !leaving => {
                    leaving = true;
                    leave(connection.as_mut());
                }
                given_up @ (Verdict::Idle | Verdict::Stuck) => {
                    tracing::debug!(?given_up, "connection cut");
                    return;
                }
            },
        }
    }
}

/// `None` if the client took too long, left, or the server drains.
async fn detect(app: &App, stream: &TcpStream) -> Option<Protocol> {
    let mut phase = app.phase.subscribe();
    let looking = async {
        let mut seen = [0; PREFACE.len()];
        let mut pause = LOOK_AGAIN;
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
            tokio::time::sleep(pause).await;
            pause = longer(pause);
        }
    };
    tokio::select! {
        protocol = tokio::time::timeout(app.limits.head_time, looking) => protocol.ok().flatten(),
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => None,
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LOOK_AGAIN_MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::admission::{Class, Settings};

    /// A server that refuses all searches, under strain or not.
    fn app(dir: &std::path::Path, strained: bool) -> Arc<App> {
        let mut app = App::for_test(dir);
        // None is ended for being idle.
        Arc::get_mut(&mut app).unwrap().limits.head_time = Duration::from_secs(3600);
        app.admission.switch(Settings { shed: vec![Class::Search], ..app.admission.settings() });
        app.admission.strain(strained);
        app
    }

    /// The other end of a connection that this server serves.
    async fn connect(app: &Arc<App>) -> TcpStream {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let graceful = hyper_util::server::graceful::GracefulShutdown::new();
        tokio::spawn(serve(Arc::clone(app), accepted.unwrap().0, Door::Main, graceful.watcher()));
        client.unwrap()
    }

    /// The kinds of the frames that come until the connection ends, or until `last` has come.
    async fn frames(client: &mut TcpStream, last: u8) -> Vec<u8> {
        let mut kinds = Vec::new();
        let mut head = [0; 9];
        while !kinds.contains(&last) && client.read_exact(&mut head).await.is_ok() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            client.read_exact(&mut payload).await.unwrap();
            kinds.push(head[3]);
            // What is asked of a peer: SETTINGS and PING are acknowledged, the second with what came in it.
            let echo = match head[3] {
                SETTINGS => Vec::new(),
                PING => payload,
                _ => continue,
            };
            if head[4] & 1 == 0 {
                let length = u8::try_from(echo.len()).unwrap();
                let _ = client.write_all(&[&[0, 0, length, head[3], 1, 0, 0, 0, 0][..], &echo].concat()).await;
            }
        }
        kinds
    }

    const DATA: u8 = 0;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;

    #[tokio::test]
    async fn who_is_refused_under_strain_is_told_to_leave_in_either_http() {
        for strained in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let app = app(dir.path(), strained);
            let mut one = connect(&app).await;
            one.write_all(b"GET /v1/regions HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
            let mut answer = vec![0; 4096];
            let read = one.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..read]);
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert_eq!(answer.contains("connection: close\r\n"), strained, "{answer}");

            let mut two = connect(&app).await;
            let mut asked = PREFACE.to_vec();
            asked.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
            // GET, http, :path, :authority t; the end of head and stream.
            let block = [&[0x82, 0x86, 0x04, 11][..], b"/v1/regions", &[0x01, 1], b"t"].concat();
            let length = u8::try_from(block.len()).unwrap();
            asked.extend([&[0, 0, length, 1, 0x05, 0, 0, 0, 1][..], &block].concat());
            two.write_all(&asked).await.unwrap();
            let some = frames(&mut two, if strained { GOAWAY } else { DATA });
            let kinds = tokio::time::timeout(Duration::from_secs(60), some).await.expect("it says so by itself");
            assert_eq!(kinds.contains(&GOAWAY), strained, "{kinds:?}");
            if strained {
                // It is answered all the same, and the connection ends.
                let rest = tokio::time::timeout(Duration::from_secs(60), frames(&mut two, u8::MAX));
                let rest = rest.await.expect("it ends");
                assert!(kinds.contains(&DATA) || rest.contains(&DATA), "{kinds:?} {rest:?}");
            }
            app.campaign.engine.close().unwrap();
        }
    }

    #[tokio::test]
    async fn who_bears_no_key_is_sent_away_at_once_and_leaves_under_strain() {
        let dir = tempfile::tempdir().unwrap();
        let app = app(dir.path(), true);
        let mut client = connect(&app).await;
        client.write_all(b"POST /v1/holds HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close\r\n"), "{answer}");
        app.campaign.engine.close().unwrap();
    }

    #[test]
    fn a_preface_that_does_not_come_costs_few_looks() {
        let pauses: Vec<_> = std::iter::successors(Some(LOOK_AGAIN), |&pause| Some(longer(pause))).take(70).collect();
        assert!(pauses.iter().sum::<Duration>() > Duration::from_secs(30), "at most 70 looks in 30 seconds");
    }
}
