//! The directory that an issuer's keys lie in: `keys.toml` says which there are and when each signs, the rest are PEM files.
//!
//! ```toml
//! [[keys]]
//! kind = "eu_dcc"
//! file = "eu_dcc-2026.pem"               # PKCS#8; or a PUBLIC KEY of one that signs no more
//! certificate = "eu_dcc-2026.crt"        # X.509 of the signer, of EU keys alone
//! not_before = 2026-11-27T00:00:00Z      # signs from then on ...
//! not_after = 2028-11-27T00:00:00Z       # ... until then; absent: until a newer one begins, or its certificate ends
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde::Deserialize;

use super::der::{self, Subject};
use super::{CertificateKind, KeyRing, PublicKey, SigningKey};

/// The file that names all others.
pub const INDEX: &str = "keys.toml";
/// A key or a certificate is shorter.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why keys cannot be had, with the file and what is wrong with it. Nothing of a key is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct KeyFileError {
    path: PathBuf,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    #[serde(default)]
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    kind: CertificateKind,
    file: String,
    certificate: Option<String>,
    not_before: Option<toml::value::Datetime>,
    not_after: Option<toml::value::Datetime>,
}

/// Reads the keys of a directory.
///
/// # Errors
/// A file is not there, is no key, fits no other, or a private key can be read by everybody.
// rule: CRT-5
pub fn load(dir: &Path) -> Result<KeyRing, KeyFileError> {
    let index = dir.join(INDEX);
    let text = String::from_utf8(read(&index)?).map_err(|_| fault(&index, "is no text"))?;
    let Index { keys } = toml::from_str(&text)
        .map_err(|error| fault(&index, &crate::file::toml_fault(&text, error.message(), error.span())))?;
    let mut ring = KeyRing::new();
    for (at, entry) in keys.iter().enumerate() {
        let fault_of = |why: &str| fault(&index, &format!("keys[{at}]: {why}"));
        let file = |name: &str| {
            let plain = crate::names::is_name(name) && !name.starts_with('.');
            if plain { Ok(dir.join(name)) } else { Err(fault_of(&format!("{name:?} is no name of a file beside it"))) }
        };
        let time = |name: &str, time: Option<toml::value::Datetime>| match time {
            None => Ok(None),
            Some(time) => time
                .to_string()
                .parse::<Timestamp>()
                .map(Some)
                .map_err(|_| fault_of(&format!("{name} must be an instant as 2026-11-27T00:00:00Z"))),
        };
        let (not_before, not_after) = (time("not_before", entry.not_before)?, time("not_after", entry.not_after)?);
        let certificate = match &entry.certificate {
            Some(name) => {
                let path = file(name)?;
                Some(der_of(&read(&path)?, "CERTIFICATE").ok_or_else(|| fault(&path, "is no X.509 certificate"))?)
            }
            None => None,
        };
        let path = file(&entry.file)?;
        let bytes = read(&path)?;
        if let Some(public) = pem(&bytes, "PUBLIC KEY") {
            let key = public_key(entry.kind, &public).and_then(|key| PublicKey::new(entry.kind, &key, certificate));
            ring.add_retired(
                key.ok_or_else(|| fault(&path, "is no public key of its kind, or of another certificate"))?,
            );
            continue;
        }
        let pkcs8 =
            der_of(&bytes, "PRIVATE KEY").ok_or_else(|| fault(&path, "is no key: neither PKCS#8 nor a PUBLIC KEY"))?;
        secret(&path)?;
        let not_before = not_before.unwrap_or(Timestamp::UNIX_EPOCH);
        let key = SigningKey::new(entry.kind, &pkcs8, certificate, not_before, not_after);
        ring.add(key.map_err(|why| fault(&path, why))?);
    }
    Ok(ring)
}

/// A key to be made.
pub struct NewKey<'a> {
    /// For which certificates.
    pub kind: CertificateKind,
    /// What its files are called, before the dot.
    pub name: &'a str,
    /// From when on it signs.
    pub not_before: Timestamp,
    /// Until when it signs.
    pub not_after: Timestamp,
    /// Until when its certificate is good: as long as what it signs last.
    pub certified_until: Timestamp,
    /// The country of the issuer.
    pub country: &'a str,
    /// The issuer.
    pub issuer: &'a str,
}

/// Makes a key in the directory, which is made if there is none, and writes it into `keys.toml`. For EU certificates with a certificate that
/// is signed by the key itself: a country's own authority (CSCA) signs one in its place.
///
/// # Errors
/// A file is there already, or cannot be written.
pub fn make(dir: &Path, new: &NewKey) -> Result<PublicKey, KeyFileError> {
    if !crate::names::is_name(new.name) || new.name.starts_with('.') {
        return Err(fault(dir, &format!("a key's name {}, is {:?}", crate::names::NAME_RULE, new.name)));
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| fault(dir, &error.to_string()))?;
    let unable = || fault(dir, "the system gives no random bytes");
    let random = SystemRandom::new();
    let pkcs8 = match new.kind {
        CertificateKind::W3c => Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| unable())?,
        _ => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(|_| unable())?,
    };
    let pkcs8 = pkcs8.as_ref();
    let (key_file, certificate_file) = (format!("{}.pem", new.name), format!("{}.crt", new.name));
    let mut entry = format!("\n[[keys]]\nkind = \"{}\"\nfile = \"{key_file}\"\n", new.kind);
    let mut certificate = None;
    if new.kind == CertificateKind::EuDcc {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).map_err(|_| unable())?;
        let subject = Subject { country: new.country, organisation: new.issuer, name: new.name };
        let point = pair.public_key().as_ref();
        let made = der::self_signed(pkcs8, point, &subject, new.not_before, new.certified_until).ok_or_else(unable)?;
        entry.push_str(&format!("certificate = \"{certificate_file}\"\n"));
        certificate = Some(made);
    }
    entry.push_str(&format!("not_before = {}\nnot_after = {}\n", whole(new.not_before), whole(new.not_after)));
    let key = SigningKey::new(new.kind, pkcs8, certificate.clone(), new.not_before, Some(new.not_after));
    let public = key.map_err(|why| fault(dir, why))?.public().clone();

    // The index last: what it names is there.
    write_new(&dir.join(key_file), &to_pem("PRIVATE KEY", pkcs8), 0o600)?;
    if let Some(certificate) = certificate {
        write_new(&dir.join(certificate_file), &to_pem("CERTIFICATE", &certificate), 0o644)?;
    }
    let index = dir.join(INDEX);
    let before = match fs::read_to_string(&index) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "# The keys that certificates are signed with. docs/certificates.md tells of them.\n".to_owned()
        }
        Err(error) => return Err(fault(&index, &error.to_string())),
    };
    let making = dir.join("keys.toml.making");
    let _ = fs::remove_file(&making);
    write_new(&making, &format!("{before}{entry}"), 0o644)?;
    fs::rename(&making, &index).map_err(|error| fault(&index, &error.to_string()))?;
    Ok(public)
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The key's bytes of an SPKI.
fn public_key(kind: CertificateKind, spki: &[u8]) -> Option<Vec<u8>> {
    /// SPKI of an Ed25519 key, before its 32 bytes (RFC 8410).
    const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    match kind {
        CertificateKind::W3c => spki.strip_prefix(ED25519).map(<[u8]>::to_vec),
        _ => der::public_key(spki),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error: io::Error| fault(path, &error.to_string()))
}

fn secret(path: &Path) -> Result<(), KeyFileError> {
    let mode = fs::metadata(path).map_err(|error| fault(path, &error.to_string()))?.mode() & 0o777;
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(fault(path, &format!("can be read by everybody (mode {mode:03o}): chmod 600")))
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), KeyFileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| fault(path, &error.to_string()))
}

fn fault(path: &Path, why: &str) -> KeyFileError {
    KeyFileError { path: path.to_owned(), why: why.to_owned() }
}

/// DER as it is, or out of PEM.
fn der_of(bytes: &[u8], label: &str) -> Option<Vec<u8>> {
    if bytes.first() == Some(&0x30) { Some(bytes.to_vec()) } else { pem(bytes, label) }
}

/// What the first block of this label holds.
fn pem(bytes: &[u8], label: &str) -> Option<Vec<u8>> {
    let text = str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (block, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(block.split_ascii_whitespace().collect::<String>()).ok()
}

fn to_pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn new<'a>(kind: CertificateKind, name: &'a str, from: &str) -> NewKey<'a> {
        let time = |text: &str| text.parse().unwrap();
        let (not_before, end) = (time(from), time("2030-01-01T00:00:00Z"));
        NewKey { kind, name, not_before, not_after: end, certified_until: end, country: "FR", issuer: "I" }
    }

    #[test]
    fn keys_that_are_made_are_read_and_the_newest_signs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        for (at, kind) in CertificateKind::ALL.into_iter().enumerate() {
            let name = format!("{kind}-{at}");
            let made = make(&path, &new(kind, &name, "2026-01-01T00:00:00Z")).unwrap();
            let ring = load(&path).unwrap();
            let at = |text: &str| ring.active(kind, text.parse().unwrap()).map(|key| key.public().clone());
            assert_eq!(at("2025-12-31T23:59:59Z"), None);
            assert_eq!(at("2026-01-01T00:00:00Z"), Some(made.clone()));
            assert_eq!(at("2030-01-01T00:00:00Z"), None);

            let newer = make(&path, &new(kind, &format!("{name}-b"), "2027-01-01T00:00:00Z")).unwrap();
            let ring = load(&path).unwrap();
            let at = |text: &str| ring.active(kind, text.parse().unwrap()).map(|key| key.public().clone());
            assert_eq!(at("2026-12-31T23:59:59Z"), Some(made.clone()));
            assert_eq!(at("2027-01-01T00:00:00Z"), Some(newer));
            assert!(ring.public().get(kind, &made.key_id).is_some());
            assert!(make(&path, &new(kind, &name, "2028-01-01T00:00:00Z")).is_err(), "no key is written over");
        }
        let list = load(&path).unwrap();
        assert_eq!(list.public().iter().count(), 6);
        assert_eq!(super::super::PublicKeys::from_jwks(&list.public().to_jwks()).as_ref(), Ok(list.public()));
    }

    // rule: CRT-5
    #[test]
    fn a_key_that_everybody_reads_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), &new(CertificateKind::W3c, "a", "2026-01-01T00:00:00Z")).unwrap();
        let file = dir.path().join("a.pem");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            load(dir.path())
                .unwrap_err()
                .to_string()
                .ends_with("a.pem: can be read by everybody (mode 644): chmod 600")
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(load(dir.path()).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let told = |index: &str| {
            fs::write(dir.path().join(INDEX), index).unwrap();
            let told = load(dir.path()).unwrap_err().to_string();
            told.replace(&format!("{}/", dir.path().display()), "")
        };
        make(dir.path(), &new(CertificateKind::W3c, "a", "2026-01-01T00:00:00Z")).unwrap();
        make(dir.path(), &new(CertificateKind::EuDcc, "b", "2026-01-01T00:00:00Z")).unwrap();
        make(dir.path(), &new(CertificateKind::EuDcc, "c", "2026-01-01T00:00:00Z")).unwrap();
        fs::write(dir.path().join("d.pem"), "nothing").unwrap();
        for (index, why) in [
            ("keys = 3", "keys.toml: line 1, column 8: invalid type: integer `3`, expected a sequence"),
            (
                "[[keys]]\nkind = \"w3c\"\nfile = \"../a.pem\"",
                "keys.toml: keys[0]: \"../a.pem\" is no name of a file beside it",
            ),
            ("[[keys]]\nkind = \"w3c\"\nfile = \"x.pem\"", "x.pem: No such file or directory (os error 2)"),
            ("[[keys]]\nkind = \"w3c\"\nfile = \"d.pem\"", "d.pem: is no key: neither PKCS#8 nor a PUBLIC KEY"),
            ("[[keys]]\nkind = \"w3c\"\nfile = \"b.pem\"", "b.pem: is no Ed25519 key"),
            ("[[keys]]\nkind = \"eu_dcc\"\nfile = \"a.pem\"\ncertificate = \"b.crt\"", "a.pem: is no P-256 key"),
            ("[[keys]]\nkind = \"eu_dcc\"\nfile = \"b.pem\"", "b.pem: needs the signer's certificate"),
            (
                "[[keys]]\nkind = \"eu_dcc\"\nfile = \"b.pem\"\ncertificate = \"c.crt\"",
                "b.pem: its certificate is of another key",
            ),
            (
                "[[keys]]\nkind = \"eu_dcc\"\nfile = \"b.pem\"\ncertificate = \"d.pem\"",
                "d.pem: is no X.509 certificate",
            ),
            (
                "[[keys]]\nkind = \"w3c\"\nfile = \"a.pem\"\nnot_before = 2026-01-01",
                "keys.toml: keys[0]: not_before must be an instant as 2026-11-27T00:00:00Z",
            ),
        ] {
            assert_eq!(told(index), why);
        }
    }
}
