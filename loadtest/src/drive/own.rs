//! A person's own connection: opened when first needed, kept until they leave, no pool and no TLS around it.
//!
//! A `reqwest::Client` for each person would read the system's certificates each time: some milliseconds of the generator's
//! time, a hundred times what the request costs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Idle connections kept: a person who does two things at once has two.
const IDLE_MAX: usize = 2;

/// Where a person's requests go, and the connections they have.
#[derive(Debug)]
pub(crate) struct OwnConnection {
    host: String,
    connect_time: Duration,
    request_time: Duration,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl OwnConnection {
    /// None yet. `base_url` is the server's; `None` if it is not plain HTTP.
    pub(crate) fn new(base_url: &str, connect_time: Duration, request_time: Duration) -> Option<Self> {
        let uri: Uri = base_url.parse().ok()?;
        let host = uri.authority().filter(|_| uri.scheme_str() == Some("http"))?;
        let host = if host.port().is_some() { host.to_string() } else { format!("{host}:80") };
        Some(Self { host, connect_time, request_time, idle: Mutex::default() })
    }

    /// The whole answer, or a constant word for what went wrong.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Answered, &'static str> {
        if let Ok(host) = HeaderValue::from_str(&self.host) {
            request.headers_mut().insert(HOST, host);
        }
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let (mut sender, fresh) = match kept {
                Some(sender) if sender.is_closed() => continue,
                Some(sender) => (sender, false),
                None => (self.connect().await?, true),
            };
            let exchange = async {
                let response = match sender.try_send_request(request).await {
                    Ok(response) => response,
                    // The server ended the connection while nothing was asked, so nothing was sent: once more, on another.
                    Err(mut error) => return Err(error.take_message().filter(|_| !fresh).ok_or("connection_lost")),
                };
                let (head, body) = response.into_parts();
                let body = body.collect().await.map_err(|_| Err("cut_answer"))?.to_bytes();
                Ok(Response::from_parts(head, body))
            };
            match tokio::time::timeout(self.request_time, exchange).await {
                Ok(Ok(response)) => {
                    self.keep(sender);
                    let (head, body) = response.into_parts();
                    return Ok(Answered { status: head.status.as_u16(), headers: head.headers, body });
                }
                Ok(Err(Ok(unsent))) => request = unsent,
                Ok(Err(Err(why))) => return Err(why),
                Err(_) => return Err("timed_out"),
            }
        }
    }

    /// Who finds no connection has sent nothing.
    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, &'static str> {
        let connecting = async {
            let stream = TcpStream::connect(&self.host).await.ok()?;
            let _ = stream.set_nodelay(true);
            http1::handshake(TokioIo::new(stream)).await.ok()
        };
        match tokio::time::timeout(self.connect_time, connecting).await {
            Ok(Some((sender, connection))) => {
                tokio::spawn(async move {
                    // What it ends with is told to who waits for an answer.
                    let _ = connection.await;
                });
                Ok(sender)
            }
            Ok(None) | Err(_) => Err("no_connection"),
        }
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !sender.is_closed() {
            idle.push(sender);
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}
