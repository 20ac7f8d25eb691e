//! A bare hyper server that answers every request with one prepared answer: the floor beside `berth serve`.
//!
//! `bare-echo FILE`: the file is an answer as it came over the wire. Prints the address it listens on. It does what any server on hyper must
//! do for the same bytes (read the request and its body, hand over status, headers and body), and nothing else.

use std::convert::Infallible;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use berth_benches::http::wire;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, DATE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[derive(Clone)]
struct Prepared {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Prepared {
    fn read(answer: &[u8]) -> Result<Prepared, Box<dyn Error>> {
        let (head, body) = wire::split(answer).ok_or("the file is no answer")?;
        let status = StatusCode::from_u16(wire::status(head).ok_or("the answer has no status")?)?;
        let mut headers = HeaderMap::new();
        for line in head.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or("a header has no name")?;
            let name = HeaderName::from_bytes(name.as_bytes())?;
            // hyper's own.
            if name != DATE && name != CONTENT_LENGTH {
                headers.append(name, HeaderValue::from_str(value.trim())?);
            }
        }
        Ok(Prepared { status, headers, body: Bytes::copy_from_slice(body) })
    }

    async fn answer(self, mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        // Read and thrown away, as far as it comes.
        while let Some(Ok(_)) = request.body_mut().frame().await {}
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        Ok(response)
    }
}

async fn serve(prepared: Prepared) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    writeln!(std::io::stdout(), "bare echo listening on http://{address}")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let prepared = prepared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| prepared.clone().answer(request));
            // A client that is gone is no news.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: bare-echo FILE")?;
    let prepared = Prepared::read(&std::fs::read(file)?)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(prepared))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bare-echo: {error}");
            ExitCode::FAILURE
        }
    }
}
