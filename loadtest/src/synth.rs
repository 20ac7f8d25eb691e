//! Evidence that nobody had to drive for: the history, exports and journal of a made-up server, honest or with one lie.
//!
//! It measures the auditor at sizes that a small machine cannot drive, and shows that one lie among millions is found. People
//! search, hold, confirm, walk away, cancel, move, bring somebody along, and send requests again; the server is a few lines that
//! keep every promise. Nothing of a run's outcome is judged by it.

mod people;
mod witnesses;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::audit::{GeneratorFacts, Verdict};
use crate::console;
use crate::error::{CannotRun, Doing};
use crate::run::RunRecord;
use crate::scenario::Scenario;
use crate::wire::Version;
use people::World;
use witnesses::Witnesses;

#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// How many operations the history has, to within the last person's.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub(crate) operations: u64,
    /// Repeats the same people with the same doings.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Where the files go; it must not hold a run.
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
    /// One thing that the server gets wrong, once.
    #[arg(long, value_name = "LIE")]
    pub(crate) lie: Option<Lie>,
}

/// What an otherwise honest server may get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lie {
    /// An acknowledged booking is in no export and in no entry.
    LostBooking,
    /// One slot takes one claim too many.
    Oversold,
    /// One slot with room is called full, with counts that lie as well.
    FalseFull,
    /// One hold runs out ten seconds late.
    LateExpiry,
    /// A search shows units that had long been taken.
    StaleSearch,
}

/// The first instant: all times of a made-up run are long past.
const BEGAN_US: i64 = 1_795_428_000_000_000;

const SCENARIO: &str = include_str!("../../scenarios/planted.toml");

/// Writes the evidence, ready for `berth-surge audit`.
pub(crate) fn synth(args: &SynthArgs) -> Result<Verdict, CannotRun> {
    let directory = &args.into;
    std::fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
    if directory.join("run.json").exists() {
        return Err(CannotRun::because(format!("{} already holds a run", directory.display())));
    }
    let mut world = World::new(args, Witnesses::create(directory)?);
    let ended_us = world.live(args.operations).doing(|| format!("write to {}", directory.display()))?;
    let record = record(args, &world, ended_us + 20_000_000)?;
    let operations = world.finish().doing(|| format!("write to {}", directory.display()))?;
    write_record(directory, &record)?;
    console::step(&format!("{operations} operations in {}", directory.display()));
    Ok(Verdict::Held)
}

fn write_record(directory: &Path, record: &RunRecord) -> Result<(), CannotRun> {
    let text = serde_json::to_string_pretty(record).doing(|| "write the run's record".into())?;
    std::fs::write(directory.join("run.json"), text).doing(|| "write the run's record".into())
}

fn record(args: &SynthArgs, world: &World, exported_us: i64) -> Result<RunRecord, CannotRun> {
    let mut scenario: Scenario = toml::from_str(SCENARIO).doing(|| "read the scenario".into())?;
    scenario.name = "synthetic".into();
    scenario.about = "Made up by `berth-surge synth`: no server was driven.".into();
    let lie = args.lie.and_then(|lie| Some(lie.to_possible_value()?.get_name().to_owned()));
    Ok(RunRecord {
        notes: vec![scenario.about.clone()],
        seed: args.seed,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        started_at: jiff::Timestamp::from_microsecond(BEGAN_US).map(|at| at.to_string()).unwrap_or_default(),
        server: Version { version: "made up".into(), fault: lie },
        server_starts_ms: Vec::new(),
        units: world.units(),
        slots: world.slots(),
        published: world.published(),
        exported_us,
        settled: true,
        verify_exit: 0,
        districts: Vec::new(),
        sessions: Default::default(),
        generator: GeneratorFacts {
            late_ms: 1_000,
            late_share_max: 1.0,
            fast_ms: 20,
            acknowledged_bookings_min: 1,
            ..GeneratorFacts::default()
        },
        elsewhere: false,
        scenario,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::audit::{self, Evidence, EvidenceFiles};

    /// The promises found broken.
    fn broken(lie: Option<Lie>) -> BTreeSet<&'static str> {
        let directory = tempfile::tempdir().unwrap();
        let args = SynthArgs { operations: 20_000, seed: 3, into: directory.path().to_owned(), lie };
        assert_eq!(synth(&args).unwrap(), Verdict::Held);
        let text = std::fs::read_to_string(directory.path().join("run.json")).unwrap();
        let record: RunRecord = serde_json::from_str(&text).unwrap();
        let mut evidence = Evidence::read(&EvidenceFiles::in_directory(directory.path())).unwrap();
        assert!(evidence.operations.len() >= 20_000);
        evidence.published = Some(record.published);
        evidence.settled_us = Some(record.exported_us);
        evidence.search_staleness_us = 500_000;
        let by_key = audit::by_key(&evidence);
        let lives = audit::Lives::of(&evidence, &by_key);
        let promises = record.scenario.audit.promises.iter().copied();
        let promises = promises.filter(|one| !["full-disk", "redis-copy", "overload"].contains(&one.word())).collect();
        let judgement = audit::judge(&evidence, &lives, &promises, None, Vec::new()).unwrap();
        let broken = judgement.promises.iter().filter(|judged| judged.broken > 0);
        broken
            .map(|judged| {
                assert!(judged.findings.iter().all(|finding| !finding.what.is_empty()));
                judged.promise.word()
            })
            .collect()
    }

    #[test]
    fn an_honest_made_up_server_holds() {
        assert_eq!(broken(None), BTreeSet::new());
    }

    #[test]
    fn one_lie_among_thousands_of_operations_is_found_by_its_promise() {
        for (lie, promise) in [
            (Lie::LostBooking, "acknowledged"),
            (Lie::Oversold, "capacity"),
            (Lie::FalseFull, "no-false-full"),
            (Lie::LateExpiry, "expiry"),
            (Lie::StaleSearch, "fresh-search"),
        ] {
            let found = broken(Some(lie));
            assert!(found.contains(promise), "{lie:?}: {found:?}");
        }
    }
}
