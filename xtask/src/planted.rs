//! Faults planted on purpose: a test that cannot fail shows nothing, so the gate breaks Berth and asks to be told.
//!
//! A fault is a cfg, never a cargo feature: no user can switch one on by accident, and the name stands in `berth --version`
//! and in every report of the surge harness. The racing tests have one built in (`--cfg berth_fault="..."`); for the surges one
//! server has them all (`--cfg berth_faults`) and is told by the environment which one it has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::redis;
use crate::shell::{Ended, Show, cargo_with, root, run, target_dir, typed};
use crate::tally::Tally;
use crate::test::{Stop, run_tests};

/// Few people, few units, much to go wrong; and a power cut among hundreds of open requests; and a Redis behind the journal.
const QUIET: &str = "scenarios/planted.toml";
const POWER_CUT: &str = "scenarios/small-surge.toml";
const REDIS: &str = "scenarios/planted-redis.toml";

/// The harness's exit status for a run that neither held nor broke a promise, for instance because the generator was the
/// bottleneck.
pub(crate) const PROVES_NOTHING: i32 = 3;

/// How often a server is tried. A fault may hide in one surge by luck; a sound server is tried again only when its run proves
/// nothing.
const TRIES_MAX: u32 = 3;

/// Surges that run side by side: they wait most of the time, for holds to run out.
const LANES: usize = 4;

/// Two steps of the engine's one order exchanged (ARCHITECTURE.md), each of which the shuttle test must notice.
const SWAPS: [&str; 3] = ["give_before_append", "append_before_take", "unlock_before_append"];

/// The rules that the one order keeps. A swap that breaks none of them by name was not noticed for the right reason.
const ORDER_RULES: [&str; 3] = ["JNL-1", "PTY-1", "CAP-1"];

/// What the server that has all faults is called where servers are kept.
const FAULTY: &str = "faulty";

/// One surge, and what must come of it.
struct Case {
    /// What is planted; none for the sound server.
    fault: Option<&'static str>,
    scenario: &'static str,
    /// The promise, in the harness's word, that must be found broken; of the sound server none may be.
    promise: Option<&'static str>,
}

const fn sound(scenario: &'static str) -> Case {
    Case { fault: None, scenario, promise: None }
}

const fn planted(fault: &'static str, scenario: &'static str, promise: &'static str) -> Case {
    Case { fault: Some(fault), scenario, promise: Some(promise) }
}

/// Those with hundreds of open requests apart from each other, and the longest first.
const CASES: [Case; 19] = [
    planted("ack_before_durable", POWER_CUT, "acknowledged"),
    planted("redis_drops_frames", REDIS, "redis-copy"),
    sound(REDIS),
    sound(QUIET),
    planted("no_fdatasync", POWER_CUT, "acknowledged"),
    planted("confirm_past_deadline", QUIET, "deadline"),
    planted("false_full", QUIET, "no-false-full"),
    planted("forget_keys", QUIET, "one-effect"),
    sound(POWER_CUT),
    planted("give_twice", QUIET, "capacity"),
    planted("half_group", QUIET, "group"),
    planted("hold_never_expires", QUIET, "expiry"),
    planted("late_expiry", QUIET, "expiry"),
    planted("move_keeps_old", QUIET, "conservation"),
    planted("skip_capacity_check", QUIET, "capacity"),
    planted("stale_search", QUIET, "fresh-search"),
    planted("two_claims_per_dose", QUIET, "one-claim"),
    planted("unwritten_cancel", QUIET, "acknowledged"),
    planted("unwritten_expiry", QUIET, "journal"),
];

/// Runs the shuttle test once for each swap; each run must fail, by the name of a rule.
pub(crate) fn swaps() -> Result<Tally, Stop> {
    let mut tally = Tally::default();
    for swap in SWAPS {
        let fault = format!("berth_fault=\"{swap}\"");
        let (command, ended) = run_tests(&["shuttle", &fault], "kernel_shuttle", Show::Kept)?;
        match noticed(&ended) {
            Ok(rule) => println!("{swap}: noticed, {rule} is broken"),
            Err(why) => {
                return Err(Stop::after(
                    tally,
                    format!("{swap}: {why}\n`{command}` with {fault} printed:\n{}", ended.text),
                ));
            }
        }
        tally = tally + Tally::ONE;
    }
    Ok(tally)
}

/// Puts the sound server and each planted one through a surge: `held` for the one, `broken` for the others.
pub(crate) fn servers() -> Result<Tally, Stop> {
    println!("{}", redis::ensure()?);
    // The sound one last: each build puts its binary in the same place, and that is where a person looks for it.
    build(&["berth_faults"], &["berth"])?;
    let faulty = keep_server(FAULTY)?;
    for fault in CASES.iter().filter_map(|case| case.fault) {
        let told = run(Command::new(&faulty).arg("--version").env("BERTH_FAULT", fault), Show::Kept)?.text;
        if !told.contains(fault) {
            let told = told.trim();
            return Err(Stop::from(format!("a server told to have {fault} does not say so in --version: {told}")));
        }
    }
    build(&[], &["berth", "berth-surge"])?;
    keep_server("sound")?;

    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(case) = CASES.get(next.fetch_add(1, Relaxed)) {
                    match try_out(case) {
                        Ok(verdict) => {
                            println!("{}: {verdict}", case.name());
                            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                            *tally = *tally + Tally::ONE;
                        }
                        Err(why) => failed.lock().unwrap_or_else(PoisonError::into_inner).push(why),
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failed.is_empty() { Ok(tally) } else { Err(Stop::after(tally, failed.join("\n"))) }
}

impl Case {
    fn name(&self) -> String {
        let scenario = Path::new(self.scenario).file_stem().unwrap_or_default().to_string_lossy();
        format!("{}-{scenario}", self.fault.unwrap_or("sound"))
    }
}

/// Runs the surge until it shows what it must, or has been tried often enough.
fn try_out(case: &Case) -> Result<String, String> {
    let mut tries = 1;
    loop {
        let (command, ended, report) = surge(case)?;
        let why = match judge(&ended, &report, case.promise) {
            Ok(verdict) => return Ok(verdict),
            Err(why) => why,
        };
        // One broken promise of the sound server is enough.
        let luck = case.fault.is_some() || ended.code == Some(PROVES_NOTHING);
        if !luck || tries == TRIES_MAX {
            return Err(format!("{}: {why}\n`{command}` printed:\n{}", case.name(), ended.text));
        }
        println!("{}: run {tries} of at most {TRIES_MAX}: {why}; again", case.name());
        tries += 1;
    }
}

/// Runs one surge against a kept server. Gives the command, how it ended, and its report.
fn surge(case: &Case) -> Result<(String, Ended, String), String> {
    let report_dir = place("reports").join(case.name());
    // What an earlier run left there must not be taken for this run's.
    let _ = fs::remove_dir_all(&report_dir);
    let mut command = Command::new(target_dir().join("debug/berth-surge"));
    let server = place(case.fault.map_or("sound", |_| FAULTY)).join("berth");
    command.args(["run", case.scenario, "--server"]).arg(server);
    command.arg("--report-dir").arg(&report_dir).current_dir(root()).env_remove("BERTH_FAULT");
    if let Some(fault) = case.fault {
        command.env("BERTH_FAULT", fault);
    }
    let ended = run(&mut command, Show::Kept)?;
    let report = fs::read_to_string(report_dir.join("report.json")).unwrap_or_default();
    let told = case.fault.map(|fault| format!("BERTH_FAULT={fault} ")).unwrap_or_default();
    Ok((told + &typed(&command), ended, report))
}

/// Builds binaries in the dev profile. The whole workspace and a test (an empty one, without cfg(loom)) are named so that the
/// dependencies are resolved as for the tests, dev-dependencies included: what was built there is then used again.
pub(crate) fn build(cfgs: &[&str], bins: &[&str]) -> Result<(), Stop> {
    let mut command = cargo_with(cfgs)?;
    command.args(["build", "--workspace", "--test", "word_loom"]);
    for bin in bins {
        command.args(["--bin", bin]);
    }
    let ended = run(&mut command, Show::Live)?;
    if ended.ok() { Ok(()) } else { Err(Stop::from(format!("`{}` ended with {}", typed(&command), ended.status()))) }
}

fn place(name: &str) -> PathBuf {
    target_dir().join("planted").join(name)
}

fn keep_server(name: &str) -> Result<PathBuf, String> {
    let (from, to) = (target_dir().join("debug/berth"), place(name).join("berth"));
    copy(&from, &to).map_err(|error| format!("could not copy {} to {}: {error}", from.display(), to.display()))?;
    Ok(to)
}

pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    // A new file each time: an old one may be running still, and the linker's hard link must not be written through.
    let _ = fs::remove_file(to);
    fs::copy(from, to).map(drop)
}

/// Which rule the failing test named.
fn noticed(ended: &Ended) -> Result<&'static str, String> {
    let tally = Tally::read(&ended.text);
    if ended.ok() {
        return Err("the tests passed, so they cannot see this swap".to_owned());
    }
    if tally.failed == 0 {
        return Err(format!("no test ran and failed ({})", ended.status()));
    }
    let rule = ORDER_RULES.into_iter().find(|rule| ended.text.contains(rule));
    rule.ok_or_else(|| format!("a test failed, but not by the name of {}", ORDER_RULES.join(", ")))
}

/// Holds a run against what it must show: nothing broken, or this promise.
fn judge(ended: &Ended, report: &str, promise: Option<&str>) -> Result<String, String> {
    let broken = broken_promises(report);
    let told: Vec<String> = broken.iter().map(|(name, count)| format!("{name} ({count})")).collect();
    let told = if told.is_empty() { "no broken promise".to_owned() } else { told.join(", ") };
    match (promise, ended.code) {
        (_, _) if report.is_empty() => Err(format!("no report.json, {}", ended.status())),
        (None, Some(0)) if broken.is_empty() => Ok("held".to_owned()),
        (None, _) => Err(format!("must hold with exit status 0, and ended with {} and {told}", ended.status())),
        (Some(promise), Some(1)) if broken.iter().any(|(name, _)| name == promise) => Ok(format!("broken: {told}")),
        (Some(promise), _) => {
            Err(format!("must break `{promise}` with exit status 1, and ended with {} and {told}", ended.status()))
        }
    }
}

/// The promises that a report.json calls broken, and how often each. Reads `"promise": NAME, "sentence": .., "broken": COUNT`
/// as the harness writes it, which saves the chores a JSON parser; a layout that this cannot read shows as nothing broken, and
/// so fails the planted servers.
fn broken_promises(report: &str) -> Vec<(String, u64)> {
    let squeezed: String = report.chars().filter(|c| !c.is_whitespace()).collect();
    let judged = squeezed.split("\"promise\":\"").skip(1).filter_map(|part| {
        let (name, rest) = part.split_once("\",\"sentence\":\"")?;
        let (_, count) = rest.split_once("\"broken\":")?;
        let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
        Some((name.to_owned(), digits.parse().ok()?))
    });
    judged.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, text: &str) -> Ended {
        Ended { code: Some(code), text: text.to_owned() }
    }

    #[test]
    fn a_swap_is_noticed_only_by_a_failing_test_that_names_a_rule() {
        let failed = "Summary [ 1.0s] 2 tests run: 1 passed, 1 failed, 0 skipped";
        assert_eq!(noticed(&ended(100, &format!("panicked: PTY-1: two live claims\n{failed}"))), Ok("PTY-1"));
        assert!(noticed(&ended(0, "Summary [ 1.0s] 2 tests run: 2 passed, 0 skipped")).is_err());
        assert!(noticed(&ended(101, "error: could not compile, see rule JNL-1")).is_err());
        assert!(noticed(&ended(100, failed)).is_err());
    }

    const REPORT: &str = "{ \"judgement\": { \"verdict\": \"broken\", \"promises\": [\n\
        { \"promise\": \"capacity\", \"sentence\": \"No slot.\", \"broken\": 0, \"findings\": [] },\n\
        { \"promise\": \"acknowledged\", \"sentence\": \"All.\", \"broken\": 12, \"findings\": [\n\
        { \"promise\": \"acknowledged\", \"what\": \"B7 is gone\" }] } ] } }";

    #[test]
    fn every_planted_fault_is_known_to_the_engine_and_told_of_with_its_promise() {
        let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
        let (names, told) = (read("engine/src/fault.rs"), read("docs/surge.md"));
        for case in &CASES {
            let (Some(fault), Some(promise)) = (case.fault, case.promise) else { continue };
            assert!(names.contains(&format!("\"{fault}\",")), "the engine has no fault {fault}");
            let line = told.lines().find(|line| line.contains(&format!("`{fault}`")) && line.starts_with('|'));
            assert!(line.is_some_and(|line| line.ends_with(&format!("`{promise}` |"))), "docs/surge.md: {fault}");
        }
    }

    #[test]
    fn a_report_names_the_broken_promises() {
        assert_eq!(broken_promises(REPORT), [("acknowledged".to_owned(), 12)]);
        assert_eq!(broken_promises("{}"), []);
    }

    #[test]
    fn a_planted_server_must_break_its_own_promise() {
        assert_eq!(judge(&ended(1, ""), REPORT, Some("acknowledged")), Ok("broken: acknowledged (12)".to_owned()));
        for (code, report, promise) in [
            (1, REPORT, Some("capacity")),
            (0, "{}", Some("capacity")),
            (3, REPORT, Some("acknowledged")),
            (1, "", Some("acknowledged")),
        ] {
            assert!(judge(&ended(code, ""), report, promise).is_err(), "{code} {report}");
        }
    }

    #[test]
    fn the_sound_server_must_break_none() {
        assert_eq!(judge(&ended(0, ""), "{}", None), Ok("held".to_owned()));
        for (code, report) in [(1, REPORT), (0, REPORT), (3, "{}"), (0, "")] {
            assert!(judge(&ended(code, ""), report, None).is_err(), "{code} {report}");
        }
    }
}
