//! Invitations to a pool: given and taken back. What spends one is a booking, and the engine sees to that.

use berth_engine::{Command, Idempotency, PartyFacts, PartyId, PoolId, Refusal, Seq, Submitted};
use berth_programme::PROGRAMME;
use berth_programme::invitations::INVITATIONS_MAX;
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bookings::json;
use super::{apply, fingerprint, mark_replayed, parse, read_json, safe};
use crate::app::App;
use crate::body::ResponseBody;
use crate::idempotency::{self, KeySpace};
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, Route, respond};

/// Parties of one request.
const PARTIES_MAX: usize = 1000;
/// How often a change is tried again that met another.
const TRIES: usize = 8;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InvitationsRequest {
    pool: String,
    parties: Vec<String>,
}

/// What came of one party.
#[derive(Serialize)]
struct Told {
    party: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Value>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Invite,
    Withdraw,
}

impl What {
    fn state(self) -> &'static str {
        match self {
            What::Invite => "invited",
            What::Withdraw => "withdrawn",
        }
    }

    /// How often a party counts as invited from now on, of whom so many invitations are spent.
    fn times(self, given: u32, spent: u32) -> Result<u32, Problem> {
        match self {
            What::Invite if given > spent => Ok(given),
            What::Invite if spent < INVITATIONS_MAX => Ok(spent + 1),
            What::Invite => {
                let detail =
                    format!("the party has spent {INVITATIONS_MAX} invitations to this pool: add another pool");
                Err(Problem::new(Code::TooMany, detail))
            }
            What::Withdraw => Ok(given.min(spent)),
        }
    }
}

/// `POST /v1/invitations`, `POST /v1/invitations/withdraw`: each party is a step of its own, under a key made of the request's.
pub(crate) async fn change(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        pool: String,
        parties: Vec<Told>,
    }
    let what = if call.endpoint.route == Route::Invite { What::Invite } else { What::Withdraw };
    let key = idempotency::needed(&call.headers)?.to_owned();
    let body = read_json(&mut call).await?;
    let InvitationsRequest { pool: id, parties } = parse(&body)?;
    if !(1..=PARTIES_MAX).contains(&parties.len()) {
        let detail = format!("parties: must be 1 to {PARTIES_MAX}, are {}", parties.len());
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    let pool = {
        let rules = call.app.campaign.programme.get();
        let pool = rules.pool_number(&id).filter(|pool| rules.invited(0, *pool).is_some());
        pool.ok_or_else(|| Problem::new(Code::MalformedRequest, "pool: is no pool of the programme with invitations"))?
    };
    let keys = KeySpace::of(call.caller());
    let (mut told, mut newest, mut replayed) = (Vec::with_capacity(parties.len()), Seq(0), true);
    for (at, name) in (0u64..).zip(parties) {
        let step = || -> Result<Submitted, Problem> {
            let names = call.app.names();
            let party = names.parse_party(&name)?;
            call.caller().may_act_for(party, &names)?;
            let print = fingerprint(&call).number(party.0.into()).number(pool.0.into());
            one(&call.app, party, pool, what, print.under(keys.step(&key, what.state(), at)))
        };
        let (state, problem) = match step() {
            Ok(Submitted { result: Ok(_), seq, replayed: again }) => {
                newest = newest.max(seq);
                replayed &= again;
                (Some(what.state()), None)
            }
            Ok(Submitted { result: Err(refusal), seq, .. }) => {
                newest = newest.max(seq);
                replayed = false;
                (None, Some(problem::refused(&refusal, &call.app.names()).into_member()))
            }
            Err(problem) => {
                replayed = false;
                (None, Some(problem.into_member()))
            }
        };
        told.push(Told { party: name.chars().take(80).collect(), state, problem });
    }
    safe(&call.app, call.ack, newest).await?;
    let mut response = respond(StatusCode::OK, Media::Json, json(&Answer { pool: id, parties: told }));
    if replayed {
        call.app.metrics.replayed();
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// Also where nothing changes an entry is written: a repeat of the request must not do later what it did not do then.
fn one(app: &App, party: PartyId, pool: PoolId, what: What, idempotency: Idempotency) -> Result<Submitted, Problem> {
    let engine = &app.campaign.engine;
    if let Some(before) = engine.repeat_of(idempotency) {
        return Ok(before);
    }
    let unknown = || problem::refused(&Refusal::UnknownParty { party }, &app.names());
    for _ in 0..TRIES {
        let known = engine.party_bookings(party).ok_or_else(unknown)?.facts;
        let spent = engine.invitations_spent(party, PROGRAMME, pool, engine.now()).ok_or_else(unknown)?;
        let cohorts = {
            let rules = app.campaign.programme.get();
            let given = rules.invited(known.cohorts, pool).unwrap_or(0);
            rules.with_invitations(known.cohorts, pool, what.times(given, spent)?).unwrap_or(known.cohorts)
        };
        let facts = PartyFacts { cohorts, ..known };
        let submitted =
            apply(app, Command::ChangeFacts { party, facts, expected: Some(&known), note: b"" }, idempotency)?;
        if !matches!(submitted.result, Err(Refusal::ChangedMeanwhile { .. })) {
            return Ok(submitted);
        }
    }
    Err(problem::refused(&Refusal::ChangedMeanwhile { party }, &app.names()))
}
