//! A server with `WAITAOF`: an entry counts as in Redis when Redis has it on disk. The server here is a real one behind a
//! door that says it is newer and answers `WAITAOF` itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use berth_engine::*;

use crate::server::{Redis, free_port, patiently, with_redis};
use crate::support::{book, open, seed};

#[derive(Default)]
struct Door {
    asked: AtomicU64,
    /// Whether the disk of the server keeps up.
    on_disk: AtomicBool,
}

/// One command as it was sent, and its name.
fn command(client: &mut BufReader<TcpStream>) -> Option<(Vec<u8>, String)> {
    let mut raw = Vec::new();
    client.read_until(b'\n', &mut raw).ok().filter(|read| *read > 0)?;
    let count: usize = std::str::from_utf8(&raw[1..]).ok()?.trim().parse().ok()?;
    let mut name = String::new();
    for word in 0..count {
        let start = raw.len();
        client.read_until(b'\n', &mut raw).ok()?;
        let len: usize = std::str::from_utf8(&raw[start + 1..]).ok()?.trim().parse().ok()?;
        let at = raw.len();
        raw.resize(at + len + 2, 0);
        client.read_exact(&mut raw[at..]).ok()?;
        if word == 0 {
            name = String::from_utf8_lossy(&raw[at..at + len]).into_owned();
        }
    }
    Some((raw, name))
}

fn serve(client: TcpStream, port: u16, door: &Door) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let (mut answers, mut replies) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let mut direct = client.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(len @ 1..) = answers.read(&mut bytes) {
            let text = b"redis_version:7.0";
            if let Some(at) = bytes[..len].windows(text.len()).position(|window| window == text) {
                bytes[at + text.len() - 1] = b'2';
            }
            if replies.write_all(&bytes[..len]).is_err() {
                break;
            }
        }
    });
    let mut client = BufReader::new(client);
    while let Some((raw, name)) = command(&mut client) {
        let done = if name == "WAITAOF" {
            door.asked.fetch_add(1, SeqCst);
            let on_disk = u8::from(door.on_disk.load(SeqCst));
            direct.write_all(format!("*2\r\n:{on_disk}\r\n:0\r\n").as_bytes())
        } else {
            server.write_all(&raw)
        };
        if done.is_err() {
            break;
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
}

#[test]
fn with_waitaof_an_entry_is_in_redis_when_it_is_on_its_disk() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    drop(redis.connection());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = Arc::new(Door::default());
    let port = listener.local_addr().unwrap().port();
    let (doors, behind) = (Arc::clone(&door), redis.port);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, door) = (client.unwrap(), Arc::clone(&doors));
            std::thread::spawn(move || serve(client, behind, &door));
        }
    });
    let engine = open(&with_redis(data.path(), port));
    let slot = seed(&engine, 1000, 1000);
    let (_, seq) = book(&engine, 1, slot);
    let stats = || engine.stats().redis.unwrap();
    // Appended, and not counted: the server's disk does not keep up.
    patiently("it is asked for", || stats().warnings.iter().any(|why| why.contains("not in time")).then_some(()));
    assert!(door.asked.load(SeqCst) > 0 && stats().connected == 1);
    patiently("it is in the stream", || {
        let last: Option<u64> = redis::Commands::hget(&mut redis.connection(), "berth:1:head", "last").unwrap();
        (last == Some(seq.0)).then_some(())
    });
    assert!(!engine.ticket_for(seq, Ack::Redis).is_reached());
    door.on_disk.store(true, SeqCst);
    engine.ticket_for(seq, Ack::Redis).wait().unwrap();
    // Caught up: asked once for each time that nothing more was to be appended, not at every look.
    let (_, seq) = book(&engine, 2, slot);
    engine.ticket_for(seq, Ack::Redis).wait().unwrap();
    assert_eq!(stats().shipped, seq.0);
    // Without an append-only file there is nothing to wait for, also where that is changed while connected.
    door.on_disk.store(false, SeqCst);
    let set = |value: &str| {
        let mut set = redis::cmd("CONFIG");
        let () = set.arg("SET").arg("appendonly").arg(value).query(&mut redis.connection()).unwrap();
    };
    set("no");
    let (_, seq) = book(&engine, 3, slot);
    engine.ticket_for(seq, Ack::Redis).wait().unwrap();
}
