//! Names in eight bytes: parties, slots, keys and booking codes of a run of millions, as the auditor holds them.
//!
//! Nearly every name is a prefix and a number (`p1.17`, `s1.42`, `surge-1a2b3c4d-99`) or a booking code
//! (`XXXX-XXXXX-XXXXX`), and both fit into the eight bytes themselves: no table, no allocation, and two names are compared as numbers.
//! The few prefixes stand in one list of this process; whatever is neither stands in a table, once.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU64;
use std::ops::Deref;
use std::sync::{OnceLock, PoisonError, RwLock};

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A text that may be many: equal exactly when the texts are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(NonZeroU64);

/// The two highest bits say what the others are.
const CLASS_SHIFT: u32 = 62;
/// 14 bits of prefix, 48 bits of number.
const NUMBERED: u64 = 1;
/// 1 bit of cell, 6 of check symbol, 55 of number.
const CODE: u64 = 2;
/// A place in the table.
const TEXT: u64 = 3;

const NUMBER_BITS: u32 = 48;
/// As many digits always fit.
const DIGITS_MAX: usize = 14;
const CODE_BITS: u32 = 55;
const CODE_BYTES: usize = 16;
/// Of a booking code's symbols; the check symbol may be one of all.
const SYMBOLS: &[u8; 37] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U";

/// What numbers stand behind. Filled from the front and never changed, so it is read without a lock.
static PREFIXES: [OnceLock<Box<str>>; 256] = [const { OnceLock::new() }; 256];
/// The first two symbols of booking codes.
static CELLS: [OnceLock<[u8; 2]>; 2] = [const { OnceLock::new() }; 2];
static TEXTS: RwLock<Texts> = RwLock::new(Texts { places: None, texts: Vec::new() });

struct Texts {
    places: Option<HashMap<&'static str, u64>>,
    texts: Vec<&'static str>,
}

impl Name {
    pub(crate) fn new(text: &str) -> Self {
        let (class, rest) = coded(text.as_bytes())
            .map(|rest| (CODE, rest))
            .or_else(|| numbered(text).map(|rest| (NUMBERED, rest)))
            .unwrap_or_else(|| (TEXT, placed(text)));
        // No class is 0, so neither is the whole.
        Self(NonZeroU64::new(class << CLASS_SHIFT | rest).unwrap_or(NonZeroU64::MIN))
    }

    /// The eight bytes.
    pub(crate) fn bits(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.0.get() & ((1 << CLASS_SHIFT) - 1);
        match self.0.get() >> CLASS_SHIFT {
            CODE => f.write_str(&code_text(rest)),
            NUMBERED => {
                let prefix = PREFIXES.get(index(rest >> NUMBER_BITS)).and_then(OnceLock::get);
                write!(f, "{}{}", prefix.map_or("", |prefix| prefix), rest & ((1 << NUMBER_BITS) - 1))
            }
            _ => {
                let texts = TEXTS.read().unwrap_or_else(PoisonError::into_inner);
                f.write_str(texts.texts.get(index(rest)).copied().unwrap_or(""))
            }
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
                Ok(Name::new(text))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A booking code as a number, if it is one to the letter.
fn coded(text: &[u8]) -> Option<u64> {
    let text: &[u8; CODE_BYTES] = text.try_into().ok()?;
    if text[4] != b'-' || text[10] != b'-' {
        return None;
    }
    let cell = CELLS.iter().position(|cell| *cell.get_or_init(|| [text[0], text[1]]) == text[..2])?;
    let symbols = text[2..4].iter().chain(&text[5..10]).chain(&text[11..15]);
    let mut number = 0;
    for symbol in symbols {
        number = number << 5 | symbol_value(*symbol).filter(|value| *value < 32)?;
    }
    let check = symbol_value(text[15])?;
    Some(u64::try_from(cell).ok()? << 61 | check << CODE_BITS | number)
}

fn symbol_value(symbol: u8) -> Option<u64> {
    SYMBOLS.iter().position(|other| *other == symbol).and_then(|value| u64::try_from(value).ok())
}

fn code_text(rest: u64) -> String {
    let cell = CELLS.get(index(rest >> 61)).and_then(OnceLock::get).copied().unwrap_or_default();
    let mut text = String::with_capacity(CODE_BYTES);
    text.extend(cell.map(char::from));
    for place in 0..11_u32 {
        if place == 2 || place == 7 {
            text.push('-');
        }
        text.push(char::from(SYMBOLS[index(rest >> (5 * (10 - place)) & 31)]));
    }
    text.push(char::from(SYMBOLS[index(rest >> CODE_BITS & 63)]));
    text
}

/// A prefix and the digits behind it, which stand for themselves: no zero before them, and not too many.
fn numbered(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let digits = bytes.iter().rev().take(DIGITS_MAX).take_while(|byte| byte.is_ascii_digit()).count();
    let mut from = bytes.len() - digits;
    while from + 1 < bytes.len() && bytes[from] == b'0' {
        from += 1;
    }
    let number: u64 = text[from..].parse().ok()?;
    let prefix = &text[..from];
    let place = PREFIXES.iter().position(|known| **known.get_or_init(|| prefix.into()) == *prefix)?;
    Some(u64::try_from(place).ok()? << NUMBER_BITS | number)
}

fn placed(text: &str) -> u64 {
    let known = |texts: &Texts| texts.places.as_ref().and_then(|places| places.get(text).copied());
    if let Some(place) = known(&TEXTS.read().unwrap_or_else(PoisonError::into_inner)) {
        return place;
    }
    let mut texts = TEXTS.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = known(&texts) {
        return place;
    }
    let kept: &'static str = Box::leak(text.into());
    let place = u64::try_from(texts.texts.len()).unwrap_or(0);
    texts.texts.push(kept);
    texts.places.get_or_insert_default().insert(kept, place);
    place
}

#[expect(clippy::cast_possible_truncation, reason = "places in lists of this process")]
const fn index(value: u64) -> usize {
    value as usize
}

/// One of a few words that come again and again: refusal codes, states, kinds of entries. Two bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Word(u16);

static WORDS: [OnceLock<Box<str>>; 1024] = [const { OnceLock::new() }; 1024];

impl Word {
    /// Past a thousand different words all others are one: a server that invents so many says nothing by them.
    pub(crate) fn new(text: &str) -> Self {
        let last = WORDS.len() - 1;
        let place = WORDS[..last].iter().position(|word| **word.get_or_init(|| text.into()) == *text);
        WORDS[last].get_or_init(|| "other".into());
        Self(u16::try_from(place.unwrap_or(last)).unwrap_or(u16::MAX))
    }
}

impl Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        WORDS.get(usize::from(self.0)).and_then(OnceLock::get).map_or("", |word| word)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word::new(text))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A hash for names and small numbers: they come from our own files, so nobody chooses them to collide.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value ^ value >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

/// A map by names.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_to_the_letter() {
        let long = "x".repeat(300) + "7";
        for text in [
            "p1.17",
            "p1.017",
            "p1.0",
            "s1.42",
            "0",
            "00",
            "",
            "surge-1a2b3c4d-99",
            "d001",
            "01VC-W66D6-QAW7T",
            "01VC-W66D6-QAW7*",
            "01vc-W66D6-QAW7T",
            "01VC-W66D6-QAW7",
            "A",
            "k1",
            "99999999999999999999999999",
            "é1",
            "c395-01-2026-11-24",
            &long,
        ] {
            assert_eq!(Name::new(text).to_string(), text);
            assert_eq!(Name::new(text), Name::new(text));
        }
        assert_ne!(Name::new("p1.17"), Name::new("p1.017"));
        assert_ne!(Name::new("01VC-W66D6-QAW7T"), Name::new("01VC-W66D6-QAW7V"));
        assert_eq!((Word::new("full").to_string().as_str(), &*Word::new("")), ("full", ""));
    }

    #[test]
    fn another_cell_and_more_prefixes_than_the_list_has_are_names_all_the_same() {
        for cell in ["02", "03", "04", "05"] {
            let code = format!("{cell}VC-W66D6-QAW7T");
            assert_eq!(Name::new(&code).to_string(), code);
        }
        for prefix in 0..400 {
            let text = format!("prefix{prefix}x1");
            assert_eq!(Name::new(&text).to_string(), text);
        }
    }

    #[test]
    fn usual_names_need_no_table() {
        for text in ["p1.17", "01VC-W66D6-QAW7T"] {
            assert_ne!(Name::new(text).bits() >> CLASS_SHIFT, TEXT, "{text}");
        }
    }
}
