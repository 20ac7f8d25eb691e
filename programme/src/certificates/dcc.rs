//! EU Digital COVID Certificate: a CWT in a COSE envelope, packed by zlib and written in base 45 behind `HC1:` (eHealth Network, electronic
//! health certificates 1.0.5; JSON schema 1.3.0).

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value;
use coset::{CborSerializable as _, CoseSign1, CoseSign1Builder, HeaderBuilder, RegisteredLabelWithPrivate, iana};
use coset::{Label, TaggedCborSerializable as _};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use jiff::Timestamp;

use super::claims::Claims;
use super::keys::SigningKey;
use super::opened::Opened;
use super::transliteration::machine_readable;
use super::{CertificateKind, IssueError, Refused, Verified, inflate, uvci};
use crate::people::Born;

const KIND: CertificateKind = CertificateKind::EuDcc;
pub(super) const PREFIX: &str = "HC1:";
/// Of the JSON schema.
const VERSION: &str = "1.3.0";
/// `hcert`, the claim of a health certificate, and in it the one of the EU.
const HCERT: i64 = -260;
const EU: i64 = 1;
const ISSUER: i64 = 1;
const EXPIRES: i64 = 4;
const ISSUED: i64 = 6;
/// The longest text of a name and of an issuer.
const TEXT_CHARS_MAX: usize = 80;
/// What a QR image of level Q takes of base 45, in its largest version.
const QR_CHARS_MAX: usize = 2420;

pub(super) fn issue(claims: &Claims, key: &SigningKey) -> Result<String, IssueError> {
    let payload = payload(claims, key)?;
    let key_id = STANDARD.decode(&key.public().key_id).unwrap_or_default();
    let header = HeaderBuilder::new().algorithm(iana::Algorithm::ES256).key_id(key_id).build();
    let unable = || IssueError::Signing { key_id: key.public().key_id.clone() };
    let sign = |message: &[u8]| key.sign(message).ok_or(());
    let signed = CoseSign1Builder::new().protected(header).payload(payload).try_create_signature(&[], sign);
    let cose = signed.map_err(|()| unable())?.build().to_tagged_vec().map_err(|_| unable())?;
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    // To memory nothing fails.
    let packed = zlib.write_all(&cose).and_then(|()| zlib.finish()).map_err(|_| unable())?;
    let text = format!("{PREFIX}{}", base45::encode(packed));
    if text.len() > QR_CHARS_MAX {
        let advice = "shorten the issuer's name";
        return Err(IssueError::TooLong { kind: KIND, len: text.len(), max: QR_CHARS_MAX, advice });
    }
    Ok(text)
}

fn payload(claims: &Claims, key: &SigningKey) -> Result<Vec<u8>, IssueError> {
    let needed = |what| IssueError::Missing { kind: KIND, what };
    let dose = claims.dose().ok_or_else(|| needed("a dose"))?;
    let codes = &dose.product.codes;
    let code = |code: &Option<String>, what| code.clone().ok_or_else(|| needed(what));
    if !(1..=9).contains(&dose.number) || !(1..=9).contains(&dose.of) {
        return Err(IssueError::Unfit { kind: KIND, what: "a dose beyond the ninth" });
    }
    let machine_readable = machine_readable(&claims.holder.name);
    if machine_readable.is_empty() {
        return Err(IssueError::Unfit { kind: KIND, what: "a name without a letter" });
    }
    let text = |name: &str, value: &str| (Value::from(name), Value::from(shortened(value)));
    let number = |name: i64, value: i64| (Value::from(name), Value::from(value));
    let born = match claims.holder.born {
        Born::Year(year) => format!("{year:04}"),
        Born::Day(day) => day.to_string(),
    };
    let ci = uvci::write(&claims.issuer.country, claims.issuer.code.as_deref(), &claims.id);
    let vaccination = Value::Map(vec![
        text("tg", &code(&claims.disease.code, "the disease's code")?),
        text("vp", &code(&codes.eu_vaccine, "codes.eu_vaccine of the product")?),
        text("mp", &code(&codes.eu_product, "codes.eu_product of the product")?),
        text("ma", &code(&codes.eu_holder, "codes.eu_holder of the product")?),
        (Value::from("dn"), Value::from(dose.number)),
        (Value::from("sd"), Value::from(dose.of)),
        text("dt", &dose.given_on.to_string()),
        text("co", &dose.facility.country),
        text("is", &claims.issuer.name),
        text("ci", &ci),
    ]);
    let certificate = Value::Map(vec![
        text("ver", VERSION),
        // A name that nobody has split is the primary identifier, as ICAO 9303 has it.
        (Value::from("nam"), Value::Map(vec![text("fn", &claims.holder.name), text("fnt", &machine_readable)])),
        text("dob", &born),
        (Value::from("v"), Value::Array(vec![vaccination])),
    ]);
    // What outlives its signer's certificate is not taken by who verifies.
    let expires = key.certified_until().map_or(claims.expires_at, |end| end.min(claims.expires_at));
    let claims = Value::Map(vec![
        (Value::from(ISSUER), Value::from(claims.issuer.country.as_str())),
        number(EXPIRES, expires.as_second()),
        number(ISSUED, claims.issued_at.as_second()),
        (Value::from(HCERT), Value::Map(vec![(Value::from(EU), certificate)])),
    ]);
    claims.to_vec().map_err(|_| IssueError::Signing { key_id: key.public().key_id.clone() })
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// What stands in a certificate, before anything of it is believed.
pub(super) fn open(text: &str) -> Result<Opened, Refused> {
    let digits = text.strip_prefix(PREFIX).ok_or(Refused::Malformed("HC1: is missing"))?;
    let packed = decoded(digits).ok_or(Refused::Malformed("is no base 45"))?;
    let cose = inflate::zlib(&packed).ok_or(Refused::Malformed("is no zlib, or longer than a certificate"))?;
    let cose = CoseSign1::from_tagged_slice(&cose).map_err(|_| Refused::Malformed("is no COSE_Sign1"))?;
    let header = &cose.protected.header;
    if header.alg != Some(RegisteredLabelWithPrivate::Assigned(iana::Algorithm::ES256)) || !header.crit.is_empty() {
        return Err(Refused::Malformed("is not signed with ES256"));
    }
    if header.rest.iter().any(|(label, _)| *label == Label::Text("crit".to_owned())) || header.key_id.is_empty() {
        return Err(Refused::Malformed("names no key"));
    }
    let payload = cose.payload.as_deref().ok_or(Refused::Malformed("has no payload"))?;
    let key_id = STANDARD.encode(&header.key_id);
    let verified = read(payload, &key_id).ok_or(Refused::Malformed("is no vaccination certificate of the EU"))?;
    let signed = cose.tbs_data(&[]);
    Ok(Opened { kind: KIND, key_id, signed, signature: cose.signature, verified })
}

/// What base 45 spells. The crate lets a last pair pass that is no byte; nothing has two spellings here.
fn decoded(digits: &str) -> Option<Vec<u8>> {
    base45::decode(digits).ok().filter(|bytes| base45::encode(bytes) == digits)
}

fn read(payload: &[u8], key_id: &str) -> Option<Verified> {
    let claims = Value::from_slice(payload).ok()?;
    let claim = |name: i64| member(&claims, &Value::from(name));
    let second = |value: &Value| Timestamp::from_second(i64::try_from(value.as_integer()?).ok()?).ok();
    let certificate = member(claim(HCERT)?, &Value::from(EU))?;
    let field = |of, name: &str| member(of, &Value::from(name));
    let text = |of, name: &str| field(of, name)?.as_text().map(str::to_owned);
    let [vaccination] = field(certificate, "v")?.as_array()?.as_slice() else { return None };
    let number = |name: &str| u64::try_from(field(vaccination, name)?.as_integer()?).ok();
    let names = field(certificate, "nam")?;
    let given = text(names, "gn");
    let name = match (text(names, "fn"), given) {
        (Some(family), Some(given)) => format!("{given} {family}"),
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => text(names, "fnt")?,
    };
    Some(Verified {
        kind: KIND,
        id: uvci::read(&text(vaccination, "ci")?)?,
        key_id: key_id.to_owned(),
        issuer: claim(ISSUER)?.as_text()?.to_owned(),
        issued_at: second(claim(ISSUED)?)?,
        expires_at: Some(second(claim(EXPIRES)?)?),
        name,
        born: Some(text(certificate, "dob")?),
        product: text(vaccination, "mp")?,
        dose: Some((number("dn")?, number("sd")?)),
        given_on: text(vaccination, "dt")?,
    })
}

/// The value of a key that stands once.
fn member<'v>(map: &'v Value, key: &Value) -> Option<&'v Value> {
    let mut found = map.as_map()?.iter().filter(|(name, _)| name == key).map(|(_, value)| value);
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the EU's published test data, made by another implementation: the certificate of a made-up person, and who signed it.
    const PUBLISHED: &str = "HC1:NCFI80T80T9WTWGVLK-89+ZFCRUB+9PW8X*4FBBKS4FN0H9C/.RWY0F9CUF7*70TB8D97TK0F90KECTHGXJC +D.JCBECB1A-:8$966469L6OF6VX6Z/E5JD%96IA7B46646VX6LVC6JD846Y968464W5Y57UPC/IC2UAOPCX8F6%E3.DA%EOPC1G72A6TB82G7E46D46X47VL6JA7EB8RX83Y8QW6IA7V*8CM8UW6:G8U47-L6.JCP9EJY8L/5M/5546.96VF6%JCUQE8H8YNAZ6AM347%EKWEMED3KC.SC4KCD3DX47B46IL6646I*6..DX%DLPCG/DE$EIZAITA2IA.HA+YAU09HY8 NAE+9GY8ZJCH/DTZ9 QE5$C .CJECQW5HXO*WOZED93DXKEI3DAWEG09DH8$B9+S9 JC4/D3192KCQEDTVD$PC5$CUZCY$5Y$5JPCT3E5JDOA7Q478465W57*6T68O0FQY9D-1G7JT2UYEPS4KYO1$FOKRP:-9QG6Y7M2QJLAIOHMH7JMKTKS1GJ4QLJ$*Q+WTL1T-QLCWN*$CSOBSWC9OT7$GWD39C7A1";
    const SIGNER: &str = "MIIBWjCCAQCgAwIBAgIFAM35dB0wCgYIKoZIzj0EAwIwEDEOMAwGA1UEAwwFRUMtTWUwHhcNMjEwNTAzMTgwMDAwWhcNMjEwNjAyMTgwMDAwWjAQMQ4wDAYDVQQDDAVFQy1NZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABB5HI4yjHBVgyEb6iDQYP9xtP8VBoQ6JVjEWGcDEYQlB8LDxYdwrUpwNTT3BRJpRW+84qgwLP+7LQ3Y9kZSwqQGjRzBFMA4GA1UdDwEB/wQEAwIFoDAzBgNVHSUELDAqBgwrBgEEAQCON49lAQEGDCsGAQQBAI43j2UBAgYMKwYBBAEAjjePZQEDMAoGCCqGSM49BAMCA0gAMEUCIQCvm7SBTzlRU9XjW02JEfksU26ll+L12ZSvHg5kQvOJVQIge6//uvQejatCQKvPMdMfQfMdPy1pn3FqAzWffXeZ+ow=";

    #[test]
    fn a_published_certificate_is_signed_by_whom_it_says() {
        let signer = STANDARD.decode(SIGNER).unwrap();
        let certificate = crate::certificates::der::read(&signer).unwrap();
        assert_eq!(certificate.not_after, "2021-06-02T18:00:00Z".parse().unwrap());
        let key = crate::certificates::PublicKey::new(KIND, &certificate.point, Some(signer)).unwrap();
        let packed = base45::decode(PUBLISHED.strip_prefix(PREFIX).unwrap()).unwrap();
        let cose = CoseSign1::from_tagged_slice(&inflate::zlib(&packed).unwrap()).unwrap();
        assert_eq!(STANDARD.encode(&cose.protected.header.key_id), key.key_id);
        assert!(key.verifies(&cose.tbs_data(&[]), &cose.signature));
        assert!(!key.verifies(&cose.tbs_data(&[0]), &cose.signature));
        // Of another version of the schema, whose identifier has no check; so it is none that we take.
        assert!(matches!(open(PUBLISHED), Err(Refused::Malformed("is no vaccination certificate of the EU"))));
    }

    #[test]
    fn base_45_is_that_of_its_rfc() {
        for (plain, digits) in
            [("AB", "BB8"), ("Hello!!", "%69 VD92EX0"), ("base-45", "UJCLQE7W581"), ("ietf!", "QED8WEX0")]
        {
            assert_eq!(base45::encode(plain), digits);
            assert_eq!(decoded(digits).unwrap(), plain.as_bytes());
        }
        assert_eq!(decoded("FGW"), Some(vec![255; 2]));
        for bad in ["GGW", "::", "a", "A", "ABCD", "ä1"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
