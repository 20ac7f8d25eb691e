//! Who may depend on whom, and from where: read from the `Cargo.toml` files and `Cargo.lock`.

use super::Fault;
use super::source::Source;

/// Each of our crates (by folder) and those of ours that it may name. The arrows run one way.
const ARROWS: [(&str, &[&str]); 7] = [
    ("engine", &[]),
    ("programme", &["berth-engine"]),
    ("api", &["berth-engine", "berth-programme"]),
    ("loadtest", &[]),
    ("benches", &["berth-engine", "berth-programme"]),
    ("xtask", &[]),
    ("fuzz", &["berth-engine", "berth-programme"]),
];

/// What a crate must never know, with the reason.
const STRANGERS: [(&str, &[&str], &str); 2] = [
    (
        "engine",
        &["serde", "serde_json", "serde_derive", "tokio", "hyper", "hyper-util", "http", "http-body-util", "goose"],
        "the engine knows no wire and no runtime",
    ),
    (
        "programme",
        &["tokio", "hyper", "hyper-util", "http", "http-body-util", "goose"],
        "the programme knows no HTTP and no runtime",
    ),
];

/// The only place crates come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(files: &[Source], faults: &mut Vec<Fault>) {
    for source in files {
        if source.path == "Cargo.lock" {
            other_registries(source, faults);
        } else if source.path == ".cargo/config.toml" {
            replaced_sources(source, faults);
        } else if let Some(folder) = source.path.strip_suffix("/Cargo.toml") {
            arrows(folder, source, faults);
        }
    }
}

fn arrows(folder: &str, source: &Source, faults: &mut Vec<Fault>) {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == folder) else {
        faults.push(Fault::new(
            source,
            0,
            format!("`{folder}` has no row in the table of arrows (xtask/src/tidy/manifests.rs)"),
        ));
        return;
    };
    for (line, name) in dependencies(source) {
        if (name.starts_with("berth-") || name == "xtask") && !allowed.contains(&name) {
            let sentence = format!("`{folder}` must not depend on `{name}`: the arrows run one way");
            faults.push(Fault::new(source, line, sentence));
        }
        for (_, banned, why) in STRANGERS.iter().filter(|(of, ..)| *of == folder) {
            if banned.contains(&name) {
                faults.push(Fault::new(source, line, format!("`{folder}` must not depend on `{name}`: {why}")));
            }
        }
    }
}

/// Every name in a table of dependencies, of any kind and for any target, and the package behind it when it is renamed.
fn dependencies(source: &Source) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_table = false;
    for (number, line) in source.lines() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            in_table = header.ends_with("dependencies");
            if let Some((table, name)) = header.rsplit_once('.')
                && table.ends_with("dependencies")
            {
                found.push((number, name));
                in_table = false;
            }
            continue;
        }
        if let Some((_, renamed)) = line.split_once("package = \"") {
            found.extend(renamed.split('"').next().map(|name| (number, name)));
        }
        if in_table && !line.is_empty() && !line.starts_with('#') {
            found.extend(line.split(['.', '=', ' ']).next().map(|name| (number, name.trim_matches('"'))));
        }
    }
    found
}

fn other_registries(source: &Source, faults: &mut Vec<Fault>) {
    for (number, line) in source.lines() {
        if let Some(from) = line.strip_prefix("source = \"")
            && from.trim_end_matches('"') != REGISTRY
        {
            faults.push(Fault::new(source, number, "every crate comes from crates.io"));
        }
    }
}

fn replaced_sources(source: &Source, faults: &mut Vec<Fault>) {
    for (number, line) in source.lines() {
        let line = line.trim();
        if ["[source", "[registr", "replace-with", "[http"].iter().any(|start| line.starts_with(start)) {
            faults.push(Fault::new(
                source,
                number,
                "where a machine fetches crates from is that machine's own setting",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::told;
    use super::*;

    #[test]
    fn the_arrows_run_one_way() {
        let told = told(
            check,
            &[
                (
                    "engine/Cargo.toml",
                    "[package]\nname = \"berth-engine\"\n[dependencies]\nberth-programme.workspace = true\n",
                ),
                ("programme/Cargo.toml", "[dependencies]\nberth-engine.workspace = true\n"),
                (
                    "api/Cargo.toml",
                    "[dependencies]\nberth-engine = { path = \"../engine\" }\nberth-programme.workspace = true\n",
                ),
                ("loadtest/Cargo.toml", "[dev-dependencies]\nours = { package = \"berth-api\", path = \"../api\" }\n"),
                ("benches/Cargo.toml", "[dependencies.berth-api]\npath = \"../api\"\n"),
                ("xtask/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nberth-engine.workspace = true\n"),
                ("extra/Cargo.toml", "[dependencies]\n"),
            ],
        );
        assert_eq!(
            told,
            [
                "benches/Cargo.toml:1: `benches` must not depend on `berth-api`: the arrows run one way",
                "engine/Cargo.toml:4: `engine` must not depend on `berth-programme`: the arrows run one way",
                "extra/Cargo.toml: `extra` has no row in the table of arrows (xtask/src/tidy/manifests.rs)",
                "loadtest/Cargo.toml:2: `loadtest` must not depend on `berth-api`: the arrows run one way",
                "xtask/Cargo.toml:2: `xtask` must not depend on `berth-engine`: the arrows run one way",
            ]
        );
    }

    #[test]
    fn the_engine_knows_no_wire() {
        let told = told(
            check,
            &[
                (
                    "engine/Cargo.toml",
                    "[dependencies]\nserde.workspace = true\n[dev-dependencies]\ntokio = \"1\"\nredis = \"1\"\n",
                ),
                ("programme/Cargo.toml", "[dependencies]\nserde.workspace = true\nhyper = \"1\"\n"),
            ],
        );
        assert_eq!(
            told,
            [
                "engine/Cargo.toml:2: `engine` must not depend on `serde`: the engine knows no wire and no runtime",
                "engine/Cargo.toml:4: `engine` must not depend on `tokio`: the engine knows no wire and no runtime",
                "programme/Cargo.toml:3: `programme` must not depend on `hyper`: the programme knows no HTTP and no runtime",
            ]
        );
    }

    #[test]
    fn crates_come_from_one_place() {
        let told = told(
            check,
            &[
                (
                    "Cargo.lock",
                    &format!("source = \"{REGISTRY}\"\nsource = \"registry+https://mirror.example/index\"\n"),
                ),
                (".cargo/config.toml", "[alias]\nxtask = \"run\"\n[source.crates-io]\nreplace-with = \"mirror\"\n"),
            ],
        );
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[2].starts_with("Cargo.lock:2: "), "{told:?}");
    }
}
