//! `berth-surge`: rehearses an opening day against a Berth server and audits what came of it.
//!
//! The harness talks HTTP only. It starts the server, publishes an inventory, lets people act on it in an open model,
//! kills the server when the scenario says so, and then judges the run from three sources that do not trust each
//! other: what the clients were told (the history), what the server says it holds (the export), and what it wrote
//! down (the journal).
//!
//! Exit status: 0 the promises held, 1 at least one is broken, 3 the run proves nothing (and says why), 4 the promises held
//! and an objective was missed, 2 it could not run.
#![forbid(unsafe_code)]

mod apportion;
mod audit;
mod cli;
mod compare;
mod console;
mod drive;
mod error;
mod extract;
mod fault;
mod ground;
mod history;
mod inventory;
mod name;
mod objectives;
mod plan;
mod process;
mod replay;
mod report;
mod run;
mod samples;
mod scenario;
mod seed;
mod series;
mod share;
mod stop;
mod synth;
mod wire;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli::act(cli) {
        Ok(verdict) => verdict.exit_code(),
        Err(error) => {
            console::complain(&format!("berth-surge: {error}"));
            ExitCode::from(2)
        }
    }
}
