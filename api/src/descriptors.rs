//! How many connections the process may have open: its limit of file descriptors, raised as far as it goes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept back for the journal, Redis, the listener, the runtime and the log.
const RESERVED: u64 = 64;

/// `wanted` connections, or as many as there are descriptors for. Logs when those are fewer.
pub(crate) fn connections_max(wanted: usize) -> usize {
    let Some(limit) = raise() else { return wanted };
    let max = within(wanted, limit);
    if max < wanted {
        tracing::warn!(
            wanted,
            connections_max = max,
            descriptors = limit,
            "too few file descriptors for http.connections_max: raise the limit (ulimit -Hn, LimitNOFILE)"
        );
    }
    max
}

/// Raises the soft limit to the hard one; the limit in force then, `None` if there is none.
fn raise() -> Option<u64> {
    let now = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    if raised.is_ok() { now.maximum } else { now.current }
}

fn within(wanted: usize, limit: u64) -> usize {
    let free = usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
    wanted.min(free.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(within(20_000, 1024), 960);
        assert_eq!(within(100, 1024), 100);
        assert_eq!((within(100, 64), within(100, 0)), (1, 1), "one at a time is slow, but it serves");
    }
}
