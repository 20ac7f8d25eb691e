//! Hurting what the server stands on: Redis goes away and comes back, the disk fills and is freed.
//!
//! Each fault runs beside the people and beside the kills, in a task of its own. Whatever happens, what was hurt is healed
//! before the task ends: the audit judges a server that had the chance to recover.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;

use super::field::Field;
use super::moment::moment_comes;
use crate::console;
use crate::error::{CannotRun, Doing};
use crate::fault::{Fault, RedisFault};
use crate::ground::Ground;
use crate::history::MarkKind;
use crate::seed::Admin;
use crate::stop::Stop;

/// How often a full disk is looked at again: what a trimmed log gives back is taken too.
const TOP_UP_EVERY: Duration = Duration::from_millis(50);

/// Hurts and heals by every fault that is not a kill. Ends early, with the faults unstruck, when the drive ends first.
/// `admin` makes the log need its next segment while the disk is full.
pub(crate) async fn hurt_all(field: Arc<Field>, ground: Arc<Ground>, admin: Admin, seed: u64) -> Result<(), CannotRun> {
    let mut tasks = JoinSet::new();
    for (index, fault) in field.scenario.faults.iter().enumerate().filter(|(_, fault)| fault.kill.is_none()) {
        let (field, ground, fault, admin) = (Arc::clone(&field), Arc::clone(&ground), fault.clone(), admin.clone());
        tasks.spawn(async move {
            if !moment_comes(&field, &fault, index, seed).await {
                return Ok(());
            }
            // While something is hurt, the drive must not end for want of people.
            field.schedule.keep_open();
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let done = match fault.redis {
                Some(how) => hurt_redis(&field, &ground, number, &fault, how).await,
                None => fill_disk(&field, &ground, number, &fault, admin).await,
            };
            field.schedule.done();
            done
        });
    }
    let mut first = Ok(());
    while let Some(done) = tasks.join_next().await {
        let done = done.doing(|| "hurt what the server stands on".into())?;
        if done.is_err() && first.is_ok() {
            field.meter.note_cut_short("what the server stands on could not be hurt or healed");
            field.schedule.close();
            first = done;
        }
    }
    first
}

/// Asks the server for snapshots, so that a crash may land in one and a start has one to begin with. Ends with the drive.
///
/// After a restart one is asked for and no more: of two, the log before the restart would be trimmed, and the audit wants
/// every entry.
pub(crate) async fn ask_for_snapshots(field: Arc<Field>, stop: Stop) {
    let Some(seconds) = field.scenario.server.snapshot_every_seconds else { return };
    let mut up = field.up.subscribe();
    let mut left = u32::MAX;
    while !field.schedule.is_closed() && left > 0 {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        if up.has_changed().unwrap_or(false) {
            // It was killed since: a process that is not ready yet would die of the signal.
            up.mark_unchanged();
            left = 1;
        }
        if *field.up.borrow() && field.since_drive_began() > Duration::ZERO {
            stop.tell_server(Signal::USR1);
            field.recorder.mark(field.clock.now_us(), MarkKind::SnapshotAsked);
            left -= 1;
        }
    }
}

async fn hurt_redis(
    field: &Field,
    ground: &Ground,
    number: u32,
    fault: &Fault,
    how: RedisFault,
) -> Result<(), CannotRun> {
    let Some(redis) = &ground.redis else { return Ok(()) };
    let mut redis = redis.lock().await;
    redis.hurt(how, Duration::from_secs_f64(fault.lost_tail_seconds)).await?;
    mark_hurt(field, number, fault);
    last(field, fault, None).await?;
    let lost = redis.heal(how).await?;
    mark_healed(field, number, fault, Some(lost));
    Ok(())
}

async fn fill_disk(
    field: &Field,
    ground: &Ground,
    number: u32,
    fault: &Fault,
    mut admin: Admin,
) -> Result<(), CannotRun> {
    let Some(disk) = &ground.disk else { return Ok(()) };
    let mut disk = disk.lock().await;
    disk.fill()?;
    mark_hurt(field, number, fault);
    // The disk must be freed whatever becomes of the log.
    let filled = admin.fill_log().await;
    let lasted = last(field, fault, Some(&mut disk)).await;
    // Marked first: a claim that succeeds from here on is no surprise.
    mark_healed(field, number, fault, None);
    disk.free()?;
    filled.and(lasted)
}

/// Lets the fault last, unless the drive is cut off.
async fn last(field: &Field, fault: &Fault, mut disk: Option<&mut crate::ground::SmallDisk>) -> Result<(), CannotRun> {
    let until = field.clock.elapsed() + Duration::from_secs_f64(fault.for_seconds.unwrap_or(0.0));
    while field.clock.elapsed() < until && !field.schedule.is_closed() {
        tokio::time::sleep(TOP_UP_EVERY.min(until.saturating_sub(field.clock.elapsed()))).await;
        if let Some(disk) = &mut disk {
            disk.fill()?;
        }
    }
    Ok(())
}

fn mark_hurt(field: &Field, number: u32, fault: &Fault) {
    let what = fault.word().to_owned();
    console::step(&format!("{what} at {:.1}s", field.since_drive_began().as_secs_f64()));
    field.recorder.mark(field.clock.now_us(), MarkKind::Hurt { fault: number, what });
}

fn mark_healed(field: &Field, number: u32, fault: &Fault, lost_entries: Option<u64>) {
    field.recorder.mark(field.clock.now_us(), MarkKind::Healed { fault: number, lost_entries });
    let lost = lost_entries.map_or_else(String::new, |lost| format!(", {lost} entries fewer in Redis"));
    console::step(&format!("{} healed at {:.1}s{lost}", fault.word(), field.since_drive_began().as_secs_f64()));
}
