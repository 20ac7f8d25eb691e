//! Every refusal as status, stable code and words: the one place where the engine's no becomes HTTP.
//!
//! `application/problem+json` of RFC 9457. `type` is `urn:berth:problem:` and the code; `detail` is for people and
//! may change; codes and the extra members are the contract. Engine numbers never leave: parties, slots and
//! bookings are named as the wire names them, because a dense booking number can be counted and a code cannot.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use berth_engine::{Counts, Failure, Refusal, TimestampMs};
use berth_programme::Faults;
use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::audit::CameTo;
use crate::body::ResponseBody;
use crate::rates::Charged;
use crate::wire::Names;

macro_rules! codes {
    ($($variant:ident $status:ident $code:literal $title:literal,)*) => {
        /// A stable code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($variant,)* }

        impl Code {
            /// Every code, for metrics.
            pub(crate) const ALL: &[Code] = &[$(Code::$variant,)*];

            /// As it stands on the wire.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code,)* }
            }

            /// The status it comes with.
            pub(crate) fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status,)* }
            }

            pub(crate) fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }
        }
    };
}

codes! {
    MalformedJson BAD_REQUEST "malformed_json" "The body is not JSON",
    MalformedRequest BAD_REQUEST "malformed_request" "The request is not of the right shape",
    MalformedId BAD_REQUEST "malformed_id" "An identifier is malformed",
    IdempotencyKeyMissing BAD_REQUEST "idempotency_key_missing" "An Idempotency-Key is needed",
    IdempotencyKeyMalformed BAD_REQUEST "idempotency_key_malformed" "The Idempotency-Key is malformed",
    ReasonMissing BAD_REQUEST "reason_missing" "A reason is needed",
    GroupSize BAD_REQUEST "group_size" "Too many or no claims in one request",
    BookingRepeated BAD_REQUEST "booking_repeated" "A booking stands twice in one request",
    NotOfGroup BAD_REQUEST "not_of_group" "The bookings are not of one group",
    PartyRepeated BAD_REQUEST "party_repeated" "A party stands twice in one request",
    Unauthenticated UNAUTHORIZED "unauthenticated" "A key is needed",
    InvalidKey UNAUTHORIZED "invalid_key" "The key is unknown",
    KeyExpired UNAUTHORIZED "key_expired" "The key is no longer valid",
    InvalidToken UNAUTHORIZED "invalid_token" "The token is not one that is taken here",
    TokenExpired UNAUTHORIZED "token_expired" "The token has expired",
    TokenRevoked UNAUTHORIZED "token_revoked" "The token was revoked",
    Forbidden FORBIDDEN "forbidden" "The key is not for this",
    WrongCheckIn FORBIDDEN "wrong_check_in_code" "The code is not the booking's",
    TooManyCodes TOO_MANY_REQUESTS "too_many_codes" "Too many wrong codes were tried",
    WrongOneTime FORBIDDEN "wrong_code" "The one-time code is not the phone's",
    NotFound NOT_FOUND "not_found" "There is nothing here",
    UnknownParty NOT_FOUND "unknown_party" "There is no such party",
    UnknownSlot NOT_FOUND "unknown_slot" "There is no such slot",
    UnknownBooking NOT_FOUND "unknown_booking" "There is no such hold or booking",
    UnknownDose NOT_FOUND "unknown_dose" "There is no such dose",
    UnknownKey NOT_FOUND "unknown_key" "No outcome is kept under this key",
    UnknownAccount NOT_FOUND "unknown_account" "There is no such account",
    UnknownRegion NOT_FOUND "unknown_region" "There is no such district",
    UnknownCentre NOT_FOUND "unknown_centre" "There is no such centre",
    UnknownEntry NOT_FOUND "unknown_entry" "There is no such entry of the waitlist",
    UnknownSession NOT_FOUND "unknown_session" "There is no such session",
    UnknownBatch NOT_FOUND "unknown_batch" "There is no such batch",
    UnknownTransfer NOT_FOUND "unknown_transfer" "There is no such transfer",
    UnknownCertificate NOT_FOUND "unknown_certificate" "There is no such certificate",
    NoCertificates NOT_FOUND "no_certificates" "No certificates are issued here",
    NobodyOnRecord NOT_FOUND "nobody_on_record" "Nothing is on record of who it is",
    UnknownLottery NOT_FOUND "unknown_lottery" "There is no such lottery",
    NotRegistered NOT_FOUND "not_registered" "The party is not registered",
    MethodNotAllowed METHOD_NOT_ALLOWED "method_not_allowed" "The method is not allowed here",
    NotAcceptable NOT_ACCEPTABLE "not_acceptable" "The answer cannot be of an accepted type",
    UnsupportedMediaType UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" "The body is of another type",
    BodyTimeout REQUEST_TIMEOUT "body_timeout" "The body took too long",
    BodyTooLarge PAYLOAD_TOO_LARGE "body_too_large" "The body is too large",
    TooMany PAYLOAD_TOO_LARGE "too_many" "More than the server can hold",
    Full CONFLICT "full" "The slot is full",
    Reserved CONFLICT "reserved" "The free units go to those who wait",
    NoWaitlist CONFLICT "no_waitlist" "The programme has no waitlist",
    AlreadyWaiting CONFLICT "already_waiting" "The party waits for this already",
    AlreadyServed CONFLICT "already_served" "There is nothing to wait for",
    TooManyEntries CONFLICT "too_many_entries" "The party waits as often as it may",
    SlotClosed CONFLICT "slot_closed" "The slot is closed",
    AlreadyClaimed CONFLICT "already_claimed" "The party already has a live claim for this dose",
    TooManyClaims CONFLICT "too_many_claims" "The party has too many live claims",
    Hoarding CONFLICT "hoarding" "Too much is set aside",
    HoldExpired CONFLICT "hold_expired" "The hold has expired",
    AlreadyRegistered CONFLICT "already_registered" "The person is registered already",
    MembersFull CONFLICT "members_full" "The account has as many people as it may",
    AccountNotEmpty CONFLICT "account_not_empty" "The account still has people",
    PhoneTaken CONFLICT "phone_taken" "The phone has an account",
    NoOffer CONFLICT "no_offer" "There is no such offer",
    SameAccount CONFLICT "same_account" "The person is in this account already",
    LiveClaims CONFLICT "live_claims" "The party has a live hold or booking",
    BothClaimed CONFLICT "both_claimed" "Both parties have a live claim for one dose",
    RecordFixed CONFLICT "record_fixed" "Birth and document stand",
    PersonMerged CONFLICT "person_merged" "The record went to another",
    WrongState CONFLICT "wrong_state" "The hold or booking is in another state",
    NotTheHold CONFLICT "not_the_hold" "The code is not that of the hold",
    ChangedMeanwhile CONFLICT "changed_meanwhile" "What was read has changed since",
    DoseRevoked CONFLICT "dose_revoked" "The dose was revoked",
    LaterDose CONFLICT "later_dose" "A later dose is on record",
    DoseConflict CONFLICT "dose_conflict" "Another dose is on record for the booking",
    BatchExists CONFLICT "batch_exists" "There is another batch of this number",
    BatchUnknown CONFLICT "batch_unknown" "The batch is not known",
    BatchRecalled CONFLICT "batch_recalled" "The batch is recalled",
    BatchExpired CONFLICT "batch_expired" "The batch has expired",
    BatchOtherProduct CONFLICT "batch_other_product" "The batch is of another product",
    NoStock CONFLICT "no_stock" "There is not so much in stock",
    BeyondBatch CONFLICT "beyond_batch" "More than the batch has",
    TransferOver CONFLICT "transfer_over" "The transfer is not on the way any more",
    RecallState CONFLICT "recall_state" "The batch is recalled already, or is not",
    SameSlot CONFLICT "same_slot" "The booking is already in this slot",
    NotEligible CONFLICT "not_eligible" "The programme's rules do not allow it",
    BelowTaken CONFLICT "below_taken" "More is taken than the new capacity",
    CertificateEnded CONFLICT "certificate_ended" "The certificate was ended",
    CertificateStands CONFLICT "certificate_stands" "The certificate stands",
    HolderOnRecord CONFLICT "holder_on_record" "Who it is of is on record here",
    NotCertifiable CONFLICT "not_certifiable" "The record does not fit this kind of certificate",
    LotteryState CONFLICT "lottery_state" "The lottery is not so far, or further",
    IdempotencyInFlight CONFLICT "idempotency_in_flight" "The first request with this key is still running",
    IdempotencyConflict UNPROCESSABLE_ENTITY "idempotency_conflict" "The key was used for another request",
    InvalidProgramme UNPROCESSABLE_ENTITY "invalid_programme" "The programme cannot be taken up",
    InvalidLines UNPROCESSABLE_ENTITY "invalid_lines" "Lines of the body are wrong",
    InvalidPerson UNPROCESSABLE_ENTITY "invalid_person" "What was said of the person is wrong",
    CodesLimited TOO_MANY_REQUESTS "codes_limited" "Too many one-time codes were asked for",
    RateLimited TOO_MANY_REQUESTS "rate_limited" "Too many requests",
    JournalFull SERVICE_UNAVAILABLE "journal_full" "The journal has no room now",
    Overloaded SERVICE_UNAVAILABLE "overloaded" "The server is busy",
    Draining SERVICE_UNAVAILABLE "draining" "The server is stopping",
    JournalStopped SERVICE_UNAVAILABLE "journal_stopped" "The journal has stopped",
    AckUnavailable SERVICE_UNAVAILABLE "ack_unavailable" "The acknowledgement asked for cannot be had",
    RedisStopped SERVICE_UNAVAILABLE "redis_stopped" "Redis takes nothing more",
    RevocationNotKept SERVICE_UNAVAILABLE "revocation_not_kept" "In force, and not written down",
    StoreUnavailable SERVICE_UNAVAILABLE "store_unavailable" "What is kept beside bookings cannot be had",
    AuditUnavailable SERVICE_UNAVAILABLE "audit_unavailable" "The audit log cannot be written",
    RedisLate SERVICE_UNAVAILABLE "redis_late" "On disk, and not yet in Redis",
}

/// The member that says when asking again may help, where it is not the same for every refusal of a code.
const RETRY_AFTER_SECONDS: &str = "retry_after_seconds";

/// A refusal on its way out.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    members: Map<String, Value>,
    allow: Option<String>,
    limited: Option<Charged>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), members: Map::new(), allow: None, limited: None }
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Methods that are allowed, for a 405.
    pub(crate) fn allowing(mut self, methods: String) -> Problem {
        self.allow = Some(methods);
        self
    }

    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Problem {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// When asking again may help, in seconds: as a member, and as `Retry-After`.
    pub(crate) fn retry_after(self, seconds: u64) -> Problem {
        self.with(RETRY_AFTER_SECONDS, seconds)
    }

    /// The limit that was met, for a 429.
    pub(crate) fn limited(mut self, by: Charged) -> Problem {
        self.limited = Some(by);
        self
    }

    /// A member beside the usual ones.
    #[cfg(test)]
    pub(crate) fn member(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    fn with_counts(self, counts: Counts) -> Problem {
        self.with("capacity", counts.capacity().get())
            .with("held", counts.held().get())
            .with("booked", counts.booked().get())
    }

    /// As a member of a line, where a request has many answers: all but `instance`, which is the request's.
    pub(crate) fn into_member(self) -> Value {
        let Problem { code, detail, members, .. } = self;
        let mut body = Map::new();
        body.insert("type".to_owned(), format!("urn:berth:problem:{}", code.as_str()).into());
        body.insert("title".to_owned(), code.title().into());
        body.insert("status".to_owned(), code.status().as_u16().into());
        body.insert("code".to_owned(), code.as_str().into());
        body.insert("detail".to_owned(), detail.into());
        body.extend(members);
        Value::Object(body)
    }

    /// The answer to a request for `path`.
    pub(crate) fn into_response(self, path: &str) -> Response<ResponseBody> {
        let Problem { code, detail, members, allow, limited } = self;
        let status = code.status();
        let mut body = Map::new();
        body.insert("type".to_owned(), format!("urn:berth:problem:{}", code.as_str()).into());
        body.insert("title".to_owned(), code.title().into());
        body.insert("status".to_owned(), status.as_u16().into());
        body.insert("code".to_owned(), code.as_str().into());
        body.insert("detail".to_owned(), detail.into());
        body.insert("instance".to_owned(), path.into());
        // Whom it names is named in the audit log, too.
        let named = members.get("party").and_then(Value::as_str).filter(|_| code == Code::AlreadyRegistered);
        let named = named.map(|party| CameTo(vec![party.to_owned()]));
        let retry_after = members.get(RETRY_AFTER_SECONDS).and_then(Value::as_u64);
        body.extend(members);
        let mut response = Response::new(ResponseBody::whole(Bytes::from(Value::Object(body).to_string())));
        *response.status_mut() = status;
        if let Some(named) = named {
            response.extensions_mut().insert(named);
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after.or_else(|| retry_after_seconds(code).map(u64::from)) {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(charged) = limited {
            charged.tell(headers);
            headers.insert(RETRY_AFTER, charged.retry_after(jitter()).into());
        }
        if let Some(value) = allow.and_then(|methods| methods.try_into().ok()) {
            headers.insert(ALLOW, value);
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750: an error is told only to who has sent a credential.
            let challenge = if code == Code::Unauthenticated { "Bearer" } else { "Bearer error=\"invalid_token\"" };
            headers.insert(hyper::header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// Any number, another one each time.
fn jitter() -> u64 {
    RandomState::new().hash_one(0)
}

/// When asking again may help, and how soon.
fn retry_after_seconds(code: Code) -> Option<u16> {
    match code {
        Code::JournalFull
        | Code::Overloaded
        | Code::IdempotencyInFlight
        | Code::RevocationNotKept
        | Code::AuditUnavailable
        | Code::StoreUnavailable
        | Code::RedisLate => Some(1),
        // Another server, or this one restarted, takes a little longer.
        Code::Draining | Code::JournalStopped => Some(5),
        // The hour in which wrong codes are counted; `until` says it exactly.
        Code::TooManyCodes => Some(3600),
        _ => None,
    }
}

/// The engine says no.
pub(crate) fn refused(refusal: &Refusal, names: &Names<'_>) -> Problem {
    match *refusal {
        Refusal::GroupSize { found, max } => {
            Problem::new(Code::GroupSize, format!("a request names between 1 and {max} claims, this one {found}"))
                .with("found", found)
                .with("max", max)
        }
        Refusal::PartyRepeated { party } => {
            let party = names.party(party);
            Problem::new(Code::PartyRepeated, format!("party {party} stands twice in the request")).with("party", party)
        }
        Refusal::TooMany { what, found, max } => {
            Problem::new(Code::TooMany, format!("{what}: {found} is more than the limit of {max}"))
                .with("what", what)
                .with("found", found)
                .with("max", max)
        }
        Refusal::BookingRepeated { booking } => {
            let booking = names.booking(booking);
            Problem::new(Code::BookingRepeated, format!("booking {booking} stands twice in the request"))
                .with("booking", booking)
        }
        Refusal::NotOfGroup { booking, hold } => {
            let (booking, hold) = (names.booking(booking), names.booking(hold));
            Problem::new(Code::NotOfGroup, format!("booking {booking} was not claimed with those of {hold}"))
                .with("booking", booking)
                .with("hold", hold)
        }
        Refusal::JournalFull => Problem::new(Code::JournalFull, "the journal has no room for another entry now"),
        Refusal::IdempotencyConflict => {
            Problem::new(Code::IdempotencyConflict, "this Idempotency-Key was used for another request")
        }
        Refusal::IdempotencyInFlight => {
            Problem::new(Code::IdempotencyInFlight, "the first request with this Idempotency-Key is still running")
        }
        Refusal::UnknownParty { party } => {
            let party = names.party(party);
            Problem::new(Code::UnknownParty, format!("there is no party {party}")).with("party", party)
        }
        Refusal::UnknownSlot { slot } => {
            let slot = names.slot(slot);
            Problem::new(Code::UnknownSlot, format!("there is no slot {slot}")).with("slot", slot)
        }
        Refusal::UnknownBooking { booking } => {
            let booking = names.booking(booking);
            Problem::new(Code::UnknownBooking, format!("there is no hold or booking {booking}"))
                .with("booking", booking)
        }
        Refusal::NotTheHold { booking, hold } => {
            let (booking, hold) = (names.booking(booking), names.booking(hold));
            Problem::new(Code::NotTheHold, format!("{booking} is one booking of a group, its hold is {hold}"))
                .with("booking", booking)
                .with("hold", hold)
        }
        Refusal::HoldExpired { hold, expired_at } => {
            let (hold, at) = (names.booking(hold), names.time(expired_at));
            Problem::new(Code::HoldExpired, format!("hold {hold} expired at {at}"))
                .with("hold", hold)
                .with("expired_at", at)
        }
        Refusal::WrongState { booking, from, to } => {
            let booking = names.booking(booking);
            Problem::new(Code::WrongState, format!("{booking} is {from}, it cannot become {to}"))
                .with("booking", booking)
                .with("from", from.as_str())
                .with("to", to.as_str())
        }
        Refusal::SameSlot { booking, slot } => {
            let (booking, slot) = (names.booking(booking), names.slot(slot));
            Problem::new(Code::SameSlot, format!("{booking} is already in slot {slot}"))
                .with("booking", booking)
                .with("slot", slot)
        }
        Refusal::ChangedMeanwhile { party } => {
            let party = names.party(party);
            Problem::new(Code::ChangedMeanwhile, format!("what is known of party {party} has changed: read it again"))
                .with("party", party)
        }
        Refusal::NotEligible { party, slot, rule, from } => {
            let (party, slot) = (names.party(party), names.slot(slot));
            let detail = format!("rule {rule} of the programme keeps party {party} from slot {slot}");
            let problem =
                Problem::new(Code::NotEligible, detail).with("rule", rule).with("party", party).with("slot", slot);
            match from {
                Some(from) => problem.with("from", names.time(from)),
                None => problem,
            }
        }
        // The engine's programme number stays inside: a server has one programme.
        Refusal::AlreadyClaimed { party, booking, programme: _, dose } => {
            let (party, booking) = (names.party(party), names.booking(booking));
            let detail = format!("party {party} already has a live claim for dose {dose}: {booking}");
            Problem::new(Code::AlreadyClaimed, detail)
                .with("party", party)
                .with("booking", booking)
                .with("dose", dose.0)
        }
        Refusal::TooManyClaims { party, max } => {
            let party = names.party(party);
            Problem::new(Code::TooManyClaims, format!("party {party} has {max} live claims, the most it may have"))
                .with("party", party)
                .with("max", max)
        }
        Refusal::Hoarding { party, limit, max, from } => {
            let (party, from) = (names.party(party), names.time(from));
            let detail = format!("party {party} is at the limit of {max} {limit}, it may hold again from {from}");
            Problem::new(Code::Hoarding, detail)
                .with("party", party)
                .with("limit", limit.as_str())
                .with("max", max)
                .with("from", from)
        }
        Refusal::SlotClosed { slot, counts } => {
            let slot = names.slot(slot);
            Problem::new(Code::SlotClosed, format!("slot {slot} takes no claims at present"))
                .with("slot", slot)
                .with_counts(counts)
        }
        Refusal::Full { slot, counts } => {
            let slot = names.slot(slot);
            Problem::new(Code::Full, format!("slot {slot} has fewer free units than asked for: {}", counts.free()))
                .with("slot", slot)
                // What returns to a reserved slot is offered, and not to who asks.
                .with("held_may_return", counts.held().get() > 0 && !counts.is_reserved())
                .with_counts(counts)
        }
        Refusal::Reserved { slot, counts } => {
            let slot = names.slot(slot);
            let whose = if counts.is_reserved_for(berth_engine::ReservedFor::Lottery) {
                "drawn among those who registered for them"
            } else {
                "offered to those who wait for one"
            };
            let detail = format!("the free units of slot {slot} are {whose}");
            Problem::new(Code::Reserved, detail).with("slot", slot).with_counts(counts)
        }
        Refusal::BelowTaken { slot, asked, counts } => {
            let slot = names.slot(slot);
            Problem::new(Code::BelowTaken, format!("slot {slot} cannot shrink to {asked}"))
                .with("slot", slot)
                .with("asked", asked.get())
                .with_counts(counts)
        }
    }
}

/// The engine could not do its part. Why is for the operator's log, which tells of it by itself, not for the client.
pub(crate) fn failed(failure: &Failure) -> Problem {
    match failure {
        Failure::JournalStopped { reason: _ } => {
            let detail = "the outcome is unknown until the server restarts: repeat the request with the same key then";
            Problem::new(Code::JournalStopped, detail)
        }
        Failure::RedisStopped { reason: _ } => {
            let detail = "it is on the server's disk and not in Redis: ask for the outcome by its key";
            Problem::new(Code::RedisStopped, detail)
        }
    }
}

/// On disk, and Redis did not take it in time.
pub(crate) fn redis_late() -> Problem {
    let detail = "it is on the server's disk and not yet in Redis: repeat with the same key, or ask for its outcome";
    Problem::new(Code::RedisLate, detail)
}

/// `already_claimed` for whom the other booking is none of their business: all but its code.
pub(crate) fn claimed_elsewhere(refusal: &Refusal, names: &Names<'_>) -> Problem {
    let mut problem = refused(refusal, names);
    problem.members.remove("booking");
    "the party already has a live claim for this dose, elsewhere".clone_into(&mut problem.detail);
    problem
}

/// What was said at the door is not the booking's code.
pub(crate) fn wrong_check_in_code(tries_left: u8) -> Problem {
    Problem::new(Code::WrongCheckIn, "these are not the booking's four digits").with("tries_left", tries_left)
}

/// After too many wrong codes none is looked at for a while.
pub(crate) fn codes_locked(until: TimestampMs, names: &Names<'_>) -> Problem {
    let detail = "too many wrong codes were tried for this booking: none is looked at until the hour is over";
    Problem::new(Code::TooManyCodes, detail).with("until", names.time(until))
}

/// A programme's values are wrong, each by its key; of its shape, without one.
pub(crate) fn invalid_programme(faults: &[(String, String)]) -> Problem {
    let sentence =
        |(key, reason): &(String, String)| if key.is_empty() { reason.clone() } else { format!("{key}: {reason}") };
    let detail = faults.iter().map(sentence).collect::<Vec<_>>().join("; ");
    let listed: Vec<_> = faults.iter().map(|(key, reason)| json!({"key": key, "reason": reason})).collect();
    Problem::new(Code::InvalidProgramme, detail).with("faults", listed)
}

/// Lines of a bulk body are wrong.
pub(crate) fn invalid_lines(faults: &Faults) -> Problem {
    let listed: Vec<_> =
        faults.listed().iter().map(|f| json!({"line": f.line, "field": f.field, "reason": f.reason})).collect();
    Problem::new(Code::InvalidLines, faults.to_string()).with("fault_count", faults.count()).with("faults", listed)
}
