//! Ids as FHIR takes them: 1 to 64 of `A-Z a-z 0-9 - .`, which is less than our names may have.
//!
//! A name of those letters is its own id, unless it begins with a dot. Any other is spelled behind a dot: `.d` for a dot, `.u` for a
//! low line. Where that would be too long there can be no spelling for every name (there are more names than ids), so it is `..n` and
//! the number in the catalogue, which never changes. Codes of bookings and doses are their own ids, but for the check symbol.
//! Every id has one spelling: what reads back as something whose id is another is no id.

use std::sync::Arc;

use berth_engine::BookingNumber;
use berth_programme::{Catalogue, Centre, Session};

use crate::problem::{Code, Problem};
use crate::wire::Names;

/// The longest id.
const ID_LEN_MAX: usize = 64;
const BY_NUMBER: &str = "..n";
/// Check symbols that FHIR does not take, and how they are spelled.
const CHECKS: [(char, &str); 4] = [('*', ".a"), ('~', ".b"), ('$', ".c"), ('=', ".d")];

/// What an id names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    Name(String),
    Number(u32),
}

/// The id of a name, whose number in the catalogue is asked for only where there is no other.
pub(crate) fn of(name: &str, number: impl FnOnce() -> u32) -> String {
    spelled(name).unwrap_or_else(|| format!("{BY_NUMBER}{}", number()))
}

/// The id that says the name; `None` if that is too long.
fn spelled(name: &str) -> Option<String> {
    let id = if name.contains('_') || name.starts_with('.') {
        format!(".{}", name.replace('.', ".d").replace('_', ".u"))
    } else {
        name.to_owned()
    };
    (id.len() <= ID_LEN_MAX).then_some(id)
}

fn parse(id: &str) -> Option<Named> {
    if id.is_empty()
        || id.len() > ID_LEN_MAX
        || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    {
        return None;
    }
    if let Some(digits) = id.strip_prefix(BY_NUMBER) {
        let number: u32 = digits.parse().ok()?;
        return (number.to_string() == digits).then_some(Named::Number(number));
    }
    let Some(escaped) = id.strip_prefix('.') else { return Some(Named::Name(id.to_owned())) };
    let mut name = String::new();
    let mut letters = escaped.chars();
    while let Some(letter) = letters.next() {
        name.push(match letter {
            '.' => match letters.next()? {
                'd' => '.',
                'u' => '_',
                _ => return None,
            },
            letter => letter,
        });
    }
    (spelled(&name).as_deref() == Some(id)).then_some(Named::Name(name))
}

/// The id of a centre.
pub(crate) fn of_centre(catalogue: &Catalogue, id: &str) -> String {
    of(id, || catalogue.centre_number(id).unwrap_or(u32::MAX))
}

/// The id of a session.
pub(crate) fn of_session(catalogue: &Catalogue, id: &str) -> String {
    of(id, || catalogue.session_number(id).unwrap_or(u32::MAX))
}

/// The centre of an id.
pub(crate) fn centre(catalogue: &Catalogue, id: &str) -> Option<Arc<Centre>> {
    match parse(id)? {
        Named::Name(name) => catalogue.centre(&name),
        // Whose name can be said has no other id.
        Named::Number(number) => catalogue.centre_of_number(number).filter(|centre| spelled(&centre.id).is_none()),
    }
}

/// The session of an id.
pub(crate) fn session(catalogue: &Catalogue, id: &str) -> Option<Arc<Session>> {
    match parse(id)? {
        Named::Name(name) => catalogue.session(&name),
        Named::Number(number) => catalogue.session_of_number(number).filter(|session| spelled(&session.id).is_none()),
    }
}

/// The id of a code of ours, whose last symbol is its check.
pub(crate) fn of_code(code: &str) -> String {
    let check = CHECKS.iter().find_map(|(symbol, id)| Some((code.strip_suffix(*symbol)?, id)));
    check.map_or_else(|| code.to_owned(), |(code, id)| format!("{code}{id}"))
}

fn code(id: &str) -> String {
    let check = CHECKS.iter().find_map(|(symbol, spelled)| Some((id.strip_suffix(spelled)?, symbol)));
    check.map_or_else(|| id.to_owned(), |(code, symbol)| format!("{code}{symbol}"))
}

/// The booking of an id.
pub(crate) fn booking(names: &Names<'_>, id: &str) -> Result<BookingNumber, Problem> {
    let booking = names.parse_booking(&code(id))?;
    if of_code(&names.booking(booking)) == id { Ok(booking) } else { Err(malformed(id)) }
}

/// The booking of a dose by its id.
pub(crate) fn dose(names: &Names<'_>, id: &str) -> Result<BookingNumber, Problem> {
    let booking = names.parse_dose(&code(id))?;
    if of_code(&names.dose(booking)) == id { Ok(booking) } else { Err(malformed(id)) }
}

fn malformed(id: &str) -> Problem {
    let shown: String = id.chars().take(80).collect();
    Problem::new(Code::MalformedId, format!("{shown:?} is not an id as an answer gives it"))
}

#[cfg(test)]
mod tests {
    use berth_engine::{BookingCodes, CellId};
    use berth_programme::{Calendar, is_name};
    use proptest::prelude::*;

    use super::*;

    fn is_id(id: &str) -> bool {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
    }

    #[test]
    fn a_name_that_is_an_id_stays_as_it_is() {
        let id = |name: &str| of(name, || 17);
        assert_eq!(id("c395-01-2026-11-24"), "c395-01-2026-11-24");
        assert_eq!(id("phc_12.a"), ".phc.u12.da");
        assert_eq!((id("."), id(".."), id("_")), ("..d".into(), "..d.d".into(), "..u".into()));
        assert_eq!(id(&format!("{}_", "x".repeat(63))), "..n17");
        for none in [
            "",
            "a_b",
            "a b",
            ".x",
            ".",
            "..",
            "..n",
            "..n01",
            "..n+1",
            "..n99999999999",
            ".a.x",
            ".a.",
            &"x".repeat(65),
        ] {
            assert_eq!(parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn every_check_symbol_has_a_spelling() {
        let codes = BookingCodes::new(CellId(1), [7; 16]);
        let calendar = Calendar::utc();
        let names = Names { cell: CellId(1), codes: &codes, calendar: &calendar };
        let mut checks = std::collections::BTreeSet::new();
        for number in (0..400).map(BookingNumber) {
            let (code, dose) = (names.booking(number), names.dose(number));
            checks.extend(code.chars().last());
            let (of_booking, of_dose) = (of_code(&code), of_code(&dose));
            assert!(is_id(&of_booking) && is_id(&of_dose), "{of_booking} {of_dose}");
            assert_eq!(booking(&names, &of_booking).map_err(|p| p.code()), Ok(number));
            assert_eq!(super::dose(&names, &of_dose).map_err(|p| p.code()), Ok(number));
            let other = of_booking.to_lowercase();
            assert!(other == of_booking || booking(&names, &other).is_err(), "{other}: one spelling");
        }
        assert_eq!(checks.len(), 37, "all of them were met: {checks:?}");
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[A-Za-z0-9._-]{1,64}", "[._n0-9]{1,12}", "[a._]{58,64}"]
    }

    proptest! {
        /// Every name has an id of FHIR's letters that leads back to it, and to no other.
        #[test]
        fn names_and_ids_are_one_to_one(one in name(), other in name(), numbers in (any::<u32>(), any::<u32>())) {
            prop_assert!(is_name(&one));
            let (id, other_id) = (of(&one, || numbers.0), of(&other, || numbers.1));
            prop_assert!(is_id(&id), "{}", id);
            match parse(&id) {
                Some(Named::Name(name)) => prop_assert_eq!(&name, &one),
                Some(Named::Number(number)) => {
                    prop_assert_eq!(number, numbers.0);
                    prop_assert!(spelled(&one).is_none());
                }
                None => prop_assert!(false, "{} reads as nothing", id),
            }
            prop_assert_eq!(id == other_id, one == other || (spelled(&one).is_none() && spelled(&other).is_none() && numbers.0 == numbers.1));
        }

        #[test]
        fn what_reads_as_a_name_is_its_id(id in "[A-Za-z0-9._-]{0,70}") {
            if let Some(Named::Name(name)) = parse(&id) {
                prop_assert_eq!(of(&name, || 0), id);
            }
        }
    }
}
