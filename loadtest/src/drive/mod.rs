//! The drive: an open model of people, acted out by Goose users.
//!
//! People come by the plan whether or not the server keeps up. Each Goose user is a worker that takes the next person
//! (or the next step of a person who was thinking), acts it, and measures from the moment it was meant to happen, so a
//! stalled server cannot hide behind a stalled generator.

mod ask;
mod exchange;
mod field;
mod hurt;
mod journey;
mod manners;
mod meter;
mod moment;
mod own;
mod schedule;
mod strike;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use goose::GooseAttack;
use goose::client::GooseClientBuilder;
use goose::config::GooseConfiguration;
use goose::goose::{Scenario as GooseScenario, Transaction, TransactionFunction};
use goose::prelude::{GooseDefault, GooseDefaultType};

pub(crate) use ask::Ask;
pub(crate) use exchange::{Line, exchange};
pub(crate) use field::{Field, FieldParts};
use hurt::ask_for_snapshots;
pub(crate) use hurt::{Hurting, hurt_all};
pub(crate) use strike::{ServerSeat, strike_all};

use crate::console;
use crate::error::{CannotRun, Doing};
use crate::history::MarkKind;
use crate::stop::Stop;

/// Acts the whole plan and returns when everybody has finished or the time is up. Goose's own report goes to
/// `goose_report`.
pub(crate) async fn drive(
    field: &Arc<Field>,
    base_url: &str,
    goose_report: &Path,
    stop: &Stop,
) -> Result<(), CannotRun> {
    let attack = attack(field, base_url, goose_report)?;
    field.recorder.mark(field.clock.now_us(), MarkKind::DriveBegan);
    let dispatcher = tokio::spawn(schedule::dispatch(Arc::clone(field)));
    let watcher = tokio::spawn(watch(Arc::clone(field), stop.clone()));
    let asker = tokio::spawn(ask_for_snapshots(Arc::clone(field), stop.clone()));
    let metrics = attack.execute().await;
    field.schedule.close();
    asker.abort();
    watcher.abort();
    dispatcher.abort();
    field.recorder.mark(field.clock.now_us(), MarkKind::DriveEnded);
    // Goose's short words leave out which option it means; its long ones do not.
    metrics.map(|_| ()).map_err(|error| format!("{error:?}")).doing(|| "drive the server through Goose".into())
}

fn attack(field: &Arc<Field>, base_url: &str, goose_report: &Path) -> Result<GooseAttack, CannotRun> {
    let workers = usize::try_from(field.scenario.driver.workers).unwrap_or(usize::MAX);
    let report = goose_report.display().to_string();
    let build = || -> Result<GooseAttack, goose::GooseError> {
        let worker_field = Arc::clone(field);
        let function: TransactionFunction = Arc::new(move |user| {
            let field = Arc::clone(&worker_field);
            Box::pin(async move {
                journey::work(&field, user).await;
                Ok(())
            })
        });
        let people = GooseScenario::new("people").register_transaction(Transaction::new(function).set_name("worker"));
        let client = GooseClientBuilder::new()
            .without_cookies()
            .timeout(Duration::from_millis(field.scenario.driver.request_timeout_ms))
            .gzip(false);
        let attack = GooseAttack::initialize_with_config(GooseConfiguration::default())?
            .register_scenario(people)
            .set_client_builder_without_cookies(client)?
            .set_default(GooseDefault::Host, base_url)?
            .set_default(GooseDefault::Users, workers)?
            // All workers stand ready before the first person comes.
            .set_default(GooseDefault::IncreaseRate, workers.to_string().as_str())?
            .set_default(GooseDefault::Iterations, 1)?
            .set_default(GooseDefault::NoTransactionMetrics, true)?
            .set_default(GooseDefault::NoScenarioMetrics, true)?
            .set_default(GooseDefault::NoPrintMetrics, true)?
            .set_default(GooseDefault::NoErrorSummary, true)?
            .set_default(GooseDefault::NoTelnet, true)?
            .set_default(GooseDefault::RunningMetrics, 0)?
            .set_default(GooseDefault::Quiet, 3)?
            .set_default(GooseDefault::ReportFile, report.as_str())?;
        Ok(*attack)
    };
    build().doing(|| "set up Goose".into())
}

/// The live line, the cut-off, and the answer to Ctrl-C.
async fn watch(field: Arc<Field>, stop: Stop) {
    let most = Duration::from_secs(field.scenario.driver.seconds_max);
    let mut last_said = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let elapsed = field.since_drive_began();
        if stop.asked() || goose::is_killswitch_triggered() {
            field.meter.note_cut_short("stopped by a signal");
            field.schedule.close();
        } else if elapsed > most {
            field.meter.note_cut_short("driver.seconds_max was over before everybody had finished");
            field.schedule.close();
        }
        let line = field.meter.line(elapsed, field.schedule.waiting(), field.plan_len());
        console::progress(&line);
        if elapsed.as_secs() >= last_said + 10 {
            last_said = elapsed.as_secs();
            console::step(&line);
        }
    }
}
