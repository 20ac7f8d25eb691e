//! What a certificate is known by: in each format, in a list of revocations, and to who asks for it.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

/// Characters of an id at most: as many as a SMART Health Card's revocation id may have.
const ID_LEN_MAX: usize = 24;
/// Without I, L, O and U, which are misread.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The id of a certificate: 1 to 24 of A-Z 0-9, which is what an EU certificate's identifier, a SMART Health Card's revocation id and a URL
/// all take as it is. It says nothing of the person.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertificateId(String);

/// A text is no [`CertificateId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no certificate id: 1 to 24 of A-Z 0-9")]
pub struct IdError;

impl CertificateId {
    /// The id that these bytes are: 20 characters, five bits each. Twelve random bytes are never drawn twice.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 12]) -> CertificateId {
        let mut wide = [0; 16];
        wide[4..].copy_from_slice(&bytes);
        let number = u128::from_be_bytes(wide);
        let character = |at: u32| char::from(ALPHABET[usize::from((number >> (5 * at)).to_le_bytes()[0] & 31)]);
        CertificateId((0..20).rev().map(character).collect())
    }

    /// A new one that nobody can guess.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn random() -> std::io::Result<CertificateId> {
        let mut bytes = [0; 12];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(CertificateId::from_bytes(bytes))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertificateId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<CertificateId, IdError> {
        let good = (1..=ID_LEN_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if good { Ok(CertificateId(text.to_owned())) } else { Err(IdError) }
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which certificates hold no more.
pub trait Revocations {
    /// Whether this one was revoked.
    fn is_revoked(&self, id: &CertificateId) -> bool;
}

impl<S: std::hash::BuildHasher> Revocations for HashSet<CertificateId, S> {
    fn is_revoked(&self, id: &CertificateId) -> bool {
        self.contains(id)
    }
}

/// No list is at hand.
impl Revocations for () {
    fn is_revoked(&self, _: &CertificateId) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_every_format_takes() {
        for good in ["A", "0", "00000000000000000000", &"Z".repeat(24)] {
            assert_eq!(good.parse::<CertificateId>().unwrap().as_str(), good);
        }
        for bad in ["", "a", "A-B", "A/B", "Ä", " A", &"Z".repeat(25)] {
            assert_eq!(bad.parse::<CertificateId>(), Err(IdError), "{bad:?}");
        }
    }

    #[test]
    fn other_bytes_are_another_id() {
        assert_eq!(CertificateId::from_bytes([0; 12]).as_str(), "0".repeat(20));
        assert_eq!(CertificateId::from_bytes([255; 12]).as_str(), format!("1{}", "Z".repeat(19)));
        let mut seen = HashSet::new();
        for at in 0..96 {
            let mut bytes = [0; 12];
            bytes[at / 8] = 1 << (at % 8);
            let id = CertificateId::from_bytes(bytes);
            assert_eq!(id.as_str().parse::<CertificateId>().as_ref(), Ok(&id));
            assert!(seen.insert(id));
        }
        assert_ne!(CertificateId::random().unwrap(), CertificateId::random().unwrap());
    }
}
