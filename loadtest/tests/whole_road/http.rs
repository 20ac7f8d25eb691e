//! The twin's door: just enough HTTP/1.1, one thread per connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use crate::twin::{Fault, Twin, journal_path};

fn option(arguments: &[String], name: &str) -> Option<String> {
    let place = arguments.iter().position(|argument| argument == name)?;
    arguments.get(place + 1).cloned()
}

fn open(arguments: &[String]) -> (Twin, PathBuf) {
    let data_dir = PathBuf::from(option(arguments, "--data-dir").expect("--data-dir"));
    let fault = Fault::named(&std::env::var("BERTH_TWIN_FAULT").unwrap_or_default());
    let hold_seconds = option(arguments, "--programme")
        .and_then(|path| std::fs::read_to_string(path).ok())
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("hold_seconds = ")?.trim().parse::<i64>().ok()))
        .unwrap_or(1);
    (Twin::open(&data_dir, fault, hold_seconds * 1_000), data_dir)
}

pub(crate) fn export(arguments: &[String]) {
    let (twin, data_dir) = open(arguments);
    let text = if arguments.iter().any(|argument| argument == "--entries") {
        std::fs::read_to_string(journal_path(&data_dir)).expect("the twin's journal")
    } else {
        twin.export()
    };
    std::io::stdout().lock().write_all(text.as_bytes()).expect("standard output");
}

/// The twin thinks well of itself, but it can count.
pub(crate) fn verify(arguments: &[String]) {
    let (_, data_dir) = open(arguments);
    let entries = std::fs::read_to_string(journal_path(&data_dir)).expect("the twin's journal").lines().count();
    crate::say(&format!("{{\"verdict\":\"held\",\"entries\":{entries},\"findings\":[]}}"));
}

pub(crate) fn serve(arguments: &[String]) {
    let (twin, _) = open(arguments);
    let twin = Arc::new(twin);
    let listener = TcpListener::bind(option(arguments, "--listen").expect("--listen")).expect("a free port");
    crate::say(&format!("berth listening on http://{}", listener.local_addr().expect("an address")));
    let house = Arc::clone(&twin);
    std::thread::spawn(move || house.keep_house());
    let drained = Arc::clone(&twin);
    ctrlc::set_handler(move || {
        drained.sync();
        std::process::exit(0);
    })
    .expect("a handler for SIGTERM");
    for stream in listener.incoming() {
        let twin = Arc::clone(&twin);
        std::thread::spawn(move || {
            // A client that hangs up ends its thread, nothing else.
            let _ = talk(&twin, stream?);
            Ok::<(), std::io::Error>(())
        });
    }
}

fn talk(twin: &Twin, mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, target) =
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let (mut length, mut key) = (0, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "idempotency-key" => key = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body);
        let (status, answer, replayed) = twin.answer(&method, &target, key.as_deref(), &body);
        let replayed = if replayed { "idempotent-replayed: true\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} X\r\n{replayed}content-length: {}\r\n\r\n", answer.len());
        stream.write_all((head + &answer).as_bytes())?;
    }
}
