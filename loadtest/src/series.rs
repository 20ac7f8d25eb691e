//! The public series of a campaign: what is read of it, and every way in which it can be wrong.
//!
//! Two files: cumulative doses by state and day, and the states' districts. A row that cannot be read is an error that
//! names file and line, whatever day it is for: a series with a hole is not a series.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::Path;

use jiff::civil::Date;

use crate::error::{CannotRun, Doing};

/// One day of the campaign.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) day: Date,
    /// By the series' own state names, in its order.
    pub(crate) states: Vec<StateDay>,
    /// What the row for the whole country gained that day, if there is one: a check sum, not a source.
    pub(crate) country_doses: Option<i64>,
}

/// What one state did that day, and where.
#[derive(Clone, Debug)]
pub(crate) struct StateDay {
    pub(crate) name: String,
    pub(crate) doses: u64,
    pub(crate) sites: u64,
    /// Its districts, in the file's order.
    pub(crate) districts: Vec<DistrictRow>,
}

#[derive(Clone, Debug)]
pub(crate) struct DistrictRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state_id: String,
    pub(crate) state: String,
}

/// The row that sums up the others.
const COUNTRY: &str = "India";
/// Rows of the series that stand for several states of the district file.
const JOINT: [(&str, [&str; 2]); 1] =
    [("Dadra and Nagar Haveli and Daman and Diu", ["Dadra and Nagar Haveli", "Daman and Diu"])];

#[derive(Clone, Copy, Debug)]
struct Cumulative {
    total: i64,
    sites: u64,
}

impl Series {
    pub(crate) fn read(states: &Path, districts: &Path, day: Date) -> Result<Self, CannotRun> {
        let before = day.yesterday().doing(|| format!("find the day before {day}"))?;
        let rows = read_states(states, [before, day])?;
        let mut by_state = read_districts(districts)?;
        let mut country_doses = None;
        let mut list = Vec::new();
        for (name, now) in rows.of(day)? {
            let was = rows.of(before)?.get(name).copied();
            let was = was.ok_or_else(|| {
                CannotRun::because(format!("{} has {name} on {day} and not on {before}", states.display()))
            })?;
            let gained = now.total - was.total;
            if name == COUNTRY {
                country_doses = Some(gained);
                continue;
            }
            let doses = u64::try_from(gained).map_err(|_| {
                CannotRun::because(format!(
                    "the total of {name} falls from {} on {before} to {} on {day} in {}: the source changed what it \
                     counts that day, so its difference is not a day's doses",
                    was.total,
                    now.total,
                    states.display()
                ))
            })?;
            let mut own = Vec::new();
            for part in parts_of(name) {
                own.extend(by_state.remove(part).unwrap_or_default());
            }
            list.push(StateDay { name: name.clone(), doses, sites: now.sites, districts: own });
        }
        match_up(&list, &by_state, states, districts)?;
        Ok(Self { day, states: list, country_doses })
    }

    pub(crate) fn doses(&self) -> u64 {
        self.states.iter().map(|state| state.doses).sum()
    }
}

/// The district file's names for a state of the series.
fn parts_of(state: &str) -> Vec<&str> {
    JOINT.iter().find(|(joint, _)| *joint == state).map_or_else(|| vec![state], |(_, parts)| parts.to_vec())
}

/// Every name must be on both sides; what is left over is named with both files.
fn match_up(
    list: &[StateDay],
    left_over: &BTreeMap<String, Vec<DistrictRow>>,
    states: &Path,
    districts: &Path,
) -> Result<(), CannotRun> {
    let bare: Vec<String> =
        list.iter().filter(|state| state.districts.is_empty()).map(|state| format!("{:?}", state.name)).collect();
    let unknown: Vec<String> = left_over.keys().map(|state| format!("{state:?}")).collect();
    let mut sentences = Vec::new();
    if !bare.is_empty() {
        sentences.push(format!(
            "{} of {} has no districts in {}",
            bare.join(", "),
            states.display(),
            districts.display()
        ));
    }
    if !unknown.is_empty() {
        sentences.push(format!(
            "{} of {} has no doses in {}",
            unknown.join(", "),
            districts.display(),
            states.display()
        ));
    }
    if sentences.is_empty() { Ok(()) } else { Err(CannotRun::because(sentences.join("; "))) }
}

struct Days {
    rows: BTreeMap<Date, BTreeMap<String, Cumulative>>,
    file: String,
    first_and_last: Option<(Date, Date)>,
}

impl Days {
    fn of(&self, day: Date) -> Result<&BTreeMap<String, Cumulative>, CannotRun> {
        self.rows.get(&day).ok_or_else(|| {
            let span = match self.first_and_last {
                Some((first, last)) => format!("it has {first} to {last}"),
                None => "it has no rows".into(),
            };
            CannotRun::because(format!("{} has no rows for {day}; {span}", self.file))
        })
    }
}

fn read_states(path: &Path, wanted: [Date; 2]) -> Result<Days, CannotRun> {
    let mut table = Table::open(path, &["Updated On", "State", "Total", "Sites"])?;
    let mut days = Days { rows: BTreeMap::new(), file: path.display().to_string(), first_and_last: None };
    while let Some(row) = table.next_row()? {
        let date = row.parse("Updated On", |text| Date::strptime("%d/%m/%Y", text).ok(), "a date as DD/MM/YYYY")?;
        let state = row.parse("State", |text| (!text.is_empty()).then(|| text.to_owned()), "a name")?;
        let total = row.parse("Total", |text| text.parse::<i64>().ok().filter(|&total| total >= 0), "a count")?;
        let sites = row.parse("Sites", |text| text.parse::<u64>().ok(), "a count")?;
        let (first, last) = days.first_and_last.unwrap_or((date, date));
        days.first_and_last = Some((first.min(date), last.max(date)));
        if wanted.contains(&date) {
            let twice = days.rows.entry(date).or_default().insert(state.clone(), Cumulative { total, sites });
            if twice.is_some() {
                return Err(row.wrong(&format!("{state} stands there a second time for {date}")));
            }
        }
    }
    Ok(days)
}

fn read_districts(path: &Path) -> Result<BTreeMap<String, Vec<DistrictRow>>, CannotRun> {
    let mut table = Table::open(path, &["state_id", "state_name", "district_id", "district_name"])?;
    let mut by_state: BTreeMap<String, Vec<DistrictRow>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    while let Some(row) = table.next_row()? {
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let number = |text: &str| text.parse::<u32>().ok().map(|number| number.to_string());
        let district = DistrictRow {
            state_id: row.parse("state_id", number, "a number")?,
            state: row.parse("state_name", named, "a name")?,
            id: row.parse("district_id", number, "a number")?,
            name: row.parse("district_name", named, "a name")?,
        };
        if !seen.insert(district.id.clone()) {
            return Err(row.wrong(&format!("district {} stands there a second time", district.id)));
        }
        by_state.entry(district.state.clone()).or_default().push(district);
    }
    Ok(by_state)
}

/// A CSV file whose columns are found by name.
struct Table {
    reader: csv::Reader<Cursor<Vec<u8>>>,
    columns: BTreeMap<&'static str, usize>,
    width: usize,
    file: String,
}

/// One row of a [`Table`].
struct Row<'a> {
    record: csv::StringRecord,
    columns: &'a BTreeMap<&'static str, usize>,
    file: &'a str,
    bytes: &'a [u8],
    /// Where the reader says that the row begins, among the bytes.
    start: u64,
}

impl Table {
    fn open(path: &Path, names: &[&'static str]) -> Result<Self, CannotRun> {
        let bytes = std::fs::read(path).doing(|| format!("open the series {}", path.display()))?;
        // Rows of another width are named below, with their line, rather than by the reader.
        let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(Cursor::new(bytes));
        let headers = reader.headers().doing(|| format!("read the first line of {}", path.display()))?.clone();
        let mut columns = BTreeMap::new();
        for &name in names {
            let place = headers.iter().position(|header| header == name);
            let place = place.ok_or_else(|| {
                CannotRun::because(format!("{} has no column {name:?} in its first line", path.display()))
            })?;
            columns.insert(name, place);
        }
        Ok(Self { reader, columns, width: headers.len(), file: path.display().to_string() })
    }

    fn next_row(&mut self) -> Result<Option<Row<'_>>, CannotRun> {
        let mut record = csv::StringRecord::new();
        let start = self.reader.position().byte();
        let read = self.reader.read_record(&mut record);
        let bytes = self.reader.get_ref().get_ref();
        let row = Row { record, columns: &self.columns, file: &self.file, bytes, start };
        match read {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                return Err(row.wrong("it is not UTF-8"));
            }
            Err(error) => return Err(row.wrong(&error.to_string())),
        }
        if row.record.len() != self.width {
            return Err(row.wrong(&format!("there are {} fields and {} columns", row.record.len(), self.width)));
        }
        Ok(Some(row))
    }
}

impl Row<'_> {
    fn parse<T>(&self, column: &str, read: impl Fn(&str) -> Option<T>, what: &str) -> Result<T, CannotRun> {
        let text = self.columns.get(column).and_then(|&place| self.record.get(place)).unwrap_or_default();
        read(text).ok_or_else(|| self.wrong(&format!("{column} is {text:?}, which is not {what}")))
    }

    fn wrong(&self, why: &str) -> CannotRun {
        CannotRun::because(format!("{} line {}: {why}", self.file, line_at(self.bytes, self.start)))
    }
}

/// The line on which the row from `start` on stands. The reader's own count takes the line feed of the row before, and
/// empty lines, for a part of the row that follows.
fn line_at(bytes: &[u8], start: u64) -> usize {
    let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
    let (before, after) = bytes.split_at(start);
    let ends = after.iter().take_while(|&&byte| byte == b'\n' || byte == b'\r');
    1 + before.iter().chain(ends).filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small series: two states with two districts each, and the joint row with one and two.
    pub(crate) struct Files {
        _directory: tempfile::TempDir,
        pub(crate) states: std::path::PathBuf,
        pub(crate) districts: std::path::PathBuf,
    }

    pub(crate) const STATES: &str = "\
Updated On,State,Total,Sessions,Sites
16/09/2021,India,1000,1,9
17/09/2021,India,8100,1,9
16/09/2021,North,400,9999,4
17/09/2021,North,4400,9999,4000
16/09/2021,South,500,9999,2
17/09/2021,South,3500,9999,1000
16/09/2021,Dadra and Nagar Haveli and Daman and Diu,100,1,1
17/09/2021,Dadra and Nagar Haveli and Daman and Diu,400,1,1
";
    pub(crate) const DISTRICTS: &str = "\
state_id,state_name,district_id,district_name
1,North,10,Upper
1,North,11,Lower
2,South,20,\"East, Far\"
2,South,21,West
3,Dadra and Nagar Haveli,30,Dadra
4,Daman and Diu,40,Daman
4,Daman and Diu,41,Diu
";

    pub(crate) fn files(states: &str, districts: &str) -> Files {
        let directory = tempfile::tempdir().unwrap();
        let (states_path, districts_path) =
            (directory.path().join("states.csv"), directory.path().join("districts.csv"));
        std::fs::write(&states_path, states).unwrap();
        std::fs::write(&districts_path, districts).unwrap();
        Files { _directory: directory, states: states_path, districts: districts_path }
    }

    pub(crate) fn day() -> Date {
        jiff::civil::date(2021, 9, 17)
    }

    fn error(states: &str, districts: &str) -> String {
        let files = files(states, districts);
        Series::read(&files.states, &files.districts, day()).unwrap_err().to_string()
    }

    #[test]
    fn a_day_is_the_difference_of_two_totals() {
        let files = files(STATES, DISTRICTS);
        let series = Series::read(&files.states, &files.districts, day()).unwrap();
        let doses: Vec<(&str, u64, usize)> =
            series.states.iter().map(|state| (state.name.as_str(), state.doses, state.districts.len())).collect();
        assert_eq!(
            doses,
            [("Dadra and Nagar Haveli and Daman and Diu", 300, 3), ("North", 4000, 2), ("South", 3000, 2)]
        );
        assert_eq!((series.doses(), series.country_doses), (7300, Some(7100)));
        assert_eq!(series.states[2].districts[0].name, "East, Far");
    }

    #[test]
    fn a_malformed_row_is_named_by_file_and_line() {
        for end in ["\n", "\r\n"] {
            let error =
                |states: &str, districts: &str| error(&states.replace('\n', end), &districts.replace('\n', end));
            let found = error(&STATES.replace("17/09/2021,North,4400", "17/09/2021,North,many"), DISTRICTS);
            assert!(found.contains("states.csv line 5") && found.contains("\"many\""), "{found}");
            let found = error(&STATES.replace("16/09/2021,South", "2021-09-16,South"), DISTRICTS);
            assert!(found.contains("states.csv line 6") && found.contains("DD/MM/YYYY"), "{found}");
            let found = error(&STATES.replace("16/09/2021,South", "\n\n2021-09-16,South"), DISTRICTS);
            assert!(found.contains("states.csv line 8") && found.contains("DD/MM/YYYY"), "{found}");
            let found = error(&STATES.replace("16/09/2021,India,1000", "16/09/2021,India,-1"), DISTRICTS);
            assert!(found.contains("states.csv line 2") && found.contains("\"-1\""), "{found}");
            let found = error(STATES, &DISTRICTS.replace("2,South,21,West", "2,South,21"));
            assert!(found.contains("districts.csv line 5") && found.contains("3 fields"), "{found}");
            let found = error(STATES, &DISTRICTS.replace("4,Daman and Diu,41", "4,Daman and Diu,40"));
            assert!(found.contains("districts.csv line 8") && found.contains("district 40"), "{found}");
            let found = error(&STATES.replace("17/09/2021,South", "17/09/2021,North"), DISTRICTS);
            assert!(found.contains("states.csv line 7") && found.contains("second time"), "{found}");
        }
    }

    #[test]
    fn a_row_that_is_not_text_is_named_by_file_and_line() {
        for end in ["\n", "\r\n"] {
            let files = files(STATES, DISTRICTS);
            let mut bytes = DISTRICTS.replace('\n', end).into_bytes();
            let place = bytes.windows(4).position(|part| part == b"West").unwrap();
            bytes[place] = 0xff;
            std::fs::write(&files.districts, bytes).unwrap();
            let found = Series::read(&files.states, &files.districts, day()).unwrap_err().to_string();
            assert!(found.ends_with("districts.csv line 5: it is not UTF-8"), "{found}");
        }
    }

    #[test]
    fn a_name_on_one_side_only_is_named_with_both_files() {
        let found = error(STATES, &DISTRICTS.replace("South", "Sooth"));
        assert!(found.contains("\"South\" of") && found.contains("\"Sooth\" of"), "{found}");
        assert!(found.contains("states.csv") && found.contains("districts.csv"), "{found}");
    }

    #[test]
    fn a_falling_total_is_not_a_day() {
        let found = error(&STATES.replace("17/09/2021,North,4400", "17/09/2021,North,390"), DISTRICTS);
        assert!(found.contains("falls from 400 on 2021-09-16 to 390 on 2021-09-17"), "{found}");
    }

    #[test]
    fn a_missing_day_column_or_file_is_one_sentence() {
        let small = files(STATES, DISTRICTS);
        let found =
            Series::read(&small.states, &small.districts, jiff::civil::date(2021, 9, 19)).unwrap_err().to_string();
        assert!(found.contains("no rows for 2021-09-19; it has 2021-09-16 to 2021-09-17"), "{found}");
        let found = error(&STATES.replace("Sites", "Places"), DISTRICTS);
        assert!(found.contains("no column \"Sites\""), "{found}");
        let found = Series::read(Path::new("/nowhere/x.csv"), &small.districts, day()).unwrap_err().to_string();
        assert!(found.contains("could not open the series /nowhere/x.csv"), "{found}");
    }
}
