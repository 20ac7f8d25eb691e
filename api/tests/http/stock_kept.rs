//! Stock after the power went in the middle of it: what was acknowledged is there, and what was not is there once it is said again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::{Value, json};

use crate::client::{attempt, request};
use crate::door::text;
use crate::server::ADMIN;
use crate::stock::{admin_reads, batch, receive, server, stocked, today_walk_in, walked_in};

/// What is asked, each under a key of its own.
struct Ask {
    key: String,
    path: String,
    body: Value,
    /// What it moves, if it is done.
    moves: &'static str,
    doses: u64,
}

impl Ask {
    fn bytes(&self) -> Vec<u8> {
        // A dose is recorded by who works there.
        let bearer = if self.moves == "given" { "Bearer operator-c1".to_owned() } else { format!("Bearer {ADMIN}") };
        let headers = [
            ("authorization", bearer.as_str()),
            ("idempotency-key", self.key.as_str()),
            ("content-type", "application/json"),
            ("connection", "close"),
        ];
        request("POST", &self.path, &headers, self.body.to_string().as_bytes())
    }
}

/// By turns, until the server is gone: what was answered.
fn ask_until_gone<'a>(address: SocketAddr, asks: &[&'a Ask], answered: &AtomicUsize) -> Vec<(&'a Ask, u16, Value)> {
    let mut told = Vec::new();
    for ask in asks {
        let Some((status, body)) = attempt(address, &ask.bytes()) else { break };
        told.push((*ask, status, body));
        answered.fetch_add(1, Relaxed);
    }
    told
}

// rule: SUP-1
// rule: IDM-1
#[test]
fn what_was_written_down_of_stock_survives_a_power_cut_and_is_counted_once() {
    const CALLERS: usize = 4;
    let flags = ["--power-cut-rehearsal"];
    let (server, _programme) = server("refuse");
    stocked(&server);
    let slot = today_walk_in(&server);
    batch(&server, "A", "covishield", "2099-12-31");
    receive(&server, "A", "c1", 100);
    let mut asks = Vec::new();
    for round in 0..3 {
        for step in 0..120 {
            let (kind, doses) = (step % 4, 1 + step % 3);
            let (path, body, moves) = match kind {
                0 => ("receipts", json!({"batch": "A", "centre": "c1", "quantity": doses}), "received"),
                1 => {
                    ("wastage", json!({"batch": "A", "centre": "c1", "quantity": doses, "reason": "broken"}), "wasted")
                }
                2 => ("transfers", json!({"batch": "A", "from": "c1", "to": "c2", "quantity": doses}), "sent"),
                _ => ("receipts", json!({"batch": "A", "centre": "c2", "quantity": doses}), "received"),
            };
            let key = format!("cut-{round}-{step}");
            asks.push((round, Ask { key, path: format!("/v1/{path}"), body, moves, doses }));
        }
    }
    let bookings: Vec<String> = (0..9).map(|party| walked_in(&server, &slot, &format!("p1.{party}"))).collect();
    for (number, booking) in bookings.iter().enumerate() {
        let (key, path) = (format!("dose-{number}"), format!("/v1/bookings/{booking}/complete"));
        let ask = Ask { key, path, body: json!({"batch": "A"}), moves: "given", doses: 1 };
        // Among the first, each at another place.
        asks.insert(number / 3 * 122 + number % 3 * 7, (number / 3, ask));
    }

    let mut server = server.kill().start_with_flags(&flags);
    let mut done: BTreeMap<String, Value> = BTreeMap::new();
    for round in 0..3 {
        let mine: Vec<&Ask> = asks.iter().filter(|(of, _)| *of == round).map(|(_, ask)| ask).collect();
        let (address, answered) = (server.address, AtomicUsize::new(0));
        let (home, told) = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| {
                    let mine: Vec<&Ask> = mine.iter().skip(caller).step_by(CALLERS).copied().collect();
                    let answered = &answered;
                    scope.spawn(move || ask_until_gone(address, &mine, answered))
                })
                .collect();
            while answered.load(Relaxed) < 40 && callers.iter().any(|caller| !caller.is_finished()) {
                std::thread::yield_now();
            }
            let home = server.kill();
            (home, callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect::<Vec<_>>())
        });
        assert!(told.len() < mine.len(), "round {round}: the server outlived all that was asked");
        server = home.start_with_flags(&flags);
        let acknowledged: BTreeMap<&str, Value> = told
            .into_iter()
            .filter(|(_, status, _)| matches!(status, 200 | 201))
            .map(|(ask, _, body)| (ask.key.as_str(), body))
            .collect();
        // Each again, under its key: what was acknowledged is told again as it was, and what was not is done now, if it was not then.
        for ask in &mine {
            let (status, body) = attempt(server.address, &ask.bytes()).unwrap();
            if let Some(first) = acknowledged.get(ask.key.as_str()) {
                assert_eq!((status / 100, &body), (2, first), "round {round}: {} was acknowledged", ask.key);
            }
            if status / 100 == 2 {
                done.insert(ask.key.clone(), body);
            } else {
                assert_eq!((status, &body["code"]), (409, &json!("no_stock")), "{}: {body}", ask.key);
            }
        }
        let sums = admin_reads(&server, "/v1/batches/A").expect(200);
        let number = |member: &str| sums[member].as_u64().unwrap();
        let of = |moves: &str| {
            let of = asks.iter().filter(|(_, ask)| ask.moves == moves && done.contains_key(&ask.key));
            of.map(|(_, ask)| ask.doses).sum::<u64>()
        };
        let wasted = sums["wasted"]["broken"].as_u64().unwrap_or(0);
        let told = [number("received"), wasted, number("sent"), number("given"), number("uncovered")];
        assert_eq!(told, [100 + of("received"), of("wasted"), of("sent"), of("given"), 0], "round {round}: {sums}");
        let went = number("on_hand") + number("given") + number("sent") + wasted;
        assert_eq!((number("received"), number("on_the_way")), (went, number("sent")), "round {round}: {sums}");
    }
    // Every transfer that was acknowledged is on the way under its name.
    let sent = asks.iter().filter_map(|(_, ask)| done.get(&ask.key).filter(|_| ask.moves == "sent"));
    for sent in sent {
        let path = format!("/v1/transfers/{}", text(sent, "transfer"));
        assert_eq!(admin_reads(&server, &path).expect(200)["state"], "sent");
    }
}
