//! Everything there is, as NDJSON, while the server goes on.

use std::sync::Arc;

use berth_engine::{Engine, Seq};
use bytes::Bytes;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::safe;
use crate::ack::AckMode;
use crate::app::App;
use crate::body::{CutShort, ResponseBody};
use crate::export::{Sink, Stopped};
use crate::router::{Call, Media};

/// Pieces made ahead of the client: a slow one holds back the export, nothing else.
const PIECES_AHEAD: usize = 4;

/// `GET /v1/export`
pub(crate) fn export(call: &Call) -> Response<ResponseBody> {
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    let (app, mode, runtime) = (Arc::clone(&call.app), call.ack, Handle::current());
    tokio::task::spawn_blocking(move || {
        let mut client = Client { pieces, app: Arc::clone(&app), mode, runtime };
        if crate::export::everything(&app.campaign.engine, &app.campaign.catalogue, &mut client).is_err() {
            // Gone, the journal stopped, or Redis is late: without the last line nobody takes it for whole.
            let _ = client.pieces.blocking_send(Err(CutShort));
        }
    });
    let mut response = Response::new(ResponseBody::pieces(receiver));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Media::Ndjson.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

struct Client {
    pieces: mpsc::Sender<Result<Bytes, CutShort>>,
    app: Arc<App>,
    mode: AckMode,
    runtime: Handle,
}

impl Sink for Client {
    fn piece(&mut self, bytes: Vec<u8>) -> Result<(), Stopped> {
        self.pieces.blocking_send(Ok(bytes.into())).map_err(|_| Stopped)
    }

    fn wait(&mut self, _: &Engine, seq: Seq) -> Result<(), Stopped> {
        self.runtime.block_on(safe(&self.app, self.mode, seq)).map_err(|_| Stopped)
    }
}
