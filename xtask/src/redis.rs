//! Makes sure that a `redis-server` is there: the tests of the write-behind journal start their own.

use std::process::Command;

use crate::shell::{Show, on_path, run, typed};

const PROGRAM: &str = "redis-server";

/// What installs it on Debian and its descendants.
const INSTALL: [&[&str]; 2] =
    [&["apt-get", "update"], &["apt-get", "install", "-y", "--no-install-recommends", "redis-server"]];

/// Finds `redis-server`, or installs it when we are root, or says what to type. The answer is a line about what was found.
pub(crate) fn ensure() -> Result<String, String> {
    if let Some(found) = on_path(PROGRAM) {
        return Ok(version(&found));
    }
    let by_hand = "sudo apt-get update && sudo apt-get install -y --no-install-recommends redis-server";
    if on_path("apt-get").is_none() {
        return Err(format!("{PROGRAM} is not on PATH; install Redis 7.0 or newer and try again"));
    }
    if !is_root() {
        return Err(format!("{PROGRAM} is not on PATH; install it with: {by_hand}"));
    }
    for words in INSTALL {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        println!("{PROGRAM} is not on PATH; running `{}`", typed(&command));
        let ended = run(&mut command, Show::Kept)?;
        if !ended.ok() {
            return Err(format!("`{}` ended with {}:\n{}", typed(&command), ended.status(), ended.text));
        }
    }
    match on_path(PROGRAM) {
        Some(found) => Ok(version(&found)),
        None => Err(format!("{PROGRAM} is still not on PATH after installing it; try: {by_hand}")),
    }
}

fn version(program: &std::path::Path) -> String {
    let told = run(Command::new(program).arg("--version"), Show::Kept).map(|ended| ended.text);
    told.unwrap_or_default().trim().to_owned()
}

fn is_root() -> bool {
    run(Command::new("id").arg("-u"), Show::Kept).is_ok_and(|ended| ended.text.trim() == "0")
}
