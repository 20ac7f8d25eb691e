//! Every fault of a programme file's shape, each by its key: what is no key, what is of another type, what is missing.
//!
//! The reader stops at the first one. So what it stops at is noted and taken out, what is missing is filled in, and the rest is read
//! again, until nothing is left to note. Nobody sees what was read that way.

use std::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::{KeyFault, ProgrammeFile, line_and_column};

/// Who has more of them writes another kind of file.
const FAULTS_MAX: usize = 100;
const READS_MAX: usize = 6 * FAULTS_MAX;

/// What follows from one place to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    At(usize),
}

/// A fault, and where in the text it is.
struct Found {
    path: Vec<Step>,
    at: usize,
    reason: String,
}

/// The faults of a text that is TOML, and not of the shape of a programme, in the order of their places.
pub(super) fn faults(text: &str, mut table: Spanned<DeTable<'_>>) -> Vec<KeyFault> {
    let mut found: Vec<Found> = Vec::new();
    let mut filled: Vec<(Vec<Step>, usize)> = Vec::new();
    for _ in 0..READS_MAX {
        let Err(error) = ProgrammeFile::deserialize(Deserializer::from(table.clone())) else { break };
        let message = error.message().trim().replace('\n', ", ");
        let span = error.span().unwrap_or(0..text.len());
        let mut path = Vec::new();
        if span != table.span() && !find(table.get_ref(), &span, &mut path) {
            found.push(Found { path, at: span.start, reason: message });
            break;
        }
        if let Some(name) = named(&message, "missing field `") {
            path.push(Step::Key(name.to_owned()));
            // What was taken out because it is wrong is not missing, too, nor is anything in it.
            if !found.iter().any(|fault| path.starts_with(&fault.path)) {
                found.push(Found { path: path.clone(), at: span.start, reason: "is missing".to_owned() });
            }
            if !fill(&mut table, &path, 0) {
                break;
            }
            filled.push((path, 0));
        } else if let Some(name) = named(&message, "duplicate field `") {
            // Under another name it stays.
            path.push(Step::Key(name.to_owned()));
            let reason = "stands twice, here and under another name".to_owned();
            take_out(&mut table, &path);
            found.push(Found { path, at: span.start, reason });
        } else if let Some((_, kind)) = filled.iter_mut().find(|(filled, _)| *filled == path) {
            // The filling was of another type than what belongs there.
            *kind += 1;
            if !fill(&mut table, &path, *kind) {
                break;
            }
        } else {
            found.push(Found { path: path.clone(), at: span.start, reason: message });
            match path.split_last() {
                None => break,
                Some((Step::Key(_), _)) => take_out(&mut table, &path),
                // Its neighbours keep their places.
                Some((Step::At(_), _)) => {
                    fill(&mut table, &path, 0);
                    filled.push((path, 0));
                }
            }
        }
        if found.len() >= FAULTS_MAX {
            break;
        }
    }
    found.sort_by_key(|fault| fault.at);
    let told = |Found { path, at, reason }| KeyFault {
        key: shown(&path),
        reason: format!("{reason} ({})", line_and_column(text, at)),
    };
    found.into_iter().map(told).collect()
}

/// What a message of this beginning names.
fn named<'m>(message: &'m str, beginning: &str) -> Option<&'m str> {
    message.strip_prefix(beginning)?.split_once('`').map(|(name, _)| name)
}

fn take_out(table: &mut Spanned<DeTable<'_>>, path: &[Step]) {
    if let Some((Step::Key(key), above)) = path.split_last()
        && let Some(above) = table_at(table, above)
    {
        above.remove(key.as_str());
    }
}

/// `products[1].doses`
fn shown(path: &[Step]) -> String {
    path.iter().fold(String::new(), |text, step| match step {
        Step::At(at) => format!("{text}[{at}]"),
        Step::Key(key) if text.is_empty() => key.clone(),
        Step::Key(key) => format!("{text}.{key}"),
    })
}

/// Looks for the key or the value that stands there in the text.
fn find(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<Step>) -> bool {
    table.iter().any(|(key, value)| {
        path.push(Step::Key(key.get_ref().clone().into_owned()));
        let here = key.span() == *span || find_value(value, span, path);
        if !here {
            path.pop();
        }
        here
    })
}

fn find_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut Vec<Step>) -> bool {
    match value.get_ref() {
        // Its first element before itself: of `[[pools]]` both stand at the same place.
        DeValue::Array(array) => {
            let element = array.iter().enumerate().any(|(at, value)| {
                path.push(Step::At(at));
                let here = find_value(value, span, path);
                if !here {
                    path.pop();
                }
                here
            });
            element || value.span() == *span
        }
        DeValue::Table(table) => value.span() == *span || find(table, span, path),
        _ => value.span() == *span,
    }
}

fn value_at<'t, 'i>(table: &'t mut DeTable<'i>, path: &[Step]) -> Option<&'t mut Spanned<DeValue<'i>>> {
    let (first, rest) = path.split_first()?;
    let Step::Key(key) = first else { return None };
    rest.iter().try_fold(table.get_mut(key.as_str())?, |value, step| match (value.get_mut(), step) {
        (DeValue::Table(table), Step::Key(key)) => table.get_mut(key.as_str()),
        (DeValue::Array(array), Step::At(at)) => array.get_mut(*at),
        _ => None,
    })
}

fn table_at<'t, 'i>(table: &'t mut Spanned<DeTable<'i>>, path: &[Step]) -> Option<&'t mut DeTable<'i>> {
    if path.is_empty() {
        return Some(table.get_mut());
    }
    match value_at(table.get_mut(), path)?.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// Puts something of the next type there. False if there is no further type, or no such place.
fn fill(table: &mut Spanned<DeTable<'_>>, path: &[Step], kind: usize) -> bool {
    let value = match kind {
        0 => DeValue::String("".into()),
        1 => DeValue::Integer(toml::de::DeInteger::default()),
        2 => DeValue::Array(DeArray::new()),
        3 => match "2000-01-01".parse() {
            Ok(date) => DeValue::Datetime(date),
            Err(_) => return false,
        },
        4 => DeValue::Boolean(false),
        5 => DeValue::Table(DeTable::new()),
        _ => return false,
    };
    // A place that no text has, and that is no other filling's.
    let start = usize::MAX - path_number(path) % (usize::MAX / 2);
    let value = Spanned::new(start..start, value);
    match path.split_last() {
        Some((Step::Key(key), above)) => {
            let Some(above) = table_at(table, above) else { return false };
            above.insert(Spanned::new(start..start, key.clone().into()), value);
            true
        }
        _ => value_at(table.get_mut(), path).map(|place| *place = value).is_some(),
    }
}

fn path_number(path: &[Step]) -> usize {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = std::hash::DefaultHasher::new();
    shown(path).hash(&mut hasher);
    usize::try_from(hasher.finish() >> 1).unwrap_or(0)
}
