//! Durable registrations: each a person with a document of their own, sealed, found once by it, on the disk, and read by whoever asks
//! next. Callers wait for their own before they bring another.
//!
//! `cargo bench -p berth-benches --bench people`

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use berth_engine::{AllowAll, Config, Engine, Idempotency, IdempotencyKey};
use berth_programme::people::{Intent, KEY_TABLE, MasterKey, People, PeopleConfig, RecordRules, Said};
use berth_programme::store::Store;
use criterion::Criterion;

struct Cell {
    engine: Arc<Engine>,
    store: Arc<Store>,
    people: People,
    next: AtomicU64,
    _dir: tempfile::TempDir,
}

fn cell() -> Cell {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (engine, _) =
        Engine::open(Config::new(dir.path().join("data")), Arc::new(AllowAll), &mut |_| {}).expect("it opens");
    let engine = Arc::new(engine);
    let store = Arc::new(Store::open(&dir.path().join("store")).expect("it opens"));
    let rules = RecordRules { country_code: None, sexes: Vec::new(), programme: None, document_needed: true };
    let config = PeopleConfig { key_table: dir.path().join(KEY_TABLE), rules, members_max: 4, offer_ms: 1 };
    let master = Arc::new(MasterKey::new(&[1; 32]));
    let (people, projection) = People::open(&engine, &store, &master, config).expect("it opens");
    store.follow(&engine, vec![projection], |told| panic!("{told:?}")).expect("there is a log");
    Cell { engine, store, people, next: AtomicU64::new(0), _dir: dir }
}

impl Cell {
    /// One person, from what was said to where it may be answered.
    fn register(&self) -> Duration {
        let number = self.next.fetch_add(1, Relaxed);
        let started = Instant::now();
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
        let done = self.people.register(None, person, &intent, self.engine.now()).expect("nobody has the document");
        self.engine.ticket(done.seq).wait().expect("the journal runs");
        self.store.wait(done.seq, Duration::from_secs(60)).expect("the store runs");
        started.elapsed()
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

fn main() {
    // `cargo bench` says --bench; as a test every bench runs once and tiny.
    if std::env::args().any(|arg| arg == "--bench") {
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
