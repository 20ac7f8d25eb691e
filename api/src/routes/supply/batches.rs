//! Batches: made known, shown with where they lie, recalled, and let go again.

use berth_engine::ProductId;
use berth_programme::supply::{BatchRow, BatchSpec, Lot, Waste};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{key, parse, read_json};
use super::{answer, batch_of, blocking, current, date, ledger, print, product_name, shown};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, Route};
use crate::store;

/// Centres of one answer. A batch that lies at more tells of the first, and its sums are of all.
const CENTRES_SHOWN_MAX: usize = 1000;
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// `POST /v1/batches`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchRequest {
    id: String,
    product: String,
    quantity: u64,
    expires: String,
    #[serde(default)]
    manufacturer: Option<String>,
    #[serde(default)]
    doses_per_vial: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonRequest {
    reason: String,
}

/// `POST /v1/batches`
pub(crate) async fn make(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let asked: BatchRequest = parse(&body)?;
    let app = &call.app;
    let product = app.campaign.programme.get().product_number(&asked.product);
    let product = product
        .ok_or_else(|| Problem::new(Code::MalformedRequest, "product: is none of the programme's"))
        .map(|ProductId(number)| number)?;
    let spec = BatchSpec {
        id: asked.id.clone(),
        product,
        quantity: asked.quantity,
        expires: date("expires", &asked.expires)?,
        manufacturer: asked.manufacturer.unwrap_or_default(),
        doses_per_vial: asked.doses_per_vial,
    };
    let (idempotency, now) = (print(&call, &body).under(key), app.campaign.engine.now());
    let made = json!({"id": spec.id, "product": asked.product, "quantity": spec.quantity, "expires": asked.expires});
    let done = blocking(app, move |_, ledger| ledger.make_batch(spec, idempotency, now)).await?;
    shown(&call, done).await?;
    Ok(answer(StatusCode::CREATED, &made, done.replayed))
}

/// `POST /v1/batches/{batch}/recall` and `/lift-recall`
pub(crate) async fn recall(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let ReasonRequest { reason } = parse(&body)?;
    let batch = batch_of(&call)?;
    let (idempotency, now) = (print(&call, &body).under(key), call.app.campaign.engine.now());
    let recalls = call.endpoint.route == Route::RecallBatch;
    let told = json!({"batch": batch, "recalled": recalls, "reason": reason});
    let done = blocking(&call.app, move |_, ledger| {
        if recalls {
            ledger.recall(&batch, &reason, idempotency, now)
        } else {
            ledger.lift_recall(&batch, &reason, idempotency, now)
        }
    });
    let done = done.await?;
    shown(&call, done).await?;
    Ok(answer(StatusCode::OK, &told, done.replayed))
}

/// `GET /v1/batches`: in the order of their numbers.
pub(crate) async fn list(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (mut after, mut limit) = (String::new(), LIMIT_DEFAULT);
    for (name, value) in form_urlencoded::parse(call.query.as_deref().unwrap_or("").as_bytes()) {
        let malformed = |detail: String| Problem::new(Code::MalformedRequest, detail);
        match &*name {
            "after" => after = value.into_owned(),
            "limit" => {
                let found = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                limit = found.ok_or_else(|| malformed(format!("limit: must be from 1 to {LIMIT_MAX}")))?;
            }
            other => return Err(malformed(format!("{other:?} is not a parameter of this list"))),
        }
    }
    current(&call.app).await?;
    let rows = blocking(&call.app, move |_, ledger| {
        let rows = ledger.batches_from(&after).filter(|row| row.as_ref().map_or(true, |row| row.spec.id != after));
        Ok(rows.take(limit + 1).collect::<Result<Vec<_>, _>>()?)
    });
    let mut rows = rows.await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let mut told = json!({"batches": rows.iter().map(|row| facts(&call.app, row)).collect::<Vec<_>>()});
    if let Some(last) = rows.last().filter(|_| more) {
        told["next"] = json!(last.spec.id);
    }
    Ok(answer(StatusCode::OK, &told, false))
}

/// `GET /v1/batches/{batch}`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let id = batch_of(&call)?;
    current(&call.app).await?;
    let asked = id.clone();
    let (row, lots) =
        blocking(&call.app, move |_, ledger| Ok((ledger.batch(&asked)?, ledger.lots_of(&asked)?))).await?;
    let catalogue = &call.app.campaign.catalogue;
    let caller = call.caller();
    let lots: Vec<_> = lots.into_iter().filter(|(centre, _)| caller.may_work_at(centre, catalogue).is_ok()).collect();
    let mut told = match &row {
        Some(row) => facts(&call.app, row),
        // Doses name it, and nobody has made it known.
        None if !lots.is_empty() => json!({"id": id, "state": "unknown"}),
        None => return Err(Problem::new(Code::UnknownBatch, format!("there is no batch {id}"))),
    };
    let mut sum = Lot::default();
    lots.iter().for_each(|(_, lot)| sum.add(lot));
    merge(&mut told, counters(&sum));
    let shown = lots.iter().take(CENTRES_SHOWN_MAX).map(|(centre, lot)| {
        let mut told = json!({"centre": centre});
        merge(&mut told, counters(lot));
        told
    });
    told["centres"] = shown.collect();
    told["centres_in_all"] = json!(lots.len());
    told["complete"] = json!(ledger(&call.app)?.began().0 == 0);
    Ok(answer(StatusCode::OK, &told, false))
}

/// What a batch is.
pub(super) fn facts(app: &App, row: &BatchRow) -> Value {
    let BatchRow { spec, recall, .. } = row;
    let today = app.campaign.programme.calendar().date(app.campaign.engine.now());
    let state = match recall {
        Some(_) => "recalled",
        None if spec.expires < today => "expired",
        None => "usable",
    };
    let mut told = json!({
        "id": spec.id,
        "product": product_name(app, spec.product()),
        "quantity": spec.quantity,
        "expires": spec.expires.to_string(),
        "state": state,
    });
    if !spec.manufacturer.is_empty() {
        told["manufacturer"] = json!(spec.manufacturer);
    }
    if let Some(doses) = spec.doses_per_vial {
        told["doses_per_vial"] = json!(doses);
    }
    if let Some(recall) = recall {
        let at = app.names().time(berth_engine::TimestampMs(recall.at));
        told["recall"] = json!({"at": at, "reason": recall.reason});
    }
    told
}

/// What is counted of a batch.
pub(super) fn counters(lot: &Lot) -> Value {
    json!({
        "received": lot.received,
        "arrived": lot.arrived,
        "sent": lot.sent,
        "on_the_way": lot.on_the_way,
        "on_hand": lot.held.on_hand,
        "given": lot.given,
        "revoked": lot.revoked,
        "wasted": wasted(&lot.wasted),
        "found": lot.found,
        "missing": lot.missing,
        "uncovered": lot.held.uncovered,
    })
}

/// By their reasons, those that there are.
pub(super) fn wasted(wasted: &[u64; Waste::ALL.len()]) -> Value {
    let there = Waste::ALL.iter().zip(wasted).filter(|(_, doses)| **doses > 0);
    Value::Object(there.map(|(reason, doses)| (reason.as_str().to_owned(), json!(doses))).collect::<Map<_, _>>())
}

pub(super) fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// There is no such batch, nor a dose of it.
pub(super) fn known(app: &App, batch: &str) -> Result<Option<BatchRow>, Problem> {
    ledger(app)?.batch(batch).map_err(|error| store::failed(&error))
}
