//! A nation's slots as SMART Scheduling Links publishes them: manifest, files, whole copies, searches of FHIR, bookings beside a copier.
//!
//! `cargo bench -p berth-benches --bench published`

use std::process::ExitCode;

use berth_benches::http::copy::{Plan, run};

fn main() -> ExitCode {
    // Of tests there is none to be listed.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    // `cargo bench` says --bench; as a test it runs once and tiny.
    let plan = if std::env::args().any(|arg| arg == "--bench") { Plan::whole() } else { Plan::tiny() };
    match run(&plan, &mut std::io::stdout()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "published: {error}");
            ExitCode::FAILURE
        }
    }
}
