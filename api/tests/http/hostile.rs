//! Clients that mean harm: whatever they send, the server stays within its memory and answers others meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::client::{PATIENCE, connect, request};
use crate::server::Server;

/// How much memory one bad client may cost, in bytes. What they send is a multiple of it.
const MEMORY: f64 = 48.0 * 1024.0 * 1024.0;

fn resident(server: &Server) -> f64 {
    let page = server.get("/metrics");
    let line = page.text().lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    line.expect("the page tells").parse().unwrap()
}

/// Runs the attack and looks, while its connections are still open, whether others are answered and what it cost.
#[track_caller]
fn survives<T>(server: &Server, attack: impl FnOnce() -> T) {
    let before = resident(server);
    let attackers = attack();
    let grown = resident(server) - before;
    assert!(grown < MEMORY, "{grown} bytes more");
    server.get("/v1/regions").expect(200);
    drop(attackers);
    server.wait_for_metric("berth_admission_at_work 0");
    server.wait_for_metric("berth_http_inflight_requests 0");
}

fn http_2(server: &Server) -> TcpStream {
    let mut stream = connect(server.address);
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).unwrap();
    stream
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The block of a GET of `/v1/regions`.
fn get_block() -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, 11];
    block.extend(b"/v1/regions");
    block.extend([0x01, 4]);
    block.extend(b"test");
    block
}

/// Writes pieces until the server will have no more of them, or `bytes_max` are written; how many were.
fn flood(stream: &mut TcpStream, bytes_max: usize, mut piece: impl FnMut(u32) -> Vec<u8>) -> usize {
    let mut written = 0;
    for number in 0.. {
        let bytes = piece(number);
        if written >= bytes_max || stream.write_all(&bytes).is_err() {
            break;
        }
        written += bytes.len();
    }
    written
}

/// Everything the server still sends before it ends the connection.
fn rest_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("the server does not end it: {error}"),
        _ => rest,
    }
}

/// CVE-2023-44487.
#[test]
fn streams_that_are_opened_and_reset_without_end_end_the_connection() {
    let server = Server::start();
    survives(&server, || {
        let mut stream = http_2(&server);
        let block = get_block();
        let written = flood(&mut stream, 64 << 20, |number| {
            let id = number * 2 + 1;
            [frame(1, 0x05, id, &block), frame(3, 0, id, &8u32.to_be_bytes())].concat()
        });
        assert!(written < 64 << 20, "the server goes on taking them");
        rest_of(&mut stream);
        stream
    });
}

/// CVE-2024-27316 and its like.
#[test]
fn a_head_without_end_ends_the_connection() {
    let server = Server::start();
    survives(&server, || {
        let mut stream = http_2(&server);
        stream.write_all(&frame(1, 0x01, 1, &get_block())).unwrap();
        // Fields that are never indexed, in frames of 16 KiB.
        let field = [vec![0x10, 1, b'a', 0x7f, 0x81, 0x7e], vec![b'x'; 16_256]].concat();
        let written = flood(&mut stream, 256 << 20, |_| frame(9, 0, 1, &field));
        assert!(written < 256 << 20, "the server goes on taking it");
        rest_of(&mut stream);
        stream
    });
}

#[test]
fn floods_of_pings_and_settings_cost_no_memory() {
    let server = Server::start();
    survives(&server, || {
        let mut pings = http_2(&server);
        flood(&mut pings, 32 << 20, |_| frame(6, 0, 0, &[7; 8]).repeat(1000));
        let mut settings = http_2(&server);
        flood(&mut settings, 32 << 20, |_| frame(4, 0, 0, &[0, 3, 0, 0, 0, 9]).repeat(1000));
        (pings, settings)
    });
}

#[test]
fn heads_that_come_by_the_byte_or_not_at_all_take_no_place() {
    let server = Server::start_with("http.head_time_ms = 30000");
    survives(&server, || {
        (0..200)
            .map(|number| {
                let mut stream = connect(server.address);
                let half = b"POST /v1/bookings HTTP/1.1\r\nhost: t\r\nx-a: ";
                stream.write_all(&half[..number % half.len()]).unwrap();
                stream
            })
            .collect::<Vec<_>>()
    });
}

#[test]
fn bodies_that_come_by_the_byte_take_no_place() {
    // Whether a slow machine lets a hundred at once in is not asked here.
    let server = Server::start_with("admission.mode = 'off'");
    let mut slow = Vec::new();
    for number in 0..100 {
        let key = format!("slow-{number}");
        let headers =
            [("authorization", "Bearer platform-key"), ("idempotency-key", key.as_str()), ("content-length", "5000")];
        let mut stream = connect(server.address);
        stream.write_all(&request("POST", "/v1/bookings", &headers, b"{")).unwrap();
        slow.push(stream);
    }
    // All of them run, and none is at work.
    server.wait_for_metric("berth_http_inflight_requests 100");
    server.wait_for_metric("berth_admission_at_work 0");
    server.get("/v1/regions").expect(200);
    drop(slow);
    server.wait_for_metric("berth_http_inflight_requests 0");
}

#[test]
fn a_head_that_is_too_large_is_told_so() {
    let server = Server::start();
    survives(&server, || {
        let mut stream = connect(server.address);
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let _ = stream.write_all(b"GET /v1/regions HTTP/1.1\r\nhost: t\r\nx: ");
        flood(&mut stream, 64 << 20, |_| vec![b'y'; 8192]);
        let answer = rest_of(&mut stream);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
        stream
    });
}

#[test]
fn requests_sent_without_end_and_never_read_wait_in_the_clients_own_socket() {
    let server = Server::start();
    survives(&server, || {
        let mut stream = connect(server.address);
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let ask = request("GET", "/v1/regions", &[], b"").repeat(100);
        let written = flood(&mut stream, 256 << 20, |_| ask.clone());
        assert!(written < 256 << 20, "the server goes on reading what it cannot answer");
        stream
    });
}
