//! W3C trace context: the trace that a request belongs to, its caller's or one of its own.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hyper::HeaderMap;
use hyper::header::HeaderValue;

pub(crate) const HEADER: &str = "traceparent";

/// A place in a trace: ours, below the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    id: u128,
    span: u64,
    flags: u8,
    /// The caller said which trace.
    pub(crate) asked: bool,
}

/// Makes ids. They need to differ, here and from other servers'; they are no secret.
pub(crate) struct Traces {
    seed: [u64; 2],
    next: AtomicU64,
}

impl Traces {
    pub(crate) fn new() -> Traces {
        // The keys of each hasher are random.
        Traces { seed: [RandomState::new().hash_one(1), RandomState::new().hash_one(2)], next: AtomicU64::new(1) }
    }

    /// The trace of a request with these headers.
    pub(crate) fn of(&self, headers: &HeaderMap) -> Trace {
        // Relaxed: only that no two get the same matters.
        let number = self.next.fetch_add(1, Relaxed);
        let span = mixed(self.seed[0] ^ number).max(1);
        let mut values = headers.get_all(HEADER).iter();
        // Of two, which one would it be? The specification says to begin a new trace.
        if let (Some(value), None) = (values.next(), values.next())
            && let Some((id, flags)) = parse(value.as_bytes())
        {
            return Trace { id, span, flags, asked: true };
        }
        let id = u128::from(mixed(self.seed[1] ^ number)) << 64 | u128::from(span);
        Trace { id, span, flags: 0, asked: false }
    }
}

/// Trace id and flags of `00-<32 hex>-<16 hex>-<2 hex>`. A later version may say more behind that.
fn parse(value: &[u8]) -> Option<(u128, u8)> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.split('-');
    let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, len: usize| {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (part.len() == len && part.bytes().all(digit)).then(|| u128::from_str_radix(part, 16).ok())?
    };
    let version = hex(version, 2)?;
    if version == 0xff || (version == 0 && parts.next().is_some()) {
        return None;
    }
    let (id, parent, flags) = (hex(id, 32)?, hex(parent, 16)?, hex(flags, 2)?);
    (id != 0 && parent != 0).then_some((id, u8::try_from(flags).ok()? & 1))
}

/// The finaliser of `splitmix64`: neighbours come out far apart.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Trace {
    /// The id, as logs and tracing systems spell it.
    pub(crate) fn id(&self) -> impl fmt::Display {
        struct Id(u128);
        impl fmt::Display for Id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        Id(self.id)
    }

    /// What the answer says: the trace, and our place in it.
    pub(crate) fn header(&self) -> HeaderValue {
        let text = format!("00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags);
        HeaderValue::try_from(text).expect("hexadecimal digits and dashes are visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(values: &[&str]) -> Trace {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_str(value).unwrap());
        }
        Traces::new().of(&headers)
    }

    #[test]
    fn a_callers_trace_is_gone_on_with() {
        let trace = of(&[GIVEN]);
        assert!(trace.asked);
        assert_eq!(trace.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let said = trace.header();
        let said = said.to_str().unwrap();
        assert!(said.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && said.ends_with("-01"), "{said}");
        assert!(!said.contains("00f067aa0ba902b7"), "our place is not the caller's");
        // A later version may have more.
        assert!(of(&[&format!("{}-what-comes", GIVEN.replacen("00", "01", 1))]).asked);
    }

    #[test]
    fn what_is_no_trace_begins_a_new_one() {
        let zero = GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let upper = GIVEN.to_uppercase();
        let longer = format!("{GIVEN}-00");
        for bad in
            ["", "x", &GIVEN[..54], &zero, &upper, &longer, &GIVEN.replacen("00", "ff", 1), &GIVEN.replace('4', "+")]
        {
            assert!(!of(&[bad]).asked, "{bad:?}");
        }
        assert!(!of(&[GIVEN, GIVEN]).asked, "which of the two?");
        assert!(!of(&[]).asked);
    }

    #[test]
    fn no_two_are_the_same() {
        let traces = Traces::new();
        let headers = HeaderMap::new();
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| traces.of(&headers).id().to_string()).collect();
        assert_eq!(ids.len(), 10_000);
        assert_ne!(Traces::new().of(&headers).id, Traces::new().of(&headers).id);
    }
}
