//! A Redis that gives its place to another: a name or an address that leads to the new one is asked again. And one that has lost its
//! stream and kept its head.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

use berth_engine::journal::redis_stream::RedisStream;
use berth_engine::journal::stream::{Shipment, Stream as _, StreamError};
use berth_engine::{Epoch, Seq};
use redis::Commands as _;

use crate::server::{Redis, entries, free_port, patiently, shipped, with_redis};
use crate::support::{book, open, seed};

/// A door that leads each new connection to where it stands now; those that were made stay where they are, as with a name whose
/// address has changed.
struct Door {
    port: u16,
    leads_to: Arc<AtomicU16>,
}

impl Door {
    fn open(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = Self { port: listener.local_addr().unwrap().port(), leads_to: Arc::new(AtomicU16::new(port)) };
        let leads_to = Arc::clone(&door.leads_to);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", leads_to.load(SeqCst))) else { continue };
                let client = client.unwrap();
                for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        door
    }
}

// rule: FNC-2
#[test]
fn a_redis_that_hands_over_to_its_replica_is_left_for_the_new_one() {
    for idle in [false, true] {
        let (data, store, spare) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let old = Redis::start(store.path(), free_port());
        drop(old.connection());
        let new = Redis::start_with(spare.path(), free_port(), &["--replicaof", "127.0.0.1", &old.port.to_string()]);
        let door = Door::open(old.port);
        let engine = open(&with_redis(data.path(), door.port));
        let slot = seed(&engine, 1000, 1000);
        let before = shipped(&engine);
        let mut connection = new.connection();
        patiently("the replica has it", || (entries(&mut connection).last() == Some(&before)).then_some(()));
        let errors = engine.stats().redis.unwrap().errors;
        // Both live on, and so does the connection: only what is written is refused.
        let () = redis::cmd("FAILOVER").query(&mut old.connection()).unwrap();
        patiently("the replica was promoted", || {
            let role: Vec<redis::Value> = redis::cmd("ROLE").query(&mut connection).ok()?;
            (role[0] == redis::Value::BulkString(b"master".to_vec())).then_some(())
        });
        door.leads_to.store(new.port, SeqCst);
        if idle {
            patiently("it is noticed with nothing to ship", || {
                (engine.stats().redis.unwrap().errors > errors).then_some(())
            });
        }
        let (_, seq) = book(&engine, 1, slot);
        engine.ticket(seq).wait().unwrap();
        assert_eq!(shipped(&engine), seq.0, "idle: {idle}");
        assert_eq!(entries(&mut connection), (1..=seq.0).collect::<Vec<_>>());
        assert_eq!(engine.stats().redis.unwrap().connected, 1);
    }
}

/// Removed, or evicted while the head stayed: an append to what is not there would make a stream that begins in the middle.
// rule: FNC-2
#[test]
fn a_stream_that_is_gone_takes_no_append_and_comes_to_be_the_log_again() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let mut connection = redis.connection();
    let config = with_redis(data.path(), redis.port);
    let engine = open(&config);
    let slot = seed(&engine, 1000, 1000);
    for party in 0..200 {
        if party % 50 == 25 {
            let () = connection.del("berth:1:journal").unwrap();
        }
        book(&engine, party, slot);
    }
    let seq = patiently("it is all there", || {
        let all: Vec<u64> = (1..=engine.appended().0).collect();
        (entries(&mut connection) == all).then_some(all.len() as u64)
    });
    assert_eq!(seq, shipped(&engine));
    engine.close().unwrap();

    let mut stream = RedisStream::new(config.journal.redis.as_ref().unwrap()).unwrap();
    let frames: Vec<Shipment> =
        stream.frames(Seq(0), 2).unwrap().iter().map(|bytes| Shipment::from_bytes(bytes).unwrap()).collect();
    let epoch = Epoch(99);
    stream.take(epoch).unwrap();
    stream.install(epoch, Seq(0), frames[0].header.previous, None).unwrap();
    stream.append(epoch, &frames[..1]).unwrap();
    let () = connection.del("berth:1:journal").unwrap();
    assert_eq!(stream.append(epoch, &frames[1..]), Err(StreamError::Elsewhere));
    assert!(!connection.exists::<_, bool>("berth:1:journal").unwrap());
}
