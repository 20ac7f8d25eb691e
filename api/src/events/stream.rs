//! The stream and its cursor in Redis, and the one server-side step that moves both.
//!
//! Keys: `{stream}`, whose entry `<entry>-<n>` has the field `event`, one `CloudEvent`; `{stream}:cursor`, a hash: `epoch` of
//! the owner, `entry` and `told` (how far: all of that entry, and so many events of the next), `frame` and `link` (the place in
//! the log to read on from). The cursor says what was told even when the stream has dropped its oldest.

use berth_engine::journal::frame::Link;
use berth_engine::journal::redis_stream;
use berth_engine::{Epoch, LogPlace, Seq};

use super::EventsConfig;

// rule: EVT-1 events are appended together with the cursor, and only where it stands
//
// Nothing is appended unless the cursor is where the caller believes it to be: a repeat after a lost reply, or an owner that was
// replaced, changes nothing. Ids ascend, so that of the appends only the first could fail.
const TELL: &str = r"
local at = redis.call('HMGET', KEYS[2], 'epoch', 'entry', 'told')
if at[1] and tonumber(at[1]) > tonumber(ARGV[1]) then return 'fenced' end
if (at[2] or '0') ~= ARGV[2] or (at[3] or '0') ~= ARGV[3] then return 'elsewhere' end
for i = 9, #ARGV, 2 do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[8], ARGV[i], 'event', ARGV[i + 1])
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'entry', ARGV[4], 'told', ARGV[5], 'frame', ARGV[6], 'link', ARGV[7])
return 'ok'
";

// Takes back what was told of entries behind one: their events go, groups that were past it read on from there, one event says
// so, and the cursor stands behind that entry. ARGV: epoch, the entry, the first id that goes, frame, link, the event.
const WITHDRAW: &str = r"
local at = redis.call('HGET', KEYS[2], 'epoch')
if at and tonumber(at) > tonumber(ARGV[1]) then return 'fenced' end
if redis.call('EXISTS', KEYS[1]) == 1 then
  repeat
    local ids = {}
    for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[3], '+', 'COUNT', 500)) do ids[#ids + 1] = entry[1] end
    if #ids > 0 then redis.call('XDEL', KEYS[1], unpack(ids)) end
  until #ids < 500
end
local n = 999998
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)) do
  local of, last = string.match(entry[1], '(%d+)-(%d+)')
  if of == ARGV[2] and tonumber(last) > n then n = tonumber(last) end
end
local keep = ARGV[2] .. '-' .. n
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('XSETID', KEYS[1], keep, 'MAXDELETEDID', keep)
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local is = {}
    for i = 1, #group, 2 do is[group[i]] = group[i + 1] end
    if tonumber(string.match(is['last-delivered-id'], '%d+')) > tonumber(ARGV[2]) then
      redis.call('XGROUP', 'SETID', KEYS[1], is['name'], keep)
    end
  end
end
redis.call('XADD', KEYS[1], ARGV[2] .. '-' .. (n + 1), 'event', ARGV[6])
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'entry', ARGV[2], 'told', '0', 'frame', ARGV[4], 'link', ARGV[5])
return 'ok'
";

/// How far the stream has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// All events of the entries up to this one.
    pub(super) entry: Seq,
    /// And so many of the next.
    pub(super) told: u64,
    /// Where in the log to read on: at or before that.
    pub(super) frame: LogPlace,
}

/// An event with its place.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) seq: Seq,
    pub(super) n: u64,
    pub(super) json: String,
}

/// What the step said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Done,
    /// The cursor is elsewhere: read it.
    Elsewhere,
    /// A later owner has written.
    Fenced,
}

/// One connection.
pub(super) struct Connection {
    redis: redis::Connection,
    tell: redis::Script,
    stream: String,
    cursor: String,
    len_max: u64,
    epoch: Epoch,
}

impl Connection {
    /// Errors are Redis's own words; never the URL, which may hold a password.
    pub(super) fn open(config: &EventsConfig, epoch: Epoch) -> Result<Connection, redis::RedisError> {
        let timeouts = config.redis.timeouts;
        let redis = redis_stream::client(&config.redis)?.get_connection_with_timeout(timeouts.connect)?;
        redis.set_read_timeout(Some(timeouts.answer))?;
        redis.set_write_timeout(Some(timeouts.answer))?;
        let (stream, cursor) = (config.stream.clone(), format!("{}:cursor", config.stream));
        Ok(Connection { redis, tell: redis::Script::new(TELL), stream, cursor, len_max: config.len_max, epoch })
    }

    /// Where the stream stands; its beginning if there is none. `None` if there are events and no cursor, which was removed or
    /// evicted: nobody knows how far they were told.
    pub(super) fn position(&mut self) -> Result<Option<Position>, redis::RedisError> {
        type Fields = (Option<u64>, Option<u64>, Option<u64>, Option<String>);
        let (entry, told, frame, link): Fields =
            redis::cmd("HMGET").arg(&self.cursor).arg(&["entry", "told", "frame", "link"]).query(&mut self.redis)?;
        if entry.is_none() && redis::cmd("XLEN").arg(&self.stream).query::<u64>(&mut self.redis)? > 0 {
            return Ok(None);
        }
        let link = link.map_or(Some(0), |link| u64::from_str_radix(&link, 16).ok());
        let link = link.ok_or((redis::ErrorKind::UnexpectedReturnType, "the cursor's link is not hexadecimal"))?;
        let frame = LogPlace { seq: Seq(frame.unwrap_or(0)), link: Link(link) };
        Ok(Some(Position { entry: Seq(entry.unwrap_or(0)), told: told.unwrap_or(0), frame }))
    }

    /// Appends `events` and moves the cursor from `at` to `to`, or does nothing. With no events it claims the stream for
    /// this epoch.
    pub(super) fn tell(&mut self, at: &Position, to: &Position, events: &[Ready]) -> Result<Said, redis::RedisError> {
        let mut call = self.tell.prepare_invoke();
        call.key(&self.stream).key(&self.cursor);
        call.arg(self.epoch.0).arg(at.entry.0).arg(at.told).arg(to.entry.0).arg(to.told);
        call.arg(to.frame.seq.0).arg(format!("{:016x}", to.frame.link.0)).arg(self.len_max);
        for Ready { seq, n, json } in events {
            call.arg(format!("{seq}-{n}")).arg(json);
        }
        said(&call.invoke::<String>(&mut self.redis)?)
    }

    /// The entry of the newest event that is there; 0 if there is none.
    pub(super) fn newest(&mut self) -> Result<Seq, redis::RedisError> {
        type Read = Vec<(String, Vec<(String, String)>)>;
        let read: Read =
            redis::cmd("XREVRANGE").arg(&self.stream).arg(&["+", "-", "COUNT", "1"]).query(&mut self.redis)?;
        let entry = |(id, _): &(String, _)| id.split_once('-').and_then(|(entry, _)| entry.parse().ok());
        Ok(Seq(read.first().and_then(entry).unwrap_or(0)))
    }

    /// Takes back what was told of the entries behind `keep`, says so with `json`, and puts the cursor there.
    pub(super) fn withdraw(&mut self, keep: Seq, frame: LogPlace, json: &str) -> Result<Said, redis::RedisError> {
        let withdraw = redis::Script::new(WITHDRAW);
        let mut call = withdraw.key(&self.stream);
        call.key(&self.cursor).arg(self.epoch.0).arg(keep.0).arg(format!("{}-0", keep.next()));
        call.arg(frame.seq.0).arg(format!("{:016x}", frame.link.0)).arg(json);
        said(&call.invoke::<String>(&mut self.redis)?)
    }
}

fn said(word: &str) -> Result<Said, redis::RedisError> {
    match word {
        "ok" => Ok(Said::Done),
        "elsewhere" => Ok(Said::Elsewhere),
        "fenced" => Ok(Said::Fenced),
        _ => Err((redis::ErrorKind::UnexpectedReturnType, "the script says what it never says").into()),
    }
}
