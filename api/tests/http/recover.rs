//! `berth recover`: a lost machine is rebuilt from Redis alone, its old owner fenced, and nobody by mistake.

use std::process::Output;

use serde_json::{Value, json};

use crate::acks::{Redis, free_port, ready, with_redis};
use crate::server::{Home, Server, berth, claim, claims};

fn recover(redis: &Redis, home: &Home, flags: &[&str]) -> Output {
    let url = format!("redis://127.0.0.1:{}", redis.1);
    let into = home.path("data");
    let config = home.path("berth.toml");
    let told = ["recover", "--from", &url, "--into", into.to_str().unwrap(), "--config", config.to_str().unwrap()];
    berth(&told).args(flags).output().unwrap()
}

fn refused(output: &Output, words: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(words), "{stderr}");
}

// rule: FNC-7
#[test]
fn every_acknowledged_booking_is_there_after_a_recovery_and_the_old_owner_is_fenced() {
    let redis = Redis::start(free_port());
    let old = Server::start_with(&with_redis(redis.1, "ack = 'redis'"));
    let slots = ready(&old);
    let book = |server: &Server, party: u32| {
        server.post("/v1/bookings", &claims(&[claim(&format!("p1.{party}"), &slots[0])])).expect(201)
    };
    let booked: Vec<Value> = (0..4).map(|party| book(&old, party)).collect();

    let new = Home::new(&with_redis(redis.1, ""));
    let key = old.home.path("data").join("code.key");
    let key = ["--code-key", key.to_str().unwrap()];
    refused(&recover(&redis, &new, &key), "--old-owner-is-dead");
    refused(&recover(&redis, &new, &["--old-owner-is-dead"]), "--code-key FILE");
    // An empty disk is no new cell, and nothing is put onto it; nor is it one where Redis cannot be asked.
    refused(&new.serve().output().unwrap(), "is empty, and Redis holds");
    let unknown = Home::new(&with_redis(free_port(), ""));
    refused(&unknown.serve().output().unwrap(), "Redis cannot be asked whether it holds entries of this cell");
    assert!(!new.path("data").exists() && !unknown.path("data").exists());
    book(&old, 4);
    let done = recover(&redis, &new, &["--old-owner-is-dead", key[0], key[1]]);
    let progress = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{progress}");
    assert!(progress.starts_with("epoch 2 is taken"), "{progress}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&told["epoch"], &told["first_entry"]), (&json!(2), &json!(1)), "{told}");
    refused(&recover(&redis, &new, &["--old-owner-is-dead", key[0], key[1]]), "is not empty");

    // The old one was not dead: it stops, and says why.
    old.wait_for_metric("berth_redis_fenced 1");
    let body = claims(&[claim("p1.5", &slots[0])]).to_string();
    for (ack, code) in [("memory", "journal_stopped"), ("disk", "journal_stopped"), ("redis", "ack_unavailable")] {
        let headers = [
            ("authorization", "Bearer platform-key"),
            ("idempotency-key", "late"),
            ("content-type", "application/json"),
            ("berth-ack", ack),
        ];
        old.send("POST", "/v1/bookings", &headers, body.as_bytes()).expect_problem(503, code);
    }
    assert_eq!(old.get("/readyz").expect(503)["reason"], "journal_stopped");
    let old = old.kill();
    refused(&old.serve().output().unwrap(), "berth recover");

    let data = new.path("data");
    let verified = berth(&["verify", "--data-dir", data.to_str().unwrap()]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let server = new.start();
    for booking in booked {
        let hold = booking["hold"].as_str().unwrap();
        let read = server.read(&format!("/v1/bookings/{hold}")).expect(200);
        assert_eq!(read["party"], booking["bookings"][0]["party"], "{read}");
    }
    assert_eq!(server.slot_counts(&slots[0]), (5, 0, 5));
    server.wait_for_metric("berth_redis_lag_entries 0");
    server.wait_for_metric("berth_redis_fenced 0");
    server.wait_for_metric("berth_redis_lag_seconds 0");
}

/// With a new key the bookings are there and their codes are not: that is what it says it breaks.
#[test]
fn with_a_new_key_no_code_that_was_given_out_is_known() {
    let redis = Redis::start(free_port());
    let old = Server::start_with(&with_redis(redis.1, "ack = 'redis'"));
    let slots = ready(&old);
    let booked = old.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    drop(old);
    let new = Home::new(&with_redis(redis.1, ""));
    let done = recover(&redis, &new, &["--old-owner-is-dead", "--new-code-key"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let server = new.start();
    assert_eq!(server.slot_counts(&slots[0]), (5, 0, 1));
    server.read(&format!("/v1/bookings/{}", booked["hold"].as_str().unwrap())).expect_problem(404, "unknown_booking");
    let party = server.read("/v1/parties/p1.0/bookings").expect(200);
    assert_eq!(party["bookings"].as_array().unwrap().len(), 1);
}

#[test]
fn secrets_and_certificates_that_cannot_be_read_are_named_and_the_url_is_not() {
    let home = Home::new(
        "redis.url = 'redis://:sesame-17@nowhere.invalid:1'\nredis.password_file = '/no/such/password'\n\
         redis.cert_file = '/no/such/certificate'\nredis.answer_time_ms = 1",
    );
    let output = home.serve().output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    for key in
        ["redis.password_file: /no/such/password", "redis.cert_file: cert_file and key_file", "redis.answer_time_ms"]
    {
        assert!(stderr.contains(key), "{stderr}");
    }
    assert!(!stderr.contains("sesame"), "{stderr}");
    let home = Home::new("redis.url = 'http://:sesame-17@nowhere.invalid:1'");
    let output = home.serve().output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && stderr.contains("redis: ") && !stderr.contains("sesame"), "{stderr}");
}
