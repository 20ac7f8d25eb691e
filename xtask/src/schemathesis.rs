//! `cargo xtask schemathesis`: the OpenAPI document and a live server held against each other by a tool that is not ours.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::demo::Demo;
use crate::shell::{cargo, done, root, target_dir};
use crate::tally::Tally;
use crate::test::Stop;
use crate::usage;

const HELP: &str = "\
cargo xtask schemathesis [--examples N] [--seed S]

Checks docs/openapi.json with openapi-spec-validator, then starts `berth demo` in a directory of its own and lets schemathesis send it what the
document allows and what it does not: examples, boundary values, random bodies, and chains along the document's links (book, read, cancel, read). It looks for
server errors, answers that the document does not tell of, bad requests that are taken, good ones that are not, ignored credentials, and bookings that are
used after their end.

    --examples N   random requests per operation (default 50)
    --seed S       what to begin from (default 1); the same seed sends the same

Both tools are installed from PyPI into target/schemathesis, once; needs python3 with its venv module. `cargo xtask test` has a small run of it as
the step `schemathesis`, which is skipped, with a message, where they cannot be installed; with CI=true that is a failure.
";

/// Of the gate: enough for every operation's examples, boundary values and a few random requests, in well under two minutes.
const GATE_EXAMPLES: u64 = 2;
const GATE_SEED: u64 = 1;

pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match parse(args) {
        Ok((examples, seed)) => match check(examples, seed) {
            Ok(()) => ExitCode::SUCCESS,
            Err(told) => {
                eprintln!("xtask: {told}");
                ExitCode::FAILURE
            }
        },
        Err(sentence) => usage(&sentence),
    }
}

/// Examples and seed.
fn parse(args: &[String]) -> Result<(u64, u64), String> {
    let (mut examples, mut seed) = (50, 1);
    let mut words = args.iter();
    while let Some(name) = words.next() {
        let to = match name.as_str() {
            "--examples" => &mut examples,
            "--seed" => &mut seed,
            _ => return Err(format!("there is no option `{name}`; see `cargo xtask schemathesis --help`")),
        };
        let value = words.next().ok_or_else(|| format!("`{name}` needs a number"))?;
        *to = value
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| format!("`{name} {value}`: no whole number above 0"))?;
    }
    Ok((examples, seed))
}

/// The step of the gate: few examples, always the same. Skipped where the tools cannot be had, but not in CI.
pub(crate) fn gate() -> Result<Tally, Stop> {
    let tools = match tools() {
        Ok(tools) => tools,
        Err(why) if may_skip(std::env::var("CI").ok().as_deref()) => {
            println!("skipped, for the tools are not there: {why}");
            println!("(with CI=true this is a failure)");
            return Ok(Tally::default());
        }
        Err(why) => return Err(Stop::from(why)),
    };
    check_with(&tools, GATE_EXAMPLES, GATE_SEED)?;
    Ok(Tally::ONE)
}

/// Whoever has no Python or no network can still run the rest.
pub(crate) fn may_skip(ci: Option<&str>) -> bool {
    ci != Some("true")
}

fn check(examples: u64, seed: u64) -> Result<(), String> {
    check_with(&tools()?, examples, seed)
}

fn check_with(tools: &Path, examples: u64, seed: u64) -> Result<(), String> {
    let document = root().join("docs/openapi.json");
    done(Command::new(tools.join("python")).args(["-m", "openapi_spec_validator"]).arg(document))?;
    done(cargo().args(["build", "--workspace", "--bin", "berth"]))?;
    let demo = Demo::start("schemathesis")?;
    let mut command = Command::new(tools.join("st"));
    command.current_dir(root().join("api/schemathesis"));
    command.env("BERTH_URL", &demo.url).env("BERTH_ADMIN_KEY", &demo.admin).env("BERTH_PLATFORM_KEY", &demo.platform);
    command.args(["run", &format!("{}/openapi.json", demo.url), "--phases", "examples,coverage,fuzzing,stateful"]);
    command.args(["--continue-on-failure", "--seed", &seed.to_string(), "--max-examples", &examples.to_string()]);
    done(&mut command)
}

/// The folder with the tools' programs; they are installed when they are not there in these versions.
fn tools() -> Result<PathBuf, String> {
    let wanted = root().join("api/schemathesis/requirements.txt");
    let wanted_text = std::fs::read_to_string(&wanted).map_err(|error| format!("{}: {error}", wanted.display()))?;
    let home = target_dir().join("schemathesis");
    let note = home.join("installed.txt");
    if std::fs::read_to_string(&note).is_ok_and(|there| there == wanted_text) {
        return Ok(home.join("bin"));
    }
    done(Command::new("python3").args(["-m", "venv"]).arg(&home))
        .map_err(|error| format!("{error}; on Debian: sudo apt-get install -y python3-venv"))?;
    // Without a network it is soon over.
    let install = ["install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "15", "-r"];
    done(Command::new(home.join("bin/pip")).args(install).arg(&wanted))?;
    std::fs::write(&note, wanted_text).map_err(|error| format!("{}: {error}", note.display()))?;
    Ok(home.join("bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ci_insists_on_the_tools() {
        assert!(may_skip(None) && may_skip(Some("")) && may_skip(Some("false")) && !may_skip(Some("true")));
    }

    #[test]
    fn a_wrong_command_line_is_one_sentence() {
        let parse = |words: &[&str]| parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&[]), Ok((50, 1)));
        assert_eq!(parse(&["--seed", "7", "--examples", "3"]), Ok((3, 7)));
        for bad in [&["--seed"][..], &["--seed", "x"], &["--examples", "0"], &["--fast"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
