//! Connections: kept, pipelined, HTTP/2, slow, and given up.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{connect, read_reply, request};
use crate::server::{Server, claim, claims};

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let (server, slots) = Server::with_slots(&[5]);
    let mut stream = connect(server.address);
    let mut bytes = Vec::new();
    for i in 0..5 {
        let key = format!("pipe-{i}");
        let headers = [("authorization", "Bearer platform-key"), ("idempotency-key", key.as_str())];
        let body = claims(&[claim(&format!("p1.{i}"), &slots[0])]).to_string();
        bytes.extend(request("POST", "/v1/bookings", &headers, body.as_bytes()));
    }
    stream.write_all(&bytes).unwrap();
    for i in 0..5 {
        let booked = read_reply(&mut stream, false).expect(201);
        assert_eq!(booked["bookings"][0]["party"], format!("p1.{i}"));
    }
    stream.write_all(&request("GET", "/healthz", &[], b"")).unwrap();
    read_reply(&mut stream, false).expect(200);
}

/// An answer does not wait for the rest of a next request.
#[test]
fn an_answer_is_sent_though_a_piece_of_the_next_request_is_there() {
    let (server, slots) = Server::with_slots(&[5]);
    let mut stream = connect(server.address);
    let headers = [("authorization", "Bearer platform-key"), ("idempotency-key", "first")];
    let body = claims(&[claim("p1.1", &slots[0])]).to_string();
    let mut bytes = request("POST", "/v1/bookings", &headers, body.as_bytes());
    let next = request("GET", "/healthz", &[], b"");
    bytes.extend(&next[..7]);
    stream.write_all(&bytes).unwrap();
    read_reply(&mut stream, false).expect(201);
    stream.write_all(&next[7..]).unwrap();
    read_reply(&mut stream, false).expect(200);
}

/// A head that is none gets its status, not a closed door.
#[test]
fn a_bad_head_is_answered() {
    let server = Server::start();
    let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    for (head, status) in [("GET /\0 HTTP/1.1\r\n\r\n", "400"), ("HELLO\r\n\r\n", "400"), (many.as_str(), "431")] {
        let mut stream = connect(server.address);
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0u8; 12];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer.ends_with(status.as_bytes()), "{:?}", String::from_utf8_lossy(&answer));
    }
}

/// The HEADERS frame of a GET.
fn http_2_get(stream: u8, path: &str) -> Vec<u8> {
    // GET, http, :path, :authority test
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.bytes());
    block.extend([0x01, 4]);
    block.extend(b"test");
    // END_STREAM and END_HEADERS
    [vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 0x05, 0, 0, 0, stream], block].concat()
}

#[test]
fn http_2_is_spoken_where_it_is_asked_for() {
    let server = Server::start();
    let mut stream = connect(server.address);
    // In two pieces, so that the first alone could also be HTTP/1.1.
    stream.write_all(b"PRI * HT").unwrap();
    stream.flush().unwrap();
    let mut rest = b"TP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    rest.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]); // SETTINGS, empty
    rest.extend(http_2_get(1, "/healthz"));
    stream.write_all(&rest).unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("frames come until the answer");
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        if head[3] == 1 {
            assert_eq!(payload[0], 0x88, ":status 200 of the static table");
            return;
        }
    }
}

/// Everything the server still sends before it ends the connection.
fn rest_of(stream: &mut std::net::TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("the server does not end it: {error}"),
        _ => rest,
    }
}

#[test]
fn a_client_that_stalls_is_not_waited_for() {
    let server = Server::start_with("http.head_time_ms = 200\nhttp.body_time_ms = 200");
    for stalled in ["", "PRI * HTTP/2.0\r\n", "GET /healthz HTTP/1.1\r\nhost: t"] {
        let mut stream = connect(server.address);
        stream.write_all(stalled.as_bytes()).unwrap();
        let rest = rest_of(&mut stream);
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{stalled:?} got {}", String::from_utf8_lossy(&rest));
    }
    let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", "slow"), ("content-length", "1000")];
    let mut stream = connect(server.address);
    stream.write_all(&request("POST", "/v1/regions", &headers, b"{\"id\":")).unwrap();
    read_reply(&mut stream, false).expect_problem(408, "body_timeout");
}

/// An HTTP/2 connection whose client takes no byte of any answer.
fn http_2_without_window(server: &Server) -> std::net::TcpStream {
    let mut stream = connect(server.address);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]); // SETTINGS: INITIAL_WINDOW_SIZE 0
    stream.write_all(&bytes).unwrap();
    stream
}

#[test]
fn an_answer_that_is_not_taken_counts_as_running_and_is_given_up() {
    let server = Server::start_with("http.send_time_ms = 5000");
    let mut stream = http_2_without_window(&server);
    stream.write_all(&[http_2_get(1, "/v1/regions"), http_2_get(3, "/v1/regions")].concat()).unwrap();
    server.wait_for_metric("berth_http_inflight_requests 2");
    rest_of(&mut stream);
    server.wait_for_metric("berth_http_inflight_requests 0");
}

#[test]
fn an_export_that_is_not_taken_is_given_up() {
    let server = Server::start_with("http.send_time_ms = 200");
    let mut stream = http_2_without_window(&server);
    let mut get = http_2_get(1, "/v1/export");
    get.extend([0x0f, 8, 16]); // authorization, never indexed
    get.extend(b"Bearer admin-key");
    get[2] += 19;
    stream.write_all(&get).unwrap();
    rest_of(&mut stream);
    server.wait_for_metric("berth_http_requests_total{method=\"GET\",route=\"/v1/export\",status=\"200\"} 1");
    server.wait_for_metric("berth_http_inflight_requests 0");
}

#[test]
fn a_client_that_asks_and_never_reads_is_cut() {
    let server = Server::start_with("http.send_time_ms = 200");
    let mut stream = connect(server.address);
    stream.set_write_timeout(Some(crate::client::PATIENCE)).unwrap();
    let ask = request("GET", "/metrics", &[], b"");
    let started = Instant::now();
    let error = loop {
        if let Err(error) = stream.write_all(&ask) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    assert!(started.elapsed() < Duration::from_secs(25), "it was cut as idle, not for what it does not take");
}

#[test]
fn an_http_2_connection_on_which_nothing_is_asked_is_ended() {
    let server = Server::start_with("http.head_time_ms = 200");
    rest_of(&mut http_2_without_window(&server));
}

#[test]
fn a_booking_goes_on_when_its_client_hangs_up() {
    let (server, slots) = Server::with_slots(&[1]);
    let headers = [("authorization", "Bearer platform-key"), ("idempotency-key", "gone")];
    let body = claims(&[claim("p1.0", &slots[0])]);
    let mut stream = connect(server.address);
    stream.write_all(&request("POST", "/v1/bookings", &headers, body.to_string().as_bytes())).unwrap();
    drop(stream);
    // The outcome may not be there yet, but it comes; and the repeat books nothing more.
    let again = loop {
        let again = server.post_under("gone", "/v1/bookings", &body);
        // Right beside the first one: ask again, as a client would.
        if again.status != 409 {
            break again;
        }
        again.expect_problem(409, "idempotency_in_flight");
    };
    again.expect(201);
    server.read("/v1/outcomes/gone").expect(201);
    assert_eq!(server.slot_counts(&slots[0]), (1, 0, 1));
}

#[test]
fn too_many_requests_at_once_are_told_so_but_probes_are_answered() {
    let server = Server::start_with("http.inflight_requests_max = 1");
    let mut slow = connect(server.address);
    let line = b"{\"id\":\"27\",\"kind\":\"state\",\"name\":\"Maharashtra\"}";
    let length = line.len().to_string();
    let headers =
        [("authorization", "Bearer admin-key"), ("idempotency-key", "s"), ("content-length", length.as_str())];
    slow.write_all(&request("POST", "/v1/regions", &headers, &line[..10])).unwrap();
    server.wait_for_metric("berth_http_inflight_requests 1");
    let refused = server.get("/v1/regions");
    refused.expect_problem(503, "overloaded");
    assert!(refused.header("retry-after").is_some());
    server.get("/healthz").expect(200);
    server.get("/readyz").expect(200);
    // An administrator gets in to mend it, and nobody else by the same door.
    server.send("GET", "/v1/admin/admission", &[("authorization", "Bearer admin-key")], b"").expect(200);
    server.get("/v1/admin/admission").expect_problem(401, "unauthenticated");
    let platform = [("authorization", "Bearer platform-key")];
    server.send("GET", "/v1/admin/admission", &platform, b"").expect_problem(503, "overloaded");
    slow.write_all(&line[10..]).unwrap();
    assert_eq!(read_reply(&mut slow, false).expect(200), json!({"published": 1}));
}
