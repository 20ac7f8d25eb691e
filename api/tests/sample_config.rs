//! The sample configuration at the root names the fields there are, all of them usable as they stand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

fn check(text: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("berth.toml");
    std::fs::write(&file, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_berth"))
        .args(["check", "--config"])
        .arg(file)
        .current_dir(root())
        .output()
        .unwrap()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn every_line_of_the_sample_configuration_is_understood() {
    let sample = std::fs::read_to_string(root().join("berth.toml")).unwrap();
    let as_it_stands = check(&sample);
    assert_eq!(as_it_stands.status.code(), Some(2), "the keys are the operator's to make");
    assert!(String::from_utf8_lossy(&as_it_stands.stderr).contains("sha256"));

    // The files that it names are the operator's to make.
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "a secret\n").unwrap();
    let keys = tempfile::NamedTempFile::new().unwrap();
    let jwks = tempfile::NamedTempFile::new().unwrap();
    let key = r#"{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    std::fs::write(jwks.path(), format!("{{\"keys\":[{key}]}}")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let (cert, cert_key) = (home.path().join("berth.pem"), home.path().join("berth.key"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=berth", "-x509", "-days", "2", "-keyout"]);
    let made = openssl.arg(&cert_key).arg("-out").arg(&cert).output().expect("openssl is on the path");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificates = tempfile::tempdir().unwrap();
    std::fs::write(certificates.path().join("keys.toml"), "").unwrap();
    let mut hash = 0u8;
    let whole: String = sample
        .lines()
        .map(|line| {
            let field = line.strip_prefix("# ").filter(|rest| rest.starts_with('[') || rest.contains(" = "));
            let line = field.unwrap_or(line);
            if line.starts_with("sha256") {
                hash += 1;
                return format!("sha256 = \"{}\"\n", format!("{hash:02x}").repeat(32));
            }
            match line.split_once("_file = ") {
                Some(("keys", _)) => format!("keys_file = {:?}\n", keys.path()),
                Some(("jwks", _)) => format!("jwks_file = {:?}\n", jwks.path()),
                // Made at the start; and codes go to one place.
                Some(("master_key", _)) => format!("master_key_file = {:?}\n", home.path().join("people.key")),
                Some(("revocations" | "codes", _)) => String::new(),
                Some(("cert", _)) => format!("cert_file = {cert:?}\n"),
                Some(("key", _)) => format!("key_file = {cert_key:?}\n"),
                Some((field, _)) => format!("{field}_file = {:?}\n", secret.path()),
                None if line.starts_with("keys_dir") => format!("keys_dir = {:?}\n", certificates.path()),
                None => format!("{line}\n"),
            }
        })
        .collect();
    assert!(whole.contains("\nsegment_mib = 64") && whole.contains("\n[redis]\nurl = "), "{whole}");
    let checked = check(&whole);
    assert!(checked.status.success(), "{}{whole}", String::from_utf8_lossy(&checked.stderr));
    // What is no fault, but leaves others without an address, is said.
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    for warning in ["warning: public_url: is not set", "warning: fhir.phone", "warning: fhir.booking_link"] {
        assert!(told.contains(warning), "{warning} in {told}");
    }
    let loopback = check(&whole.replace("public_url = \"\"", "public_url = \"http://127.0.0.1:8080\""));
    assert!(String::from_utf8_lossy(&loopback.stderr).contains("means another machine to everybody"), "{loopback:?}");
    let unknown = check(&whole.replace("segment_mib", "segment_kib"));
    assert_eq!(unknown.status.code(), Some(2));
}
