//! Hurting the server: when a fault's moment has come, a crowd rushes in and the blow lands in the middle of it.
//!
//! A `kill -9` between two requests proves little. The striker waits for its moment, calls the crowd, and fires only
//! while enough changes are in flight, a random moment into that.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::field::Field;
use super::moment::moment_comes;
use crate::console;
use crate::error::CannotRun;
use crate::fault::{Fault, Kill};
use crate::history::MarkKind;

/// What the striker needs of the server's process; the run owns the rest.
pub(crate) trait ServerSeat: Send {
    /// `kill -9`, returning when the process is gone.
    fn kill(&mut self) -> impl Future<Output = Result<(), CannotRun>> + Send;
    /// From its next start on, its wall clock is so far back.
    fn set_clock_back(&mut self, back: Duration);
    /// Starts it again on the same address and data, for the kill that comes next, if any.
    fn restart(&mut self, next: Option<Kill>) -> impl Future<Output = Result<(), CannotRun>> + Send;
}

/// How often the striker looks for its moment.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// How often a crowd is called before the blow is given up.
const CROWDS_MAX: u32 = 5;

/// How often one fault strikes until a blow leaves an outcome unknown.
const BLOWS_MAX: u32 = 3;
/// How long the requests that a kill cut off may take to notice.
const NOTICE: Duration = Duration::from_millis(100);

/// Strikes every kill in order. Ends early, with the kills unstruck, when the drive ends first.
pub(crate) async fn strike_all<S: ServerSeat>(field: Arc<Field>, mut seat: S, seed: u64) -> Result<S, CannotRun> {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x5712_1CE5);
    let faults = field.scenario.faults.clone();
    let kills: Vec<(usize, &Fault, Kill)> =
        faults.iter().enumerate().filter_map(|(index, fault)| Some((index, fault, fault.kill?))).collect();
    // How the process that runs now dies: it was started for the first kill.
    let Some(&(_, _, mut running)) = kills.first() else { return Ok(seat) };
    for (place, &(index, fault, kill)) in kills.iter().enumerate() {
        if !moment_comes(&field, fault, index, seed).await {
            break;
        }
        // While it strikes, the drive must not end for want of people.
        field.schedule.keep_open();
        let next = kills.get(place + 1).map_or(kill, |&(_, _, kill)| kill);
        let mut struck = Ok(());
        for blow in 1..=BLOWS_MAX {
            // A blow that missed is struck again, at a process that dies in the same way; else the next fault's turn comes.
            let again = (blow < BLOWS_MAX).then_some(kill);
            let aim = Blow { fault, index, running, after_miss: again.unwrap_or(next), after_hit: next };
            match strike(&field, &mut seat, &aim, &mut rng).await {
                Ok(Landed { hit, started }) => {
                    running = started;
                    if hit || again.is_none() {
                        break;
                    }
                    console::step("every change had its answer before the kill; striking again");
                }
                Err(error) => {
                    struck = Err(error);
                    break;
                }
            }
        }
        field.schedule.done();
        struck?;
    }
    Ok(seat)
}

/// One blow: at which process it is aimed, and how the next is to be started.
struct Blow<'a> {
    fault: &'a Fault,
    index: usize,
    /// How the process that runs now dies.
    running: Kill,
    after_miss: Kill,
    after_hit: Kill,
}

/// What came of a blow.
struct Landed {
    /// A change was left without its answer.
    hit: bool,
    /// How the process that was started since dies.
    started: Kill,
}

async fn strike<S: ServerSeat>(
    field: &Field,
    seat: &mut S,
    blow: &Blow<'_>,
    rng: &mut SmallRng,
) -> Result<Landed, CannotRun> {
    let fault = blow.fault;
    let fault_number = u32::try_from(blow.index).unwrap_or(u32::MAX);
    let mut crowds = 0;
    loop {
        field.call_crowd(fault.crowd);
        crowds += 1;
        if aimed(field, fault, rng).await {
            break;
        }
        if crowds == CROWDS_MAX {
            console::step("the crowd never grew large enough for the kill to count; striking all the same");
            break;
        }
    }
    let killed = MarkKind::Killed {
        fault: fault_number,
        how: blow.running.word().into(),
        changes_in_flight: field.meter.changes_in_flight.load(Relaxed),
        operations_in_flight: field.meter.operations_in_flight.load(Relaxed),
    };
    let killed_us = field.clock.now_us();
    field.meter.cut_by_kill.store(0, Relaxed);
    field.meter.killed_us.store(killed_us, Relaxed);
    field.recorder.mark(killed_us, killed);
    // A retry that waits for `up` must not race the dying process.
    field.up.send_replace(false);
    seat.kill().await?;
    console::step(&format!(
        "kill -9 at {:.1}s after {} bookings",
        field.since_drive_began().as_secs_f64(),
        field.meter.bookings.load(Relaxed)
    ));
    tokio::time::sleep(Duration::from_secs_f64(fault.restart_after_seconds).max(NOTICE)).await;
    // Judged once, here: what a slower client notices later changes neither the flag nor the count of blows.
    let hit = field.meter.cut_by_kill.load(Relaxed) > 0;
    let started = if hit { blow.after_hit } else { blow.after_miss };
    if let Some(back) = fault.clock_back_seconds {
        seat.set_clock_back(Duration::from_secs_f64(back));
    }
    seat.restart(Some(started)).await?;
    // Marked before anyone is let on: what is sent from now on goes to the new process.
    field.recorder.mark(field.clock.now_us(), MarkKind::Restarted { fault: fault_number });
    field.up.send_replace(true);
    console::step("the server is back");
    Ok(Landed { hit, started })
}

/// Waits for enough changes in flight, then a random moment, and says whether there are still enough.
async fn aimed(field: &Field, fault: &Fault, rng: &mut SmallRng) -> bool {
    let enough = || field.meter.changes_in_flight.load(Relaxed) >= u64::from(fault.in_flight_min);
    for _ in 0..1_000 {
        if enough() {
            let moment = Duration::from_micros(rng.random_range(0..4_000));
            tokio::time::sleep(moment).await;
            if enough() {
                return true;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::field::FieldParts;
    use super::*;
    use crate::history::{self, Clock, Line, Recorder};
    use crate::plan::Plan;
    use crate::scenario::Scenario;
    use crate::scenario::tests::SMALL;

    /// A seat on which only some of the blows cut a change off.
    struct Seat {
        field: Arc<Field>,
        hits: Vec<bool>,
        started: Vec<Option<Kill>>,
    }

    impl ServerSeat for Seat {
        async fn kill(&mut self) -> Result<(), CannotRun> {
            self.field.meter.cut_by_kill.store(u64::from(self.hits.remove(0)), Relaxed);
            Ok(())
        }

        fn set_clock_back(&mut self, _: Duration) {}

        async fn restart(&mut self, next: Option<Kill>) -> Result<(), CannotRun> {
            self.started.push(next);
            Ok(())
        }
    }

    /// A power cut and then a plain kill; how each blow was recorded, and with what each process was started.
    async fn struck(hits: &[bool]) -> (Vec<(u32, String)>, Vec<Option<Kill>>) {
        let fault = |kill: &str| {
            format!("[[faults]]\nkill = \"{kill}\"\nat_seconds = 0.0\nin_flight_min = 1\nrestart_after_seconds = 0.0\n")
        };
        let text = format!("{SMALL}\n{}{}", fault("power-cut"), fault("plain"));
        let scenario: Scenario = toml::from_str(&text).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.ndjson");
        let (recorder, recording) = Recorder::create(&path).unwrap();
        let field = Field::new(FieldParts {
            plan: Plan::draw(&scenario, &[1.0], 1),
            scenario,
            clock: Clock::start(),
            recorder: recorder.clone(),
            platform_key: String::new(),
            districts: vec!["d001".into()],
            from: String::new(),
            days: 1,
            doses: HashMap::new(),
            first_party: "p1.0".into(),
            run_id: "test".into(),
            units: 60,
        });
        let field = Arc::new(field.unwrap());
        field.meter.changes_in_flight.store(500, Relaxed);
        let seat = Seat { field: Arc::clone(&field), hits: hits.to_vec(), started: Vec::new() };
        let seat = strike_all(field, seat, 1).await.unwrap();
        recording.finish(&recorder).unwrap();
        let kills = history::read(&path)
            .unwrap()
            .into_iter()
            .filter_map(|line| match line {
                Line::Mark(history::Mark { mark: MarkKind::Killed { fault, how, .. }, .. }) => Some((fault, how)),
                _ => None,
            })
            .collect();
        (kills, seat.started)
    }

    fn named(kills: &[(u32, &str)]) -> Vec<(u32, String)> {
        kills.iter().map(|&(fault, how)| (fault, how.to_owned())).collect()
    }

    #[tokio::test]
    async fn a_blow_that_landed_makes_way_for_the_next_fault() {
        let (kills, started) = struck(&[true, true]).await;
        assert_eq!(kills, named(&[(0, "power-cut"), (1, "plain")]));
        assert_eq!(started, [Some(Kill::Plain), Some(Kill::Plain)]);
    }

    #[tokio::test]
    async fn a_blow_that_missed_is_struck_again_in_the_same_way() {
        let (kills, started) = struck(&[false, true, true]).await;
        assert_eq!(kills, named(&[(0, "power-cut"), (0, "power-cut"), (1, "plain")]));
        assert_eq!(started, [Some(Kill::PowerCut), Some(Kill::Plain), Some(Kill::Plain)]);
    }

    #[tokio::test]
    async fn after_the_last_miss_the_next_fault_has_its_own_process() {
        let (kills, started) = struck(&[false, false, false, true]).await;
        assert_eq!(kills[2..], named(&[(0, "power-cut"), (1, "plain")]));
        assert_eq!(started, [Some(Kill::PowerCut), Some(Kill::PowerCut), Some(Kill::Plain), Some(Kill::Plain)]);
    }
}
