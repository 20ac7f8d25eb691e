//! Batches: made known, shown with where they lie, recalled, and let go again.

use berth_engine::ProductId;
use berth_programme::supply::{Amended, Amendment, BatchRow, BatchSpec, Lot, Waste};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{key, parse, read_json, safe};
use super::{Page, answer, batch_of, blocking, current, date, ledger, print, product_name, shown};
use crate::ack::AckMode;
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, Route};

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
    let ProductId(product) = product_of(app, &asked.product)?;
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

/// `POST /v1/batches/{batch}/correct`: what is said is so from now on, and what is not said stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CorrectionRequest {
    reason: String,
    #[serde(default)]
    product: Option<String>,
    #[serde(default)]
    quantity: Option<u64>,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    manufacturer: Option<String>,
    #[serde(default)]
    doses_per_vial: Option<u16>,
}

/// `POST /v1/batches/{batch}/correct`
pub(crate) async fn correct(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let CorrectionRequest { reason, product, quantity, expires, manufacturer, doses_per_vial } = parse(&body)?;
    let (app, batch) = (&call.app, batch_of(&call)?);
    let told = json!({"batch": batch, "reason": reason, "product": product, "quantity": quantity, "expires": expires,
        "manufacturer": manufacturer, "doses_per_vial": doses_per_vial});
    let change = Amendment {
        product: product.map(|product| product_of(app, &product)).transpose()?,
        quantity,
        expires: expires.map(|expires| date("expires", &expires)).transpose()?,
        manufacturer,
        doses_per_vial,
    };
    let (idempotency, now) = (print(&call, &body).under(key), app.campaign.engine.now());
    let done = blocking(app, move |_, ledger| ledger.amend_batch(&batch, change, &reason, idempotency, now)).await?;
    shown(&call, done).await?;
    // What was not said is not told.
    let told = match told {
        Value::Object(told) => told.into_iter().filter(|(_, said)| !said.is_null()).collect(),
        told => told,
    };
    Ok(answer(StatusCode::OK, &told, done.replayed))
}

fn product_of(app: &App, name: &str) -> Result<ProductId, Problem> {
    let product = app.campaign.programme.get().product_number(name);
    product.ok_or_else(|| Problem::new(Code::MalformedRequest, "product: is none of the programme's"))
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
    // Told once it is safe: on a full disk the store may stand still, and a recall holds all the same.
    safe(&call.app, call.ack, done.seq).await?;
    safe(&call.app, AckMode::Disk, done.seq).await?;
    if done.replayed {
        call.app.metrics.replayed();
    }
    Ok(answer(StatusCode::OK, &told, done.replayed))
}

/// `GET /v1/batches`: in the order of their numbers.
pub(crate) async fn list(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let page = Page::of(&call, |_, _| Ok(false))?;
    current(&call.app).await?;
    let (rows, more) = blocking(&call.app, move |_, ledger| {
        let rows = ledger.batches_from(&page.after);
        let behind = rows.filter(|row| row.as_ref().map_or(true, |row| row.spec.id != page.after));
        Ok(page.cut(behind.take(page.limit + 1).collect::<Result<Vec<_>, _>>()?))
    })
    .await?;
    let mut told = json!({"batches": rows.iter().map(|row| facts(&call.app, row)).collect::<Vec<_>>()});
    if let Some(last) = rows.last().filter(|_| more) {
        told["next"] = json!(last.spec.id);
    }
    Ok(answer(StatusCode::OK, &told, false))
}

/// `GET /v1/batches/{batch}`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let id = batch_of(&call)?;
    // Its sums are of all centres, whatever page of them is shown.
    let page = Page::of(&call, |_, _| Ok(false))?;
    current(&call.app).await?;
    let asked = id.clone();
    let (row, lots) =
        blocking(&call.app, move |_, ledger| Ok((ledger.batch(&asked)?, ledger.lots_of(&asked)?))).await?;
    let catalogue = &call.app.campaign.catalogue;
    let caller = call.caller();
    let lots: Vec<_> = lots.into_iter().filter(|(centre, _)| caller.may_work_at(centre, catalogue).is_ok()).collect();
    let mut told = match &row {
        Some(row) => with_corrections(&call.app, row),
        // Doses name it, and nobody has made it known.
        None if !lots.is_empty() => json!({"id": id, "state": "unknown"}),
        None => return Err(Problem::new(Code::UnknownBatch, format!("there is no batch {id}"))),
    };
    let mut sum = Lot::default();
    lots.iter().for_each(|(_, lot)| sum.add(lot));
    merge(&mut told, counters(&sum));
    told["centres_in_all"] = json!(lots.len());
    let behind = lots.into_iter().filter(|(centre, _)| *centre > page.after || page.after.is_empty());
    let (lots, more) = page.cut(behind.take(page.limit + 1).collect());
    let shown = lots.iter().map(|(centre, lot)| {
        let mut told = json!({"centre": centre});
        merge(&mut told, counters(lot));
        told
    });
    told["centres"] = shown.collect();
    if let Some((last, _)) = lots.last().filter(|_| more) {
        told["next"] = json!(last);
    }
    told["complete"] = json!(ledger(&call.app)?.began().0 == 0);
    Ok(answer(StatusCode::OK, &told, false))
}

/// What was put right of it, too.
fn with_corrections(app: &App, row: &BatchRow) -> Value {
    let mut told = facts(app, row);
    let one = |Amended { at, reason, before }: &Amended| {
        let mut was = spec_told(app, before);
        if let Value::Object(was) = &mut was {
            was.remove("id");
        }
        let at = app.names().time(berth_engine::TimestampMs(*at));
        // Made known again in a store that had not seen it before.
        let was = if before.quantity > 0 { was } else { Value::Null };
        json!({"at": at, "reason": reason, "before": was})
    };
    if !row.amended.is_empty() {
        told["corrections"] = row.amended.iter().map(one).collect();
    }
    told
}

fn spec_told(app: &App, spec: &BatchSpec) -> Value {
    let mut told = json!({
        "id": spec.id,
        "product": product_name(app, spec.product()),
        "quantity": spec.quantity,
        "expires": spec.expires.to_string(),
    });
    if !spec.manufacturer.is_empty() {
        told["manufacturer"] = json!(spec.manufacturer);
    }
    if let Some(doses) = spec.doses_per_vial {
        told["doses_per_vial"] = json!(doses);
    }
    told
}

/// What a batch is. Of one that was recalled, and of which what made it known is lost, that alone.
pub(super) fn facts(app: &App, row: &BatchRow) -> Value {
    let BatchRow { spec, recall, .. } = row;
    let today = app.campaign.programme.calendar().date(app.campaign.engine.now());
    let state = match recall {
        Some(_) => "recalled",
        None if !row.is_known() => "unknown",
        None if spec.expires < today => "expired",
        None => "usable",
    };
    let mut told = if row.is_known() { spec_told(app, spec) } else { json!({"id": spec.id}) };
    told["state"] = json!(state);
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
