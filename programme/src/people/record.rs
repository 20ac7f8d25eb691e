//! What is kept of a person, and what it must be like. Shown to nobody by accident: none of this prints itself.

use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::file::KeyFault;
use crate::in_force::InForce;
use crate::names::is_name;

const NAME_CHARS_MAX: usize = 200;
const YEAR_MIN: i16 = 1880;
const DOCUMENT_CHARS_MAX: usize = 64;
const TAG_CHARS_MAX: usize = 35;
/// E.164: country code and number together.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// A person, as registered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// What people call them.
    #[serde(rename = "n")]
    pub name: String,
    /// When they were born.
    #[serde(rename = "b")]
    pub born: Born,
    /// As the programme names it.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub sex: Option<String>,
    /// A number of their own, if the account's is another's.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Phone>,
    /// What shows who they are.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Document>,
    /// In which language they are written to, as `hi`.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Where they live, by the id of a region.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// A day or a year of birth: many people know no day.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Born {
    /// The year alone.
    Year(i16),
    /// The day.
    Day(Date),
}

/// An identity document.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Which kind, as the programme names it.
    #[serde(rename = "k")]
    pub kind: String,
    /// Its number, letters and digits alone: one number has one spelling.
    #[serde(rename = "n")]
    pub number: String,
}

/// A phone number as E.164 spells it, `+` and digits.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Phone(String);

/// What is said of a person in a registration or a correction; nothing of it is checked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// See [`Person`].
    pub name: Option<String>,
    /// `YYYY-MM-DD`, or the year alone.
    pub born: Option<String>,
    /// See [`Person`].
    pub sex: Option<String>,
    /// As dialled; with or without the country's code.
    pub phone: Option<String>,
    /// Kind and number, as written on it.
    pub document: Option<(String, String)>,
    /// See [`Person`].
    pub language: Option<String>,
    /// See [`Person`].
    pub region: Option<String>,
    /// Fields that are to be taken off, by their names.
    pub gone: Vec<&'static str>,
}

macro_rules! silent {
    ($($name:ident)*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        })*
    };
}

silent!(Person Born Document Phone Said);

impl Born {
    /// From `YYYY-MM-DD` or `YYYY`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Born> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let born = match text.len() {
            4 if plain => Born::Year(text.parse().ok()?),
            10 if plain => Born::Day(text.parse().ok()?),
            _ => return None,
        };
        (born.year() >= YEAR_MIN).then_some(born)
    }

    /// The year.
    #[must_use]
    pub fn year(self) -> i16 {
        match self {
            Born::Year(year) => year,
            Born::Day(date) => date.year(),
        }
    }

    /// The year as the engine's facts have it.
    #[must_use]
    pub fn facts_year(self) -> u16 {
        u16::try_from(self.year()).unwrap_or(0)
    }

    /// Whether that is over by `today`.
    pub(crate) fn is_past(self, today: Date) -> bool {
        match self {
            Born::Year(year) => year <= today.year(),
            Born::Day(date) => date <= today,
        }
    }
}

impl From<Born> for String {
    fn from(born: Born) -> String {
        match born {
            Born::Year(year) => format!("{year:04}"),
            Born::Day(date) => date.to_string(),
        }
    }
}

impl TryFrom<String> for Born {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Born, &'static str> {
        Born::parse(&text).ok_or("is no day or year of birth")
    }
}

impl Phone {
    /// A number as people dial it. Blanks, dashes, dots and brackets are passed over; `00` is `+`; without either it is one of the country
    /// of this code, whose leading zeros are for calls within it.
    #[must_use]
    pub fn parse(text: &str, country_code: Option<&str>) -> Option<Phone> {
        let mut digits = String::with_capacity(16);
        let mut plus = false;
        // As printed: the zero in brackets is for calls within the country.
        for c in text.trim().replace("(0)", "").chars() {
            match c {
                '0'..='9' => digits.push(c),
                '+' if digits.is_empty() && !plus => plus = true,
                ' ' | '-' | '.' | '(' | ')' | '/' | '\u{a0}' => {}
                _ => return None,
            }
        }
        if !plus && let Some(rest) = digits.strip_prefix("00") {
            digits = rest.to_owned();
        } else if !plus {
            digits = format!("{}{}", country_code?, digits.trim_start_matches('0'));
        }
        if let Some(rest) = country_code.and_then(|code| digits.strip_prefix(code)) {
            digits = format!("{}{}", country_code.unwrap_or_default(), rest.trim_start_matches('0'));
        }
        (PHONE_DIGITS.contains(&digits.len()) && !digits.starts_with('0')).then(|| Phone(format!("+{digits}")))
    }

    /// `+` and digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// With all but its last three digits hidden.
    #[must_use]
    pub fn masked(&self) -> String {
        hidden(&self.0, 3)
    }
}

impl Document {
    /// A document as it is written; `None` if its number is none.
    #[must_use]
    pub fn new(kind: &str, number: &str) -> Option<Document> {
        let number: String = number
            .chars()
            .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '.' | '/'))
            .flat_map(char::to_uppercase)
            .collect();
        let good =
            (1..=DOCUMENT_CHARS_MAX).contains(&number.chars().count()) && number.chars().all(char::is_alphanumeric);
        (good && is_name(kind)).then(|| Document { kind: kind.to_owned(), number })
    }

    /// Its number with all but the last four characters hidden.
    #[must_use]
    pub fn masked(&self) -> String {
        hidden(&self.number, 4)
    }
}

/// All but the last characters as `x`; of a short text nothing is left.
fn hidden(text: &str, last: usize) -> String {
    let count = text.chars().count();
    let shown = if count > 2 * last { last } else { 0 };
    text.chars().enumerate().map(|(i, c)| if i + shown < count { 'x' } else { c }).collect()
}

impl Person {
    /// Whether certificates say the same of both.
    pub(super) fn is_certified_as(&self, other: &Person) -> bool {
        let Person { name, born, sex, phone: _, document, language: _, region } = self;
        (name, born, sex, document, region) == (&other.name, &other.born, &other.sex, &other.document, &other.region)
    }

    /// A name by the first letter of each word.
    #[must_use]
    pub fn masked_name(&self) -> String {
        let words = self.name.split_whitespace().filter_map(|word| word.chars().next());
        words.map(|first| format!("{first}***")).collect::<Vec<_>>().join(" ")
    }
}

/// What a check of what was said goes by.
#[derive(Clone, Debug)]
pub struct RecordRules {
    /// The code of the country, digits alone, for numbers that are said without one.
    pub country_code: Option<String>,
    /// What sex may be; empty: any name.
    pub sexes: Vec<String>,
    /// Which documents are taken, and what their numbers look like; without it, or where it names none: any.
    pub programme: Option<Arc<InForce>>,
    /// Whether nobody is registered without one.
    pub document_needed: bool,
}

impl RecordRules {
    /// A person from what was said.
    ///
    /// # Errors
    /// Every fault by its field, and nothing of what was said in it.
    pub fn person(&self, said: Said, today: Date) -> Result<Person, Vec<KeyFault>> {
        self.changed(None, said, today)
    }

    /// The person once what was said is put in the place of what was there. What is not said stays; what is to be taken off goes.
    ///
    /// # Errors
    /// As [`RecordRules::person`].
    pub fn changed(&self, before: Option<&Person>, said: Said, today: Date) -> Result<Person, Vec<KeyFault>> {
        let mut faults = Vec::new();
        let is_gone = |field: &str| said.gone.contains(&field);
        for field in ["name", "born"] {
            if before.is_some() && is_gone(field) {
                faults.push(KeyFault { key: field.to_owned(), reason: "cannot be taken off".to_owned() });
            }
        }
        let document_gone = is_gone("document");
        let left = before.map(|person| Person {
            sex: person.sex.clone().filter(|_| !is_gone("sex")),
            phone: person.phone.clone().filter(|_| !is_gone("phone")),
            document: person.document.clone().filter(|_| !document_gone),
            language: person.language.clone().filter(|_| !is_gone("language")),
            region: person.region.clone().filter(|_| !is_gone("region")),
            ..person.clone()
        });
        let before = left.as_ref();
        let mut fault = |key: &str, reason: String| faults.push(KeyFault { key: key.to_owned(), reason });
        let name = match said.name {
            Some(name) => {
                let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
                if !(1..=NAME_CHARS_MAX).contains(&name.chars().count()) || name.chars().any(char::is_control) {
                    fault("name", format!("must be 1 to {NAME_CHARS_MAX} characters"));
                }
                Some(name)
            }
            None => before.map(|person| person.name.clone()),
        };
        let born = match said.born {
            Some(text) => {
                let born = Born::parse(&text).filter(|born| born.is_past(today));
                if born.is_none() {
                    fault("born", format!("must be YYYY-MM-DD or YYYY, from {YEAR_MIN} to today"));
                }
                born
            }
            None => before.map(|person| person.born),
        };
        for (key, missing) in [("name", name.is_none()), ("born", born.is_none() && !faults_of(&faults, "born"))] {
            if missing {
                faults.push(KeyFault { key: key.to_owned(), reason: "is missing".to_owned() });
            }
        }
        let mut fault = |key: &str, reason: String| faults.push(KeyFault { key: key.to_owned(), reason });
        let sex = match said.sex {
            Some(sex) => {
                if !is_name(&sex) || !self.sexes.is_empty() && !self.sexes.contains(&sex) {
                    fault("sex", one_of(&self.sexes));
                }
                Some(sex)
            }
            None => before.and_then(|person| person.sex.clone()),
        };
        let phone = match said.phone {
            Some(text) => {
                let phone = self.phone(&text);
                if phone.is_none() {
                    fault("phone", PHONE_RULE.to_owned());
                }
                phone
            }
            None => before.and_then(|person| person.phone.clone()),
        };
        let document = match said.document {
            Some((kind, number)) => {
                let document = self.document(&kind, &number);
                if let Err((key, reason)) = &document {
                    fault(key, reason.clone());
                }
                document.ok()
            }
            None => before.and_then(|person| person.document.clone()),
        };
        if self.document_needed
            && document.is_none()
            && (before.is_none() || document_gone)
            && !faults_of(&faults, "document")
        {
            faults.push(KeyFault { key: "document".to_owned(), reason: "is missing".to_owned() });
        }
        let mut fault = |key: &str, reason: String| faults.push(KeyFault { key: key.to_owned(), reason });
        if said.language.as_ref().is_some_and(|tag| !is_tag(tag)) {
            fault("language", "must be a language tag as hi or pt-BR".to_owned());
        }
        if said.region.as_ref().is_some_and(|region| !is_name(region)) {
            fault("region", "must be the id of a region".to_owned());
        }
        let language = said.language.or_else(|| before.and_then(|person| person.language.clone()));
        let region = said.region.or_else(|| before.and_then(|person| person.region.clone()));
        match (name, born) {
            (Some(name), Some(born)) if faults.is_empty() => {
                Ok(Person { name, born, sex, phone, document, language, region })
            }
            _ => Err(faults),
        }
    }

    /// A document as it is written, of a kind and with a number as the programme has them; or the field at fault, and why.
    fn document(&self, kind: &str, number: &str) -> Result<Document, (&'static str, String)> {
        let now = self.programme.as_ref().map(|programme| programme.get());
        let known = now.as_ref().filter(|programme| !programme.file().documents.is_empty());
        let Some(programme) = known else {
            if !is_name(kind) {
                return Err(("document.kind", crate::names::NAME_RULE.to_owned()));
            }
            let fault = || ("document.number", format!("must be 1 to {DOCUMENT_CHARS_MAX} letters and digits"));
            return Document::new(kind, number).ok_or_else(fault);
        };
        let Some(document) = programme.file().documents.iter().find(|document| document.id == kind) else {
            let kinds: Vec<String> = programme.file().documents.iter().map(|document| document.id.clone()).collect();
            return Err(("document.kind", one_of(&kinds)));
        };
        let number = programme.document_number(kind, number).and_then(|number| Document::new(kind, &number));
        number.ok_or_else(|| {
            let example = document.example.as_ref().map_or_else(String::new, |example| format!(", as {example}"));
            ("document.number", format!("is not what a number of this document looks like{example}"))
        })
    }

    /// A phone number as people say it.
    #[must_use]
    pub fn phone(&self, text: &str) -> Option<Phone> {
        Phone::parse(text, self.country_code.as_deref())
    }
}

/// What a phone number must be like, for the reason of a fault.
pub const PHONE_RULE: &str = "must be a phone number with its country's code, as +91 98765 43210";

fn faults_of(faults: &[KeyFault], key: &str) -> bool {
    faults.iter().any(|fault| fault.key.starts_with(key))
}

fn one_of(names: &[String]) -> String {
    if names.is_empty() { crate::names::NAME_RULE.to_owned() } else { format!("must be one of {}", names.join(", ")) }
}

fn is_tag(text: &str) -> bool {
    (2..=TAG_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: Date = jiff::civil::date(2026, 11, 26);

    fn india() -> crate::Programme {
        crate::Programme::from_toml(include_str!("../../../programmes/india-2021.toml")).unwrap()
    }

    fn rules() -> RecordRules {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        RecordRules {
            country_code: Some("91".to_owned()),
            sexes: names(&["f", "m", "x"]),
            programme: Some(Arc::new(InForce::new(india()))),
            document_needed: true,
        }
    }

    #[test]
    fn a_phone_number_has_one_spelling() {
        let spelled = |text: &str, code| Phone::parse(text, code).map(|phone| phone.as_str().to_owned());
        assert_eq!(spelled("+44 (0)7700 900123", None), spelled("+447700900123", None));
        for text in [
            "+91 98765-43210",
            "+91 098765 43210",
            "+91 (0)98765 43210",
            "0091 9876543210",
            "098765 43210",
            "(98765) 43210",
            " 98765.43210 ",
        ] {
            assert_eq!(spelled(text, Some("91")).as_deref(), Some("+919876543210"), "{text}");
        }
        for bad in ["", "+", "12", "98765432x0", "9+1987654321", "+0987654321", &"1".repeat(20)] {
            assert_eq!(spelled(bad, None), None, "{bad}");
        }
        assert_eq!(spelled("9876543210", None), None, "of which country?");
        assert_eq!(Phone::parse("+919876543210", None).unwrap().masked(), "xxxxxxxxxx210");
    }

    #[test]
    fn a_document_has_one_spelling_and_hides_its_number() {
        let one = Document::new("passport", "ab 12-34/5z").unwrap();
        assert_eq!(one, Document::new("passport", "AB12345Z").unwrap());
        assert_eq!((one.number.as_str(), one.masked().as_str()), ("AB12345Z", "xxxxxxxx"));
        assert_eq!(Document::new("p", "AB12345ZX").unwrap().masked(), "xxxxx45ZX");
        for bad in ["", " - ", "a_b", &"1".repeat(65)] {
            assert_eq!(Document::new("passport", bad), None, "{bad}");
        }
    }

    #[test]
    fn every_fault_is_named_by_its_field_and_repeats_nothing_of_what_was_said() {
        let said = Said {
            name: Some("  ".to_owned()),
            born: Some("2027-01-01".to_owned()),
            sex: Some("secret".to_owned()),
            phone: Some("secret".to_owned()),
            document: Some(("secret".to_owned(), "secret_".to_owned())),
            language: Some("sec ret".to_owned()),
            region: Some("sec ret".to_owned()),
            gone: Vec::new(),
        };
        let faults = rules().person(said, TODAY).unwrap_err();
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["name", "born", "sex", "phone", "document.kind", "language", "region"]);
        assert!(!format!("{faults:?}").contains("sec"), "{faults:?}");
        let faults = rules().person(Said::default(), TODAY).unwrap_err();
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["name", "born", "document"]);
    }

    #[test]
    fn a_correction_changes_what_it_says_and_a_person_prints_nothing() {
        let said = |name: &str| Said { name: Some(name.to_owned()), ..Said::default() };
        let document = Some(("passport".to_owned(), "z 000-0001".to_owned()));
        let first = Said { born: Some("1975".to_owned()), document, ..said(" Asha  Rao ") };
        let person = rules().person(first, TODAY).unwrap();
        assert_eq!((person.name.as_str(), person.born.facts_year()), ("Asha Rao", 1975));
        let changed = rules().changed(Some(&person), said("Asha Iyer"), TODAY).unwrap();
        assert_eq!(changed, Person { name: "Asha Iyer".to_owned(), ..person.clone() });
        assert_eq!((person.masked_name().as_str(), format!("{person:?}").as_str()), ("A*** R***", "Person(..)"));
        let json = serde_json::to_string(&person).unwrap();
        assert_eq!(serde_json::from_str::<Person>(&json).unwrap(), person);
        assert_eq!(person.document.as_ref().unwrap().number, "Z0000001");
        let other = Said { document: Some(("passport".to_owned(), "1234".to_owned())), ..Said::default() };
        let faults = rules().changed(Some(&person), other, TODAY).unwrap_err();
        assert!(faults[0].reason.ends_with("as A0000000") && !faults[0].reason.contains("1234"), "{faults:?}");
        let day = Said { born: Some("1975-02-29".to_owned()), ..Said::default() };
        assert!(rules().changed(Some(&person), day, TODAY).is_err(), "there is no such day");
    }
}
