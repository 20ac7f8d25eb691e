//! Everything there is, as NDJSON, while the server goes on.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc;

use crate::body::{CutShort, ResponseBody};
use crate::export::{Sink, Stopped};
use crate::router::{Call, Media};

/// Pieces made ahead of the client: a slow one holds back the export, nothing else.
const PIECES_AHEAD: usize = 4;

/// `GET /v1/export`
pub(crate) fn export(call: &Call) -> Response<ResponseBody> {
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    let app = Arc::clone(&call.app);
    tokio::task::spawn_blocking(move || {
        let mut client = Client(pieces);
        if crate::export::everything(&app.campaign.engine, &app.campaign.catalogue, &mut client).is_err() {
            // Gone, or the journal stopped: without the last line nobody takes it for whole.
            let _ = client.0.blocking_send(Err(CutShort));
        }
    });
    let mut response = Response::new(ResponseBody::pieces(receiver));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Media::Ndjson.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

struct Client(mpsc::Sender<Result<Bytes, CutShort>>);

impl Sink for Client {
    fn piece(&mut self, bytes: Vec<u8>) -> Result<(), Stopped> {
        self.0.blocking_send(Ok(bytes.into())).map_err(|_| Stopped)
    }
}
