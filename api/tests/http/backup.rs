//! `berth backup` beside a running server, and `berth restore`.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::{Value, json};

use crate::acks::{Redis, free_port, ready, with_redis};
use crate::client::PATIENCE;
use crate::server::{Home, Server, berth, claim, claims, lines, sha256};

fn run(arguments: &[&str], flags: &[(&str, &Path)]) -> Output {
    let mut command = berth(arguments);
    for (flag, path) in flags {
        command.arg(flag).arg(path);
    }
    command.output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lines(std::str::from_utf8(&output.stdout).unwrap()).remove(0)
}

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} in {stderr}");
    }
}

#[test]
fn what_was_acknowledged_before_a_backup_is_there_after_a_restore_elsewhere() {
    let (server, slots) = Server::with_slots(&[400]);
    server.add_parties(190);
    let data = server.data_dir();
    let places = tempfile::tempdir().unwrap();
    let place = |name: &str| places.path().join(name);
    let mut before = Vec::new();
    let stop = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        for party in 0..20 {
            let told = server.post("/v1/bookings", &claims(&[claim(&format!("p1.{party}"), &slots[0])])).expect(201);
            before.push(told["bookings"][0]["booking"].as_str().unwrap().to_owned());
        }
        scope.spawn(|| {
            for party in 20..200 {
                if stop.load(Relaxed) {
                    break;
                }
                server.post("/v1/bookings", &claims(&[claim(&format!("p1.{party}"), &slots[0])]));
            }
        });
        let output = run(&["backup"], &[("--data-dir", Path::new(&data)), ("--into", &place("backup"))]);
        stop.store(true, Relaxed);
        done(&output)
    });
    assert_eq!((&told["verdict"], &told["cell"], &told["code_key"]), (&json!("held"), &json!(1), &json!(false)));
    assert!(!place("backup").join("code.key").exists() && !place("backup.partial").exists());
    refused(
        &run(&["backup"], &[("--data-dir", Path::new(&data)), ("--into", &place("backup"))]),
        &["exists; a backup gets a directory of its own"],
    );

    // The original goes; another starts from the copy.
    server.terminate();
    let (_, old) = server.ended();
    let key = old.path("data").join("code.key");
    let home = Home::new("");
    let (from, into) = (place("backup"), home.path("data"));
    let flags = [("--from", from.as_path()), ("--into", into.as_path()), ("--code-key", key.as_path())];
    refused(&run(&["restore"], &flags), &["--old-owner-is-dead"]);
    refused(&run(&["restore", "--old-owner-is-dead"], &flags[..2]), &["no code.key", "--code-key"]);
    let full = [("--from", from.as_path()), ("--into", places.path()), ("--code-key", key.as_path())];
    refused(&run(&["restore", "--old-owner-is-dead"], &full), &["is not empty"]);
    assert!(!into.exists(), "a refusal writes nothing");
    let told = done(&run(&["restore", "--old-owner-is-dead"], &flags));
    assert_eq!(told["verdict"], "held");
    let server = home.start();
    for code in &before {
        let booking = server.read(&format!("/v1/bookings/{code}")).expect(200);
        assert_eq!(booking["state"], "booked", "{code}");
    }
    assert!(server.get("/version").expect(200)["epoch"].as_u64().unwrap() > 1000);
}

/// The log of a backup begins at its snapshot; what was noted of doses before is in the store alone.
#[test]
fn doses_from_before_the_log_are_in_a_backup_too() {
    let (server, number) = crate::doses::recorded();
    let dose = server.read(&format!("/v1/doses/{number}")).expect(200);
    let name = "\u{1F489}".repeat(200);
    for n in 0..8 {
        let line = |m: usize| format!("{{\"id\":\"{n}-{m}\",\"kind\":\"state\",\"name\":\"{name}\"}}\n");
        let body: String = (0..1200).map(line).collect();
        // While the next segment is being made a large one may be refused.
        while server.publish("/v1/regions", &body).status != 200 {
            std::thread::yield_now();
        }
    }
    server.signal("-USR1");
    server.wait_for_metric("berth_snapshots_total 1");
    server.add_parties(1);
    server.wait_for_metric("berth_store_lag_entries 0");
    let (data, places) = (server.data_dir(), tempfile::tempdir().unwrap());
    let from = places.path().join("backup");
    // The store notes how far it is once a second. Until that is behind the snapshot it is left out.
    let started = std::time::Instant::now();
    let told = loop {
        let told = done(&run(&["backup", "--with-code-key"], &[("--data-dir", Path::new(&data)), ("--into", &from)]));
        if !told["store"].is_null() {
            break told;
        }
        assert!(started.elapsed() < PATIENCE, "{told}");
        std::fs::remove_dir_all(&from).unwrap();
    };
    assert!(told["store"].as_u64().unwrap() > 0 && told["first"].as_u64().unwrap() > 1, "{told}");
    let entries = std::fs::read_dir(places.path()).unwrap().count();
    assert_eq!(entries, 1, "nothing is left beside it");
    let home = server.kill();
    std::fs::remove_dir_all(home.path("data")).unwrap();
    let into = home.path("data");
    done(&run(&["restore", "--old-owner-is-dead"], &[("--from", from.as_path()), ("--into", into.as_path())]));
    let server = home.start();
    assert_eq!(server.read(&format!("/v1/doses/{number}")).expect(200), dose);
    assert_eq!(server.read("/v1/parties/p1.0/doses").expect(200)["complete"], true);
    // Without the store the booking says that there was one, and nobody knows what.
    let home = server.kill();
    std::fs::remove_dir_all(home.path("data/store")).unwrap();
    let server = home.start();
    let listed = server.read("/v1/parties/p1.0/doses").expect(200);
    assert_eq!((&listed["complete"], &listed["known"], &listed["doses"]), (&json!(false), &json!(1), &json!([])));
    server.read(&format!("/v1/doses/{number}")).expect_problem(404, "unknown_dose");
}

#[test]
fn a_backup_with_its_key_restores_alone_and_one_that_changed_is_refused() {
    let (server, _) = Server::with_slots(&[4]);
    let data = server.data_dir();
    let places = tempfile::tempdir().unwrap();
    let place = |name: &str| places.path().join(name);
    let into = place("backup");
    let told = done(&run(&["backup", "--with-code-key"], &[("--data-dir", Path::new(&data)), ("--into", &into)]));
    assert_eq!(told["code_key"], true);
    let restored = place("restored");
    let flags = [("--from", into.as_path()), ("--into", restored.as_path())];
    done(&run(&["restore", "--old-owner-is-dead"], &flags));
    let told = done(&run(&["verify"], &[("--data-dir", &restored)]));
    assert_eq!(told["verdict"], "held");

    let again = place("again");
    let flags = [("--from", into.as_path()), ("--into", again.as_path())];
    let segment = into.join("journal/0000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let place_in_it = ["damaged backup", "0000000001.seg is not what was backed up", "at offset 64"];
    refused(&run(&["restore", "--old-owner-is-dead"], &flags), &place_in_it);
    bytes[100] ^= 1;
    std::fs::write(&segment, &bytes[1..]).unwrap();
    refused(
        &run(&["restore", "--old-owner-is-dead"], &flags),
        &["damaged backup", "has 5242879 bytes and had 5242880"],
    );
    std::fs::write(&segment, bytes).unwrap();
    let manifest = into.join("backup.json");
    let sum = into.join("backup.json.sha256");
    let (text, right) = (std::fs::read_to_string(&manifest).unwrap(), std::fs::read(&sum).unwrap());
    for (from, to, word) in [
        ("\"berth_backup\": 1", "\"berth_backup\": 2", "backup version 2, this build reads 1"),
        ("journal/0000000001.seg", "../0000000001.seg", "is not inside the backup"),
    ] {
        let text = text.replace(from, to);
        std::fs::write(&sum, sha256(&text)).unwrap();
        std::fs::write(&manifest, text).unwrap();
        refused(&run(&["restore", "--old-owner-is-dead"], &flags), &[word]);
    }
    // Another manifest than the checksum is of: here one that has lost a file.
    let mut less: Value = serde_json::from_str(&text).unwrap();
    less["files"].as_array_mut().unwrap().pop();
    std::fs::write(&sum, right).unwrap();
    std::fs::write(&manifest, less.to_string()).unwrap();
    refused(&run(&["restore", "--old-owner-is-dead"], &flags), &["damaged backup", "backup.json is not what"]);
    assert!(!again.exists());
    // And so it is with the tool that every system has.
    std::fs::write(&manifest, text).unwrap();
    let checked =
        Command::new("sha256sum").args(["--check", "--quiet", "backup.json.sha256"]).current_dir(&into).status();
    assert!(checked.unwrap().success());
    done(&run(&["restore", "--old-owner-is-dead"], &flags));
}

/// The Redis that the original wrote to is ahead of what was restored: nothing is served beside it, and it has more.
// rule: FNC-5
#[test]
fn a_restored_copy_does_not_serve_beside_a_redis_that_has_more() {
    let port = free_port();
    let redis = Redis::start(port);
    let old = Server::start_with(&with_redis(port, "ack = 'redis'"));
    let slots = ready(&old);
    let book = |server: &Server, party: u32| {
        server.post("/v1/bookings", &claims(&[claim(&format!("p1.{party}"), &slots[0])])).expect(201)
    };
    book(&old, 0);
    let places = tempfile::tempdir().unwrap();
    let backup = places.path().join("backup");
    done(&run(&["backup"], &[("--data-dir", Path::new(&old.data_dir())), ("--into", &backup)]));
    book(&old, 1);
    let old = old.kill();

    let key = old.path("data").join("code.key");
    let new = Home::new(&with_redis(port, ""));
    let into = new.path("data");
    let flags = [("--from", backup.as_path()), ("--into", into.as_path()), ("--code-key", key.as_path())];
    done(&run(&["restore", "--old-owner-is-dead"], &flags));
    refused(&new.serve().output().unwrap(), &["what was acknowledged is missing here", "berth recover"]);

    // What Redis has is more than the backup.
    let recovered = Home::new(&with_redis(port, ""));
    let (into, config) = (recovered.path("data"), recovered.path("berth.toml"));
    let flags = [("--into", into.as_path()), ("--code-key", key.as_path()), ("--config", config.as_path())];
    done(&run(&["recover", "--old-owner-is-dead"], &flags));
    let server = recovered.start();
    assert_eq!(server.slot_counts(&slots[0]), (5, 0, 2));
    drop(server);
    // Given a Redis with nothing of this cell in it, the restored copy serves and is shipped.
    drop(redis);
    let _empty = Redis::start(port);
    let server = new.start();
    assert_eq!(server.slot_counts(&slots[0]), (5, 0, 1));
    book(&server, 2);
    server.wait_for_metric("berth_redis_lag_entries 0");
}
