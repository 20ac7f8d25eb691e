//! The log on a real disk, and on one that fails.

use super::*;

fn config(file: PathBuf) -> AuditConfig {
    AuditConfig {
        file,
        rotate_bytes: None,
        sync_every: Duration::from_millis(1),
        queue_max: 4,
        refuse: vec![Role::Admin],
    }
}

fn record(who: &str) -> Record {
    Record {
        at: jiff::Timestamp::UNIX_EPOCH,
        trace: "4b".to_owned(),
        role: "platform",
        who: who.to_owned(),
        method: "GET",
        route: "/v1/bookings/{booking}",
        whom: Whom { party: Some("p1.3".to_owned()), ..Whom::default() },
        reason: None,
        status: 200,
        outcome: "ok",
    }
}

/// Until the writer has done what it was told.
fn wait_until(mut done: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "never");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn write(audit: &Audit, who: &str) {
    let mut reserved = None;
    wait_until(|| {
        reserved = audit.reserve(Role::Platform, false).ok().flatten();
        reserved.is_some()
    });
    reserved.unwrap().begin(record(who)).end(200, "ok");
}

fn whos(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let who = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["who"].as_str().unwrap().to_owned();
    text.lines().map(who).collect()
}

#[test]
fn every_line_is_written_in_order_and_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.ndjson");
    let audit = Audit::start(config(path.clone())).unwrap();
    let names: Vec<String> = (0..100).map(|i| format!("w{i}")).collect();
    names.iter().for_each(|name| write(&audit, name));
    audit.close();
    assert_eq!(whos(&path), names);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let first = std::fs::read_to_string(&path).unwrap();
    assert!(first.starts_with(
        "{\"at\":\"1970-01-01T00:00:00Z\",\"trace\":\"4b\",\"role\":\"platform\",\"who\":\"w0\",\"method\":\"GET\",\
         \"route\":\"/v1/bookings/{booking}\",\"party\":\"p1.3\",\"status\":200,\"outcome\":\"ok\"}\n"
    ));
    let stats = audit.stats();
    assert_eq!((stats.written, stats.queued), (100, 0));
}

#[test]
fn a_full_queue_refuses_some_roles_and_loses_the_lines_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::start(config(dir.path().join("audit.ndjson"))).unwrap();
    let held: Vec<_> = (0..4).map(|_| audit.reserve(Role::Platform, false).unwrap().unwrap()).collect();
    assert_eq!(audit.reserve(Role::Admin, false).map(|_| ()).map_err(|p| p.code()), Err(Code::AuditUnavailable));
    assert!(audit.reserve(Role::Citizen, false).unwrap().is_none());
    assert_eq!((audit.stats().refused, audit.stats().lost, audit.stats().queued), (1, 1, 4));
    drop(held);
    assert!(audit.reserve(Role::Admin, false).unwrap().is_some(), "what was not filled is given back");
    audit.close();
}

#[test]
fn a_file_that_cannot_be_written_is_known_before_anything_is_done_and_nothing_queued_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    // Every write to it fails for want of room.
    let full = dir.path().join("audit.ndjson");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let audit = Audit::start(config(full.clone())).unwrap();
    write(&audit, "first");
    wait_until(|| audit.stats().failing);
    assert_eq!(audit.reserve(Role::Admin, false).map(|_| ()).map_err(|p| p.code()), Err(Code::AuditUnavailable));
    assert!(audit.reserve(Role::Platform, false).unwrap().is_none());
    std::fs::remove_file(&full).unwrap();
    wait_until(|| !audit.stats().failing);
    write(&audit, "second");
    audit.close();
    assert_eq!(whos(&full), ["first", "second"]);
}

#[test]
fn a_large_file_is_set_aside_and_a_moved_one_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.ndjson");
    let audit = Audit::start(AuditConfig { rotate_bytes: Some(300), ..config(path.clone()) }).unwrap();
    for i in 0..20 {
        write(&audit, &format!("w{i:02}"));
        wait_until(|| audit.stats().queued == 0);
    }
    std::fs::rename(&path, dir.path().join("audit.ndjson.moved")).unwrap();
    audit.reopen();
    write(&audit, "w20");
    audit.close();
    assert!(audit.stats().rotated >= 5, "{:?}", audit.stats());
    let mut files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut all: Vec<String> = files.iter().flat_map(|file| whos(file)).collect();
    all.sort();
    assert_eq!(all, (0..=20).map(|i| format!("w{i:02}")).collect::<Vec<_>>());
    assert!(!whos(&dir.path().join("audit.ndjson.moved")).contains(&"w20".to_owned()));
}

#[test]
fn a_line_that_was_cut_short_spoils_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.ndjson");
    std::fs::write(&path, "{\"at\":\"2021-04").unwrap();
    let audit = Audit::start(config(path.clone())).unwrap();
    write(&audit, "next");
    audit.close();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"at\":\"2021-04\n{\"at\":") && text.ends_with("\n"), "{text}");
}

#[test]
fn a_request_that_was_cut_off_has_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.ndjson");
    let audit = Audit::start(config(path.clone())).unwrap();
    drop(audit.reserve(Role::Admin, false).unwrap().unwrap().begin(record("gone")));
    audit.close();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"who\":\"gone\"") && text.contains("\"outcome\":\"cut_off\""), "{text}");
}

#[test]
fn the_end_of_its_thread_is_known_before_the_next_line() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::start(config(dir.path().join("audit.ndjson"))).unwrap();
    assert!(!audit.stats().dead && !audit.stats().failing);
    let told = ToldOfEnd(Arc::clone(&audit.shared));
    let thread = std::thread::spawn(move || {
        let _told = told;
        panic!("planted");
    });
    let _ = thread.join();
    assert!(audit.stats().dead && audit.stats().failing);
    assert_eq!(audit.reserve(Role::Admin, false).map(|_| ()).map_err(|p| p.code()), Err(Code::AuditUnavailable));
    assert!(audit.reserve(Role::Platform, false).unwrap().is_none());
    audit.close();
    let audit = Audit::start(config(dir.path().join("audit.ndjson"))).unwrap();
    audit.close();
    assert!(!audit.stats().dead, "an end in its time is none to tell of");
}

#[test]
fn a_server_ends_though_its_log_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let full = dir.path().join("audit.ndjson");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let audit = Audit::start(config(full)).unwrap();
    write(&audit, "first");
    wait_until(|| audit.stats().failing);
    audit.close();
}
