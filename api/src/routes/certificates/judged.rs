//! What the administration says of a certificate: that it ends, or that the next may begin. Where people do not register here the platform may say it,
//! too: it alone knows when what it told of them was wrong.

use berth_programme::certificates::register::{NotDone, Reason, Verdict};
use hyper::{Response, StatusCode};
use serde::Deserialize;

use super::public::seen_all;
use super::{blocking, malformed, reached, told, unknown};
use crate::access::Role;
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::routes::{fingerprint, key, mark_replayed, parse, read_json, read_nothing, safe};
use crate::store;

/// `POST /v1/certificates/{certificate}/revoke`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeRequest {
    reason: String,
    /// Whether the next may begin at once.
    #[serde(default = "yes")]
    replace: bool,
}

/// Why one may be ended. That it named somebody wrongly is known here where it is on record, and is told elsewhere.
fn may_give(app: &App) -> impl Iterator<Item = Reason> {
    let told = app.registration.is_none().then_some(Reason::PersonCorrected);
    Reason::GIVEN.into_iter().chain(told)
}

const fn yes() -> bool {
    true
}

/// `POST /v1/certificates/{certificate}/revoke`
pub(crate) async fn revoke(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let request: RevokeRequest = parse(&body)?;
    let reason = may_give(&call.app).find(|reason| reason.as_str() == request.reason);
    let reason = reason.ok_or_else(|| {
        let may: Vec<&str> = may_give(&call.app).map(Reason::as_str).collect();
        malformed(format!("reason: must be one of {}", may.join(", ")))
    })?;
    let verdict = if request.replace { Verdict::Replaced } else { Verdict::Withheld };
    let print =
        fingerprint(&call).piece(call.parameter.as_bytes()).piece(request.reason.as_bytes()).number(verdict as u64);
    judged(call, verdict, reason, print.under(key)).await
}

/// `POST /v1/certificates/{certificate}/release`
pub(crate) async fn release(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    read_nothing(&mut call).await?;
    let print = fingerprint(&call).piece(call.parameter.as_bytes());
    judged(call, Verdict::Released, Reason::Error, print.under(key)).await
}

async fn judged(
    call: Call,
    verdict: Verdict,
    reason: Reason,
    idempotency: berth_engine::Idempotency,
) -> Result<Response<ResponseBody>, Problem> {
    let (id, _) = reached(&call)?;
    if call.caller().role != Role::Admin && call.app.registration.is_some() {
        let detail =
            "people register here: what is wrong with a record is corrected, and the administration ends certificates";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    seen_all(&call).await?;
    let done = blocking(&call.app, {
        let id = id.clone();
        move |app, desk| {
            let now = app.campaign.engine.now();
            desk.register.judge(&id, verdict, reason, idempotency, now).map_err(|error| match error {
                NotDone::Unknown(_) => unknown(id.as_str()),
                NotDone::Ended(_) => Problem::new(Code::CertificateEnded, error.to_string()),
                NotDone::Stands(_) | NotDone::TooMany(_) => Problem::new(Code::CertificateStands, error.to_string()),
                NotDone::Refused(refusal) => problem::refused(&refusal, &app.names()),
                NotDone::Failed(failure) => problem::failed(&failure),
                NotDone::Store(error) => store::failed(&error),
            })
        }
    })
    .await?;
    safe(&call.app, call.ack, done.seq).await?;
    store::reached(&call.app, done.seq).await?;
    let stands = blocking(&call.app, move |app, desk| {
        if !desk.register.did(&done).map_err(|error| store::failed(&error))? {
            let detail = format!("the record behind certificate {id} changed meanwhile: look at what stands now");
            return Err(Problem::new(Code::CertificateEnded, detail));
        }
        let found = desk.register.of_dose(done.booking).map_err(|error| store::failed(&error))?;
        found.map(|one| told(app, &one)).ok_or_else(|| unknown(id.as_str()))
    })
    .await?;
    let mut response = respond(StatusCode::OK, Media::Json, stands.to_string());
    if done.replayed {
        mark_replayed(&mut response);
    }
    Ok(response)
}
