//! Admission as an operator sees and changes it, while the server runs.

use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::{parse, read_json};
use crate::admission::{Class, Entry, Reason};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, Media, respond};

/// `GET /v1/admin/admission`
pub(crate) fn read(app: &App) -> Response<ResponseBody> {
    let settings = app.admission.settings();
    let state = app.admission.state();
    let by_class = |value: &dyn Fn(usize) -> Value| -> Map<String, Value> {
        Class::ALL.iter().map(|class| (class.as_str().to_owned(), value(*class as usize))).collect()
    };
    let sheds = |class: usize| -> Value {
        let reasons = Reason::ALL.iter().zip(&state.sheds[class]);
        Value::Object(reasons.map(|(reason, count)| (reason.as_str().to_owned(), (*count).into())).collect())
    };
    let body = json!({
        "settings": {
            "mode": settings.mode,
            "target_delay_ms": u64::try_from(settings.target_delay.as_millis()).unwrap_or(u64::MAX),
            "limit_min": settings.limit_min,
            "limit_max": settings.limit_max,
            "queue_max": settings.queue_max,
            "queue_time_ms": u64::try_from(settings.queue_time.as_millis()).unwrap_or(u64::MAX),
            "gate_connections": settings.gate_connections,
            "shed": settings.shed.iter().map(|class| class.as_str()).collect::<Vec<_>>(),
        },
        "state": {
            "limit": (state.limit != usize::MAX).then_some(state.limit),
            "at_work": state.at_work,
            "strained": state.strained,
            "delay_ms": state.delay.as_secs_f64() * 1000.0,
            "waiting": by_class(&|class| state.waiting[class].into()),
            "running": by_class(&|class| state.running[class].into()),
            "admitted": by_class(&|class| state.admitted[class].into()),
            "sheds": by_class(&sheds),
        },
    });
    respond(StatusCode::OK, Media::Json, body.to_string())
}

/// `PATCH /v1/admin/admission`: what is not named stays. Until the next start; the configuration is for longer.
pub(crate) async fn change(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let body = read_json(&mut call).await?;
    let entry: Entry = parse(&body)?;
    let admission = &call.app.admission;
    let settings = admission.change(|in_force| entry.over(in_force)).map_err(|wrong| {
        let faults: Vec<_> = wrong.iter().map(|(field, reason)| format!("{field}: {reason}")).collect();
        Problem::new(Code::MalformedRequest, faults.join("; "))
    })?;
    tracing::info!(?settings, trace_id = %call.trace.id(), "admission was changed at run time");
    Ok(read(&call.app))
}
