//! What must be absent from Rust: words that only one file may use, unfinished work, files too long to read.

use super::Fault;
use super::source::{Source, has_word};

/// Past this a file is split.
const LINES_MAX: usize = 600;

/// Work that is not finished, or a test that is not run.
const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// The clock, the environment and sleeping: engine code is told the time.
const AMBIENT: [&str; 5] = ["Instant::now", "SystemTime::now", "thread::sleep", "std::env", "env::var"];

/// The engine's only callers of those.
const AMBIENT_FILES: [&str; 2] = ["engine/src/clock.rs", "engine/src/sync.rs"];

/// The steps that decide a count.
const DECIDING: [&str; 5] =
    ["compare_exchange", "compare_exchange_weak", "fetch_update", "compare_and_swap", "try_update"];

/// The engine's only file that takes them.
const DECIDING_FILE: &str = "engine/src/slot/word.rs";

/// Which parts of the engine must not name which others: `ids units clock sync error` <- `slot booking` <- `inventory` <- `engine`,
/// and the journal knows entries, never the inventory.
const LAYERS: [(&[&str], &[&str]); 3] = [
    (
        &["ids.rs", "units.rs", "clock.rs", "sync.rs"],
        &["slot", "booking", "inventory", "party", "journal", "kernel", "engine"],
    ),
    (&["error.rs", "slot/", "booking.rs"], &["inventory", "journal", "kernel", "engine"]),
    (&["journal/"], &["inventory", "kernel", "engine"]),
];

/// The only part of the journal that knows both.
const REPLAY: &str = "engine/src/journal/replay";

pub(super) fn check(files: &[Source], faults: &mut Vec<Fault>) {
    for source in files.iter().filter(|source| source.is_rust()) {
        shape(source, faults);
        words(source, faults);
        if source.path.starts_with("engine/src/") {
            engine_words(source, faults);
            engine_layers(source, faults);
        }
    }
}

fn shape(source: &Source, faults: &mut Vec<Fault>) {
    if !source.text.starts_with("//!") {
        faults.push(Fault::new(source, 1, "a file begins with `//!`: what it owns and who may call it"));
    }
    let count = source.lines().count();
    if count > LINES_MAX {
        faults.push(Fault::new(source, 0, format!("{count} lines: split a file before it passes {LINES_MAX}")));
    }
}

fn words(source: &Source, faults: &mut Vec<Fault>) {
    for (number, line) in source.code_lines() {
        for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
            faults.push(Fault::new(source, number, format!("`{word}`: finish it, or leave it out")));
        }
        if has_word(line, "unsafe") {
            faults.push(Fault::new(source, number, "no crate here needs `unsafe`"));
        }
    }
}

fn engine_words(source: &Source, faults: &mut Vec<Fault>) {
    let path = source.path.as_str();
    for (number, line) in source.code_lines() {
        if !AMBIENT_FILES.contains(&path) && !source.is_test(number) {
            for word in AMBIENT.iter().filter(|word| has_word(line, word)) {
                faults.push(Fault::new(
                    source,
                    number,
                    format!("`{word}`: only clock.rs may; pass what it gives down"),
                ));
            }
        }
        if path != DECIDING_FILE {
            for word in DECIDING.iter().filter(|word| has_word(line, word)) {
                faults.push(Fault::new(source, number, format!("`{word}`: only {DECIDING_FILE} decides a count")));
            }
        }
    }
}

fn engine_layers(source: &Source, faults: &mut Vec<Fault>) {
    let Some(within) = source.path.strip_prefix("engine/src/").filter(|_| !source.path.starts_with(REPLAY)) else {
        return;
    };
    let layer = LAYERS.iter().find(|(parts, _)| parts.iter().any(|part| within.starts_with(part)));
    let Some((_, above)) = layer else { return };
    for (number, line) in source.code_lines().filter(|(number, _)| !source.is_test(*number)) {
        for module in above.iter().filter(|module| has_word(line, &format!("crate::{module}"))) {
            faults.push(Fault::new(
                source,
                number,
                format!("`{within}` must not know `{module}`: the arrows inside the engine run one way"),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::told;
    use super::*;

    #[test]
    fn a_file_begins_with_what_it_owns() {
        assert_eq!(
            told(check, &[("api/src/a.rs", "use b;\n"), ("api/src/b.rs", "//! B.\n"), ("api/src/c.txt", "use b;\n")]),
            ["api/src/a.rs:1: a file begins with `//!`: what it owns and who may call it"]
        );
    }

    #[test]
    fn a_file_is_not_too_long() {
        let long = format!("//! A.\n{}", "\n".repeat(600));
        let told = told(check, &[("a.rs", &long), ("b.rs", &long[..long.len() - 1])]);
        assert_eq!(told, ["a.rs: 601 lines: split a file before it passes 600"]);
    }

    #[test]
    fn unfinished_work_is_found_in_code_only() {
        let told = told(
            check,
            &[(
                "a.rs",
                "//! todo!() is fine here\nfn f() { todo!() }\nlet x = \"dbg!\";\n#[ignore]\n#[ignore = \"slow\"]\nunimplemented!()\ndbg!(x)\n",
            )],
        );
        let lines: Vec<&str> = told.iter().filter_map(|fault| fault.split(": ").next()).collect();
        assert_eq!(lines, ["a.rs:2", "a.rs:4", "a.rs:5", "a.rs:6", "a.rs:7"]);
    }

    #[test]
    fn no_crate_is_unsafe() {
        let told = told(check, &[("a.rs", "//! A.\n#![forbid(unsafe_code)]\n// unsafe\nunsafe { f() }\n")]);
        assert_eq!(told, ["a.rs:4: no crate here needs `unsafe`"]);
    }

    #[test]
    fn the_engine_is_told_the_time() {
        let text = "//! A.\nlet a = Instant::now();\nstd::thread::sleep(b);\nuse std::env;\n#[cfg(test)]\nmod tests {\n let a = Instant::now();\n}\n";
        let told = told(
            check,
            &[
                ("engine/src/a.rs", text),
                ("engine/src/clock.rs", text),
                ("engine/tests/a.rs", text),
                ("api/src/a.rs", text),
            ],
        );
        assert_eq!(
            told,
            [
                "engine/src/a.rs:2: `Instant::now`: only clock.rs may; pass what it gives down",
                "engine/src/a.rs:3: `thread::sleep`: only clock.rs may; pass what it gives down",
                "engine/src/a.rs:4: `std::env`: only clock.rs may; pass what it gives down",
            ]
        );
    }

    #[test]
    fn one_file_decides_counts() {
        let text = "//! A.\na.compare_exchange_weak(b);\na.fetch_update(b);\n";
        let told = told(
            check,
            &[("engine/src/slot/word.rs", text), ("engine/src/party.rs", text), ("loadtest/src/a.rs", text)],
        );
        assert_eq!(
            told,
            [
                "engine/src/party.rs:2: `compare_exchange_weak`: only engine/src/slot/word.rs decides a count",
                "engine/src/party.rs:3: `fetch_update`: only engine/src/slot/word.rs decides a count",
            ]
        );
    }

    #[test]
    fn the_arrows_inside_the_engine_run_one_way() {
        let text = "//! A.\nuse crate::engine::Engine;\n#[cfg(test)]\nmod tests {\n use crate::engine::Engine;\n}\n";
        let told = told(
            check,
            &[
                ("engine/src/units.rs", text),
                ("engine/src/slot/word.rs", text),
                ("engine/src/journal/writer.rs", text),
                ("engine/src/journal/replay.rs", text),
                ("engine/src/kernel/mod.rs", text),
            ],
        );
        assert_eq!(
            told,
            [
                "engine/src/journal/writer.rs:2: `journal/writer.rs` must not know `engine`: the arrows inside the engine run one way",
                "engine/src/slot/word.rs:2: `slot/word.rs` must not know `engine`: the arrows inside the engine run one way",
                "engine/src/units.rs:2: `units.rs` must not know `engine`: the arrows inside the engine run one way",
            ]
        );
    }
}
