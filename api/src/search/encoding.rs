//! Which encoding a client takes, and answers in it.
//!
//! An answer is a short head, which says when it was true, and a long tail, which changes only with what it tells. The
//! two are encoded apart and put together as one stream: in gzip a stored block before the deflated tail, in
//! zstd a raw block before the compressed ones. So an answer that has not changed gets a new head without being
//! compressed again. Any decoder takes both for what they are; neither is two members or two frames.

use std::ops::Range;

use flate2::{Compress, Compression, FlushCompress, Status};
use hyper::HeaderMap;
use hyper::header::ACCEPT_ENCODING;
use parking_lot::Mutex;
use zstd::bulk::Compressor;

/// How a body is encoded. The better one stands later: of what a client likes equally it gets the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// Chosen without a measurement: low levels, because an answer lives half a second.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 1;

impl Encoding {
    pub(crate) const COUNT: usize = 3;

    /// As `Content-Encoding` names it; identity is not named.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Encoding::Identity => None,
            Encoding::Gzip => Some("gzip"),
            Encoding::Zstd => Some("zstd"),
        }
    }
}

/// The encoding for who sent these headers; `None` if they take none that we have.
pub(crate) fn asked(headers: &HeaderMap) -> Option<Encoding> {
    // In thousandths; `None` where nothing was said.
    let (mut gzip, mut zstd, mut identity, mut others) = (None, None, None, None);
    for value in headers.get_all(ACCEPT_ENCODING) {
        for range in value.as_bytes().split(|&b| b == b',') {
            let mut parts = range.split(|&b| b == b';');
            let coding = parts.next().unwrap_or_default().trim_ascii();
            let Some(weight) = parts.next().map_or(Some(1000), weight) else { continue };
            let said = if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") {
                &mut gzip
            } else if coding.eq_ignore_ascii_case(b"zstd") {
                &mut zstd
            } else if coding.eq_ignore_ascii_case(b"identity") {
                &mut identity
            } else if coding == b"*" {
                &mut others
            } else {
                continue;
            };
            *said = Some(weight);
        }
    }
    // As it is goes to everybody who does not say otherwise, but only if nothing better is welcome.
    let identity = identity.or(others.filter(|&weight| weight == 0)).unwrap_or(1);
    let weighed = [
        (identity, Encoding::Identity),
        (gzip.or(others).unwrap_or(0), Encoding::Gzip),
        (zstd.or(others).unwrap_or(0), Encoding::Zstd),
    ];
    weighed.into_iter().filter(|&(weight, _)| weight > 0).max().map(|(_, encoding)| encoding)
}

/// `q=0.5` in thousandths; `None` of what is no weight.
fn weight(parameter: &[u8]) -> Option<u16> {
    let text = parameter.trim_ascii();
    let number = text.strip_prefix(b"q=").or(text.strip_prefix(b"Q="))?;
    let (whole, fraction) = match number {
        [whole] | [whole, b'.'] => (*whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return None,
    };
    let mut thousandths = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (digit, worth) in fraction.iter().zip([100, 10, 1]) {
        thousandths += u16::from(digit.is_ascii_digit().then(|| digit - b'0')?) * worth;
    }
    (thousandths <= 1000).then_some(thousandths)
}

/// An encoded tail, as it lies in a body.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    /// Where in the body.
    at: Range<usize>,
    /// Of what it was made of.
    crc: u32,
    len: u64,
}

const GZIP_HEAD: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 4, 255];
/// Magic, a descriptor that says "no checksum, no content size, no dictionary", and the window's size.
const ZSTD_HEAD_BYTES: usize = 6;
const ZSTD_PLAIN: u8 = 0;
/// A head is far below what one stored or raw block may have.
const HEAD_BYTES_MAX: usize = 1000;

/// Compressors between two answers: making one costs as much as a small answer.
#[derive(Default)]
pub(crate) struct Presses {
    gzip: Mutex<Vec<Compress>>,
    zstd: Mutex<Vec<Compressor<'static>>>,
}

/// Encodes an answer.
pub(crate) fn encode(presses: &Presses, encoding: Encoding, head: &[u8], tail: &[u8]) -> (Vec<u8>, Tail) {
    let crc = if encoding == Encoding::Gzip { crc32fast::hash(tail) } else { 0 };
    let of = |at| Tail { at, crc, len: tail.len() as u64 };
    match encoding {
        Encoding::Identity => joined(encoding, head, tail, &of(0..tail.len()), &[]),
        Encoding::Gzip => {
            let deflated = presses.deflated(tail);
            joined(encoding, head, &deflated, &of(0..deflated.len()), &[])
        }
        Encoding::Zstd => {
            let frame = presses.zstd_frame(tail);
            let (frame_head, blocks) = frame.split_at(ZSTD_HEAD_BYTES);
            joined(encoding, head, blocks, &of(0..blocks.len()), frame_head)
        }
    }
}

/// The same answer with another head: `body` is what [`encode`] or this made.
pub(crate) fn with_head(encoding: Encoding, head: &[u8], body: &[u8], tail: &Tail) -> (Vec<u8>, Tail) {
    let frame_head = body.get(..ZSTD_HEAD_BYTES).unwrap_or_default();
    joined(encoding, head, body.get(tail.at.clone()).unwrap_or_default(), tail, frame_head)
}

impl Presses {
    fn deflated(&self, tail: &[u8]) -> Vec<u8> {
        let kept = self.gzip.lock().pop();
        let mut press = kept.unwrap_or_else(|| Compress::new(Compression::new(GZIP_LEVEL), false));
        let mut deflated = Vec::with_capacity(tail.len() / 8 + 64);
        loop {
            let read = usize::try_from(press.total_in()).unwrap_or(usize::MAX);
            let rest = tail.get(read..).unwrap_or_default();
            match press.compress_vec(rest, &mut deflated, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => break,
                Ok(_) => deflated.reserve(deflated.capacity()),
                Err(error) => panic!("a new stream cannot be in a wrong state: {error}"),
            }
        }
        press.reset();
        self.gzip.lock().push(press);
        deflated
    }

    fn zstd_frame(&self, tail: &[u8]) -> Vec<u8> {
        let kept = self.zstd.lock().pop();
        let mut press = kept.unwrap_or_else(|| {
            let made = Compressor::new(ZSTD_LEVEL).and_then(|mut press| {
                press.include_contentsize(false)?;
                press.include_checksum(false)?;
                Ok(press)
            });
            made.expect("zstd knows its own parameters")
        });
        let frame = press.compress(tail).expect("there is room for whatever it comes to");
        assert_eq!(frame.get(4), Some(&ZSTD_PLAIN), "the frame's head is as long as was asked for");
        self.zstd.lock().push(press);
        frame
    }
}

fn joined(encoding: Encoding, head: &[u8], encoded: &[u8], tail: &Tail, frame_head: &[u8]) -> (Vec<u8>, Tail) {
    assert!(head.len() <= HEAD_BYTES_MAX, "a head of {} bytes", head.len());
    let head_len = u16::try_from(head.len()).expect("a head is short");
    let mut body = Vec::with_capacity(encoded.len() + head.len() + 40);
    match encoding {
        Encoding::Identity => {}
        Encoding::Gzip => {
            body.extend_from_slice(&GZIP_HEAD);
            // Stored, and not the last.
            body.push(0);
            body.extend_from_slice(&head_len.to_le_bytes());
            body.extend_from_slice(&(!head_len).to_le_bytes());
        }
        Encoding::Zstd => {
            body.extend_from_slice(frame_head);
            // Raw, and not the last.
            let [low, middle, high, _] = (u32::from(head_len) << 3).to_le_bytes();
            body.extend_from_slice(&[low, middle, high]);
        }
    }
    body.extend_from_slice(head);
    let at = body.len()..body.len() + encoded.len();
    body.extend_from_slice(encoded);
    if encoding == Encoding::Gzip {
        let mut crc = crc32fast::Hasher::new();
        crc.update(head);
        crc.combine(&crc32fast::Hasher::new_with_initial_len(tail.crc, tail.len));
        body.extend_from_slice(&crc.finalize().to_le_bytes());
        // Modulo 2^32, as RFC 1952 has it.
        let [a, b, c, d, ..] = (head.len() as u64 + tail.len).to_le_bytes();
        body.extend_from_slice(&[a, b, c, d]);
    }
    (body, Tail { at, ..tail.clone() })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(encoding: Encoding, body: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match encoding {
            Encoding::Identity => plain.extend_from_slice(body),
            // Not the decoder of many members: it must be one.
            Encoding::Gzip => {
                let mut gzip = flate2::bufread::GzDecoder::new(body);
                gzip.read_to_end(&mut plain).unwrap();
                assert!(gzip.into_inner().is_empty());
            }
            Encoding::Zstd => {
                let mut zstd = zstd::Decoder::with_buffer(body).unwrap().single_frame();
                zstd.read_to_end(&mut plain).unwrap();
                assert!(zstd.finish().is_empty());
            }
        }
        plain
    }

    #[test]
    fn a_body_in_two_parts_is_one_stream_and_takes_a_new_head() {
        let presses = Presses::default();
        let long: Vec<u8> =
            (0..400_000u32).flat_map(|n| format!("{{\"slot\":\"s1.{}\"}},", n / 7).into_bytes()).collect();
        for tail in [&b""[..], b"x", b",\"centres\":[]}", &long] {
            for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
                let (first, at) = encode(&presses, encoding, b"{\"as_of\":\"1\"", tail);
                assert_eq!(decoded(encoding, &first), [b"{\"as_of\":\"1\"", tail].concat());
                let (second, at) = with_head(encoding, b"{\"as_of\":\"1.25\"", &first, &at);
                assert_eq!(decoded(encoding, &second), [b"{\"as_of\":\"1.25\"", tail].concat());
                let (third, _) = with_head(encoding, b"{\"as_of\":\"1\"", &second, &at);
                assert_eq!(first, third);
                assert!(encoding == Encoding::Identity || tail.len() < 1000 || first.len() * 10 < tail.len());
            }
        }
    }

    #[test]
    fn clients_get_what_they_like_best() {
        use Encoding::{Gzip, Identity, Zstd};
        let ask = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT_ENCODING, value.parse().unwrap());
            }
            asked(&headers)
        };
        assert_eq!(ask(&[]), Some(Identity));
        for (value, best) in [
            ("", Some(Identity)),
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip, deflate, br", Some(Gzip)),
            ("GZIP;q=0.8,zstd; q=0.25", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("br", Some(Identity)),
            ("*", Some(Zstd)),
            ("zstd;q=0, *", Some(Gzip)),
            ("gzip;q=0", Some(Identity)),
            ("identity, gzip;q=0.5", Some(Identity)),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("identity;q=0", None),
            ("*;q=0", None),
            ("*;q=0.000, gzip;q=0.001", Some(Gzip)),
            ("identity;q=0, gzip;q=0.1", Some(Gzip)),
            ("gzip;q=2, zstd;q=x, *;q=0.0001", Some(Identity)),
            ("gzip;q=1.001", Some(Identity)),
        ] {
            assert_eq!(ask(&[value]), best, "{value}");
        }
        assert_eq!(ask(&["gzip;q=0.1", "zstd;q=0.05"]), Some(Gzip));
    }
}
