//! How a code reaches its phone: by a file, for rehearsals, or by a webhook that sends it on.
//!
//! Whoever asks for a code is answered when it is queued. A task posts it, tries again while the code is worth anything, and tells the
//! log when that fails, without the phone and without the code. A post is a Standard Webhook (www.standardwebhooks.com): its `webhook-id` is the same
//! for each attempt at one code, and it is signed where the secret is one of theirs (`whsec_`); any other secret goes along as a bearer.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use ring::hmac;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

/// Posts under way at once.
const POSTS_MAX: usize = 32;
/// Attempts for one code, and the pause before the second; twice as long each time.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// What is left of a code's time must be worth sending it.
const USE_MIN: Duration = Duration::from_secs(20);

/// Where codes go.
#[derive(Clone, Debug)]
pub(crate) enum SinkSettings {
    /// A line each.
    File(PathBuf),
    /// A POST each.
    Webhook(Box<WebhookSettings>),
}

/// A webhook.
#[derive(Clone)]
pub(crate) struct WebhookSettings {
    pub(crate) url: String,
    pub(crate) secret: Option<Secret>,
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) time: Duration,
    pub(crate) queue_max: usize,
}

/// By what a webhook knows that it is us.
#[derive(Clone)]
pub(crate) enum Secret {
    /// Each post is signed with it.
    Signs(hmac::Key),
    /// Each post has it.
    Bearer(HeaderValue),
}

impl Secret {
    /// From what stands in its file: `whsec_` and Base64, or a word of visible ASCII characters.
    pub(crate) fn parse(text: &str) -> Option<Secret> {
        if let Some(key) = text.strip_prefix("whsec_") {
            let key = BASE64.decode(key).ok().filter(|key| (24..=64).contains(&key.len()))?;
            return Some(Secret::Signs(hmac::Key::new(hmac::HMAC_SHA256, &key)));
        }
        let good = !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).ok().filter(|_| good)?;
        value.set_sensitive(true);
        Some(Secret::Bearer(value))
    }
}

impl std::fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a secret of its own.
        f.debug_struct("WebhookSettings").field("time", &self.time).finish_non_exhaustive()
    }
}

/// Counters for the metrics page.
#[derive(Debug, Default)]
pub(crate) struct SinkStats {
    /// Codes handed over.
    pub(crate) sent: AtomicU64,
    /// Codes that could not be.
    pub(crate) failed: AtomicU64,
    failing: AtomicBool,
}

/// A code on its way.
struct Message {
    id: String,
    body: Bytes,
    until: Instant,
}

/// Takes codes.
pub(crate) struct Sink {
    to: To,
    pub(crate) stats: Arc<SinkStats>,
}

enum To {
    File(Mutex<File>),
    Webhook { queue: mpsc::Sender<Message>, start: Mutex<Option<(mpsc::Receiver<Message>, Box<Poster>)>> },
}

/// Room for one code: had before the code is made, so that none is made and counted that cannot be sent.
pub(crate) struct Room<'a> {
    to: RoomIn<'a>,
    stats: &'a SinkStats,
}

enum RoomIn<'a> {
    File(&'a Mutex<File>),
    Webhook(mpsc::Permit<'a, Message>),
}

impl Room<'_> {
    /// Hands a code over; false if the file cannot be written, or the system has no randomness.
    pub(crate) fn send(self, phone: &str, code: &str, expires_at: &str, life: Duration) -> bool {
        let body = json!({"phone": phone, "code": code, "expires_at": expires_at}).to_string();
        match self.to {
            RoomIn::File(file) => {
                let written = file.lock().write_all(format!("{body}\n").as_bytes());
                let sent = written.is_ok();
                self.stats.note(written.map_err(|error| error.to_string()));
                sent
            }
            RoomIn::Webhook(permit) => {
                let Ok(id) = message_id() else { return false };
                permit.send(Message { id, body: body.into(), until: Instant::now() + life });
                true
            }
        }
    }
}

impl Sink {
    pub(crate) fn open(settings: SinkSettings) -> Result<Sink, String> {
        let to = match settings {
            SinkSettings::File(path) => {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
                To::File(Mutex::new(file.map_err(|error| format!("{}: {error}", path.display()))?))
            }
            SinkSettings::Webhook(settings) => {
                let (queue, waiting) = mpsc::channel(settings.queue_max);
                To::Webhook { queue, start: Mutex::new(Some((waiting, Box::new(Poster::new(*settings)?)))) }
            }
        };
        Ok(Sink { to, stats: Arc::default() })
    }

    /// Starts the task that posts; to be called within the runtime, once.
    pub(crate) fn start(&self) {
        let To::Webhook { start, .. } = &self.to else { return };
        let Some((mut waiting, poster)) = start.lock().take() else { return };
        let (poster, stats) = (Arc::<Poster>::from(poster), Arc::clone(&self.stats));
        tokio::spawn(async move {
            let turns = Arc::new(Semaphore::new(POSTS_MAX));
            while let Some(message) = waiting.recv().await {
                let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
                let (poster, stats) = (Arc::clone(&poster), Arc::clone(&stats));
                tokio::spawn(async move {
                    let _turn = turn;
                    stats.note(poster.deliver(&message).await);
                });
            }
        });
    }

    /// Room for a code; `None` while too many wait.
    pub(crate) fn room(&self) -> Option<Room<'_>> {
        let to = match &self.to {
            To::File(file) => RoomIn::File(file),
            To::Webhook { queue, .. } => match queue.try_reserve() {
                Ok(permit) => RoomIn::Webhook(permit),
                Err(_) => {
                    self.stats.note(Err("too many codes wait for the webhook".to_owned()));
                    return None;
                }
            },
        };
        Some(Room { to, stats: &self.stats })
    }
}

impl SinkStats {
    /// Counts, and tells the log when it begins to fail and when that is over.
    fn note(&self, delivered: Result<(), String>) {
        match delivered {
            Ok(()) => {
                self.sent.fetch_add(1, Relaxed);
                if self.failing.swap(false, Relaxed) {
                    tracing::info!("one-time codes are delivered again");
                }
            }
            Err(why) => {
                self.failed.fetch_add(1, Relaxed);
                if !self.failing.swap(true, Relaxed) {
                    tracing::error!(%why, "one-time codes are not delivered: nobody gets in who needs one");
                }
            }
        }
    }
}

/// Posts to the webhook.
struct Poster {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    secret: Option<Secret>,
    time: Duration,
}

/// Tells one code from every other, and nothing of it.
fn message_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().fold("msg_".to_owned(), |id, byte| id + &format!("{byte:02x}")))
}

impl Poster {
    fn new(settings: WebhookSettings) -> Result<Poster, String> {
        let uri = settings.url.parse().map_err(|_| "the webhook's URL is none".to_owned())?;
        let mut roots = rustls::RootCertStore::empty();
        match &settings.ca_pem {
            Some(pem) => {
                use rustls::pki_types::pem::PemObject as _;
                for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(pem) {
                    let added = certificate
                        .map_err(|error| error.to_string())
                        .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
                    added.map_err(|error| format!("people.webhook_ca_file: {error}"))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Poster { client, uri, secret: settings.secret, time: settings.time })
    }

    /// Tries until it is taken, the code is worth nothing any more, or it was tried often enough.
    async fn deliver(&self, message: &Message) -> Result<(), String> {
        let mut pause = PAUSE;
        let mut tried = 1;
        // Where the webhook is slow codes wait: those that come too late are let go, and the others have its time.
        if Instant::now() + USE_MIN >= message.until {
            return Err("codes wait for the webhook until they are worth nothing".to_owned());
        }
        loop {
            let why = match self.post(message).await {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            if tried >= TRIES || Instant::now() + pause >= message.until {
                return Err(why);
            }
            tokio::time::sleep(pause).await;
            (tried, pause) = (tried + 1, pause * 2);
        }
    }

    async fn post(&self, message: &Message) -> Result<(), String> {
        let mut request = Request::new(Full::new(message.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let text = |text: String| HeaderValue::from_str(&text).expect("ASCII");
        request.headers_mut().insert("webhook-id", text(message.id.clone()));
        request.headers_mut().insert("webhook-timestamp", at.into());
        match &self.secret {
            None => {}
            Some(Secret::Bearer(secret)) => {
                request.headers_mut().insert(AUTHORIZATION, secret.clone());
            }
            Some(Secret::Signs(key)) => {
                let signed = [format!("{}.{at}.", message.id).as_bytes(), &message.body].concat();
                let signature = format!("v1,{}", BASE64.encode(hmac::sign(key, &signed)));
                request.headers_mut().insert("webhook-signature", text(signature));
            }
        }
        let posting = async {
            // Errors of the client say where and why, never what was sent.
            let response = self.client.request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            // Read to its end, so that the connection can be used again; what it says is not for us.
            let _ = http_body_util::Limited::new(response.into_body(), 64 << 10).collect().await;
            if status.is_success() { Ok(()) } else { Err(format!("the webhook answered {status}")) }
        };
        tokio::time::timeout(self.time, posting)
            .await
            .unwrap_or_else(|_| Err("the webhook did not answer in time".to_owned()))
    }
}
