//! A ZIP archive with one file, `certificate.json`: what a DIVOC certificate's QR image holds.

use std::io::Write as _;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use super::inflate;

const NAME: &[u8] = b"certificate.json";
const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const DEFLATED: u16 = 8;
/// 1980-01-01, the first day that ZIP knows: when it was made stands in the certificate.
const DATE: u16 = 0x0021;

/// Whether bytes begin as an archive does.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(&LOCAL.to_le_bytes())
}

/// An archive with this text.
pub(super) fn pack(text: &str) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    // To memory nothing fails.
    let packed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).unwrap_or_default();
    let mut crc = Crc::new();
    crc.update(text.as_bytes());
    let size = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    // What the head of the file and its entry in the directory share.
    let mut shared = Vec::new();
    for word in [20, 0, DEFLATED, 0, DATE] {
        shared.extend_from_slice(&u16::to_le_bytes(word));
    }
    shared.extend_from_slice(&crc.sum().to_le_bytes());
    shared.extend_from_slice(&size(packed.len()));
    shared.extend_from_slice(&size(text.len()));
    shared.extend_from_slice(&u16::try_from(NAME.len()).unwrap_or(0).to_le_bytes());
    shared.extend_from_slice(&[0; 2]);

    let mut out = LOCAL.to_le_bytes().to_vec();
    out.extend_from_slice(&shared);
    out.extend_from_slice(NAME);
    out.extend_from_slice(&packed);
    let directory = out.len();
    out.extend_from_slice(&CENTRAL.to_le_bytes());
    out.extend_from_slice(&20_u16.to_le_bytes());
    out.extend_from_slice(&shared);
    // No comment, disk 0, no attributes, and the file begins at the beginning.
    out.extend_from_slice(&[0; 14]);
    out.extend_from_slice(NAME);
    let len = out.len() - directory;
    out.extend_from_slice(&END.to_le_bytes());
    out.extend_from_slice(&[0, 0, 0, 0, 1, 0, 1, 0]);
    out.extend_from_slice(&size(len));
    out.extend_from_slice(&size(directory));
    out.extend_from_slice(&[0; 2]);
    out
}

/// The text of an archive's one file; `None` if it is none, has another, or is damaged.
pub(super) fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    const END_LEN: usize = 22;
    // Without a comment the end is at the end.
    let end = bytes.get(bytes.len().checked_sub(END_LEN)?..)?;
    if number(end, 0, 4)? != END as usize || number(end, 10, 2)? != 1 {
        return None;
    }
    let entry = bytes.get(number(end, 16, 4)?..)?;
    if number(entry, 0, 4)? != CENTRAL as usize {
        return None;
    }
    let (method, crc) = (number(entry, 10, 2)?, number(entry, 16, 4)?);
    let (packed_len, len, name_len) = (number(entry, 20, 4)?, number(entry, 24, 4)?, number(entry, 28, 2)?);
    if entry.get(46..46 + name_len)? != NAME || len > inflate::BYTES_MAX {
        return None;
    }
    let head = bytes.get(number(entry, 42, 4)?..)?;
    if number(head, 0, 4)? != LOCAL as usize {
        return None;
    }
    let start = 30 + number(head, 26, 2)? + number(head, 28, 2)?;
    let packed = head.get(start..start.checked_add(packed_len)?)?;
    let text = match u16::try_from(method).ok()? {
        0 => packed.to_vec(),
        DEFLATED => inflate::raw(packed)?,
        _ => return None,
    };
    let mut sum = Crc::new();
    sum.update(&text);
    (text.len() == len && sum.sum() as usize == crc).then_some(text)
}

fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_damage_is_noticed() {
        let text = "{\"name\": \"भारत\"}".repeat(20);
        let packed = pack(&text);
        assert!(is_one(&packed) && packed.len() < text.len());
        assert_eq!(unpack(&packed).as_deref(), Some(text.as_bytes()));
        for at in 0..packed.len() {
            assert_eq!(unpack(&packed[..at]), None);
        }
        let mut stored = pack("ab");
        let at = 30 + NAME.len();
        let packed_len = number(&stored, 18, 4).unwrap();
        stored.splice(at..at + packed_len, *b"ab");
        let (directory, end) = (at + 2, stored.len() - 6);
        stored[directory + 10] = 0;
        stored[directory + 20] = 2;
        stored[end] = u8::try_from(directory).unwrap();
        assert_eq!(unpack(&stored).as_deref(), Some(&b"ab"[..]), "stored, as some make it");
        stored[at] = b'x';
        assert_eq!(unpack(&stored), None);
    }
}
