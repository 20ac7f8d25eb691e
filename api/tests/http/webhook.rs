//! One-time codes go to a webhook: a real server that is down at first.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use serde_json::{Value, json};

use crate::client::PATIENCE;
use crate::server::Home;

/// What a post brought: its headers, in small letters, and its body.
struct Post {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Post {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A server that answers each post with the next of these, then takes none.
fn webhook(answers: &'static [&'static str]) -> (String, mpsc::Receiver<Post>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/codes", listener.local_addr().unwrap());
    let (told, posts) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line);
            }
            assert!(lines[0].starts_with("POST /codes "), "{lines:?}");
            let header = |line: &String| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            };
            let headers: Vec<_> = lines.iter().skip(1).filter_map(header).collect();
            let mut post = Post { headers, body: Vec::new() };
            post.body.resize(post.header("content-length").unwrap().parse().unwrap(), 0);
            reader.read_exact(&mut post.body).unwrap();
            let head = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(head.as_bytes()).unwrap();
            if told.send(post).is_err() {
                return;
            }
        }
    });
    (url, posts)
}

fn home(url: &str, secret: &str) -> Home {
    let home = Home::new("");
    let config = std::fs::read_to_string(home.path("berth.toml")).unwrap();
    std::fs::write(home.path("secret"), secret).unwrap();
    let people = format!(
        "[audit]\nfile = {:?}\n[people]\nmaster_key_file = {:?}\nwebhook_url = {url:?}\nwebhook_secret_file = {:?}\ncountry_code = '91'\n",
        home.path("audit.ndjson"),
        home.path("people.key"),
        home.path("secret"),
    );
    std::fs::write(home.path("berth.toml"), config + &people).unwrap();
    home
}

/// The signature is that of Standard Webhooks, the identity is one for all attempts, and what was posted opens the account.
#[test]
fn a_code_is_posted_signed_again_until_it_is_taken_and_opens() {
    let (url, posts) = webhook(&["503 Service Unavailable", "204 No Content"]);
    let key = [7; 32];
    let server = home(&url, &format!("whsec_{}\n", BASE64.encode(key))).start();
    let ask = |path: &str, body: &Value| server.send("POST", path, &[], body.to_string().as_bytes());
    ask("/v1/accounts/codes", &json!({"phone": "+91 98765 43210"})).expect(200);
    let (refused, taken) = (posts.recv_timeout(PATIENCE).unwrap(), posts.recv_timeout(PATIENCE).unwrap());
    assert_eq!(refused.header("webhook-id"), taken.header("webhook-id"));
    assert_eq!((&refused.body, taken.header("authorization")), (&taken.body, None));
    for post in [&refused, &taken] {
        let (id, at) = (post.header("webhook-id").unwrap(), post.header("webhook-timestamp").unwrap());
        let signed = [format!("{id}.{at}.").as_bytes(), &post.body].concat();
        let signature = post.header("webhook-signature").unwrap().strip_prefix("v1,").unwrap();
        let signature = BASE64.decode(signature).unwrap();
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed, &signature).unwrap();
        assert!(id.starts_with("msg_") && !id.contains("98765"), "{id}");
    }
    let said: Value = serde_json::from_slice(&taken.body).unwrap();
    assert_eq!(said["phone"], "+919876543210");
    let opened = ask("/v1/accounts/sessions", &json!({"phone": said["phone"], "code": said["code"]})).expect(201);
    assert!(opened["token"].is_string());
    server.wait_for_metric("berth_codes_sent_total 1");
}

/// Any other secret goes along as it is.
#[test]
fn a_secret_of_another_kind_is_a_bearer() {
    let (url, posts) = webhook(&["200 OK"]);
    let server = home(&url, "a word").start();
    server.send("POST", "/v1/accounts/codes", &[], b"{\"phone\":\"+919876543210\"}").expect(200);
    let post = posts.recv_timeout(PATIENCE).unwrap();
    assert_eq!((post.header("authorization"), post.header("webhook-signature")), (Some("Bearer a word"), None));
}
