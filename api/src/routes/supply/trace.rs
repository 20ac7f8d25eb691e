//! Whom a batch was given to: its doses a page at a time, and the list of whom to call.
//!
//! Both read the rows of what they show, and nothing else: how many other doses there are does not matter.

use std::collections::HashSet;
use std::sync::Arc;

use berth_engine::{BookingNumber, PartyId};
use berth_programme::Calendar;
use berth_programme::people::NOBODY_DOSES;
use berth_programme::supply::Traced;
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::catalogue::unknown_centre;
use super::super::people::to_call;
use super::{answer, batch_of, blocking, current, ledger, product_name};
use crate::access::Scope;
use crate::app::App;
use crate::body::{CutShort, ResponseBody};
use crate::gate;
use crate::problem::{Code, Problem};
use crate::router::{Call, Media};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// Pieces of a list made ahead of the client.
const PIECES_AHEAD: usize = 4;
const PIECE_BYTES: usize = 32 << 10;
/// Persons that are read at once: few for the first lines, so that they come soon, and then as many as make the disk worth asking.
const AT_ONCE_FIRST: usize = 64;
const AT_ONCE_MAX: usize = 4096;

/// Which doses of a batch somebody asks for, and may see.
struct Wanted {
    batch: String,
    /// `None`: all.
    centres: Option<Vec<String>>,
    limit: usize,
    after: Option<(String, BookingNumber)>,
}

impl Wanted {
    async fn of(call: &Call, paged: bool) -> Result<Wanted, Problem> {
        let malformed = |detail: &str| Problem::new(Code::MalformedRequest, detail);
        let app = &call.app;
        let (mut centre, mut limit, mut after) = (None, LIMIT_DEFAULT, None);
        for (name, value) in form_urlencoded::parse(call.query.as_deref().unwrap_or("").as_bytes()) {
            match &*name {
                "centre" => centre = Some(value.into_owned()),
                "limit" if paged => {
                    let found = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    limit = found.ok_or_else(|| malformed(&format!("limit: must be from 1 to {LIMIT_MAX}")))?;
                }
                "cursor" if paged => {
                    let (at, booking) = value.split_once('~').ok_or_else(|| malformed("cursor: is none"))?;
                    let booking = app.names().parse_reference(booking).map_err(|_| malformed("cursor: is none"))?;
                    after = Some((at.to_owned(), booking));
                }
                other => return Err(malformed(&format!("{other:?} is not a parameter of this list"))),
            }
        }
        let batch = batch_of(call)?;
        current(app).await?;
        let catalogue = &app.campaign.catalogue;
        let asked = batch.clone();
        let (known, lots) =
            blocking(app, move |_, ledger| Ok((ledger.batch(&asked)?.is_some(), ledger.lots_of(&asked)?))).await?;
        if !known && lots.is_empty() {
            return Err(Problem::new(Code::UnknownBatch, format!("there is no batch {batch}")));
        }
        let centres = match centre {
            Some(centre) => {
                if catalogue.centre(&centre).is_none() {
                    return Err(unknown_centre(&centre));
                }
                call.caller().may_work_at(&centre, catalogue)?;
                Some(vec![centre])
            }
            None if call.caller().scope == Scope::Everything => None,
            None => {
                let works = |centre: &String| call.caller().may_work_at(centre, catalogue).is_ok();
                Some(lots.into_iter().map(|(centre, _)| centre).filter(works).collect())
            }
        };
        Ok(Wanted { batch, centres, limit, after })
    }
}

/// A dose, and who had it as far as that is known now.
fn told(app: &App, dose: &Traced, owner: PartyId) -> Value {
    let names = app.names();
    json!({
        "dose_record": names.dose(dose.booking),
        "booking": names.reference(dose.booking),
        "party": names.party(owner),
        "centre": dose.centre,
        "date": Calendar::date_of(dose.day).to_string(),
        "product": product_name(app, dose.product),
        "state": if dose.valid { "valid" } else { "revoked" },
    })
}

fn owner(app: &App, party: PartyId) -> Result<PartyId, berth_programme::store::StoreError> {
    app.doses.as_ref().map_or(Ok(party), |doses| doses.owner(party))
}

/// `GET /v1/batches/{batch}/doses`: by centre, and there as they were booked.
// rule: SUP-2
pub(crate) async fn doses(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let wanted = Wanted::of(&call, true).await?;
    let batch = wanted.batch.clone();
    let rows = blocking(&call.app, move |app, ledger| {
        let Wanted { batch, centres, limit, after } = &wanted;
        let after = after.as_ref().map(|(centre, booking)| (centre.as_str(), *booking));
        let doses = ledger.doses_at(batch, centres.as_deref(), after).take(limit + 1);
        let mut rows = Vec::new();
        for dose in doses {
            let dose = dose?;
            let owner = owner(app, dose.party)?;
            rows.push((told(app, &dose, owner), dose));
        }
        let more = rows.len() > *limit;
        rows.truncate(*limit);
        Ok((rows, more))
    });
    let (rows, more) = rows.await?;
    let next = rows.last().filter(|_| more);
    let next = next.map(|(_, dose)| format!("{}~{}", dose.centre, call.app.names().reference(dose.booking)));
    let doses: Vec<_> = rows.into_iter().map(|(told, _)| told).collect();
    let mut told = json!({"batch": batch, "doses": doses, "complete": ledger(&call.app)?.began().0 == 0});
    if let Some(next) = next {
        told["next"] = json!(next);
    }
    Ok(answer(StatusCode::OK, &told, false))
}

/// `GET /v1/batches/{batch}/recall-list`: whom to call, a line for each dose that stands, and a last one that says how many.
pub(crate) async fn recall_list(call: Call) -> Result<Response<ResponseBody>, Problem> {
    // Whoever works at one centre is shown who it is, and an admin with a reason how to reach them.
    let whole = gate::reason(&call.headers)?.is_some() && call.caller().scope == Scope::Everything;
    let wanted = Wanted::of(&call, false).await?;
    let ledger = Arc::clone(ledger(&call.app)?);
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    let app = Arc::clone(&call.app);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write_all(&app, &ledger, &wanted, whole, &pieces) {
            if let Some(problem) = error {
                tracing::error!(code = problem.code().as_str(), "a recall list was cut short");
            }
            // Without the last line nobody takes it for whole.
            let _ = pieces.blocking_send(Err(CutShort));
        }
    });
    let mut response = Response::new(ResponseBody::pieces(receiver));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Media::Ndjson.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn is_erased(app: &App, party: PartyId) -> bool {
    let facts = app.campaign.engine.party_bookings(party).map(|view| view.facts).unwrap_or_default();
    facts.doses == NOBODY_DOSES && app.registration.is_some()
}

/// `Err(None)`: nobody takes it any more.
fn write_all(
    app: &App,
    ledger: &berth_programme::supply::Ledger,
    wanted: &Wanted,
    whole: bool,
    pieces: &mpsc::Sender<Result<Bytes, CutShort>>,
) -> Result<(), Option<Problem>> {
    let failed = |error: berth_programme::store::StoreError| Some(crate::store::failed(&error));
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let (mut doses, mut people) = (0u64, HashSet::new());
    let mut valid = ledger
        .doses_at(&wanted.batch, wanted.centres.as_deref(), None)
        .filter(|dose| dose.as_ref().map_or(true, |dose| dose.valid));
    let mut at_once = AT_ONCE_FIRST;
    loop {
        let some = valid.by_ref().take(at_once).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        if some.is_empty() {
            break;
        }
        at_once = (at_once * 4).min(AT_ONCE_MAX);
        let owners = some.iter().map(|dose| owner(app, dose.party)).collect::<Result<Vec<_>, _>>();
        let mut owners = owners.map_err(failed)?;
        let there: Vec<_> = owners.iter().copied().filter(|owner| !is_erased(app, *owner)).collect();
        let mut persons = to_call(app, &there, whole).map_err(Some)?;
        if app.registration.is_some() {
            // Whose record went to another while so many were read is that other's now.
            let mut again = Vec::new();
            for (dose, of) in some.iter().zip(&mut owners).filter(|(_, of)| !persons.contains_key(of)) {
                *of = owner(app, dose.party).map_err(failed)?;
                again.push(*of);
            }
            again.retain(|of| !persons.contains_key(of) && !is_erased(app, *of));
            persons.extend(to_call(app, &again, whole).map_err(Some)?);
        }
        for (dose, owner) in some.iter().zip(&owners) {
            let mut line = told(app, dose, *owner);
            if let Some(person) = persons.get(owner) {
                line["person"] = person.clone();
            } else if is_erased(app, *owner) {
                line["erased"] = json!(true);
            }
            doses += 1;
            people.insert(*owner);
            serde_json::to_writer(&mut piece, &line).expect("a line has only string keys, and memory takes it");
            piece.push(b'\n');
            if piece.len() >= PIECE_BYTES {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES));
                pieces.blocking_send(Ok(full.into())).map_err(|_| None)?;
            }
        }
    }
    let complete = ledger.began().0 == 0;
    let end = json!({"end": true, "doses": doses, "people": people.len(), "complete": complete});
    piece.extend_from_slice(format!("{end}\n").as_bytes());
    pieces.blocking_send(Ok(piece.into())).map_err(|_| None)
}
