//! The programme in force: read by everybody, taken up anew by an administrator.

use std::sync::Arc;

use berth_programme::file::ProgrammeFile;
use berth_programme::{KeptProgramme, Rules, TakeUpError, TakenUp};
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{Response, StatusCode};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use super::bookings;
use super::{fingerprint, key, mark_replayed, safe};
use crate::access::{hash, hex};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
use crate::reload_programme::{self, NotTakenUp};
use crate::router::{Call, Media, respond};
use crate::search::etag_is_listed;

/// A programme is some kilobytes; one with two hundred of everything is below this.
const BYTES_MAX: usize = 256 << 10;
/// What an app asks again for after so long. It costs nothing where nothing has changed.
const CACHED: &str = "public, max-age=60, must-revalidate";

/// The programme as everybody reads it, rendered when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct ProgrammePage(Mutex<Option<(HeaderValue, Bytes)>>);

/// Which programme is in force.
#[derive(Serialize)]
struct InForceAnswer {
    sha256: String,
    since: String,
}

impl ProgrammePage {
    /// The body and its tag.
    fn of(&self, app: &App, rules: &Rules) -> (HeaderValue, Bytes) {
        #[derive(Serialize)]
        struct Answer<'a> {
            in_force: InForceAnswer,
            #[serde(flatten)]
            file: &'a ProgrammeFile,
        }
        let in_force = InForceAnswer { sha256: hex(rules.sha256()), since: app.names().time(rules.since) };
        // The same file taken up again is another answer: `since` has moved.
        let tag = format!("\"{}-{}\"", &in_force.sha256[..16], rules.since.0);
        let mut kept = self.0.lock();
        match kept.as_ref() {
            Some((known, body)) if known.as_bytes() == tag.as_bytes() => (known.clone(), body.clone()),
            _ => {
                let tag = HeaderValue::try_from(tag).expect("hexadecimal digits and a number");
                let body = Bytes::from(bookings::json(&Answer { in_force, file: rules.file() }));
                kept.insert((tag, body)).clone()
            }
        }
    }
}

/// `GET /v1/programme`
pub(crate) fn read(call: &Call) -> Response<ResponseBody> {
    let (tag, body) = call.app.programme_page.of(&call.app, &call.app.campaign.programme.get());
    let listed = call.headers.get(IF_NONE_MATCH).is_some_and(|listed| etag_is_listed(listed, &tag));
    let mut response = if listed {
        let mut response = respond(StatusCode::NOT_MODIFIED, Media::Json, Bytes::new());
        response.headers_mut().remove(CONTENT_TYPE);
        response
    } else {
        respond(StatusCode::OK, Media::Json, body)
    };
    response.headers_mut().insert(ETAG, tag);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(CACHED));
    response
}

/// `GET /v1/admin/programme`
pub(crate) fn history(call: &Call) -> Response<ResponseBody> {
    #[derive(Serialize)]
    struct Kept {
        entry: u64,
        since: String,
        sha256: String,
        by: &'static str,
    }
    #[derive(Serialize)]
    struct Answer {
        in_force: InForceAnswer,
        history: Vec<Kept>,
    }
    let (app, rules) = (&call.app, call.app.campaign.programme.get());
    let kept = app.campaign.catalogue.programmes();
    let kept = kept.iter().map(|kept| Kept {
        entry: kept.entry.0,
        since: app.names().time(kept.since()),
        sha256: hex(&hash(kept.text())),
        by: if kept.by_call() { "call" } else { "file" },
    });
    let in_force = InForceAnswer { sha256: hex(rules.sha256()), since: app.names().time(rules.since) };
    respond(StatusCode::OK, Media::Json, bookings::json(&Answer { in_force, history: kept.collect() }))
}

/// `POST /v1/admin/programme`
pub(crate) async fn take_up(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = super::read_body(&mut call, BYTES_MAX).await?;
    let idempotency = fingerprint(&call).piece(&body).under(key);
    let text = std::str::from_utf8(&body).map_err(|_| malformed("the body is not UTF-8"))?.to_owned();
    let app = Arc::clone(&call.app);
    // On a thread of its own: it reads a file and waits for the disk, and runs to its end also when the client is gone.
    let work = tokio::task::spawn_blocking(move || {
        let text = (!text.trim().is_empty()).then_some(text.as_str());
        reload_programme::take_up(&app, text, Some(idempotency))
    });
    let taken = work.await.expect("taking up a programme does not panic, and nobody cancels it");
    let taken = taken.map_err(|why| not_taken(&call.app, why))?;
    if let Some(entry) = taken.entry {
        safe(&call.app, call.ack, entry).await?;
    }
    let mut response = respond(StatusCode::OK, Media::Json, answer(&call.app, &taken));
    if taken.replayed {
        call.app.metrics.replayed();
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// What a request that took a programme up was told.
pub(super) fn taken(app: &App, kept: &KeptProgramme) -> Value {
    let (sha256, since) = (hex(&hash(kept.text())), app.names().time(kept.since()));
    json!({"sha256": sha256, "since": since, "changed": true})
}

fn answer(app: &App, taken: &TakenUp) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer {
        sha256: String,
        since: String,
        changed: bool,
    }
    bookings::json(&Answer { sha256: hex(&taken.sha256), since: app.names().time(taken.since), changed: taken.changed })
}

fn malformed(detail: &str) -> Problem {
    Problem::new(Code::MalformedRequest, detail)
}

fn not_taken(app: &App, why: NotTakenUp) -> Problem {
    match why {
        NotTakenUp::NoFile => malformed("the server was started without a programme file: send one as the body"),
        NotTakenUp::Unreadable(what) => problem::invalid_programme(&[(String::new(), what)]),
        NotTakenUp::Programme(TakeUpError::Shape(what)) => problem::invalid_programme(&[(String::new(), what)]),
        NotTakenUp::Programme(TakeUpError::Faults(faults)) => {
            let faults: Vec<_> = faults.into_iter().map(|fault| (fault.key, fault.reason)).collect();
            problem::invalid_programme(&faults)
        }
        NotTakenUp::Programme(TakeUpError::Refused(refusal)) => problem::refused(&refusal, &app.names()),
        NotTakenUp::Programme(TakeUpError::Failed(failure)) => problem::failed(&failure),
    }
}
