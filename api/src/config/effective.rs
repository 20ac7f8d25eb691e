//! The configuration in force, field by field, with where each comes from. For `berth check`.
//!
//! Names and defaults are those of the sample file, `berth.toml`, which has every field; a test holds it to that.

use toml::{Table, Value};

use super::environment::Said;

const SAMPLE: &str = include_str!("../../../berth.toml");

/// A field of the sample: its dotted name, and the default that stands there.
struct Field {
    name: String,
    default: String,
}

/// Every field of the sample, in its order, the keys left out.
fn fields() -> Vec<Field> {
    let mut section = String::new();
    let mut fields = Vec::new();
    for line in SAMPLE.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            name.trim_start_matches('[').clone_into(&mut section);
            continue;
        }
        let Some((name, rest)) = line.split_once(" = ") else { continue };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte)) {
            continue;
        }
        let name = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        fields.push(Field { name, default: value_of(rest).to_owned() });
    }
    fields
}

/// The value before a comment.
fn value_of(text: &str) -> &str {
    let mut quoted = false;
    let ends = text.char_indices().find(|&(_, c)| {
        quoted ^= c == '"';
        c == '#' && !quoted
    });
    text[..ends.map_or(text.len(), |(at, _)| at)].trim()
}

/// A line for each field: what it is, and whether the file, a variable or nobody said so.
pub(crate) fn lines(table: &Table, said: &Said) -> Vec<String> {
    let mut lines = Vec::new();
    for Field { name, default } in fields().iter().filter(|field| !field.name.starts_with("keys.")) {
        let value = name.split('.').try_fold(None, |at: Option<&Value>, step| {
            let next = at.map_or_else(|| table.get(step), |value| value.get(step));
            next.map(Some)
        });
        let (shown, source) = match (value.flatten(), said.get(name)) {
            (Some(value), Some(variable)) => (shown(value), variable.as_str()),
            (Some(value), None) => (shown(value), "file"),
            (None, _) => (default.clone(), "default"),
        };
        lines.push(format!("{name} = {shown}  # {source}"));
    }
    if let Some(keys) = table.get("keys").and_then(Value::as_array) {
        let source = said.get("keys").map_or("file", String::as_str);
        let who = keys.iter().map(|key| {
            let of = |field: &str| key.get(field).and_then(Value::as_str).unwrap_or("?").to_owned();
            format!("{} {}", of("role"), of("name"))
        });
        lines.push(format!("keys = {}  # {source}", who.collect::<Vec<_>>().join(", ")));
    }
    lines
}

/// A value as TOML, without the password that a URL may carry.
fn shown(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let masked = text.split_once("://").and_then(|(scheme, rest)| {
        let (who, place) = rest.split_once('@')?;
        let user = who.split_once(':')?.0;
        Some(format!("{scheme}://{user}:***@{place}"))
    });
    Value::String(masked.unwrap_or_else(|| text.clone())).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::ConfigFile;
    use super::*;

    /// The names that a section takes, out of serde's own mouth.
    fn names_of(section: &str) -> Vec<String> {
        let text = if section.is_empty() { "zzz = 1".to_owned() } else { format!("[{section}]\nzzz = 1") };
        let fault = ConfigFile::parse(&text).unwrap_err();
        let expected = fault.split_once("expected").expect("it lists the fields").1;
        expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_sample_has_every_field_and_no_other() {
        let shown: Vec<String> = fields().into_iter().map(|field| field.name).collect();
        let mut names = names_of("");
        let mut all = Vec::new();
        while let Some(name) = names.pop() {
            let is_table = !shown.contains(&name) && ConfigFile::parse(&format!("[{name}]")).is_ok();
            if is_table {
                names.extend(names_of(&name).into_iter().map(|field| format!("{name}.{field}")));
            } else if name != "keys" {
                all.push(name);
            }
        }
        let missing: Vec<_> = all.iter().filter(|name| !shown.contains(name)).collect();
        assert!(missing.is_empty(), "not in berth.toml: {missing:?}");
        let unknown: Vec<_> = shown.iter().filter(|name| !name.starts_with("keys.") && !all.contains(name)).collect();
        assert!(unknown.is_empty(), "only in berth.toml: {unknown:?}");
        assert!(all.len() > 40, "{all:?}");
    }

    #[test]
    fn each_field_says_where_it_comes_from_and_no_password() {
        let table: Table =
            toml::from_str("cell = 5\nredis.url = 'redis://me:secret@h:1/2'\nhttp.body_time_ms = 7").unwrap();
        let said = Said::from([("http.body_time_ms".to_owned(), "BERTH_HTTP__BODY_TIME_MS".to_owned())]);
        let lines = lines(&table, &said);
        for line in [
            "cell = 5  # file",
            "http.body_time_ms = 7  # BERTH_HTTP__BODY_TIME_MS",
            "http.head_time_ms = 30000  # default",
            "redis.url = \"redis://me:***@h:1/2\"  # file",
        ] {
            assert!(lines.iter().any(|l| l == line), "{line} in {lines:#?}");
        }
    }
}
