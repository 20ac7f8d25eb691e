//! `cargo xtask fuzz`: every decoder of stored bytes against bytes that nobody wrote, each for so many seconds.

use std::process::{Command, ExitCode};

use crate::shell::{Show, on_path, root, run, target_dir, typed};
use crate::usage;

const HELP: &str = "\
cargo xtask fuzz [--seconds N] [--target NAME]

Builds the fuzz targets (fuzz/, with a nightly toolchain) and runs each for so many seconds: entry, frame, segment, snapshot. A panic, an
allocation over 64 MB or an input over ten seconds fails it; the input that did it is kept in fuzz/artifacts/ and the command that
repeats it is printed. What was learned is kept in fuzz/corpus/ and is where the next run begins.

    --seconds N      how long each runs (default 60)
    --target NAME    only this one

Needs `cargo install cargo-fuzz` and `rustup toolchain install nightly`, once.
";

const TARGETS: [&str; 4] = ["entry", "frame", "segment", "snapshot"];

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
    for target in &options.targets {
        let mut command = Command::new("cargo");
        // Not this toolchain's cargo: the fuzzer's flags are nightly's.
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").current_dir(root());
        command.args(["+nightly", "fuzz", "run", "--fuzz-dir", "fuzz", "--target-dir"]).arg(target_dir().join("fuzz"));
        let seconds = options.seconds;
        command.args([target, "--", "-malloc_limit_mb=64", "-timeout=10", "-rss_limit_mb=1024", "-max_len=65536"]);
        command.arg("-print_final_stats=1").arg(format!("-max_total_time={seconds}"));
        let ended = run(&mut command, Show::Kept)?;
        if !ended.ok() {
            return Err(format!(
                "{}{target} ended with {}\nrepeat it with: {}",
                ended.text,
                ended.status(),
                typed(&command)
            ));
        }
        let executed = executed(&ended.text).ok_or_else(|| format!("{}{target} ran nothing", ended.text))?;
        println!("{target}: {executed} executions in {seconds} s, nothing found");
    }
    Ok(())
}

/// `stat::number_of_executed_units: 123` of the fuzzer's last lines.
fn executed(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    line.trim().parse().ok().filter(|executed| *executed > 0)
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
    fn a_run_of_nothing_is_none() {
        assert_eq!(executed("Done\nstat::number_of_executed_units: 4096\nstat::x: 1\n"), Some(4096));
        assert_eq!(executed("stat::number_of_executed_units: 0"), None);
        assert_eq!(executed("error: no such command"), None);
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
