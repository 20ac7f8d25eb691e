//! When a certificate runs out: the one field of it that is read here, five steps into its DER (RFC 5280, section 4.1).

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version, which the oldest certificates have not.
const VERSION: u8 = 0xa0;

/// `notAfter`, in seconds since 1970; nothing, if this is no certificate as the RFC has it.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut to_be_signed, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    if let Some((VERSION, _, rest)) = element(to_be_signed) {
        to_be_signed = rest;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        to_be_signed = element(to_be_signed)?.2;
    }
    let (_, validity, _) = element(to_be_signed).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (tag, time, _) = element(element(validity)?.2)?;
    let time = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let time = match (tag, time.len()) {
        // Two digits of the year: until 2049, as the RFC says.
        (UTC_TIME, 12) if time < "50" => format!("20{time}"),
        (UTC_TIME, 12) => format!("19{time}"),
        (GENERALIZED_TIME, 14) => time.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", time).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?.as_second())
}

/// The first element: its tag, what is in it, and what comes after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        _ if first & 0x80 == 0 => (usize::from(first), rest),
        // A certificate has no length of more than three bytes.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let length = if length < 128 {
            vec![u8::try_from(length).unwrap()]
        } else {
            vec![0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap()]
        };
        [&[tag][..], &length, content].concat()
    }

    /// As a certificate has it, without what comes after.
    fn certificate(version: bool, tag: u8, time: &[u8]) -> Vec<u8> {
        let mut parts = Vec::new();
        if version {
            parts.extend(wrap(VERSION, &wrap(2, &[2])));
        }
        parts.extend(wrap(2, &[7; 200]));
        parts.extend(wrap(SEQUENCE, &[1; 10]));
        parts.extend(wrap(SEQUENCE, &[1; 300]));
        parts.extend(wrap(SEQUENCE, &[wrap(UTC_TIME, b"200101000000Z"), wrap(tag, time)].concat()));
        parts.extend(wrap(SEQUENCE, &[]));
        wrap(SEQUENCE, &wrap(SEQUENCE, &parts))
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_spellings() {
        for version in [true, false] {
            assert_eq!(not_after(&certificate(version, UTC_TIME, b"261126170000Z")), Some(1_795_712_400));
            assert_eq!(not_after(&certificate(version, UTC_TIME, b"500101000000Z")), Some(-631_152_000));
            assert_eq!(not_after(&certificate(version, GENERALIZED_TIME, b"20500101000000Z")), Some(2_524_608_000));
        }
    }

    #[test]
    fn what_is_cut_or_none_has_no_end() {
        let good = certificate(true, UTC_TIME, b"261126170000Z");
        for cut in 0..good.len() {
            assert_eq!(not_after(&good[..cut]), None, "{cut}");
        }
        for (tag, time) in [
            (UTC_TIME, &b"261126170000"[..]),
            (UTC_TIME, b"20261126170000Z"),
            (4, b"261126170000Z"),
            (UTC_TIME, b"261326170000Z"),
        ] {
            assert_eq!(not_after(&certificate(true, tag, time)), None, "{tag} {time:?}");
        }
        for any in 0..=255u8 {
            assert_eq!(not_after(&[any; 40]), None);
        }
    }
}
