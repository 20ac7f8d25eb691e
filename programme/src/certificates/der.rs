//! As much of DER as a signer's X.509 certificate takes: reading it, and writing one that is signed by itself.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const UTC_TIME: u8 = 0x17;
const TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// id-ecPublicKey and prime256v1, as an algorithm.
const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];
/// ecdsa-with-SHA256, as an algorithm.
const ECDSA: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const COUNTRY: &[u8] = &[0x55, 0x04, 0x06];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// The EU's own key usage: vaccination certificates.
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const FOR_VACCINATIONS: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x8e, 0x37, 0x8f, 0x65, 0x01, 0x02];

/// What is read of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// The key, as 65 bytes of an uncompressed point.
    pub(super) point: Vec<u8>,
    /// Until when it is good.
    pub(super) not_after: Timestamp,
}

/// Reads a certificate of a P-256 key; `None` if it is something else. Who signed it is not looked at: it is trusted by its place.
pub(super) fn read(der: &[u8]) -> Option<Certificate> {
    let (certificate, rest) = take(der, SEQUENCE)?;
    let (mut fields, _) = take(certificate, SEQUENCE)?;
    if !rest.is_empty() {
        return None;
    }
    if let Some((_, rest)) = take(fields, VERSION) {
        fields = rest;
    }
    let (_, fields) = take(fields, INTEGER)?;
    let (_, fields) = take(fields, SEQUENCE)?;
    let (_, fields) = take(fields, SEQUENCE)?;
    let (validity, fields) = take(fields, SEQUENCE)?;
    let (_, fields) = take(fields, SEQUENCE)?;
    let (key, _) = take(fields, SEQUENCE)?;
    let (_, not_after) = time(validity)?;
    let (not_after, _) = time(not_after)?;
    Some(Certificate { point: point(key)?, not_after })
}

/// The point of a key that stands as X.509 has it (SPKI), as 65 bytes.
pub(super) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    let (key, rest) = take(der, SEQUENCE)?;
    if rest.is_empty() { point(key) } else { None }
}

fn point(key: &[u8]) -> Option<Vec<u8>> {
    let (bits, rest) = take(key.strip_prefix(P256)?, BITS)?;
    let point = bits.strip_prefix(&[0])?;
    (rest.is_empty() && point.len() == 65 && point[0] == 4).then(|| point.to_vec())
}

/// The contents of the first value, if it has this tag, and what follows.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (len, rest) = match usize::from(first) {
        short @ 0..=127 => (short, rest),
        long @ 0x81..=0x83 => {
            let (len, rest) = rest.split_at_checked(long & 3)?;
            (len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

fn time(der: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, rest, century) = match (take(der, UTC_TIME), take(der, TIME)) {
        // Two digits: from 1950 on.
        (Some((text, rest)), _) => (text, rest, if text.first()? < &b'5' { "20" } else { "19" }),
        (_, Some((text, rest))) => (text, rest, ""),
        _ => return None,
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    Some((TimeZone::UTC.to_timestamp(time).ok()?, rest))
}

/// The key as X.509 has it (SPKI).
pub(super) fn spki(point: &[u8]) -> Vec<u8> {
    value(SEQUENCE, &[P256, &value(BITS, &[&[0], point])])
}

/// Whose certificate it is.
pub(super) struct Subject<'a> {
    /// Two capital letters.
    pub(super) country: &'a str,
    /// Who issues certificates.
    pub(super) organisation: &'a str,
    /// The name of the key.
    pub(super) name: &'a str,
}

/// A certificate of this key (PKCS#8) that is signed by itself; `None` if the key does not sign.
pub(super) fn self_signed(
    pkcs8: &[u8],
    point: &[u8],
    subject: &Subject,
    from: Timestamp,
    to: Timestamp,
) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    let mut serial = [0; 16];
    random.fill(&mut serial).ok()?;
    // Positive, and not shorter for a zero in front.
    serial[0] = serial[0] & 0x7f | 0x40;
    let part = |oid: &[u8], tag: u8, text: &str| {
        value(SET, &[&value(SEQUENCE, &[&value(OID, &[oid]), &value(tag, &[text.as_bytes()])])])
    };
    let name = value(
        SEQUENCE,
        &[
            &part(COUNTRY, PRINTABLE, subject.country),
            &part(ORGANISATION, UTF8, subject.organisation),
            &part(COMMON_NAME, UTF8, subject.name),
        ],
    );
    let extension = |oid: &[u8], critical: &[u8], contents: &[u8]| {
        value(SEQUENCE, &[&value(OID, &[oid]), critical, &value(OCTETS, &[contents])])
    };
    let critical = [0x01, 0x01, 0xff];
    // Digital signature alone.
    let usage = extension(KEY_USAGE, &critical, &value(BITS, &[&[7, 0x80]]));
    let vaccinations = extension(EXTENDED_KEY_USAGE, &[], &value(SEQUENCE, &[&value(OID, &[FOR_VACCINATIONS])]));
    let version = value(VERSION, &[&value(INTEGER, &[&[2]])]);
    let fields = value(
        SEQUENCE,
        &[
            &version,
            &value(INTEGER, &[&serial]),
            ECDSA,
            &name,
            &value(SEQUENCE, &[&written_time(from), &written_time(to)]),
            &name,
            &spki(point),
            &value(EXTENSIONS, &[&value(SEQUENCE, &[&usage, &vaccinations])]),
        ],
    );
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random).ok()?;
    let signature = pair.sign(&random, &fields).ok()?;
    Some(value(SEQUENCE, &[&fields, ECDSA, &value(BITS, &[&[0], signature.as_ref()])]))
}

fn written_time(at: Timestamp) -> Vec<u8> {
    let at = TimeZone::UTC.to_datetime(at);
    // Two digits up to 2049, as RFC 5280 has it.
    let (tag, format) = if at.year() < 2050 { (UTC_TIME, "%y%m%d%H%M%SZ") } else { (TIME, "%Y%m%d%H%M%SZ") };
    value(tag, &[at.strftime(format).to_string().as_bytes()])
}

fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let bytes = len.to_be_bytes();
    let significant = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1)..];
    let mut out = vec![tag];
    if len > 127 {
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or(0));
    }
    out.extend_from_slice(significant);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, KeyPair as _};

    use super::*;

    #[test]
    fn a_certificate_of_ours_reads_back() {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let subject = Subject { country: "FR", organisation: &"é".repeat(100), name: "eu_dcc-1" };
        for to in ["2031-02-03T04:05:06Z", "2061-02-03T04:05:06Z"] {
            let (from, to) = ("2026-11-27T00:00:00Z".parse().unwrap(), to.parse().unwrap());
            let der = self_signed(pkcs8.as_ref(), point, &subject, from, to).unwrap();
            assert_eq!(read(&der), Some(Certificate { point: point.to_vec(), not_after: to }));
            for at in 0..der.len() {
                assert_eq!(read(&der[..at]), None, "cut at {at}");
            }
        }
        assert_eq!(public_key(&spki(point)).as_deref(), Some(point));
        assert_eq!(public_key(&spki(&point[1..])), None);
    }
}
