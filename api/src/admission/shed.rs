//! A refusal for want of room: cheap to make, honest about why, and spread over time.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::class::Class;
use crate::body::ResponseBody;

/// Why there was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// As many waited as may.
    QueueFull,
    /// Its time in the queue was over.
    QueueTime,
    /// It gave its place in the queue to a higher class.
    Displaced,
    /// `http.inflight_requests_max` requests were running.
    Running,
    /// An operator has switched its class off.
    SwitchedOff,
}

impl Reason {
    pub(crate) const ALL: [Reason; 5] =
        [Reason::QueueFull, Reason::QueueTime, Reason::Displaced, Reason::Running, Reason::SwitchedOff];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue_full",
            Reason::QueueTime => "queue_time",
            Reason::Displaced => "displaced",
            Reason::Running => "too_many_running",
            Reason::SwitchedOff => "switched_off",
        }
    }

    pub(crate) fn detail(self) -> &'static str {
        match self {
            Reason::QueueFull => "more requests wait than can be served in time; nothing was done",
            Reason::QueueTime => "its turn did not come in time; nothing was done",
            Reason::Displaced => "more pressing requests came meanwhile; nothing was done",
            Reason::Running => "too many requests are running; nothing was done",
            Reason::SwitchedOff => "requests of this kind are switched off for now; nothing was done",
        }
    }
}

/// A request that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shed {
    pub(crate) class: Class,
    pub(crate) reason: Reason,
}

/// Everything of the body but the path, which is last.
static BODIES: LazyLock<[String; Reason::ALL.len()]> = LazyLock::new(|| {
    Reason::ALL.map(|reason| {
        format!(
            r#"{{"type":"urn:berth:problem:overloaded","title":"The server is busy","status":503,"code":"overloaded","reason":"{}","detail":"{}","instance":"#,
            reason.as_str(),
            reason.detail()
        )
    })
});

impl Shed {
    /// The answer.
    // rule: ADM-2 a refusal says why, and when to come again
    pub(crate) fn into_response(self, path: &str) -> Response<ResponseBody> {
        let prepared = &BODIES[self.reason as usize];
        let mut body = Vec::with_capacity(prepared.len() + path.len() + 4);
        body.extend_from_slice(prepared.as_bytes());
        // A path has no control characters, but it may have a quote.
        if path.bytes().all(|byte| byte != b'"' && byte != b'\\') {
            body.push(b'"');
            body.extend_from_slice(path.as_bytes());
            body.push(b'"');
        } else {
            body.extend(serde_json::Value::from(path).to_string().into_bytes());
        }
        body.push(b'}');
        let mut response = Response::new(ResponseBody::whole(Bytes::from(body)));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(RETRY_AFTER, retry_after(self.class).into());
        response
    }
}

/// Seconds until it may be worth to come again, each time others, so that those who were refused together do not come back together.
// rule: ADM-2
pub(super) fn retry_after(class: Class) -> u16 {
    let (least, most) = match class {
        // A hold runs out.
        Class::Settle => (1, 2),
        Class::Claim => (1, 4),
        Class::Search => (2, 8),
        Class::Admin => (5, 20),
    };
    // The keys of each hasher differ; a secret is not needed here, only that clients differ.
    let drawn = RandomState::new().hash_one(0u8);
    least + u16::try_from(drawn % u64::from(most - least + 1)).unwrap_or(0)
}
