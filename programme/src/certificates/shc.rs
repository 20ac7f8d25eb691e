//! SMART Health Card: a FHIR bundle in a JWS, its payload deflated, written as digits behind `shc:/` (framework 1.4).

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::claims::{Claims, DoseClaim};
use super::keys::SigningKey;
use super::opened::Opened;
use super::{CertificateKind, IssueError, Refused, Verified, inflate};
use crate::people::Born;

const KIND: CertificateKind = CertificateKind::SmartHealthCard;
pub(super) const PREFIX: &str = "shc:/";
/// What a QR image of version 22 takes: the framework's bound for one image.
const JWS_CHARS_MAX: usize = 1195;
const CVX: &str = "http://hl7.org/fhir/sid/cvx";
/// SNOMED CT's COVID-19.
const COVID_19: &str = "840539006";
/// The smallest character of a JWS, from which the digits count.
const FIRST: u8 = b'-';

pub(super) fn issue(claims: &Claims, key: &SigningKey) -> Result<String, IssueError> {
    let mut len = 0;
    // Earlier doses travel along as long as there is room.
    for from in 0..claims.doses.len() {
        let jws = sign(&payload(claims, &claims.doses[from..])?, key)?;
        if jws.len() <= JWS_CHARS_MAX {
            return Ok(digits(&jws));
        }
        len = jws.len();
    }
    if len == 0 {
        return Err(IssueError::Missing { kind: KIND, what: "a dose" });
    }
    let advice = "shorten the name of the centre or of the person";
    Err(IssueError::TooLong { kind: KIND, len, max: JWS_CHARS_MAX, advice })
}

fn payload(claims: &Claims, doses: &[DoseClaim]) -> Result<Value, IssueError> {
    let born = match claims.holder.born {
        Born::Year(year) => format!("{year:04}"),
        Born::Day(day) => day.to_string(),
    };
    // A name that nobody has split stands as the family's.
    let patient = json!({"resourceType": "Patient", "name": [{"family": claims.holder.name}], "birthDate": born});
    let mut entries = vec![json!({"fullUrl": "resource:0", "resource": patient})];
    for (at, dose) in doses.iter().enumerate() {
        let cvx = dose.product.codes.cvx.as_deref();
        let cvx = cvx.ok_or(IssueError::Missing { kind: KIND, what: "codes.cvx of the product" })?;
        let mut resource = json!({
            "resourceType": "Immunization", "status": "completed", "vaccineCode": {"coding": [{"system": CVX, "code": cvx}]},
            "patient": {"reference": "resource:0"}, "occurrenceDateTime": dose.given_on.to_string(),
            "performer": [{"actor": {"display": dose.facility.name}}],
        });
        if let Some(batch) = &dose.batch {
            resource["lotNumber"] = batch.as_str().into();
        }
        entries.push(json!({"fullUrl": format!("resource:{}", at + 1), "resource": resource}));
    }
    let mut kinds = vec!["https://smarthealth.cards#health-card", "https://smarthealth.cards#immunization"];
    if claims.disease.code.as_deref() == Some(COVID_19) {
        kinds.push("https://smarthealth.cards#covid19");
    }
    Ok(json!({
        "iss": claims.issuer.uri.trim_end_matches('/'),
        "nbf": claims.issued_at.as_second(),
        "exp": claims.expires_at.as_second(),
        "vc": {
            "type": kinds,
            "credentialSubject": {
                "fhirVersion": "4.0.1",
                "fhirBundle": {"resourceType": "Bundle", "type": "collection", "entry": entries},
            },
            "rid": claims.id.as_str(),
        },
    }))
}

fn sign(payload: &Value, key: &SigningKey) -> Result<String, IssueError> {
    let key_id = &key.public().key_id;
    let unable = || IssueError::Signing { key_id: key_id.clone() };
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    // To memory nothing fails.
    let packed = deflate.write_all(payload.to_string().as_bytes()).and_then(|()| deflate.finish());
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"zip":"DEF","alg":"ES256","kid":"{key_id}"}}"#));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(packed.map_err(|_| unable())?));
    let signature = key.sign(signed.as_bytes()).ok_or_else(unable)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Two digits for each character, behind `shc:/`.
fn digits(jws: &str) -> String {
    let mut text = String::with_capacity(PREFIX.len() + 2 * jws.len());
    text.push_str(PREFIX);
    for byte in jws.bytes() {
        let number = byte.saturating_sub(FIRST);
        text.push(char::from(b'0' + number / 10));
        text.push(char::from(b'0' + number % 10));
    }
    text
}

/// The JWS that digits stand for.
pub(super) fn jws(text: &str) -> Result<String, Refused> {
    let digits = text.strip_prefix(PREFIX).ok_or(Refused::Malformed("shc:/ is missing"))?.as_bytes();
    if digits.contains(&b'/') {
        return Err(Refused::Malformed("is one part of a card in several QR images, which is out of use"));
    }
    let (pairs, []) = digits.as_chunks::<2>() else { return Err(Refused::Malformed("has half a character")) };
    let character = |pair: &[u8; 2]| {
        let number = pair.iter().all(u8::is_ascii_digit).then(|| (pair[0] - b'0') * 10 + pair[1] - b'0')?;
        Some(char::from(number + FIRST)).filter(char::is_ascii)
    };
    pairs.iter().map(character).collect::<Option<_>>().ok_or(Refused::Malformed("has what are no digits of a card"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    zip: String,
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Payload {
    iss: String,
    nbf: i64,
    exp: Option<i64>,
    vc: Credential,
}

#[derive(Deserialize)]
struct Credential {
    rid: String,
    #[serde(rename = "credentialSubject")]
    subject: Subject,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(rename = "fhirBundle")]
    bundle: Value,
}

/// What stands in a card, before anything of it is believed.
pub(super) fn open(jws: &str) -> Result<Opened, Refused> {
    let mut parts = jws.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Malformed("is no JWS of three parts"));
    };
    let decoded = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed("is no base64url"));
    let head: Header =
        serde_json::from_slice(&decoded(header)?).map_err(|_| Refused::Malformed("has another head than a card's"))?;
    if head.alg != "ES256" || head.zip != "DEF" {
        return Err(Refused::Malformed("is not signed with ES256, or not packed with DEF"));
    }
    let packed = decoded(payload)?;
    let text = inflate::raw(&packed).ok_or(Refused::Malformed("is not deflated, or longer than a certificate"))?;
    let verified = read(&text, &head.kid).ok_or(Refused::Malformed("is no immunization card of ours"))?;
    let signed = format!("{header}.{payload}").into_bytes();
    Ok(Opened { kind: KIND, key_id: head.kid, signed, signature: decoded(signature)?, verified })
}

fn read(text: &[u8], key_id: &str) -> Option<Verified> {
    let payload: Payload = serde_json::from_slice(text).ok()?;
    let entries = payload.vc.subject.bundle["entry"].as_array()?;
    let of = |kind: &'static str| {
        entries.iter().map(|entry| &entry["resource"]).filter(move |resource| resource["resourceType"] == kind)
    };
    let patient = of("Patient").next()?;
    let dose = of("Immunization").max_by_key(|dose| dose["occurrenceDateTime"].as_str())?;
    let name = &patient["name"][0];
    let given = name["given"].as_array().into_iter().flatten();
    let words: Vec<&str> = given.chain([&name["family"]]).filter_map(Value::as_str).collect();
    let second = |second| Timestamp::from_second(second).ok();
    let exp = match payload.exp {
        Some(exp) => Some(second(exp)?),
        None => None,
    };
    Some(Verified {
        kind: KIND,
        id: payload.vc.rid.parse().ok()?,
        key_id: key_id.to_owned(),
        issuer: payload.iss,
        issued_at: second(payload.nbf)?,
        expires_at: exp,
        name: if words.is_empty() { name["text"].as_str()?.to_owned() } else { words.join(" ") },
        born: patient["birthDate"].as_str().map(str::to_owned),
        product: format!("CVX {}", dose["vaccineCode"]["coding"][0]["code"].as_str()?),
        dose: None,
        given_on: dose["occurrenceDateTime"].as_str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_specification() {
        assert_eq!(digits("eyJ"), "shc:/567629");
        assert_eq!(jws("shc:/567629").unwrap(), "eyJ");
        for bad in ["shc:5676", "shc:/567", "shc:/5x", "shc:/99", "shc:/1/2/5676"] {
            assert!(matches!(jws(bad), Err(Refused::Malformed(_))), "{bad}");
        }
    }
}
