//! What a server says of itself, and what of that an operator should change.

use crate::journal::stream::{ServerState, StreamError};

/// The oldest server that has what the scripts need.
const VERSION_MIN: (u32, u32) = (7, 0);
/// The oldest server that has `WAITAOF`.
pub(super) const VERSION_WAITAOF: (u32, u32) = (7, 2);

/// What a connected server was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) version: (u32, u32),
    pub(super) state: ServerState,
    pub(super) aof: bool,
}

/// What `INFO` says of the server.
pub(super) fn look(info: &str) -> Result<Found, StreamError> {
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
    if field("role").as_deref() == Some("slave") {
        let what = "this Redis is a replica: give the name or address of the one that takes writes";
        return Err(StreamError::Lost(what.to_owned()));
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
