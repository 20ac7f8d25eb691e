//! From the document to the scenario: every fault at once, each with its place and a hint.
//!
//! serde stops at the first fault. So what it complains about is noted, taken out (or, where it cannot be missing, replaced by a
//! sound sample), and the document is read again, until it can be read; then what the values mean is checked.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Scenario;
use super::document::{self, Item, Node, Step, Wrong, steps};

/// Rounds of reading; each takes one fault out.
const ROUNDS_MAX: usize = 500;

/// What a scenario must have, so that one that lacks it can be checked further. Never run.
const SAMPLE: &str = r#"
name = "sample"
phase = "sample"
kind = "constant"
per_second = 1.0
from_per_second = 1.0
to_per_second = 1.0
seconds = 60.0
people = 1
parties = 1000
districts = 1
centres_per_district = 1
days = 1
windows_per_day = 1
product = "covishield"
pools = { dose1 = 1 }
weight = 1
mib = 64
population = { parties = 1000 }
behaviours = { book = 1 }
arrivals = [{ kind = "constant", phase = "sample", per_second = 1.0, seconds = 60.0 }]
"#;

impl Scenario {
    /// Reads and checks a scenario file with what it includes and what the command line sets over it.
    pub(crate) fn load(path: &Path, settings: &[String]) -> Result<Self, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let mut document = document::read(path, &mut wrong);
        for setting in settings {
            document::set(&mut document, setting, &mut wrong);
        }
        let scenario = Self::from_document(document, &mut wrong);
        wrong.sort();
        wrong.dedup();
        match scenario {
            Some(scenario) if wrong.is_empty() => Ok(scenario),
            _ => Err(wrong),
        }
    }

    fn from_document(mut document: Item, wrong: &mut Vec<Wrong>) -> Option<Self> {
        let original = document.clone();
        read_series(&mut document, wrong);
        let mut repaired: Vec<Vec<Step>> = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let text = toml::to_string(&document.to_toml()).ok()?;
            let error = match toml::from_str::<Self>(&text) {
                Ok(scenario) => {
                    for fault in scenario.faults_found() {
                        let path = steps(&fault.path);
                        // What was taken out says nothing of what it stood in.
                        let touched = |repaired: &Vec<Step>| path.starts_with(repaired) || repaired.starts_with(&path);
                        if !repaired.iter().any(touched) {
                            let place = original.place_of(&path);
                            wrong.push(Wrong { place, what: fault.what, hint: fault.hint });
                        }
                    }
                    return Some(scenario);
                }
                Err(error) => error,
            };
            let at = error.span().map_or_else(Vec::new, |span| path_in(&text, span.start));
            let complaint = Complaint::of(error.message(), at, &document);
            let seen = repaired.contains(&complaint.path);
            if !seen {
                let place = document.place_of(&complaint.path);
                wrong.push(Wrong { place, what: complaint.what.clone(), hint: complaint.hint.clone() });
            }
            if !complaint.repair(&mut document) || (seen && complaint.kind != Kind::Missing) {
                return None;
            }
            repaired.push(complaint.path);
        }
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Missing,
    /// An unknown field, or a value that cannot be read.
    Odd,
}

/// One complaint of serde's, in our words.
#[derive(Debug)]
struct Complaint {
    path: Vec<Step>,
    kind: Kind,
    what: String,
    hint: Option<String>,
}

impl Complaint {
    fn of(message: &str, mut path: Vec<Step>, document: &Item) -> Self {
        let message = message.lines().next().unwrap_or_default();
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let (first, others) = quoted.split_first().map_or(("", &[][..]), |(first, others)| (*first, others));
        let own = |path: &mut Vec<Step>| {
            let key = Step::Key(first.to_owned());
            // The place may be that of the key, or of the table around it.
            let mut inner = path.clone();
            inner.push(key.clone());
            if document.at(&inner).is_some() {
                *path = inner;
            } else if path.last() != Some(&key) {
                while !path.is_empty() && document.at(&[path.as_slice(), std::slice::from_ref(&key)].concat()).is_none()
                {
                    path.pop();
                }
                path.push(key);
            }
        };
        if message.starts_with("unknown field") {
            own(&mut path);
            return Self {
                path,
                kind: Kind::Odd,
                what: format!("unknown field `{first}`"),
                hint: suggest(first, others),
            };
        }
        if message.starts_with("missing field") {
            // Of a value that is no table the table around it is meant.
            while !matches!(document.at(&path).map(|item| &item.node), Some(Node::Table(_)) | None) {
                path.pop();
            }
            path.push(Step::Key(first.to_owned()));
            let sample = sample(first).map(|item| format!("as {first} = {}", item.to_toml()));
            return Self { path, kind: Kind::Missing, what: format!("`{first}` is missing"), hint: sample };
        }
        if message.starts_with("unknown variant") {
            if !matches!(document.at(&path).map(|item| &item.node), Some(Node::Value(_))) {
                own(&mut path);
            }
            let name = path.last().map_or_else(String::new, |step| match step {
                Step::Key(key) if key != first => format!("{key}: "),
                _ => String::new(),
            });
            let what = format!("{name}there is no `{first}`");
            // Of an entry of a list whose kind is unknown nothing can be read.
            if matches!(path.last(), Some(Step::Key(key)) if key == "kind") {
                path.pop();
            }
            return Self { path, kind: Kind::Odd, what, hint: suggest(first, others) };
        }
        let name = match path.last() {
            Some(Step::Key(key)) => format!("`{key}`: "),
            _ => String::new(),
        };
        Self { path, kind: Kind::Odd, what: format!("{name}{message}"), hint: None }
    }

    /// Takes the fault out of the document; false if it could not be.
    fn repair(&self, document: &mut Item) -> bool {
        let Some(Step::Key(key)) = self.path.last() else {
            document.remove(&self.path);
            return !self.path.is_empty();
        };
        match (self.kind, sample(key)) {
            (Kind::Missing, None) => false,
            (Kind::Missing, Some(item)) => document.set(&self.path, item).is_ok(),
            // What cannot be missing is missed at the next reading, and then repaired.
            (Kind::Odd, _) => {
                document.remove(&self.path);
                true
            }
        }
    }
}

fn sample(key: &str) -> Option<Item> {
    let mut none = Vec::new();
    document::parse(SAMPLE, "", &mut none).take(key)
}

/// What was probably meant, or what there is.
fn suggest(word: &str, known: &[&str]) -> Option<String> {
    let near = known.iter().map(|known| (distance(word, known), known)).min();
    match near {
        Some((distance, known)) if distance <= 1 + word.len() / 4 => Some(format!("did you mean `{known}`?")),
        Some(_) => Some(format!("there are: {}", known.join(", "))),
        None => None,
    }
}

/// The number of letters to change, add or take out.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut corner = index;
        row[0] = index + 1;
        for (place, other) in two.iter().enumerate() {
            let changed = corner + usize::from(letter != *other);
            corner = row[place + 1];
            row[place + 1] = changed.min(row[place] + 1).min(corner + 1);
        }
    }
    row[two.len()]
}

/// The path of the key or value of a document that stands closest around a byte.
fn path_in(text: &str, at: usize) -> Vec<Step> {
    let Ok(table) = DeTable::parse(text) else { return Vec::new() };
    let mut best = (usize::MAX, Vec::new());
    look(table.get_ref(), &mut Vec::new(), at, &mut best);
    best.1
}

fn look(table: &DeTable<'_>, path: &mut Vec<Step>, at: usize, best: &mut (usize, Vec<Step>)) {
    for (key, value) in table {
        path.push(Step::Key(key.get_ref().to_string()));
        consider(key.span(), path, at, best);
        look_value(value.get_ref(), value.span(), path, at, best);
        path.pop();
    }
}

fn look_value(
    value: &DeValue<'_>,
    span: std::ops::Range<usize>,
    path: &mut Vec<Step>,
    at: usize,
    best: &mut (usize, Vec<Step>),
) {
    consider(span, path, at, best);
    match value {
        DeValue::Table(table) => look(table, path, at, best),
        DeValue::Array(array) => {
            for (index, value) in array.iter().enumerate() {
                path.push(Step::Index(index));
                look_value(value.get_ref(), value.span(), path, at, best);
                path.pop();
            }
        }
        _ => {}
    }
}

fn consider(span: std::ops::Range<usize>, path: &[Step], at: usize, best: &mut (usize, Vec<Step>)) {
    if (span.start..=span.end).contains(&at) && span.len() <= best.0 {
        *best = (span.len(), path.to_vec());
    }
}

/// Reads the curves that stand in files of their own, beside the file that names them.
fn read_series(document: &mut Item, wrong: &mut Vec<Wrong>) {
    let count = match document.at(&steps("arrivals")).map(|item| &item.node) {
        Some(Node::Array(phases)) => phases.len(),
        _ => 0,
    };
    for index in 0..count {
        let Some(item) = document.at(&steps(&format!("arrivals[{index}].file"))) else { continue };
        let Node::Value(toml::Value::String(file)) = &item.node else { continue };
        let place = item.place.clone();
        // One that was set on the command line is looked for from where that was given.
        let beside = if place.line == 0 { None } else { Path::new(&place.origin).parent() };
        let path = beside.map_or_else(|| PathBuf::from(file), |beside| beside.join(file));
        match points(&path) {
            Ok(points) => {
                let row = |point: [f64; 2]| toml::Value::Array(point.map(toml::Value::Float).to_vec());
                let list = toml::Value::Array(points.into_iter().map(row).collect());
                let at = steps(&format!("arrivals[{index}].points"));
                // The phase is there, so it can be set.
                let _ = document.set(&at, Item { place, node: Node::Value(list) });
            }
            Err(what) => {
                let hint = Some("two columns, second and rate, with or without a head: 0,12.5".to_owned());
                wrong.push(Wrong { place, what, hint });
            }
        }
    }
}

fn points(path: &Path) -> Result<Vec<[f64; 2]>, String> {
    let told = path.display();
    let reader = csv::ReaderBuilder::new().has_headers(false).comment(Some(b'#')).trim(csv::Trim::All).from_path(path);
    let mut points = Vec::new();
    for (index, row) in reader.map_err(|error| format!("could not read {told}: {error}"))?.records().enumerate() {
        let row = row.map_err(|error| format!("could not read {told}: {error}"))?;
        let line = row.position().map_or(0, csv::Position::line);
        let number = |column: usize| row.get(column).and_then(|cell| cell.parse::<f64>().ok());
        match (number(0), number(1)) {
            (Some(second), Some(rate)) => points.push([second, rate]),
            _ if index == 0 => {}
            _ => return Err(format!("line {line} of {told} is not two numbers")),
        }
    }
    Ok(points)
}

/// Each in words.
pub(crate) fn all_words(wrong: &[Wrong]) -> Vec<String> {
    wrong.iter().map(Wrong::words).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::SMALL;
    use super::*;

    fn wrong_with(text: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        let root = directory.path().display().to_string();
        match Scenario::load(&path, &[]) {
            Ok(_) => Vec::new(),
            Err(wrong) => all_words(&wrong).iter().map(|line| line.replace(&root, "")).collect(),
        }
    }

    #[test]
    fn faults_of_every_kind_are_named_at_once_with_line_and_hint() {
        let text = SMALL
            .replace("parties = 400", "partys = 400")
            .replace("dose1 = 5", "dose1 = 0")
            .replace("book = 3", "bok = 3")
            .replace("seconds = 2.0", "seconds = \"2\"")
            .replace("people = 30", "peple = 30");
        let text =
            format!("{text}\n[driver]\nworkers = true\n[server]\nhold_seconds = 1\n[[faults]]\nkill = \"soft\"\n");
        let found = wrong_with(&text);
        for (line, part) in [
            (4, "unknown field `partys` (hint: did you mean `parties`?)"),
            (3, "`parties` is missing (hint: as parties = 1000)"),
            (11, "inventory.pools.dose1 is not within"),
            (13, "there is no `bok` (hint: did you mean `book`?)"),
            (23, "unknown field `peple` (hint: did you mean `people`?)"),
            (26, "`workers`: invalid type"),
            (28, "server.hold_seconds is not within 5..=3600"),
            (30, "kill: there is no `soft` (hint: there are: power-cut, plain)"),
        ] {
            let start = format!("/s.toml:{line}: ");
            let there = found.iter().any(|words| words.starts_with(&start) && words.contains(part));
            assert!(there, "{line} {part} is missing in {found:#?}");
        }
        assert!(found.iter().any(|words| words.contains("invalid type: string \"2\"")), "{found:#?}");
    }

    #[test]
    fn a_sound_scenario_has_none() {
        assert_eq!(wrong_with(SMALL), [""; 0]);
    }

    #[test]
    fn a_curve_is_read_from_beside_its_scenario() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("s.toml", &format!("{SMALL}\n[[arrivals]]\nkind = \"series\"\nphase = \"curve\"\nfile = \"c.csv\"\n"));
        write("c.csv", "second,rate\n# a remark\n0, 1\n10, 3\n");
        let scenario = Scenario::load(&directory.path().join("s.toml"), &[]).unwrap();
        assert_eq!((scenario.arrivals[2].seconds(), scenario.arrivals[2].people()), (10.0, 20.0));
        write("c.csv", "0,1\n5,x\n");
        let wrong = Scenario::load(&directory.path().join("s.toml"), &[]).unwrap_err();
        assert!(all_words(&wrong).iter().any(|words| words.contains("line 2 of")), "{wrong:?}");
    }

    #[test]
    fn a_scenario_stands_on_another_and_on_the_command_line() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("town.toml", SMALL);
        write("s.toml", "include = [\"town.toml\"]\nname = \"mine\"\n[population]\nparties = 500\n");
        let settings = ["driver.workers=9".to_owned(), "arrivals[0].per_second=7".to_owned()];
        let scenario = Scenario::load(&directory.path().join("s.toml"), &settings).unwrap();
        assert_eq!((scenario.name.as_str(), scenario.population.parties, scenario.driver.workers), ("mine", 500, 9));
        assert_eq!(scenario.arrivals[0].people(), 14.0);
        let wrong = Scenario::load(&directory.path().join("s.toml"), &["driver.workers=0".into()]).unwrap_err();
        assert!(wrong.len() == 1 && wrong[0].words().starts_with("--set driver.workers=0: "), "{wrong:?}");
    }

    #[test]
    fn letters_are_counted() {
        assert_eq!((distance("book", "bok"), distance("", "abc"), distance("move", "love")), (1, 3, 1));
    }
}
