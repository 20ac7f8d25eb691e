//! What anybody may ask of certificates: whether one is good, by which keys, and which were ended.

use std::sync::Arc;

use berth_engine::{Seq, TimestampMs};
use berth_programme::certificates::{CertificateKind, Refused, verify};
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{certificates, in_turn, malformed, none_here, private};
use crate::app::App;
use crate::body::ResponseBody;
use crate::certificates::{Certificates, Signing};
use crate::problem::{Code, Problem};
use crate::router::{Call, Media, respond};
use crate::routes::{parse, read_body};
use crate::store;

/// The largest certificate that is looked at.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// As [`super::blocking`], of what everybody may ask for.
async fn in_public<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App, &Certificates) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let desk = Arc::clone(certificates(app)?);
    in_turn(app, &desk.public, work).await
}

/// Waits until reads see all that is durable.
pub(super) async fn seen_all(call: &Call) -> Result<(), Problem> {
    store::reached(&call.app, call.app.campaign.engine.durable()).await
}

/// `POST /v1/certificates/verify`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyRequest<'a> {
    /// As it was sent: what stands twice in it is for its reader to see.
    #[serde(borrow)]
    certificate: &'a RawValue,
}

/// `POST /v1/certificates/verify`
pub(crate) async fn check(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let body = read_body(&mut call, TEXT_BYTES_MAX).await?;
    let VerifyRequest { certificate } = parse(&body)?;
    let raw = certificate.get();
    let text: String = match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_err(|error| malformed(format!("certificate: {error}")))?,
        Some(b'{') => raw.to_owned(),
        _ => return Err(malformed("certificate: must be a text, or the object of a Verifiable Credential")),
    };
    // What was ended by then is known by then.
    seen_all(&call).await?;
    let answer = in_public(&call.app, move |app, desk| {
        let signing = desk.signing.as_ref().ok_or_else(none_here)?;
        let now = at(app.campaign.engine.now());
        Ok(match verify(text.as_bytes(), signing.keys().public(), &*desk.register, now) {
            Ok(good) => json!({
                "valid": true,
                "kind": good.kind.name(),
                "certificate": good.id.to_string(),
                "key_id": good.key_id,
                "issuer": good.issuer,
                "issued_at": good.issued_at.to_string(),
                "expires_at": good.expires_at.map(|at| at.to_string()),
                "name": good.name,
                "born": good.born,
                "product": good.product,
                "dose": good.dose.map(|(number, _)| number),
                "doses": good.dose.map(|(_, of)| of),
                "given_on": good.given_on,
            }),
            Err(refused) => told_refused(&refused),
        })
    })
    .await?;
    Ok(private(respond(StatusCode::OK, Media::Json, answer.to_string())))
}

fn told_refused(refused: &Refused) -> Value {
    json!({"valid": false, "reason": refused.code(), "detail": refused.to_string()})
}

fn at(now: TimestampMs) -> jiff::Timestamp {
    i64::try_from(now.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}

/// What everybody may have, from wherever they look: keys, and what was ended.
fn public(body: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = respond(StatusCode::OK, Media::Json, body.into());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
    response
}

fn signing(app: &App) -> Result<&Signing, Problem> {
    app.signing().ok_or_else(none_here)
}

/// `GET /.well-known/jwks.json`
pub(crate) async fn jwks(call: Call) -> Result<Response<ResponseBody>, Problem> {
    signing(&call.app)?;
    seen_all(&call).await?;
    let keys = in_public(&call.app, |app, desk| {
        let count = desk.register.ended_count().map_err(|error| store::failed(&error))?;
        Ok(signing(app)?.keys().public().smart_health_card_jwks(Some(count)))
    })
    .await?;
    Ok(public(keys))
}

/// `GET /.well-known/certificates/keys.json`
pub(crate) async fn keys(call: Call) -> Result<Response<ResponseBody>, Problem> {
    Ok(public(signing(&call.app)?.keys().public().to_jwks()))
}

/// `GET /.well-known/certificates/eu-signers.json`
pub(crate) async fn eu_signers(call: Call) -> Result<Response<ResponseBody>, Problem> {
    Ok(public(signing(&call.app)?.keys().public().eu_signers()))
}

/// `GET /.well-known/certificates/did-documents.json`
pub(crate) async fn did_documents(call: Call) -> Result<Response<ResponseBody>, Problem> {
    Ok(public(signing(&call.app)?.keys().public().did_documents()))
}

/// Entries of one page of what was ended; one may hold more certificates than one, and they stay together.
const PAGE: usize = 10_000;

/// `GET /.well-known/certificates/revoked.json`
pub(crate) async fn revoked(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let mut after = Seq(0);
    for pair in call.query.as_deref().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let number = pair.strip_prefix("after=").and_then(|text| text.parse().ok());
        after = Seq(number.ok_or_else(|| malformed("there is one parameter, after, the number of an entry"))?);
    }
    seen_all(&call).await?;
    let answer = in_public(&call.app, move |app, desk| {
        let names = app.names();
        let (mut rows, mut last, mut more) = (Vec::new(), after, false);
        for row in desk.register.ended_after(after) {
            let row = row.map_err(|error| store::failed(&error))?;
            if rows.len() >= PAGE && row.seq != last {
                more = true;
                break;
            }
            last = row.seq;
            let (id, at) = (row.id.to_string(), names.time(row.at));
            rows.push(json!({"certificate": id, "at": at, "reason": row.reason.as_str()}));
        }
        let count = desk.register.ended_count().map_err(|error| store::failed(&error))?;
        let next = more.then(|| last.0.to_string());
        let complete = app.store.as_ref().is_some_and(|store| store.began().0 == 0);
        Ok(json!({"count": count, "complete": complete, "revoked": rows, "after": last.0.to_string(), "next": next}))
    })
    .await?;
    Ok(public(answer.to_string()))
}

/// `GET /.well-known/crl/{file}`: what was ended, as verifiers of SMART Health Cards read it.
pub(crate) async fn crl(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let missing = || Problem::new(Code::NotFound, "there is no such key");
    let key_id = call.parameter.strip_suffix(".json").ok_or_else(missing)?.to_owned();
    let known = signing(&call.app)?.keys();
    let known = known.public().iter().any(|key| key.kind == CertificateKind::SmartHealthCard && key.key_id == key_id);
    if !known {
        return Err(missing());
    }
    seen_all(&call).await?;
    let list =
        in_public(&call.app, move |_, desk| desk.revoked_cards(&key_id).map_err(|error| store::failed(&error))).await?;
    Ok(public(list))
}
