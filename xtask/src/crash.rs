//! `cargo xtask crash`: short surges with a crash in the midst of each, on the real binary, once for each of many seeds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::planted::{self, PROVES_NOTHING};
use crate::shell::{Ended, Show, cargo, is_root, root, run, target_dir, typed};
use crate::tally::Tally;
use crate::test::Stop;
use crate::usage;

const HELP: &str = "\
cargo xtask crash [--rounds N] [--variant V] [--first-seed N]

Builds `berth` and `berth-surge` for release, then runs short surges, each with another seed. In every round the server is
killed at a random moment among at least a hundred open changes, losing what it had not synced, and started again; then
the audit compares what it holds with what it had acknowledged. A round in which no outcome was left unknown proves nothing
and is repeated. Goes on after a round that breaks a promise, and prints the command that repeats it.

    --rounds N       how many rounds (default 10)
    --variant V      power-cut   as above (default)
                     redis       Redis also fails over to a replica without the tail, is killed, and is wiped
                     disk-full   the disk is filled and freed around the kill (needs root)
                     all         each in turn
    --first-seed N   the seed of the first round; the next ones count up (default 1)
";

/// How often a round is tried until it proves something.
const TRIES_MAX: u32 = 3;

/// What is done in a round beside the power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    PowerCut,
    Redis,
    DiskFull,
}

impl Variant {
    const ALL: [Self; 3] = [Self::PowerCut, Self::Redis, Self::DiskFull];

    fn name(self) -> &'static str {
        match self {
            Self::PowerCut => "power-cut",
            Self::Redis => "redis",
            Self::DiskFull => "disk-full",
        }
    }

    fn scenario(self) -> &'static str {
        match self {
            Self::PowerCut => "scenarios/crash-round.toml",
            Self::Redis => "scenarios/crash-round-redis.toml",
            Self::DiskFull => "scenarios/crash-round-disk.toml",
        }
    }
}

#[derive(Debug)]
struct Options {
    rounds: u64,
    first_seed: u64,
    variants: Vec<Variant>,
}

/// The programs of the rounds.
struct Programs {
    surge: PathBuf,
    server: PathBuf,
    /// The folder in which `scenarios/` lies.
    scenarios: PathBuf,
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match parse(args) {
        Ok(options) => match crash(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(told) => {
                eprintln!("xtask: {told}");
                ExitCode::FAILURE
            }
        },
        Err(sentence) => usage(&sentence),
    }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { rounds: 10, first_seed: 1, variants: vec![Variant::PowerCut] };
    let mut words = args.iter();
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{name}` needs a value; see `cargo xtask crash --help`"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("`{name} {value}`: that is no whole number"));
        match name.as_str() {
            "--rounds" => options.rounds = number()?,
            "--first-seed" => options.first_seed = number()?,
            "--variant" if value == "all" => options.variants = Variant::ALL.to_vec(),
            "--variant" => {
                let known = Variant::ALL.into_iter().find(|variant| variant.name() == value);
                let variant = known.ok_or_else(|| format!("`--variant {value}`: see `cargo xtask crash --help`"))?;
                options.variants = vec![variant];
            }
            _ => return Err(format!("there is no option `{name}`; see `cargo xtask crash --help`")),
        }
    }
    if options.rounds == 0 {
        return Err("`--rounds 0` would show nothing".to_owned());
    }
    Ok(options)
}

/// Builds, runs all rounds and says what came of them; false if a promise was broken or nothing was proved.
fn crash(options: &Options) -> Result<bool, String> {
    let mut build = cargo();
    build.args(["build", "--release", "--workspace", "--bin", "berth", "--bin", "berth-surge"]);
    let built = run(&mut build, Show::Live)?;
    if !built.ok() {
        return Err(format!("`{}` ended with {}", typed(&build), built.status()));
    }
    let release = target_dir().join("release");
    // Copied away: another build must not change the binary between two rounds.
    let dir = target_dir().join("crash");
    let programs = Programs { surge: dir.join("berth-surge"), server: dir.join("berth"), scenarios: dir.clone() };
    for (name, to) in [("berth-surge", &programs.surge), ("berth", &programs.server)] {
        let from = release.join(name);
        planted::copy(&from, to).map_err(|error| format!("could not copy {}: {error}", from.display()))?;
    }
    // The scenarios as well.
    for variant in Variant::ALL {
        let from = root().join(variant.scenario());
        let to = dir.join(variant.scenario());
        planted::copy(&from, &to).map_err(|error| format!("could not copy {}: {error}", from.display()))?;
    }
    let rounds = (0..options.rounds).zip(options.variants.iter().cycle());
    let rounds = rounds.map(|(round, &variant)| (variant, options.first_seed + round)).collect::<Vec<_>>();
    let totals = play(&programs, &rounds, &dir)?;
    println!("{}", totals.told());
    Ok(totals.failed == 0 && totals.proved_nothing == 0 && totals.passed > 0)
}

/// The gate's small version, on the dev build: a few rounds, one of them with Redis, and a disk that is filled for real.
pub(crate) fn gate() -> Result<Tally, Stop> {
    planted::build(&[], &["berth", "berth-surge"])?;
    let debug = target_dir().join("debug");
    let programs = Programs { surge: debug.join("berth-surge"), server: debug.join("berth"), scenarios: root() };
    let dir = target_dir().join("crash").join("gate");
    let totals = play(&programs, &[(Variant::PowerCut, 1), (Variant::PowerCut, 2), (Variant::Redis, 3)], &dir)?;
    println!("{}", totals.told());
    let mut tally = Tally { passed: totals.passed, failed: totals.failed };
    if totals.failed > 0 || totals.proved_nothing > 0 {
        return Err(Stop::of(tally, "not every round held".to_owned()));
    }
    for Scene { name, scale, needs_root } in SCENES {
        if needs_root && !is_root() {
            println!("{name}: not run: needs root");
            continue;
        }
        let scenario = format!("scenarios/{name}.toml");
        let ended = surge_until_it_proves(&programs, &scenario, scale, 4, &dir.join(name))?.0;
        if !ended.ok() {
            return Err(Stop::after(tally, format!("{name}: {}\n{}", ended.status(), ended.text)));
        }
        println!("{name}: held");
        tally = tally + Tally::ONE;
    }
    Ok(tally)
}

/// A scenario that the gate runs once.
struct Scene {
    name: &'static str,
    /// How much of it: the server here is a dev build.
    scale: f64,
    needs_root: bool,
}

const SCENES: [Scene; 3] = [
    Scene { name: "redis-outage", scale: 0.5, needs_root: false },
    Scene { name: "redis-failover", scale: 0.5, needs_root: false },
    Scene { name: "disk-full", scale: 1.0, needs_root: true },
];

/// What many rounds came to.
#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
    proved_nothing: u64,
    faults: BTreeMap<String, u64>,
    in_flight: u64,
    unknown: u64,
    acknowledged: u64,
    snapshots: u64,
}

impl Totals {
    fn told(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        format!(
            "faults injected: {}\n{} changes in flight when the server died, {} of them left unknown; {} acknowledged in all; {} snapshots asked for\n\
             {} rounds proved nothing\n{} passed, {} failed",
            if faults.is_empty() { "none".to_owned() } else { faults.join(", ") },
            self.in_flight,
            self.unknown,
            self.acknowledged,
            self.snapshots,
            self.proved_nothing,
            self.passed,
            self.failed
        )
    }
}

fn play(programs: &Programs, rounds: &[(Variant, u64)], dir: &Path) -> Result<Totals, String> {
    let mut totals = Totals::default();
    for (number, &(variant, seed)) in (1..).zip(rounds) {
        let place = dir.join(format!("{}-{seed}", variant.name()));
        let (ended, command) = surge_until_it_proves(programs, variant.scenario(), 1.0, seed, &place)?;
        let brief = Brief::read(&ended.text);
        for (fault, count) in &brief.faults {
            *totals.faults.entry(fault.clone()).or_default() += count;
        }
        totals.in_flight += brief.in_flight;
        totals.unknown += brief.unknown;
        totals.acknowledged += brief.acknowledged;
        totals.snapshots += brief.snapshots;
        let verdict = match ended.code {
            Some(0) => {
                totals.passed += 1;
                // Hundreds of histories would fill a disk; those that show something are kept.
                let _ = std::fs::remove_dir_all(&place);
                "held"
            }
            Some(PROVES_NOTHING) => {
                totals.proved_nothing += 1;
                "proves nothing"
            }
            _ => {
                totals.failed += 1;
                "FAILED"
            }
        };
        println!(
            "round {number} of {}: {}, seed {seed}: {} in flight, {} unknown, {} acknowledged: {verdict}",
            rounds.len(),
            variant.name(),
            brief.in_flight,
            brief.unknown,
            brief.acknowledged
        );
        if !matches!(ended.code, Some(0 | PROVES_NOTHING)) {
            println!(
                "{}\nseed {seed} ended with {}\nrepeat it with: cargo xtask crash --rounds 1 --variant {} --first-seed {seed}\nor: {command}",
                ended.text.trim_end(),
                ended.status(),
                variant.name()
            );
        }
    }
    Ok(totals)
}

/// Runs a scenario until it proves something. Gives how it ended, and the command.
fn surge_until_it_proves(
    programs: &Programs,
    scenario: &str,
    scale: f64,
    seed: u64,
    place: &Path,
) -> Result<(Ended, String), String> {
    let mut tries = 1;
    loop {
        // What an earlier run left there must not be taken for this run's.
        let _ = std::fs::remove_dir_all(place);
        let mut surge = Command::new(&programs.surge);
        surge.arg("run").arg(programs.scenarios.join(scenario)).args(["--seed", &seed.to_string(), "--server"]);
        surge.arg(&programs.server).args(["--scale", &scale.to_string()]);
        surge.arg("--report-dir").arg(place).current_dir(root());
        let ended = run(&mut surge, Show::Kept)?;
        if ended.code != Some(PROVES_NOTHING) || tries == TRIES_MAX {
            return Ok((ended, typed(&surge)));
        }
        let why: Vec<&str> =
            ended.text.lines().filter_map(|line| line.strip_prefix("not enough to judge by: ")).collect();
        println!("seed {seed}: try {tries} of at most {TRIES_MAX} proves nothing ({}); again", why.join("; "));
        tries += 1;
    }
}

/// The line of a surge's summary that begins with `in brief:`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Brief {
    in_flight: u64,
    unknown: u64,
    acknowledged: u64,
    snapshots: u64,
    faults: Vec<(String, u64)>,
}

impl Brief {
    /// All zeros where there is no such line: then the run did not come to its end.
    fn read(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.strip_prefix("in brief: ")).unwrap_or_default();
        let (counts, faults) = line.split_once("; faults: ").unwrap_or((line, ""));
        let count = |of: &str| {
            let part = counts.split(", ").find_map(|part| part.strip_suffix(of));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        let fault = |part: &str| {
            let (name, count) = part.rsplit_once(' ')?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        Self {
            in_flight: count("in flight"),
            unknown: count("unknown"),
            acknowledged: count("acknowledged"),
            snapshots: count("snapshots asked for"),
            faults: faults.split(", ").filter_map(fault).collect(),
        }
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
        let options = parsed(&["--rounds", "3", "--variant", "redis", "--first-seed", "9"]).unwrap();
        assert_eq!((options.rounds, options.first_seed, options.variants), (3, 9, vec![Variant::Redis]));
        assert_eq!(parsed(&["--variant", "all"]).unwrap().variants, Variant::ALL);
        assert_eq!(parsed(&[]).unwrap().variants, [Variant::PowerCut]);
    }

    #[test]
    fn wrong_options_are_one_sentence() {
        for words in
            [&["--rounds"][..], &["--rounds", "many"], &["--rounds", "0"], &["--variant", "flood"], &["--seeds", "1"]]
        {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_brief_line_of_a_surge_is_read() {
        let text = "kill 1\nin brief: 230 in flight, 205 unknown, 1395 acknowledged, 3 snapshots asked for; \
                    faults: power-cut 1, redis-wipe 2\n";
        let faults = vec![("power-cut".to_owned(), 1), ("redis-wipe".to_owned(), 2)];
        assert_eq!(Brief::read(text), Brief { in_flight: 230, unknown: 205, acknowledged: 1395, snapshots: 3, faults });
        assert_eq!(Brief::read("berth-surge: there is no server"), Brief::default());
        assert_eq!(Brief::read("in brief: 0 in flight, 0 unknown, 7 acknowledged; faults: none").faults, []);
    }

    #[test]
    fn the_scenarios_of_all_variants_are_there() {
        for variant in Variant::ALL {
            assert!(root().join(variant.scenario()).is_file(), "{}", variant.scenario());
        }
        for Scene { name, .. } in SCENES {
            assert!(root().join(format!("scenarios/{name}.toml")).is_file(), "{name}");
        }
    }
}
