//! `berth demo`: a made-up campaign in a directory of its own, to be played with at once.

mod inventory;
mod stock;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use berth_engine::{Command, Dose, PartyFacts, PartyId, Policy as _, Request, SlotId};
use berth_programme::{BulkKind, Campaign, Place, Programme, Query};
use clap::Args;
use jiff::ToSpan;
use jiff::civil::Date;

use crate::access::{KeyEntry, Role, hash, new_key};
use crate::app::App;
use crate::cli;
use crate::config::{ConfigFile, FhirEntry};
use crate::server;

const PROGRAMME: &str = include_str!("../../../programmes/india-2021.toml");
/// Sessions are topped up to this many days from today on.
const DAYS: i32 = 14;
const PARTIES: u32 = 1000;
const LISTEN: &str = "127.0.0.1:8080";

/// What the demo is told.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DemoArgs {
    /// Where its journal lies; a second run goes on with it. [default: ./berth-demo]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// HOST:PORT to listen on. [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

/// A key of each role, made for this run.
struct Keys {
    admin: String,
    platform: String,
}

/// Runs the demo until it is stopped.
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, String> {
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from("berth-demo"));
    let (listener, address) = match &args.listen {
        Some(listen) => server::bind(listen)?,
        None => server::bind(LISTEN).or_else(|_| server::bind("127.0.0.1:0"))?,
    };
    let key = |role| new_key(role).map_err(|error| format!("cannot make a key: {error}"));
    let keys = Keys { admin: key(Role::Admin)?, platform: key(Role::Platform)? };
    let app = open(&dir, &keys, &format!("http://{address}"))?;
    seed(&app.campaign)?;
    let stocked = stock::seed(&app)?;
    let (party, slot) = something_to_book(&app.campaign)?;
    let names = app.names();
    let example = Example {
        address: address.to_string(),
        from: tomorrow(&app.campaign).to_string(),
        party: names.party(party),
        slot: names.slot(slot),
        stocked,
    };
    let text = welcome(&dir, &keys, &example)?;
    cli::run_server(app, listener, || cli::say(&text))
}

fn open(dir: &Path, keys: &Keys, url: &str) -> Result<Arc<App>, String> {
    let programme = Programme::from_toml(PROGRAMME).map_err(|error| error.to_string())?;
    let entry = |role: Role, key| KeyEntry::new(role, "demo", hash(key));
    let file = ConfigFile {
        listen: Some(LISTEN.to_owned()),
        public_url: Some(url.to_owned()),
        fhir: FhirEntry {
            booking_link: Some(format!("{url}/docs#{{slot}}")),
            phone: Some(inventory::HELPLINE.to_owned()),
            ..FhirEntry::default()
        },
        data_dir: Some(dir.to_owned()),
        programme: Some(PathBuf::new()),
        keys: vec![entry(Role::Admin, &keys.admin), entry(Role::Platform, &keys.platform)],
        ..ConfigFile::default()
    };
    let settings = file.validate().map_err(|faults| format!("{faults:?}"))?;
    cli::open(&settings, programme)
}

/// Publishes what is not there yet: everything in a new directory, the days since the last run in an old one, and
/// the rest where an earlier run was stopped half-way. Each publish is there whole or not at all.
fn seed(campaign: &Campaign) -> Result<(), String> {
    let now = campaign.engine.now();
    let publish = |kind, body: String| {
        if body.is_empty() {
            return Ok(());
        }
        // No key: this process knows that it publishes once.
        let published = campaign.publisher.publish(kind, body.as_bytes(), None, now);
        published.map(|_| ()).map_err(|error| format!("cannot publish the demo's inventory: {error}"))
    };
    if campaign.catalogue.regions().is_empty() {
        publish(BulkKind::Regions, inventory::regions())?;
    }
    if campaign.catalogue.centre_count() == 0 {
        publish(BulkKind::Centres, inventory::centres())?;
    }
    let today = campaign.programme.calendar().date(now);
    let exists = |centre: &str, date| campaign.catalogue.has_session(&format!("{centre}-{date}"));
    publish(BulkKind::Sessions, inventory::sessions(today, DAYS, exists))?;
    for (birth_year, up_to) in [(1950, PARTIES / 4), (1992, PARTIES)] {
        let there = u32::try_from(campaign.engine.stats().parties).unwrap_or(u32::MAX);
        if there < up_to {
            let facts = PartyFacts { birth_year, ..PartyFacts::default() };
            execute(campaign, Command::AddParties { count: up_to - there, facts })?;
        }
    }
    Ok(())
}

fn execute(campaign: &Campaign, command: Command<'_>) -> Result<(), String> {
    let engine = &campaign.engine;
    let submitted = engine.submit(&Request { command, idempotency: None }, engine.now());
    let submitted = submitted.map_err(|failure| failure.to_string())?;
    engine.ticket(submitted.seq).wait().map_err(|failure| failure.to_string())?;
    submitted.result.map(|_| ()).map_err(|refusal| refusal.to_string())
}

/// Today's windows may have begun, and what has begun cannot be booked.
fn tomorrow(campaign: &Campaign) -> Date {
    campaign.programme.calendar().date(campaign.engine.now()).saturating_add(1.days())
}

/// A party without a claim and a slot it may have, so that the printed line works as it stands.
fn something_to_book(campaign: &Campaign) -> Result<(PartyId, SlotId), String> {
    let engine = &campaign.engine;
    let free = |party: &PartyId| engine.party_bookings(*party).is_some_and(|view| view.bookings.is_empty());
    let parties = u32::try_from(engine.stats().parties).unwrap_or(u32::MAX);
    let party = match (0..parties).map(PartyId).find(free) {
        Some(party) => party,
        None => {
            execute(campaign, Command::AddParties { count: PARTIES, facts: PartyFacts::default() })?;
            PartyId(parties)
        }
    };
    let now = engine.now();
    let district = [inventory::FAVOURITE_DISTRICT.to_owned()];
    let query = Query {
        pools: campaign.programme.get().pool_number("dose1").map(|pool| pool.0).into_iter().collect(),
        only_free: true,
        ..Query::all(Place::Districts(&district), tomorrow(campaign), 28)
    };
    let in_time = |starts_at| campaign.programme.in_time(starts_at, now).is_ok();
    let found = campaign.catalogue.availability(&query, in_time, |slot| engine.counts(slot)).unwrap_or_default();
    let may = |slot: &SlotId| {
        let facts = engine.slot_facts(*slot);
        let may = |facts| campaign.programme.may_claim(&PartyFacts::default(), &facts, Dose(1), now).is_ok();
        facts.is_some_and(may)
    };
    let mut slots = found.all_slots().map(|offer| offer.slot.slot);
    let slot = slots.find(may).ok_or("every slot of the demo is taken: remove its directory to begin anew")?;
    Ok((party, slot))
}

/// What the printed lines name.
struct Example {
    address: String,
    from: String,
    party: String,
    slot: String,
    stocked: stock::Shown,
}

fn welcome(dir: &Path, keys: &Keys, example: &Example) -> Result<String, String> {
    let Keys { admin, platform } = keys;
    let Example { address, from, party, slot, stocked: stock::Shown { centre, batch } } = example;
    let district = inventory::FAVOURITE_DISTRICT;
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|error| format!("cannot make a key: {error}"))?;
    let once = random.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let dir = dir.display();
    Ok(format!(
        r#"berth listening on http://{address}

A made-up campaign: 3 states, 20 districts, 100 centres, {DAYS} days of sessions. Its journal is in {dir};
stop with Ctrl-C, run again to go on. Keys of this run:

  admin     {admin}
  platform  {platform}

Search, book in one step, read what the party has:

curl -s 'http://{address}/v1/availability?district={district}&from={from}&days=2&available=true'

curl -s -X POST http://{address}/v1/bookings -H 'Authorization: Bearer {platform}' -H 'Idempotency-Key: {once}' -H 'Content-Type: application/json' -d '{{"claims":[{{"party":"{party}","slot":"{slot}","dose":1}}]}}'

curl -s http://{address}/v1/parties/{party}/bookings -H 'Authorization: Bearer {platform}'

What a centre has in stock, who had a dose of a batch there, and what became of doses today:

curl -s http://{address}/v1/centres/{centre}/stock -H 'Authorization: Bearer {admin}'

curl -s 'http://{address}/v1/batches/{batch}/doses?centre={centre}' -H 'Authorization: Bearer {admin}'

curl -s http://{address}/v1/districts/{district}/waste -H 'Authorization: Bearer {admin}'
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeding_goes_on_where_an_earlier_run_was_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let app = App::for_test(dir.path());
        let campaign = &app.campaign;
        let regions = inventory::regions();
        campaign.publisher.publish(BulkKind::Regions, regions.as_bytes(), None, campaign.engine.now()).unwrap();
        execute(campaign, Command::AddParties { count: PARTIES / 4, facts: PartyFacts::default() }).unwrap();
        for _ in 0..2 {
            seed(campaign).unwrap();
            assert_eq!((campaign.catalogue.centre_count(), campaign.engine.stats().parties), (100, PARTIES.into()));
            something_to_book(campaign).unwrap();
        }
        campaign.engine.close().unwrap();
    }
}
