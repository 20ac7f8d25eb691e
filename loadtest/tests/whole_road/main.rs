//! The whole road of the harness, against a twin server that this same program plays: started, seeded, driven, killed,
//! restarted, drained, exported, audited, reported. An honest twin must be found to hold; a twin with a planted fault must
//! be found broken, by the promise it breaks.
//!
//! Nothing here depends on how fast the machine is: the scenario forgives every late start, and a verdict rests on what
//! happened, never on when.

#![expect(clippy::unwrap_used, reason = "all of this is test code, and clippy sees tests only in the usual harness")]

mod http;
mod twin;

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Output};

/// What a twin gets wrong, the promise that has to be named, and the exit code.
const RUNS: [(&str, &str, i32); 6] = [
    ("", "verdict: held", 0),
    ("oversells", "capacity", 1),
    ("answers-early", "acknowledged", 1),
    ("forgets-keys", "one-effect", 1),
    ("many-claims", "one-claim", 1),
    ("confirms-late", "deadline", 1),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve") => http::serve(&arguments),
        Some("export") => http::export(&arguments),
        Some("verify") => http::verify(&arguments),
        // What a runner of tests asks first: one test, and none that is left out.
        Some("--list") if arguments.iter().any(|argument| argument == "--ignored") => {}
        Some("--list") => say("every_twin_is_judged_rightly: test"),
        _ => return test_all(),
    }
    ExitCode::SUCCESS
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn test_all() -> ExitCode {
    let mut failed = 0;
    // Two at a time: each is a client and a server.
    for pair in RUNS.chunks(2) {
        let runs: Vec<_> = pair.iter().map(|&run| (run.0, std::thread::spawn(move || judge_twin(run)))).collect();
        for (fault, run) in runs {
            let name =
                if fault.is_empty() { "an_honest_twin_holds".into() } else { format!("a_twin_that_{fault}_is_found") };
            match run.join() {
                Ok(Ok(())) => say(&format!("test {} ... ok", name.replace('-', "_"))),
                Ok(Err(said)) => {
                    failed += 1;
                    say(&format!("test {} ... FAILED\n{said}", name.replace('-', "_")));
                }
                Err(_) => {
                    failed += 1;
                    say(&format!("test {name} ... FAILED (panicked)"));
                }
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    say(&format!(
        "\ntest result: {word}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out",
        RUNS.len() - failed
    ));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn judge_twin((fault, word, code): (&str, &str, i32)) -> Result<(), String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = surge(directory.path(), fault);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let verdict = said.lines().find(|line| line.starts_with("verdict: ")).unwrap_or_default();
    if output.status.code() != Some(code) || !verdict.contains(word) {
        return Err(format!("wanted {code} and {word:?}, got {:?}:\n{said}", output.status.code()));
    }
    let report = directory.path().join("report");
    for file in ["report.html", "report.json", "goose.html", "history.ndjson", "run.json"] {
        if !report.join(file).exists() {
            return Err(format!("{file} is missing"));
        }
    }
    let page = std::fs::read_to_string(report.join("report.html")).map_err(|error| error.to_string())?;
    if page.contains("http://") || page.contains("https://") || page.contains("<script") {
        return Err("the page is not self-contained".into());
    }
    // The report can be made again from its directory alone, with the same verdict.
    let again = Command::new(env!("CARGO_BIN_EXE_berth-surge")).arg("audit").arg(&report).output();
    let again = again.map_err(|error| error.to_string())?.status.code();
    if again == Some(code) { Ok(()) } else { Err(format!("judged again, the exit code is {again:?}")) }
}

fn surge(directory: &Path, fault: &str) -> Output {
    let own = std::env::current_exe().expect("this test's own path");
    Command::new(env!("CARGO_BIN_EXE_berth-surge"))
        .arg("run")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole_road/twin.toml"))
        .arg("--server")
        .arg(own)
        .args(["--seed", "7", "--report-dir"])
        .arg(directory.join("report"))
        .env("BERTH_TWIN_FAULT", fault)
        .output()
        .expect("berth-surge runs")
}
