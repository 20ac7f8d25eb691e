//! W3C Verifiable Credential in the shape of DIVOC (CoWIN), signed with `Ed25519Signature2018`.
//!
//! What is signed are the statements that JSON-LD makes of the document. So the document is read strictly: a member of another shape
//! would be one that nobody signed. The terms of DIVOC's vaccination context are declared in the document itself, so that who verifies it
//! need not fetch anything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::claims::{Claims, DoseClaim};
use super::keys::SigningKey;
use super::nquads::{Node, Statements, named};
use super::opened::Opened;
use super::{CertificateId, CertificateKind, IssueError, Refused, Verified};

const KIND: CertificateKind = CertificateKind::W3c;
const CREDENTIALS: &str = "https://www.w3.org/2018/credentials/v1";
/// The addresses of what that context declares.
const CREDENTIAL: &str = "https://www.w3.org/2018/credentials#";
const SECURITY: &str = "https://w3id.org/security#";
const CREATED: &str = "http://purl.org/dc/terms/created";
/// Under which all terms of a vaccination lie.
const VACCINATION: &str = "https://divoc.dev/credentials/vaccination/v1#";
const TYPES: [&str; 2] = ["VerifiableCredential", "ProofOfVaccinationCredential"];
/// The head of a signature over bytes that do not stand in it (RFC 7797).
const JWS_HEAD: &str = r#"{"alg":"EdDSA","b64":false,"crit":["b64"]}"#;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    #[serde(rename = "@context")]
    context: Value,
    #[serde(rename = "type")]
    kinds: [String; 2],
    #[serde(rename = "credentialSubject")]
    subject: Subject,
    issuer: String,
    #[serde(rename = "issuanceDate")]
    issued: String,
    #[serde(rename = "expirationDate")]
    expires: String,
    evidence: [Evidence; 1],
    #[serde(rename = "nonTransferable")]
    non_transferable: String,
    proof: Proof,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Subject {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    ref_id: String,
    name: String,
    gender: String,
    age: String,
    nationality: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_document: Option<String>,
    address: Address,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Address {
    street_address: String,
    street_address2: String,
    district: String,
    city: String,
    address_region: String,
    address_country: String,
    postal_code: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Evidence {
    id: String,
    certificate_id: String,
    #[serde(rename = "type")]
    kinds: [String; 1],
    batch: String,
    vaccine: String,
    manufacturer: String,
    date: String,
    effective_start: String,
    effective_until: String,
    dose: u64,
    total_doses: u64,
    verifier: Verifier,
    facility: Place,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verifier {
    name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    name: String,
    address: Address,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Proof {
    #[serde(rename = "type")]
    kind: String,
    created: String,
    proof_purpose: String,
    verification_method: String,
    jws: String,
}

pub(super) fn issue(claims: &Claims, key: &SigningKey) -> Result<String, IssueError> {
    let key_id = &key.public().key_id;
    let mut credential = credential(claims, key_id)?;
    let signed = signed(&credential);
    let unable = || IssueError::Signing { key_id: key_id.clone() };
    let signature = URL_SAFE_NO_PAD.encode(key.sign(&signed).ok_or_else(unable)?);
    credential.proof.jws = format!("{}..{signature}", URL_SAFE_NO_PAD.encode(JWS_HEAD));
    serde_json::to_string(&credential).map_err(|_| unable())
}

fn credential(claims: &Claims, key_id: &str) -> Result<Credential, IssueError> {
    let needed = |what| IssueError::Missing { kind: KIND, what };
    let dose = claims.dose().ok_or_else(|| needed("a dose"))?;
    let manufacturer = dose.product.manufacturer.clone().ok_or_else(|| needed("the product's manufacturer"))?;
    let (subject, evidence) = ids(&claims.issuer.uri, &claims.id);
    let holder = &claims.holder;
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    let issued = second(claims.issued_at);
    let address =
        |district: &Option<String>, state: &Option<String>, pincode: &Option<String>, country: &str| Address {
            street_address: String::new(),
            street_address2: String::new(),
            district: said(district),
            city: String::new(),
            address_region: said(state),
            address_country: country.to_owned(),
            postal_code: said(pincode),
        };
    Ok(Credential {
        context: context(),
        kinds: TYPES.map(str::to_owned),
        subject: Subject {
            kind: "Person".to_owned(),
            id: subject,
            ref_id: holder.reference.clone(),
            name: holder.name.clone(),
            gender: said(&holder.sex),
            age: age(claims, dose),
            nationality: said(&holder.nationality),
            identity_document: holder.document.clone(),
            address: address(&holder.district, &holder.state, &holder.pincode, &claims.issuer.country),
        },
        issuer: key_id.split('#').next().unwrap_or_default().to_owned(),
        issued: issued.clone(),
        expires: second(claims.expires_at),
        evidence: [Evidence {
            id: evidence,
            certificate_id: claims.id.to_string(),
            kinds: ["Vaccination".to_owned()],
            batch: said(&dose.batch),
            vaccine: dose.product.name.clone(),
            manufacturer,
            date: dose.given_on.to_string(),
            effective_start: dose.given_on.to_string(),
            effective_until: TimeZone::UTC.to_datetime(claims.expires_at).date().to_string(),
            dose: dose.number.into(),
            total_doses: dose.of.into(),
            verifier: Verifier { name: said(&dose.vaccinator) },
            facility: Place {
                name: dose.facility.name.clone(),
                address: address(
                    &dose.facility.district,
                    &dose.facility.state,
                    &dose.facility.pincode,
                    &dose.facility.country,
                ),
            },
        }],
        non_transferable: "true".to_owned(),
        proof: Proof {
            kind: "Ed25519Signature2018".to_owned(),
            created: issued,
            proof_purpose: "assertionMethod".to_owned(),
            verification_method: key_id.to_owned(),
            jws: String::new(),
        },
    })
}

fn context() -> Value {
    json!([CREDENTIALS, {"@vocab": VACCINATION}])
}

/// The addresses of the person and of the dose in a certificate. They say no more than its id.
fn ids(uri: &str, id: &CertificateId) -> (String, String) {
    let base = uri.trim_end_matches('/');
    (format!("{base}/certificates/{id}#holder"), format!("{base}/certificates/{id}#vaccination"))
}

/// Formats know whole seconds.
fn second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// Years on the day of the dose; of who knows the year of birth alone the year's.
fn age(claims: &Claims, dose: &DoseClaim) -> String {
    use crate::people::Born;
    let years = i32::from(dose.given_on.year()) - i32::from(claims.holder.born.year());
    let before = match claims.holder.born {
        Born::Year(_) => false,
        Born::Day(born) => (dose.given_on.month(), dose.given_on.day()) < (born.month(), born.day()),
    };
    (years - i32::from(before)).max(0).to_string()
}

/// The bytes that are signed: the head, and the digests of the proof's statements and of the document's.
fn signed(credential: &Credential) -> Vec<u8> {
    let mut signed = URL_SAFE_NO_PAD.encode(JWS_HEAD).into_bytes();
    signed.push(b'.');
    signed.extend_from_slice(&proof(&credential.proof).digest());
    signed.extend_from_slice(&document(credential).digest());
    signed
}

fn proof(proof: &Proof) -> Statements {
    let mut told = Statements::default();
    let node = told.blank().into();
    told.is_a(&node, &format!("{SECURITY}{}", proof.kind));
    told.typed(&node, CREATED, &proof.created, "dateTime");
    told.node(&node, &format!("{SECURITY}proofPurpose"), &named(&format!("{SECURITY}{}", proof.proof_purpose)));
    told.node(&node, &format!("{SECURITY}verificationMethod"), &named(&proof.verification_method));
    told
}

fn document(credential: &Credential) -> Statements {
    let of = |name: &str| format!("{CREDENTIAL}{name}");
    let term = |name: &str| format!("{VACCINATION}{name}");
    let mut told = Statements::default();
    let root: Node = told.blank().into();
    let [verifiable, vaccination] = &credential.kinds;
    told.is_a(&root, &of(verifiable));
    told.is_a(&root, &term(vaccination));
    told.node(&root, &of("issuer"), &named(&credential.issuer));
    told.typed(&root, &of("issuanceDate"), &credential.issued, "dateTime");
    told.typed(&root, &of("expirationDate"), &credential.expires, "dateTime");
    told.text(&root, &term("nonTransferable"), &credential.non_transferable);

    let subject = &credential.subject;
    let person = named(&subject.id);
    told.node(&root, &of("credentialSubject"), &person);
    told.is_a(&person, &term(&subject.kind));
    for (name, text) in [
        ("refId", Some(&subject.ref_id)),
        ("name", Some(&subject.name)),
        ("gender", Some(&subject.gender)),
        ("age", Some(&subject.age)),
        ("nationality", Some(&subject.nationality)),
        ("identityDocument", subject.identity_document.as_ref()),
    ] {
        if let Some(text) = text {
            told.text(&person, &term(name), text);
        }
    }
    address(&mut told, &person, &subject.address);

    let [evidence] = &credential.evidence;
    let dose = named(&evidence.id);
    told.node(&root, &of("evidence"), &dose);
    told.is_a(&dose, &term(&evidence.kinds[0]));
    for (name, text) in [
        ("certificateId", &evidence.certificate_id),
        ("batch", &evidence.batch),
        ("vaccine", &evidence.vaccine),
        ("manufacturer", &evidence.manufacturer),
        ("date", &evidence.date),
        ("effectiveStart", &evidence.effective_start),
        ("effectiveUntil", &evidence.effective_until),
    ] {
        told.text(&dose, &term(name), text);
    }
    told.typed(&dose, &term("dose"), &evidence.dose.to_string(), "integer");
    told.typed(&dose, &term("totalDoses"), &evidence.total_doses.to_string(), "integer");
    let verifier: Node = told.blank().into();
    told.node(&dose, &term("verifier"), &verifier);
    told.text(&verifier, &term("name"), &evidence.verifier.name);
    let facility: Node = told.blank().into();
    told.node(&dose, &term("facility"), &facility);
    told.text(&facility, &term("name"), &evidence.facility.name);
    address(&mut told, &facility, &evidence.facility.address);
    told
}

fn address(told: &mut Statements, of: &Node, address: &Address) {
    let term = |name: &str| format!("{VACCINATION}{name}");
    let node: Node = told.blank().into();
    told.node(of, &term("address"), &node);
    for (name, text) in [
        ("streetAddress", &address.street_address),
        ("streetAddress2", &address.street_address2),
        ("district", &address.district),
        ("city", &address.city),
        ("addressRegion", &address.address_region),
        ("addressCountry", &address.address_country),
        ("postalCode", &address.postal_code),
    ] {
        told.text(&node, &term(name), text);
    }
}

/// What stands in a credential, before anything of it is believed.
pub(super) fn open(text: &[u8]) -> Result<Opened, Refused> {
    let of_another_shape = Refused::Malformed("is no Verifiable Credential in the shape of ours");
    let credential: Credential = serde_json::from_slice(text).map_err(|_| of_another_shape.clone())?;
    let proof = &credential.proof;
    let signature = proof.jws.strip_prefix(&URL_SAFE_NO_PAD.encode(JWS_HEAD)).and_then(|rest| rest.strip_prefix(".."));
    let signature = signature.ok_or(Refused::Malformed("has another head of its signature than ours"))?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refused::Malformed("is no base64url"))?;
    let [evidence] = &credential.evidence;
    let as_ours = credential.context == context()
        && credential.kinds == TYPES
        && proof.kind == "Ed25519Signature2018"
        && proof.proof_purpose == "assertionMethod"
        && proof.verification_method.split('#').next() == Some(&credential.issuer)
        // Or what is said of the one would be said of the other.
        && credential.subject.id != evidence.id;
    // What stands between angle brackets in a statement ends nowhere else (RFC 3987).
    let plain = |iri: &String| !iri.chars().any(|c| c.is_whitespace() || c.is_control() || "<>\"{}|^`\\".contains(c));
    let plain = [&credential.issuer, &credential.subject.id, &evidence.id].into_iter().all(plain);
    if !as_ours || !plain {
        return Err(of_another_shape);
    }
    let time = |text: &str| text.parse::<Timestamp>().map_err(|_| of_another_shape.clone());
    let verified = Verified {
        kind: KIND,
        id: evidence.certificate_id.parse().map_err(|_| of_another_shape.clone())?,
        key_id: proof.verification_method.clone(),
        issuer: credential.issuer.clone(),
        issued_at: time(&credential.issued)?,
        expires_at: Some(time(&credential.expires)?),
        name: credential.subject.name.clone(),
        born: None,
        product: evidence.vaccine.clone(),
        dose: Some((evidence.dose, evidence.total_doses)),
        given_on: evidence.date.clone(),
    };
    Ok(Opened {
        kind: KIND,
        key_id: proof.verification_method.clone(),
        signed: signed(&credential),
        signature,
        verified,
    })
}
