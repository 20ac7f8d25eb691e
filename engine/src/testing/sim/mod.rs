//! The simulator: a whole cell, its disk and its Redis driven by one seed, in virtual time.
//!
//! Engine, writer, reserve, snapshots, expiry and shipper are the real ones; only their threads are not there. The simulator
//! takes their turns in an order that follows from the seed, stops some in the middle ([`stage`]), lets the disk fail and
//! the power go, starts the cell again from what the disk kept, and holds it against the oracle ([`history`]) and against
//! every rule that journal and memory can show ([`check`]).

mod check;
mod clients;
mod flip;
mod history;
mod life;
mod load;
mod parts;
mod redis;
mod restart;
mod stage;
mod tally;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use tally::Tally;

/// Faults that are not the disk's.
pub const FAULTS: [&str; 6] =
    ["killed", "power cut", "clock set", "journal stopped", "outage past a deadline", "crash before a grace was safe"];
/// Where a crash can come that is no operation of the disk.
pub const POINTS: [&str; 8] = [
    "between operations",
    "a start",
    "redis take",
    "redis append",
    "redis put_piece",
    "redis keep",
    "redis trim",
    "redis install",
];

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Repeats it.
    pub seed: u64,
    /// How far the run had come.
    pub step: u64,
    /// The rule, as in RULES.md.
    pub rule: &'static str,
    /// What was found, with both values.
    pub what: String,
    /// What happened last, oldest first.
    pub trail: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Violation { seed, step, rule, what, trail } = self;
        for line in trail {
            writeln!(f, "{line}")?;
        }
        write!(
            f,
            "seed {seed}, step {step}: {rule}: {what}\nrepeat it with: cargo xtask sim --first-seed {seed} --seeds 1"
        )
    }
}

/// What was found before it is known where.
#[derive(Debug)]
struct Broken {
    rule: &'static str,
    what: String,
}

fn broken<T>(rule: &'static str, what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { rule, what: what.into() })
}

/// Runs one seed to its end.
///
/// # Errors
/// The first promise that was broken; a panic of the engine is one.
pub fn run(seed: u64) -> Result<Tally, Box<Violation>> {
    let mut world = world::World::new(seed);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let Broken { rule, what } = match ended {
        Ok(Ok(())) => return Ok(world.tally()),
        Ok(Err(broken)) => broken,
        Err(panic) => Broken { rule: "panic", what: told(&*panic) },
    };
    let step = world.step;
    let trail = std::mem::take(&mut world.trail).into();
    // What is left of the cell is not asked to end well.
    std::mem::forget(world);
    Err(Box::new(Violation { seed, step, rule, what, trail }))
}

/// What an actor came to.
fn finished<T>(actor: stage::Actor<T>) -> Result<T, Broken> {
    actor.finish().map_err(|panic| Broken { rule: "panic", what: told(&*panic) })
}

/// What a panic said.
fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".to_owned())
}
