//! One bucket: what a charge does to it, and what the client is told of it.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::{Class, Payer};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// So many at once, and one more every so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Nanoseconds until one more is there.
    pub(super) every: u64,
    /// At once.
    pub(super) burst: u32,
}

/// What a charge found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charged {
    limit: Limit,
    /// Nanoseconds until the bucket is full.
    full_in: u64,
    /// Nanoseconds until there is one again; 0 for a request that was let through.
    wait: u64,
    payer: Payer,
    class: Class,
}

/// Takes one from a bucket that is full at `full_at`: when it is full after that, and what to tell.
pub(super) fn charge(limit: Limit, full_at: u64, now: u64) -> (u64, Charged) {
    let before = full_at.max(now);
    let after = before.saturating_add(limit.every);
    let whole = limit.every.saturating_mul(limit.burst.into());
    let told = |full_at: u64, wait: u64| Charged {
        limit,
        full_in: full_at - now,
        wait,
        payer: Payer::Address,
        class: Class::Other,
    };
    match (after - now).checked_sub(whole) {
        None | Some(0) => (after, told(after, 0)),
        // What is refused costs nothing more: who keeps asking waits no longer than who does not.
        Some(over) => (before, told(before, over)),
    }
}

impl Charged {
    pub(super) fn is_ok(&self) -> bool {
        self.wait == 0
    }

    pub(super) fn named(self, payer: Payer, class: Class) -> Charged {
        Charged { payer, class, ..self }
    }

    /// The one that has less left.
    pub(super) fn scarcer(self, other: Charged) -> Charged {
        if other.remaining() < self.remaining() { other } else { self }
    }

    fn remaining(&self) -> u64 {
        let whole = self.limit.every.saturating_mul(self.limit.burst.into());
        whole.saturating_sub(self.full_in) / self.limit.every
    }

    /// Seconds until asking again may help: when there is one again, and up to half as long more, so that those who were
    /// refused together do not come back together. `random` is any number.
    pub(crate) fn retry_after(&self, random: u64) -> u64 {
        let seconds = self.wait.div_ceil(1_000_000_000).max(1);
        seconds + random % (seconds / 2 + 2)
    }

    /// The headers of draft-ietf-httpapi-ratelimit-headers: what the limit is, and what is left of it.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let name = format!("{}-{}", self.payer.as_str(), self.class.as_str());
        let Limit { every, burst } = self.limit;
        let seconds = |nanos: u64| nanos.div_ceil(1_000_000_000);
        let window = seconds(every.saturating_mul(burst.into())).max(1);
        let (remaining, full_in) = (self.remaining(), seconds(self.full_in));
        let values = [
            (POLICY, format!("\"{name}\";q={burst};w={window}")),
            (STATE, format!("\"{name}\";r={remaining};t={full_in}")),
        ];
        for (header, value) in values {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(header, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_is_told_is_what_is_left() {
        let limit = Limit { every: SECOND / 2, burst: 4 };
        let (full_at, first) = charge(limit, 0, 10 * SECOND);
        let tell = |charged: Charged| {
            let mut headers = HeaderMap::new();
            charged.named(Payer::Key, Class::Hold).tell(&mut headers);
            (
                headers["ratelimit-policy"].to_str().unwrap().to_owned(),
                headers["ratelimit"].to_str().unwrap().to_owned(),
            )
        };
        assert_eq!(tell(first), ("\"key-hold\";q=4;w=2".to_owned(), "\"key-hold\";r=3;t=1".to_owned()));
        let mut full_at = full_at;
        for left in ["r=2", "r=1", "r=0"] {
            let (after, charged) = charge(limit, full_at, 10 * SECOND);
            assert!(charged.is_ok() && tell(charged).1.contains(left));
            full_at = after;
        }
        let (after, refused) = charge(limit, full_at, 10 * SECOND);
        assert!(!refused.is_ok() && tell(refused).1.ends_with("r=0;t=2"));
        assert_eq!(after, full_at, "a refusal costs nothing");
        assert_eq!(refused.wait, SECOND / 2);
    }

    #[test]
    fn a_refused_client_waits_until_there_is_one_and_a_little_more() {
        let limit = Limit { every: 60 * SECOND, burst: 1 };
        let (full_at, _) = charge(limit, 0, 0);
        let (_, refused) = charge(limit, full_at, 20 * SECOND);
        let waits: Vec<u64> = (0..1000).map(|random| refused.retry_after(random)).collect();
        assert_eq!((waits.iter().min(), waits.iter().max()), (Some(&40), Some(&61)));
    }
}
