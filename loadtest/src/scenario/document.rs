//! A scenario as it is written: files that include one another, and what the command line sets over them, as one tree in which
//! every value knows its file and line.
//!
//! Tables are joined, key by key; everything else, lists too, is replaced whole by what comes later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeArray, DeTable, DeValue};

/// Where something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The file as it was named, or `--set`.
    pub(crate) origin: String,
    /// From 1; 0 where there are no lines.
    pub(crate) line: usize,
}

impl Place {
    pub(crate) fn words(&self) -> String {
        if self.line == 0 { self.origin.clone() } else { format!("{}:{}", self.origin, self.line) }
    }
}

/// Something wrong, at its place, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wrong {
    pub(crate) place: Place,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

impl Wrong {
    /// As a compiler says it: place, what is wrong, what to do.
    pub(crate) fn words(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
        format!("{}: {}{hint}", self.place.words(), self.what)
    }
}

/// A value and where its key stands.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) place: Place,
    pub(crate) node: Node,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Table(BTreeMap<String, Item>),
    Array(Vec<Item>),
    Value(toml::Value),
}

/// One step of a path: a key, or a place in a list from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// Files may include others this deep.
const DEPTH_MAX: usize = 8;

/// Reads a file and all that it includes. Whatever is wrong is added to `wrong`; what could be read is returned all the same.
pub(crate) fn read(path: &Path, wrong: &mut Vec<Wrong>) -> Item {
    let mut open = Vec::new();
    read_one(path, &Place { origin: path.display().to_string(), line: 0 }, &mut open, wrong)
}

fn read_one(path: &Path, asked_at: &Place, open: &mut Vec<PathBuf>, wrong: &mut Vec<Wrong>) -> Item {
    let origin = path.display().to_string();
    let empty = Item { place: Place { origin: origin.clone(), line: 1 }, node: Node::Table(BTreeMap::new()) };
    let mut refuse = |what: String, hint: &str| {
        wrong.push(Wrong { place: asked_at.clone(), what, hint: Some(hint.to_owned()) });
    };
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if open.contains(&real) || open.len() == DEPTH_MAX {
        refuse(format!("{origin} is included by itself, or too deep"), "take one of the includes out");
        return empty;
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            refuse(
                format!("could not read {origin}: {error}"),
                "an include is looked for beside the file that names it",
            );
            return empty;
        }
    };
    open.push(real);
    let own = parse(&text, &origin, wrong);
    let mut whole = empty;
    for (include, place) in includes(&own, wrong) {
        let included = path.parent().unwrap_or_else(|| Path::new("")).join(include);
        whole.join(read_one(&included, &place, open, wrong));
    }
    whole.join(own);
    open.pop();
    whole.take("include");
    whole
}

/// Reads TOML. Every mistake is noted; what is left of the document is returned.
pub(crate) fn parse(text: &str, origin: &str, wrong: &mut Vec<Wrong>) -> Item {
    let (table, errors) = DeTable::parse_recoverable(text);
    let lines = Lines { text, origin };
    for error in errors {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let place = lines.place(error.span().map_or(0, |span| span.start));
        wrong.push(Wrong { place, what: format!("this is no TOML: {message}"), hint: None });
    }
    Item { place: lines.place(0), node: lines.table(table.get_ref()) }
}

struct Lines<'a> {
    text: &'a str,
    origin: &'a str,
}

impl Lines<'_> {
    fn place(&self, at: usize) -> Place {
        let before = self.text.get(..at).unwrap_or(self.text);
        Place { origin: self.origin.to_owned(), line: before.matches('\n').count() + 1 }
    }

    fn table(&self, table: &DeTable<'_>) -> Node {
        let items = table.iter().map(|(key, value)| {
            let item = Item { place: self.place(key.span().start), node: self.node(value.get_ref()) };
            (key.get_ref().to_string(), item)
        });
        Node::Table(items.collect())
    }

    fn node(&self, value: &DeValue<'_>) -> Node {
        match value {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(array) => Node::Array(self.array(array)),
            DeValue::String(text) => Node::Value(toml::Value::String(text.to_string())),
            DeValue::Boolean(yes) => Node::Value(toml::Value::Boolean(*yes)),
            DeValue::Datetime(time) => Node::Value(toml::Value::Datetime(*time)),
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                Node::Value(parsed.map_or_else(|_| number.as_str().into(), toml::Value::Integer))
            }
            DeValue::Float(number) => {
                let parsed = number.as_str().parse::<f64>();
                Node::Value(parsed.map_or_else(|_| number.as_str().into(), toml::Value::Float))
            }
        }
    }

    fn array(&self, array: &DeArray<'_>) -> Vec<Item> {
        array
            .iter()
            .map(|value| Item { place: self.place(value.span().start), node: self.node(value.get_ref()) })
            .collect()
    }
}

fn includes(own: &Item, wrong: &mut Vec<Wrong>) -> Vec<(PathBuf, Place)> {
    let Some(item) = own.at(&[Step::Key("include".into())]) else { return Vec::new() };
    let mut files = Vec::new();
    let mut all_text = false;
    if let Node::Array(items) = &item.node {
        all_text = true;
        for item in items {
            match &item.node {
                Node::Value(toml::Value::String(file)) => files.push((PathBuf::from(file), item.place.clone())),
                _ => all_text = false,
            }
        }
    }
    if !all_text {
        wrong.push(Wrong {
            place: item.place.clone(),
            what: "include is not a list of files".into(),
            hint: Some("include = [\"parts/town.toml\"]".into()),
        });
    }
    files
}

impl Item {
    /// Puts `later` over this.
    pub(crate) fn join(&mut self, later: Item) {
        match (&mut self.node, later.node) {
            (Node::Table(mine), Node::Table(theirs)) => {
                for (key, item) in theirs {
                    match mine.get_mut(&key) {
                        Some(own) => own.join(item),
                        None => {
                            mine.insert(key, item);
                        }
                    }
                }
            }
            (mine, node) => {
                *mine = node;
                self.place = later.place;
            }
        }
    }

    /// What stands at a path.
    pub(crate) fn at(&self, path: &[Step]) -> Option<&Item> {
        let Some((step, rest)) = path.split_first() else { return Some(self) };
        match (step, &self.node) {
            (Step::Key(key), Node::Table(table)) => table.get(key)?.at(rest),
            (Step::Index(index), Node::Array(array)) => array.get(*index)?.at(rest),
            // A key that is a number, as an age.
            (Step::Index(index), Node::Table(table)) => table.get(&index.to_string())?.at(rest),
            _ => None,
        }
    }

    fn at_mut(&mut self, path: &[Step]) -> Option<&mut Item> {
        let Some((step, rest)) = path.split_first() else { return Some(self) };
        match (step, &mut self.node) {
            (Step::Key(key), Node::Table(table)) => table.get_mut(key)?.at_mut(rest),
            (Step::Index(index), Node::Array(array)) => array.get_mut(*index)?.at_mut(rest),
            _ => None,
        }
    }

    /// Where a path stands, or the nearest above it that is there.
    pub(crate) fn place_of(&self, path: &[Step]) -> Place {
        (0..=path.len())
            .rev()
            .find_map(|len| self.at(&path[..len]))
            .map_or_else(|| self.place.clone(), |item| item.place.clone())
    }

    /// Takes a key out of this table.
    pub(crate) fn take(&mut self, key: &str) -> Option<Item> {
        match &mut self.node {
            Node::Table(table) => table.remove(key),
            _ => None,
        }
    }

    /// Takes out what stands at a path.
    pub(crate) fn remove(&mut self, path: &[Step]) {
        let Some((last, above)) = path.split_last() else { return };
        match (last, self.at_mut(above).map(|item| &mut item.node)) {
            (Step::Key(key), Some(Node::Table(table))) => drop(table.remove(key)),
            (Step::Index(index), Some(Node::Array(array))) if *index < array.len() => drop(array.remove(*index)),
            _ => {}
        }
    }

    /// Puts a value at a path; tables on the way are made, places in a list must be there.
    pub(crate) fn set(&mut self, path: &[Step], value: Item) -> Result<(), String> {
        let Some((step, rest)) = path.split_first() else {
            *self = value;
            return Ok(());
        };
        match (step, &mut self.node) {
            (Step::Key(key), Node::Table(table)) => {
                let fresh = || Item { place: value.place.clone(), node: Node::Table(BTreeMap::new()) };
                table.entry(key.clone()).or_insert_with(fresh).set(rest, value)
            }
            (Step::Index(index), Node::Array(array)) => {
                let count = array.len();
                let item = array.get_mut(*index).ok_or(format!("there is no item {index} in a list of {count}"))?;
                item.set(rest, value)
            }
            (Step::Key(key), _) => Err(format!("what stands above `{key}` is no table")),
            (Step::Index(index), _) => Err(format!("what stands above item {index} is no list")),
        }
    }

    pub(crate) fn to_toml(&self) -> toml::Value {
        match &self.node {
            Node::Value(value) => value.clone(),
            Node::Array(array) => toml::Value::Array(array.iter().map(Item::to_toml).collect()),
            Node::Table(table) => {
                toml::Value::Table(table.iter().map(|(key, item)| (key.clone(), item.to_toml())).collect())
            }
        }
    }
}

/// Puts `--set key.path=value` over the document. The value is TOML, or else text.
pub(crate) fn set(document: &mut Item, setting: &str, wrong: &mut Vec<Wrong>) {
    let place = Place { origin: format!("--set {setting}"), line: 0 };
    let mut refuse = |what: &str| {
        let hint = "as --set driver.workers=800 or --set 'arrivals[0].per_second=50'".to_owned();
        wrong.push(Wrong { place: place.clone(), what: what.to_owned(), hint: Some(hint) });
    };
    let Some((path, value)) = setting.split_once('=') else { return refuse("there is no `=` in it") };
    let path = steps(path.trim());
    if path.is_empty() {
        return refuse("there is no key before the `=`");
    }
    let value = value.trim();
    let mut faults = Vec::new();
    let parsed = parse(&format!("value = {value}"), "", &mut faults);
    let node = match parsed.at(&[Step::Key("value".into())]) {
        Some(item) if faults.is_empty() => replace(item.node.clone(), &place),
        _ => Node::Value(toml::Value::String(value.to_owned())),
    };
    if let Err(why) = document.set(&path, Item { place: place.clone(), node }) {
        refuse(&why);
    }
}

/// The same, all of it at one place.
fn replace(node: Node, place: &Place) -> Node {
    let moved = |item: Item| Item { place: place.clone(), node: replace(item.node, place) };
    match node {
        Node::Table(table) => Node::Table(table.into_iter().map(|(key, item)| (key, moved(item))).collect()),
        Node::Array(array) => Node::Array(array.into_iter().map(moved).collect()),
        value @ Node::Value(_) => value,
    }
}

/// `arrivals[0].per_second`, or `arrivals.0.per_second`, as steps.
pub(crate) fn steps(path: &str) -> Vec<Step> {
    path.split(['.', '[', ']'])
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_or_else(|_| Step::Key(part.to_owned()), Step::Index))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_tables_are_joined_and_lists_replaced_and_each_knows_its_line() {
        let mut wrong = Vec::new();
        let mut whole = parse("a = 1\n[t]\nx = 1\ny = 2\nlist = [1, 2]\n", "one", &mut wrong);
        whole.join(parse("[t]\n\ny = 3\nlist = [9]\n", "two", &mut wrong));
        assert_eq!(wrong, []);
        let told = |path: &str| {
            let item = whole.at(&steps(path)).unwrap();
            (item.to_toml().to_string(), item.place.words())
        };
        assert_eq!(told("t.x"), ("1".into(), "one:3".into()));
        assert_eq!(told("t.y"), ("3".into(), "two:3".into()));
        assert_eq!(told("t.list"), ("[9]".into(), "two:4".into()));
        assert_eq!(whole.place_of(&steps("t.nothing")).words(), "one:2");
    }

    #[test]
    fn every_mistake_of_syntax_is_named() {
        let mut wrong = Vec::new();
        parse("a = \nb = 1\nc = [1\n", "bad", &mut wrong);
        wrong.sort();
        assert!(wrong.len() >= 2 && wrong[0].words().starts_with("bad:1: this is no TOML"), "{wrong:?}");
    }

    #[test]
    fn settings_go_over_files() {
        let mut wrong = Vec::new();
        let mut whole = parse("[[arrivals]]\nper_second = 1.0\n", "one", &mut wrong);
        for setting in ["arrivals[0].per_second=5.5", "driver.workers = 9", "name=after hours", "p={a=1}"] {
            set(&mut whole, setting, &mut wrong);
        }
        assert_eq!(wrong, []);
        let value = whole.to_toml();
        assert_eq!(value["arrivals"][0]["per_second"].as_float(), Some(5.5));
        assert_eq!((value["driver"]["workers"].as_integer(), value["name"].as_str()), (Some(9), Some("after hours")));
        for setting in ["arrivals[3].x=1", "name", "=1", "name.x=1"] {
            let before = wrong.len();
            set(&mut whole, setting, &mut wrong);
            assert_eq!(wrong.len(), before + 1, "{setting}");
        }
    }

    #[test]
    fn a_file_that_includes_itself_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one.toml"), directory.path().join("two.toml"));
        std::fs::write(&one, "include = [\"two.toml\"]\na = 1\n").unwrap();
        std::fs::write(&two, "\ninclude = [\"one.toml\"]\na = 2\nb = 2\n").unwrap();
        let mut wrong = Vec::new();
        let whole = read(&one, &mut wrong);
        assert!(wrong.len() == 1 && wrong[0].words().contains("two.toml:2: "), "{wrong:?}");
        assert_eq!(whole.at(&steps("a")).unwrap().to_toml().as_integer(), Some(1));
        assert_eq!(whole.at(&steps("b")).unwrap().to_toml().as_integer(), Some(2));
        wrong.clear();
        std::fs::write(&two, "include = [\"three.toml\"]\n").unwrap();
        read(&one, &mut wrong);
        assert!(wrong.len() == 1 && wrong[0].words().contains("could not read"), "{wrong:?}");
    }
}
