//! The stream in a real Redis: keys, server-side functions, and one connection of its own.
//!
//! Keys, which share a hash tag if the prefix has one:
//! ```text
//! {prefix}:journal          a stream; entry `<last sequence>-0` has the field `f`, one frame as it lies in the segment
//! {prefix}:head             a hash: last, link, epoch, owner, base, length, snapshots (s0/s1/pieces/bytes, newest first), and
//!                           uploading, the s0 whose pieces are on their way
//! {prefix}:snapshot:{s0}    a hash of pieces by number: the file's header, then each of its chunks
//! ```
//! Redis 7.0 is enough. Every change is one script, so it is done wholly or not at all, in the AOF and on replicas too. A script
//! that may run out of memory writes nothing before its first write that could be refused.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use redis::{
    ClientTlsConfig, Connection, ConnectionAddr, ConnectionInfo, ConnectionLike as _, ErrorKind,
    IntoConnectionInfo as _, RedisError, Script, ScriptInvocation, TlsCertificates,
};

use self::scripts::Scripts;
use self::server::{VERSION_WAITAOF, look};
use super::frame::Link;
use super::stream::{Head, SNAPSHOTS_KEPT, ServerState, Shipment, Stream, StreamError, Timeouts, Whole};
use crate::config::RedisConfig;
use crate::ids::{Epoch, Seq};

mod scripts;
mod server;

/// How long a server may take to have on its disk what it was sent: more than the second of `appendfsync everysec`.
const SETTLE_WAIT: Duration = Duration::from_secs(2);

/// A connection to a Redis, made when it is first used.
pub struct RedisStream {
    client: redis::Client,
    /// Host and port, for errors.
    place: String,
    /// As configured, and those in force.
    configured: Timeouts,
    timeouts: Timeouts,
    /// The identity of the cell, if it is known, a dash, and what tells this owner from a copy of its directory that takes the same
    /// epoch.
    owner: String,
    head: String,
    stream: String,
    snapshot: String,
    scripts: Scripts,
    connection: Option<Connection>,
    /// The connection's server has the script of appends.
    has_append: bool,
    /// Appends that were sent on the connection and not answered.
    unanswered: usize,
    /// A call as it goes over the wire.
    call: Vec<u8>,
    settles: bool,
}

impl fmt::Debug for RedisStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client may hold a password.
        f.debug_struct("RedisStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl RedisStream {
    /// Checks the configuration; connects to nothing yet.
    ///
    /// # Errors
    /// What is wrong with it, without the URL, which may hold a password.
    pub fn new(config: &RedisConfig) -> Result<Self, String> {
        let client = client(config).map_err(|error| error.to_string())?;
        let mut token = [0; 8];
        let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut token));
        random.map_err(|error| format!("/dev/urandom: {error}"))?;
        let prefix = &config.prefix;
        Ok(Self {
            place: client.get_connection_info().addr().to_string(),
            client,
            configured: config.timeouts,
            timeouts: config.timeouts,
            owner: format!("{:016x}", u64::from_le_bytes(token)),
            head: format!("{prefix}:head"),
            stream: format!("{prefix}:journal"),
            snapshot: format!("{prefix}:snapshot:"),
            scripts: Scripts::new(),
            connection: None,
            has_append: false,
            unanswered: 0,
            call: Vec::new(),
            settles: false,
        })
    }

    /// Asks with a connection, made if there is none; gone again when it failed.
    fn ask<T>(&mut self, ask: impl FnOnce(&Self, &mut Connection) -> Result<T, RedisError>) -> Result<T, StreamError> {
        if self.unanswered > 0 {
            // The next answer on it is to another question.
            self.connection = None;
        }
        self.ask_behind(ask)
    }

    /// As [`RedisStream::ask`], behind what was sent and not answered.
    fn ask_behind<T>(
        &mut self,
        ask: impl FnOnce(&Self, &mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, StreamError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answer = ask(self, &mut connection);
        if connection.is_open() && !answer.as_ref().is_err_and(breaks) {
            self.connection = Some(connection);
        }
        answer.map_err(|error| self.stream_error(&error))
    }

    fn connect(&mut self) -> Result<Connection, StreamError> {
        (self.has_append, self.unanswered) = (false, 0);
        let timeouts = self.timeouts;
        let connection = self.client.get_connection_with_timeout(timeouts.connect);
        let connection =
            connection.and_then(|connection| wait_at_most(&connection, timeouts.answer).map(|()| connection));
        let mut connection = connection.map_err(|error| self.no_connection(&error))?;
        let info: String = redis::cmd("INFO").query(&mut connection).map_err(|error| self.stream_error(&error))?;
        self.found(&info)?;
        Ok(connection)
    }

    /// Notes what the server is.
    fn found(&mut self, info: &str) -> Result<ServerState, StreamError> {
        let found = look(info)?;
        self.settles = found.aof && found.version >= VERSION_WAITAOF;
        Ok(found.state)
    }

    fn no_connection(&self, error: &RedisError) -> StreamError {
        if error.is_timeout() {
            let time = self.timeouts.connect.as_millis();
            return StreamError::Lost(format!("{}: no connection within {time} ms", self.place));
        }
        self.stream_error(error)
    }

    /// The kind and Redis's own words; never the URL, which may hold a password.
    fn stream_error(&self, error: &RedisError) -> StreamError {
        if error.code() == Some("OOM") {
            return StreamError::OutOfMemory;
        }
        let place = &self.place;
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => {
                StreamError::Refused(error.to_string())
            }
            _ if error.is_timeout() => {
                StreamError::Lost(format!("{place}: no answer within {} ms", self.timeouts.answer.as_millis()))
            }
            _ => StreamError::Lost(format!("{place}: {error}")),
        }
    }

    fn run<T: redis::FromRedisValue>(
        &mut self,
        script: impl FnOnce(&Scripts) -> &Script,
        epoch: Epoch,
        arguments: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, StreamError> {
        self.ask(|this, connection| {
            let mut call = script(&this.scripts).prepare_invoke();
            call.key(&this.head).key(&this.stream).arg(epoch.0).arg(&this.owner).arg(&this.snapshot);
            arguments(&mut call);
            call.invoke(connection)
        })
    }

    /// Runs a script that changes something.
    fn change(
        &mut self,
        script: impl FnOnce(&Scripts) -> &Script,
        epoch: Epoch,
        arguments: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<(), StreamError> {
        let said: Vec<String> = self.run(script, epoch, arguments)?;
        verdict(&said)
    }
}

/// A client with the configured address, password and certificates; connects to nothing yet.
///
/// # Errors
/// What is wrong with the configuration, without the URL, which may hold a password.
pub fn client(config: &RedisConfig) -> Result<redis::Client, RedisError> {
    let mut info = config.url.as_str().into_connection_info()?;
    if let Some(password) = &config.password {
        let settings = info.redis_settings().clone().set_password(password);
        info = info.set_redis_settings(settings);
    }
    match info.addr() {
        ConnectionAddr::TcpTls { .. } => tls_client(info, config),
        _ => redis::Client::open(info),
    }
}

fn tls_client(info: ConnectionInfo, config: &RedisConfig) -> Result<redis::Client, RedisError> {
    // The process may have chosen its own already, and then that is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client_tls = config.tls.client_pem.clone();
    let client_tls = client_tls.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    let root_cert = config.tls.ca_pem.clone();
    redis::Client::build_with_tls(info, TlsCertificates { client_tls, root_cert })
}

/// What a script said, if it is not what it was asked for.
fn verdict(said: &[String]) -> Result<(), StreamError> {
    let epoch = || Epoch(said.get(1).and_then(|epoch| epoch.parse().ok()).unwrap_or(u32::MAX));
    match said.first().map(String::as_str) {
        Some("ok") => Ok(()),
        Some("fenced") => Err(StreamError::Fenced { epoch: epoch() }),
        Some("elsewhere") => Err(StreamError::Elsewhere),
        Some("diverged") => Err(StreamError::Diverged),
        Some("notwhole") => Err(StreamError::NotWhole),
        Some("othercell") => Err(StreamError::OtherCell),
        _ => Err(StreamError::Lost("an answer that no script of ours gives".to_owned())),
    }
}

/// Reads what the scripts tell of the head.
pub(crate) fn head(said: &[String]) -> Result<Head, StreamError> {
    verdict(said)?;
    let strange = || StreamError::Lost("the head of the stream cannot be read".to_owned());
    let [_, last, link, epoch, base, snapshots, damaged] = said else { return Err(strange()) };
    let number = |text: &str| text.parse::<u64>().map_err(|_| strange());
    let mut whole = Vec::new();
    for words in snapshots.split_ascii_whitespace() {
        let numbers = words.split('/').map(number).collect::<Result<Vec<_>, _>>()?;
        let [s0, s1, pieces, bytes] = numbers[..] else { return Err(strange()) };
        whole.push(Whole { s0: Seq(s0), s1: Seq(s1), pieces, bytes });
    }
    Ok(Head {
        last: Seq(number(last)?),
        link: match link.as_str() {
            "" => None,
            link => Some(Link(u64::from_str_radix(link, 16).map_err(|_| strange())?)),
        },
        epoch: Epoch(epoch.parse().map_err(|_| strange())?),
        base: Seq(number(base)?),
        snapshots: whole,
        damaged: Some(damaged.clone()).filter(|damaged| !damaged.is_empty()),
    })
}

/// Whether to make another connection after this error: nothing is known of this one, or its server is not the one to write to
/// any more, and the name or address may lead to another by now.
fn breaks(error: &RedisError) -> bool {
    let elsewhere = matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "MOVED"));
    error.code().is_none() || elsewhere || error.is_unrecoverable_error()
}

fn wait_at_most(connection: &Connection, time: Duration) -> Result<(), RedisError> {
    connection.set_read_timeout(Some(time))?;
    connection.set_write_timeout(Some(time))
}

/// An append as it goes over the wire, in place of what `call` held: frames are copied once, into it.
fn encode_append(call: &mut Vec<u8>, stream: &RedisStream, epoch: Epoch, frames: &[Shipment]) {
    let argument = |call: &mut Vec<u8>, bytes: &[u8]| {
        // Memory takes everything.
        let _ = write!(call, "${}\r\n", bytes.len());
        call.extend_from_slice(bytes);
        call.extend_from_slice(b"\r\n");
    };
    let (first, last) = (frames.first().map(|frame| frame.header), frames.last().map_or(Link(0), |frame| frame.link));
    let first = first.map_or((Seq(0), Link(0)), |header| (header.first, header.previous));
    call.clear();
    // EVALSHA, the script, how many keys and these two; what every script is told; the place and its links; two for each frame.
    let _ = write!(call, "*{}\r\n", 5 + 3 + 3 + 2 * frames.len());
    argument(call, b"EVALSHA");
    argument(call, stream.scripts.append.get_hash().as_bytes());
    argument(call, b"2");
    argument(call, stream.head.as_bytes());
    argument(call, stream.stream.as_bytes());
    argument(call, epoch.to_string().as_bytes());
    argument(call, stream.owner.as_bytes());
    argument(call, stream.snapshot.as_bytes());
    argument(call, first.0.to_string().as_bytes());
    argument(call, hex(first.1).as_bytes());
    argument(call, hex(last).as_bytes());
    for frame in frames {
        argument(call, frame.header.last().0.to_string().as_bytes());
        argument(call, &frame.bytes);
    }
}

fn hex(link: Link) -> String {
    format!("{:016x}", link.0)
}

impl Stream for RedisStream {
    fn identify(&mut self, identity: u64) {
        let token = self.owner.rsplit('-').next().unwrap_or_default();
        self.owner = format!("{identity:016x}-{token}");
    }

    fn hurry(&mut self, at_most: Option<Duration>) {
        let Timeouts { connect, answer } = self.configured;
        let at_most = at_most.unwrap_or(Duration::MAX);
        self.timeouts = Timeouts { connect: connect.min(at_most), answer: answer.min(at_most) };
        let answer = self.timeouts.answer;
        // A connection that cannot be told is made anew.
        self.connection = self.connection.take().filter(|connection| wait_at_most(connection, answer).is_ok());
    }

    fn head(&mut self) -> Result<Head, StreamError> {
        let said: Vec<String> = self.run(|scripts| &scripts.head, Epoch(0), |_| {})?;
        head(&said)
    }

    fn take(&mut self, epoch: Epoch) -> Result<Head, StreamError> {
        let said: Vec<String> = self.run(|scripts| &scripts.take, epoch, |_| {})?;
        head(&said)
    }

    // rule: FNC-2 a lost or repeated append leaves neither a hole nor a duplicate in the stream
    fn send(&mut self, epoch: Epoch, frames: &[Shipment]) -> Result<(), StreamError> {
        if self.connection.is_none() || !self.has_append {
            self.ask(|this, connection| this.scripts.append.load(connection).map(drop))?;
            self.has_append = true;
        }
        let mut call = std::mem::take(&mut self.call);
        encode_append(&mut call, self, epoch, frames);
        let sent = self.ask_behind(|_, connection| connection.send_packed_command(&call));
        self.call = call;
        match sent {
            Ok(()) => self.unanswered += 1,
            // Nobody knows how much of it the server has.
            Err(_) => self.connection = None,
        }
        sent
    }

    fn appended(&mut self) -> Result<(), StreamError> {
        if self.unanswered == 0 || self.connection.is_none() {
            return Err(StreamError::Lost("an append that was never sent".to_owned()));
        }
        let said = self.ask_behind(|_, connection| {
            redis::from_redis_value::<Vec<String>>(connection.recv_response()?.extract_error()?)
                .map_err(RedisError::from)
        });
        self.unanswered -= 1;
        let done = said.and_then(|said| verdict(&said));
        if done.is_err() {
            // It may be that the server has forgotten it.
            self.has_append = false;
            if self.unanswered > 0 {
                self.connection = None;
            }
        }
        done
    }

    fn settles(&self) -> bool {
        self.settles
    }

    fn settle(&mut self) -> Result<bool, StreamError> {
        if !self.settles {
            return Ok(true);
        }
        let on_disk: Vec<u64> = self.ask(|this, connection| {
            // However short an answer of another kind may take.
            wait_at_most(connection, SETTLE_WAIT + this.timeouts.answer)?;
            let answer = redis::cmd("WAITAOF").arg(1).arg(0).arg(SETTLE_WAIT.as_secs() * 1000).query(connection);
            wait_at_most(connection, this.timeouts.answer)?;
            answer
        })?;
        Ok(matches!(on_disk.first(), Some(1..)))
    }

    fn server(&mut self) -> Result<ServerState, StreamError> {
        let info: String = self.ask(|_, connection| redis::cmd("INFO").query(connection))?;
        let state = self.found(&info);
        if state.is_err() {
            // Another server may be there by now.
            self.connection = None;
        }
        state
    }

    fn put_piece(&mut self, epoch: Epoch, s0: Seq, number: u64, bytes: &[u8]) -> Result<(), StreamError> {
        self.change(
            |scripts| &scripts.put_piece,
            epoch,
            |call| {
                call.arg(s0.0).arg(number).arg(bytes);
            },
        )
    }

    fn pieces(&mut self, s0: Seq) -> Result<u64, StreamError> {
        self.ask(|this, connection| redis::cmd("HLEN").arg(format!("{}{s0}", this.snapshot)).query(connection))
    }

    fn keep(&mut self, epoch: Epoch, snapshot: Whole) -> Result<(), StreamError> {
        let Whole { s0, s1, pieces, bytes } = snapshot;
        self.change(
            |scripts| &scripts.keep,
            epoch,
            |call| {
                call.arg(s0.0).arg(s1.0).arg(pieces).arg(bytes).arg(SNAPSHOTS_KEPT);
            },
        )
    }

    fn trim(&mut self, epoch: Epoch, behind: Seq) -> Result<(), StreamError> {
        self.change(
            |scripts| &scripts.trim,
            epoch,
            |call| {
                call.arg(behind.0).arg(behind.next().0);
            },
        )
    }

    fn install(&mut self, epoch: Epoch, base: Seq, link: Link, snapshot: Option<Whole>) -> Result<(), StreamError> {
        self.change(
            |scripts| &scripts.install,
            epoch,
            |call| {
                call.arg(base.0).arg(hex(link));
                if let Some(Whole { s0, s1, pieces, bytes }) = snapshot {
                    call.arg(s0.0).arg(s1.0).arg(pieces).arg(bytes);
                }
            },
        )
    }

    fn frames(&mut self, after: Seq, count: usize) -> Result<Vec<Vec<u8>>, StreamError> {
        /// An entry: its id and its fields.
        type Read = (String, Vec<(String, Vec<u8>)>);
        let read: Vec<Read> = self.ask(|this, connection| {
            let from = format!("{}-0", after.next());
            redis::cmd("XRANGE").arg(&this.stream).arg(from).arg("+").arg("COUNT").arg(count).query(connection)
        })?;
        let frame = |(_, fields): Read| fields.into_iter().next().map(|(_, bytes)| bytes).unwrap_or_default();
        Ok(read.into_iter().map(frame).collect())
    }

    fn piece(&mut self, s0: Seq, number: u64) -> Result<Option<Vec<u8>>, StreamError> {
        self.ask(|this, connection| {
            redis::cmd("HGET").arg(format!("{}{s0}", this.snapshot)).arg(number).query(connection)
        })
    }
}
