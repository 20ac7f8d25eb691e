//! Probes, metrics, version: answered whatever the load and to the last moment.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::app::App;
use crate::body::ResponseBody;
use crate::metrics::{self, Looked};
use crate::router::{Media, respond};

/// `GET /healthz`: the process answers.
pub(crate) fn healthz() -> Response<ResponseBody> {
    respond(StatusCode::OK, Media::Json, r#"{"status":"ok"}"#)
}

/// `GET /readyz`: send requests here. No when stopping, and no when the journal or the expiry of holds has stopped.
pub(crate) async fn readyz(app: &App) -> Response<ResponseBody> {
    match app.not_ready() {
        // Reads, cancellations and releases are still served.
        None if app.campaign.engine.stats().journal_starved != 0 => {
            respond(StatusCode::OK, Media::Json, r#"{"status":"ready","reason":"journal_starved"}"#)
        }
        // Who must be audited is refused, and the others are served.
        None if app.audit.as_ref().is_some_and(|audit| audit.stats().dead) => {
            respond(StatusCode::OK, Media::Json, r#"{"status":"ready","reason":"audit_stopped"}"#)
        }
        None if app.disk_is_low().await => {
            respond(StatusCode::OK, Media::Json, r#"{"status":"ready","reason":"disk_low"}"#)
        }
        None => respond(StatusCode::OK, Media::Json, r#"{"status":"ready"}"#),
        Some(reason) => {
            let body = json!({"status": "not ready", "reason": reason}).to_string();
            respond(StatusCode::SERVICE_UNAVAILABLE, Media::Json, body)
        }
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(app: &Arc<App>) -> Response<ResponseBody> {
    let host = app.host.sample(&app.data_dir, Duration::ZERO).await;
    let looked = Looked { host, units: app.units.totals(app).await };
    let mut response = respond(StatusCode::OK, Media::Text, metrics::page(app, &looked));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Media::Text.content_type()));
    response
}

/// `GET /version`
pub(crate) fn version(app: &App) -> Response<ResponseBody> {
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "fault": berth_engine::fault::planted_here(),
        "cell": app.cell.0,
        "epoch": app.epoch.0,
    });
    respond(StatusCode::OK, Media::Json, body.to_string())
}

/// `GET /openapi.json`
pub(crate) fn openapi(app: &App) -> Response<ResponseBody> {
    respond(StatusCode::OK, Media::Json, app.document().json.clone())
}

/// `GET /docs`
pub(crate) fn docs(app: &App) -> Response<ResponseBody> {
    let mut response = respond(StatusCode::OK, Media::Html, app.document().page.clone());
    // The page has no script and loads nothing; nor may anything that finds its way into it.
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert("content-security-policy", HeaderValue::from_static(policy));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
