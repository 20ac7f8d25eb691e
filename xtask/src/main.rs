//! The project's own chores: `cargo xtask test`, `cargo xtask tidy`, `cargo xtask crash`, `cargo xtask sim`.
//!
//! Owns the order of the gate and what each step must print or return; knows our crates only by the commands a person would
//! type, and depends on nothing but std, so that it builds in a second on a fresh clone.
//!
//! Reading order: [`test`] (the gate), [`tidy`] (what is held about the text), [`planted`] (faults on purpose), [`crash`], [`scenarios`], [`sim`], [`fuzz`], [`handover`], [`schemathesis`], [`fhir`] and [`certificates`],
//! then the helpers [`demo`], [`redis`], [`shell`] and [`tally`].

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command-line chore speaks on stdout")]

mod test;

mod tidy;

mod planted;

mod crash;

mod sim;

mod scenarios;

mod fuzz;

mod handover;

mod schemathesis;

mod fhir;

mod certificates;

mod demo;

mod redis;

mod shell;

mod tally;

use std::process::ExitCode;

const HELP: &str = "\
Berth's chores. Every one runs from any folder of the checkout.

    cargo xtask test      the whole gate, what CI runs: formatting, tidy, clippy, every test, the model
                          checkers, and the faults planted on purpose that must be noticed
    cargo xtask tidy      only what is held about the text (seconds): crate arrows, rule ids, no machine paths
    cargo xtask crash     many short surges with a crash in each, on a release build, each with another seed
    cargo xtask scenarios the shipped scenarios one after another, and a table of verdicts; --small in minutes
    cargo xtask sim       the simulator: a cell, its disk and its Redis through failures and crashes, by seed
    cargo xtask fuzz      every decoder of stored bytes against bytes that nobody wrote
    cargo xtask handover  a planned restart under load on a large data directory: how long it takes, and that nothing is lost
    cargo xtask schemathesis  the OpenAPI document and a live server against each other, by a tool from outside
    cargo xtask fhir      what a live server tells in FHIR, and publishes, held against the definitions of R4 by a validator from outside
    cargo xtask help      this page; `cargo xtask test --help` and `crash --help` tell more

A first visit:            cargo xtask test
While changing the engine: cargo xtask test --only tidy,tests,loom,shuttle
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (chore, rest) = match args.split_first() {
        Some((chore, rest)) => (chore.as_str(), rest),
        None => ("help", [].as_slice()),
    };
    match chore {
        "test" => test::main(rest),
        "tidy" => tidy::main(rest),
        "crash" => crash::main(rest),
        "scenarios" => scenarios::main(rest),
        "sim" => sim::main(rest),
        "fuzz" => fuzz::main(rest),
        "handover" => handover::main(rest),
        "schemathesis" => schemathesis::main(rest),
        "fhir" => fhir::main(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        other => usage(&format!("there is no chore `{other}`; `cargo xtask help` lists them")),
    }
}

/// Says what was wrong with the command line, and gives the status for it.
fn usage(sentence: &str) -> ExitCode {
    eprintln!("xtask: {sentence}");
    ExitCode::from(2)
}
