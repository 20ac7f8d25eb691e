//! Durable registrations: each a person with a document of their own, sealed, found once by it, on the disk, and read by whoever asks
//! next. Callers wait for their own before they bring another. And the persons of a recall list, read as the list reads them: how long its first
//! page takes and all of it, of a store that was opened anew. `BERTH_BENCH_PEOPLE` says how many it calls (default 100,000), of twice as many
//! that are registered.
//!
//! `cargo bench -p berth-benches --bench people`

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use berth_engine::{AllowAll, Config, Engine, Idempotency, IdempotencyKey, PartyId, Seq};
use berth_programme::people::{Intent, KEY_TABLE, MasterKey, People, PeopleConfig, RecordRules, Said};
use berth_programme::store::Store;
use criterion::Criterion;

struct Cell {
    engine: Arc<Engine>,
    store: Arc<Store>,
    people: People,
    next: AtomicU64,
    dir: tempfile::TempDir,
}

fn cell() -> Cell {
    opened(tempfile::tempdir().expect("a temporary directory"))
}

fn opened(dir: tempfile::TempDir) -> Cell {
    let (engine, _) =
        Engine::open(Config::new(dir.path().join("data")), Arc::new(AllowAll), &mut |_| {}).expect("it opens");
    let engine = Arc::new(engine);
    let store = Arc::new(Store::open(&dir.path().join("store")).expect("it opens"));
    let rules = RecordRules { country_code: None, sexes: Vec::new(), programme: None, document_needed: true };
    let config = PeopleConfig { key_table: dir.path().join(KEY_TABLE), rules, members_max: 4, offer_ms: 1 };
    let master = Arc::new(MasterKey::new(&[1; 32]));
    let (people, projection) = People::open(&engine, &store, &master, config).expect("it opens");
    store.follow(&engine, vec![projection], |told| panic!("{told:?}")).expect("there is a log");
    Cell { engine, store, people, next: AtomicU64::new(0), dir }
}

impl Cell {
    /// One person, from what was said to where it may be answered.
    fn register(&self) -> Duration {
        let started = Instant::now();
        let seq = self.said();
        self.settle(seq);
        started.elapsed()
    }

    fn settle(&self, seq: Seq) {
        self.engine.ticket(seq).wait().expect("the journal runs");
        self.store.wait(seq, Duration::from_secs(600)).expect("the store runs");
    }

    /// One person is appended.
    fn said(&self) -> Seq {
        let number = self.next.fetch_add(1, Relaxed);
        let said = Said {
            name: Some(format!("Person {number} of Somewhere")),
            born: Some("1975-03-01".to_owned()),
            document: Some(("passport".to_owned(), format!("Z{number:09}"))),
            ..Said::default()
        };
        let person = self.people.rules().person(said, jiff::civil::date(2026, 1, 1)).expect("it is right");
        let step =
            |step: u128| Idempotency { key: IdempotencyKey(u128::from(number) << 8 | step), fingerprint: number };
        let intent = Intent { record: step(1), party: step(2), facts: step(3) };
        self.people.register(None, person, &intent, self.engine.now()).expect("nobody has the document").seq
    }

    /// The same directory, with nothing of it in the memory of this process.
    fn opened_anew(self) -> Cell {
        self.engine.close().expect("the journal runs");
        self.store.close();
        let Cell { engine, store, people, next, dir } = self;
        drop((engine, store, people));
        Cell { next, ..opened(dir) }
    }

    fn close(self) {
        self.engine.close().expect("the journal runs");
        self.store.close();
    }
}

/// So many callers, for so long.
fn run(callers: usize, time: Duration) {
    let cell = cell();
    let until = Instant::now() + time;
    let started = Instant::now();
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|_| {
                scope.spawn(|| {
                    let mut took = Vec::new();
                    while Instant::now() < until {
                        took.push(cell.register());
                    }
                    took
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no caller panics")).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    let count = took.len();
    let told = writeln!(
        std::io::stdout(),
        "{callers} callers: {:.0} durable registrations/s ({count} in {seconds:.1} s), p50 {:.2} ms, p99 {:.2} ms",
        count as f64 / seconds,
        at(50),
        at(99)
    );
    told.expect("standard output takes it");
    cell.close();
}

/// How many are read at once for the first lines of a list, and later: as in `api/src/routes/supply/trace.rs`.
const AT_ONCE: (usize, usize) = (64, 4096);

/// Twice as many persons as a list calls, and the list of every other one in an order that is not that of their keys.
fn recall(called: u32) {
    let mut cell = cell();
    let began = Instant::now();
    let mut newest = Seq(0);
    for _ in 0..2 * called {
        newest = cell.said();
    }
    cell.settle(newest);
    let registered = began.elapsed();
    cell = cell.opened_anew();
    // No factor in common with a round number: each of them once.
    let spread = |at: u32| u64::from(at) * 7_919 % u64::from(called) * 2;
    let parties: Vec<PartyId> =
        (0..called).map(|at| PartyId(u32::try_from(spread(at)).expect("a party's number"))).collect();
    let say = |line: String| writeln!(std::io::stdout(), "{line}").expect("standard output takes it");
    let (first, most) = AT_ONCE;
    let all = |name: &str| {
        let began = Instant::now();
        let (mut at_once, mut rest, mut names, mut page) = (first, parties.as_slice(), 0, None);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(at_once.min(rest.len()));
            let views = cell.people.views_of(now).expect("they are read");
            names += now.iter().filter(|party| views[party].person.name.starts_with("Person")).count();
            page.get_or_insert_with(|| began.elapsed());
            (rest, at_once) = (later, (at_once * 4).min(most));
        }
        assert_eq!(names, parties.len());
        let (page, all) = (page.unwrap_or_default(), began.elapsed());
        say(format!(
            "recall list of {names} persons with names, {name}: first {first} in {:.2} ms, all in {:.3} s, {:.1} us each",
            page.as_secs_f64() * 1000.0,
            all.as_secs_f64(),
            all.as_secs_f64() * 1e6 / names as f64
        ));
    };
    all("store just opened");
    all("again");
    let began = Instant::now();
    for party in &parties {
        cell.people.view(*party).expect("it is read");
    }
    let each = began.elapsed().as_secs_f64() * 1e6 / parties.len() as f64;
    say(format!(
        "one after the other: {each:.1} us each; registered {} in {:.1} s",
        2 * called,
        registered.as_secs_f64()
    ));
    cell.close();
}

fn main() {
    // `cargo bench` says --bench; as a test every bench runs once and tiny.
    let asked = std::env::var("BERTH_BENCH_PEOPLE").ok().and_then(|text| text.parse().ok());
    let whole = std::env::args().any(|arg| arg == "--bench");
    if !std::env::args().any(|arg| arg == "--list") {
        recall(if whole { asked.unwrap_or(100_000) } else { 300 });
    }
    if whole {
        for callers in [1, 16, 64, 256] {
            run(callers, Duration::from_secs(10));
        }
    }
    let mut harness = Criterion::default().configure_from_args().sample_size(10);
    let cell = cell();
    harness.bench_function("register_one_person", |b| b.iter(|| cell.register()));
    harness.final_summary();
    cell.close();
}
