//! One answer in one encoding: made once, given many times.

use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use berth_programme::{Availability, SlotRef};
use bytes::Bytes;
use hyper::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, LINK, VARY,
};
use hyper::{HeaderMap, Response, StatusCode};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::asked::Resolved;
use super::cache::Charge;
use super::encoding::{self, Encoding, Tail};
use super::{Search, render};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::Problem;
use crate::router::Media;

/// The instant an answer was true, also where there is no body to say it.
const AS_OF: HeaderName = HeaderName::from_static("berth-as-of");
/// What a body and its headers cost beside their bytes.
const OVERHEAD_BYTES: usize = 1024;

/// An answer.
pub(crate) struct Answer {
    /// Just before its counts were read.
    made: Instant,
    /// Until when it may be given to who asks.
    fresh_until: Instant,
    body: Bytes,
    tail: Tail,
    /// Of everything but `as_of`.
    digest: u128,
    etag: HeaderValue,
    /// The second since which it tells what it tells, as far as is known here; of what says so.
    modified: Option<i64>,
    /// All that a 200 has and that does not change while it is kept.
    headers: HeaderMap,
    /// Entries of the cache that have it.
    pub(crate) keepers: AtomicUsize,
    _charge: Charge,
}

/// Renders and encodes an answer; `last` is the last one to the same question in the same encoding.
pub(crate) fn make(
    app: &App,
    asked: &Resolved,
    encoding: Encoding,
    last: Option<Arc<Answer>>,
) -> Result<Arc<Answer>, Problem> {
    let (engine, programme) = (&app.campaign.engine, app.campaign.programme.get());
    // Before the counts are read, so that the answer is never older than it says.
    let made = Instant::now();
    let as_of = engine.now();
    let in_time = |starts_at| programme.in_time(starts_at, as_of).is_ok();
    let found = app.campaign.catalogue.availability(&asked.query(as_of), in_time, |slot| engine.counts(slot));
    let found = found.map_err(|unknown| super::asked::unknown(&unknown))?;
    let next = found.next().map(|next| format!("/v1/availability?{}", asked.next(next)));
    let told = Told {
        made,
        as_of_text: app.names().time(as_of),
        media: Media::Json,
        head: |as_of| render::head(as_of),
        digest: digest(app, asked, &found),
        next,
        modified: None,
        vary: "accept-encoding",
    };
    Ok(told.answer(&app.search, encoding, last, || render::tail(app, asked, &found)))
}

/// What an answer tells, before it is encoded.
pub(crate) struct Told {
    /// The instant before what it tells was read.
    pub(crate) made: Instant,
    /// The same on the wall clock, as it is written.
    pub(crate) as_of_text: String,
    pub(crate) media: Media,
    /// The first part, of the instant: all that may differ in answers that tell the same.
    pub(crate) head: fn(&str) -> Vec<u8>,
    /// Of all the rest.
    pub(crate) digest: u128,
    /// Where what comes behind it is.
    pub(crate) next: Option<String>,
    /// The second since which it tells what it tells, of what says so.
    pub(crate) modified: Option<i64>,
    /// By which headers of a request it differs.
    pub(crate) vary: &'static str,
}

impl Told {
    /// Encodes it; `last` is the last answer to the same question in the same encoding, and `tail` makes the second part where it is
    /// not the same as then.
    pub(crate) fn answer(
        self,
        search: &Search,
        encoding: Encoding,
        last: Option<Arc<Answer>>,
        tail: impl FnOnce() -> Vec<u8>,
    ) -> Arc<Answer> {
        let Told { made, as_of_text, media, digest, next, modified, .. } = self;
        let head = (self.head)(&as_of_text);
        let last = last.filter(|last| last.digest == digest);
        let (body, tail) = match &last {
            Some(last) => encoding::with_head(encoding, &head, &last.body, &last.tail),
            None => encoding::encode(&search.presses, encoding, &head, &tail()),
        };
        let etag = value(&format!("W/\"{digest:032x}{}\"", encoding.name().map_or("", |name| &name[..1])));
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.content_type()));
        headers.insert(VARY, HeaderValue::from_static(self.vary));
        headers.insert(ETAG, etag.clone());
        headers.insert(AS_OF, value(&as_of_text));
        if let Some(name) = encoding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        if let Some(next) = next {
            headers.insert(LINK, value(&format!("<{next}>; rel=\"next\"")));
        }
        if let Some(date) = modified.and_then(http_date) {
            headers.insert(LAST_MODIFIED, date);
        }
        let staleness = search.config.staleness;
        if let Some(fixed) = fixed_cache_control(staleness) {
            headers.insert(CACHE_CONTROL, fixed);
        }
        search.stats.rendered(made.elapsed(), last.is_some());
        let charge = search.charge(body.len() + OVERHEAD_BYTES);
        Arc::new(Answer {
            made,
            fresh_until: made + staleness,
            body: Bytes::from(body),
            tail,
            digest,
            etag,
            modified,
            headers,
            keepers: AtomicUsize::new(0),
            _charge: charge,
        })
    }
}

/// As RFC 9110 writes an instant.
fn http_date(seconds: i64) -> Option<HeaderValue> {
    let at = jiff::Timestamp::from_second(seconds).ok()?;
    let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()?;
    HeaderValue::try_from(text).ok()
}

fn read_http_date(value: &HeaderValue) -> Option<i64> {
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.to_str().ok()?);
    at.ok().map(jiff::Timestamp::as_second)
}

/// Ours all: dates, names, digits.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("it has only visible ASCII")
}

/// Of all that an answer to one question tells, before it is written: what has not changed needs no writing. Not secret: who
/// can change the inventory can change the answer as well.
fn digest(app: &App, asked: &Resolved, found: &Availability) -> u128 {
    let mut hasher = SipHasher13::new();
    let text = |hasher: &mut SipHasher13, text: &str| {
        hasher.write(text.as_bytes());
        hasher.write_u8(0xFF);
    };
    // Another version may write the same otherwise.
    text(&mut hasher, env!("CARGO_PKG_VERSION"));
    text(&mut hasher, &asked.from.to_string());
    hasher.write_u16(asked.days());
    let programme = app.campaign.programme.get();
    for offer in found.centres() {
        text(&mut hasher, &offer.centre.id);
        text(&mut hasher, &offer.centre.name);
        hasher.write_u32(offer.distance_m.unwrap_or(0));
        for offer in found.sessions(offer) {
            text(&mut hasher, &offer.session.id);
            text(&mut hasher, programme.product(offer.session.product).map_or("", |product| &product.id));
            for offer in found.slots(offer) {
                let (SlotRef { slot, pool }, counts) = (offer.slot, offer.counts);
                hasher.write_u64(u64::from(slot.0) << 32 | u64::from(pool.0));
                let flags = u64::from(counts.is_open()) << 1 | u64::from(offer.in_time);
                let units = [counts.capacity(), counts.held(), counts.booked()].map(|units| u64::from(units.get()));
                // Twenty bits each.
                hasher.write_u64(units.iter().fold(flags, |word, units| word << 20 | units));
            }
        }
    }
    if let Some(next) = found.next() {
        text(&mut hasher, &next.to_string());
    }
    hasher.finish128().as_u128()
}

/// Caches count in whole seconds: of less than one there is nothing to keep without asking again.
fn fixed_cache_control(staleness: Duration) -> Option<HeaderValue> {
    (staleness.as_secs() == 0).then(|| HeaderValue::from_static("public, max-age=0, must-revalidate"))
}

impl Answer {
    /// Whether it may be given to who came at that instant.
    // rule: SCH-1 no answer is older than the staleness
    pub(crate) fn is_fresh(&self, arrived: Instant) -> bool {
        arrived < self.fresh_until || berth_engine::planted!("stale_search")
    }

    /// Bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + OVERHEAD_BYTES
    }

    /// A 304 for who has it, else a 200; and whether it was the latter.
    pub(crate) fn respond(
        &self,
        asked: &HeaderMap,
        now: Instant,
        staleness: Duration,
    ) -> (Response<ResponseBody>, bool) {
        let modified = match asked.get(IF_NONE_MATCH) {
            Some(listed) => !names(listed.as_bytes(), self.etag.as_bytes()),
            // Where nothing is kept nothing is known of what a client had within the same second.
            None if staleness.is_zero() => true,
            None => {
                let since = asked.get(IF_MODIFIED_SINCE).and_then(read_http_date);
                // The very second that was said: what a client has that tells of another may be of another server.
                since.zip(self.modified).is_none_or(|(since, modified)| modified != since)
            }
        };
        let body = if modified { ResponseBody::whole(self.body.clone()) } else { ResponseBody::none() };
        let mut response = Response::new(body);
        *response.headers_mut() = self.headers.clone();
        if !modified {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            for header in [CONTENT_TYPE, CONTENT_ENCODING] {
                response.headers_mut().remove(header);
            }
        }
        if staleness.as_secs() > 0 {
            self.say_age(response.headers_mut(), now);
        }
        (response, modified)
    }

    /// A cache may keep it as long as we would: so many seconds, of which so many are over.
    #[cold]
    fn say_age(&self, headers: &mut HeaderMap, now: Instant) {
        let age = now.saturating_duration_since(self.made).as_secs();
        let left = self.fresh_until.saturating_duration_since(now).as_secs();
        headers.insert(AGE, HeaderValue::from(age));
        headers.insert(CACHE_CONTROL, value(&format!("public, max-age={}, must-revalidate", age + left)));
    }
}

#[cfg(test)]
impl Answer {
    /// Of so many bytes, and fresh until then.
    pub(crate) fn for_test(cache: &super::cache::Cache, bytes: usize, fresh_until: Instant) -> Arc<Answer> {
        let body = vec![0; bytes - OVERHEAD_BYTES];
        let (_, tail) = encoding::encode(&encoding::Presses::default(), Encoding::Identity, b"", b"");
        Arc::new(Answer {
            made: fresh_until,
            fresh_until,
            body: Bytes::from(body),
            tail,
            digest: 0,
            etag: HeaderValue::from_static("W/\"0\""),
            modified: None,
            headers: HeaderMap::new(),
            keepers: AtomicUsize::new(0),
            _charge: cache.charge(bytes),
        })
    }
}

/// Whether the tags of an `If-None-Match` have this one.
pub(crate) fn etag_is_listed(listed: &HeaderValue, etag: &HeaderValue) -> bool {
    names(listed.as_bytes(), etag.as_bytes())
}

/// Whether a list of entity tags has this one, by weak comparison.
fn names(listed: &[u8], etag: &[u8]) -> bool {
    // No tag of ours has a comma in it.
    listed.split(|&b| b == b',').map(<[u8]>::trim_ascii).any(|tag| tag == b"*" || opaque(tag) == opaque(etag))
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_a_list_by_weak_comparison() {
        let tag = b"W/\"ab1z\"";
        for listed in ["*", "W/\"ab1z\"", "\"ab1z\"", "\"x\", W/\"ab1z\"", "W/\"x\" ,\"ab1z\" "] {
            assert!(names(listed.as_bytes(), tag), "{listed}");
        }
        for listed in ["", "ab1z", "\"ab1\"", "W/\"ab1g\"", "w/\"ab1z\"", "\"*\""] {
            assert!(!names(listed.as_bytes(), tag), "{listed}");
        }
    }
}
