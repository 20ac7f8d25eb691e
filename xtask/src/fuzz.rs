//! `cargo xtask fuzz`: every decoder of stored bytes against bytes that nobody wrote, each for so many seconds.

use std::process::{Command, ExitCode};

use crate::shell::{Show, cargo, on_path, root, run, target_dir};
use crate::usage;

const HELP: &str = "\
cargo xtask fuzz [--seconds N] [--target NAME]

Builds the fuzz targets (fuzz/, with a nightly toolchain) and runs each for so many seconds: entry, frame, segment, snapshot, stream (what
Redis hands out to a recovery), certificate (what anybody may show to be verified). A panic, an allocation over 64 MB or an input over ten seconds fails it, after the other targets had their turn; the
input that did it is kept in fuzz/artifacts/ and the command that repeats it is printed. A run begins with seeds, made anew from what a cell writes, and with what
earlier runs learned; both lie in fuzz/corpus/, which is not under version control.

    --seconds N      how long each runs (default 60)
    --target NAME    only this one

Needs `cargo install cargo-fuzz` and `rustup toolchain install nightly`, once.
";

const TARGETS: [&str; 6] = ["certificate", "entry", "frame", "segment", "snapshot", "stream"];

struct Options {
    seconds: u64,
    targets: Vec<&'static str>,
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match parse(args) {
        Ok(options) => match fuzz(&options) {
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
    let mut options = Options { seconds: 60, targets: TARGETS.to_vec() };
    let mut words = args.iter();
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{name}` needs a value; see `cargo xtask fuzz --help`"))?;
        match name.as_str() {
            "--seconds" => {
                options.seconds = value
                    .parse()
                    .ok()
                    .filter(|seconds| *seconds > 0)
                    .ok_or_else(|| format!("`--seconds {value}`: that is no whole number above 0"))?;
            }
            "--target" => {
                options.targets.retain(|target| target == value);
                if options.targets.is_empty() {
                    return Err(format!("there is no target `{value}`; they are {}", TARGETS.join(", ")));
                }
            }
            _ => return Err(format!("there is no option `{name}`; see `cargo xtask fuzz --help`")),
        }
    }
    Ok(options)
}

fn fuzz(options: &Options) -> Result<(), String> {
    if on_path("cargo-fuzz").is_none() {
        return Err("the fuzzer is not there; once: cargo install cargo-fuzz".to_owned());
    }
    println!("{}", seed()?);
    println!("{:10} {:>12} {:>10} {:>9} {:>8}  found", "target", "executions", "per second", "coverage", "inputs");
    let mut found = Vec::new();
    for target in &options.targets {
        let mut command = Command::new("cargo");
        // Not this toolchain's cargo: the fuzzer's flags are nightly's.
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").current_dir(root());
        command.args(["+nightly", "fuzz", "run", "--fuzz-dir", "fuzz", "--target-dir"]).arg(target_dir().join("fuzz"));
        let seconds = options.seconds;
        command.args([target, "--", "-malloc_limit_mb=64", "-timeout=10", "-rss_limit_mb=1024", "-max_len=65536"]);
        command.arg("-print_final_stats=1").arg(format!("-max_total_time={seconds}"));
        let ended = run(&mut command, Show::Kept)?;
        let Some(told) = Told::read(&ended.text) else {
            return Err(format!("{}{target} ran nothing: {}", ended.text, ended.status()));
        };
        let Told { executed, per_second, coverage, inputs } = told;
        let what = if ended.ok() { "nothing".to_owned() } else { artifact(&ended.text) };
        println!("{target:10} {executed:>12} {per_second:>10} {coverage:>9} {inputs:>8}  {what}");
        if !ended.ok() {
            found.push(format!("{}{target} ended with {}", ended.text, ended.status()));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

/// Writes the seeds of every target; how many there are.
fn seed() -> Result<String, String> {
    // In the tests' build, which is there as a rule.
    let examples = ["fuzz_seeds", "certificate_seeds"];
    let mut build = cargo();
    build.args(["build", "--workspace"]);
    examples.iter().for_each(|example| {
        build.args(["--example", example]);
    });
    let write = |example: &&str| {
        let mut write = Command::new(target_dir().join("debug/examples").join(example));
        write.arg("fuzz/corpus").current_dir(root());
        write
    };
    let built = run(&mut build, Show::Kept)?;
    if !built.ok() {
        return Err(format!("no seeds: {}{}", built.text, built.status()));
    }
    let mut told = String::new();
    for mut command in examples.iter().map(write) {
        let ended = run(&mut command, Show::Kept)?;
        if !ended.ok() {
            return Err(format!("no seeds: {}{}", ended.text, ended.status()));
        }
        told.push_str(&ended.text);
    }
    Ok(told.trim_end().to_owned())
}

/// What the fuzzer says of a run.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    executed: u64,
    per_second: u64,
    /// Places of the code that were reached, as the fuzzer counts them.
    coverage: u64,
    /// Inputs that each reached something new: the corpus.
    inputs: u64,
}

impl Told {
    /// `None` of a run that ran nothing.
    fn read(text: &str) -> Option<Told> {
        let stat = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("stat::{name}:")))?;
            line.trim().parse::<u64>().ok()
        };
        // `#4096 DONE cov: 512 ft: 900 corp: 80/4Kb ...`, of which the last is the newest.
        let newest = |word: &str| {
            let mut numbers = text.lines().filter(|line| line.starts_with('#')).filter_map(|line| {
                let mut words = line.split_whitespace().skip_while(|found| *found != word).skip(1);
                words.next()?.split('/').next()?.parse::<u64>().ok()
            });
            numbers.next_back().unwrap_or(0)
        };
        let executed = stat("number_of_executed_units").filter(|executed| *executed > 0)?;
        let per_second = stat("average_exec_per_sec")?;
        Some(Told { executed, per_second, coverage: newest("cov:"), inputs: newest("corp:") })
    }
}

/// The input that was kept, and how it is tried again.
fn artifact(text: &str) -> String {
    let repeat = text.lines().find(|line| line.trim().starts_with("cargo fuzz run "));
    repeat.map_or_else(|| "see below".to_owned(), |repeat| repeat.trim().replacen("cargo", "cargo +nightly", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options, String> {
        parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let options = parsed(&["--seconds", "3", "--target", "frame"]).unwrap();
        assert_eq!((options.seconds, options.targets), (3, vec!["frame"]));
        assert_eq!(parsed(&[]).unwrap().targets, TARGETS);
    }

    #[test]
    fn wrong_options_are_one_sentence() {
        for words in [&["--seconds"][..], &["--seconds", "0"], &["--target", "redis"], &["--runs", "1"]] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn what_a_run_says_is_read_and_a_run_of_nothing_is_none() {
        let text = "#2\tINITED cov: 11 ft: 12 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                    #4096\tDONE   cov: 512 ft: 900 corp: 80/4Kb lim: 65 exec/s: 68 rss: 41Mb\n\
                    stat::number_of_executed_units: 4096\nstat::average_exec_per_sec:     68\n";
        let told = Told { executed: 4096, per_second: 68, coverage: 512, inputs: 80 };
        assert_eq!(Told::read(text), Some(told));
        assert_eq!(Told::read("stat::number_of_executed_units: 0\nstat::average_exec_per_sec: 0"), None);
        assert_eq!(Told::read("error: no such command"), None);
        let crashed = "Reproduce with:\n\n\tcargo fuzz run --fuzz-dir fuzz entry fuzz/artifacts/entry/crash-da39\n";
        let repeat = "cargo +nightly fuzz run --fuzz-dir fuzz entry fuzz/artifacts/entry/crash-da39";
        assert_eq!(artifact(crashed), repeat);
    }

    /// The targets, their manifest and this list name the same decoders.
    #[test]
    fn every_target_has_a_file_and_a_row() {
        let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        let mut files: Vec<_> = std::fs::read_dir(root().join("fuzz/fuzz_targets"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, TARGETS.map(|target| format!("{target}.rs")));
        for target in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
        }
    }
}
