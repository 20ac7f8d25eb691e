//! Between the table of endpoints and a route: who asks, whether their role may, whether it is within their rate, and that
//! it can be audited. What is found on the way is told when the answer is there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Method, Response, StatusCode};

use crate::access::{AccountId, Caller, Role, Seen, Waits, account_id, wrong_role};
use crate::app::App;
use crate::audit::{CameTo, Line, Record, Whom, who};
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::rates::{Charged, Class};
use crate::router::{Endpoint, Route};
use crate::trace::Trace;

/// By which a platform says for whom it asks.
const ACCOUNT: &str = "berth-account";
/// By which somebody says why they ask.
const REASON: &str = "berth-reason";
const REASON_BYTES: std::ops::RangeInclusive<usize> = 3..=200;
/// The longest account.
const ACCOUNT_BYTES_MAX: usize = 128;

/// Who asks, as the route needs to know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Who {
    /// Nobody where no key is needed.
    pub(crate) caller: Option<Arc<Caller>>,
    /// A citizen's account, or the one a platform names.
    pub(crate) account: Option<AccountId>,
}

/// A request at the gate.
pub(crate) struct Asked<'a> {
    pub(crate) endpoint: &'static Endpoint,
    /// What stands at the template's parameters, as sent.
    pub(crate) parameters: &'a [&'a str],
    pub(crate) headers: &'a HeaderMap,
    pub(crate) trace: &'a Trace,
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    pub(crate) now: Instant,
}

/// What is to be told when the answer is there.
#[derive(Default)]
pub(crate) struct Gate<'a> {
    charged: Option<Charged>,
    line: Option<Line<'a>>,
}

impl<'a> Gate<'a> {
    /// Lets a request through, or says why not. `seen` is what [`recognise`] found, where a key is needed.
    pub(crate) async fn pass(&mut self, app: &'a App, asked: &Asked<'_>, seen: Option<Seen>) -> Result<Who, Problem> {
        let Asked { endpoint, headers, peer, now, .. } = *asked;
        let class = class_of(endpoint);
        if endpoint.roles.is_empty() {
            if let Some(class) = class.filter(|_| app.rates.is_on()) {
                self.charged = charge_anybody(app, class, asked).await?;
            }
            return Ok(Who::default());
        }
        let caller = match seen {
            Some(Seen::Known(caller)) => caller,
            Some(Seen::Token) => verify(app, headers, (peer, now), false).await?,
            None => identify(app, headers, peer, now).await?,
        };
        let account = account_of(&caller, headers)?;
        // Before the audit log: who asks too often fills nothing.
        if let Some(class) = class.filter(|_| app.rates.is_on()) {
            self.charged = app.rates.charge_known(&caller, account.as_ref(), class, now)?;
        }
        self.reserve(app, &caller, asked)?;
        if !endpoint.roles.contains(&caller.role) {
            return Err(wrong_role(caller.role, endpoint.roles));
        }
        Ok(Who { caller: Some(caller), account })
    }

    /// Room in the audit log, before anything is done.
    fn reserve(&mut self, app: &'a App, caller: &Caller, asked: &Asked<'_>) -> Result<(), Problem> {
        let Asked { endpoint, parameters, trace, headers, .. } = *asked;
        let reason = if endpoint.is_of_people() { reason(headers)? } else { None };
        let Some(audit) = app.audit.as_ref().filter(|_| is_audited(endpoint, caller.role)) else {
            return Ok(());
        };
        // Whoever sees somebody's record, or changes it for them, is written down or does not do it.
        let must = endpoint.is_of_people() && caller.role != Role::Citizen;
        let Some(reserved) = audit.reserve(caller.role, must)? else { return Ok(()) };
        let now = i64::try_from(app.campaign.engine.now().0).ok();
        let record = Record {
            at: now.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default(),
            trace: trace.id().to_string(),
            role: caller.role.as_str(),
            who: who(caller),
            method: endpoint.method_name(),
            route: endpoint.template,
            whom: Whom::of(app, endpoint, parameters),
            reason,
            status: 0,
            outcome: "",
        };
        self.line = Some(reserved.begin(record));
        Ok(())
    }

    /// Tells the client of its rate, and the audit log how it ended.
    pub(crate) fn tell(self, response: &mut Response<ResponseBody>, refused: Option<Code>) {
        if let Some(charged) = self.charged {
            charged.tell(response.headers_mut());
        }
        let came_to = response.extensions_mut().remove::<CameTo>();
        if let Some(mut line) = self.line {
            if let Some(came_to) = came_to {
                line.came_to(came_to);
            }
            line.end(response.status().as_u16(), refused.map_or("ok", Code::as_str));
        }
    }
}

/// Whoever asks where nobody needs a key is charged as what they are, or else as their address.
async fn charge_anybody(app: &App, class: Class, asked: &Asked<'_>) -> Result<Option<Charged>, Problem> {
    let Asked { headers, peer, now, .. } = *asked;
    if headers.contains_key(AUTHORIZATION) {
        // A key that opens nothing is nobody's, and here nobody may ask, too.
        if let Ok(caller) = identify(app, headers, peer, now).await {
            let account = account_of(&caller, headers)?;
            return app.rates.charge_known(&caller, account.as_ref(), class, now);
        }
    }
    app.rates.charge_address(app.rates.client(peer, headers), class, now)
}

/// Who asks.
async fn identify(app: &App, headers: &HeaderMap, peer: IpAddr, now: Instant) -> Result<Arc<Caller>, Problem> {
    match recognise(app, headers, peer, now)? {
        Seen::Known(caller) => Ok(caller),
        Seen::Token => verify(app, headers, (peer, now), false).await,
    }
}

/// What a head says of who asks, before there is a place for it: a digest and a lookup.
pub(crate) fn recognise(app: &App, headers: &HeaderMap, peer: IpAddr, now: Instant) -> Result<Seen, Problem> {
    let found = app.access.recognise(headers, app.campaign.engine.now());
    found.map_err(|problem| charged(app, problem, headers, peer, now))
}

/// Who bears a token that was not verified yet. `settles`: with the code of a live claim, which waits for nobody.
pub(crate) async fn verify(
    app: &App,
    headers: &HeaderMap,
    (peer, now): (IpAddr, Instant),
    settles: bool,
) -> Result<Arc<Caller>, Problem> {
    let (rates, at) = (&app.rates, app.campaign.engine.now());
    let waits = || match settles {
        true => Waits::ForNobody,
        false if !rates.is_on() || rates.may_try(rates.client(peer, headers), now) => Waits::ItsTurn,
        false => Waits::NotAtAll,
    };
    let found = app.access.verify(headers, at, waits).await;
    found.map_err(|problem| charged(app, problem, headers, peer, now))
}

/// What opens nothing is charged to the address it came from; who has sent too much of it is told that instead.
fn charged(app: &App, problem: Problem, headers: &HeaderMap, peer: IpAddr, now: Instant) -> Problem {
    let rates = &app.rates;
    let opens_nothing = problem.code().status() == StatusCode::UNAUTHORIZED && headers.contains_key(AUTHORIZATION);
    if !rates.is_on() || !opens_nothing {
        return problem;
    }
    rates.charge_address(rates.client(peer, headers), Class::Refused, now).err().unwrap_or(problem)
}

/// The account a request is for: a citizen's own, whatever else is said; a platform says for whom it asks.
fn account_of(caller: &Caller, headers: &HeaderMap) -> Result<Option<AccountId>, Problem> {
    match caller.role {
        Role::Citizen => Ok(Some(*caller.id())),
        Role::Platform => {
            let mut values = headers.get_all(ACCOUNT).iter();
            let Some(value) = values.next() else { return Ok(None) };
            let text = value.to_str().ok().filter(|text| values.next().is_none() && is_account(text));
            text.map(|text| Some(account_id(text))).ok_or_else(|| no_account("Berth-Account"))
        }
        Role::Public | Role::Operator | Role::Admin => Ok(None),
    }
}

/// Whether `text` can name an account.
pub(crate) fn is_account(text: &str) -> bool {
    (1..=ACCOUNT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The no to what cannot name one.
pub(crate) fn no_account(place: &str) -> Problem {
    let detail = format!("{place}: must be one of 1 to {ACCOUNT_BYTES_MAX} visible ASCII characters");
    Problem::new(Code::MalformedRequest, detail)
}

/// Why somebody asks for a person whom they help, or for a record in whole; it stands in the audit log.
pub(crate) fn reason(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(REASON).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().map(str::trim).filter(|_| values.next().is_none());
    let text = text.filter(|text| REASON_BYTES.contains(&text.len()));
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        let (min, max) = (REASON_BYTES.start(), REASON_BYTES.end());
        let detail = format!("Berth-Reason: must be one of {min} to {max} visible ASCII characters and blanks");
        Problem::new(Code::MalformedRequest, detail)
    })
}

/// The reason, where nothing is done without one.
pub(crate) fn reason_needed(headers: &HeaderMap) -> Result<(), Problem> {
    let missing = || Problem::new(Code::ReasonMissing, "this needs a Berth-Reason header: it stands in the audit log");
    reason(headers)?.map(|_| ()).ok_or_else(missing)
}

/// What an endpoint is, as far as rates go; `None`: it has none.
fn class_of(endpoint: &Endpoint) -> Option<Class> {
    match endpoint.route {
        Route::Healthz | Route::Readyz | Route::Metrics | Route::Version => None,
        // Who was let hold may settle it.
        Route::Confirm | Route::Release => None,
        Route::Hold | Route::Book | Route::BulkBookings => Some(Class::Hold),
        _ if endpoint.roles.is_empty() => Some(Class::Search),
        _ => Some(Class::Other),
    }
}

/// Every read of a person, and everything that admins and operators do.
fn is_audited(endpoint: &Endpoint, role: Role) -> bool {
    // What is known of a party says what it may have, and whose record it is, who they are: whoever changes that is on record, too.
    let of_facts =
        matches!(endpoint.route, Route::ChangeFacts | Route::BulkParties | Route::Invite | Route::WithdrawInvitations);
    let of_people = of_facts || endpoint.is_of_people();
    endpoint.method == Method::GET || of_people || matches!(role, Role::Admin | Role::Operator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Scope;
    use crate::router::TABLE;

    #[test]
    fn an_account_is_a_citizens_own_or_the_one_a_platform_names() {
        let caller = |role| match role {
            Role::Citizen => Caller::of_account(role, "asha", Scope::Everything),
            _ => Caller::of_key(role, "asha", Scope::Everything),
        };
        let of = |role, values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCOUNT, value.parse().unwrap());
            }
            account_of(&caller(role), &headers).map_err(|problem| problem.code())
        };
        assert_eq!(of(Role::Citizen, &[]), Ok(Some(account_id("asha"))));
        assert_eq!(of(Role::Citizen, &["ravi"]), Ok(Some(account_id("asha"))), "nobody names another's");
        assert_eq!(of(Role::Platform, &[]), Ok(None));
        assert_eq!(of(Role::Platform, &["asha"]), Ok(Some(account_id("asha"))), "the same, however it comes");
        assert_eq!(of(Role::Operator, &["asha"]), Ok(None));
        let long = "x".repeat(129);
        for bad in [&["a", "b"][..], &[""], &["a b"], &[&long]] {
            assert_eq!(of(Role::Platform, bad), Err(Code::MalformedRequest), "{bad:?}");
        }
    }

    #[test]
    fn settling_a_hold_and_probing_have_no_rate() {
        let free: Vec<_> = TABLE.iter().filter(|row| class_of(row).is_none()).map(|row| row.template).collect();
        assert_eq!(
            free,
            ["/v1/holds/{hold}/confirm", "/v1/holds/{hold}/release", "/healthz", "/readyz", "/metrics", "/version"]
        );
        let class = |template: &str| TABLE.iter().find(|row| row.template == template).and_then(class_of);
        assert_eq!(class("/v1/availability"), Some(Class::Search));
        assert_eq!((class("/v1/holds"), class("/v1/export")), (Some(Class::Hold), Some(Class::Other)));
    }
}
