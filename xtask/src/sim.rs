//! `cargo xtask sim`: the simulator on a release build, and against faults planted on purpose.

use std::process::{Command, ExitCode};

use crate::shell::{Ended, Show, cargo_with, root, run, target_dir, typed};
use crate::tally::Tally;
use crate::test::Stop;
use crate::usage;

const HELP: &str = "\
cargo xtask sim [--seeds N] [--first-seed N] [--fault NAME]

Drives a whole cell, its disk and its Redis through failures and crashes, one run for each seed, and checks every rule after
every crash (docs/simulator.md). Stops at the first broken promise and prints the command that repeats it.

    --seeds N        how many seeds (default 300)
    --first-seed N   the first; the next ones count up (default 1)
    --fault NAME     with a fault planted on purpose, which must be found; one of: no_fdatasync, ack_before_durable,
                     skip_head_check, trim_without_snapshot, ignore_checksum, give_before_append
";

/// What the simulator must find, and the rules by whose name it may: any of them shows the fault for what it is.
const FAULTS: [(&str, &[&str]); 6] = [
    ("no_fdatasync", &["JNL-2", "JNL-4"]),
    ("ack_before_durable", &["JNL-2", "JNL-4", "SNP-1"]),
    ("skip_head_check", &["FNC-2"]),
    // A log that does not reach back far enough shows in the next start, or in the next snapshot.
    ("trim_without_snapshot", &["SNP-2", "JNL-4", "SNP-1"]),
    ("ignore_checksum", &["JNL-4", "SNP-1", "SNP-3", "CAP-1", "PTY-1", "BKG-1", "IDM-1", "JNL-1"]),
    ("give_before_append", &["CAP-1", "JNL-1"]),
];

/// Each fault is found within so many seeds.
const SEEDS_TO_FIND: u64 = 2000;

struct Options {
    seeds: u64,
    first_seed: u64,
    fault: Option<&'static str>,
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let options = match parse(args) {
        Ok(options) => options,
        Err(sentence) => return usage(&sentence),
    };
    match simulate(&options, options.fault.is_none(), Show::Live) {
        Ok((_, ended)) if options.fault.is_none() && ended.ok() => ExitCode::SUCCESS,
        Ok((_, ended)) if options.fault.is_some() => match found(&ended, options.fault) {
            Ok(rule) => {
                println!("found by {rule}");
                ExitCode::SUCCESS
            }
            Err(why) => {
                eprintln!("xtask: {why}");
                ExitCode::FAILURE
            }
        },
        Ok(_) => ExitCode::FAILURE,
        Err(told) => {
            eprintln!("xtask: {told}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { seeds: 300, first_seed: 1, fault: None };
    let mut words = args.iter();
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{name}` needs a value; see `cargo xtask sim --help`"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("`{name} {value}`: that is no whole number"));
        match name.as_str() {
            "--seeds" => options.seeds = number()?,
            "--first-seed" => options.first_seed = number()?,
            "--fault" => {
                let known = FAULTS.iter().find(|(fault, _)| fault == value);
                let (fault, _) =
                    known.ok_or_else(|| format!("there is no fault `{value}`; see `cargo xtask sim --help`"))?;
                options.fault = Some(fault);
            }
            _ => return Err(format!("there is no option `{name}`; see `cargo xtask sim --help`")),
        }
    }
    if options.seeds == 0 {
        return Err("`--seeds 0` would show nothing".to_owned());
    }
    Ok(options)
}

/// Builds the simulator and runs it: for release, or in the build that the tests are made in.
fn simulate(options: &Options, release: bool, show: Show) -> Result<(String, Ended), String> {
    let cfgs: Vec<String> = options.fault.iter().map(|fault| format!("berth_fault=\"{fault}\"")).collect();
    let mut build = cargo_with(&cfgs.iter().map(String::as_str).collect::<Vec<_>>())?;
    // In the tests' build the whole workspace is named, so that dependencies are resolved, and so built, as for all other tests.
    let folder = if release {
        build.args(["build", "--release", "-p", "berth-engine", "--example", "sim"]);
        "release"
    } else {
        build.args(["build", "--workspace", "--example", "sim"]);
        "debug"
    };
    let built = run(&mut build, show)?;
    if !built.ok() {
        return Err(format!("{}`{}` ended with {}", built.text, typed(&build), built.status()));
    }
    let mut command = Command::new(target_dir().join(folder).join("examples/sim"));
    command.args(["--first-seed", &options.first_seed.to_string(), "--seeds", &options.seeds.to_string()]);
    let ended = run(command.current_dir(root()), show)?;
    Ok((typed(&command), ended))
}

/// As many seeds as the gate has time for, in the tests' build. A step of the gate.
pub(crate) fn small() -> Result<Tally, Stop> {
    let (command, ended) = simulate(&Options { seeds: 300, first_seed: 1, fault: None }, false, Show::Live)?;
    let tally = Tally { passed: if ended.ok() { 300 } else { 0 }, failed: 0 };
    if ended.ok() { Ok(tally) } else { Err(Stop::from(format!("`{command}` ended with {}", ended.status()))) }
}

/// Each planted fault must be found, by the name of a rule that it breaks. A step of the gate.
pub(crate) fn planted() -> Result<Tally, Stop> {
    let mut tally = Tally::default();
    for (fault, _) in FAULTS {
        let options = Options { seeds: SEEDS_TO_FIND, first_seed: 1, fault: Some(fault) };
        let (command, ended) = simulate(&options, false, Show::Kept)?;
        match found(&ended, Some(fault)) {
            Ok(told) => println!("{fault}: {told}"),
            Err(why) => {
                return Err(Stop::after(tally, format!("{fault}: {why}\n`{command}` printed:\n{}", ended.text)));
            }
        }
        tally = tally + Tally::ONE;
    }
    Ok(tally)
}

/// The line that tells of a violation, if it is of a rule that the fault breaks.
fn found(ended: &Ended, fault: Option<&str>) -> Result<String, String> {
    let rules = FAULTS.iter().find(|(name, _)| Some(*name) == fault).map_or(&[][..], |(_, rules)| rules);
    let told = ended.text.lines().find(|line| line.starts_with("seed ") && line.contains(", step "));
    let Some(told) = told else {
        return Err(format!("the simulator did not find it and ended with {}", ended.status()));
    };
    if rules.iter().any(|rule| told.contains(&format!(": {rule}: "))) {
        Ok(told.chars().take(140).collect())
    } else {
        Err(format!("found, but not by the name of {}: {told}", rules.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options, String> {
        parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let options = parsed(&["--seeds", "3", "--first-seed", "9", "--fault", "no_fdatasync"]).unwrap();
        assert_eq!((options.seeds, options.first_seed, options.fault), (3, 9, Some("no_fdatasync")));
    }

    #[test]
    fn wrong_options_are_one_sentence() {
        for words in
            [&["--seeds"][..], &["--seeds", "many"], &["--seeds", "0"], &["--fault", "none"], &["--rounds", "1"]]
        {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_fault_is_found_only_by_a_rule_that_it_breaks() {
        let ended = |text: &str| Ended { code: Some(1), text: text.to_owned() };
        let told = "seed 7, step 12: JNL-2: 9 was acknowledged, and the log ends at 8\n0 passed, 1 failed\n";
        assert!(found(&ended(told), Some("no_fdatasync")).is_ok());
        assert!(found(&ended(told), Some("skip_head_check")).is_err());
        assert!(found(&ended("2000 passed, 0 failed\n"), Some("no_fdatasync")).is_err());
        assert!(found(&ended("error: could not compile\n"), Some("no_fdatasync")).is_err());
    }
}
