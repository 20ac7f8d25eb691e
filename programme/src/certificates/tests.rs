//! What is issued verifies, and nothing else does.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::key_files::{self, NewKey};
use super::*;
use crate::file::ProductCodes;
use crate::people::Born;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn issued_at() -> Timestamp {
    at("2026-11-27T10:00:00Z")
}

fn keys() -> KeyRing {
    let dir = tempfile::tempdir().unwrap();
    for kind in CertificateKind::ALL {
        let (not_before, not_after) = (at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"));
        let name = kind.name();
        let certified_until = at("2030-01-01T00:00:00Z");
        let key = NewKey { kind, name, not_before, not_after, certified_until, country: "IN", issuer: "Ministry" };
        key_files::make(dir.path(), &key).unwrap();
    }
    key_files::load(dir.path()).unwrap()
}

fn dose(number: u8) -> DoseClaim {
    DoseClaim {
        number,
        of: 2,
        given_on: format!("2021-0{number}-15").parse().unwrap(),
        product: ProductClaim {
            id: "covishield".to_owned(),
            name: "Covishield".to_owned(),
            manufacturer: Some("Serum Institute of India Pvt. Ltd.".to_owned()),
            codes: ProductCodes {
                cvx: Some("210".to_owned()),
                eu_vaccine: Some("J07BX03".to_owned()),
                eu_product: Some("Covishield".to_owned()),
                eu_holder: Some("ORG-100001981".to_owned()),
            },
        },
        batch: Some(format!("4120Z00{number}")),
        facility: Facility {
            name: "Primary Health Centre, Shivajinagar".to_owned(),
            district: Some("Pune".to_owned()),
            state: Some("Maharashtra".to_owned()),
            pincode: Some("411005".to_owned()),
            country: "IN".to_owned(),
        },
        vaccinator: Some("Sooraj Singh".to_owned()),
    }
}

fn claims() -> Claims {
    Claims {
        id: "06Z3J8K2M4N6P8Q0R2S4".parse().unwrap(),
        issued_at: issued_at(),
        expires_at: at("2027-11-27T10:00:00Z"),
        issuer: Issuer {
            name: "Ministry of Health".to_owned(),
            country: "IN".to_owned(),
            uri: "https://health.example/".to_owned(),
            code: None,
        },
        disease: Disease { name: "COVID-19".to_owned(), code: Some("840539006".to_owned()) },
        holder: Holder {
            reference: "p1.17".to_owned(),
            name: "Asha \"Tai\" भारती".to_owned(),
            born: Born::Day("1979-12-31".parse().unwrap()),
            sex: Some("female".to_owned()),
            document: Some("Aadhaar card xxxxxxxx1234".to_owned()),
            nationality: Some("Indian".to_owned()),
            district: Some("Pune".to_owned()),
            state: Some("Maharashtra".to_owned()),
            pincode: None,
        },
        doses: vec![dose(1), dose(2)],
    }
}

// rule: CRT-1
#[test]
fn what_is_issued_verifies_and_says_what_was_claimed() {
    let (keys, claims) = (keys(), claims());
    for (kind, issuer, born, product, dose) in [
        (CertificateKind::W3c, "did:key:z6Mk", None, "Covishield", Some((2, 2))),
        (CertificateKind::EuDcc, "IN", Some("1979-12-31"), "Covishield", Some((2, 2))),
        (CertificateKind::SmartHealthCard, "https://health.example", Some("1979-12-31"), "CVX 210", None),
    ] {
        let issued = issue(kind, &claims, &keys).unwrap();
        for form in
            [issued.text.clone().into_bytes(), issued.qr_payload(), format!("\n {} \r\n", issued.text).into_bytes()]
        {
            let verified = verify(&form, keys.public(), &(), issued_at()).unwrap();
            assert!(verified.issuer.starts_with(issuer), "{}", verified.issuer);
            assert_eq!((verified.kind, &verified.id, &verified.key_id), (kind, &claims.id, &issued.key_id));
            assert_eq!((verified.issued_at, verified.expires_at), (claims.issued_at, Some(claims.expires_at)));
            assert_eq!((verified.name.as_str(), verified.born.as_deref()), (claims.holder.name.as_str(), born));
            assert_eq!((verified.product.as_str(), verified.dose), (product, dose));
            assert_eq!(verified.given_on, "2021-02-15");
        }
        assert!(
            !format!("{issued:?}{:?}{claims:?}", verify(issued.text.as_bytes(), keys.public(), &(), issued_at()))
                .contains("Asha")
        );
    }
}

#[test]
fn a_card_is_read_as_jws_and_as_file() {
    let keys = keys();
    let issued = issue(CertificateKind::SmartHealthCard, &claims(), &keys).unwrap();
    let jws = shc::jws(&issued.text).unwrap();
    let file = format!(r#"{{"verifiableCredential":["{jws}"]}}"#);
    let two = format!(r#"{{"verifiableCredential":["{jws}","{jws}"]}}"#);
    for form in [&jws, &file] {
        assert!(verify(form.as_bytes(), keys.public(), &(), issued_at()).is_ok(), "{form}");
    }
    assert_eq!(verify(two.as_bytes(), keys.public(), &(), issued_at()).unwrap_err().code(), "malformed");
}

// rule: CRT-2
#[test]
fn the_first_reason_is_told() {
    let (ours, others) = (keys(), keys());
    let claims = claims();
    let revoked = HashSet::from([claims.id.clone()]);
    for kind in CertificateKind::ALL {
        let text = issue(kind, &claims, &ours).unwrap().text;
        let code = |keys: &KeyRing, revocations: &dyn Revocations, now: Timestamp| {
            verify(text.as_bytes(), keys.public(), revocations, now).map_or_else(|refused| refused.code(), |_| "ok")
        };
        let (good, late) = (issued_at(), claims.expires_at);
        let early = |seconds| issued_at().checked_sub(SignedDuration::from_secs(seconds)).unwrap();
        assert_eq!(code(&ours, &(), good), "ok");
        assert_eq!(code(&others, &(), good), "unknown_key");
        assert_eq!(code(&ours, &revoked, good), "revoked");
        assert_eq!(code(&ours, &revoked, late), "revoked");
        assert_eq!(code(&ours, &(), late), "expired");
        assert_eq!(code(&ours, &(), late.checked_sub(SignedDuration::from_secs(1)).unwrap()), "ok");
        assert_eq!(code(&ours, &(), early(60)), "ok", "the clock at the door is behind");
        assert_eq!(code(&ours, &(), early(61)), "not_yet_valid");
    }
    for nothing in ["", "HC1:", "shc:/", "{", "{}", "eyJ", "eyJ..", "PK\u{3}\u{4}", "hello", "HC1:NCF"] {
        let refused = verify(nothing.as_bytes(), ours.public(), &(), issued_at()).unwrap_err();
        assert_eq!(refused.code(), "malformed", "{nothing:?}");
    }
}

/// Another key under the id of one that is known.
#[test]
fn a_wrong_signature_is_no_unknown_key() {
    let (ours, others) = (keys(), keys());
    for kind in CertificateKind::ALL {
        let theirs = others.active(kind, issued_at()).unwrap().public();
        let mut mixed = PublicKeys::default();
        let of_ours = ours.active(kind, issued_at()).unwrap().public();
        mixed.add(PublicKey { key_id: theirs.key_id.clone(), ..of_ours.clone() });
        let text = issue(kind, &claims(), &others).unwrap().text;
        assert_eq!(verify(text.as_bytes(), &mixed, &(), issued_at()), Err(Refused::BadSignature), "{kind}");
        // And no list says so.
        assert!(PublicKeys::from_jwks(&mixed.to_jwks()).is_err());
    }
}

// rule: CRT-1
#[test]
fn whatever_byte_is_flipped_nothing_else_is_believed() {
    let keys = keys();
    for kind in CertificateKind::ALL {
        let issued = issue(kind, &claims(), &keys).unwrap();
        let good = verify(issued.text.as_bytes(), keys.public(), &(), issued_at()).unwrap();
        let mut passed = 0;
        for at in 0..issued.text.len() {
            for bit in 0..7 {
                let mut bytes = issued.text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(verified) = verify(&bytes, keys.public(), &(), issued_at()) {
                    assert_eq!(verified, good, "{kind} at {at}");
                    passed += 1;
                }
            }
        }
        // The bits behind the end of a deflated stream say nothing, and zlib lies outside of the signature.
        assert!(passed == 0 || kind == CertificateKind::EuDcc && passed < 20, "{kind}: {passed}");
    }
}

// rule: CRT-3
#[test]
fn a_new_key_signs_and_the_old_one_verifies() {
    let dir = tempfile::tempdir().unwrap();
    for kind in CertificateKind::ALL {
        for (name, from) in [("old", "2026-01-01T00:00:00Z"), ("new", "2027-01-01T00:00:00Z")] {
            let (name, certified_until) = (format!("{name}-{kind}"), at("2030-01-01T00:00:00Z"));
            let (not_before, not_after) = (at(from), at("2028-01-01T00:00:00Z"));
            let key = NewKey { kind, name: &name, not_before, not_after, certified_until, country: "IN", issuer: "M" };
            key_files::make(dir.path(), &key).unwrap();
        }
    }
    let keys = key_files::load(dir.path()).unwrap();
    for kind in CertificateKind::ALL {
        let before = issue(kind, &claims(), &keys).unwrap();
        let later = Claims { issued_at: at("2027-01-01T00:00:00Z"), ..claims() };
        let after = issue(kind, &later, &keys).unwrap();
        assert_ne!(before.key_id, after.key_id);
        for text in [&before.text, &after.text] {
            assert!(verify(text.as_bytes(), keys.public(), &(), at("2027-01-01T00:00:00Z")).is_ok());
        }
        let too_late =
            Claims { issued_at: at("2028-01-01T00:00:00Z"), expires_at: at("2029-01-01T00:00:00Z"), ..claims() };
        assert_eq!(issue(kind, &too_late, &keys), Err(IssueError::NoKey { kind, at: too_late.issued_at }));
    }
}

#[test]
fn an_eu_certificate_ends_with_its_signers() {
    let dir = tempfile::tempdir().unwrap();
    let (kind, certified_until) = (CertificateKind::EuDcc, at("2027-01-01T00:00:00Z"));
    let (not_before, not_after) = (at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"));
    let key = NewKey { kind, name: "a", not_before, not_after, certified_until, country: "IN", issuer: "M" };
    key_files::make(dir.path(), &key).unwrap();
    let keys = key_files::load(dir.path()).unwrap();
    let text = issue(kind, &claims(), &keys).unwrap().text;
    assert_eq!(verify(text.as_bytes(), keys.public(), &(), issued_at()).unwrap().expires_at, Some(certified_until));
    assert!(keys.active(kind, certified_until).is_none(), "and signs no longer");
}

#[test]
fn what_a_format_cannot_say_is_told_by_its_name() {
    let keys = keys();
    let told = |kind, change: fn(&mut Claims)| {
        let mut claims = claims();
        change(&mut claims);
        issue(kind, &claims, &keys).unwrap_err().to_string()
    };
    let (w3c, eu, card) = (CertificateKind::W3c, CertificateKind::EuDcc, CertificateKind::SmartHealthCard);
    for kind in CertificateKind::ALL {
        assert_eq!(told(kind, |claims| claims.doses.clear()), format!("{kind} needs a dose, which is missing"));
        assert_eq!(
            told(kind, |claims| claims.holder.name = " ".to_owned()),
            format!("{kind} needs the holder's name, which is missing")
        );
        assert_eq!(
            told(kind, |claims| claims.doses[1].facility.name.push('\n')),
            format!("{kind} has no place for control characters")
        );
        assert!(
            told(kind, |claims| claims.expires_at = claims.issued_at)
                .ends_with("an end that is not after the beginning")
        );
        assert!(told(kind, |claims| claims.issuer.uri.push('"')).ends_with("such an address of the issuer"));
    }
    assert_eq!(
        told(w3c, |claims| claims.doses[1].product.manufacturer = None),
        "w3c needs the product's manufacturer, which is missing"
    );
    assert_eq!(told(eu, |claims| claims.disease.code = None), "eu_dcc needs the disease's code, which is missing");
    assert_eq!(told(eu, |claims| claims.doses[1].number = 10), "eu_dcc has no place for a dose beyond the ninth");
    assert_eq!(
        told(eu, |claims| claims.holder.name = "17".to_owned()),
        "eu_dcc has no place for a name without a letter"
    );
    assert!(told(card, |claims| claims.doses[0].product.codes.cvx = None).contains("codes.cvx"));
    let long = told(card, |claims| {
        claims.holder.name = (0..900_u32).map(|n| char::from_u32(0x4e00 + n * 7).unwrap()).collect()
    });
    assert!(long.starts_with("smart_health_card has room for 1195 characters, and this one has "), "{long}");
}

#[test]
fn earlier_doses_travel_along_while_there_is_room() {
    let keys = keys();
    let count = |doses: usize| {
        let mut claims = claims();
        claims.doses = (0..doses)
            .map(|at| {
                let mut dose = dose(u8::try_from(at % 9).unwrap() + 1);
                dose.facility.name = format!("Centre {at} {}", at * 7919 * 104_729);
                dose
            })
            .collect();
        let text = issue(CertificateKind::SmartHealthCard, &claims, &keys).unwrap().text;
        let jws = shc::jws(&text).unwrap();
        assert!(jws.len() <= 1195);
        let packed =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, jws.split('.').nth(1).unwrap());
        String::from_utf8(inflate::raw(&packed.unwrap()).unwrap()).unwrap().matches("Immunization").count()
    };
    assert_eq!((count(1), count(2), count(3)), (1, 2, 3));
    let most = count(30);
    assert!((4..30).contains(&most), "{most}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    // rule: CRT-4
    #[test]
    fn no_bytes_break_the_reader(kind in 0_usize..6, tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let heads: [&[u8]; 6] = [b"", b"HC1:", b"shc:/", b"{\"proof\":", b"PK\x03\x04", b"eyJ"];
        let bytes = [heads[kind], &tail].concat();
        prop_assert!(verify(&bytes, &PublicKeys::default(), &(), issued_at()).is_err());
    }

    // rule: CRT-1
    #[test]
    fn any_claims_that_are_issued_verify(
        name in "\\PC{1,60}", centre in "\\PC{0,40}", batch in "\\PC{0,12}", year in 1880_i16..2026, document in proptest::option::of("\\PC{0,30}"),
    ) {
        thread_local!(static KEYS: KeyRing = keys());
        let mut claims = claims();
        claims.holder.name = name;
        claims.holder.born = Born::Year(year);
        claims.holder.document = document;
        claims.doses[1].facility.name = centre;
        claims.doses[1].batch = Some(batch);
        KEYS.with(|keys| {
            for kind in CertificateKind::ALL {
                match issue(kind, &claims, keys) {
                    Ok(issued) => {
                        let verified = verify(&issued.qr_payload(), keys.public(), &(), issued_at());
                        prop_assert_eq!(verified.map(|verified| verified.name), Ok(claims.holder.name.clone()));
                    }
                    Err(IssueError::Unfit { .. } | IssueError::Missing { .. }) => {}
                    Err(error) => prop_assert!(false, "{}", error),
                }
            }
            Ok(())
        })?;
    }
}
