//! How what is told of the catalogue is kept: as searches are, apart from them.

use std::hash::Hasher;
use std::sync::Arc;
use std::time::Instant;

use berth_engine::TimestampMs;
use hyper::Response;
use sha2::{Digest, Sha256};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::bundle;
use crate::app::App;
use crate::body::ResponseBody;
use crate::fhir;
use crate::problem::{Code, Problem};
use crate::router::Call;
use crate::search::{Asking, Told, as_media, encoding_for};

/// A longer query is known by its digest.
const QUERY_BYTES_KEPT: usize = 1024;

/// What is to be told.
pub(super) struct Question {
    /// The one spelling of its query.
    pub(super) query: String,
    /// The first part of the answer, of the instant.
    pub(super) head: fn(&str) -> Vec<u8>,
    /// Whether it says since when it tells what it tells.
    pub(super) says_modified: bool,
    /// Whether each rendering tells something new, even where no word of it has changed: what it leads to has.
    pub(super) is_always_new: bool,
}

impl Question {
    /// Of a page of a search.
    pub(super) fn of_search(query: String) -> Question {
        Question { query, head: bundle::head, says_modified: false, is_always_new: false }
    }
}

/// Whether a search that looks at so many is answered where it was asked; the no to one that has to be narrowed.
pub(super) fn is_small(looks: usize, (inline, most): (usize, usize), what: &str, how: &str) -> Result<bool, Problem> {
    if looks > most {
        let detail = format!("this looks at more than {most} {what}: name {how}");
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    Ok(looks <= inline)
}

/// What a rendering comes to.
#[derive(Default)]
pub(super) struct Rendered {
    /// All but the head.
    pub(super) tail: Vec<u8>,
    /// Where what comes behind it is.
    pub(super) next: Option<String>,
}

/// The path of a call, as its template has it.
fn path(call: &Call) -> String {
    let mut parameters = [call.parameter.as_str(), call.parameter2.as_str()].into_iter();
    let parts = call.endpoint.template.split('/').map(|part| match part.starts_with('{') {
        true => parameters.next().unwrap_or_default(),
        false => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Answers with what is kept, or with what `render` makes: it is told the instant, which is before all that it reads. Only where nothing
/// is kept `is_small` is asked whether it may be made where it was asked for, or is too much for one answer.
pub(super) async fn answer(
    call: &Call,
    question: Question,
    is_small: impl FnOnce(&App) -> Result<bool, Problem>,
    render: impl Fn(&App, TimestampMs) -> Rendered + Send + Sync + 'static,
) -> Result<Response<ResponseBody>, Problem> {
    let encoding = encoding_for(&call.headers)?;
    let arrived = Instant::now();
    let kept = fhir::kept_in(&call.app, call.endpoint.route).expect("only routes whose answers are kept come here");
    let path = path(call);
    let spelling = call.query.as_ref().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    if let Some(answer) = kept.fresh(encoding, &spelling, arrived) {
        return Ok(as_media(kept.given(&answer, &call.headers, Instant::now()), call.endpoint, call.gives));
    }
    let Question { query, head, says_modified, is_always_new } = question;
    let key = key(&path, &query);
    let answer = match kept.fresh(encoding, &key, arrived) {
        Some(answer) => answer,
        None => {
            let is_small = is_small(&call.app)?;
            let of_key = key.clone();
            let asking = Asking { spelling: &spelling, key, encoding, arrived, is_small };
            let (app, of, media) = (Arc::clone(&call.app), Arc::clone(kept), call.endpoint.gives);
            let make = move |last| {
                let (made, now) = (Instant::now(), app.campaign.engine.now());
                let Rendered { tail, next } = render(&app, now);
                let as_of_text = app.names().time(now);
                let digest = digest(&tail, if is_always_new { &as_of_text } else { "" });
                let modified = says_modified.then(|| of.since.second(&of_key, digest, now));
                // Types differ by what is accepted, too.
                let vary = "accept, accept-encoding";
                let told = Told { made, as_of_text, media, head, digest, next, modified, vary };
                Ok(told.answer(&of, encoding, last, || tail))
            };
            kept.made(asking, make).await?
        }
    };
    Ok(as_media(kept.given(&answer, &call.headers, Instant::now()), call.endpoint, call.gives))
}

/// Under what an answer is kept, also where there is no question mark in what came. Of a long query that is its digest: fifty names of
/// sixty-four letters are more than a cache keeps as they stand.
fn key(path: &str, query: &str) -> String {
    if query.len() <= QUERY_BYTES_KEPT {
        return format!("{path}?{query}");
    }
    let digest: String = Sha256::digest(query).iter().map(|byte| format!("{byte:02x}")).collect();
    // A hash sign is in no query.
    format!("{path}?#{digest}")
}

/// Not secret: who can change the inventory can change the answer as well.
fn digest(tail: &[u8], instant: &str) -> u128 {
    let mut hasher = SipHasher13::new();
    hasher.write(tail);
    hasher.write(instant.as_bytes());
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_query_has_a_short_key_of_its_own() {
        let long = |last: &str| key("/fhir/Slot", &format!("schedule={}{last}", "x".repeat(3000)));
        assert_eq!(key("/fhir/Slot", "schedule=x"), "/fhir/Slot?schedule=x");
        assert!(long("a").starts_with("/fhir/Slot?#") && long("a").len() < 100);
        assert!(long("a") == long("a") && long("a") != long("b"));
    }
}
