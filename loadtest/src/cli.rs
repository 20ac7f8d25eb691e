//! The command line: what can be asked for, and what it means.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::audit::Verdict;
use crate::compare::{self, CompareArgs};
use crate::error::{CannotRun, Doing};
use crate::extract::{self, HistoryArgs};
use crate::inventory;
use crate::replay::{self, Series};
use crate::run::{self, Order, ZONE};
use crate::scenario::Scenario;
use crate::synth::{self, SynthArgs};

/// Rehearses an opening day against a Berth server: drives it, kills it, and audits what came of it.
///
/// The verdict is one word. `held` (exit 0): every promise looked at held. `broken` (exit 1): at least one did not, and
/// the report proves it. `invalid` (exit 3): the run proves nothing, and the report says why. Exit 2: it could not run.
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
    /// Rebuilds one day of a real campaign from its public series, and lets more people come than there were doses.
    ///
    /// Example: berth-surge replay --states STATES.csv --districts DISTRICTS.csv --day 2021-09-17 --scale 0.001
    Replay(ReplayArgs),
    /// Judges an earlier run again, from its report directory alone, and rewrites its report.
    Audit {
        /// The run's report directory.
        directory: PathBuf,
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
    /// Scales people, units and bookings before a kill; times stay.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    scale: f64,
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
    /// Keeps the server's data directory after a held run as well.
    #[arg(long)]
    keep_data: bool,
}

/// Does what was asked.
pub(crate) fn act(cli: Cli) -> Result<Verdict, CannotRun> {
    let order = match cli.command {
        Command::Audit { directory } => return run::judge_directory(&directory),
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

fn run_order(args: RunArgs) -> Result<Order, CannotRun> {
    check_factor("--scale", args.scale)?;
    let scenario = Scenario::read(&args.scenario)?.scaled(args.scale);
    scenario.validate(&format!("{} scaled by {}", args.scenario.display(), args.scale))?;
    let first_day = inventory::first_day(ZONE)?;
    let shape = scenario
        .inventory
        .as_ref()
        .ok_or_else(|| CannotRun::because(format!("{} has no [inventory]", args.scenario.display())))?;
    let inventory = inventory::from_shape(shape, scenario.population.district_skew, first_day)?;
    let mut notes = vec![scenario.about.trim().to_owned()];
    if (args.scale - 1.0).abs() > f64::EPSILON {
        notes.push(format!("Scaled by {}.", args.scale));
    }
    order(scenario, inventory, notes, first_day, args.common)
}

fn replay_order(args: ReplayArgs) -> Result<Order, CannotRun> {
    check_factor("--scale", args.scale)?;
    check_factor("--people-per-slot", args.people_per_slot)?;
    check_factor("--seconds", args.seconds)?;
    let series = Series::read(&args.states, &args.districts, args.day)?;
    let first_day = inventory::first_day(ZONE)?;
    let (inventory, notes) = replay::inventory(&series, args.scale, first_day)?;
    let scenario = replay::scenario(args.day, &inventory, args.people_per_slot, args.seconds, !args.no_kill);
    scenario.validate("the replay")?;
    order(scenario, inventory, notes, first_day, args.common)
}

fn order(
    scenario: Scenario,
    inventory: inventory::Inventory,
    notes: Vec<String>,
    first_day: jiff::civil::Date,
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
        first_day: first_day.to_string(),
        seed,
        server: common.server,
        report_dir: common.report_dir,
        keep_data: common.keep_data,
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
