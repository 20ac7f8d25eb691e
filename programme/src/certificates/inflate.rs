//! Decompression with an end: what grows beyond a bound is no certificate, however small it came.

use std::io::Read as _;

use flate2::bufread::{DeflateDecoder, ZlibDecoder};

/// No certificate is longer, in any format.
pub(super) const BYTES_MAX: usize = 64 * 1024;

/// What zlib packed, the whole input; `None` if it is something else, or longer than a certificate.
pub(super) fn zlib(packed: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = ZlibDecoder::new(packed);
    let out = bounded(&mut decoder)?;
    decoder.into_inner().is_empty().then_some(out)
}

/// The same of deflate alone.
pub(super) fn raw(packed: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = DeflateDecoder::new(packed);
    let out = bounded(&mut decoder)?;
    decoder.into_inner().is_empty().then_some(out)
}

fn bounded(decoder: &mut impl std::io::Read) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    decoder.take(BYTES_MAX as u64 + 1).read_to_end(&mut out).ok()?;
    (out.len() <= BYTES_MAX).then_some(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_bomb_is_not_unpacked() {
        let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..64 {
            bomb.write_all(&zeros).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        assert!(bomb.len() < 100_000);
        assert_eq!(zlib(&bomb), None);
        assert_eq!(raw(&bomb[2..bomb.len() - 4]), None);
    }

    #[test]
    fn a_byte_too_many_is_noticed() {
        let packed = |len| {
            let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
            packed.write_all(&vec![b'x'; len]).unwrap();
            packed.finish().unwrap()
        };
        assert_eq!(zlib(&packed(BYTES_MAX)).map(|out| out.len()), Some(BYTES_MAX));
        assert_eq!(zlib(&packed(BYTES_MAX + 1)), None);
    }

    #[test]
    fn what_follows_is_noticed() {
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(b"certificate").unwrap();
        let mut packed = packed.finish().unwrap();
        assert_eq!(zlib(&packed).as_deref(), Some(&b"certificate"[..]));
        assert_eq!(zlib(&packed[..packed.len() - 1]), None);
        packed.push(0);
        assert_eq!(zlib(&packed), None);
    }
}
