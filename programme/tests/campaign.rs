//! A campaign with its engine: publishing, the catalogue it makes, and the same catalogue out of the journal.

use std::path::Path;

use berth_engine::{
    Claim, Command, Config, Dose, Idempotency, IdempotencyKey, Limits, PartyFacts, PartyId, Policy as _, Refusal,
    Request,
};
use berth_programme::{
    BulkKind, Campaign, CampaignError, Place, Programme, PublishError, Query, Source, Spilled, TakeUpError,
    open_read_only,
};
use jiff::ToSpan;
use jiff::civil::Date;

const REGIONS: &str = r#"{"id":"27","kind":"state","name":"Maharashtra"}
{"id":"395","kind":"district","name":"Mumbai","parent":"27"}"#;
const CENTRES: &str = r#"{"id":"c1","name":"One","district":"395","pincode":"400001"}
{"id":"c2","name":"Two","district":"395","pincode":"400002","address":"2 Station Road"}"#;

fn open(dir: &Path) -> Campaign {
    let programme = Programme::from_toml(include_str!("../../programmes/india-2021.toml")).expect("it is valid");
    Campaign::open(Config::new(dir), programme).expect("the directory is good").0
}

fn publish(campaign: &Campaign, kind: BulkKind, body: &str) -> Result<(u64, u64), PublishError> {
    let published = campaign.publisher.publish(kind, body.as_bytes(), None, campaign.engine.now())?;
    Ok((published.lines, published.slots))
}

fn today(campaign: &Campaign) -> Date {
    campaign.programme.calendar().date(campaign.engine.now())
}

fn session(id: &str, centre: &str, date: Date) -> String {
    format!(
        r#"{{"id":"{id}","centre":"{centre}","date":"{date}","product":"covaxin","windows":[{{"start":"09:00","end":"11:00","pools":{{"dose1":20,"open":0}}}},{{"start":"11:00","end":"13:00","pools":{{"dose1":7}}}}]}}"#
    )
}

/// Whoever asks for what is free where nothing is must not make the server read a nation.
#[test]
fn a_search_that_finds_nothing_ends_and_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let campaign = open(dir.path());
    publish(&campaign, BulkKind::Regions, REGIONS).expect("good lines");
    publish(&campaign, BulkKind::Centres, CENTRES).expect("good lines");
    let day = today(&campaign).saturating_add(1.days());
    let lines = [session("a", "c1", day), session("b", "c2", day)].join("\n");
    publish(&campaign, BulkKind::Sessions, &lines).expect("good lines");
    let mumbai = ["395".to_owned()];
    // A fee that nothing has.
    let nothing = Query { free_of_charge: Some(false), looked_max: 1, ..Query::all(Place::Districts(&mumbai), day, 1) };
    let search = |query: &Query<'_>| {
        let found = campaign.catalogue.availability(query, |_| true, |slot| campaign.engine.counts(slot));
        found.expect("395 is there")
    };
    let first = search(&nothing);
    assert!(first.centres().is_empty() && first.next().is_some(), "it has looked at one session");
    let second = search(&Query { after: first.next(), ..nothing });
    assert_eq!((second.centres().len(), second.next()), (0, None), "the other was the last");
    let all = search(&Query { slots_max: 1, ..Query::all(Place::Districts(&mumbai), day, 1) });
    assert_eq!((all.centres().len(), all.slot_count()), (1, 3), "a centre is not cut");
    let rest = search(&Query { after: all.next(), ..Query::all(Place::Districts(&mumbai), day, 1) });
    assert_eq!(rest.centres().iter().map(|c| &*c.centre.id).collect::<Vec<_>>(), ["c2"]);
    campaign.engine.close().expect("the journal is whole");
}

/// `centre session slot length pool capacity` of everything in the district, in the order found.
fn found(campaign: &Campaign, only_free: bool) -> Vec<String> {
    let mumbai = ["395".to_owned()];
    let query = Query { only_free, ..Query::all(Place::Districts(&mumbai), today(campaign), 28) };
    let now = campaign.engine.now();
    let in_time = |starts_at| campaign.programme.in_time(starts_at, now).is_ok();
    let found = campaign.catalogue.availability(&query, in_time, |slot| campaign.engine.counts(slot));
    let found = found.expect("395 is there");
    let mut lines = Vec::new();
    for centre in found.centres() {
        for offer in found.sessions(centre) {
            for slot in found.slots(offer) {
                let window = slot.window_of(&offer.session).expect("a slot has a window");
                let place = campaign.catalogue.slot(slot.slot.slot).expect("a found slot is known");
                assert_eq!((place.start, place.end, place.pool), (window.start, window.end, slot.slot.pool));
                assert_eq!(place.session.id, offer.session.id);
                let (id, number, capacity) = (&offer.session.id, slot.slot.slot, slot.counts.capacity());
                let pool = campaign.catalogue.pool_name(slot.slot.pool);
                let minutes = (window.end.0 - window.start.0) / 60_000;
                lines.push(format!("{} {id} {number} {minutes}m {pool} {capacity}", centre.centre.id));
            }
        }
    }
    lines
}

#[test]
fn the_journal_makes_the_same_catalogue_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let campaign = open(dir.path());
    let (day1, day2) = (today(&campaign).saturating_add(1.days()), today(&campaign).saturating_add(2.days()));
    assert_eq!(publish(&campaign, BulkKind::Regions, REGIONS).expect("good lines"), (2, 0));
    assert_eq!(publish(&campaign, BulkKind::Centres, CENTRES).expect("good lines"), (2, 0));
    // Later dates first: a search gives them by date.
    let body = [session("b", "c2", day2), session("a", "c1", day2)].join("\n");
    assert_eq!(publish(&campaign, BulkKind::Sessions, &body).expect("good lines"), (2, 6));
    assert_eq!(publish(&campaign, BulkKind::Sessions, &session("c", "c2", day1)).expect("good lines"), (1, 3));
    let before = found(&campaign, false);
    let of_centre_2: Vec<_> = before.iter().filter(|line| line.starts_with("c2")).map(|l| &l[..4]).collect();
    assert_eq!(of_centre_2, ["c2 c", "c2 c", "c2 c", "c2 b", "c2 b", "c2 b"]);
    assert_eq!(found(&campaign, true).len(), 6, "the slots of no capacity are left out");
    campaign.engine.close().expect("the journal is whole");
    drop(campaign);

    let campaign = open(dir.path());
    assert_eq!(found(&campaign, false), before);
    assert_eq!(campaign.catalogue.regions().len(), 2);
    campaign.engine.close().expect("the journal is whole");
    drop(campaign);

    let (engine, catalogue) = open_read_only(dir.path(), &Limits::default(), &mut |_| {}).expect("it is at rest");
    assert_eq!((catalogue.centre_count(), catalogue.session_count()), (2, 3));
    let mut slots = 0;
    engine.for_each_slot(&mut |slot, facts, _| {
        slots += 1;
        assert!(catalogue.slot(slot).is_some());
        assert_eq!(catalogue.product_name(facts.product), "covaxin", "named without a programme file");
    });
    assert_eq!(slots, 9);
}

#[test]
fn of_racing_publishes_of_one_session_one_passes() {
    let dir = tempfile::tempdir().expect("a directory");
    let campaign = open(dir.path());
    publish(&campaign, BulkKind::Regions, REGIONS).expect("good lines");
    publish(&campaign, BulkKind::Centres, CENTRES).expect("good lines");
    let body = session("a", "c1", today(&campaign).saturating_add(1.days()));
    let results: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..4).map(|_| scope.spawn(|| publish(&campaign, BulkKind::Sessions, &body))).collect();
        racers.into_iter().map(|racer| racer.join().expect("no racer panics")).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.iter().filter_map(|result| result.as_ref().err()) {
        let PublishError::Lines(faults) = refused else { panic!("{refused}") };
        assert_eq!(faults.listed()[0].reason, "there is already a session a");
    }
    assert_eq!(found(&campaign, false).len(), 3);
}

#[test]
fn a_repeat_is_answered_and_another_body_under_its_key_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let campaign = open(dir.path());
    let under = |key, fingerprint, body: &str| {
        let idempotency = Idempotency { key: IdempotencyKey(key), fingerprint };
        campaign.publisher.publish(BulkKind::Regions, body.as_bytes(), Some(idempotency), campaign.engine.now())
    };
    let first = under(1, 1, REGIONS).expect("good lines");
    assert!(!first.replayed);
    let again = under(1, 1, REGIONS).expect("a repeat");
    assert_eq!((again.lines, again.replayed), (2, true));
    assert!(matches!(under(1, 2, REGIONS), Err(PublishError::Refused(Refusal::IdempotencyConflict))));
    // Another key: the lines are judged, and are there already.
    assert!(matches!(under(2, 1, REGIONS), Err(PublishError::Lines(_))));
    assert_eq!(campaign.catalogue.regions().len(), 2);
}

const INDIA: &str = include_str!("../../programmes/india-2021.toml");

fn opened(dir: &Path, text: &str) -> Result<Campaign, CampaignError> {
    Campaign::open(Config::new(dir), Programme::from_toml(text).expect("it is valid")).map(|(campaign, _)| campaign)
}

// rule: ELG-2
#[test]
fn a_start_goes_on_with_what_was_in_force_and_refuses_what_breaks_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let more = INDIA.replacen("[[cohorts]]", "[[pools]]\nid = \"new\"\nname = \"New\"\n\n[[cohorts]]", 1);
    let campaign = opened(dir.path(), INDIA).expect("the directory is good");
    let file_sha256 = *campaign.programme.get().sha256();
    let taken = campaign.publisher.take_up(&more, Source::Call { file_sha256 }, None, campaign.engine.now());
    let taken = taken.expect("it only appends");
    assert!(taken.changed && campaign.programme.get().pool_number("new").is_some());
    // Sessions rest on what the file does not have.
    publish(&campaign, BulkKind::Regions, REGIONS).expect("good lines");
    publish(&campaign, BulkKind::Centres, CENTRES).expect("good lines");
    let line = session("a", "c1", today(&campaign).saturating_add(1.days())).replace("\"open\"", "\"new\"");
    publish(&campaign, BulkKind::Sessions, &line).expect("good lines");
    campaign.engine.close().expect("the journal is whole");
    drop(campaign);

    let campaign = opened(dir.path(), INDIA).expect("the file has not changed since");
    let now = campaign.programme.get();
    assert_eq!((*now.sha256(), now.since, now.entry), (taken.sha256, taken.since, taken.entry));
    drop(now);
    let last = campaign.engine.appended();
    campaign.engine.close().expect("the journal is whole");
    drop(campaign);

    let changed = INDIA.replace("hold_seconds = 300", "hold_seconds = 200");
    let Err(error) = opened(dir.path(), &changed) else { panic!("the new pool is not in it") };
    assert!(error.to_string().contains("pool number 4 is new"), "{error}");
    let swapped = more.replace("\"frontline\"", "\"x\"").replace("\"health_worker\"", "\"frontline\"");
    let swapped = swapped.replace("\"x\"", "\"health_worker\"");
    let Err(error) = opened(dir.path(), &swapped) else { panic!("people are in these cohorts") };
    assert!(matches!(&error, CampaignError::Breaks { faults, .. } if faults.len() == 2), "{error}");
    let campaign = opened(dir.path(), &more).expect("it keeps everything");
    // Its text was in force already; that it is the file's now is one entry.
    assert_eq!((campaign.engine.appended().0, *campaign.programme.get().sha256()), (last.0 + 1, taken.sha256));
    campaign.engine.close().expect("the journal is whole");
}

// rule: ELG-2
#[test]
fn claims_that_race_a_change_are_judged_by_one_or_the_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let campaign = opened(dir.path(), INDIA).expect("the directory is good");
    publish(&campaign, BulkKind::Regions, REGIONS).expect("good lines");
    publish(&campaign, BulkKind::Centres, CENTRES).expect("good lines");
    let day = today(&campaign).saturating_add(3.days());
    let line = session("a", "c1", day).replace("\"dose1\":20", "\"dose1\":2000");
    publish(&campaign, BulkKind::Sessions, &line).expect("good lines");
    let facts = PartyFacts { birth_year: 1980, ..PartyFacts::default() };
    let submit = |command: Command<'_>| {
        let request = Request { command, idempotency: None };
        campaign.engine.submit(&request, campaign.engine.now()).expect("the journal goes on").result
    };
    submit(Command::AddParties { count: 600, facts }).expect("there is room");
    let slot = campaign.catalogue.session("a").expect("published").slots[0].slot;
    // Who may come before may not after, and the other way round.
    let shut = INDIA.replace("booking_horizon_days = 28", "booking_horizon_days = 1");
    let (booked, refused) = std::thread::scope(|scope| {
        let claims = scope.spawn(|| {
            let book = |party: u32| {
                let claim = Claim { party: PartyId(party), slot, dose: Dose(1) };
                match submit(Command::Book { claims: &[claim] }) {
                    Ok(_) => (1, 0),
                    Err(Refusal::NotEligible { rule: "booking_horizon", .. }) => (0, 1),
                    Err(other) => panic!("{other}"),
                }
            };
            (0..600).map(book).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        });
        for turn in 0..20 {
            let text = if turn % 2 == 0 { shut.as_str() } else { INDIA };
            let taken = campaign.publisher.take_up(text, Source::File, None, campaign.engine.now());
            assert!(taken.expect("both are good").changed);
        }
        claims.join().expect("no claim panics")
    });
    assert_eq!(booked + refused, 600);
    assert_eq!(campaign.engine.counts(slot).expect("it is there").booked().get(), booked);
    assert_eq!(campaign.catalogue.programmes().len(), 21, "each is in the journal");
    let wrong = campaign.publisher.take_up("name = 1", Source::File, None, campaign.engine.now());
    assert!(matches!(wrong, Err(TakeUpError::Faults(_))));
    let no_toml = campaign.publisher.take_up("name = ", Source::File, None, campaign.engine.now());
    assert!(matches!(no_toml, Err(TakeUpError::Shape(_))));
    campaign.engine.close().expect("the journal is whole");
}

/// A search by dose finds what has spilled to it, from that instant on; and the policy agrees.
#[test]
fn a_search_finds_what_has_spilled() {
    let dir = tempfile::tempdir().expect("a directory");
    let text =
        INDIA.replace("dose = 2\nwalk_in", "dose = 2\nspills_to = \"open\"\nspill_minutes_before = 1440\nwalk_in");
    let campaign = opened(dir.path(), &text).expect("the directory is good");
    publish(&campaign, BulkKind::Regions, REGIONS).expect("good lines");
    publish(&campaign, BulkKind::Centres, CENTRES).expect("good lines");
    let day = today(&campaign).saturating_add(5.days());
    publish(&campaign, BulkKind::Sessions, &session("a", "c1", day).replace("\"dose1\"", "\"dose2\""))
        .expect("good lines");
    let rules = campaign.programme.get();
    let pools = rules.spills_to_dose(Dose(1));
    assert_eq!((pools.len(), rules.spills_to_dose(Dose(2)).len()), (1, 0), "dose1 stays what it is");
    let mumbai = ["395".to_owned()];
    let place = campaign.catalogue.session("a").expect("published");
    let (starts_at, slot) = (place.windows[0].start, place.slots[0].slot);
    let facts = campaign.engine.slot_facts(slot).expect("published");
    for (before_ms, found) in [(86_400_001, 0), (86_400_000, 1)] {
        let now = berth_engine::TimestampMs(starts_at.0 - before_ms);
        let spilled = Spilled { pools: &pools, now };
        let none = std::iter::empty().collect();
        let query = Query { pools: none, spilled, ..Query::all(Place::Districts(&mumbai), day, 1) };
        let told = campaign.catalogue.availability(&query, |_| true, |slot| campaign.engine.counts(slot));
        let told = told.expect("395 is there");
        assert_eq!(told.all_slots().filter(|offer| offer.slot.slot == slot).count(), found);
        let may = rules.may_claim(&PartyFacts { birth_year: 1980, ..PartyFacts::default() }, &facts, Dose(1), now);
        assert_eq!(may.is_ok(), found == 1, "{may:?}");
    }
    drop(rules);
    campaign.engine.close().expect("the journal is whole");
}
