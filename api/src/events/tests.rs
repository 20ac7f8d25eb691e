//! The projection in this process, beside a real redis-server, and the page's examples.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use berth_engine::{
    BookingNumber, By, Claim, Command, Config, Dose, Outcome, PartyFacts, PartyId, RedisConfig, Refusal, Request, Seq,
    SlotId, TimestampMs,
};
use berth_programme::{BulkKind, Programme};
use redis::Commands;
use serde_json::Value;

use super::project::Projector;
use super::*;
use redis_server::{Redis, free_port, patiently};

#[path = "../../tests/http/redis.rs"]
mod redis_server;

const STREAM: &str = "berth:{1}:events";

fn config(port: u16) -> EventsConfig {
    EventsConfig {
        redis: RedisConfig::new(format!("redis://127.0.0.1:{port}"), ""),
        stream: STREAM.to_owned(),
        len_max: 1_000_000,
        source: "https://booking.example.org".to_owned(),
        booking_codes: false,
        lag_entries_max: 1_000_000,
        resume: None,
    }
}

/// A campaign in `dir` whose log is quick to fill.
fn campaign(dir: &Path) -> Campaign {
    campaign_with(dir, u64::MAX)
}

fn campaign_with(dir: &Path, log_bytes_max: u64) -> Campaign {
    let programme = Programme::from_toml(include_str!("../../../programmes/india-2021.toml")).unwrap();
    let mut config = Config::new(dir);
    config.journal.segment_bytes = 1 << 20;
    config.journal.buffer_bytes = 512 << 10;
    config.journal.log_bytes_max = log_bytes_max;
    Campaign::open(config, programme).unwrap().0
}

fn run(campaign: &Campaign, command: Command<'_>, now: TimestampMs) -> u64 {
    let seq = append(campaign, command, now);
    campaign.engine.ticket(seq).wait().unwrap();
    seq.0
}

/// As [`run`], without waiting for the disk.
fn append(campaign: &Campaign, command: Command<'_>, now: TimestampMs) -> Seq {
    // While the next segment is being made, a large note may be refused.
    let submitted = patiently("there is room", || {
        let submitted = campaign.engine.submit(&Request { command, idempotency: None }, now).unwrap();
        (submitted.result != Err(Refusal::JournalFull)).then_some(submitted)
    });
    submitted.result.unwrap();
    submitted.seq
}

fn add_parties(campaign: &Campaign, times: u64) -> u64 {
    let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
    (0..times).fold(0, |_, _| run(campaign, command, campaign.engine.now()))
}

/// Notes until the log has about so many segments more.
fn fill(campaign: &Campaign, segments: usize) {
    for _ in 0..segments * 3 {
        run(campaign, Command::Note { note: &vec![7; 400 << 10] }, campaign.engine.now());
    }
}

fn caught_up(events: &Events, seq: u64) {
    patiently("everything is told", || {
        let stats = events.stats();
        (stats.connected && stats.told == seq && stats.lag_entries == 0).then_some(())
    });
}

/// The ids in the stream.
fn ids(redis: &Redis) -> Vec<String> {
    redis.events(STREAM).into_iter().map(|(id, _)| id).collect()
}

// rule: EVT-1
#[test]
fn a_wiped_redis_is_told_again_and_one_that_lost_its_end_from_there() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let campaign = campaign(data.path());
    let events = Events::start(config(redis.port), &campaign).unwrap();
    add_parties(&campaign, 20);
    fill(&campaign, 2);
    let seq = add_parties(&campaign, 5);
    caught_up(&events, seq);
    let all = ids(&redis);
    assert_eq!(all.len(), 25);

    let mut connection = redis.connection();
    let () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
    patiently("the wipe is healed without a new entry", || (ids(&redis) == all).then_some(()));

    // As a failover to a replica that lagged: stream and cursor are of an earlier moment, together.
    let (last, before) = (&all[24], &all[23]);
    let before: u64 = before.split_once('-').unwrap().0.parse().unwrap();
    let mut places = Vec::new();
    let mut tail = campaign.engine.tail(LogPlace::default()).unwrap();
    while tail.next(&mut |_, _, _| ()).unwrap() {
        places.push(tail.place());
    }
    let place = places.iter().find(|place| place.seq.0 == before).unwrap();
    let () = redis::pipe()
        .atomic()
        .cmd("XDEL")
        .arg(STREAM)
        .arg(last)
        .cmd("XSETID")
        .arg(STREAM)
        .arg(format!("{before}-0"))
        .cmd("HSET")
        .arg(format!("{STREAM}:cursor"))
        .arg(&["entry", &before.to_string(), "told", "0", "frame", &before.to_string()])
        .arg(&["link", &format!("{:016x}", place.link.0)])
        .query(&mut connection)
        .unwrap();
    patiently("the end is told again", || (ids(&redis) == all).then_some(()));
    assert!(events.stats().errors >= 1);
    campaign.engine.close().unwrap();
}

// rule: EVT-1
#[test]
fn what_the_log_lost_before_it_was_told_is_said_by_a_gap_event() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let campaign = campaign(data.path());
    let mut config = config(port);
    config.lag_entries_max = 1000;
    // Nobody listens there yet.
    let events = Events::start(config, &campaign).unwrap();
    for _ in 0..3 {
        fill(&campaign, 2);
        assert_eq!(campaign.engine.snapshot().unwrap().unwrap().segments_trimmed, 0, "the log is kept for the stream");
    }
    let stats = patiently("the lag is noticed", || Some(events.stats()).filter(|stats| stats.lag > Duration::ZERO));
    assert!(
        !stats.connected && stats.told == 0 && stats.errors > 0 && stats.lag_entries == campaign.engine.durable().0
    );
    add_parties(&campaign, 1000);
    let seq = patiently("past the bound the log is let go", || {
        let seq = add_parties(&campaign, 1);
        (campaign.engine.snapshot().unwrap().unwrap().segments_trimmed > 0).then_some(seq)
    });
    let redis = Redis::start(store.path(), port);
    caught_up(&events, seq);
    let told = redis.events(STREAM);
    let (id, gap) = &told[0];
    assert_eq!((gap["type"].as_str(), gap["data"]["first_entry"].as_u64()), (Some("io.berth.gap.v1"), Some(1)));
    let last = gap["data"]["last_entry"].as_u64().unwrap();
    assert_eq!((id.as_str(), &gap["id"]), (format!("{last}-0").as_str(), &format!("1-{last}-gap").into()));
    let entries: Vec<u64> = told[1..].iter().map(|(id, _)| id.split_once('-').unwrap().0.parse().unwrap()).collect();
    // Behind the gap nothing is missing but notes, of which none came after the parties began.
    assert_eq!(entries.last(), Some(&seq));
    assert!(entries.windows(2).all(|pair| pair[1] == pair[0] + 1), "{entries:?}");
    assert!(entries[0] > last);
    assert_eq!(events.stats().gaps, 1);
    campaign.engine.close().unwrap();
}

/// A log at its bound is let go for bookings, not kept for events.
#[test]
fn a_redis_that_is_gone_does_not_stop_bookings_when_the_log_is_full() {
    let data = tempfile::tempdir().unwrap();
    let campaign = campaign_with(data.path(), 8 << 20);
    let events = Events::start(config(free_port()), &campaign).unwrap();
    let now = at("2026-11-23T16:00:00+05:30");
    publish(&campaign, now, 20);
    run(&campaign, Command::AddParties { count: 300, facts: PartyFacts::default() }, now);
    let hold =
        |party| hold(&campaign, &[Claim { party: PartyId(party), slot: SlotId(party / 20), dose: Dose(1) }], now);
    let mut holds: Vec<_> = (0..300).map(hold).collect();
    let note = |campaign: &Campaign| {
        let command = Command::Note { note: &vec![7; 100 << 10] };
        let submitted = campaign.engine.submit(&Request { command, idempotency: None }, campaign.engine.now()).unwrap();
        submitted.result.is_ok()
    };
    patiently("the log is full", || (!note(&campaign) && campaign.engine.stats().journal_starved == 1).then_some(()));
    // What the server's own snapshots do when the journal is starved; what settles claims comes from the reserve meanwhile.
    patiently("there is room again", || {
        run(&campaign, Command::Release { hold: holds.pop().unwrap() }, now);
        std::thread::sleep(Duration::from_millis(90));
        campaign.engine.snapshot().unwrap();
        note(&campaign).then_some(())
    });
    assert!(!events.stats().connected);
    campaign.engine.close().unwrap();
}

/// What is told is not kept, however long the connection lasts.
// rule: SNP-2
#[test]
fn a_connected_stream_lets_the_log_be_trimmed_behind_what_it_was_told() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let campaign = campaign(data.path());
    let events = Events::start(config(redis.port), &campaign).unwrap();
    let mut trimmed = 0;
    for _ in 0..4 {
        fill(&campaign, 2);
        let seq = add_parties(&campaign, 1);
        caught_up(&events, seq);
        trimmed += campaign.engine.snapshot().unwrap().unwrap().segments_trimmed;
    }
    assert!(trimmed >= 3, "only {trimmed} segments were trimmed");
    let seq = add_parties(&campaign, 1);
    caught_up(&events, seq);
    let stats = events.stats();
    assert_eq!((stats.events, stats.gaps, stats.errors), (5, 0, 0));
    campaign.engine.close().unwrap();
}

/// Stands before a Redis and lets so many of its answers through.
struct Gate {
    port: u16,
    answers: Arc<AtomicU64>,
}

impl Gate {
    /// Open until it is told otherwise.
    fn before(redis: u16) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Gate { port: listener.local_addr().unwrap().port(), answers: Arc::new(AtomicU64::new(u64::MAX)) };
        let answers = Arc::clone(&gate.answers);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, mut server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", redis)).unwrap());
                let (mut asking, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut asking, &mut asked));
                let answers = Arc::clone(&answers);
                std::thread::spawn(move || {
                    let mut answer = [0; 65536];
                    while let Ok(len @ 1..) = server.read(&mut answer) {
                        let may = |left: u64| left.checked_sub(u64::from(left != u64::MAX));
                        while answers.fetch_update(Relaxed, Relaxed, may).is_err() {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        if client.write_all(&answer[..len]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        gate
    }

    fn let_through(&self, answers: u64) {
        self.answers.store(answers, Relaxed);
    }
}

/// Nor is it kept for a Redis that is connected and takes events more slowly than the log fills.
#[test]
fn a_redis_that_is_slow_does_not_stop_bookings_when_the_log_is_full() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let gate = Gate::before(redis.port);
    let campaign = campaign_with(data.path(), 8 << 20);
    let events = Events::start(config(gate.port), &campaign).unwrap();
    let now = at("2026-11-23T16:00:00+05:30");
    publish(&campaign, now, 20);
    let seq = run(&campaign, Command::AddParties { count: 100, facts: PartyFacts::default() }, now);
    caught_up(&events, seq);
    let hold =
        |party| hold(&campaign, &[Claim { party: PartyId(party), slot: SlotId(party / 20), dose: Dose(1) }], now);
    gate.let_through(0);
    let mut holds: Vec<_> = (0..100).map(hold).collect();
    // More than the steps below tell, at 512 events a step.
    let steps = 25;
    for _ in 0..steps * 1000 {
        append(&campaign, Command::AddParties { count: 1, facts: PartyFacts::default() }, now);
    }
    let note = |campaign: &Campaign| {
        let command = Command::Note { note: &vec![7; 100 << 10] };
        let submitted = campaign.engine.submit(&Request { command, idempotency: None }, campaign.engine.now()).unwrap();
        submitted.result.is_ok()
    };
    patiently("the log is full", || (!note(&campaign) && campaign.engine.stats().journal_starved == 1).then_some(()));
    let room = (0..steps).any(|_| {
        assert!(events.stats().connected, "this is about a Redis that answers");
        gate.let_through(1);
        run(&campaign, Command::Release { hold: holds.pop().unwrap() }, now);
        std::thread::sleep(Duration::from_millis(400));
        campaign.engine.snapshot().unwrap();
        note(&campaign)
    });
    assert!(room, "the log is kept for a Redis that is slow");
    // What was lost for it is named.
    gate.let_through(u64::MAX);
    patiently("it catches up", || {
        let stats = events.stats();
        (stats.connected && stats.lag_entries == 0 && stats.gaps == 1).then_some(())
    });
    campaign.engine.close().unwrap();
}

// rule: EVT-1
#[test]
fn an_older_owner_and_another_log_tell_nothing() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let mut connection = redis.connection();
    let cursor = format!("{STREAM}:cursor");
    let campaign_1 = campaign(data.path());
    let events = Events::start(config(redis.port), &campaign_1).unwrap();
    let seq = add_parties(&campaign_1, 10);
    caught_up(&events, seq);
    let () = connection.hset(&cursor, "epoch", 99).unwrap();
    add_parties(&campaign_1, 1);
    patiently("it is fenced", || events.stats().stopped.then_some(()));
    let before = ids(&redis);
    assert_eq!(before.len(), 10);
    let () = connection.hset(&cursor, "epoch", 1).unwrap();

    // A log that ends before the cursor, and one in which the cursor's place is another.
    for parties in [3, 30] {
        let other = tempfile::tempdir().unwrap();
        let campaign = campaign(other.path());
        add_parties(&campaign, parties);
        let events = Events::start(config(redis.port), &campaign).unwrap();
        patiently("it stops", || events.stats().stopped.then_some(()));
        assert_eq!(ids(&redis), before, "another history was mixed in");
        campaign.engine.close().unwrap();
    }
    campaign_1.engine.close().unwrap();
}

/// What a lost reply leads to: the same step asked for again, from where the cursor no longer stands. The repeat with later
/// ids shows that it is the cursor that refuses it, and not the stream.
// rule: EVT-1
#[test]
fn a_step_from_where_the_cursor_no_longer_stands_changes_nothing() {
    use super::stream::{Connection, Position, Ready, Said};
    use berth_engine::{Epoch, Seq};
    let store = tempfile::tempdir().unwrap();
    let redis = Redis::start(store.path(), free_port());
    let mut connection = Connection::open(&config(redis.port), Epoch(1)).unwrap();
    let event = |seq| [Ready { seq: Seq(seq), n: 0, json: "{}".to_owned() }];
    let (start, one) = (Position::default(), Position { entry: Seq(1), ..Position::default() });
    assert_eq!(connection.tell(&start, &one, &event(1)).unwrap(), Said::Done);
    for (at, seq) in [(start, 1), (start, 2), (Position { told: 1, ..one }, 2)] {
        let to = Position { entry: Seq(seq), ..Position::default() };
        assert_eq!(connection.tell(&at, &to, &event(seq)).unwrap(), Said::Elsewhere);
    }
    assert_eq!((ids(&redis), connection.position().unwrap()), (vec!["1-0".to_owned()], Some(one)));
}

/// A publish of more slots than one step tells: told in parts, and gone on with inside the entry.
// rule: EVT-1
#[test]
fn a_large_publish_is_told_whole_in_several_steps() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let campaign = campaign(data.path());
    let now = at("2026-11-23T16:00:00+05:30");
    publish(&campaign, now, 1500);
    let redis = Redis::start(store.path(), port);
    let events = Events::start(config(port), &campaign).unwrap();
    caught_up(&events, 4);
    let all = ids(&redis);
    assert_eq!(all.len(), 1500);
    assert_eq!((all.first().unwrap().as_str(), all.last().unwrap().as_str()), ("4-0", "4-1499"));
    drop(events);

    // As after a crash between two steps.
    let () = redis::pipe()
        .atomic()
        .cmd("XTRIM")
        .arg(&[STREAM, "MAXLEN", "0"])
        .cmd("XSETID")
        .arg(STREAM)
        .arg("4-699")
        .cmd("HSET")
        .arg(format!("{STREAM}:cursor"))
        .arg(&["entry", "3", "told", "700"])
        .query(&mut redis.connection())
        .unwrap();
    // The place in the log belongs to the cursor.
    let mut tail = campaign.engine.tail(LogPlace::default()).unwrap();
    let mut place = LogPlace::default();
    while tail.place().seq.0 < 3 {
        assert!(tail.next(&mut |_, _, _| ()).unwrap());
        place = tail.place();
    }
    let mut connection = redis.connection();
    let fields = [("frame", place.seq.0.to_string()), ("link", format!("{:016x}", place.link.0))];
    let () = connection.hset_multiple(format!("{STREAM}:cursor"), &fields).unwrap();
    let events = Events::start(config(port), &campaign).unwrap();
    caught_up(&events, 4);
    assert_eq!(ids(&redis), all[700..]);
    campaign.engine.close().unwrap();
}

fn at(time: &str) -> TimestampMs {
    let time: jiff::Timestamp = time.parse().unwrap();
    TimestampMs(u64::try_from(time.as_millisecond()).unwrap())
}

/// Entries 1 to 3: regions, a centre, and a session each for so many windows.
fn publish(campaign: &Campaign, now: TimestampMs, windows: usize) {
    let publish = |kind, body: &str| campaign.publisher.publish(kind, body.as_bytes(), None, now).unwrap();
    let regions = "{\"id\":\"27\",\"kind\":\"state\",\"name\":\"Maharashtra\"}\n\
                   {\"id\":\"395\",\"kind\":\"district\",\"name\":\"Mumbai\",\"parent\":\"27\"}";
    publish(BulkKind::Regions, regions);
    let centre = "{\"id\":\"c395-01\",\"name\":\"PHC One\",\"district\":\"395\",\"pincode\":\"400001\"}";
    publish(BulkKind::Centres, centre);
    let session = |index: usize| {
        let id = if index == 0 { String::new() } else { format!("-{index}") };
        format!(
            "{{\"id\":\"c395-01-2026-11-24{id}\",\"centre\":\"c395-01\",\"date\":\"2026-11-24\",\
             \"product\":\"covishield\",\"windows\":[{{\"start\":\"09:00\",\"end\":\"11:00\",\"pools\":{{\"dose1\":20}}}}]}}"
        )
    };
    publish(BulkKind::Sessions, &(0..windows).map(session).collect::<Vec<_>>().join("\n"));
}

fn hold(campaign: &Campaign, claims: &[Claim], now: TimestampMs) -> BookingNumber {
    let command = Command::Hold { claims, ttl: Duration::from_secs(300) };
    let submitted = campaign.engine.submit(&Request { command, idempotency: None }, now).unwrap();
    let Ok(Outcome::Held { claims, .. }) = submitted.result else { panic!("not held: {submitted:?}") };
    claims[0].number
}

/// The events of a small story whose every moment is given.
fn story(dir: &Path) -> Vec<Value> {
    let campaign = campaign(dir);
    let now = at("2026-11-23T16:00:00.250+05:30");
    publish(&campaign, now, 2);
    run(&campaign, Command::AddParties { count: 100, facts: PartyFacts::default() }, now);
    let claim = |party, slot| Claim { party: PartyId(party), slot: SlotId(slot), dose: Dose(1) };
    let hold = |claims: &[Claim]| {
        let submitted = campaign
            .engine
            .submit(
                &Request { command: Command::Hold { claims, ttl: Duration::from_secs(300) }, idempotency: None },
                now,
            )
            .unwrap();
        let Ok(berth_engine::Outcome::Held { claims, .. }) = submitted.result else { panic!("not held") };
        claims[0].number
    };
    let second = berth_engine::BookingNumber(1);
    let first = hold(&[claim(17, 0), claim(18, 0)]);
    run(&campaign, Command::Confirm { hold: first }, now);
    run(&campaign, Command::Cancel { booking: second, by: By::Holder }, now);
    run(&campaign, Command::Move { booking: first, to: SlotId(1), by: By::Holder }, now);
    run(&campaign, Command::Release { hold: hold(&[claim(18, 0)]) }, now);
    let left = hold(&[claim(19, 0)]);
    run(&campaign, Command::Expire { hold: left }, now.plus(Duration::from_secs(301)));
    run(&campaign, Command::Book { claims: &[claim(20, 0)] }, now);
    run(&campaign, Command::Close { slot: SlotId(0) }, now);
    run(&campaign, Command::Book { claims: &[claim(21, 1), claim(22, 1)] }, now);
    let pair = [berth_engine::BookingNumber(6), berth_engine::BookingNumber(7)];
    run(&campaign, Command::CancelGroup { bookings: &pair, by: By::Administration }, now);
    run(&campaign, Command::Book { claims: &[claim(23, 1), claim(24, 1)] }, now);
    run(&campaign, Command::Open { slot: SlotId(0) }, now);
    let [late, other] = [8, 9].map(berth_engine::BookingNumber);
    run(&campaign, Command::Move { booking: other, to: SlotId(0), by: By::Administration }, now);
    let morning = at("2026-11-24T09:30:00+05:30");
    run(&campaign, Command::CheckIn { booking: berth_engine::BookingNumber(2) }, morning);
    run(&campaign, Command::Complete { booking: berth_engine::BookingNumber(2) }, morning);
    run(&campaign, Command::NoShow { booking: late }, morning);
    run(&campaign, Command::WalkIn { claim: claim(25, 1) }, morning);
    let note = b"nobody's business";
    run(&campaign, Command::Record { kind: 1, bytes: note, urgent: false }, morning);
    let (booking, given_at, product) = (berth_engine::BookingNumber(11), morning, None);
    let command = Command::CompleteNoted { booking, given_at, product, note };
    run(&campaign, command, morning);
    let (party, facts, expected) = (PartyId(25), PartyFacts { birth_year: 1990, ..PartyFacts::default() }, None);
    run(&campaign, Command::ChangeFacts { party, facts, expected, note }, morning);
    campaign.engine.close().unwrap();

    let projector = Projector::new(campaign.clone(), &config(1));
    let mut entries = Vec::new();
    let mut tail = campaign.engine.tail(LogPlace::default()).unwrap();
    while tail.next(&mut |seq, _, entry| entries.push((seq, entry.clone()))).unwrap() {}
    let mut told = Vec::new();
    for (seq, entry) in &entries {
        told.extend((0..projector.count(entry)).map(|n| projector.event(*seq, entry, n).unwrap()));
    }
    told.push(projector.gap(berth_engine::Seq(7), berth_engine::Seq(1200), 0, now));
    told.push(projector.withdrawn(berth_engine::Seq(1200), berth_engine::Seq(1207), now));
    told.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
}

/// Whatever the page shows is what the code says, and it shows every type.
#[test]
fn the_examples_of_the_page_are_what_the_code_emits() {
    let page = include_str!("../../../docs/events.md");
    let shown: Vec<Value> = page
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let story = story(dir.path());
    for example in &shown {
        assert!(story.contains(example), "{example}\nis not among\n{}", Value::Array(story.clone()));
    }
    for event in &story {
        let kind = &event["type"];
        assert!(shown.iter().any(|example| example["type"] == *kind), "{kind} has no example");
        assert!(page.contains(&format!("| `{}` |", kind.as_str().unwrap())), "{kind} is not in the table");
    }
}
