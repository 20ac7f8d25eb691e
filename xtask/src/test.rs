//! `cargo xtask test`: the whole gate, in the order in which a fault is cheapest to find.
//!
//! Every step prints its name, what it does and its time; the first that fails ends the run with its output. The last line
//! is always `N passed, M failed`, over every runner: tests by their own count, a check of our own as one.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::shell::{Ended, Show, cargo, cargo_with, on_path, run, typed};
use crate::tally::Tally;
use crate::{certificates, crash, fhir, planted, redis, scenarios, schemathesis, sim, tidy, usage};

const HELP: &str = "\
cargo xtask test [--only STEP[,STEP]] [--skip STEP[,STEP]] [--list]

Runs the gate. With no options: all of it, as CI does. It stops at the first step that fails and shows what failed.

    --only tidy,tests   just these steps, in the gate's order
    --skip planted      all but these
    --list              the steps, with what each does
";

/// A part of the gate.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<Tally, Stop>,
}

const STEPS: [Step; 17] = [
    Step {
        name: "redis",
        about: "redis-server, python3 and promtool are there, or are installed when root",
        run: redis_step,
    },
    Step { name: "fmt", about: "every file is formatted", run: fmt },
    Step { name: "tidy", about: "crate arrows, rule ids, paths, documented commands", run: tidy_step },
    Step { name: "clippy", about: "no warning, in any target", run: clippy },
    Step { name: "tests", about: "every test of every crate", run: tests },
    Step { name: "docs", about: "the examples in the documentation, the README's too", run: docs },
    Step {
        name: "schemathesis",
        about: "a tool that is not ours holds the OpenAPI document and a live server against each other, a small run",
        run: schemathesis::gate,
    },
    Step {
        name: "fhir",
        about: "a validator that is not ours checks what a live server tells in FHIR, and every published file",
        run: fhir::gate,
    },
    Step {
        name: "certificates",
        about: "verifiers that are not ours take certificates of each kind, and refuse tampered ones and wrong keys",
        run: certificates::gate,
    },
    Step { name: "loom", about: "the slot word, every interleaving of every pair of transitions", run: loom },
    Step { name: "shuttle", about: "the real submit kernel under many schedules", run: shuttle },
    Step { name: "swaps", about: "each wrong order of the kernel's steps is noticed", run: planted::swaps },
    Step { name: "sim", about: "300 seeds of the simulator: no crash breaks a promise", run: sim::small },
    Step { name: "simplants", about: "each planted fault of the journal is found by the simulator", run: sim::planted },
    Step {
        name: "planted",
        about: "a small surge: the sound server holds, each faulty one is found out",
        run: planted::servers,
    },
    Step {
        name: "crash",
        about: "a few crash rounds, one with Redis; Redis away for a surge, a failover that loses the tail, a disk filled for real: on the real binary",
        run: crash::gate,
    },
    Step {
        name: "scenarios",
        about: "a few of the shipped scenarios, small: everybody in one instant, a centre that closes, the doors",
        run: scenarios::gate,
    },
];

/// Why a step ended the run, and what it had counted by then.
pub(crate) struct Stop {
    tally: Tally,
    why: String,
}

impl Stop {
    /// What was counted, and why it is not enough.
    pub(crate) fn of(tally: Tally, why: String) -> Stop {
        Stop { tally, why }
    }

    /// A check that failed after others of its step had passed.
    pub(crate) fn after(passed: Tally, why: String) -> Stop {
        Stop { tally: passed + Tally { passed: 0, failed: 1 }, why }
    }
}

impl From<String> for Stop {
    fn from(why: String) -> Stop {
        Stop::after(Tally::default(), why)
    }
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        for step in &STEPS {
            println!("{:<12} {}", step.name, step.about);
        }
        return ExitCode::SUCCESS;
    }
    match choose(args) {
        Ok(steps) => gate(&steps),
        Err(sentence) => usage(&sentence),
    }
}

/// The steps that the command line asks for, in the gate's order.
fn choose(args: &[String]) -> Result<Vec<&'static Step>, String> {
    let (mut only, mut skip) = (Vec::new(), Vec::new());
    let mut words = args.iter();
    while let Some(option) = words.next() {
        let list = match option.as_str() {
            "--only" => &mut only,
            "--skip" => &mut skip,
            _ => return Err(format!("there is no option `{option}`; see `cargo xtask test --help`")),
        };
        let names = words.next().ok_or_else(|| format!("`{option}` needs the name of a step; --list shows them"))?;
        for name in names.split(',') {
            let known = STEPS.iter().find(|step| step.name == name);
            list.push(known.ok_or_else(|| format!("there is no step `{name}`; --list shows them"))?.name);
        }
    }
    let chosen = |step: &&Step| (only.is_empty() || only.contains(&step.name)) && !skip.contains(&step.name);
    let steps: Vec<&Step> = STEPS.iter().filter(chosen).collect();
    if steps.is_empty() { Err("no step is left to run".to_owned()) } else { Ok(steps) }
}

fn gate(steps: &[&Step]) -> ExitCode {
    let mut done: Vec<(&str, Tally, Duration)> = Vec::new();
    let mut stopped = None;
    for (index, step) in steps.iter().enumerate() {
        println!("[{}/{}] {}: {}", index + 1, steps.len(), step.name, step.about);
        let started = Instant::now();
        let (tally, why) = match (step.run)() {
            Ok(tally) => (tally, None),
            Err(stop) => (stop.tally, Some(stop.why)),
        };
        done.push((step.name, tally, started.elapsed()));
        if let Some(why) = why {
            println!("\n{}\n", why.trim_end());
            stopped = Some(step.name);
            break;
        }
        println!("[{}/{}] {}: ok in {:.1} s\n", index + 1, steps.len(), step.name, started.elapsed().as_secs_f64());
    }

    println!("{:<12} {:>8} {:>8} {:>8}", "step", "seconds", "passed", "failed");
    for (name, tally, took) in &done {
        println!("{name:<12} {:>8.1} {:>8} {:>8}", took.as_secs_f64(), tally.passed, tally.failed);
    }
    for step in &steps[done.len()..] {
        println!("{:<12}  not run", step.name);
    }
    if let Some(name) = stopped {
        println!("stopped at {name}; again with: cargo xtask test --only {name}");
    }
    let total: Tally = done.iter().map(|(_, tally, _)| *tally).sum();
    println!("{} passed, {} failed", total.passed, total.failed);
    if stopped.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn redis_step() -> Result<Tally, Stop> {
    println!("{}", redis::ensure()?);
    Ok(Tally::ONE)
}

fn fmt() -> Result<Tally, Stop> {
    // A dumb terminal: rustfmt would put colours into a pipe.
    one(cargo().args(["fmt", "--all", "--check"]).env("TERM", "dumb"))
}

fn tidy_step() -> Result<Tally, Stop> {
    println!("{}", tidy::check()?);
    Ok(Tally::ONE)
}

fn clippy() -> Result<Tally, Stop> {
    one(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn tests() -> Result<Tally, Stop> {
    counted(runner(cargo()).args(["--workspace", "--all-targets"]))
}

fn docs() -> Result<Tally, Stop> {
    // nextest runs no documentation tests.
    counted(cargo().args(["test", "--workspace", "--doc"]))
}

fn loom() -> Result<Tally, Stop> {
    checked("loom", "word_loom")
}

fn shuttle() -> Result<Tally, Stop> {
    checked("shuttle", "kernel_shuttle")
}

/// Runs one test file of the engine under the cfg of its model checker.
fn checked(cfg: &str, test: &str) -> Result<Tally, Stop> {
    let (command, ended) = run_tests(&[cfg], test, Show::Live)?;
    let tally = judge(&command, &ended)?;
    // A file that is empty under its cfg would pass for ever.
    if tally.passed == 0 { Err(Stop::from(format!("`{command}` under cfg({cfg}) ran no test"))) } else { Ok(tally) }
}

/// Runs one test file with our crates compiled under these cfgs. The whole workspace is named so that the dependencies are
/// resolved, and so built, as they are for all other tests.
pub(crate) fn run_tests(cfgs: &[&str], test: &str, show: Show) -> Result<(String, Ended), String> {
    let mut command = runner(cargo_with(cfgs)?);
    command.args(["--workspace", "--test", test]);
    let ended = run(&mut command, show)?;
    Ok((typed(&command), ended))
}

/// `cargo nextest run` where there is nextest (it runs tests side by side, each in its own process), else `cargo test`.
fn runner(mut cargo: Command) -> Command {
    if on_path("cargo-nextest").is_some() {
        cargo.args(["nextest", "run", "--no-fail-fast", "--status-level", "slow", "--final-status-level", "slow"]);
    } else {
        cargo.args(["test", "--no-fail-fast"]);
    }
    cargo
}

/// A command that is one check.
fn one(command: &mut Command) -> Result<Tally, Stop> {
    let ended = run(command, Show::Live)?;
    if ended.ok() {
        Ok(Tally::ONE)
    } else {
        Err(Stop::from(format!("`{}` ended with {}", typed(command), ended.status())))
    }
}

/// A command that runs tests and counts them.
fn counted(command: &mut Command) -> Result<Tally, Stop> {
    let ended = run(command, Show::Live)?;
    judge(&typed(command), &ended)
}

fn judge(command: &str, ended: &Ended) -> Result<Tally, Stop> {
    let tally = Tally::read(&ended.text);
    if ended.ok() && tally.failed == 0 {
        return Ok(tally);
    }
    let why = format!("`{command}` ended with {}", ended.status());
    // Without a count it did not come to running tests: that is one failure.
    Err(if tally.failed == 0 { Stop::after(tally, why) } else { Stop { tally, why } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Result<Vec<&'static str>, String> {
        let args: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        choose(&args).map(|steps| steps.iter().map(|step| step.name).collect())
    }

    #[test]
    fn steps_are_chosen_in_the_order_of_the_gate() {
        assert_eq!(names(&["--only", "loom,tidy"]), Ok(vec!["tidy", "loom"]));
        assert_eq!(names(&["--only", "loom,tidy", "--skip", "tidy"]), Ok(vec!["loom"]));
        assert_eq!(names(&[]).unwrap().len(), STEPS.len());
    }

    #[test]
    fn a_wrong_choice_is_one_sentence() {
        for words in [&["--only"][..], &["--only", "lint"], &["--fast"], &["--only", "tidy", "--skip", "tidy"]] {
            assert!(names(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn tests_that_fail_and_builds_that_fail_both_count() {
        let ended = |code, text: &str| Ended { code: Some(code), text: text.to_owned() };
        let failed = judge("x", &ended(100, "Summary [ 1s] 9 tests run: 7 passed, 2 failed, 0 skipped")).err().unwrap();
        assert_eq!(failed.tally, Tally { passed: 7, failed: 2 });
        let failed = judge("x", &ended(101, "error: could not compile")).err().unwrap();
        assert_eq!(failed.tally, Tally { passed: 0, failed: 1 });
        assert!(judge("x", &ended(0, "test result: ok. 3 passed; 0 failed; 0 ignored")).is_ok());
    }
}
