//! Supply over HTTP: batches, what moves between stocks, who was given what, and what became of it.
//!
//! An admin acts anywhere, an operator for its own centres. What is said of a batch to an operator is what lies at its centres. A
//! platform has nothing to do with it.

pub(crate) mod batches;
pub(crate) mod report;
pub(crate) mod stock;
pub(crate) mod trace;

use std::sync::Arc;

use berth_engine::Seq;
use berth_programme::supply::{Done, Ledger, SupplyError};
use hyper::Response;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{Fingerprint, mark_replayed, safe};
use crate::ack::AckMode;
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::store;
use crate::wire::{Names, numbered};

fn ledger(app: &App) -> Result<&Arc<Ledger>, Problem> {
    app.ledger.as_ref().ok_or_else(store::unavailable)
}

/// A page of a list: where it begins, and how much is shown.
struct Page {
    after: String,
    limit: usize,
}

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

impl Page {
    /// What a call asks for; `other` takes what it knows of the other parameters.
    fn of(call: &Call, mut other: impl FnMut(&str, &str) -> Result<bool, Problem>) -> Result<Page, Problem> {
        let mut page = Page { after: String::new(), limit: LIMIT_DEFAULT };
        let malformed = |detail: String| Problem::new(Code::MalformedRequest, detail);
        for (name, value) in form_urlencoded::parse(call.query.as_deref().unwrap_or("").as_bytes()) {
            match &*name {
                "after" => page.after = value.into_owned(),
                "limit" => {
                    let found = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    page.limit = found.ok_or_else(|| malformed(format!("limit: must be from 1 to {LIMIT_MAX}")))?;
                }
                name if other(name, &value)? => {}
                other => return Err(malformed(format!("{other:?} is not a parameter of this list"))),
            }
        }
        Ok(page)
    }

    /// Of one more than is shown: those that are, and the last of them if there are more.
    fn cut<T>(&self, mut rows: Vec<T>) -> (Vec<T>, bool) {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        (rows, more)
    }
}

/// What goes wrong with supply, as a problem.
fn of_error(app: &App, error: &SupplyError) -> Problem {
    let problem = |code| Problem::new(code, error.to_string());
    match error {
        SupplyError::Faults(_) => problem(Code::MalformedRequest),
        SupplyError::UnknownBatch(_) => problem(Code::UnknownBatch),
        SupplyError::BatchThere(_) => problem(Code::BatchExists),
        SupplyError::UnknownTransfer(_) => problem(Code::UnknownTransfer),
        SupplyError::TransferOver(_) => problem(Code::TransferOver),
        SupplyError::NoStock { batch, centre, on_hand, .. } => {
            problem(Code::NoStock).with("batch", batch.clone()).with("centre", centre.clone()).with("on_hand", *on_hand)
        }
        // What others received is nothing for an operator.
        SupplyError::BeyondBatch { batch, quantity, .. } => {
            problem(Code::BeyondBatch).with("batch", batch.clone()).with("quantity", *quantity)
        }
        SupplyError::BelowReceived { batch, received, .. } => {
            problem(Code::BeyondBatch).with("batch", batch.clone()).with("received", *received)
        }
        SupplyError::RecallState(_) => problem(Code::RecallState),
        SupplyError::Recalled(batch) => problem(Code::BatchRecalled).with("batch", batch.clone()),
        SupplyError::Refused(refusal) => problem::refused(refusal, &app.names()),
        SupplyError::Failed(failure) => problem::failed(failure),
        SupplyError::Store(error) => store::failed(error),
    }
}

/// Does something that may block, on a thread where that is welcome.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App, &Ledger) -> Result<T, SupplyError> + Send + 'static,
) -> Result<T, Problem> {
    let (ledger, owned) = (Arc::clone(ledger(app)?), Arc::clone(app));
    let done = tokio::task::spawn_blocking(move || work(&owned, &ledger)).await;
    let error = match done.map_err(|_| store::unavailable())? {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    // rule: IDM-2 a no may rest on what is not durable yet
    safe(app, AckMode::Disk, app.campaign.engine.appended()).await?;
    Err(of_error(app, &error))
}

/// Waits until what was done may be shown, and reads see it.
async fn shown(call: &Call, done: Done) -> Result<(), Problem> {
    safe(&call.app, call.ack, done.seq).await?;
    // The store has what is durable, also where the answer to a write was not waited for.
    safe(&call.app, AckMode::Disk, done.seq).await?;
    store::reached(&call.app, done.seq).await?;
    if done.replayed {
        call.app.metrics.replayed();
    }
    Ok(())
}

/// Waits until reads see what is durable now.
async fn current(app: &App) -> Result<(), Problem> {
    store::reached(app, app.campaign.engine.durable()).await
}

fn answer(status: hyper::StatusCode, body: &Value, replayed: bool) -> Response<ResponseBody> {
    let mut response = respond(status, Media::Json, body.to_string());
    if replayed {
        mark_replayed(&mut response);
    }
    response
}

/// The fingerprint of a call with this body: also of what stands in its path.
fn print(call: &Call, body: &[u8]) -> Fingerprint {
    super::fingerprint(call).piece(call.parameter.as_bytes()).piece(body.trim_ascii())
}

/// The batch of a path. A slash in it comes as `%2F`.
fn batch_of(call: &Call) -> Result<String, Problem> {
    let text = percent_decode_str(&call.parameter).decode_utf8();
    let text = text.ok().filter(|text| berth_programme::doses::note::is_batch(text));
    text.map(std::borrow::Cow::into_owned).ok_or_else(|| {
        let shown: String = call.parameter.chars().take(80).collect();
        Problem::new(Code::UnknownBatch, format!("there is no batch {shown}"))
    })
}

fn transfer_name(names: &Names<'_>, transfer: Seq) -> String {
    format!("t{}.{}", names.cell, transfer.0)
}

/// The transfer of a path; another cell's is unknown here.
fn transfer_of(call: &Call) -> Result<Seq, Problem> {
    let shown: String = call.parameter.chars().take(80).collect();
    let unknown = || Problem::new(Code::UnknownTransfer, format!("there is no transfer {shown}"));
    let (cell, number) = numbered(&call.parameter, 't').ok_or_else(unknown)?;
    if cell == call.app.cell { Ok(Seq(number)) } else { Err(unknown()) }
}

/// A day, as it stands in requests.
fn date(key: &str, text: &str) -> Result<jiff::civil::Date, Problem> {
    let date = Some(text).filter(|text| text.len() == 10).and_then(|text| text.parse().ok());
    date.ok_or_else(|| Problem::new(Code::MalformedRequest, format!("{key}: must be a date as 2026-12-31")))
}

fn product_name(app: &App, product: berth_engine::ProductId) -> Value {
    app.campaign.programme.get().product(product).map_or(Value::Null, |product| json!(product.id))
}
