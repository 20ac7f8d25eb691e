//! The write-behind beside bare `XADD` of the same frames: the shipper reads the log, checks every frame and appends through the
//! server-side function; the bare side has the frames in memory and sends them, one at a time or many in one go.
//!
//! Needs `redis-server` on the path. `cargo bench -p berth-benches --bench shipping`

use std::collections::VecDeque;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_benches::sides::{Round, side_by_side};
use berth_engine::journal::redis_stream::RedisStream;
use berth_engine::journal::stream::Shipment;
use berth_engine::testing::shipping::{Shippable, frames};
use berth_engine::{
    AllowAll, CentreKey, Claim, Command, Config, Dose, Engine, Epoch, Idempotency, IdempotencyKey, Outcome, PartyFacts,
    PartyId, RedisConfig, Request, SlotFacts, SlotSpec, Ticket, Units,
};
use criterion::Criterion;

/// What the shipper puts into one append, and the bare side into one pipeline.
const AT_ONCE: usize = 64;

struct Redis {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Redis {
    fn start() -> Redis {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let child = Process::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on the path");
        Redis { child, port, _dir: dir }
    }

    /// Empty.
    fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).expect("a good URL");
        let mut connection = loop {
            match client.get_connection() {
                Ok(connection) => break connection,
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let () = redis::cmd("FLUSHALL").query(&mut connection).expect("Redis answers");
        connection
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A log of `bookings` bookings in batches of about as many as `callers` make.
fn log(dir: &Path, bookings: u32, callers: usize) {
    let (engine, _) = Engine::open(Config::new(dir), Arc::new(AllowAll), &mut |_| {}).expect("a new directory opens");
    let submit = |command| {
        let told = engine.submit(&Request { command, idempotency: None }, engine.now()).expect("the journal runs");
        told.result.expect("nothing to refuse")
    };
    submit(Command::AddParties { count: bookings, facts: PartyFacts::default() });
    let facts = SlotFacts { starts_at: engine.now().plus(Duration::from_secs(86_400)), ..SlotFacts::default() };
    let spec = SlotSpec { centre: CentreKey(1), capacity: Units::MAX, facts };
    let Outcome::Published { slots, .. } = submit(Command::Publish { slots: &[spec; 64], note: b"" }) else {
        unreachable!("a publish answers Published")
    };
    let mut waiting: VecDeque<Ticket> = VecDeque::new();
    for party in 0..bookings {
        if waiting.len() == callers {
            waiting.drain(..).for_each(|ticket| ticket.wait().expect("the journal runs"));
        }
        let claims = [Claim { party: PartyId(party), slot: slots[party as usize % slots.len()], dose: Dose(1) }];
        let idempotency = Some(Idempotency { key: IdempotencyKey(u128::from(party)), fingerprint: 1 });
        let request = Request { command: Command::Book { claims: &claims }, idempotency };
        let told = engine.submit(&request, engine.now()).expect("the journal runs");
        waiting.push_back(engine.ticket(told.seq));
    }
    engine.close().expect("the journal runs");
}

fn shipper_round(redis: &Redis, dir: &Path, frames: &[Shipment]) -> Round {
    drop(redis.connection());
    let config = RedisConfig::new(format!("redis://127.0.0.1:{}", redis.port), "bench");
    let stream = RedisStream::new(&config).expect("a good configuration");
    let last = frames.last().expect("there are some").header.last();
    let mut log = Shippable::new(dir, last, Epoch(1), Box::new(stream)).expect("a data directory");
    let start = Instant::now();
    let stats = log.ship();
    let time = start.elapsed();
    assert_eq!((stats.shipped, stats.frames), (last.0, frames.len() as u64));
    (time, stats.bytes)
}

fn bare_round(redis: &Redis, frames: &[Shipment], at_once: usize) -> Round {
    let mut connection = redis.connection();
    let start = Instant::now();
    let mut bytes = 0;
    for batch in frames.chunks(at_once) {
        let mut pipeline = redis::pipe();
        for frame in batch {
            bytes += frame.bytes.len() as u64;
            let id = format!("{}-0", frame.header.last());
            pipeline.cmd("XADD").arg("bare").arg(id).arg("f").arg(frame.bytes.as_slice()).ignore();
        }
        let () = pipeline.query(&mut connection).expect("Redis takes it");
    }
    (start.elapsed(), bytes)
}

fn criterion(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let redis = Redis::start();
    log(dir.path(), 1000, 16);
    let frames = frames(dir.path()).expect("the log is whole");
    criterion.bench_function("ship_a_thousand_bookings", |b| {
        b.iter_custom(|n| (0..n).map(|_| shipper_round(&redis, dir.path(), &frames).0).sum());
    });
}

fn main() {
    // `cargo bench` says --bench; as a test every bench runs once and tiny.
    if std::env::args().any(|arg| arg == "--bench") {
        let redis = Redis::start();
        for (callers, bookings) in [(1, 20_000u32), (256, 500_000), (4096, 2_000_000)] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            log(dir.path(), bookings, callers);
            let frames = frames(dir.path()).expect("the log is whole");
            let mean = frames.iter().map(|frame| frame.bytes.len()).sum::<usize>() / frames.len();
            for at_once in [1, AT_ONCE] {
                let title = format!(
                    "shipping {} frames of {mean} bytes in the mean, beside XADD of them, {at_once} in one go",
                    frames.len()
                );
                side_by_side(
                    &title,
                    u64::from(bookings),
                    5,
                    ("shipper", || shipper_round(&redis, dir.path(), &frames)),
                    ("bare", || bare_round(&redis, &frames, at_once)),
                );
            }
        }
    }
    let mut harness = Criterion::default().configure_from_args().sample_size(10);
    criterion(&mut harness);
    harness.final_summary();
}
