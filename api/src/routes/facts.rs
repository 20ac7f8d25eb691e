//! What the programme may know of a party, read and put right; and what follows from it: what the party may have, and why.
//!
//! No personal data: a year of birth, cohorts, and the doses had. Who the party is, is known elsewhere.

use berth_engine::{Command, Dose, PartyFacts, PartyId, Refusal};
use berth_programme::people::NOBODY_DOSES;
use berth_programme::{Calendar, PROGRAMME, Programme, Question};
use hyper::{Response, StatusCode};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::bookings::json;
use super::{apply, fingerprint, key, parse, read_json, safe, settled, told};
use crate::access::Role;
use crate::app::App;
use crate::body::ResponseBody;
use crate::eligibility::Eligibility;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};

/// Of births that can be meant.
pub(super) const YEARS: std::ops::RangeInclusive<u16> = 1880..=2200;
/// How often a change is tried again that met another.
const TRIES: usize = 8;

/// What is known of a party, as every answer shows it.
#[derive(Serialize)]
struct FactsAnswer {
    party: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    birth_year: Option<u16>,
    cohorts: Vec<String>,
    doses: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_dose_on: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invitations: Vec<InvitationsAnswer>,
}

/// To one pool.
#[derive(Serialize)]
struct InvitationsAnswer {
    pool: String,
    given: u32,
    spent: u32,
}

impl FactsAnswer {
    fn of(app: &App, party: PartyId, facts: &PartyFacts, programme: &Programme) -> FactsAnswer {
        let (engine, party_name) = (&app.campaign.engine, app.names().party(party));
        let invitations = programme.invitation_pools().filter_map(|(pool, id)| {
            let given = programme.invited(facts.cohorts, pool).filter(|given| *given > 0)?;
            let spent = engine.invitations_spent(party, PROGRAMME, pool, engine.now())?;
            Some(InvitationsAnswer { pool: id.to_owned(), given, spent })
        });
        FactsAnswer {
            invitations: invitations.collect(),
            party: party_name,
            birth_year: (facts.birth_year != 0).then_some(facts.birth_year),
            cohorts: programme.cohort_ids(facts.cohorts).map(str::to_owned).collect(),
            doses: facts.doses,
            last_product: programme.product(facts.product).map(|product| product.id.clone()),
            last_dose_on: (facts.last_dose_day != 0).then(|| Calendar::date_of(facts.last_dose_day).to_string()),
        }
    }
}

/// `PATCH /v1/parties/{party}/facts`: what is not named stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FactsChange {
    birth_year: Option<u16>,
    cohorts: Option<Vec<String>>,
    doses: Option<u8>,
    last_product: Option<String>,
    last_dose_on: Option<String>,
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Code::MalformedRequest, detail)
}

/// The party of a call that its caller reaches.
fn party_of(call: &Call) -> Result<PartyId, Problem> {
    let names = call.app.names();
    let party = names.parse_party(&call.parameter)?;
    // Whoever works at a door meets people there whom no booking names: it may ask, and not change.
    if call.caller().role != Role::Operator {
        call.caller().may_act_for(party, &names)?;
    }
    Ok(party)
}

/// What is known of it, once that may be shown.
async fn known(call: &Call, party: PartyId) -> Result<PartyFacts, Problem> {
    let Some(view) = call.app.campaign.engine.party_bookings(party) else {
        return Err(problem::refused(&Refusal::UnknownParty { party }, &call.app.names()));
    };
    safe(&call.app, call.ack, view.seq).await?;
    Ok(view.facts)
}

/// `GET /v1/parties/{party}/facts`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let party = party_of(&call)?;
    let facts = known(&call, party).await?;
    let answer = FactsAnswer::of(&call.app, party, &facts, &call.app.campaign.programme.get());
    Ok(respond(StatusCode::OK, Media::Json, json(&answer)))
}

/// `PATCH /v1/parties/{party}/facts`
pub(crate) async fn change(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let change: FactsChange = parse(&body)?;
    let party = party_of(&call)?;
    change.may_be_said_by(call.caller().role)?;
    let idempotency = fingerprint(&call).number(party.0.into()).piece(body.trim_ascii()).under(key);
    let engine = &call.app.campaign.engine;
    for _ in 0..TRIES {
        let Some(view) = engine.party_bookings(party) else {
            return Err(problem::refused(&Refusal::UnknownParty { party }, &call.app.names()));
        };
        // The number of who was erased or merged is nobody's: it is not opened again.
        if view.facts.doses == NOBODY_DOSES && call.app.registration.is_some() {
            return Err(problem::refused(&Refusal::UnknownParty { party }, &call.app.names()));
        }
        let facts = {
            let rules = call.app.campaign.programme.get();
            change.over(view.facts, &rules, rules.calendar().day(engine.now()))?
        };
        let command = Command::ChangeFacts { party, facts, expected: Some(&view.facts), note: b"" };
        let submitted = apply(&call.app, command, idempotency)?;
        // What was not named must stay as it is by then: read it again.
        if !matches!(submitted.result, Err(Refusal::ChangedMeanwhile { .. })) {
            let submitted = settled(&call.app, call.ack, submitted).await?;
            return told(&call.app, call.sight(), &submitted).await;
        }
    }
    Err(problem::refused(&Refusal::ChangedMeanwhile { party }, &call.app.names()))
}

impl FactsChange {
    /// Of doses only an admin says something, or a platform could mark people as served who were not.
    pub(super) fn may_be_said_by(&self, role: Role) -> Result<(), Problem> {
        let of_doses = self.doses.is_some() || self.last_product.is_some() || self.last_dose_on.is_some();
        if of_doses && role != Role::Admin {
            return Err(Problem::new(Code::Forbidden, "doses, last_product, last_dose_on: only an admin says them"));
        }
        Ok(())
    }

    pub(super) fn over(&self, before: PartyFacts, programme: &Programme, today: u16) -> Result<PartyFacts, Problem> {
        let mut facts = before;
        if let Some(year) = self.birth_year {
            facts.birth_year = birth_year(year)?;
        }
        if let Some(cohorts) = &self.cohorts {
            // What it was invited to stays.
            let invited = facts.cohorts & !programme.cohorts_alone(facts.cohorts);
            facts.cohorts = cohort_bits(cohorts, programme)? | invited;
        }
        if let Some(doses) = self.doses {
            facts.doses = doses;
        }
        if let Some(id) = &self.last_product {
            facts.product = programme
                .product_number(id)
                .ok_or_else(|| malformed("last_product: is not a product of the programme"))?;
        }
        if let Some(on) = &self.last_dose_on {
            let day = on.parse::<Date>().ok().and_then(Calendar::day_of).filter(|&day| day <= today);
            facts.last_dose_day =
                day.ok_or_else(|| malformed("last_dose_on: must be a date as 2021-03-01, and not in the future"))?;
        }
        let doses_max = programme.file().products.iter().map(|product| product.doses).max().unwrap_or(0);
        if self.doses.is_some() && facts.doses > doses_max {
            return Err(malformed(format!("doses: the programme's products have doses 1 to {doses_max}")));
        }
        if facts.doses == 0 {
            (facts.product, facts.last_dose_day) = Default::default();
            if self.last_product.is_some() || self.last_dose_on.is_some() {
                return Err(malformed("doses: is 0, so there is no last_product and no last_dose_on"));
            }
        }
        Ok(facts)
    }
}

/// A year of birth; 0 takes it back.
fn birth_year(year: u16) -> Result<u16, Problem> {
    if year == 0 || YEARS.contains(&year) { Ok(year) } else { Err(malformed("birth_year: must be from 1880 to 2200")) }
}

/// One bit for each of these cohorts.
pub(super) fn cohort_bits(ids: &[String], programme: &Programme) -> Result<u32, Problem> {
    ids.iter().try_fold(0, |bits, id| {
        let shown: String = id.chars().take(80).collect();
        let bit = programme
            .cohort_bit(id)
            .ok_or_else(|| malformed(format!("cohorts: the programme has no cohort {shown:?}")))?;
        Ok(bits | bit)
    })
}

/// `GET /v1/parties/{party}/eligibility`
pub(crate) async fn eligibility(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let asked = Asked::parse(call.query.as_deref().unwrap_or(""))?;
    let party = party_of(&call)?;
    let facts = known(&call, party).await?;
    let rules = call.app.campaign.programme.get();
    let now = call.app.campaign.engine.now();
    let product =
        rules.product_number(&asked.product).ok_or_else(|| malformed("product: is not a product of the programme"))?;
    let pool = asked
        .pool
        .map(|pool| rules.pool_number(&pool).ok_or_else(|| malformed("pool: is not a pool of the programme")));
    let pool = pool.transpose()?;
    let spent = pool.and_then(|pool| call.app.campaign.engine.invitations_spent(party, PROGRAMME, pool, now));
    let question = Question {
        party: facts,
        product,
        // The next one, where none is named.
        dose: Dose(asked.dose.unwrap_or(facts.doses.saturating_add(1))),
        pool,
        on: asked.on.unwrap_or_else(|| rules.calendar().day(now)),
        asked: now,
        invitations_spent: spent.unwrap_or(0),
    };
    let told = rules.explain(&question);
    Ok(respond(StatusCode::OK, Media::Json, json(&Eligibility::new(&rules, &question, &told))))
}

/// The query of a question.
struct Asked {
    product: String,
    dose: Option<u8>,
    on: Option<u16>,
    pool: Option<String>,
}

impl Asked {
    fn parse(query: &str) -> Result<Asked, Problem> {
        let (mut product, mut dose, mut on, mut pool) = (None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let twice = || malformed(format!("{name}: stands twice"));
            let once = |there: bool| if there { Err(twice()) } else { Ok(()) };
            match &*name {
                "product" => {
                    once(product.is_some())?;
                    product = Some(value.into_owned());
                }
                "pool" => {
                    once(pool.is_some())?;
                    pool = Some(value.into_owned());
                }
                "dose" => {
                    once(dose.is_some())?;
                    let number = value.parse().ok().filter(|dose| (1..=10).contains(dose));
                    dose = Some(number.ok_or_else(|| malformed("dose: must be from 1 to 10"))?);
                }
                "on" => {
                    once(on.is_some())?;
                    let date = (value.len() == 10).then(|| value.parse::<Date>().ok()).flatten();
                    let day = date.and_then(Calendar::day_of);
                    on = Some(day.ok_or_else(|| malformed("on: must be a date as 2026-11-24"))?);
                }
                other => {
                    let shown: String = other.chars().take(80).collect();
                    return Err(malformed(format!("{shown:?} is not a parameter of this question")));
                }
            }
        }
        let product = product.ok_or_else(|| malformed("product: is missing"))?;
        Ok(Asked { product, dose, on, pool })
    }
}
