//! Keys as such: how one is made, and what is kept of it.

use sha2::{Digest, Sha256};

use super::Role;

/// SHA-256 of a key. The key itself is kept nowhere.
///
/// A plain hash is enough: keys are random and 256 bits long, so there is nothing to guess that a slow hash would
/// protect, and every request pays for it.
pub(crate) type KeyHash = [u8; 32];

/// What is kept of a key.
pub(crate) fn hash(key: &str) -> KeyHash {
    Sha256::digest(key.as_bytes()).into()
}

/// The same time for every pair.
pub(super) fn same(a: &KeyHash, b: &KeyHash) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    difference == 0
}

/// 64 hex digits.
pub(crate) fn parse_hash(hex: &str) -> Option<KeyHash> {
    if hex.len() != 64 {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?;
    }
    Some(hash)
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A fresh key: 256 random bits, printable, harmless in a shell, and found by who scans for leaked secrets.
pub(crate) fn new_key(role: Role) -> Result<String, getrandom::Error> {
    let mut random = [0u8; 32];
    getrandom::fill(&mut random)?;
    Ok(format!("berth_{role}_{}", hex(&random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_64_hex_digits() {
        let digits = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(parse_hash(digits), Some(hash("a")));
        assert_eq!(parse_hash(&digits.to_uppercase()), Some(hash("a")));
        assert_eq!(hex(&hash("a")), digits);
        assert_eq!((parse_hash(&digits[1..]), parse_hash(&digits.replace('c', "g"))), (None, None));
    }

    #[test]
    fn a_new_key_has_256_bits_and_is_no_other() {
        let (one, two) = (new_key(Role::Operator).unwrap(), new_key(Role::Operator).unwrap());
        assert_ne!(one, two);
        let digits = one.strip_prefix("berth_operator_").unwrap();
        assert!(parse_hash(digits).is_some_and(|bits| bits.iter().any(|b| *b != 0)), "{digits}");
    }
}
