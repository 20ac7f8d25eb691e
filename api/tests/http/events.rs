//! The events stream (`docs/events.md`): one `CloudEvent` for each transition, whole and in order whatever is killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::{Value, json};

use crate::client::{attempt, request};
use crate::redis::{Redis, free_port, patiently};
use crate::server::{Home, Server, berth, claim, claims, tomorrow};

const STREAM: &str = "berth:{1}:events";

/// A server that tells `redis`, with places, parties and slots of these capacities.
fn server(redis: &Redis, config: &str, parties: u32, capacities: &[u32]) -> (Server, Vec<String>) {
    let server = Server::start_with(&format!("[events]\nurl = '{}'\n{config}", redis.url()));
    server.add_places();
    server.add_parties(parties);
    let slots = server.add_slots("s", capacities);
    (server, slots)
}

/// Waits until all that was acknowledged is told.
fn caught_up(server: &Server) {
    let seq = server.export().last().unwrap()["seq"].as_u64().unwrap();
    server.wait_for_metric(&format!("berth_events_told_seq {seq}"));
    server.wait_for_metric("berth_events_lag_entries 0");
}

fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_else(|| panic!("{name} of {event}"))
}

/// What every event must have, by `CloudEvents` 1.0 and by our page.
fn check_attributes(id: &str, event: &Value, source: &str) {
    assert_eq!(event["specversion"], "1.0", "{event}");
    assert_eq!(event["source"], source, "{event}");
    assert_eq!(event["datacontenttype"], "application/json", "{event}");
    assert!(text(event, "type").starts_with("io.berth.") && text(event, "type").ends_with(".v1"), "{event}");
    assert!(!text(event, "subject").is_empty(), "{event}");
    assert_eq!(text(event, "id"), format!("1-{id}"), "{event}");
    text(event, "time").parse::<jiff::Timestamp>().unwrap();
    let (seq, n) = id.split_once('-').unwrap();
    assert_eq!(text(event, "sequence"), format!("{seq:0>20}-{n:0>6}"), "{event}");
    assert_eq!(event["partitionkey"], event["subject"], "{event}");
    assert!(event["data"].is_object(), "{event}");
    // Attribute names are lower-case letters and digits, and there are no others than these.
    let known = [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "sequence",
        "partitionkey",
        "data",
    ];
    let names: Vec<_> = event.as_object().unwrap().keys().collect();
    assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?}");
}

/// Type without its frame, and subject.
fn short(event: &Value) -> (String, String) {
    let kind = text(event, "type").strip_prefix("io.berth.").unwrap().strip_suffix(".v1").unwrap();
    (kind.to_owned(), text(event, "subject").to_owned())
}

// rule: EVT-1
#[test]
fn every_transition_is_one_event_that_names_its_booking_and_never_its_code() {
    let store = tempfile::tempdir().unwrap();
    let redis = Redis::start(store.path(), free_port());
    let (server, slots) = server(&redis, "source = 'https://booking.example.org'", 10, &[5, 5]);
    let mut codes = Vec::new();
    let mut post = |path: &str, body: &Value, status| {
        let answer = server.post(path, body).expect(status);
        let mut note = |value: &Value| codes.extend(value.as_str().map(str::to_owned));
        note(&answer["hold"]);
        for booking in answer["bookings"].as_array().or(answer["claims"].as_array()).into_iter().flatten() {
            note(&booking["booking"]);
        }
        note(&answer["booking"]);
        answer
    };
    let pair = claims(&[claim("p1.0", &slots[0]), claim("p1.1", &slots[1])]);
    let held = post("/v1/holds", &pair, 201);
    let hold = text(&held, "hold").to_owned();
    post(&format!("/v1/holds/{hold}/confirm"), &Value::Null, 200);
    let second = text(&held["claims"][1], "booking").to_owned();
    post(&format!("/v1/bookings/{second}/cancel"), &Value::Null, 200);
    let moved = post(&format!("/v1/bookings/{hold}/move"), &json!({"slot": slots[1]}), 200);
    let given_back = post("/v1/holds", &claims(&[claim("p1.2", &slots[0])]), 201);
    post(&format!("/v1/holds/{}/release", text(&given_back, "hold")), &Value::Null, 200);
    let mut short_lived = claims(&[claim("p1.3", &slots[0])]);
    short_lived["ttl_seconds"] = 1.into();
    let left = post("/v1/holds", &short_lived, 201);
    post("/v1/bookings", &claims(&[claim("p1.4", &slots[0])]), 201);
    let expired = format!("/v1/bookings/{}", text(&left, "hold"));
    patiently("it expires", || (server.read(&expired).expect(200)["state"] == "expired").then_some(()));
    caught_up(&server);

    let events = redis.events(STREAM);
    for (id, event) in &events {
        check_attributes(id, event, "https://booking.example.org");
    }
    let told: Vec<_> = events.iter().map(|(_, event)| short(event)).collect();
    let expected = [
        ("parties.added", "p1.0"),
        ("slot.published", slots[0].as_str()),
        ("slot.published", slots[1].as_str()),
        ("booking.held", "b1.0"),
        ("booking.held", "b1.1"),
        ("booking.confirmed", "b1.0"),
        ("booking.confirmed", "b1.1"),
        ("booking.cancelled", "b1.1"),
        ("booking.moved", "b1.0"),
        ("booking.booked", "b1.2"),
        ("booking.held", "b1.3"),
        ("booking.released", "b1.3"),
        ("booking.held", "b1.4"),
        ("booking.booked", "b1.5"),
        ("booking.expired", "b1.4"),
    ];
    assert_eq!(told, expected.map(|(kind, subject)| (kind.to_owned(), subject.to_owned())));

    // An entry that names its claims by number only is completed.
    let data = |index: usize| &events[index].1["data"];
    let of = |event: &Value, names: &[&str]| names.iter().map(|name| event[*name].clone()).collect::<Vec<_>>();
    let facts = ["booking", "hold", "party", "slot", "dose"];
    assert_eq!(of(data(6), &facts), [json!("b1.1"), json!("b1.0"), json!("p1.1"), json!(slots[1]), json!(1)]);
    assert_eq!(of(data(9), &["moved_from", "slot", "party"]), [json!("b1.0"), json!(slots[1]), json!("p1.0")]);
    assert_eq!(of(data(8), &["moved_to", "slot"]), [json!("b1.2"), json!(slots[0])]);
    assert_eq!(data(3)["expires_at"], held["expires_at"]);
    let read = server.read("/v1/booking-references/b1.2").expect(200);
    assert_eq!(of(data(9), &["session", "centre", "start", "end"]), of(&read, &["session", "centre", "start", "end"]));

    // The reference leads to the booking, for who holds the key, and a wrong one to nothing, not even a code.
    assert_eq!(read["booking"], moved["booking"]);
    assert_eq!(server.get("/v1/booking-references/b1.2").status, 401);
    let unknown = server.read("/v1/booking-references/b1.9000000").expect_problem(404, "unknown_booking");
    assert_eq!(unknown["detail"], "there is no booking b1.9000000");
    server.read("/v1/booking-references/b1.18446744073709551615").expect_problem(404, "unknown_booking");
    server.read("/v1/booking-references/b2.0").expect_problem(404, "unknown_booking");
    server.read(&format!("/v1/booking-references/{hold}")).expect_problem(400, "malformed_id");
    let whole = events.iter().map(|(_, event)| event.to_string()).collect::<String>();
    assert!(codes.len() >= 12, "{codes:?}");
    for code in &codes {
        assert!(!whole.contains(code.as_str()), "{code} stands in the stream");
    }
}

#[test]
fn codes_come_along_where_the_configuration_says_so() {
    let store = tempfile::tempdir().unwrap();
    let redis = Redis::start(store.path(), free_port());
    let (server, slots) = server(&redis, "booking_codes = true\nstream = 'told'", 1, &[1]);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    caught_up(&server);
    let (_, event) = redis.events("told").pop().unwrap();
    assert_eq!(event["data"]["code"], booked["hold"]);
    assert_eq!(event["source"], "/cells/1");
    assert_eq!(text(&event, "subject"), "b1.0", "the subject stays the reference");
}

/// Books and cancels for party after party until told to stop or the server is gone.
fn surge(address: SocketAddr, slot: &str, parties: std::ops::Range<u32>, done: &AtomicU32) {
    for party in parties {
        let post = |path: &str, body: &str, status| {
            let key = format!("{path}-{party}");
            let headers =
                [("authorization", "Bearer platform-key"), ("idempotency-key", key.as_str()), ("connection", "close")];
            let answer = attempt(address, &request("POST", path, &headers, body.as_bytes()))?;
            (answer.0 == status).then_some(answer.1)
        };
        let pair = [party * 2, party * 2 + 1].map(|p| claim(&format!("p1.{p}"), slot));
        let Some(held) = post("/v1/holds", &claims(&pair).to_string(), 201) else { return };
        let hold = text(&held, "hold");
        let (end, status) = if party % 3 == 0 { ("release", 200) } else { ("confirm", 200) };
        if post(&format!("/v1/holds/{hold}/{end}"), "", status).is_none() {
            return;
        }
        if party % 3 == 1 && post(&format!("/v1/bookings/{hold}/cancel"), "", 200).is_none() {
            return;
        }
        done.fetch_add(1, Relaxed);
    }
}

/// What the journal's entries say must have been told: id, type, subject. A reading of its own, from the export.
fn expected(data_dir: &str) -> Vec<(String, String, String)> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_berth")).args(["export", "--entries", "--data-dir", data_dir]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut told = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let kind = text(&entry, "kind");
        let seq = &entry["seq"];
        match kind {
            "note" => {}
            "parties_added" => told.push((format!("{seq}-0"), "parties.added".to_owned(), "p1.0".to_owned())),
            "published" => {
                for (n, slot) in entry["slots"].as_array().unwrap().iter().enumerate() {
                    told.push((format!("{seq}-{n}"), "slot.published".to_owned(), text(slot, "slot").to_owned()));
                }
            }
            _ => {
                for (n, claim) in entry["claims"].as_array().unwrap().iter().enumerate() {
                    // The export names bookings by their codes; each party of this test claims once and stands for its.
                    told.push((format!("{seq}-{n}"), format!("booking.{kind}"), text(claim, "party").to_owned()));
                }
            }
        }
    }
    told
}

fn told(redis: &Redis) -> Vec<(String, String, String)> {
    let tell = |(id, event): (String, Value)| {
        check_attributes(&id, &event, "/cells/1");
        let (kind, subject) = short(&event);
        let subject = event["data"]["party"].as_str().map_or(subject, str::to_owned);
        (id, kind, subject)
    };
    redis.events(STREAM).into_iter().map(tell).collect()
}

// rule: EVT-1
#[test]
fn nothing_is_missing_doubled_or_out_of_order_after_kills_and_outages() {
    const CALLERS: u32 = 6;
    const GROUPS: u32 = 1000;
    const ROUNDS: u32 = 4;
    let (store, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut redis = Some(Redis::start(store.path(), port));
    let config = format!("[events]\nurl = 'redis://127.0.0.1:{port}'");
    let flags = ["--power-cut-rehearsal"];
    let mut server = Home::new(&config).start_with_flags(&flags);
    server.add_places();
    server.add_parties(CALLERS * GROUPS * ROUNDS * 2);
    let slot = server.add_slots("s", &[100_000]).remove(0);
    for round in 0..ROUNDS {
        let (address, done) = (server.address, AtomicU32::new(0));
        let home = std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (slot, done) = (slot.as_str(), &done);
                let first = (round * CALLERS + caller) * GROUPS;
                scope.spawn(move || surge(address, slot, first..first + GROUPS, done));
            }
            let more = |groups| {
                let before = done.load(Relaxed);
                patiently("callers are served", || (done.load(Relaxed) > before + groups).then_some(()));
            };
            more(60);
            if round % 2 == 1 {
                // Redis goes in the midst, with whatever was on its way; bookings go on.
                redis = None;
                more(60);
            }
            server.kill()
        });
        server = home.start_with_flags(&flags);
        if redis.is_none() {
            // The server has met a Redis that is not there; it finds it when it is.
            redis = Some(Redis::start(store.path(), port));
        }
    }
    caught_up(&server);
    server.terminate();
    let (_, home) = server.ended();
    let expected = expected(home.path("data").to_str().unwrap());
    let told = told(&redis.unwrap());
    assert!(expected.len() > 1000, "{} events are too few to show anything", expected.len());
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert_eq!(told.len(), expected.len());
}

/// The page's worked consumer, as a process. Killed when dropped.
struct Consumer(Child);

impl Consumer {
    /// Who is dead is known at once here.
    fn start(redis: &str) -> Consumer {
        Consumer::claiming_after(redis, "0")
    }

    fn claiming_after(redis: &str, milliseconds: &str) -> Consumer {
        let mut command = reminders(&["follow", redis, STREAM]);
        Consumer(
            command.env("CLAIM_AFTER_MS", milliseconds).stderr(Stdio::null()).spawn().expect("python3 is on the path"),
        )
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn reminders(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/reminders.py")).args(arguments);
    command
}

/// What the consumer's group has read and not acknowledged, and what nobody has read.
fn left(redis: &Redis) -> (i64, i64) {
    let groups: Vec<BTreeMap<String, ::redis::Value>> =
        ::redis::cmd("XINFO").arg("GROUPS").arg(STREAM).query(&mut redis.connection()).unwrap_or_default();
    let Some(group) = groups.first() else { return (0, -1) };
    let number = |name: &str| match group.get(name) {
        Some(::redis::Value::Int(number)) => *number,
        _ => -1,
    };
    (number("pending"), number("lag"))
}

/// The disk is lost with entries that were told and are not in the journal's copy: the stream stops, and goes on when it is told
/// to, with what was told of them taken back.
// rule: EVT-1
#[test]
fn after_a_lost_machine_what_was_told_of_lost_entries_is_taken_back() {
    let (store, copy_store, copy_port) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), free_port());
    let redis = Redis::start(store.path(), free_port());
    let copy = Redis::start(copy_store.path(), copy_port);
    let config = format!("redis.url = '{}'\nevents.url = '{}'", copy.url(), redis.url());
    let server = Server::start_with(&config);
    server.add_places();
    server.add_parties(10);
    let slots = server.add_slots("s", &[5]);
    let book = |server: &Server, party: u32| {
        server.post("/v1/bookings", &claims(&[claim(&format!("p1.{party}"), &slots[0])])).expect(201)
    };
    book(&server, 0);
    server.wait_for_metric("berth_redis_lag_entries 0");
    let kept = server.export().last().unwrap()["seq"].as_u64().unwrap();
    drop(copy);
    (1..4).for_each(|party| drop(book(&server, party)));
    caught_up(&server);
    let lost = server.export().last().unwrap()["seq"].as_u64().unwrap();
    let mut connection = redis.connection();
    let ask = |words: &[&str], connection: &mut ::redis::Connection| {
        ::redis::cmd(words[0]).arg(&words[1..]).query::<::redis::Value>(connection).unwrap()
    };
    ask(&["XGROUP", "CREATE", STREAM, "g", "0"], &mut connection);
    ask(&["XREADGROUP", "GROUP", "g", "c", "COUNT", "100", "NOACK", "STREAMS", STREAM, ">"], &mut connection);
    let before = redis.events(STREAM);
    drop(server);

    let copy = Redis::start(copy_store.path(), copy_port);
    let new = Home::new(&config);
    let (into, file) = (new.path("data"), new.path("berth.toml"));
    let told = ["recover", "--old-owner-is-dead", "--new-code-key", "--into", into.to_str().unwrap(), "--config"];
    let done = berth(&told).arg(file).output().unwrap();
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done["last_entry"], kept);
    let server = new.start();
    server.wait_for_metric("berth_events_stopped 1");
    assert_eq!(redis.events(STREAM), before, "nothing is mixed");
    let resume = kept.to_string();
    let server = server.kill().start_with_flags(&["--events-resume", &resume]);
    book(&server, 7);
    caught_up(&server);
    let after = redis.events(STREAM);
    let same =
        before.iter().take_while(|(id, _)| id.split_once('-').unwrap().0.parse::<u64>().unwrap() <= kept).count();
    assert_eq!(after[..same], before[..same]);
    let (id, withdrawn) = &after[same];
    assert_eq!((id.as_str(), text(withdrawn, "type")), (format!("{kept}-999999").as_str(), "io.berth.withdrawn.v1"));
    assert_eq!(withdrawn["data"], json!({"first_entry": kept + 1, "last_entry": lost}));
    assert_eq!(after.last().unwrap().1["data"]["party"], "p1.7");
    // A group that was past it reads on from there.
    let mut read = ::redis::cmd("XREADGROUP");
    type Read = Vec<(String, Vec<(String, Vec<(String, String)>)>)>;
    let read: Read =
        read.arg(&["GROUP", "g", "c", "COUNT", "100", "NOACK", "STREAMS", STREAM, ">"]).query(&mut connection).unwrap();
    let ids = |events: &[(String, Value)]| events.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    assert_eq!(read[0].1.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), ids(&after[same..]));
    // Once more with the flag, and without: nothing is taken back of a stream that is this log's.
    let mut server = server;
    for flags in [&["--events-resume", &resume][..], &[]] {
        server = server.kill().start_with_flags(flags);
        caught_up(&server);
        assert_eq!(redis.events(STREAM)[..after.len()], after);
    }
    drop(copy);
}

/// Removed by hand, or evicted: told again from the start it would be told twice.
// rule: EVT-1
#[test]
fn a_stream_whose_cursor_is_gone_is_left_as_it_is() {
    let store = tempfile::tempdir().unwrap();
    let redis = Redis::start(store.path(), free_port());
    let (server, slots) = server(&redis, "", 10, &[5]);
    caught_up(&server);
    let before = redis.events(STREAM);
    let () = ::redis::cmd("DEL").arg(format!("{STREAM}:cursor")).query(&mut redis.connection()).unwrap();
    server.wait_for_metric("berth_events_stopped 1");
    server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    assert_eq!(redis.events(STREAM), before);
    // With both gone it begins anew.
    let () = ::redis::cmd("DEL").arg(STREAM).query(&mut redis.connection()).unwrap();
    let server = server.kill().start();
    caught_up(&server);
    assert_eq!(redis.events(STREAM).len(), before.len() + 1);
}

/// Another database of the journal's Redis: let in as that is.
#[test]
fn the_stream_is_told_to_a_redis_with_a_password() {
    let store = tempfile::tempdir().unwrap();
    let redis = Redis::start(store.path(), free_port());
    let mut connection = redis.connection();
    let () = ::redis::cmd("CONFIG").arg(&["SET", "requirepass", "sesame-17"]).query(&mut connection).unwrap();
    let password = store.path().join("password");
    std::fs::write(&password, "sesame-17\n").unwrap();
    let (url, file) = (redis.url(), password.display());
    let config = format!("[redis]\nurl = '{url}'\npassword_file = '{file}'\n[events]\nurl = '{url}/1'");
    let server = Server::start_with(&config);
    server.add_places();
    caught_up(&server);
    let () = ::redis::cmd("SELECT").arg(1).query(&mut connection).unwrap();
    let told: u64 = ::redis::cmd("HGET").arg(&[&format!("{STREAM}:cursor"), "entry"]).query(&mut connection).unwrap();
    assert_eq!(told, 3);
}

fn consumed(server: &Server, redis: &Redis) {
    caught_up(server);
    patiently("the consumer has read and acknowledged everything", || (left(redis) == (0, 0)).then_some(()));
}

#[test]
fn the_pages_reminders_are_right_through_a_killed_consumer_and_a_redis_that_was_gone() {
    let (store, port) = (tempfile::tempdir().unwrap(), free_port());
    let redis = Redis::start(store.path(), port);
    let url = redis.url();
    let (server, slots) = server(&redis, "", 20, &[20, 20]);
    let mut consumer = Consumer::start(&url);
    let slot = slots[0].as_str();
    let book = |party: u32| {
        let answer = server.post("/v1/bookings", &claims(&[claim(&format!("p1.{party}"), slot)])).expect(201);
        text(&answer, "hold").to_owned()
    };
    let act = |code: &str, what: &str| server.post(&format!("/v1/{code}/{what}"), &Value::Null).expect(200);
    let cancel = |code: &str| act(&format!("bookings/{code}"), "cancel");
    let hold = |parties: &[u32]| {
        let wanted: Vec<_> = parties.iter().map(|party| claim(&format!("p1.{party}"), slot)).collect();
        let answer = server.post("/v1/holds", &claims(&wanted)).expect(201);
        format!("holds/{}", text(&answer, "hold"))
    };
    // Booked, confirmed, only held, released, cancelled, moved.
    book(0);
    act(&hold(&[1, 2]), "confirm");
    hold(&[3]);
    act(&hold(&[4]), "release");
    cancel(&book(5));
    let moves = book(6);
    server.post(&format!("/v1/bookings/{moves}/move"), &json!({"slot": slots[1]})).expect(200);
    consumed(&server, &redis);

    // Killed between reading and acknowledging; what it had read is cancelled before somebody takes over.
    drop(consumer);
    let cancelled = book(7);
    book(8);
    caught_up(&server);
    let read: ::redis::Value = ::redis::cmd("XREADGROUP")
        .arg(&["GROUP", "reminders", "killed", "COUNT", "100", "STREAMS", STREAM, ">"])
        .query(&mut redis.connection())
        .unwrap();
    assert!(matches!(read, ::redis::Value::Array(_)), "{read:?}");
    assert_eq!(left(&redis), (2, 0));
    cancel(&cancelled);
    consumer = Consumer::start(&url);
    consumed(&server, &redis);

    // And what it had read is taken over by one that has done the newer cancellation already: the older event must not bring
    // the reminder back.
    drop(consumer);
    let cancelled = book(12);
    caught_up(&server);
    let _: ::redis::Value = ::redis::cmd("XREADGROUP")
        .arg(&["GROUP", "reminders", "killed", "COUNT", "100", "STREAMS", STREAM, ">"])
        .query(&mut redis.connection())
        .unwrap();
    cancel(&cancelled);
    caught_up(&server);
    let newer = Consumer::claiming_after(&url, "3600000");
    patiently("the cancellation is done and the booking is not", || (left(&redis) == (1, 0)).then_some(()));
    drop(newer);
    consumer = Consumer::start(&url);
    consumed(&server, &redis);

    // Redis gone for a while: bookings go on, and all are told when it is back.
    drop(redis);
    book(9);
    cancel(&book(10));
    server.wait_for_metric("berth_events_connected 0");
    book(11);
    let redis = Redis::start(store.path(), port);
    consumed(&server, &redis);
    drop(consumer);

    let send = |when: &str| {
        let output = reminders(&["send", &url, STREAM, when]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut lines: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let day = tomorrow();
    assert_eq!(send(&format!("{}T08:59:00+05:30", day.yesterday().unwrap())), Vec::<String>::new(), "it is too early");
    let expected = |party: u32, booking: u32, hour: u32| {
        format!("remind p1.{party} of b1.{booking}: {day}T{hour:02}:00:00+05:30 at c1")
    };
    let mut all = [(0, 0, 9), (1, 1, 9), (2, 2, 9), (6, 7, 10), (8, 9, 9), (9, 11, 9), (11, 13, 9)]
        .map(|(party, booking, hour)| expected(party, booking, hour));
    all.sort();
    let when = format!("{}T12:00:00+05:30", day.yesterday().unwrap());
    assert_eq!(send(&when), all);
    assert_eq!(send(&when), Vec::<String>::new(), "each is sent once");

    // Everything is delivered once more, as by a Redis that lost what was acknowledged: nothing is planned again.
    let () = ::redis::cmd("XGROUP")
        .arg(&["SETID", STREAM, "reminders", "0", "ENTRIESREAD", "0"])
        .query(&mut redis.connection())
        .unwrap();
    assert!(left(&redis).1 > 10);
    let _consumer = Consumer::start(&url);
    consumed(&server, &redis);
    assert_eq!(send(&when), Vec::<String>::new(), "nothing is sent again");
}
