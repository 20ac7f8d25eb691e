//! The identifier of an EU certificate (UVCI): `URN:UVCI:01:FR:CNAM/ID#C`, and its check character.

use super::CertificateId;

/// The characters that the check counts in, each by its place (eHealth Network, verifiable vaccination certificates, annex 2).
const CHARSET: &[u8; 38] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/:";
const START: &str = "URN:UVCI:";
const VERSION: &str = "01";

/// The identifier of a certificate.
pub(super) fn write(country: &str, issuer: Option<&str>, id: &CertificateId) -> String {
    let issuer = issuer.map_or_else(String::new, |issuer| format!("{issuer}/"));
    let text = format!("{START}{VERSION}:{country}:{issuer}{id}");
    let check = luhn(&text).map(char::from).unwrap_or_default();
    format!("{text}#{check}")
}

/// The id in an identifier of ours.
pub(super) fn read(uvci: &str) -> Option<CertificateId> {
    let (text, check) = uvci.rsplit_once('#')?;
    if luhn(text).map(char::from)?.encode_utf8(&mut [0; 4]) != check {
        return None;
    }
    let rest = text.strip_prefix(START)?.strip_prefix(VERSION)?.strip_prefix(':')?;
    let (_, opaque) = rest.split_once(':')?;
    opaque.rsplit_once('/').map_or(opaque, |(_, id)| id).parse().ok()
}

/// The check character of the Luhn algorithm modulo 38; `None` if a character has no place.
fn luhn(text: &str) -> Option<u8> {
    let n = CHARSET.len();
    let mut sum = 0;
    for (at, byte) in text.bytes().rev().enumerate() {
        let place = CHARSET.iter().position(|known| *known == byte)?;
        let twice = if at % 2 == 0 { 2 * place } else { place };
        sum += twice / n + twice % n;
    }
    Some(CHARSET[(n - sum % n) % n])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_is_that_of_published_certificates() {
        // From the EU's test data: Austria, Sweden, the Netherlands.
        for (text, check) in [
            ("URN:UVCI:01:AT:10807843F94AEE0EE5093FBC254BD813", 'B'),
            ("URN:UVCI:01:SE:EHM/V12907267LAJW", 'E'),
            ("URN:UVCI:01:NL:187/37512422923", 'Z'),
        ] {
            assert_eq!(luhn(text).map(char::from), Some(check), "{text}");
        }
        assert_eq!(luhn("urn:uvci:01"), None);
    }

    #[test]
    fn an_identifier_reads_back_and_a_slip_is_noticed() {
        let id: CertificateId = "0F5K2M9X7Q".parse().unwrap();
        for (issuer, uvci) in [(None, "URN:UVCI:01:IN:0F5K2M9X7Q#"), (Some("CNAM"), "URN:UVCI:01:IN:CNAM/0F5K2M9X7Q#")]
        {
            let written = write("IN", issuer, &id);
            assert_eq!(&written[..written.len() - 1], uvci);
            assert_eq!(read(&written), Some(id.clone()));
            for at in 0..written.len() {
                let mut bytes = written.clone().into_bytes();
                bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
                let slip = String::from_utf8(bytes).unwrap();
                assert_eq!(read(&slip), None, "{slip}");
            }
        }
    }
}
