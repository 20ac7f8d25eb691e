//! A campaign's day over HTTP: people registered, checked in and given their dose, and what it takes of the machine.
//!
//! `cargo bench -p berth-benches --bench centre`

use std::io::Write as _;
use std::process::ExitCode;

use berth_benches::centre::{Plan, run};

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    // `cargo bench` says --bench; as a test it runs once and tiny.
    let plan = if std::env::args().any(|arg| arg == "--bench") { Plan::whole() } else { Plan::tiny() };
    match run(&plan, &mut std::io::stdout()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "centre: {error}");
            ExitCode::FAILURE
        }
    }
}
