//! A lottery over HTTP: committed, registered for, closed, drawn though the server was killed in between, and verified by who has the file
//! alone.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::client::{PATIENCE, Reply};
use crate::server::{ADMIN, Home, Server, berth, claim, claims, lines};

/// A key of its own over restarts, too.
fn fresh() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("lottery-{}", NEXT.fetch_add(1, Relaxed))
}

fn post(server: &Server, path: &str, body: &Value) -> Reply {
    server.post_under(&fresh(), path, body)
}

fn as_admin(server: &Server, path: &str, body: &Value) -> Reply {
    let (bearer, key) = (format!("Bearer {ADMIN}"), fresh());
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", &key), ("content-type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    server.send("POST", path, &headers, body.as_bytes())
}

fn register(server: &Server, party: u32, sessions: &[&str]) -> Reply {
    let wishes: Vec<_> = sessions.iter().map(|id| json!({"session": id})).collect();
    let body = json!({"party": format!("p1.{party}"), "preferences": wishes});
    post(server, "/v1/lotteries/spring/registrations", &body)
}

/// `kill -9` behind this; the draw and everything after it is due by the clock.
fn request(closes: Timestamp, offers_until: Timestamp) -> Value {
    json!({
        "id": "spring", "name": "Spring places", "dose": 1, "sessions": ["a", "b"],
        "registration": {"opens_at": "2026-01-01T00:00:00Z", "closes_at": closes.to_string()},
        "draws_at": (closes + 1.hour()).to_string(), "offers_until": offers_until.to_string(),
    })
}

fn wait_until(at: Timestamp) {
    let left = at.duration_since(Timestamp::now());
    std::thread::sleep(Duration::try_from(left).unwrap_or_default() + Duration::from_millis(20));
}

fn verify(server: &Server, text: &str, more: &[&str]) -> (bool, String) {
    let file = server.home.path("result.ndjson");
    std::fs::write(&file, text).unwrap();
    let mut command = berth(&["lottery", "verify", file.to_str().unwrap()]);
    let told = command.args(more).output().unwrap();
    (told.status.success(), String::from_utf8(told.stdout).unwrap())
}

/// Two sessions of two and three units, and ten parties.
fn server() -> (Server, Vec<String>, Vec<String>) {
    let server = Server::start();
    server.add_places();
    server.add_parties(10);
    let a = server.add_slots("a", &[2]);
    let b = server.add_slots("b", &[3]);
    (server, a, b)
}

// rule: LOT-1
// rule: LOT-2
#[test]
fn a_lottery_is_drawn_as_it_was_committed_to_and_anybody_can_tell() {
    let (server, a, b) = server();
    let closes = Timestamp::now() + 4.seconds();
    let made = as_admin(&server, "/v1/lotteries", &request(closes, closes + 2.hours())).expect(201);
    let commitment = made["commitment"].as_str().unwrap().to_owned();
    assert_eq!((&made["state"], &made["slots"], made.get("seed")), (&json!("registering"), &json!([a[0], b[0]]), None));

    // Nobody books what is to be drawn, before a restart and after it.
    let book = |server: &Server, party: &str| post(server, "/v1/bookings", &claims(&[claim(party, &a[0])]));
    book(&server, "p1.9").expect_problem(409, "reserved");
    let server = server.kill_and_restart();
    book(&server, "p1.9").expect_problem(409, "reserved");
    assert_eq!(server.get("/v1/lotteries/spring").expect(200)["commitment"], commitment.as_str());

    for party in 0..8 {
        register(&server, party, &["a", "b"]).expect(201);
    }
    register(&server, 7, &["b"]).expect(201);
    register(&server, 8, &["a"]).expect(201);
    let bearer = [("authorization", "Bearer platform-key"), ("idempotency-key", "w")];
    let withdrawn = server.send("DELETE", "/v1/lotteries/spring/registrations/p1.8", &bearer, b"");
    withdrawn.expect(200);
    register(&server, 9, &["elsewhere"]).expect_problem(400, "malformed_request");
    register(&server, 99, &["a"]).expect_problem(404, "unknown_party");
    server.read("/v1/lotteries/spring/registrations/p1.8").expect_problem(404, "not_registered");
    as_admin(&server, "/v1/lotteries/spring/draw", &Value::Null).expect_problem(409, "lottery_state");
    server.get("/v1/lotteries/spring/result").expect_problem(409, "lottery_state");
    server.get("/v1/lotteries/none").expect_problem(404, "unknown_lottery");
    assert_eq!(server.get("/v1/lotteries").expect(200)["lotteries"][0]["registrations"], 8);
    // A party whom the programme lets have nothing: it is passed over, with the rule.
    let served = json!({"doses": 1, "last_product": "covishield", "last_dose_on": "2021-03-01"}).to_string();
    let headers =
        [("authorization", "Bearer admin-key"), ("idempotency-key", "f"), ("content-type", "application/json")];
    server.send("PATCH", "/v1/parties/p1.0/facts", &headers, served.as_bytes()).expect(200);

    // Closed by the clock, over a crash; its digest stands before it is drawn.
    wait_until(closes);
    let server = server.kill_and_restart();
    register(&server, 9, &["a"]).expect_problem(409, "lottery_state");
    let began = Instant::now();
    let digest = loop {
        let lottery = server.get("/v1/lotteries/spring").expect(200);
        if lottery["state"] == "closed" {
            assert_eq!(lottery.get("seed"), None, "it is not told yet");
            break lottery["digest"].as_str().unwrap().to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "{lottery}");
        std::thread::sleep(Duration::from_millis(50));
    };

    let drawn = as_admin(&server, "/v1/lotteries/spring/draw", &Value::Null).expect(200);
    assert_eq!((&drawn["state"], &drawn["given"], &drawn["digest"]), (&json!("drawn"), &json!(5), &json!(digest)));
    let again = as_admin(&server, "/v1/lotteries/spring/draw", &Value::Null).expect(200);
    assert_eq!(again["seed"], drawn["seed"]);
    assert_eq!((server.slot_counts(&a[0]), server.slot_counts(&b[0])), ((2, 2, 0), (3, 3, 0)), "all are offered");
    book(&server, "p1.9").expect_problem(409, "full");

    let result = server.get("/v1/lotteries/spring/result");
    assert_eq!((result.status, result.header("content-type")), (200, Some("application/x-ndjson")));
    let text = result.text().to_owned();
    let rows = lines(&text);
    assert_eq!(rows.len(), 10);
    let row = |party: &str| rows.iter().find(|row| row["party"] == party).unwrap();
    assert!(row("p1.0")["passed"].as_array().unwrap().iter().all(|passed| passed["why"] != "taken"));
    assert_eq!(row("p1.0").get("given"), None);

    // Whoever was drawn confirms as any hold; whoever was not has none.
    let winner = rows.iter().find(|row| row["given"] == a[0].as_str()).unwrap()["party"].as_str().unwrap();
    let own = server.read(&format!("/v1/lotteries/spring/registrations/{winner}")).expect(200);
    let hold = own["hold"].as_str().unwrap();
    post(&server, &format!("/v1/holds/{hold}/confirm"), &Value::Null).expect(200);
    assert_eq!(server.slot_counts(&a[0]), (2, 1, 1));
    assert_eq!(server.read("/v1/lotteries/spring/registrations/p1.0").expect(200).get("hold"), None);

    // The same file after a restart, and what is changed in it is found.
    let server = server.kill_and_restart();
    assert_eq!(server.get("/v1/lotteries/spring/result").text(), text);
    let (right, told) = verify(&server, &text, &["--commitment", &commitment, "--digest", &digest]);
    assert!(right && told.contains("right. Lottery spring: 8 registrations, 5 were offered a unit"), "{told}");
    let (right, told) = verify(&server, &text, &["--commitment", &digest]);
    assert!(!right && told.contains("the commitment is not the one given"), "{told}");
    let loser = rows.iter().find(|row| row["kind"] == "registration" && row.get("given").is_none()).unwrap();
    let swapped = text.replacen(&format!("\"{winner}\""), "\"p1.77\"", 1);
    let (right, told) = verify(&server, &swapped, &[]);
    assert!(!right && told.contains("not those that were closed"), "{told}");
    let favoured = loser.clone();
    let mut tampered = loser.clone();
    tampered["given"] = json!(a[0]);
    let tampered = text.lines().map(|line| {
        let same = serde_json::from_str::<Value>(line).unwrap() == favoured;
        if same { tampered.to_string() } else { line.to_owned() }
    });
    let (right, told) = verify(&server, &tampered.collect::<Vec<_>>().join("\n"), &[]);
    assert!(!right, "{told}");
    let (right, told) = verify(&server, text.rsplit_once("{\"kind\":\"end\"").unwrap().0, &[]);
    assert!(!right && told.contains("the last line is missing"), "{told}");
}

/// What nobody confirmed is everybody's once the offers have run out.
// rule: LOT-2
#[test]
fn what_is_left_is_everybodys_when_the_offers_have_ended() {
    let (server, a, b) = server();
    let closes = Timestamp::now() + 2.seconds();
    let mut asked = request(closes, closes + 4.seconds());
    asked["draws_at"] = json!(closes.to_string());
    as_admin(&server, "/v1/lotteries", &asked).expect(201);
    let mut twice = asked.clone();
    twice["id"] = json!("other");
    let problem = as_admin(&server, "/v1/lotteries", &twice).expect_problem(400, "malformed_request");
    assert!(problem["detail"].as_str().unwrap().contains("are drawn for by lottery spring"), "{problem}");
    twice["sessions"] = json!([]);
    twice["draws_at"] = json!("2020-01-01T00:00:00Z");
    as_admin(&server, "/v1/lotteries", &twice).expect_problem(400, "malformed_request");
    register(&server, 1, &["a"]).expect(201);
    let started = Instant::now();
    while server.get("/v1/lotteries/spring").expect(200)["state"] != "over" {
        assert!(started.elapsed() < PATIENCE, "{}", server.home.told());
        std::thread::sleep(Duration::from_millis(100));
    }
    // The offer has expired with it, or does in a moment.
    let started = Instant::now();
    while server.slot_counts(&a[0]) != (2, 0, 0) {
        assert!(started.elapsed() < PATIENCE);
    }
    for (party, slot) in [("p1.1", &a[0]), ("p1.2", &b[0])] {
        post(&server, "/v1/bookings", &claims(&[claim(party, slot)])).expect(201);
    }
    // And stays so.
    let server = server.kill_and_restart();
    post(&server, "/v1/bookings", &claims(&[claim("p1.3", &a[0])])).expect(201);
}

/// The seed is derived from a key that lies apart: without it a lottery is not drawn, and with it no other.
#[test]
fn two_cells_commit_to_different_seeds() {
    let commitments = [0; 2].map(|_| {
        let (server, ..) = server();
        let closes = Timestamp::now() + 1.hour();
        let made = as_admin(&server, "/v1/lotteries", &request(closes, closes + 2.hours())).expect(201);
        let home: Home = server.kill();
        let journal = std::fs::read_dir(home.path("data/journal")).unwrap();
        let seen = journal.flatten().map(|file| std::fs::read(file.path()).unwrap()).collect::<Vec<_>>().concat();
        let has = |text: &str| seen.windows(text.len()).any(|bytes| bytes == text.as_bytes());
        assert!(has("\"commitment\"") && !has("\"seed\""), "the seed is stored nowhere");
        made["commitment"].as_str().unwrap().to_owned()
    });
    assert_ne!(commitments[0], commitments[1]);
}
