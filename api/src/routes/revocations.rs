//! Revoking a token before it expires.

use std::sync::Arc;

use hyper::{Response, StatusCode};

use super::bookings::json;
use super::{parse, read_json};
use crate::access::NotKept;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, Media, respond};
use crate::wire::RevocationRequest;

/// The longest token id.
const JTI_BYTES_MAX: usize = 128;

/// `POST /v1/admin/revocations`: a repeat changes nothing, so it needs no `Idempotency-Key`.
pub(crate) async fn revoke(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(serde::Serialize)]
    struct Answer {
        jti: String,
        until: String,
        kept: &'static str,
    }
    let body = read_json(&mut call).await?;
    let RevocationRequest { jti } = parse(&body)?;
    let jti = jti.into_owned();
    if !(1..=JTI_BYTES_MAX).contains(&jti.len()) || jti.chars().any(char::is_control) {
        let detail = format!("jti: must be 1 to {JTI_BYTES_MAX} bytes without control characters");
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    let app = Arc::clone(&call.app);
    let now = app.campaign.engine.now();
    // Nobody says whose token it is, and an id is nobody else's: it is revoked with each issuer.
    let Some(until) = app.access.issuers().map(|tokens| tokens.all_over(now)).max() else {
        return Err(Problem::new(Code::NotFound, "this server takes no tokens"));
    };
    let kept = if app.access.issuers().all(|tokens| tokens.revoked.file().is_some()) { "file" } else { "memory" };
    let answer = Answer { jti: jti.clone(), until: app.names().time(until), kept };
    let app = Arc::clone(&call.app);
    let revoking = tokio::task::spawn_blocking(move || {
        app.access.issuers().try_for_each(|tokens| tokens.revoked.revoke(&jti, until, now))
    });
    match revoking.await.expect("revoking does not panic, and nobody cancels it") {
        Ok(()) => Ok(respond(StatusCode::OK, Media::Json, json(&answer))),
        Err(NotKept::Full) => Err(Problem::new(Code::TooMany, "too many tokens are revoked: change the issuer's key")),
        Err(NotKept::InMemoryOnly(why)) => {
            tracing::error!(%why, "a revocation could not be written down");
            let detail = "it is in force until this server stops, but could not be written down: repeat it";
            Err(Problem::new(Code::RevocationNotKept, detail))
        }
    }
}
