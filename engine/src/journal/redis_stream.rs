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
use std::io::Read as _;

use redis::{
    ClientTlsConfig, Connection, ConnectionAddr, ConnectionInfo, ConnectionLike as _, ErrorKind,
    IntoConnectionInfo as _, RedisError, Script, ScriptInvocation, TlsCertificates,
};

use super::frame::Link;
use super::stream::{Head, SNAPSHOTS_KEPT, ServerState, Shipment, Stream, StreamError, Timeouts, Whole};
use crate::config::RedisConfig;
use crate::ids::{Epoch, Seq};

/// The oldest server that has what the scripts need.
const VERSION_MIN: (u32, u32) = (7, 0);
/// The oldest server that has `WAITAOF`.
const VERSION_WAITAOF: (u32, u32) = (7, 2);

// KEYS: head, stream. ARGV: epoch, owner, then what the script needs.
// rule: FNC-1 an append to the stream names its epoch, its place and the link before it, and is refused otherwise
const GUARD: &str = r"
local at = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'last', 'link', 'length', 'base', 'snapshots')
local epoch = tonumber(at[1] or '0')
if epoch > tonumber(ARGV[1]) or (epoch == tonumber(ARGV[1]) and at[2] ~= ARGV[2]) then return {'fenced', at[1]} end
local function pieces(s0) return redis.call('HLEN', ARGV[3] .. s0) end
";

/// Says where the stream stands; for a reader that takes nothing.
const HEAD: &str = r"
local at = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'last', 'link', 'length', 'base', 'snapshots')
local function pieces(s0) return redis.call('HLEN', ARGV[3] .. s0) end
";

/// The end of both: only snapshots of which every piece is there are told.
const TELL: &str = r"
local length, damaged, last = redis.call('XLEN', KEYS[2]), '', at[3] or '0'
if tostring(length) ~= (at[5] or '0') then
  damaged = 'the stream has ' .. length .. ' frames where ' .. (at[5] or '0') .. ' were appended'
  if not at[3] and length > 0 then
    last = string.match(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1][1], '%d+')
  end
end
local whole = {}
for s0, s1, n, bytes in string.gmatch(at[7] or '', '(%d+)/(%d+)/(%d+)/(%d+)') do
  if pieces(s0) == tonumber(n) then whole[#whole + 1] = s0 .. '/' .. s1 .. '/' .. n .. '/' .. bytes end
end
return {'ok', last, at[4] or '', at[1] or '0', at[6] or '0', table.concat(whole, ' '), damaged}
";

const TAKE: &str = r"
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'owner', ARGV[2])
at[1] = ARGV[1]
";

/// ARGV from 4: the first entry, the link before it, the link of the last frame, then the last entry and the bytes of
/// each frame. Ids ascend, so that the first `XADD` fails if any would.
const APPEND_CHECK: &str = r"
if tonumber(at[3] or '0') + 1 ~= tonumber(ARGV[4]) then return {'elsewhere'} end
if at[4] and at[4] ~= ARGV[5] then return {'diverged'} end
";

/// What is done then.
const APPEND: &str = r"
local length = tonumber(at[5] or '0')
for i = 7, #ARGV, 2 do
  redis.call('XADD', KEYS[2], ARGV[i] .. '-0', 'f', ARGV[i + 1])
  length = length + 1
end
redis.call('HSET', KEYS[1], 'last', ARGV[#ARGV - 1], 'link', ARGV[6], 'epoch', ARGV[1], 'owner', ARGV[2], 'length', length)
return {'ok'}
";

/// ARGV from 4: S0, the piece's number, its bytes.
const PUT_PIECE: &str = r"
if ARGV[5] == '0' then
  local before = redis.call('HGET', KEYS[1], 'uploading')
  redis.call('HSET', KEYS[1], 'uploading', ARGV[4])
  if before and not string.find(' ' .. (at[7] or ''), ' ' .. before .. '/', 1, true) then
    redis.call('UNLINK', ARGV[3] .. before)
  end
  redis.call('UNLINK', ARGV[3] .. ARGV[4])
end
redis.call('HSET', ARGV[3] .. ARGV[4], ARGV[5], ARGV[6])
return {'ok'}
";

/// ARGV from 4: S0, S1, pieces, bytes, how many to keep.
const KEEP: &str = r"
if pieces(ARGV[4]) ~= tonumber(ARGV[6]) or tonumber(at[3] or '0') < tonumber(ARGV[5]) then return {'notwhole'} end
local kept = {ARGV[4] .. '/' .. ARGV[5] .. '/' .. ARGV[6] .. '/' .. ARGV[7]}
for s0, rest in string.gmatch(at[7] or '', '(%d+)(/%d+/%d+/%d+)') do
  if s0 ~= ARGV[4] then
    if #kept < tonumber(ARGV[8]) then kept[#kept + 1] = s0 .. rest else redis.call('UNLINK', ARGV[3] .. s0) end
  end
end
redis.call('HSET', KEYS[1], 'snapshots', table.concat(kept, ' '))
redis.call('HDEL', KEYS[1], 'uploading')
return {'ok'}
";

/// ARGV 4: the last entry to drop.
// rule: FNC-4 the stream is trimmed only behind a snapshot that is whole in Redis
const TRIM: &str = r"
local last, covered = tonumber(at[3] or '0'), false
for s0, s1, n in string.gmatch(at[7] or '', '(%d+)/(%d+)/(%d+)/%d+') do
  if tonumber(s0) >= tonumber(ARGV[4]) and tonumber(s1) <= last and pieces(s0) == tonumber(n) then covered = true end
end
if not covered then return {'notwhole'} end
if tonumber(ARGV[4]) > tonumber(at[6] or '0') then
  redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[5] .. '-0')
  redis.call('HSET', KEYS[1], 'base', ARGV[4], 'length', redis.call('XLEN', KEYS[2]))
end
return {'ok'}
";

/// ARGV from 4: base, its link, then S0, S1, pieces and bytes of the snapshot if there is one.
const INSTALL: &str = r"
if ARGV[6] and pieces(ARGV[6]) ~= tonumber(ARGV[8]) then return {'notwhole'} end
for s0 in string.gmatch(at[7] or '', '(%d+)/%d+/%d+/%d+') do
  if s0 ~= ARGV[6] then redis.call('UNLINK', ARGV[3] .. s0) end
end
local before = redis.call('HGET', KEYS[1], 'uploading')
if before and before ~= ARGV[6] then redis.call('UNLINK', ARGV[3] .. before) end
redis.call('UNLINK', KEYS[2])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'owner', ARGV[2], 'base', ARGV[4], 'length', 0)
if ARGV[4] ~= '0' then redis.call('HSET', KEYS[1], 'last', ARGV[4], 'link', ARGV[5]) end
if ARGV[6] then
  redis.call('HSET', KEYS[1], 'snapshots', ARGV[6] .. '/' .. ARGV[7] .. '/' .. ARGV[8] .. '/' .. ARGV[9])
end
return {'ok'}
";

/// Runs also when the server is out of memory: it takes next to none, or gives some back.
const ALLOW_OOM: &str = "#!lua flags=allow-oom\n";

struct Scripts {
    head: Script,
    take: Script,
    append: Script,
    put_piece: Script,
    keep: Script,
    trim: Script,
    install: Script,
}

impl Scripts {
    fn new() -> Self {
        let script = |parts: &[&str]| Script::new(&parts.concat());
        let check = if cfg!(berth_fault = "skip_head_check") { "" } else { APPEND_CHECK };
        Self {
            head: script(&["#!lua flags=no-writes\n", HEAD, TELL]),
            take: script(&[ALLOW_OOM, GUARD, TAKE, TELL]),
            append: script(&["#!lua\n", GUARD, check, APPEND]),
            put_piece: script(&["#!lua\n", GUARD, PUT_PIECE]),
            keep: script(&[ALLOW_OOM, GUARD, KEEP]),
            trim: script(&[ALLOW_OOM, GUARD, TRIM]),
            install: script(&[ALLOW_OOM, GUARD, INSTALL]),
        }
    }
}

/// What a connected server was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    version: (u32, u32),
    state: ServerState,
    aof: bool,
}

/// A connection to a Redis, made when it is first used.
pub struct RedisStream {
    client: redis::Client,
    timeouts: Timeouts,
    /// Tells this owner from a copy of its directory that takes the same epoch.
    owner: String,
    head: String,
    stream: String,
    snapshot: String,
    scripts: Scripts,
    connection: Option<Connection>,
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
            client,
            timeouts: config.timeouts,
            owner: format!("{:016x}", u64::from_le_bytes(token)),
            head: format!("{prefix}:head"),
            stream: format!("{prefix}:journal"),
            snapshot: format!("{prefix}:snapshot:"),
            scripts: Scripts::new(),
            connection: None,
            settles: false,
        })
    }

    /// Asks with a connection, made if there is none; gone again when it failed.
    fn ask<T>(&mut self, ask: impl FnOnce(&Self, &mut Connection) -> Result<T, RedisError>) -> Result<T, StreamError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answer = ask(self, &mut connection);
        if connection.is_open() && !answer.as_ref().is_err_and(breaks) {
            self.connection = Some(connection);
        }
        answer.map_err(|error| stream_error(&error))
    }

    fn connect(&mut self) -> Result<Connection, StreamError> {
        let connect = || {
            let mut connection = self.client.get_connection_with_timeout(self.timeouts.connect)?;
            connection.set_read_timeout(Some(self.timeouts.answer))?;
            connection.set_write_timeout(Some(self.timeouts.answer))?;
            let info: String = redis::cmd("INFO").query(&mut connection)?;
            Ok((connection, info))
        };
        let (connection, info) = connect().map_err(|error| stream_error(&error))?;
        let found = look(&info)?;
        self.settles = found.aof && found.version >= VERSION_WAITAOF;
        Ok(connection)
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

/// What `INFO` says of the server.
fn look(info: &str) -> Result<Found, StreamError> {
    let field = |name: &str| {
        let after = |line: &'_ str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_end().to_owned());
        info.lines().find_map(after)
    };
    let number = |name: &str| field(name).and_then(|text| text.parse().ok()).unwrap_or(0u64);
    let said = field("redis_version").unwrap_or_default();
    let mut parts = said.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < VERSION_MIN {
        return Err(StreamError::Unfit(format!("Redis {said} is too old: 7.0 is the oldest that will do")));
    }
    let (used, max) = (number("used_memory"), number("maxmemory"));
    let policy = field("maxmemory_policy").unwrap_or_default();
    let mut warnings = Vec::new();
    if policy != "noeviction" {
        if max > 0 {
            let what = format!("Redis evicts ({policy}): set maxmemory-policy to noeviction; nothing is shipped to it");
            return Err(StreamError::Unfit(what));
        }
        warnings.push(format!("Redis has maxmemory-policy {policy}: set it to noeviction"));
    }
    if max == 0 {
        warnings.push("Redis has no maxmemory: set one, so that it refuses before the machine kills it".to_owned());
    }
    let aof = field("aof_enabled").as_deref() == Some("1");
    if !aof {
        warnings.push("Redis keeps no append-only file: what it holds may go when it restarts".to_owned());
    }
    let state = ServerState { memory_used_bytes: used, memory_max_bytes: max, warnings };
    Ok(Found { version, state, aof })
}

/// Whether nothing is known of the connection after this error.
fn breaks(error: &RedisError) -> bool {
    error.code().is_none() || error.is_unrecoverable_error()
}

/// The kind and Redis's own words; never the URL, which may hold a password.
fn stream_error(error: &RedisError) -> StreamError {
    if error.code() == Some("OOM") {
        return StreamError::OutOfMemory;
    }
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => {
            StreamError::Refused(error.to_string())
        }
        _ => StreamError::Lost(error.to_string()),
    }
}

fn hex(link: Link) -> String {
    format!("{:016x}", link.0)
}

impl Stream for RedisStream {
    fn head(&mut self) -> Result<Head, StreamError> {
        let said: Vec<String> = self.run(|scripts| &scripts.head, Epoch(0), |_| {})?;
        head(&said)
    }

    fn take(&mut self, epoch: Epoch) -> Result<Head, StreamError> {
        let said: Vec<String> = self.run(|scripts| &scripts.take, epoch, |_| {})?;
        head(&said)
    }

    // rule: FNC-2 a lost or repeated append leaves neither a hole nor a duplicate in the stream
    fn append(&mut self, epoch: Epoch, frames: &[Shipment]) -> Result<(), StreamError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Ok(()) };
        self.change(
            |scripts| &scripts.append,
            epoch,
            |call| {
                call.arg(first.header.first.0).arg(hex(first.header.previous)).arg(hex(last.link));
                for frame in frames {
                    call.arg(frame.header.last().0).arg(frame.bytes.as_slice());
                }
            },
        )
    }

    fn settles(&self) -> bool {
        self.settles
    }

    fn settle(&mut self) -> Result<(), StreamError> {
        if !self.settles {
            return Ok(());
        }
        // Answers before the connection's own time-out.
        let wait = u64::try_from(self.timeouts.answer.as_millis()).unwrap_or(u64::MAX) / 10 * 9;
        let on_disk: Vec<u64> =
            self.ask(|_, connection| redis::cmd("WAITAOF").arg(1).arg(0).arg(wait.max(1)).query(connection))?;
        match on_disk.first() {
            Some(1..) => Ok(()),
            _ => Err(StreamError::Lost("Redis did not get its append-only file to disk in time".to_owned())),
        }
    }

    fn server(&mut self) -> Result<ServerState, StreamError> {
        let info: String = self.ask(|_, connection| redis::cmd("INFO").query(connection))?;
        Ok(look(&info)?.state)
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
