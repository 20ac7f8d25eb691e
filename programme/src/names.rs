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

/// What a telephone number of a place looks like, for the reason of a fault.
pub const PHONE_RULE: &str = "must be 3 to 40 of 0-9 + ( ) . - , # and blanks, with at least three digits";

/// Whether `text` can be the telephone number of a place: as people write and dial it.
#[must_use]
pub fn is_phone_line(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_digit() || b"+().-,# ".contains(&b);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (3..=40).contains(&text.len()) && digits >= 3 && text.bytes().all(fits) && text.trim() == text
}

/// What the address of a page looks like, for the reason of a fault.
pub const URL_RULE: &str = "must be an address as https://example.org/centre, of at most 300 visible ASCII characters";

/// Whether `text` can be the address of a page.
#[must_use]
pub fn is_web_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    text.len() <= 300
        && host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::{is_name, is_phone_line, is_web_address};

    #[test]
    fn a_phone_and_an_address_are_what_people_dial_and_open() {
        for good in ["1075", "+91 22 2301 0000", "(022) 2301-0000, #12"] {
            assert!(is_phone_line(good), "{good}");
        }
        for bad in ["", "12", "+ - +", "call us", " 1075", "1075\n"] {
            assert!(!is_phone_line(bad), "{bad:?}");
        }
        for good in ["https://example.org", "http://a.example/x?y=1#z"] {
            assert!(is_web_address(good), "{good}");
        }
        for bad in [
            "",
            "example.org",
            "ftp://example.org",
            "https://",
            "https:///x",
            "https://me@example.org",
            "https://a b",
            "https://a/{x}",
        ] {
            assert!(!is_web_address(bad), "{bad:?}");
        }
    }

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
