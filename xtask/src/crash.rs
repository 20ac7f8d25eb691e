//! `cargo xtask crash`: the surge with kill -9 in the midst of it, on a release build, once for each of many seeds.

use std::process::{Command, ExitCode};

use crate::planted::{PROVES_NOTHING, SCENARIO};
use crate::shell::{Show, cargo, root, run, target_dir, typed};
use crate::usage;

const HELP: &str = "\
cargo xtask crash [--rounds N] [--first-seed N] [--scale X]

Builds `berth` and `berth-surge` for release, then runs scenarios/first-surge.toml once for each seed. Every run kills the
server in the midst of a surge, starts it again and audits what it promised. Stops at the first run that breaks a
promise, and prints the command that repeats it. A run that proves nothing (the machine was too busy) is said and passed over.

    --rounds N       how many runs (default 10)
    --first-seed N   the seed of the first; the next ones count up (default 1)
    --scale X        how much of the scenario's people and places (default 1)
";

struct Options {
    rounds: u64,
    first_seed: u64,
    scale: String,
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match parse(args) {
        Ok(options) => match rounds(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(told) => {
                eprintln!("xtask: {told}");
                ExitCode::FAILURE
            }
        },
        Err(sentence) => usage(&sentence),
    }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { rounds: 10, first_seed: 1, scale: "1".to_owned() };
    let mut words = args.iter();
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{name}` needs a value; see `cargo xtask crash --help`"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("`{name} {value}`: that is no whole number"));
        match name.as_str() {
            "--rounds" => options.rounds = number()?,
            "--first-seed" => options.first_seed = number()?,
            "--scale" if value.parse::<f64>().is_ok_and(|scale| scale > 0.0) => options.scale.clone_from(value),
            "--scale" => return Err(format!("`--scale {value}`: that is no number above 0")),
            _ => return Err(format!("there is no option `{name}`; see `cargo xtask crash --help`")),
        }
    }
    if options.rounds == 0 {
        return Err("`--rounds 0` would show nothing".to_owned());
    }
    Ok(options)
}

fn rounds(options: &Options) -> Result<(), String> {
    let mut build = cargo();
    build.args(["build", "--release", "-p", "berth-api", "-p", "berth-loadtest"]);
    let built = run(&mut build, Show::Live)?;
    if !built.ok() {
        return Err(format!("`{}` ended with {}", typed(&build), built.status()));
    }
    let release = target_dir().join("release");
    let mut held = 0;
    for round in 0..options.rounds {
        let seed = options.first_seed + round;
        let mut surge = Command::new(release.join("berth-surge"));
        surge.args(["run", SCENARIO, "--scale", &options.scale, "--seed", &seed.to_string(), "--server"]);
        surge.arg(release.join("berth")).arg("--report-dir").arg(target_dir().join(format!("crash/seed-{seed}")));
        let ended = run(surge.current_dir(root()), Show::Kept)?;
        let verdict = match ended.code {
            Some(0) => "held",
            Some(PROVES_NOTHING) => "proves nothing",
            _ => {
                return Err(format!(
                    "{}seed {seed} ended with {}\nrepeat it with: cargo xtask crash --rounds 1 --first-seed {seed} --scale {}\nor: {}",
                    ended.text,
                    ended.status(),
                    options.scale,
                    typed(&surge)
                ));
            }
        };
        held += u64::from(ended.ok());
        println!("round {} of {}, seed {seed}: {verdict}", round + 1, options.rounds);
    }
    println!("{held} of {} held, none broken", options.rounds);
    if held == 0 { Err("no run proved anything; is the machine busy?".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options, String> {
        parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let options = parsed(&["--rounds", "3", "--scale", "0.5"]).unwrap();
        assert_eq!((options.rounds, options.first_seed, options.scale.as_str()), (3, 1, "0.5"));
    }

    #[test]
    fn wrong_options_are_one_sentence() {
        for words in
            [&["--rounds"][..], &["--rounds", "many"], &["--rounds", "0"], &["--scale", "-1"], &["--seeds", "1"]]
        {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
