//! Taking a line apart, field by field, and noting every fault with its place.

use jiff::civil::{Date, Time};

use super::node::Node;
use crate::faults::Faults;
use crate::names::{NAME_RULE, PHONE_RULE, URL_RULE, is_name, is_phone_line, is_web_address};

/// Fields of one object. Pools are the most there can rightly be; looking for repeats is quadratic.
const FIELDS_MAX: usize = 256;

/// Where faults of one line go.
pub(super) struct LineFaults<'a> {
    pub(super) line: u32,
    pub(super) faults: &'a mut Faults,
}

impl LineFaults<'_> {
    pub(super) fn push(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.faults.push(self.line, field, reason);
    }
}

/// An object whose fields are taken one by one; what is left at the end was unknown.
pub(super) struct Fields {
    path: String,
    entries: Vec<(String, Node)>,
}

impl Fields {
    /// Notes a fault and returns `None` if `node` is no object. Repeated keys are faults too; the first wins.
    pub(super) fn new(path: String, node: Node, at: &mut LineFaults<'_>) -> Option<Fields> {
        let Node::Object(entries) = node else {
            at.push(path, format!("must be an object, is {}", node.kind()));
            return None;
        };
        if entries.len() > FIELDS_MAX {
            at.push(path, format!("has {} fields, more than {FIELDS_MAX}", entries.len()));
            return None;
        }
        let mut fields = Fields { path, entries: Vec::with_capacity(entries.len()) };
        for (key, value) in entries {
            if fields.entries.iter().any(|(k, _)| *k == key) {
                at.push(fields.place(&key), "stands twice");
            } else {
                fields.entries.push((key, value));
            }
        }
        Some(fields)
    }

    /// `windows[0].start`, as faults name it. Bounded, because the key is the sender's.
    pub(super) fn place(&self, key: &str) -> String {
        let key: String = key.chars().take(80).collect();
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// A field that must be there.
    pub(super) fn take(&mut self, key: &str, at: &mut LineFaults<'_>) -> Option<Node> {
        let node = self.take_optional(key);
        if node.is_none() {
            at.push(self.place(key), "is missing");
        }
        node
    }

    /// A field that may be absent; `null` is as good as absent.
    pub(super) fn take_optional(&mut self, key: &str) -> Option<Node> {
        let index = self.entries.iter().position(|(k, _)| k == key)?;
        let (_, node) = self.entries.swap_remove(index);
        (node != Node::Null).then_some(node)
    }

    /// Whether there is such a field, and not `null`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(k, node)| k == key && *node != Node::Null)
    }

    /// A string that must be there.
    pub(super) fn take_text(&mut self, key: &str, at: &mut LineFaults<'_>) -> Option<String> {
        let node = self.take(key, at)?;
        self.text(key, node, at)
    }

    /// A string that may be absent.
    pub(super) fn take_optional_text(&mut self, key: &str, at: &mut LineFaults<'_>) -> Option<String> {
        let node = self.take_optional(key)?;
        self.text(key, node, at)
    }

    /// A name of ours (see [`is_name`]).
    pub(super) fn take_name(&mut self, key: &str, at: &mut LineFaults<'_>) -> Option<String> {
        let text = self.take_text(key, at)?;
        self.checked(key, text, is_name, NAME_RULE, at)
    }

    /// Text for people: 1 to 200 characters.
    pub(super) fn take_title(&mut self, key: &str, at: &mut LineFaults<'_>) -> Option<String> {
        let text = self.take_text(key, at)?;
        self.checked(key, text, is_title, TITLE_RULE, at)
    }

    /// The same, but may be absent.
    pub(super) fn take_optional_title(&mut self, key: &str, at: &mut LineFaults<'_>) -> Option<String> {
        let text = self.take_optional_text(key, at)?;
        self.checked(key, text, is_title, TITLE_RULE, at)
    }

    /// A telephone number as people dial it, that may be absent.
    pub(super) fn take_optional_phone(&mut self, key: &str, at: &mut LineFaults<'_>) -> Option<String> {
        let text = self.take_optional_text(key, at)?;
        self.checked(key, text, is_phone_line, PHONE_RULE, at)
    }

    /// The address of a page, that may be absent.
    pub(super) fn take_optional_url(&mut self, key: &str, at: &mut LineFaults<'_>) -> Option<String> {
        let text = self.take_optional_text(key, at)?;
        self.checked(key, text, is_web_address, URL_RULE, at)
    }

    /// `2026-11-24`, and nothing that merely contains a date.
    pub(super) fn take_date(&mut self, key: &str, at: &mut LineFaults<'_>) -> Option<Date> {
        let text = self.take_text(key, at)?;
        let date = (text.len() == 10).then(|| text.parse::<Date>().ok()).flatten();
        if date.is_none() {
            at.push(self.place(key), "must be a date as 2026-11-24");
        }
        date
    }

    /// `09:00`.
    pub(super) fn take_time(&mut self, key: &str, at: &mut LineFaults<'_>) -> Option<Time> {
        let text = self.take_text(key, at)?;
        // Of five characters, jiff would also take `T0900`.
        let shaped = text.len() == 5 && text.as_bytes().get(2) == Some(&b':');
        let time = shaped.then(|| text.parse::<Time>().ok()).flatten();
        if time.is_none() {
            at.push(self.place(key), "must be a time of day as 09:00");
        }
        time
    }

    /// A number of degrees from `-most` to `most` that may be absent.
    pub(super) fn take_optional_degrees(&mut self, key: &str, most: u32, at: &mut LineFaults<'_>) -> Option<f64> {
        let degrees = match self.take_optional(key)? {
            Node::Integer(whole) => i32::try_from(whole).ok().map(f64::from),
            Node::OtherNumber(degrees) => Some(degrees),
            other => {
                at.push(self.place(key), format!("must be a number of degrees, is {}", other.kind()));
                return None;
            }
        };
        let degrees = degrees.filter(|degrees| degrees.abs() <= f64::from(most));
        if degrees.is_none() {
            at.push(self.place(key), format!("must be from -{most} to {most}"));
        }
        degrees
    }

    /// A whole number from 0 to `most` that may be absent.
    pub(super) fn take_optional_whole(&mut self, key: &str, most: u64, at: &mut LineFaults<'_>) -> Option<u64> {
        let node = self.take_optional(key)?;
        let number = match node {
            Node::Integer(number) => u64::try_from(number).ok().filter(|&number| number <= most),
            _ => None,
        };
        if number.is_none() {
            at.push(self.place(key), format!("must be a whole number from 0 to {most}"));
        }
        number
    }

    /// Every field with its place and key, for an object whose keys are the sender's to choose.
    pub(super) fn into_entries(self) -> Vec<(String, String, Node)> {
        let places: Vec<_> = self.entries.iter().map(|(key, _)| self.place(key)).collect();
        places.into_iter().zip(self.entries).map(|(place, (key, node))| (place, key, node)).collect()
    }

    /// Notes every field that nobody took.
    pub(super) fn finish(self, at: &mut LineFaults<'_>) {
        for (key, _) in &self.entries {
            at.push(self.place(key), "is not a field of this kind of line");
        }
    }

    fn text(&self, key: &str, node: Node, at: &mut LineFaults<'_>) -> Option<String> {
        match node {
            Node::Text(text) => Some(text),
            other => {
                at.push(self.place(key), format!("must be a string, is {}", other.kind()));
                None
            }
        }
    }

    fn checked(
        &self,
        key: &str,
        text: String,
        good: fn(&str) -> bool,
        rule: &str,
        at: &mut LineFaults<'_>,
    ) -> Option<String> {
        if good(&text) {
            return Some(text);
        }
        at.push(self.place(key), rule);
        None
    }
}

const TITLE_RULE: &str = "must be 1 to 200 characters, none of them a control character";

fn is_title(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control)
}
