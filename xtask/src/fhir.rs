//! `cargo xtask fhir`: what a live server tells in FHIR, held against the definitions of R4 by a validator that is not ours.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::demo::Demo;
use crate::schemathesis::may_skip;
use crate::shell::{cargo, done, root, target_dir};
use crate::tally::Tally;
use crate::test::Stop;
use crate::usage;

const HELP: &str = "\
cargo xtask fhir

Starts `berth demo` in a directory of its own, books and gives doses there, fetches resources of every kind at /fhir, each by its id and in bundles, and
every file that /smart/$bulk-publish names, and lets the validator of @medplum/core check each against the definitions of FHIR R4, offline. Each line
of the files must have every field that SMART Scheduling Links asks for, and lead to lines that are there. Last, some broken resources are planted: the
step fails unless each is refused. api/fhir-check/check.mjs has the checks.

The validator is installed from npm into target/fhir-check, once; needs node 18 or later and npm. `cargo xtask test` runs it as the step `fhir`, which is
skipped, with a message, where it cannot be installed; with CI=true that is a failure.
";

const CHECKS: &str = "api/fhir-check";

pub(crate) fn main(args: &[String]) -> ExitCode {
    match args {
        [] => {}
        [arg] if arg == "--help" || arg == "-h" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => return usage("`fhir` takes no arguments; see `cargo xtask fhir --help`"),
    }
    match tools().and_then(|tools| check(&tools)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(told) => {
            eprintln!("xtask: {told}");
            ExitCode::FAILURE
        }
    }
}

/// The step of the gate. Skipped where the validator cannot be had, but not in CI.
pub(crate) fn gate() -> Result<Tally, Stop> {
    let tools = match tools() {
        Ok(tools) => tools,
        Err(why) if may_skip(std::env::var("CI").ok().as_deref()) => {
            println!("skipped, for the validator is not there: {why}");
            println!("(with CI=true this is a failure)");
            return Ok(Tally::default());
        }
        Err(why) => return Err(Stop::from(why)),
    };
    check(&tools)?;
    Ok(Tally::ONE)
}

fn check(tools: &PathBuf) -> Result<(), String> {
    done(cargo().args(["build", "--workspace", "--bin", "berth"]))?;
    let demo = Demo::start("fhir")?;
    let mut command = Command::new("node");
    command.arg(root().join(CHECKS).join("check.mjs"));
    command.env("FHIR_TOOLS", tools).env("BERTH_URL", &demo.url).env("BERTH_PLATFORM_KEY", &demo.platform);
    command.env("BERTH_ADMIN_KEY", &demo.admin).env("BERTH_PROGRAMME", root().join("programmes/india-2021.toml"));
    done(&mut command)
}

/// The folder with the validator; it is installed when it is not there in this version.
fn tools() -> Result<PathBuf, String> {
    let wanted = root().join(CHECKS).join("package.json");
    let wanted_text = std::fs::read_to_string(&wanted).map_err(|error| format!("{}: {error}", wanted.display()))?;
    let home = target_dir().join("fhir-check");
    let note = home.join("installed.txt");
    if std::fs::read_to_string(&note).is_ok_and(|there| there == wanted_text) {
        return Ok(home);
    }
    let write =
        |path: PathBuf| std::fs::write(&path, &wanted_text).map_err(|error| format!("{}: {error}", path.display()));
    std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    write(home.join("package.json"))?;
    // Without a network it is soon over; nothing that comes along is run.
    let install = [
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=1",
        "--fetch-timeout=60000",
        "--prefix",
    ];
    done(Command::new("npm").args(install).arg(&home))
        .map_err(|error| format!("{error}; needs node and npm: sudo apt-get install -y npm"))?;
    write(note)?;
    Ok(home)
}
