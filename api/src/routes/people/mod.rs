//! People: who registers by a code, whom others register for them, and what becomes of their records.
//!
//! A step is done on a thread that may block, and shown when its entry is as safe as was asked and the store has seen it: so whoever
//! was told of it reads it. Fingerprints of requests go into the journal, and are keyed here: from a plain one a phone number could be
//! found by trying all.

pub(crate) mod account;
pub(crate) mod assisted;
pub(crate) mod bulk;
pub(crate) mod sessions;
mod shapes;

use std::collections::HashMap;
use std::sync::Arc;

use berth_engine::{PartyId, Refusal, Seq, TimestampMs};
use berth_programme::KeyFault;
use berth_programme::people::{Account, Done, Intent, PHONE_RULE, People, PeopleError, Said, View};
use berth_programme::store::StoreError;
use hyper::Response;
use serde_json::json;

use super::{Fingerprint, mark_replayed, safe};
use crate::access::{Caller, Scope};
use crate::ack::AckMode;
use crate::app::App;
use crate::body::ResponseBody;
use crate::idempotency::{self, KeySpace};
use crate::people::Registration;
use crate::problem::{self, Code, Problem};
use crate::router::Call;
use crate::wire::Names;

/// Registration, where it is on.
fn registration(app: &App) -> Result<&Registration, Problem> {
    let off = || Problem::new(Code::NotFound, "nobody is registered here: the configuration has no [people]");
    app.registration.as_ref().ok_or_else(off)
}

/// The account of whoever asks with a token of ours.
fn account(caller: &Caller) -> Result<Account, Problem> {
    match &caller.scope {
        Scope::Account(members) => Ok(members.account()),
        // Its parties come from elsewhere, and so does what is kept of them.
        _ => {
            Err(Problem::new(Code::UnknownAccount, "the token is of another issuer, and its account is not kept here"))
        }
    }
}

/// The keys of a call whose body this is.
fn intent(call: &Call, body: &[u8]) -> Result<Intent, Problem> {
    let key = idempotency::needed(&call.headers)?;
    let print = print(call, body)?;
    let fingerprint = super::fingerprint(call).piece(call.parameter.as_bytes()).piece(&print);
    Ok(intent_of(&KeySpace::of(call.caller()), key, &fingerprint))
}

fn intent_of(keys: &KeySpace, key: &str, fingerprint: &Fingerprint) -> Intent {
    let step = |kind| fingerprint.clone().under(keys.step(key, kind, 0));
    Intent {
        record: fingerprint.clone().under(keys.key(key)),
        party: step("people.party"),
        facts: step("people.facts"),
    }
}

/// The keyed print of a body, however its members are ordered and spaced.
fn print(call: &Call, body: &[u8]) -> Result<[u8; 16], Problem> {
    let people = &registration(&call.app)?.people;
    let canonical = serde_json::from_slice::<serde_json::Value>(body).map(|value| value.to_string());
    Ok(people.request_print(canonical.as_deref().map_or(body, str::as_bytes)))
}

/// The account of a phone as it was said, opened if there is none.
fn account_of(people: &People, phone: &str, now: TimestampMs) -> Result<Account, PeopleError> {
    let phone = people.rules().phone(phone).ok_or_else(|| fault("account_phone", PHONE_RULE))?;
    let done = people.open_account(&phone, now)?;
    // Who is registered in it looks for it.
    people.wait(done.seq)?;
    Ok(done.what)
}

fn phone_fault() -> PeopleError {
    fault("phone", PHONE_RULE)
}

fn fault(key: &str, reason: &str) -> PeopleError {
    PeopleError::Faults(vec![KeyFault { key: key.to_owned(), reason: reason.to_owned() }])
}

/// Does what may block.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App, &People) -> Result<T, PeopleError> + Send + 'static,
) -> Result<Result<T, PeopleError>, Problem> {
    registration(app)?;
    let app = Arc::clone(app);
    let done = tokio::task::spawn_blocking(move || match &app.registration {
        Some(registration) => work(&app, &registration.people),
        None => unreachable!("it was there a moment ago, and nobody takes it away"),
    });
    Ok(done.await.expect("what is done of people does not panic, and nobody cancels it"))
}

/// Waits until what was done may be shown, and whoever reads after it sees it.
// rule: IDM-2 no answer shows what is not yet as safe as was asked
async fn seen(app: &App, mode: AckMode, seq: Seq) -> Result<(), Problem> {
    safe(app, mode, seq).await?;
    // What is only in memory the store has not seen: it waits for the disk itself.
    safe(app, AckMode::Disk, seq).await?;
    crate::store::reached(app, seq).await
}

/// What was done, once it may be shown.
async fn settled<T>(call: &Call, done: Result<Done<T>, PeopleError>) -> Result<Done<T>, Problem> {
    let done = match done {
        Ok(done) => done,
        Err(error) => return Err(refused(&call.app, call.caller(), error).await),
    };
    seen(&call.app, call.ack, done.seq).await?;
    if done.replayed {
        call.app.metrics.replayed();
    }
    Ok(done)
}

fn marked(mut response: Response<ResponseBody>, replayed: bool) -> Response<ResponseBody> {
    if replayed {
        mark_replayed(&mut response);
    }
    response
}

fn store_problem(error: &StoreError) -> Problem {
    // Why is for the operator's log, which tells of it by itself.
    let detail = match error {
        StoreError::Behind(_) => "what is kept of people is not up to date yet: repeat with the same key",
        StoreError::Broken(_) | StoreError::Gap(_) => {
            "what is kept of people cannot be read now: repeat with the same key"
        }
    };
    Problem::new(Code::StoreUnavailable, detail)
}

/// A no, once what it rests on may be shown. Whom it may name is a question of who asks.
async fn refused(app: &App, caller: &Caller, error: PeopleError) -> Problem {
    // rule: IDM-2 a no that tells of a person or a booking waits for it
    if let Err(problem) = safe(app, AckMode::Disk, app.campaign.engine.appended()).await {
        return problem;
    }
    of_error(&app.names(), caller, error)
}

fn of_error(names: &Names<'_>, caller: &Caller, error: PeopleError) -> Problem {
    // A citizen is told nothing of others, not even their numbers.
    let sees_all = !matches!(caller.scope, Scope::Account(_) | Scope::Parties(_));
    let named = |problem: Problem, member: &str, party: PartyId| match sees_all {
        true => problem.with(member, names.party(party)),
        false => problem,
    };
    match error {
        PeopleError::Faults(faults) => invalid_person(&faults),
        PeopleError::Unknown(party) => problem::refused(&Refusal::UnknownParty { party }, names),
        PeopleError::Merged(party, into) if sees_all => {
            let (of, into) = (names.party(party), names.party(into));
            Problem::new(Code::PersonMerged, format!("the record of {of} went to {into}")).with("into", into)
        }
        PeopleError::Merged(party, _) => problem::refused(&Refusal::UnknownParty { party }, names),
        PeopleError::Registered(party) => {
            let detail = "a person with this document is registered already";
            named(Problem::new(Code::AlreadyRegistered, detail), "party", party)
        }
        PeopleError::Members(max) => {
            Problem::new(Code::MembersFull, format!("an account has at most {max} people")).with("max", max)
        }
        PeopleError::Fixed(party) => {
            let detail = "birth and document are put right by those who help, once there is a booking or a dose";
            Problem::new(Code::RecordFixed, detail).with("party", names.party(party))
        }
        PeopleError::NoAccount => Problem::new(Code::UnknownAccount, "there is no such account any more"),
        PeopleError::NotEmpty(members) => {
            let detail = format!("the account still has {members} people: erase or transfer them first");
            Problem::new(Code::AccountNotEmpty, detail).with("members", members)
        }
        PeopleError::PhoneTaken => {
            Problem::new(Code::PhoneTaken, "this phone has an account of its own: its people go there by a transfer")
        }
        PeopleError::NoOffer => Problem::new(Code::NoOffer, "this code opens no offer of this person, or not any more"),
        PeopleError::SameAccount => Problem::new(Code::SameAccount, "the person is in this account already"),
        PeopleError::LiveClaims { party, bookings } => {
            let bookings: Vec<_> = bookings.into_iter().map(|number| names.booking(number)).collect();
            let detail = format!("{} has a live hold or booking: give it up first", names.party(party));
            let problem = Problem::new(Code::LiveClaims, detail).with("party", names.party(party));
            // A code opens its booking: only who may act for all is told it.
            if sees_all && !matches!(caller.scope, Scope::Everything) {
                return problem;
            }
            problem.with("bookings", json!(bookings))
        }
        PeopleError::BothClaimed { dose, stays, goes } => {
            let detail = format!("both have a live claim for dose {dose}: give one up first");
            Problem::new(Code::BothClaimed, detail)
                .with("dose", dose)
                .with("bookings", json!([names.booking(stays), names.booking(goes)]))
        }
        PeopleError::Itself => Problem::new(Code::MalformedRequest, "merge: a record is not merged into itself"),
        PeopleError::Refused(refusal) => problem::refused(&refusal, names),
        PeopleError::Failed(failure) => problem::failed(&failure),
        PeopleError::Store(error) => store_problem(&error),
        PeopleError::Keys(why) => {
            tracing::error!(%why, "the keys of people cannot be had");
            Problem::new(Code::StoreUnavailable, "the keys of people cannot be had now: repeat with the same key")
        }
    }
}

/// Every fault of what was said, by its field.
fn invalid_person(faults: &[KeyFault]) -> Problem {
    let listed: Vec<_> = faults.iter().map(|fault| json!({"field": fault.key, "reason": fault.reason})).collect();
    let count = faults.len();
    let detail = if count == 1 { "1 fault".to_owned() } else { format!("{count} faults") };
    Problem::new(Code::InvalidPerson, detail).with("faults", listed)
}

/// What was said, with a region that there is.
fn with_region(app: &App, said: Said) -> Result<Said, PeopleError> {
    match &said.region {
        Some(region) if !app.campaign.catalogue.regions().iter().any(|known| *known.id == **region) => {
            Err(fault("region", "there is no such region"))
        }
        _ => Ok(said),
    }
}

/// Who these are and how they are reached, for who calls them: whole, or as little as shows who it is. Of whom nothing is kept here there
/// is nothing.
pub(crate) fn to_call(
    app: &App,
    parties: &[PartyId],
    whole: bool,
) -> Result<HashMap<PartyId, serde_json::Value>, Problem> {
    let Some(registration) = &app.registration else { return Ok(HashMap::new()) };
    let views = registration.people.views_of(parties).map_err(|error| {
        if let PeopleError::Store(error) = &error {
            return store_problem(error);
        }
        tracing::error!(%error, "persons of a recall list cannot be read");
        Problem::new(Code::StoreUnavailable, "what is kept of people cannot be read now")
    })?;
    Ok(views.into_iter().map(|(party, view)| (party, how_to_reach(&view, whole))).collect())
}

fn how_to_reach(view: &View, whole: bool) -> serde_json::Value {
    let phone = |phone: &berth_programme::people::Phone| {
        if whole { phone.as_str().to_owned() } else { phone.masked() }
    };
    let name = if whole { view.person.name.clone() } else { view.person.masked_name() };
    let mut told = json!({"masked": !whole, "name": name});
    for (member, known) in [("phone", &view.person.phone), ("account_phone", &view.account_phone)] {
        if let Some(known) = known {
            told[member] = json!(phone(known));
        }
    }
    if let Some(language) = &view.person.language {
        told["language"] = json!(language);
    }
    told
}

/// Today where the programme is.
pub(super) fn today(app: &App) -> jiff::civil::Date {
    app.campaign.programme.calendar().date(app.campaign.engine.now())
}
