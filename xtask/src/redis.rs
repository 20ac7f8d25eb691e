//! Makes sure that what the tests start beside Berth is there: a `redis-server`, a `python3` for the worked consumer, and
//! the `promtool` that reads metrics and alert rules.

use std::process::Command;

use crate::shell::{Show, is_root, on_path, run, typed};

/// Programs, the Debian package of each, and what to ask for elsewhere.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("redis-server", "redis-server", "Redis 7.0 or newer"),
    ("python3", "python3", "Python 3.9 or newer"),
    ("promtool", "prometheus", "promtool of Prometheus 2.40 or newer"),
];

/// Finds each program, or installs it when we are root, or says what to type. The answer is a line about what was found.
pub(crate) fn ensure() -> Result<String, String> {
    let found: Result<Vec<_>, _> =
        PROGRAMS.iter().map(|(program, package, what)| ensure_one(program, package, what)).collect();
    found.map(|found| found.join("; "))
}

pub(crate) fn ensure_one(program: &str, package: &str, what: &str) -> Result<String, String> {
    if let Some(found) = on_path(program) {
        return Ok(version(&found));
    }
    let by_hand = format!("sudo apt-get update && sudo apt-get install -y --no-install-recommends {package}");
    if on_path("apt-get").is_none() {
        return Err(format!("{program} is not on PATH; install {what} and try again"));
    }
    if !is_root() {
        return Err(format!("{program} is not on PATH; install it with: {by_hand}"));
    }
    // What installs it on Debian and its descendants.
    let install: [&[&str]; 2] =
        [&["apt-get", "update"], &["apt-get", "install", "-y", "--no-install-recommends", package]];
    for words in install {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        println!("{program} is not on PATH; running `{}`", typed(&command));
        let ended = run(&mut command, Show::Kept)?;
        if !ended.ok() {
            return Err(format!("`{}` ended with {}:\n{}", typed(&command), ended.status(), ended.text));
        }
    }
    match on_path(program) {
        Some(found) => Ok(version(&found)),
        None => Err(format!("{program} is still not on PATH after installing it; try: {by_hand}")),
    }
}

fn version(program: &std::path::Path) -> String {
    let told = run(Command::new(program).arg("--version"), Show::Kept).map(|ended| ended.text);
    told.unwrap_or_default().trim().to_owned()
}
