//! A password and TLS, as a Redis of others' has them.

use std::path::Path;
use std::process::{Command as Process, Stdio};

use berth_engine::journal::redis_stream::RedisStream;
use berth_engine::journal::stream::Stream as _;
use berth_engine::recover::{Recovery, recover};
use berth_engine::*;

use crate::server::{Redis, free_port, patiently, shipped, with_redis};
use crate::support::{book, open, run, seed};

#[test]
fn a_password_may_come_apart_from_the_url_and_is_in_no_message() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start_with(store.path(), free_port(), &["--requirepass", "sesame-17"]);
    let mut config = with_redis(data.path(), redis.port);
    let url = format!("redis://:wrong-word@127.0.0.1:{}", redis.port);
    config.journal.redis = Some(RedisConfig::new(url, "berth:1"));
    // No first start, which would be refused.
    drop(open(&crate::support::config(data.path())));
    let engine = open(&config);
    seed(&engine, 10, 10);
    let why = patiently("it is refused", || {
        engine
            .stats()
            .redis
            .unwrap()
            .last_error
            .filter(|error| error.contains("WRONGPASS") || error.contains("uthentication"))
    });
    assert!(!why.contains("wrong-word") && !format!("{config:?}").contains("wrong-word"), "{why}");
    engine.close().unwrap();
    drop(engine);
    config.journal.redis.as_mut().unwrap().password = Some("sesame-17".to_owned());
    assert!(!format!("{config:?}").contains("sesame"));
    let engine = open(&config);
    shipped(&engine);
}

/// The page's rule is enough for everything that is ever asked, and for no more.
#[test]
fn the_rights_on_the_page_are_enough() {
    let (data, store, target) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let mut admin = redis.connection();
    let page = include_str!("../../../docs/redis.md");
    let rule = page.lines().find(|line| line.starts_with("ACL SETUSER berth")).unwrap();
    let rule = rule.replace("PASSWORD", "sesame-17").replace("{prefix}", "berth:1");
    let info: String = redis::cmd("INFO").arg("server").query(&mut admin).unwrap();
    let old = info.contains("redis_version:7.0");
    let words: Vec<&str> = rule.split(' ').filter(|word| !old || *word != "+waitaof").collect();
    let () = redis::cmd(words[0]).arg(&words[1..]).query(&mut admin).unwrap();
    if old {
        let refused: Result<(), _> = redis::cmd("ACL").arg(&["SETUSER", "berth", "+waitaof"]).query(&mut admin);
        assert!(refused.is_err(), "as the page says");
    }

    let mut config = with_redis(data.path(), redis.port);
    let url = format!("redis://berth:sesame-17@127.0.0.1:{}", redis.port);
    config.journal.redis = Some(RedisConfig::new(url, "berth:1"));
    let engine = open(&config);
    let slot = seed(&engine, 100, 100);
    let fill = |party: u32| {
        book(&engine, party, slot);
        for _ in 0..30 {
            run(&engine, Command::Note { note: &vec![1; 100 << 10] });
        }
        shipped(&engine);
        let s0 = engine.snapshot().unwrap().unwrap().s0.0;
        patiently("the snapshot is there", || (engine.stats().redis.unwrap().snapshot == s0).then_some(()));
    };
    (0..3).for_each(fill);
    let mut stream = RedisStream::new(config.journal.redis.as_ref().unwrap()).unwrap();
    patiently("the stream is trimmed", || (stream.head().unwrap().base > Seq(0)).then_some(()));
    let errors = engine.stats().redis.unwrap();
    assert_eq!((errors.errors, errors.last_error), (0, None), "nothing was refused");
    // Begun anew with a snapshot, and recovered from.
    let () = redis::cmd("FLUSHALL").query(&mut admin).unwrap();
    patiently("a snapshot is installed", || (engine.stats().redis.unwrap().installs == 1).then_some(()));
    fill(3);
    let last = Seq(shipped(&engine));
    engine.close().unwrap();
    let recovery = Recovery {
        dir: target.path().to_owned(),
        cell: config.cell,
        segment_bytes: config.journal.segment_bytes,
        code_key: None,
    };
    assert_eq!(recover(&mut stream, &recovery, &mut |_| {}).unwrap().last, last);
    let refused: Result<String, _> = redis::Client::open(format!("redis://berth:sesame-17@127.0.0.1:{}", redis.port))
        .unwrap()
        .get_connection()
        .and_then(|mut connection| redis::cmd("GET").arg("other").query(&mut connection));
    assert!(refused.is_err_and(|error| error.code() == Some("NOPERM")));
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let mut process = Process::new("openssl");
    process.args(arguments).current_dir(dir).stderr(Stdio::null()).stdout(Stdio::null());
    assert!(process.status().expect("openssl is on the path").success(), "openssl {arguments:?}");
}

/// An authority, and a certificate for 127.0.0.1 that it signed.
fn certificates(dir: &Path) {
    let request = ["req", "-newkey", "rsa:2048", "-nodes", "-subj"];
    let ca = ["/CN=authority", "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(dir, &[&request[..], &ca].concat());
    openssl(dir, &[&request[..], &["/CN=redis", "-keyout", "redis.key", "-out", "redis.csr"]].concat());
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let sign = ["x509", "-req", "-in", "redis.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(dir, &[&sign[..], &["-days", "2", "-extfile", "names", "-out", "redis.pem"]].concat());
}

#[test]
fn tls_trusts_the_given_authority_and_no_other_and_shows_a_certificate_when_asked() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(store.path());
    let file = |name: &str| store.path().join(name).to_str().unwrap().to_owned();
    let port = free_port();
    let (ca, cert, key, tls_port) = (file("ca.pem"), file("redis.pem"), file("redis.key"), port.to_string());
    let tls = ["--tls-port", &tls_port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    // The plain port is of no use here, and must not be the same.
    let _redis = Redis::start_with(store.path(), free_port(), &tls);
    let mut config = with_redis(data.path(), port);
    config.journal.redis = Some(RedisConfig::new(format!("rediss://127.0.0.1:{port}"), "berth:1"));
    // No first start, which would be refused.
    drop(open(&crate::support::config(data.path())));
    let engine = open(&config);
    seed(&engine, 10, 10);
    let why = patiently("an unknown authority is refused", || {
        engine.stats().redis.unwrap().last_error.filter(|error| error.contains("ertificate"))
    });
    assert!(why.contains("UnknownIssuer"), "{why}");
    engine.close().unwrap();
    drop(engine);
    let pem = |name: &str| std::fs::read(store.path().join(name)).unwrap();
    config.journal.redis.as_mut().unwrap().tls =
        RedisTls { ca_pem: Some(pem("ca.pem")), client_pem: Some((pem("redis.pem"), pem("redis.key"))) };
    let engine = open(&config);
    shipped(&engine);
}
