//! TLS: both versions of HTTP, a certificate that is renewed while serving, and what does not come through.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{PATIENCE, connect, exchange, request};
use crate::server::{Home, Server};

fn openssl(dir: &Path, arguments: &[&str]) {
    let mut process = Command::new("openssl");
    process.args(arguments).current_dir(dir).stderr(Stdio::null()).stdout(Stdio::null());
    assert!(process.status().expect("openssl is on the path").success(), "openssl {arguments:?}");
}

/// An authority `NAME-ca.pem`, and the pair `berth.pem` and `berth.key` for 127.0.0.1 that it signed.
fn certificates(dir: &Path, name: &str) {
    let (ca, key) = (format!("{name}-ca.pem"), format!("{name}-ca.key"));
    let request = ["req", "-newkey", "rsa:2048", "-nodes", "-subj"];
    openssl(dir, &[&request[..], &["/CN=authority", "-x509", "-days", "2", "-keyout", &key, "-out", &ca]].concat());
    openssl(dir, &[&request[..], &["/CN=berth", "-keyout", "new.key", "-out", "new.csr"]].concat());
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let sign = ["x509", "-req", "-in", "new.csr", "-CA", &ca, "-CAkey", &key, "-CAcreateserial"];
    openssl(dir, &[&sign[..], &["-days", "2", "-extfile", "names", "-out", "new.pem"]].concat());
    std::fs::rename(dir.join("new.key"), dir.join("berth.key")).unwrap();
    std::fs::rename(dir.join("new.pem"), dir.join("berth.pem")).unwrap();
}

/// A connection that trusts this authority alone; none where the handshake fails.
fn shake_hands(address: SocketAddr, ca: &Path, speaks: &str) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![speaks.as_bytes().to_vec()];
    let name = ServerName::IpAddress(address.ip().into());
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = connect(address);
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).ok()?;
    }
    Some(StreamOwned::new(connection, stream))
}

/// The status of a GET.
fn get(address: SocketAddr, ca: &Path, path: &str) -> Option<String> {
    let mut stream = shake_hands(address, ca, "http/1.1")?;
    stream.write_all(&request("GET", path, &[("connection", "close")], b"")).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split(' ').nth(1).map(str::to_owned)
}

fn with_tls() -> Server {
    let home = Home::new("");
    certificates(&home.path(""), "first");
    let tls = format!(
        "http.probes_listen = '127.0.0.1:0'\n[tls]\ncert_file = {:?}\nkey_file = {:?}\n",
        home.path("berth.pem"),
        home.path("berth.key")
    );
    let path = home.path("berth.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("[[keys]]\nrole = 'admin'", &format!("{tls}[[keys]]\nrole = 'admin'"));
    std::fs::write(path, text).unwrap();
    home.start()
}

/// Where the listener for probes is, by the log.
fn probes(server: &Server) -> SocketAddr {
    let told = server.home.told();
    let line = told.lines().find(|line| line.contains("probes and metrics are answered here")).expect("it is told");
    line.rsplit("address=").next().unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn both_versions_of_http_are_spoken_inside_and_nothing_in_the_clear() {
    let server = with_tls();
    let ca = server.home.path("first-ca.pem");
    assert_eq!(get(server.address, &ca, "/v1/regions").as_deref(), Some("200"));
    let mut stream = shake_hands(server.address, &ca, "h2").expect("HTTP/2 is offered");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).unwrap();
    assert_eq!(settings[3], 4, "the server's SETTINGS");

    let mut clear = connect(server.address);
    clear.write_all(&request("GET", "/healthz", &[], b"")).unwrap();
    let mut answer = Vec::new();
    let _ = clear.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
    // Counted when the connection is gone, which its client sees first.
    wait(|| {
        let metrics = exchange(probes(&server), &request("GET", "/metrics", &[("connection", "close")], b""));
        metrics.text().lines().any(|line| line == "berth_tls_handshake_failures_total 1")
    });
}

#[test]
fn a_certificate_is_renewed_while_serving_and_a_bad_one_changes_nothing() {
    let server = with_tls();
    let home = server.home.path("");
    let (first, second) = (server.home.path("first-ca.pem"), server.home.path("second-ca.pem"));
    std::fs::write(server.home.path("berth.pem"), "no certificate").unwrap();
    server.signal("-HUP");
    wait(|| server.home.told().contains("cannot take up the certificate again"));
    assert_eq!(get(server.address, &first, "/healthz").as_deref(), Some("200"), "the one before stays in force");

    certificates(&home, "second");
    server.signal("-HUP");
    wait(|| get(server.address, &second, "/healthz").is_some());
    assert_eq!(get(server.address, &second, "/healthz").as_deref(), Some("200"));
    assert_eq!(get(server.address, &first, "/healthz"), None);
    assert!(server.home.told().contains("took up the certificate again"));
}

#[test]
fn the_listener_for_probes_answers_them_in_the_clear_and_nothing_else() {
    let server = with_tls();
    let ask = |path: &str| exchange(probes(&server), &request("GET", path, &[("connection", "close")], b""));
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        ask(path).expect(200);
    }
    let metrics = ask("/metrics");
    assert!(metrics.text().contains("berth_ready 1"));
    // As openssl reads it: `notAfter=Nov 28 17:00:00 2026 GMT`.
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-enddate", "-in"]).arg(server.home.path("berth.pem"));
    let said = String::from_utf8(openssl.output().unwrap().stdout).unwrap();
    let ends =
        jiff::civil::DateTime::strptime("notAfter=%b %d %H:%M:%S %Y GMT", said.trim().replace("  ", " ")).unwrap();
    let ends = jiff::tz::TimeZone::UTC.to_timestamp(ends).unwrap().as_second();
    let line = format!("berth_tls_certificate_expires_timestamp_seconds {ends}");
    assert!(metrics.text().lines().any(|l| l == line), "{line} in {}", metrics.text());
    ask("/v1/regions").expect_problem(404, "not_found");
}

#[test]
fn a_pair_that_does_not_fit_is_a_fault_of_the_configuration() {
    let home = Home::new("");
    certificates(&home.path(""), "one");
    std::fs::rename(home.path("berth.key"), home.path("other.key")).unwrap();
    certificates(&home.path(""), "two");
    let text = std::fs::read_to_string(home.path("berth.toml")).unwrap();
    let tls =
        format!("tls = {{ cert_file = {:?}, key_file = {:?} }}\n", home.path("berth.pem"), home.path("other.key"));
    std::fs::write(home.path("berth.toml"), tls + &text).unwrap();
    let output = home.serve().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("tls: ") && said.contains("other.key"), "{said}");
    assert!(!home.path("data").exists());
}

#[track_caller]
fn wait(mut comes: impl FnMut() -> bool) {
    let began = Instant::now();
    while !comes() {
        assert!(began.elapsed() < PATIENCE, "it never comes");
        std::thread::sleep(Duration::from_millis(20));
    }
}
