//! `berth key`, and a server that takes up what it does without a restart.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::PATIENCE;
use crate::server::{Server, berth, sha256};

fn key(file: &Path, arguments: &[&str]) -> Output {
    let mut all = vec!["key"];
    all.extend(arguments);
    all.extend(["--keys-file", file.to_str().unwrap()]);
    berth(&all).output().unwrap()
}

/// What a command printed; it must have done its part.
#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim_end().to_owned()
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains(why) && output.stdout.is_empty(), "{told}");
}

/// The code of the refusal that this key gets; a key that opens gets `malformed_id`.
fn code(server: &Server, key: &str) -> Value {
    let bearer = format!("Bearer {key}");
    server.send("GET", "/v1/bookings/x", &[("authorization", &bearer)], b"").json()["code"].clone()
}

#[track_caller]
fn wait_for(server: &Server, key: &str, expected: &str) {
    let started = Instant::now();
    while code(server, key) != expected {
        assert!(started.elapsed() < PATIENCE, "never {expected}: {}", code(server, key));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_running_server_takes_up_keys_as_they_are_made_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.toml");
    let first = done(&key(&file, &["add", "--role", "platform", "--name", "web"]));
    assert!(first.starts_with("berth_platform_") && first.len() == "berth_platform_".len() + 64, "{first}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(&sha256(&first)) && !text.contains(&first), "only the hash is kept: {text}");

    let server = Server::start_with(&format!("keys_file = {file:?}"));
    assert_eq!(code(&server, &first), "malformed_id");
    // Found by looking.
    let second = done(&key(&file, &["rotate", "--role", "platform", "--name", "web", "--overlap", "1h"]));
    wait_for(&server, &second, "malformed_id");
    assert_eq!(code(&server, &first), "malformed_id", "both open until the old one ends");
    // When asked, or by looking a moment later.
    let id = &sha256(&first)[..8];
    assert_eq!(done(&key(&file, &["revoke", "--id", id])), format!("revoked {id} platform web"));
    server.signal("-HUP");
    wait_for(&server, &first, "invalid_key");
    assert_eq!((code(&server, &second), code(&server, "platform-key")), ("malformed_id".into(), "malformed_id".into()));

    // A signal takes it up though it is as it was: by looking it never would be.
    let reloads = || {
        let page = server.get("/metrics");
        let line = page.text().lines().find_map(|l| l.strip_prefix("berth_access_reloads_total ").map(str::to_owned));
        line.unwrap().parse::<u64>().unwrap()
    };
    let before = reloads();
    server.signal("-HUP");
    let started = Instant::now();
    while reloads() == before {
        assert!(started.elapsed() < PATIENCE, "the signal is not heard");
    }

    std::fs::write(&file, "[[keys]]\nrole = 'platform'\n").unwrap();
    server.signal("-HUP");
    let started = Instant::now();
    while !server.home.told().contains("missing field `name`") {
        assert!(started.elapsed() < PATIENCE, "{}", server.home.told());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(code(&server, &second), "malformed_id", "a bad file leaves the keys that were there");
    let metrics = server.get("/metrics");
    let failures = metrics.text().lines().find_map(|l| l.strip_prefix("berth_access_reload_failures_total ")).unwrap();
    assert_ne!(failures, "0");
    assert!(metrics.text().contains("\nberth_access_keys 3\n"), "{}", metrics.text());
    let told = server.home.told();
    assert!(!told.contains(&first) && !told.contains(&second), "no key in the log");
}

#[test]
fn keys_are_listed_without_what_would_open_anything() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.toml");
    let made = done(&key(&file, &["add", "--role", "operator", "--name", "mumbai", "--districts", "395,396"]));
    done(&key(&file, &["add", "--role", "admin", "--name", "ops", "--expires", "2999-01-01"]));
    let list = done(&key(&file, &["list"]));
    let id = &sha256(&made)[..8];
    let line = list.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(line.contains("operator  mumbai  districts 395,396"), "{list}");
    assert!(list.lines().last().unwrap().ends_with("2999-01-01T00:00:00Z"), "{list}");
    assert!(!list.contains(&sha256(&made)) && !list.contains(&made));
    // Who was let in for a time is not let in for good by a new key.
    done(&key(&file, &["rotate", "--role", "admin", "--name", "ops", "--overlap", "1h"]));
    let list = done(&key(&file, &["list"]));
    assert!(list.lines().last().unwrap().ends_with("2999-01-01T00:00:00Z"), "{list}");
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.toml");
    done(&key(&file, &["add", "--role", "platform", "--name", "web"]));
    let before = std::fs::read(&file).unwrap();
    refused(&key(&file, &["add", "--role", "platform", "--name", "web"]), "another platform key of this name");
    refused(&key(&file, &["add", "--role", "operator", "--name", "x"]), "names its centres or districts");
    refused(&key(&file, &["add", "--role", "admin", "--name", "x", "--centres", "c1"]), "only an operator's key");
    refused(&key(&file, &["add", "--role", "citizen", "--name", "x"]), "citizens come with tokens");
    refused(&key(&file, &["add", "--role", "admin", "--name", "a b"]), "must be 1 to 64 of");
    refused(&key(&file, &["add", "--role", "admin", "--name", "x", "--expires", "yesterday"]), "is not a day");
    refused(&key(&file, &["rotate", "--role", "admin", "--name", "web"]), "has no admin key web");
    refused(&key(&file, &["revoke", "--id", "00000000"]), "has no such key");
    refused(&key(&file, &["revoke", "--id", "0"]), "at least 8 digits");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    let help = String::from_utf8(berth(&["key", "add", "--help"]).output().unwrap().stdout).unwrap();
    assert!(help.contains("berth key add --role operator --name mumbai --districts 395 --expires 90d"), "{help}");
}

#[test]
fn the_configuration_says_where_the_keys_lie() {
    let dir = tempfile::tempdir().unwrap();
    let (file, config) = (dir.path().join("keys.toml"), dir.path().join("berth.toml"));
    std::fs::write(&config, format!("keys_file = {file:?}")).unwrap();
    let config = config.to_str().unwrap().to_owned();
    let made = berth(&["key", "add", "--role", "admin", "--name", "ops", "--config", &config]).output().unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().contains(&sha256(&done(&made))));
    // What clashes with a key of the configuration itself would make the server refuse the whole file.
    let inline = format!("[[keys]]\nrole = 'platform'\nname = 'web'\nsha256 = '{}'\n", sha256("x"));
    std::fs::write(&config, format!("keys_file = {file:?}\n{inline}")).unwrap();
    let clash = berth(&["key", "add", "--role", "platform", "--name", "web", "--config", &config]).output().unwrap();
    refused(&clash, "another platform key of this name");
    std::fs::write(&config, "").unwrap();
    refused(&berth(&["key", "list", "--config", &config]).output().unwrap(), "names no keys_file");
}
