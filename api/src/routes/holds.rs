//! Setting units aside, and what becomes of them.

use std::time::Duration;

use berth_engine::{Command, Idempotency, Outcome, Submitted};
use hyper::Response;

use super::{apply, claims_of, execute, fingerprint, key, parse, read_json, read_nothing, settled, told, with_claims};
use crate::access::{AccountId, Admitted};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::Call;
use crate::wire::HoldRequest;

/// `POST /v1/holds`
pub(crate) async fn hold(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let HoldRequest { claims, ttl_seconds } = parse(&body)?;
    let (ttl, asked) = ttl(&call.app, ttl_seconds)?;
    let claims = claims_of(&call.app, call.caller(), &claims)?;
    let idempotency = with_claims(fingerprint(&call).number(asked), &claims).under(key);
    let app = &call.app;
    let admitted = admitted(app, call.account(), idempotency)?;
    let submitted = apply(app, Command::Hold { claims: &claims, ttl }, idempotency)?;
    made(admitted, &submitted);
    let submitted = settled(app, call.ack, submitted).await?;
    told(app, call.sight(), &submitted).await
}

/// Lets an account hold once more, if the hold is for one.
pub(super) fn admitted<'a>(
    app: &'a App,
    account: Option<&AccountId>,
    idempotency: Idempotency,
) -> Result<Option<Admitted<'a>>, Problem> {
    let engine = &app.campaign.engine;
    // A repeat is answered as the first time, whatever the account holds by now.
    let first = account.filter(|_| engine.repeat_of(idempotency).is_none());
    first.map_or(Ok(None), |account| app.accounts.admit(*account, engine, &app.names(), engine.now()))
}

/// Tells the account what came of the hold that it was let make.
pub(super) fn made(admitted: Option<Admitted<'_>>, submitted: &Submitted) {
    if let (Some(admitted), Ok(Outcome::Held { claims, .. })) = (admitted, &submitted.result)
        && let Some(first) = claims.first().filter(|_| !submitted.replayed)
    {
        admitted.made(first.number);
    }
}

/// How long a hold is to live, and what of that its fingerprint sees.
pub(super) fn ttl(app: &App, ttl_seconds: Option<u32>) -> Result<(Duration, u64), Problem> {
    if ttl_seconds == Some(0) {
        return Err(Problem::new(Code::MalformedRequest, "ttl_seconds: must be at least 1"));
    }
    let longest = app.campaign.programme.get().hold_ttl();
    let ttl = ttl_seconds.map_or(longest, |seconds| Duration::from_secs(seconds.into()));
    // As asked, not as capped: the programme's hold time may change between a request and its repeat.
    Ok((ttl, ttl_seconds.map_or(u64::MAX, u64::from)))
}

/// `POST /v1/holds/{hold}/confirm`
pub(crate) async fn confirm(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    read_nothing(&mut call).await?;
    let hold = call.app.names().parse_booking(&call.parameter)?;
    call.caller().may_touch_hold(hold, &call.app)?;
    let idempotency = fingerprint(&call).number(hold.0).under(key);
    execute(&call.app, call.ack, call.sight(), Command::Confirm { hold }, idempotency).await
}

/// `POST /v1/holds/{hold}/release`
pub(crate) async fn release(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    read_nothing(&mut call).await?;
    let hold = call.app.names().parse_booking(&call.parameter)?;
    call.caller().may_touch_hold(hold, &call.app)?;
    let idempotency = fingerprint(&call).number(hold.0).under(key);
    execute(&call.app, call.ack, call.sight(), Command::Release { hold }, idempotency).await
}
