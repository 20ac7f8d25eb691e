//! Names as a passport's machine readable zone spells them: capital letters of ICAO 9303, `<` between words.
//!
//! Latin letters go by ICAO's own table where it has two letters for one. Other scripts go by `deunicode`, which knows each letter but no
//! language: a Devanagari or Cyrillic name comes out readable, and not always as its bearer's passport has it.

/// As many as an EU certificate has room for.
const LEN_MAX: usize = 80;

/// ICAO 9303 part 3, section 6: what is not simply the letter without its accent.
fn of_icao(letter: char) -> Option<&'static str> {
    Some(match letter {
        'ä' | 'Ä' | 'æ' | 'Æ' => "AE",
        'ö' | 'Ö' | 'ø' | 'Ø' | 'œ' | 'Œ' => "OE",
        'ü' | 'Ü' => "UE",
        'å' | 'Å' => "AA",
        'ß' | 'ẞ' => "SS",
        'þ' | 'Þ' => "TH",
        'ĳ' | 'Ĳ' => "IJ",
        'đ' | 'Đ' | 'ð' | 'Ð' => "D",
        'ł' | 'Ł' => "L",
        'ŋ' | 'Ŋ' => "N",
        'ı' | 'İ' => "I",
        _ => return None,
    })
}

/// A name as the machine readable zone has it; at most 80 characters. What is no letter in any script falls out.
pub(super) fn machine_readable(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let part = |text: &str, out: &mut String| {
        for c in text.chars() {
            match c.to_ascii_uppercase() {
                letter @ 'A'..='Z' => out.push(letter),
                ' ' | '-' | ',' | '<' if !out.is_empty() && !out.ends_with('<') => out.push('<'),
                // An apostrophe joins what is on both sides of it, and so does whatever else is no letter.
                _ => {}
            }
        }
    };
    for c in name.chars() {
        match of_icao(c) {
            Some(letters) => part(letters, &mut out),
            None if c.is_whitespace() => part(" ", &mut out),
            None if c.is_ascii() => part(c.encode_utf8(&mut [0; 4]), &mut out),
            None => part(deunicode::deunicode_char(c).unwrap_or_default(), &mut out),
        }
    }
    out.truncate(LEN_MAX);
    out.truncate(out.trim_end_matches('<').len());
    out
}

#[cfg(test)]
mod tests {
    use super::machine_readable;

    #[test]
    fn names_are_spelled_as_in_a_passport() {
        for (name, spelled) in [
            ("Musterfrau-Gößinger", "MUSTERFRAU<GOESSINGER"),
            ("d'Arsøns - van Halen", "DARSOENS<VAN<HALEN"),
            ("François Joan", "FRANCOIS<JOAN"),
            ("Åsa  Þór", "AASA<THOR"),
            ("Łukasz Đorđević", "LUKASZ<DORDEVIC"),
            ("  -x-  ", "X"),
            ("José 3rd", "JOSE<RD"),
            ("भारत", "BHAART"),
            ("Ваня", "VANIA"),
            ("123", ""),
        ] {
            assert_eq!(machine_readable(name), spelled, "{name}");
        }
        assert_eq!(machine_readable(&"ab ".repeat(50)).len(), 80, "and no more");
        assert!(!machine_readable(&format!("{} b", "a".repeat(79))).ends_with('<'));
    }
}
