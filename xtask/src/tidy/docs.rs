//! What pages and settings may say: no path of one machine, and only cargo commands that a reader can paste.

use super::Fault;
use super::source::Source;

/// Folders of somebody's machine. In pieces, or this file would be a fault of its own.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// The cargo commands that act on packages, so that must say on which.
const ACTS_ON_PACKAGES: [&str; 14] =
    ["build", "b", "test", "t", "run", "r", "check", "c", "clippy", "bench", "doc", "nextest", "rustc", "fix"];

pub(super) fn check(files: &[Source], faults: &mut Vec<Fault>) {
    for source in files {
        machine_paths(source, faults);
        if source.path.ends_with(".md") {
            cargo_commands(source, faults);
        }
    }
}

fn machine_paths(source: &Source, faults: &mut Vec<Fault>) {
    for (number, line) in source.lines() {
        for path in MACHINE_PATHS.iter().filter(|path| begins_a_path(line, path)) {
            faults.push(Fault::new(source, number, format!("`{path}` is a path of one machine")));
        }
    }
}

/// Whether the folder stands at the root, not inside a longer path or an address.
fn begins_a_path(line: &str, path: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_-.}*/".contains(c);
    line.match_indices(path).any(|(at, _)| !line[..at].chars().next_back().is_some_and(inside))
}

fn cargo_commands(source: &Source, faults: &mut Vec<Fault>) {
    let mut in_block = false;
    for (number, line) in source.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let spans: Vec<&str> = if in_block { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for span in spans {
            for command in span.split(['|', ';', '&']).filter_map(cargo_command).filter(|command| !says_where(command))
            {
                faults.push(Fault::new(
                    source,
                    number,
                    format!("`{command}` does not say on which package: add `--workspace` or `-p NAME`"),
                ));
            }
        }
    }
}

/// The part of a line from `cargo` on, after a prompt and variables, and without a comment.
fn cargo_command(part: &str) -> Option<&str> {
    let mut rest = part.trim().trim_start_matches("$ ");
    while let Some((word, after)) = rest.split_once(' ')
        && word.contains('=')
    {
        rest = after.trim_start();
    }
    let rest = rest.split(" #").next().unwrap_or(rest).trim();
    rest.starts_with("cargo ").then_some(rest)
}

fn says_where(command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().skip(1).filter(|word| !word.starts_with('+')).collect();
    let Some(chore) = words.first() else { return true };
    let names_one = |word: &&str| matches!(*word, "--workspace" | "-p" | "--package") || word.starts_with("--package=");
    !ACTS_ON_PACKAGES.contains(chore) || words.starts_with(&["run", "--release"]) || words.iter().any(names_one)
}

#[cfg(test)]
mod tests {
    use super::super::bench::told;
    use super::*;

    #[test]
    fn machine_paths_are_found_anywhere() {
        let [first, second, third] = MACHINE_PATHS;
        let told = told(
            check,
            &[
                ("a.rs", &format!("//! See {first}x.\n")),
                (
                    "b.toml",
                    &format!("dir = \"{second}y\"\nurl = \"https://example.org{third}\"\nother = \"a{first}\"\n"),
                ),
            ],
        );
        assert_eq!(
            told,
            [
                format!("a.rs:1: `{first}` is a path of one machine"),
                format!("b.toml:1: `{second}` is a path of one machine")
            ]
        );
    }

    #[test]
    fn a_cargo_command_says_on_which_package() {
        let page = "Type `cargo test --doc` or `cargo bench -p berth-benches`.\n```sh\n\
                    $ cargo run --release\ncargo run\nRUST_LOG=debug cargo run -p berth-api -- serve\n\
                    cargo xtask test\ncargo build --workspace && cargo nextest run\ncargo fmt --all --check # cargo is fine\n```\n\
                    `cargo` and `cargo-nextest` and `cargo --version` are words.\n";
        let told = told(check, &[("README.md", page), ("a.txt", page)]);
        let lines: Vec<&str> = told.iter().filter_map(|fault| fault.split(": ").next()).collect();
        assert_eq!(lines, ["README.md:1", "README.md:4", "README.md:7"]);
        assert!(told[2].contains("`cargo nextest run`"), "{told:?}");
    }
}
