//! Searches and durable bookings over HTTP beside a bare hyper server that answers the same bytes: server CPU per request.
//!
//! `cargo bench -p berth-benches --bench http`; with ` -- booking` only the cases whose title has that in it.

use std::process::ExitCode;

use berth_benches::http::run::{Plan, run};

fn main() -> ExitCode {
    // `cargo bench` says --bench; as a test it runs once and tiny.
    let whole = std::env::args().any(|arg| arg == "--bench");
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let plan = Plan { only, ..if whole { Plan::whole() } else { Plan::tiny() } };
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    match run(&plan, &mut std::io::stdout()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "http: {error}");
            ExitCode::FAILURE
        }
    }
}
