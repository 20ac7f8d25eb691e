//! The command line: what can be asked for, and what it means.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::audit::Verdict;
use crate::compare::{self, CompareArgs};
use crate::console::say;
use crate::error::{CannotRun, Doing};
use crate::extract::{self, HistoryArgs};
use crate::inventory::{self, Calendar};
use crate::replay::{self, Series};
use crate::run::{self, Order, Target};
use crate::scenario::{FirstDay, Phase, Scenario, all_words};
use crate::synth::{self, SynthArgs};

/// Rehearses an opening day against a Berth server: drives it, kills it, and audits what came of it.
///
/// The verdict is one word. `held` (exit 0): every promise looked at held. `broken` (exit 1): at least one did not, and
/// the report proves it. `invalid` (exit 3): the run proves nothing, and the report says why. `missed` (exit 4): the promises
/// held, and an objective of the scenario was not reached. Exit 2: it could not run.
#[derive(Debug, Parser)]
#[command(name = "berth-surge", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario file against a server that it starts itself.
    ///
    /// Example: berth-surge run scenarios/first-surge.toml
    Run(RunArgs),
    /// Names every fault of scenario files, each with its line and a hint, and runs nothing.
    ///
    /// Example: berth-surge check scenarios/first-surge.toml --set driver.workers=800
    Check {
        /// The scenarios.
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
        /// As that of `run`.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Rebuilds one day of a real campaign from its public series, and lets more people come than there were doses.
    ///
    /// Example: berth-surge replay --states STATES.csv --districts DISTRICTS.csv --day 2021-09-17 --scale 0.001
    Replay(ReplayArgs),
    /// Judges an earlier run again, from its report directory alone, and rewrites its report.
    Audit {
        /// The run's report directory.
        directory: PathBuf,
        /// The report directory of an earlier run, to be shown beside this one.
        #[arg(long, value_name = "DIR")]
        baseline: Option<PathBuf>,
    },
    /// Prints a run's history as NDJSON (docs/history.md), or only what speaks of somebody or something.
    ///
    /// Example: berth-surge history target/surge/first-surge-TIME --about 01VC-W66D6-QAW7T
    History(HistoryArgs),
    /// Says what moved from one run to another, and whether it is more than noise.
    ///
    /// Per phase and operation: answers, latencies, goodput and refusals, second by second, by the Mann-Whitney test (together at the
    /// 5 % level) and only where the median moved by 5 % or more. Exit status 0: nothing is worse; 1: something is; 2: a directory
    /// could not be read.
    ///
    /// Example: berth-surge compare target/surge/first-surge-BEFORE target/surge/first-surge-AFTER
    Compare(CompareArgs),
    /// Writes the evidence of a made-up run: a large history for the auditor to be measured by, honest or with one lie.
    ///
    /// Example: berth-surge synth --operations 10000000 --into target/synth, and then: berth-surge audit target/synth
    Synth(SynthArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The scenario (docs/surge.md says what it may contain).
    scenario: PathBuf,
    /// Scales people, units and bookings before a fault; times stay.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    scale: f64,
    /// Stretches or shrinks the arrivals and the moments of faults; how many come per second stays.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    times: f64,
    /// The scenario's own small version, under a minute: its `[small]` in place of --scale and --times.
    #[arg(long, conflicts_with_all = ["scale", "times"])]
    small: bool,
    /// Sets a value over the scenario, as driver.workers=800 or 'arrivals[0].per_second=50'. May be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Drives a server that is there already, and leaves it there: docs/rehearse.md. Regions, centres, sessions and parties are made on
    /// it, with names of the run's own.
    #[arg(long, value_name = "URL", requires_all = ["key_env", "admin_key_env"], conflicts_with = "server")]
    target: Option<String>,
    /// The variable of the environment that has a platform's key for it.
    #[arg(long, value_name = "NAME", requires = "target")]
    key_env: Option<String>,
    /// The variable of the environment that has an administrator's key for it.
    #[arg(long, value_name = "NAME", requires = "target")]
    admin_key_env: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// Cumulative doses by state and day (covid19india.org, cowin_vaccine_data_statewise.csv).
    #[arg(long, value_name = "CSV")]
    states: PathBuf,
    /// States and their districts (state_id, state_name, district_id, district_name).
    #[arg(long, value_name = "CSV")]
    districts: PathBuf,
    /// The day to rebuild.
    #[arg(long, value_name = "YYYY-MM-DD")]
    day: jiff::civil::Date,
    /// Units per dose given that day.
    #[arg(long, default_value_t = 0.001, value_name = "FACTOR")]
    scale: f64,
    /// How many people come for each unit.
    #[arg(long, default_value_t = 1.5, value_name = "FACTOR")]
    people_per_slot: f64,
    /// How long people keep coming.
    #[arg(long, default_value_t = 40.0, value_name = "SECONDS")]
    seconds: f64,
    /// Leaves the server alone.
    #[arg(long)]
    no_kill: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// The `berth` program. Default: the environment's BERTH_SERVER, or one built beside this program by cargo.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Repeats the same people with the same intentions. Default: drawn, and named in the report.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where history, exports and reports go. Default: target/surge/NAME-TIME.
    #[arg(long, value_name = "DIR")]
    report_dir: Option<PathBuf>,
    /// The report directory of an earlier run, to be shown beside this one.
    #[arg(long, value_name = "DIR")]
    baseline: Option<PathBuf>,
    /// Keeps the server's data directory after a held run as well.
    #[arg(long)]
    keep_data: bool,
}

/// Does what was asked.
pub(crate) fn act(cli: Cli) -> Result<Verdict, CannotRun> {
    let order = match cli.command {
        Command::Audit { directory, baseline } => return run::judge_directory(&directory, baseline.as_deref()),
        Command::Check { scenarios, set } => return check(&scenarios, &set),
        Command::History(args) => return extract::history(&args),
        Command::Compare(args) => return compare::run(&args),
        Command::Synth(args) => return synth::synth(&args),
        Command::Run(args) => run_order(args)?,
        Command::Replay(args) => replay_order(args)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .doing(|| "start the asynchronous runtime".into())?;
    runtime.block_on(run::run(order))
}

/// Names every fault of every file; `held` when there is none.
fn check(scenarios: &[PathBuf], settings: &[String]) -> Result<Verdict, CannotRun> {
    let mut faults = 0;
    for path in scenarios {
        match Scenario::load(path, settings) {
            Ok(scenario) => {
                let people: f64 = scenario.arrivals.iter().map(Phase::people).sum();
                let seconds: f64 = scenario.arrivals.iter().map(Phase::seconds).sum();
                say(&format!("{}: sound: {people:.0} people in {seconds:.0} s", path.display()));
            }
            Err(wrong) => {
                faults += wrong.len();
                all_words(&wrong).iter().for_each(|line| say(line));
            }
        }
    }
    match faults {
        0 => Ok(Verdict::Held),
        1 => Err(CannotRun::because("there is a fault")),
        faults => Err(CannotRun::because(format!("there are {faults} faults"))),
    }
}

fn load(args: &RunArgs) -> Result<Scenario, CannotRun> {
    Scenario::load(&args.scenario, &args.set).map_err(|wrong| {
        let lines = all_words(&wrong);
        let count = lines.len();
        let faults = if count == 1 { "a fault" } else { "faults" };
        CannotRun::because(format!("{} has {faults}:\n  {}", args.scenario.display(), lines.join("\n  ")))
    })
}

fn run_order(args: RunArgs) -> Result<Order, CannotRun> {
    let scenario = load(&args)?;
    let own = scenario.small.unwrap_or_default();
    let (scale, times) = if args.small { (own.scale, own.times) } else { (args.scale, args.times) };
    check_factor("--scale", scale)?;
    check_factor("--times", times)?;
    let scenario = scenario.scaled(scale, times);
    scenario.validate(&format!("{} scaled by {scale}", args.scenario.display()))?;
    let shape = scenario
        .inventory
        .as_ref()
        .ok_or_else(|| CannotRun::because(format!("{} has no [inventory]", args.scenario.display())))?;
    let calendar = Calendar::of(shape.first_day)?;
    let people = scenario.arrivals.iter().map(Phase::people).sum();
    let inventory = inventory::from_shape(shape, &scenario.population, people, calendar.first_day)?;
    let mut notes = vec![scenario.about.trim().to_owned()];
    if (scale - 1.0).abs() > f64::EPSILON {
        notes.push(format!("Scaled by {scale}."));
    }
    if (times - 1.0).abs() > f64::EPSILON {
        notes.push(format!("Times by {times}."));
    }
    let target = match (&args.target, &args.key_env, &args.admin_key_env) {
        (Some(url), Some(key), Some(admin)) => {
            Target::allows(&scenario)?;
            Some(Target::new(url, key, admin)?)
        }
        _ => None,
    };
    Ok(Order { target, ..order(scenario, inventory, notes, calendar, args.common)? })
}

fn replay_order(args: ReplayArgs) -> Result<Order, CannotRun> {
    check_factor("--scale", args.scale)?;
    check_factor("--people-per-slot", args.people_per_slot)?;
    check_factor("--seconds", args.seconds)?;
    let series = Series::read(&args.states, &args.districts, args.day)?;
    let calendar = Calendar::of(FirstDay::Tomorrow)?;
    let (inventory, notes) = replay::inventory(&series, args.scale, calendar.first_day)?;
    let scenario = replay::scenario(args.day, &inventory, args.people_per_slot, args.seconds, !args.no_kill);
    scenario.validate("the replay")?;
    order(scenario, inventory, notes, calendar, args.common)
}

fn order(
    scenario: Scenario,
    inventory: inventory::Inventory,
    notes: Vec<String>,
    calendar: Calendar,
    common: Common,
) -> Result<Order, CannotRun> {
    let seed = match common.seed {
        Some(seed) => seed,
        // Short enough to type again.
        None => u64::from(getrandom::u32().doing(|| "draw a seed".into())?),
    };
    Ok(Order {
        scenario,
        inventory,
        notes,
        calendar,
        seed,
        server: common.server,
        report_dir: common.report_dir,
        keep_data: common.keep_data,
        target: None,
        baseline: common.baseline,
    })
}

fn check_factor(name: &str, value: f64) -> Result<(), CannotRun> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(CannotRun::because(format!("{name} {value} is not a number above 0")))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
