//! An account by phone: a code is asked for, comes on the phone, and is said here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_engine::TimestampMs;
use berth_programme::people::{Address, CodeLimit, CodeRefusal, Phone};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::bookings::json;
use super::super::{parse, read_json, safe};
use super::{blocking, refused, registration, seen};
use crate::ack::AckMode;
use crate::app::App;
use crate::body::ResponseBody;
use crate::people::Codes;
use crate::problem::{Code, Problem};
use crate::router::{Call, Media, respond};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeRequest {
    phone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionRequest {
    phone: String,
    code: String,
}

pub(super) fn codes(app: &App) -> Result<&Codes, Problem> {
    let off = || Problem::new(Code::NotFound, "no one-time codes are sent here");
    registration(app)?.codes.as_ref().ok_or_else(off)
}

pub(super) fn phone(app: &App, text: &str) -> Result<Phone, Problem> {
    let fault = || Problem::new(Code::MalformedRequest, format!("phone: {}", berth_programme::people::PHONE_RULE));
    registration(app)?.people.rules().phone(text).ok_or_else(fault)
}

/// Whence a call comes; of IPv6 the /64, which is one client's.
pub(super) fn address(call: &Call) -> Address {
    match call.app.rates.client(call.peer, &call.headers) {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

pub(super) fn limited(app: &App, refusal: CodeRefusal, now: TimestampMs) -> Problem {
    let CodeRefusal::TooMany { again, limit } = refusal;
    let detail = match limit {
        CodeLimit::Phone => "too many codes were sent to this phone",
        CodeLimit::Address => "too many codes were asked for, or wrong ones said, from this address",
        CodeLimit::All => "too many codes are asked for",
        CodeLimit::Wrong => "too many wrong codes are said: none is looked at for a moment",
    };
    let seconds = again.0.saturating_sub(now.0).div_ceil(1000).max(1);
    Problem::new(Code::CodesLimited, detail).with("again_at", app.names().time(again)).retry_after(seconds)
}

pub(super) fn wrong_code() -> Problem {
    Problem::new(Code::WrongOneTime, "this is not the code that was sent to this phone, or not any more")
}

/// `POST /v1/accounts/codes`: the same answer whether the phone is known or not. A repeat sends another code, so there is no
/// `Idempotency-Key`.
// rule: PPL-5 a code opens once, and what may be asked is bounded
pub(crate) async fn ask(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        expires_at: String,
    }
    let body = read_json(&mut call).await?;
    let asked: CodeRequest = parse(&body)?;
    let app = &call.app;
    let phone = phone(app, &asked.phone)?;
    let Codes { desk, sink } = codes(app)?;
    let now = app.campaign.engine.now();
    let cannot = || Problem::new(Code::Overloaded, "codes cannot be sent now: ask again in a moment");
    let room = sink.room().ok_or_else(cannot)?;
    let sent = desk.ask(&phone, address(&call), now).map_err(|refused| match refused {
        Ok(refusal) => limited(app, refusal, now),
        Err(error) => {
            tracing::error!(%error, "no random bytes for a one-time code");
            Problem::new(Code::Overloaded, "no code can be made now")
        }
    })?;
    let expires_at = app.names().time(sent.until);
    let life = Duration::from_millis(sent.until.0.saturating_sub(now.0));
    if !room.send(phone.as_str(), &sent.code, &expires_at, life) {
        return Err(cannot());
    }
    Ok(respond(StatusCode::OK, Media::Json, json(&Answer { expires_at })))
}

/// `POST /v1/accounts/sessions`: a code for a token; the account is opened with the first one.
pub(crate) async fn open(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        token: String,
        expires_at: String,
        account: String,
    }
    let body = read_json(&mut call).await?;
    let asked: SessionRequest = parse(&body)?;
    let app = Arc::clone(&call.app);
    let phone = phone(&app, &asked.phone)?;
    let now = app.campaign.engine.now();
    let opens = codes(&app)?.desk.opens(&phone, &asked.code, address(&call), now);
    if !opens.map_err(|refusal| limited(&app, refusal, now))? {
        return Err(wrong_code());
    }
    let opened = blocking(&app, move |_, people| people.open_account(&phone, now)).await?;
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => return Err(refused(&app, call.caller(), error).await),
    };
    safe(&app, AckMode::Disk, opened.seq).await?;
    seen(&app, AckMode::Disk, opened.seq).await?;
    let Some(sessions) = &app.access.sessions else {
        return Err(Problem::new(Code::NotFound, "this server gives no tokens"));
    };
    let (token, until) = sessions.token(opened.what, now).map_err(|error| {
        tracing::error!(%error, "no random bytes for a token");
        Problem::new(Code::Overloaded, "no token can be made now")
    })?;
    let answer = Answer { token, expires_at: app.names().time(until), account: opened.what.to_string() };
    Ok(respond(StatusCode::CREATED, Media::Json, json(&answer)))
}
