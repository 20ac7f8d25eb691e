//! `cargo xtask scenarios`: the shipped scenarios one after another on built binaries, and a table of what came of them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::planted;
use crate::shell::{Ended, Show, cargo, is_root, root, run, target_dir, typed};
use crate::tally::Tally;
use crate::test::Stop;
use crate::usage;

const HELP: &str = "\
cargo xtask scenarios [--small] [--seed N] [NAME..]

Runs the scenarios of scenarios/ one after another and prints a table of verdicts. With names, only these. Each must end with
`held`; a run that proves nothing is tried twice more.

    --small     each scenario's own small version, on a dev build: half a minute each
                (without it: full size, on a release build, some of them long)
    --seed N    the seed of every run (default 1)

The nightly command is `cargo xtask scenarios`; `cargo xtask test` runs a few of the small ones.
";

/// Runs that a change is held against: new roads through the server that no other step of the gate takes.
const GATE: [&str; 3] = ["tatkal-rush", "session-cancelled", "second-dose-day"];

/// Rounds of `cargo xtask crash`, which judge no end, and what planted servers go through are no scenarios of their own.
const ROUNDS: [&str; 5] = ["crash-round", "crash-round-redis", "crash-round-disk", "planted", "planted-redis"];

/// These need to be root: a filesystem, a control group.
const AS_ROOT: [&str; 2] = ["disk-full", "overload-5x"];

/// How often one is tried until it proves something.
const TRIES_MAX: u32 = 3;

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    small: bool,
    seed: u64,
    names: Vec<String>,
}

/// One row of the table.
struct Row {
    name: String,
    verdict: String,
    took: Duration,
    /// As the harness says it: bookings, operations.
    figures: String,
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let options = match parse(args).and_then(|options| known(options, &shipped())) {
        Ok(options) => options,
        Err(sentence) => return usage(&sentence),
    };
    match all(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(told) => {
            eprintln!("xtask: {told}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { seed: 1, ..Options::default() };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--small" => options.small = true,
            "--seed" => {
                let value = words.next().ok_or("`--seed` needs a number; see `cargo xtask scenarios --help`")?;
                options.seed = value.parse().map_err(|_| format!("`--seed {value}`: that is no whole number"))?;
            }
            name if name.starts_with('-') => {
                return Err(format!("there is no option `{name}`; see `cargo xtask scenarios --help`"));
            }
            name => options.names.push(name.to_owned()),
        }
    }
    Ok(options)
}

/// The names are known; without any, all are meant.
fn known(mut options: Options, shipped: &[String]) -> Result<Options, String> {
    if let Some(name) = options.names.iter().find(|name| !shipped.contains(name)) {
        return Err(format!("there is no scenario `{name}`; there are: {}", shipped.join(", ")));
    }
    if options.names.is_empty() {
        options.names = shipped.iter().filter(|name| !ROUNDS.contains(&name.as_str())).cloned().collect();
    }
    Ok(options)
}

/// The names of the files in `scenarios/`, in order.
fn shipped() -> Vec<String> {
    let files = std::fs::read_dir(root().join("scenarios")).into_iter().flatten().flatten();
    let toml = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let mut names: Vec<String> =
        toml.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
    names.sort_unstable();
    names
}

fn all(options: &Options) -> Result<bool, String> {
    let profile = if options.small { "debug" } else { "release" };
    let mut build = cargo();
    build.args(["build", "--workspace", "--bin", "berth", "--bin", "berth-surge"]);
    if !options.small {
        build.arg("--release");
    }
    let built = run(&mut build, Show::Live)?;
    if !built.ok() {
        return Err(format!("`{}` ended with {}", typed(&build), built.status()));
    }
    let programs = target_dir().join(profile);
    let mut rows = Vec::new();
    for name in &options.names {
        println!("{name} ..");
        rows.push(one(&programs, name, options)?.0);
        println!("{}", told(&rows[rows.len() - 1]));
    }
    println!("\n{:<22} {:<10} {:>8}  what it came to", "scenario", "verdict", "seconds");
    rows.iter().for_each(|row| println!("{}", told(row)));
    let held = rows.iter().filter(|row| row.verdict == "held").count();
    let skipped = rows.iter().filter(|row| row.verdict == "not run").count();
    println!("{held} held, {} did not, {skipped} not run", rows.len() - held - skipped);
    Ok(held + skipped == rows.len())
}

/// The gate's few, small, on the dev build.
pub(crate) fn gate() -> Result<Tally, Stop> {
    planted::build(&[], &["berth", "berth-surge"])?;
    let options = Options { small: true, seed: 1, names: Vec::new() };
    let mut tally = Tally::default();
    for name in GATE {
        let (row, ended) = one(&target_dir().join("debug"), name, &options)?;
        println!("{}", told(&row));
        if row.verdict != "held" {
            return Err(Stop::after(tally, format!("{name}: {}\n{}", ended.status(), ended.text)));
        }
        tally = tally + Tally::ONE;
    }
    Ok(tally)
}

/// Runs one until it proves something.
fn one(programs: &Path, name: &str, options: &Options) -> Result<(Row, Ended), String> {
    if AS_ROOT.contains(&name) && !is_root() {
        let row = Row {
            name: name.to_owned(),
            verdict: "not run".into(),
            took: Duration::ZERO,
            figures: "needs root".into(),
        };
        return Ok((row, Ended { code: None, text: String::new() }));
    }
    let mut tries = 1;
    loop {
        let began = Instant::now();
        let ended = run(&mut command(programs, name, options), Show::Kept)?;
        let row =
            Row { name: name.to_owned(), verdict: verdict(&ended), took: began.elapsed(), figures: figures(&ended) };
        if ended.code != Some(planted::PROVES_NOTHING) || tries == TRIES_MAX {
            return Ok((row, ended));
        }
        println!("{name}: run {tries} of at most {TRIES_MAX} proves nothing; again");
        tries += 1;
    }
}

fn command(programs: &Path, name: &str, options: &Options) -> Command {
    let report: PathBuf = target_dir().join("scenarios").join(name);
    // What an earlier run left there must not be taken for this run's.
    let _ = std::fs::remove_dir_all(&report);
    let mut command = Command::new(programs.join("berth-surge"));
    command.arg("run").arg(format!("scenarios/{name}.toml")).arg("--server").arg(programs.join("berth"));
    command.args(["--seed", &options.seed.to_string()]).arg("--report-dir").arg(report).current_dir(root());
    if options.small {
        command.arg("--small");
    }
    if options.small && GATE.contains(&name) {
        // Dev builds on a machine that may be slow: how fast they are is not asked, and nobody is to be sent off for it.
        command.args(["--set", "server.config.admission.mode=off"]);
        command.args(["--set", "driver.late_ms=2000", "--set", "driver.late_share_max=0.5"]);
    }
    command
}

/// The last word of the run, or how it ended.
fn verdict(ended: &Ended) -> String {
    let line = ended.text.lines().find_map(|line| line.strip_prefix("verdict: "));
    line.map_or_else(|| ended.status(), str::to_owned)
}

/// What the harness says in one line of bookings and operations.
fn figures(ended: &Ended) -> String {
    let line = ended.text.lines().find(|line| line.contains(" bookings acknowledged in "));
    line.unwrap_or("no summary").to_owned()
}

fn told(row: &Row) -> String {
    format!("{:<22} {:<10} {:>8.1}  {}", row.name, row.verdict, row.took.as_secs_f64(), row.figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn options_are_read_and_names_are_known() {
        let options = parse(&words(&["--small", "one", "--seed", "7"])).unwrap();
        assert_eq!(options, Options { small: true, seed: 7, names: words(&["one"]) });
        assert!(known(parse(&words(&["two"])).unwrap(), &words(&["one"])).unwrap_err().contains("there are: one"));
        let all = known(Options::default(), &words(&["crash-round", "one"])).unwrap();
        assert_eq!(all.names, ["one"]);
        for wrong in [&["--fast"][..], &["--seed"], &["--seed", "x"]] {
            assert!(parse(&words(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_gate_runs_scenarios_that_are_there() {
        let shipped = shipped();
        assert!(GATE.iter().chain(&ROUNDS).chain(&AS_ROOT).all(|name| shipped.contains(&(*name).to_owned())));
    }

    #[test]
    fn a_run_is_told_by_its_own_lines() {
        let text = "x\n12 bookings acknowledged in 3.0 s; 9 operations\nverdict: held\n".to_owned();
        let ended = Ended { code: Some(0), text };
        assert_eq!((verdict(&ended).as_str(), figures(&ended).starts_with("12 bookings")), ("held", true));
        assert!(verdict(&Ended { code: Some(2), text: String::new() }).contains('2'));
    }
}
