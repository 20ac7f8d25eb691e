//! The server-side functions. Each change is one script, done wholly or not at all.

use redis::Script;

/// First of all: where the stream stands, and whether it is the asker's. Owners begin with the identity of their cell, if they know it.
// rule: FNC-8 another cell than the one that a stream is of neither changes it nor fences its owner
const MEET: &str = r"
local at = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'last', 'link', 'length', 'base', 'snapshots')
local theirs, ours = string.match(at[2] or '', '^(%x+)-'), string.match(ARGV[2], '^(%x+)-')
if theirs and ours and theirs ~= ours then return {'othercell'} end
local function pieces(s0) return redis.call('HLEN', ARGV[3] .. s0) end
";

// KEYS: head, stream. ARGV: epoch, owner, then what the script needs.
// rule: FNC-1 an append to the stream names its epoch, its place and the link before it, and is refused otherwise
const GUARD: &str = r"
local epoch = tonumber(at[1] or '0')
if epoch > tonumber(ARGV[1]) or (epoch == tonumber(ARGV[1]) and at[2] ~= ARGV[2]) then return {'fenced', at[1]} end
";

/// The end of what tells of the head: only snapshots of which every piece is there are told.
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
/// each frame. Ids ascend, so that the first `XADD` fails if any would. A stream that lost frames, or was removed or evicted while
/// its head stayed, takes no more: an `XADD` would make a new one that begins in the middle.
const APPEND_CHECK: &str = r"
if tonumber(at[3] or '0') + 1 ~= tonumber(ARGV[4]) then return {'elsewhere'} end
if redis.call('XLEN', KEYS[2]) ~= tonumber(at[5] or '0') then return {'elsewhere'} end
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

/// All of them.
pub(super) struct Scripts {
    pub(super) head: Script,
    pub(super) take: Script,
    pub(super) append: Script,
    pub(super) put_piece: Script,
    pub(super) keep: Script,
    pub(super) trim: Script,
    pub(super) install: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |parts: &[&str]| Script::new(&parts.concat());
        let unchecked = crate::planted!("skip_head_check") || crate::planted!("redis_drops_frames");
        let check = if unchecked { "" } else { APPEND_CHECK };
        Self {
            head: script(&["#!lua flags=no-writes\n", MEET, TELL]),
            take: script(&[ALLOW_OOM, MEET, GUARD, TAKE, TELL]),
            append: script(&["#!lua\n", MEET, GUARD, check, APPEND]),
            put_piece: script(&["#!lua\n", MEET, GUARD, PUT_PIECE]),
            keep: script(&[ALLOW_OOM, MEET, GUARD, KEEP]),
            trim: script(&[ALLOW_OOM, MEET, GUARD, TRIM]),
            install: script(&[ALLOW_OOM, MEET, GUARD, INSTALL]),
        }
    }
}
