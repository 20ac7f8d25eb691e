//! The environment over the file: `BERTH_HTTP__HEAD_TIME_MS=200` says `head_time_ms` of `[http]`, `BERTH_LISTEN` says `listen`.
//!
//! A value is read as TOML, so lists and tables can be said too; what is no TOML, or would be of the wrong type, is text.
//! A name with two underscores in a row can only be meant for a field, so one that names none is a fault. Other names that begin with `BERTH_` are not
//! ours to judge: `BERTH_LOG`, passwords, and what Kubernetes makes of a service called `berth`.

use std::collections::BTreeMap;

use berth_programme::KeyFault;
use toml::{Table, Value};

use super::ConfigFile;

const PREFIX: &str = "BERTH_";
/// The log's filter, which is older than the table `log`.
const FILTER: &str = "BERTH_LOG";

/// Which variable said a field, by the field's dotted name.
pub(crate) type Said = BTreeMap<String, String>;

/// The file's text with the environment over it.
///
/// # Errors
/// Of the file the first fault of shape; of the environment every fault, each with its variable.
pub(crate) fn over(
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(ConfigFile, Table), Vec<String>> {
    // First the file alone, whose faults have a line and a column.
    let mut file = ConfigFile::parse(text).map_err(|fault| vec![fault])?;
    let mut table: Table = toml::from_str(text).map_err(|error| vec![error.message().to_owned()])?;
    let mut faults = Vec::new();
    let mut said = Said::new();
    let mut variables: Vec<_> = environment.filter(|(name, value)| !value.is_empty() && name != FILTER).collect();
    variables.sort();
    for (variable, value) in variables {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let path: Vec<String> = name.to_lowercase().split("__").map(str::to_owned).collect();
        let mut why = String::new();
        let tried = candidates(&value).into_iter().find_map(|value| {
            let mut tried = table.clone();
            set(&mut tried, &path, value)?;
            match tried.clone().try_into::<ConfigFile>() {
                Ok(file) => Some((file, tried)),
                Err(error) => {
                    why = error.message().lines().next().unwrap_or_default().to_owned();
                    None
                }
            }
        });
        match tried {
            Some((changed, tried)) => {
                (file, table) = (changed, tried);
                said.insert(path.join("."), variable);
            }
            // A name of one word that names no field is somebody else's.
            None if path.len() == 1 && (why.is_empty() || why.starts_with("unknown field")) => {}
            None => faults.push(format!("{variable}: {why}")),
        }
    }
    file.said = said;
    if faults.is_empty() { Ok((file, table)) } else { Err(faults) }
}

/// Faults of fields that the environment said, by the variable.
pub(crate) fn named(mut faults: Vec<KeyFault>, said: &Said) -> Vec<KeyFault> {
    for fault in &mut faults {
        // `keys[2].name` is said by whoever says `keys`.
        let field = fault.key.split('[').next().unwrap_or_default();
        if let Some(variable) = said.get(field) {
            fault.key = format!("{variable} ({})", fault.key);
        }
    }
    faults
}

/// What a value may mean, the likeliest first.
fn candidates(value: &str) -> Vec<Value> {
    let typed = toml::from_str::<Table>(&format!("value = {value}")).ok().and_then(|mut table| table.remove("value"));
    typed.into_iter().chain([Value::String(value.to_owned())]).collect()
}

/// Puts a value at a path, with the tables on the way; `None` where something other than a table is in the way.
fn set(table: &mut Table, path: &[String], value: Value) -> Option<()> {
    let (last, way) = path.split_last()?;
    let mut table = table;
    for step in way {
        table = table.entry(step.clone()).or_insert_with(|| Value::Table(Table::new())).as_table_mut()?;
    }
    table.insert(last.clone(), value);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<ConfigFile, Vec<String>> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        over(text, variables).map(|(file, _)| file)
    }

    #[test]
    fn a_variable_goes_before_the_file() {
        let text = "listen = '127.0.0.1:1'\ncell = 3\n[http]\nhead_time_ms = 1000\nbody_time_ms = 2000";
        let variables = [
            ("BERTH_LISTEN", "127.0.0.1:2"),
            ("BERTH_HTTP__HEAD_TIME_MS", "500"),
            ("BERTH_SNAPSHOTS__LOG_MIB", "77"),
            ("BERTH_ACK", "memory"),
            ("BERTH_DATA_DIR", "7"),
            ("BERTH_KEYS", "[{role = 'admin', name = 'a', sha256 = 'x'}]"),
            ("BERTH_CELL", ""),
        ];
        let file = read(text, &variables).unwrap();
        assert_eq!(file.listen.as_deref(), Some("127.0.0.1:2"));
        assert_eq!((file.http.head_time_ms, file.http.body_time_ms), (Some(500), Some(2000)));
        assert_eq!((file.snapshots.log_mib, file.cell), (Some(77), Some(3)), "an empty one says nothing");
        assert_eq!(file.data_dir.as_deref(), Some(std::path::Path::new("7")), "text where text is wanted");
        assert_eq!(file.keys.len(), 1);
        assert_eq!(file.said["http.head_time_ms"], "BERTH_HTTP__HEAD_TIME_MS");
    }

    #[test]
    fn faults_name_the_variable_and_all_of_them() {
        let variables = [("BERTH_HTTP__HEAD_TIME_MS", "soon"), ("BERTH_HTTP__HAED_TIME_MS", "1"), ("BERTH_CELL", "x")];
        let faults = read("", &variables).unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].starts_with("BERTH_CELL: invalid type"), "{faults:?}");
        assert!(faults[1].starts_with("BERTH_HTTP__HAED_TIME_MS: unknown field"), "{faults:?}");
        assert!(faults[2].starts_with("BERTH_HTTP__HEAD_TIME_MS: invalid type"), "{faults:?}");
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let variables = [
            ("BERTH_LOG", "debug"),
            ("BERTH_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("BERTH_REDIS_PASSWORD", "s"),
            ("PATH", "/bin"),
        ];
        assert!(read("", &variables).unwrap().said.is_empty());
        let fault = read("port = 1", &variables).unwrap_err();
        assert!(fault[0].starts_with("line 1, column 1: unknown field `port`"), "{fault:?}");
    }
}
