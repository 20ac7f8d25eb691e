//! The keys that sign: which of a kind does at a time, and all that verify.

use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

use super::der;
use super::{CertificateKind, PublicKey, PublicKeys};

/// A key that signs certificates of one kind, for a time. Its private part is shown to nobody.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
    not_before: Timestamp,
    not_after: Option<Timestamp>,
    /// Until when the signer's certificate is good, of a key for EU certificates.
    certified_until: Option<Timestamp>,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// A key from its PKCS#8 bytes. EU certificates need the signer's X.509 certificate.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(
        kind: CertificateKind,
        pkcs8: &[u8],
        certificate: Option<Vec<u8>>,
        not_before: Timestamp,
        not_after: Option<Timestamp>,
    ) -> Result<SigningKey, &'static str> {
        let (pair, bytes) = match kind {
            CertificateKind::W3c => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| "is no Ed25519 key")?;
                let bytes = pair.public_key().as_ref().to_vec();
                (Pair::Ed25519(pair), bytes)
            }
            CertificateKind::EuDcc | CertificateKind::SmartHealthCard => {
                let random = SystemRandom::new();
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
                    .map_err(|_| "is no P-256 key")?;
                let bytes = pair.public_key().as_ref().to_vec();
                (Pair::P256(pair), bytes)
            }
        };
        let certified_until = match (kind, &certificate) {
            (CertificateKind::EuDcc, None) => return Err("needs the signer's certificate"),
            (CertificateKind::EuDcc, Some(der)) => {
                Some(der::read(der).ok_or("its certificate is none of a P-256 key")?)
            }
            _ => None,
        };
        let public = PublicKey::new(kind, &bytes, certificate).ok_or("its certificate is of another key")?;
        let certified_until = certified_until.map(|certificate| certificate.not_after);
        Ok(SigningKey { pair, public, not_before, not_after, certified_until })
    }

    /// What certificates call it, and what verifies them.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// From when on it signs.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// From when on it signs no more: what was said, or the end of its certificate, whichever is first.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.not_after.into_iter().chain(self.certified_until).min()
    }

    #[must_use]
    pub fn certified_until(&self) -> Option<Timestamp> {
        self.certified_until
    }

    fn signs_at(&self, at: Timestamp) -> bool {
        self.not_before <= at && self.not_after().is_none_or(|end| at < end)
    }

    /// The signature; `None` if the system gives no random bytes.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Pair::P256(pair) => Some(pair.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec()),
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({} {})", self.public.kind, self.public.key_id)
    }
}

/// All keys of an issuer.
#[derive(Debug, Default)]
pub struct KeyRing {
    signing: Vec<SigningKey>,
    public: PublicKeys,
}

impl KeyRing {
    /// A ring with none.
    #[must_use]
    pub fn new() -> KeyRing {
        KeyRing::default()
    }

    /// Puts a key in that signs and verifies.
    pub fn add(&mut self, key: SigningKey) {
        self.public.add(key.public.clone());
        self.signing.push(key);
    }

    /// Puts a key in that verifies what it signed before.
    pub fn add_retired(&mut self, key: PublicKey) {
        self.public.add(key);
    }

    /// The key that signs this kind at that time: of those that do, the one that began last. So a new one takes over at its
    /// `not_before`, and what others signed verifies on.
    #[must_use]
    // rule: CRT-3
    pub fn active(&self, kind: CertificateKind, at: Timestamp) -> Option<&SigningKey> {
        let signing = self.signing.iter().filter(|key| key.public.kind == kind && key.signs_at(at));
        signing.max_by_key(|key| key.not_before)
    }

    /// Those that sign, now or at another time.
    #[must_use]
    pub fn signing(&self) -> &[SigningKey] {
        &self.signing
    }

    /// All that verify: those that sign and those that did.
    #[must_use]
    pub fn public(&self) -> &PublicKeys {
        &self.public
    }
}
