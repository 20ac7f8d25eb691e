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
use crate::console;
use crate::error::CannotRun;
use crate::history::MarkKind;
use crate::scenario::{Fault, Kill};

/// What the striker needs of the server's process; the run owns the rest.
pub(crate) trait ServerSeat: Send {
    /// `kill -9`, returning when the process is gone.
    fn kill(&mut self) -> impl Future<Output = Result<(), CannotRun>> + Send;
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

/// Strikes every fault in order. Ends early, with the faults unstruck, when the drive ends first.
pub(crate) async fn strike_all<S: ServerSeat>(field: Arc<Field>, mut seat: S, seed: u64) -> Result<S, CannotRun> {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x5712_1CE5);
    let faults = field.scenario.faults.clone();
    for (index, fault) in faults.iter().enumerate() {
        if !moment_comes(&field, fault).await {
            break;
        }
        // While it strikes, the drive must not end for want of people.
        field.schedule.keep_open();
        // Should this blow have to be struck again, the process needs the flag of this kill; else that of the next.
        let next = faults.get(index + 1).map_or(fault.kill, |fault| fault.kill);
        let mut struck = Ok(());
        for _ in 0..BLOWS_MAX {
            struck = strike(&field, &mut seat, fault, index, next, &mut rng).await;
            if struck.is_err() || field.meter.cut_by_kill.load(Relaxed) > 0 {
                break;
            }
            console::step("every request had its answer before the kill; striking again");
        }
        field.schedule.done();
        struck?;
    }
    Ok(seat)
}

async fn moment_comes(field: &Field, fault: &Fault) -> bool {
    loop {
        if field.schedule.is_closed() {
            return false;
        }
        let by_time = fault.at_seconds.is_some_and(|at| field.since_drive_began().as_secs_f64() >= at);
        let by_count = fault.after_bookings.is_some_and(|count| field.meter.bookings.load(Relaxed) >= count);
        if by_time || by_count {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn strike<S: ServerSeat>(
    field: &Field,
    seat: &mut S,
    fault: &Fault,
    index: usize,
    next: Kill,
    rng: &mut SmallRng,
) -> Result<(), CannotRun> {
    let fault_number = u32::try_from(index).unwrap_or(u32::MAX);
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
        how: match fault.kill {
            Kill::PowerCut => "power-cut".into(),
            Kill::Plain => "plain".into(),
        },
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
    seat.restart(Some(next)).await?;
    // Marked before anyone is let on: what is sent from now on goes to the new process.
    field.recorder.mark(field.clock.now_us(), MarkKind::Restarted { fault: fault_number });
    field.up.send_replace(true);
    console::step("the server is back");
    Ok(())
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
