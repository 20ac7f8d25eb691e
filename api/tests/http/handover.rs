//! A planned restart: the next process waits for the old one, and clients that repeat themselves lose nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{PATIENCE, attempt, request};
use crate::server::{Home, Server, claim, claims};

/// A client that repeats its request under the same key until it has an answer, as the API asks.
fn insist(address: SocketAddr, path: &str, key: &str, body: &Value) -> Value {
    let headers = [("authorization", "Bearer platform-key"), ("idempotency-key", key), ("connection", "close")];
    let bytes = request("POST", path, &headers, body.to_string().as_bytes());
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match attempt(address, &bytes) {
            Some((200 | 201, body)) => return body,
            // Draining, or the first sending still runs.
            Some((503, _)) => {}
            Some((409, body)) if body["code"] == "idempotency_in_flight" => {}
            Some(other) => panic!("{path} under {key}: {other:?}"),
            None => {}
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{path} under {key} is never answered");
}

/// Holds and confirms for party after party; the codes of what was acknowledged.
fn book(address: SocketAddr, slot: &str, parties: Range<u32>, booked: &AtomicU32, stop: &AtomicBool) -> Vec<String> {
    let mut codes = Vec::new();
    for party in parties {
        if stop.load(Relaxed) {
            return codes;
        }
        let wanted = claims(&[claim(&format!("p1.{party}"), slot)]);
        let held = insist(address, "/v1/holds", &format!("hold-{party}"), &wanted);
        let code = held["hold"].as_str().unwrap().to_owned();
        let path = format!("/v1/holds/{code}/confirm");
        let confirmed = insist(address, &path, &format!("confirm-{party}"), &json!({}));
        assert_eq!(confirmed["bookings"][0]["state"], "booked", "{confirmed}");
        codes.push(code);
        booked.fetch_add(1, Relaxed);
    }
    panic!("the clients ran out of parties");
}

// rule: IDM-1
// rule: IDM-2
#[test]
fn a_planned_restart_hands_over_with_nothing_lost_and_nothing_done_twice() {
    const CALLERS: u32 = 8;
    const PARTIES_EACH: u32 = 20_000;
    const CAPACITY: u32 = CALLERS * PARTIES_EACH;
    let old = Server::start();
    old.add_places();
    old.add_parties(CAPACITY);
    let slot = old.add_slots("s", &[CAPACITY]).remove(0);
    let (address, booked, stop) = (old.address, AtomicU32::new(0), AtomicBool::new(false));
    let (new, codes) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let parties = caller * PARTIES_EACH..(caller + 1) * PARTIES_EACH;
                let (slot, booked, stop) = (slot.as_str(), &booked, &stop);
                scope.spawn(move || book(address, slot, parties, booked, stop))
            })
            .collect();
        let more = |by: u32| {
            let (from, began) = (booked.load(Relaxed), Instant::now());
            while booked.load(Relaxed) < from + by {
                assert!(began.elapsed() < PATIENCE, "nobody is served any more");
                std::thread::yield_now();
            }
        };
        more(100);
        let successor = old.successor();
        // The one that waits disturbs nobody.
        more(100);
        old.terminate();
        let (status, home) = old.ended();
        assert_eq!(status.code(), Some(0), "{}", home.told());
        let new = successor.serves(home, address);
        more(100);
        stop.store(true, Relaxed);
        let codes: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (new, codes)
    });
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len(), "every hold once");
    let export = new.export();
    let bookings: Vec<&Value> = export.iter().filter(|line| line["kind"] == "booking").collect();
    let told: BTreeSet<&str> = codes.iter().map(String::as_str).collect();
    let kept: BTreeSet<&str> = bookings.iter().map(|line| line["booking"].as_str().unwrap()).collect();
    assert_eq!(told, kept, "what was acknowledged is there, and nothing else");
    assert!(bookings.iter().all(|line| line["state"] == "booked"));
    let count = u64::try_from(codes.len()).unwrap();
    assert_eq!(new.slot_counts(&slot), (u64::from(CAPACITY), 0, count));
    assert!(!new.home.told().contains("did not end in time"), "{}", new.home.told());
}

#[test]
fn who_waits_in_vain_says_how_long_and_leaves_the_other_alone() {
    let server = Server::start();
    let before = server.export();
    let address = server.address.to_string();
    for (listen, words) in [
        (address.as_str(), ["cannot listen on", &address, "after 1 s"]),
        ("127.0.0.1:0", ["locked by another process", &server.data_dir(), "after 1 s"]),
    ] {
        let output = server.home.serve().args(["--listen", listen, "--wait-for-lock", "1"]).output().unwrap();
        crate::process::cannot_start(&output, &words);
    }
    assert_eq!(server.export(), before);
}

#[test]
fn who_waits_for_nobody_starts_at_once() {
    let home = Home::new("wait_for_lock_seconds = 60");
    let server = home.start();
    server.get("/readyz").expect(200);
    assert!(!server.home.told().contains("waiting"), "{}", server.home.told());
}
