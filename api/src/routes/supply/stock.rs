//! What moves between stocks: received, sent, arrived, wasted, counted; and what a centre has.

use berth_engine::Seq;
use berth_programme::supply::{Sending, Transfer, Waste};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::catalogue::unknown_centre;
use super::super::{key, parse, read_json, read_nothing};
use super::batches::{counters, facts, merge};
use super::{Page, answer, blocking, current, ledger, print, shown, transfer_name, transfer_of};
use crate::access::Caller;
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::Call;
use crate::store;
use crate::wire::numbered;

/// `POST /v1/receipts`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptRequest {
    batch: String,
    centre: String,
    quantity: u64,
    #[serde(default)]
    note: Option<String>,
}

/// `POST /v1/transfers`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferRequest {
    batch: String,
    from: String,
    to: String,
    quantity: u64,
}

/// `POST /v1/transfers/{transfer}/receive`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArrivalRequest {
    arrived: u64,
}

/// `POST /v1/wastage`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WastageRequest {
    batch: String,
    centre: String,
    quantity: u64,
    reason: String,
}

/// `POST /v1/stock-takes`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CountRequest {
    batch: String,
    centre: String,
    counted: u64,
    reason: String,
}

fn works_at(app: &App, caller: &Caller, centre: &str) -> Result<(), Problem> {
    let catalogue = &app.campaign.catalogue;
    if catalogue.centre(centre).is_none() {
        return Err(unknown_centre(centre));
    }
    caller.may_work_at(centre, catalogue)
}

/// `POST /v1/receipts`
pub(crate) async fn receive(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let ReceiptRequest { batch, centre, quantity, note } = parse(&body)?;
    works_at(&call.app, call.caller(), &centre)?;
    let (idempotency, now) = (print(&call, &body).under(key), call.app.campaign.engine.now());
    let told = json!({"batch": batch, "centre": centre, "quantity": quantity});
    let note = note.unwrap_or_default();
    let done =
        blocking(&call.app, move |_, ledger| ledger.receive((&batch, &centre), quantity, &note, idempotency, now));
    let done = done.await?;
    shown(&call, done).await?;
    Ok(answer(StatusCode::CREATED, &told, done.replayed))
}

/// `POST /v1/wastage`
pub(crate) async fn waste(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let WastageRequest { batch, centre, quantity, reason } = parse(&body)?;
    works_at(&call.app, call.caller(), &centre)?;
    let why = Waste::of(&reason).ok_or_else(|| {
        let names = Waste::ALL.map(Waste::as_str).join(", ");
        Problem::new(Code::MalformedRequest, format!("reason: must be one of {names}"))
    })?;
    let (idempotency, now) = (print(&call, &body).under(key), call.app.campaign.engine.now());
    let told = json!({"batch": batch, "centre": centre, "quantity": quantity, "reason": reason});
    let done = blocking(&call.app, move |_, ledger| ledger.waste((&batch, &centre), quantity, why, idempotency, now));
    let done = done.await?;
    shown(&call, done).await?;
    Ok(answer(StatusCode::CREATED, &told, done.replayed))
}

/// `POST /v1/stock-takes`
pub(crate) async fn count(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let CountRequest { batch, centre, counted, reason } = parse(&body)?;
    works_at(&call.app, call.caller(), &centre)?;
    let (idempotency, now) = (print(&call, &body).under(key), call.app.campaign.engine.now());
    let told = json!({"batch": batch, "centre": centre, "counted": counted, "reason": reason});
    let done =
        blocking(&call.app, move |_, ledger| ledger.count((&batch, &centre), counted, &reason, idempotency, now));
    let done = done.await?;
    shown(&call, done).await?;
    Ok(answer(StatusCode::CREATED, &told, done.replayed))
}

/// `POST /v1/transfers`
pub(crate) async fn send(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let TransferRequest { batch, from, to, quantity } = parse(&body)?;
    works_at(&call.app, call.caller(), &from)?;
    if call.app.campaign.catalogue.centre(&to).is_none() {
        return Err(unknown_centre(&to));
    }
    let (idempotency, now) = (print(&call, &body).under(key), call.app.campaign.engine.now());
    let mut told = json!({"batch": batch, "from": from, "to": to, "quantity": quantity, "state": "sent"});
    let sending = Sending { batch, from, to, quantity };
    let done = blocking(&call.app, move |_, ledger| ledger.send(sending, idempotency, now)).await?;
    shown(&call, done).await?;
    told["transfer"] = json!(transfer_name(&call.app.names(), done.seq));
    Ok(answer(StatusCode::CREATED, &told, done.replayed))
}

/// The transfer of a path, of a caller who works where it comes from or goes to.
async fn transfer(call: &Call) -> Result<(Seq, Transfer), Problem> {
    let seq = transfer_of(call)?;
    current(&call.app).await?;
    let found = ledger(&call.app)?.transfer(seq).map_err(|error| store::failed(&error))?;
    let unknown = || Problem::new(Code::UnknownTransfer, format!("there is no transfer {}", call.parameter));
    let found = found.ok_or_else(unknown)?;
    let catalogue = &call.app.campaign.catalogue;
    let ends = [&found.sending.from, &found.sending.to];
    // Whoever works at neither end is not told that there is one.
    if ends.iter().any(|centre| call.caller().may_work_at(centre, catalogue).is_ok()) {
        Ok((seq, found))
    } else {
        Err(unknown())
    }
}

fn told(app: &App, seq: Seq, transfer: &Transfer) -> Value {
    let time = |at: u64| app.names().time(berth_engine::TimestampMs(at));
    let Transfer { sending: Sending { batch, from, to, quantity }, sent_at, state, arrived, ended_at } = transfer;
    let mut told = json!({
        "transfer": transfer_name(&app.names(), seq),
        "batch": batch,
        "from": from,
        "to": to,
        "quantity": quantity,
        "state": state.as_str(),
        "sent_at": time(*sent_at),
    });
    if let Some(arrived) = arrived {
        told["arrived"] = json!(arrived);
    }
    if let Some(at) = ended_at {
        told["ended_at"] = json!(time(*at));
    }
    told
}

/// `GET /v1/transfers/{transfer}`
pub(crate) async fn read_transfer(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (seq, transfer) = transfer(&call).await?;
    Ok(answer(StatusCode::OK, &told(&call.app, seq, &transfer), false))
}

/// `POST /v1/transfers/{transfer}/receive`
pub(crate) async fn arrive(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let ArrivalRequest { arrived } = parse(&body)?;
    let (seq, found) = transfer(&call).await?;
    works_at(&call.app, call.caller(), &found.sending.to)?;
    let (idempotency, now) = (print(&call, &body).under(key), call.app.campaign.engine.now());
    let done = blocking(&call.app, move |_, ledger| ledger.arrive(seq, arrived, idempotency, now)).await?;
    ended(&call, seq, done).await
}

/// `POST /v1/transfers/{transfer}/cancel`
pub(crate) async fn cancel(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    read_nothing(&mut call).await?;
    let (seq, found) = transfer(&call).await?;
    works_at(&call.app, call.caller(), &found.sending.from)?;
    let (idempotency, now) = (print(&call, b"").under(key), call.app.campaign.engine.now());
    let done = blocking(&call.app, move |_, ledger| ledger.cancel(seq, idempotency, now)).await?;
    ended(&call, seq, done).await
}

async fn ended(call: &Call, seq: Seq, done: berth_programme::supply::Done) -> Result<Response<ResponseBody>, Problem> {
    shown(call, done).await?;
    // Once it has ended nothing of it changes, so a repeat is told the same.
    let (_, transfer) = transfer(call).await?;
    Ok(answer(StatusCode::OK, &told(&call.app, seq, &transfer), done.replayed))
}

/// `GET /v1/centres/{centre}/stock`: what is there, by batch; and what is on the way from there and to it, by when it was sent. Each a page at a
/// time.
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let app = &call.app;
    works_at(app, call.caller(), &call.parameter)?;
    let (mut all, mut transfers_after) = (false, Seq(0));
    let page = Page::of(&call, |name, value| {
        let malformed = |detail: &str| Problem::new(Code::MalformedRequest, detail);
        match name {
            "all" => all = value.parse().map_err(|_| malformed("all: must be true or false"))?,
            "transfers_after" => {
                let found = numbered(value, 't').filter(|(cell, _)| *cell == app.cell);
                transfers_after = Seq(found.ok_or_else(|| malformed("transfers_after: is no transfer"))?.1);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    current(app).await?;
    let centre = call.parameter.clone();
    let told = blocking(app, move |app, ledger| {
        let stock = ledger.stock(&centre, &page.after, all).take(page.limit + 1);
        let (stock, more) = page.cut(stock.collect::<Result<Vec<_>, _>>()?);
        let open = ledger.transfers_at(&centre, transfers_after).take(page.limit + 1);
        let (open, more_open) = page.cut(open.collect::<Result<Vec<_>, _>>()?);
        let mut batches = Vec::with_capacity(stock.len());
        for (batch, lot) in &stock {
            let mut row = match ledger.batch(batch)? {
                Some(row) => facts(app, &row),
                None => json!({"id": batch, "state": "unknown"}),
            };
            merge(&mut row, counters(lot));
            batches.push(row);
        }
        let transfers: Vec<_> = open.iter().map(|(seq, transfer)| told(app, *seq, transfer)).collect();
        let complete = ledger.began() == Seq(0);
        let mut told = json!({"centre": centre, "on_hand": ledger.on_hand(&centre)?, "batches": batches,
            "transfers": transfers, "complete": complete});
        if let Some((batch, _)) = stock.last().filter(|_| more) {
            told["next"] = json!(batch);
        }
        if let Some((seq, _)) = open.last().filter(|_| more_open) {
            told["next_transfer"] = json!(transfer_name(&app.names(), *seq));
        }
        Ok(told)
    });
    Ok(answer(StatusCode::OK, &told.await?, false))
}
