//! Hurting what the server stands on, and the server itself short of killing it: Redis, the disk, the process, connections,
//! a centre, or whatever a command of the scenario does.
//!
//! Each fault runs beside the people and beside the kills, in a task of its own. Whatever happens, what was hurt is healed
//! before the task ends: the audit judges a server that had the chance to recover.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::field::Field;
use super::moment::moment_comes;
use crate::console;
use crate::error::{CannotRun, Doing};
use crate::fault::{DiskFault, Fault, RedisFault};
use crate::ground::Ground;
use crate::history::MarkKind;
use crate::seed::{Admin, Emptying};
use crate::stop::Stop;

/// How often a full disk is looked at again: what a trimmed log gives back is taken too.
const TOP_UP_EVERY: Duration = Duration::from_millis(50);
/// A command that takes longer counts as failed.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// All that a fault may be done to.
#[derive(Clone, Debug)]
pub(crate) struct Hurting {
    pub(crate) field: Arc<Field>,
    pub(crate) ground: Arc<Ground>,
    /// Fills the log, closes centres.
    pub(crate) admin: Admin,
    pub(crate) stop: Stop,
    /// Sessions by centre, in the order in which they were published: name of the session, its centre, its date.
    pub(crate) sessions: Arc<Vec<[String; 3]>>,
}

/// Hurts and heals by every fault that is not a kill. Ends early, with the faults unstruck, when the drive ends first.
pub(crate) async fn hurt_all(hurting: Hurting, seed: u64) -> Result<(), CannotRun> {
    let field = Arc::clone(&hurting.field);
    let mut tasks = JoinSet::new();
    for (index, fault) in field.scenario.faults.iter().enumerate().filter(|(_, fault)| fault.kill.is_none()) {
        let (mut hurting, fault) = (hurting.clone(), fault.clone());
        hurting.admin = hurting.admin.marked(&index.to_string());
        tasks.spawn(async move {
            if !moment_comes(&hurting.field, &fault, index, seed).await {
                return Ok(());
            }
            // While something is hurt, the drive must not end for want of people.
            hurting.field.schedule.keep_open();
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let done = hurting.hurt(number, &fault).await;
            hurting.field.schedule.done();
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

impl Hurting {
    async fn hurt(&mut self, number: u32, fault: &Fault) -> Result<(), CannotRun> {
        if let Some(how) = fault.redis {
            return self.hurt_redis(number, fault, how).await;
        }
        match fault.disk {
            Some(DiskFault::Fill) => return self.fill_disk(number, fault).await,
            Some(DiskFault::Slow) => return self.slow_disk(number, fault).await,
            None => {}
        }
        if let Some(command) = &fault.command {
            return self.command(number, fault, command).await;
        }
        if fault.centre.is_some() {
            return self.close_centre(number, fault).await;
        }
        if fault.server.is_some() {
            self.stop.tell_server(Signal::STOP);
            mark_hurt(&self.field, number, fault);
            last(&self.field, fault, None).await?;
            mark_healed(&self.field, number, fault, None);
            self.stop.tell_server(Signal::CONT);
            return Ok(());
        }
        // What is left is connections.
        self.field.meter.cut_in_a_million.store(in_a_million(fault.share), Relaxed);
        mark_hurt(&self.field, number, fault);
        last(&self.field, fault, None).await?;
        self.field.meter.cut_in_a_million.store(0, Relaxed);
        mark_healed(&self.field, number, fault, None);
        Ok(())
    }

    async fn hurt_redis(&self, number: u32, fault: &Fault, how: RedisFault) -> Result<(), CannotRun> {
        let Some(redis) = &self.ground.redis else { return Ok(()) };
        let mut redis = redis.lock().await;
        redis.hurt(how, Duration::from_secs_f64(fault.lost_tail_seconds)).await?;
        mark_hurt(&self.field, number, fault);
        if how == RedisFault::Slow {
            let until = self.until(fault);
            while self.field.clock.elapsed() < until && !self.field.schedule.is_closed() {
                redis.beat().await?;
            }
        } else {
            last(&self.field, fault, None).await?;
        }
        let lost = redis.heal(how).await?;
        mark_healed(&self.field, number, fault, Some(lost));
        Ok(())
    }

    fn until(&self, fault: &Fault) -> Duration {
        self.field.clock.elapsed() + Duration::from_secs_f64(fault.for_seconds.unwrap_or(0.0))
    }

    async fn fill_disk(&mut self, number: u32, fault: &Fault) -> Result<(), CannotRun> {
        let Some(disk) = &self.ground.disk else { return Ok(()) };
        let mut disk = disk.lock().await;
        disk.fill()?;
        mark_hurt(&self.field, number, fault);
        // The disk must be freed whatever becomes of the log.
        let filled = self.admin.fill_log().await;
        let lasted = last(&self.field, fault, Some(&mut disk)).await;
        // Marked first: a claim that succeeds from here on is no surprise.
        mark_healed(&self.field, number, fault, None);
        disk.free()?;
        filled.and(lasted)
    }

    /// The server reads at each sync how much longer it is to take.
    async fn slow_disk(&self, number: u32, fault: &Fault) -> Result<(), CannotRun> {
        self.ground.slow_syncs(fault.sync_ms)?;
        mark_hurt(&self.field, number, fault);
        let lasted = last(&self.field, fault, None).await;
        self.ground.slow_syncs(0)?;
        mark_healed(&self.field, number, fault, None);
        lasted
    }

    async fn command(&self, number: u32, fault: &Fault, command: &str) -> Result<(), CannotRun> {
        shell(command).await?;
        mark_hurt(&self.field, number, fault);
        let lasted = last(&self.field, fault, None).await;
        if let Some(heal) = &fault.heal {
            shell(heal).await?;
        }
        mark_healed(&self.field, number, fault, None);
        lasted
    }

    /// Its sessions close, their bookings go to the next centre of the district, and what has no room there, or was still held,
    /// is cancelled in the end.
    async fn close_centre(&mut self, number: u32, fault: &Fault) -> Result<(), CannotRun> {
        // On another's server the run's own mark stands before every name.
        let meant =
            |of: &str| fault.which.as_ref().is_none_or(|which| of == which || of.ends_with(&format!("-{which}")));
        let centre = self.sessions.iter().map(|[_, of, _]| of).find(|of| meant(of)).cloned().unwrap_or_default();
        let own: Vec<[String; 3]> = self.sessions.iter().filter(|[_, of, _]| *of == centre).cloned().collect();
        if own.is_empty() {
            return Err(CannotRun::because(format!("faults[{number}].which: no such centre has sessions")));
        }
        mark_hurt(&self.field, number, fault);
        let district = centre.rsplit_once('-').map_or(centre.as_str(), |(district, _)| district);
        let (mut moved, mut cancelled) = (0, 0);
        for [session, _, date] in &own {
            self.admin.switch(session, "close").await?;
            let others: Vec<String> = self
                .sessions
                .iter()
                .filter(|[_, of, on]| of.starts_with(district) && *of != centre && on == date)
                .map(|[other, ..]| other.clone())
                .collect();
            for other in others {
                moved += self.admin.empty(&self.field, session, Emptying::MoveTo(&other)).await?;
            }
        }
        // Holds that were live may be confirmed until they run out.
        tokio::time::sleep(Duration::from_secs(u64::from(self.field.scenario.server.hold_seconds) + 1)).await;
        for [session, ..] in &own {
            cancelled += self.admin.empty(&self.field, session, Emptying::Cancel).await?;
        }
        mark_healed(&self.field, number, fault, None);
        console::step(&format!("centre {centre} has closed: {moved} bookings moved, {cancelled} cancelled"));
        Ok(())
    }
}

async fn shell(command: &str) -> Result<(), CannotRun> {
    let what = || format!("run `{command}`");
    let mut shell = Command::new("sh");
    let run = shell.args(["-c", command]).kill_on_drop(true).status();
    let status = tokio::time::timeout(COMMAND_MAX, run)
        .await
        .map_err(|_| CannotRun::because(format!("`{command}` took longer than {} s", COMMAND_MAX.as_secs())))?
        .doing(what)?;
    if status.success() { Ok(()) } else { Err(CannotRun::because(format!("`{command}` ended with {status}"))) }
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

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share, checked by validate()")]
fn in_a_million(share: f64) -> u32 {
    (share * 1_000_000.0).round() as u32
}
