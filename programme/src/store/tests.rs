//! A store over a real engine's log, killed and opened again.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use berth_engine::journal::entry::Event;
use berth_engine::{AllowAll, Command, Config, PartyFacts, Request};

use std::path::PathBuf;

use super::*;

const TIME: Duration = Duration::from_secs(30);

/// Keeps each party's entry, and how often it was shown; fails while it is told to.
struct Parties {
    table: Table,
    shown: Table,
    fails: AtomicBool,
}

impl Projection for Parties {
    fn apply(&self, change: &mut Change, seq: Seq, entry: &Entry) -> Result<(), StoreError> {
        let Event::PartiesAdded { first, .. } = &entry.event else { return Ok(()) };
        if self.fails.load(Relaxed) {
            return Err(StoreError::Broken("planted".to_owned()));
        }
        change.put(&self.table, &first.0.to_be_bytes(), &seq.0.to_le_bytes());
        let shown = self.shown.get(&seq.0.to_be_bytes())?.map_or(0, |row| row[0]);
        change.put(&self.shown, &seq.0.to_be_bytes(), &[shown + 1]);
        Ok(())
    }
}

fn engine(dir: &Path) -> Arc<Engine> {
    Arc::new(Engine::open(Config::new(dir), Arc::new(AllowAll), &mut |_| {}).unwrap().0)
}

fn add(engine: &Engine) -> Seq {
    let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
    let submitted = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
    submitted.result.unwrap();
    submitted.seq
}

fn followed(dir: &Path, engine: &Arc<Engine>, told: &Arc<Mutex<Vec<Told>>>) -> (Store, Arc<Parties>) {
    let store = Store::open(&dir.join("store")).unwrap();
    let parties = Parties {
        table: store.table("test.parties").unwrap(),
        shown: store.table("test.shown").unwrap(),
        fails: AtomicBool::new(false),
    };
    let parties = Arc::new(parties);
    let told = Arc::clone(told);
    store.follow(engine, vec![Arc::<Parties>::clone(&parties)], move |what| told.lock().push(what)).unwrap();
    (store, parties)
}

fn rows(table: &Table) -> usize {
    table.scan(b"").map(Result::unwrap).count()
}

#[test]
fn every_durable_entry_is_applied_once_across_starts_and_a_read_waits_for_its_write() {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::default();
    let mut entries = 0;
    for life in 0..3 {
        let engine = engine(&dir.path().join("data"));
        let (store, parties) = followed(dir.path(), &engine, &told);
        for _ in 0..50 {
            let seq = add(&engine);
            entries += 1;
            engine.ticket(seq).wait().unwrap();
            store.wait(seq, TIME).unwrap();
            assert!(store.applied() >= seq);
            assert_eq!(rows(&parties.table), entries, "life {life}");
        }
        engine.close().unwrap();
        if life == 1 {
            // As after a kill: nothing was synced at the end.
            store.shared.close();
        }
        store.close();
        assert!(parties.shown.scan(b"").all(|row| row.unwrap().1 == [1]), "an entry was applied twice");
    }
    assert_eq!(*told.lock(), []);
}

#[test]
fn what_cannot_be_applied_is_not_skipped_and_who_waits_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let engine = engine(&dir.path().join("data"));
    let (store, parties) = followed(dir.path(), &engine, &told);
    parties.fails.store(true, Relaxed);
    let seq = add(&engine);
    engine.ticket(seq).wait().unwrap();
    let broken = StoreError::Broken("planted".to_owned());
    assert_eq!(store.wait(seq, TIME), Err(broken.clone()));
    assert_eq!(store.standing_still(), Some(broken.clone()));
    parties.fails.store(false, Relaxed);
    let started = std::time::Instant::now();
    while store.wait(seq, TIME).is_err() {
        assert!(started.elapsed() < TIME);
        std::thread::yield_now();
    }
    assert_eq!((rows(&parties.table), store.standing_still()), (1, None));
    store.close();
    assert_eq!(*told.lock(), [Told::StandsStill(broken), Told::GoesOn]);
    engine.close().unwrap();
    assert_eq!(store.wait(seq.next(), TIME), Err(StoreError::Behind(seq.next())), "nothing comes after the end");
}

// rule: SNP-2 the log is kept until the store has it on its disk
#[test]
fn the_log_waits_for_the_store_and_one_that_begins_late_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let mut config = Config::new(dir.path().join("data"));
    config.journal.segment_bytes = 1 << 20;
    config.journal.buffer_bytes = 1 << 18;
    let open = || Arc::new(Engine::open(config.clone(), Arc::new(AllowAll), &mut |_| {}).unwrap().0);
    let fill = |engine: &Engine| {
        let note = vec![7; 100_000];
        for _ in 0..30 {
            let command = Command::Note { note: &note };
            let seq = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap().seq;
            engine.ticket(seq).wait().unwrap();
        }
    };
    let trim = |engine: &Engine| {
        for _ in 0..3 {
            fill(engine);
            engine.snapshot().unwrap();
        }
    };
    let engine = open();
    let (store, parties) = followed(dir.path(), &engine, &told);
    parties.fails.store(true, Relaxed);
    let seq = add(&engine);
    trim(&engine);
    parties.fails.store(false, Relaxed);
    let started = std::time::Instant::now();
    while store.wait(engine.durable(), TIME).is_err() {
        assert!(started.elapsed() < TIME);
        std::thread::yield_now();
    }
    assert_eq!((rows(&parties.table), store.began()), (1, Seq(0)), "entry {seq} was still there");
    // And it is let go while the store follows, once that has it on its disk.
    let started = std::time::Instant::now();
    while engine.tail(LogPlace::default()).unwrap().next(&mut |_, _, _| {}).is_ok() {
        assert!(started.elapsed() < TIME, "the log is kept though nobody needs it");
        fill(&engine);
        engine.snapshot().unwrap();
    }
    store.close();
    trim(&engine);
    drop((store, parties));
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    told.lock().clear();
    let (store, parties) = followed(dir.path(), &engine, &told);
    store.wait(engine.durable(), TIME).unwrap();
    assert_eq!((rows(&parties.table), *told.lock() == [Told::BeganLate(store.began())]), (0, true));
    assert!(store.began() >= seq);
    engine.close().unwrap();
}

/// What a database that was stopped for good takes, once it was opened anew.
#[test]
fn a_database_that_has_stopped_is_opened_anew_and_goes_on_from_its_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let engine = engine(&dir.path().join("data"));
    let (store, parties) = followed(dir.path(), &engine, &told);
    let settle = |seq| {
        engine.ticket(seq).wait().unwrap();
        let started = std::time::Instant::now();
        while store.wait(seq, TIME).is_err() {
            assert!(started.elapsed() < TIME, "{:?}", store.standing_still());
            std::thread::yield_now();
        }
    };
    for _ in 0..20 {
        settle(add(&engine));
    }
    let handle = store.open.table("test.parties").unwrap();
    parties.fails.store(true, Relaxed);
    store.open.stop();
    let seq = add(&engine);
    engine.ticket(seq).wait().unwrap();
    let started = std::time::Instant::now();
    while store.opened_anew() == 0 || store.standing_still().is_none() {
        assert!(started.elapsed() < TIME);
        std::thread::yield_now();
    }
    assert_eq!(rows(&handle), 20, "the tables of before are read");
    parties.fails.store(false, Relaxed);
    settle(seq);
    assert_eq!((rows(&handle), rows(&parties.table)), (21, 21));
    assert!(!dir.path().join("store/room").exists());
    store.close();
    engine.close().unwrap();
}

/// Unmounted, however the test ends.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a test that has failed may still have files open there.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A real one, where one may be mounted.
#[test]
fn a_full_disk_stops_the_store_and_room_lets_it_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("store");
    std::fs::create_dir(&disk).unwrap();
    let mount = |program: &str, arguments: &[&str]| {
        let status =
            std::process::Command::new(program).args(arguments).arg(&disk).stderr(std::process::Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=96m", "berth-test"]) {
        eprintln!("not run: a file system cannot be mounted here");
        return;
    }
    let _mounted = Mounted(disk.clone());
    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let engine = engine(&dir.path().join("data"));
    let (store, parties) = followed(dir.path(), &engine, &told);
    let first = add(&engine);
    engine.ticket(first).wait().unwrap();
    store.wait(first, TIME).unwrap();
    let ballast = disk.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    let mut len = 1 << 20;
    while len > 0 {
        if std::io::Write::write_all(&mut file, &vec![1; len]).is_err() {
            len /= 2;
        }
    }
    let started = std::time::Instant::now();
    let mut seq = first;
    while !told.lock().iter().any(|told| matches!(told, Told::StandsStill(_))) {
        assert!(started.elapsed() < TIME, "the disk is full, and nobody notices");
        seq = add(&engine);
        std::thread::sleep(Duration::from_millis(1));
    }
    // What was there is still read.
    assert!(rows(&parties.table) > 0);
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    engine.ticket(seq).wait().unwrap();
    let started = std::time::Instant::now();
    while store.wait(seq, TIME).is_err() {
        assert!(started.elapsed() < TIME, "{:?}", store.standing_still());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(rows(&parties.table) as u64, seq.0 - first.0 + 1, "every entry, and none twice");
    assert!(told.lock().contains(&Told::GoesOn) && store.opened_anew() > 0);
    store.close();
    engine.close().unwrap();
    drop((store, parties));
}
