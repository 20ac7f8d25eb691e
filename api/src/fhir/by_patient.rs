//! A search for what is of one party: what Appointments and Immunizations have in common.

use hyper::{Response, StatusCode};

use super::bundle::{self, Bundle};
use super::query::{PATIENT, Params, Span};
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, respond};

/// What is asked for.
pub(super) struct ByPatient {
    /// As it came; whose it is has yet to be found out.
    pub(super) party: String,
    statuses: Vec<String>,
    pub(super) span: Span,
    pub(super) params: Params,
}

impl ByPatient {
    /// Reads the query; `statuses` are all that there are.
    pub(super) fn parse(call: &Call, statuses: &[&str]) -> Result<ByPatient, Problem> {
        let mut params = Params::read(call.query.as_deref(), &[PATIENT[0], PATIENT[1], "status", "date"]);
        if PATIENT.into_iter().filter_map(|name| params.one(name)).count() != 1 {
            params.fault("patient: give one, as Patient/p1.17");
        }
        let wanted = params.list("status");
        if wanted.iter().any(|status| !statuses.contains(&status.as_str())) {
            params.fault(format!("status: must be of {}", statuses.join(" ")));
        }
        let span = params.span("date", call.app.campaign.programme.calendar());
        params.checked()?;
        let party = super::patient(call.endpoint, call.query.as_deref()).unwrap_or_default();
        Ok(ByPatient { party, statuses: wanted, span, params })
    }

    /// Whether something of this status is asked for.
    pub(super) fn wants(&self, status: &str) -> bool {
        self.statuses.is_empty() || self.statuses.iter().any(|wanted| wanted == status)
    }

    /// Behind what an earlier page ended, by `read`, which reads ids.
    pub(super) fn after<T>(&self, read: impl Fn(&str) -> Result<T, Problem>) -> Result<Option<T>, Problem> {
        self.params.after.as_deref().map(|id| read(id).map_err(|_| bad_cursor())).transpose()
    }

    /// The page; `behind`: the id behind which the next one begins.
    pub(super) fn answer(
        &self,
        call: &Call,
        bundle: Bundle<'_>,
        total: Option<usize>,
        behind: Option<String>,
    ) -> Response<ResponseBody> {
        let next = behind.map(|id| self.params.after(Some(&id)));
        let mut body = bundle::head(&call.app.names().time(call.app.campaign.engine.now()));
        body.extend(bundle.finish(total, &self.params.spelled(), next.as_deref()));
        respond(StatusCode::OK, call.gives, body)
    }
}

/// The no to a page behind what no page ended with.
pub(super) fn bad_cursor() -> Problem {
    Problem::new(Code::MalformedRequest, "_after: is none that an answer gave")
}
