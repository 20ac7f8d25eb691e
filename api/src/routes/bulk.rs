//! Publishing regions, centres and sessions from NDJSON, all lines or none.

use std::sync::Arc;

use berth_programme::{BulkKind, PublishError, Published};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::{fingerprint, key, mark_replayed, safe};
use crate::app::App;
use crate::body::{self, ResponseBody};
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, Route, respond};

/// `POST /v1/regions`, `/v1/centres`, `/v1/sessions`
pub(crate) async fn publish(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let kind = match call.endpoint.route {
        Route::PublishRegions => BulkKind::Regions,
        Route::PublishCentres => BulkKind::Centres,
        _ => BulkKind::Sessions,
    };
    let busy = || Problem::new(Code::Overloaded, "too many bulk requests are waiting for their turn");
    let wait = Arc::clone(&call.app.bulk).acquire_owned();
    let permit =
        tokio::time::timeout(call.app.limits.body_time, wait).await.map_err(|_| busy())?.map_err(|_| busy())?;
    let body = super::read_body(&mut call, body::BULK_BYTES_MAX).await?;
    // White space after the last line is no part of what is published.
    let idempotency = fingerprint(&call).piece(body.trim_ascii_end()).under(key);
    let app = Arc::clone(&call.app);
    // On a thread of its own: checking eight megabytes of lines takes a while, and the publish runs to its end
    // also when the client is gone. The permit goes with it, so that draining waits for it.
    let work = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let now = app.campaign.engine.now();
        app.campaign.publisher.publish(kind, &body, Some(idempotency), now)
    });
    let published = work.await.expect("publishing does not panic, and nobody cancels it");
    let published = published.map_err(|error| unpublished(&call.app, &error))?;
    // Searches show only what is durable, so a publish is always that; here is for who asked for more.
    let engine = &call.app.campaign.engine;
    let seq = engine.outcome(idempotency.key).map_or_else(|| engine.appended(), |outcome| outcome.seq);
    safe(&call.app, call.ack, seq).await?;
    let mut response = respond(StatusCode::OK, Media::Json, answer(&published).to_string());
    if published.replayed {
        call.app.metrics.replayed();
        mark_replayed(&mut response);
    }
    Ok(response)
}

fn unpublished(app: &App, error: &PublishError) -> Problem {
    match error {
        PublishError::Lines(faults) => problem::invalid_lines(faults),
        PublishError::Refused(refusal) => problem::refused(refusal, &app.names()),
        PublishError::Failed(failure) => problem::failed(failure),
    }
}

/// Regions and centres make no slots, sessions always do.
pub(super) fn answer(published: &Published) -> Value {
    if published.slots == 0 {
        json!({"published": published.lines})
    } else {
        json!({"published": published.lines, "slots": published.slots})
    }
}
