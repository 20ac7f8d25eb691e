//! The alphabet of names that publishers give: regions, centres, sessions, products, pools.

/// The longest name.
pub(crate) const NAME_LEN_MAX: usize = 64;

/// What a name looks like, for the reason of a fault.
pub(crate) const NAME_RULE: &str = "must be 1 to 64 of A-Z a-z 0-9 . _ -";

/// Whether `text` can name a region, centre, session, product or pool.
///
/// None of these characters needs escaping in a URL, in JSON or in a shell.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether `text` can be a postal code: of any country, but harmless in a URL.
#[must_use]
pub fn is_pincode(text: &str) -> bool {
    (3..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn a_name_is_1_to_64_harmless_characters() {
        for good in ["395", "c395-01", "c395-01-2026-11-24", "A.b_C-9", &"x".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", " ", "a b", "a/b", "ä", "a\n", "%41", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
