//! The lotteries at the server: opened with the cell, and looked after while it serves. `berth lottery verify` needs neither.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use berth_programme::lottery::result::verify;
use berth_programme::lottery::{Lotteries, LotteryError};
use clap::Subcommand;

use crate::app::{App, Phase};
use crate::cli::{read, say};

/// How often it is looked whether one is due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The wait after one that failed.
const AGAIN: Duration = Duration::from_secs(10);

/// Reserves what is drawn for, before anybody may claim.
///
/// # Errors
/// In one sentence: which slots that are cannot be known.
pub(crate) fn begin(lotteries: &Lotteries, caught_up: &Result<(), String>) -> Result<(), String> {
    if let Err(why) = caught_up {
        tracing::error!(%why, "a lottery that was made a moment before the last end is not known: what it draws for is not reserved");
    }
    lotteries.reserve_all().map_err(|error| error.to_string())
}

/// Closes, draws and opens what is due, until the server stops. A draw that is under way then goes on at the next start.
pub(crate) fn look_after(app: &Arc<App>) {
    let Some(lotteries) = app.lotteries.clone() else { return };
    let (app, stopping) = (Arc::clone(app), Arc::clone(&lotteries));
    let mut phase = app.phase.subscribe();
    tokio::spawn(async move {
        let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
        stopping.stop();
    });
    tokio::spawn(async move {
        while app.phase() != Phase::Draining {
            let (all, now) = (Arc::clone(&lotteries), app.campaign.engine.now());
            let Ok(stepped) = tokio::task::spawn_blocking(move || all.step(now)).await else { return };
            let mut pause = LOOK_EVERY;
            match stepped {
                Ok(done) => done.iter().for_each(|(id, state)| {
                    tracing::info!(lottery = %id, state = state.as_str(), "a lottery went on");
                }),
                Err((_, LotteryError::Stopping)) => return,
                Err((id, error)) => {
                    tracing::error!(lottery = %id, %error, "a lottery cannot go on, and is tried again");
                    pause = AGAIN;
                }
            }
            tokio::time::sleep(pause).await;
        }
    });
}

#[derive(Debug, Subcommand)]
pub(crate) enum LotteryCommand {
    /// Say whether the published result of a lottery is right: by the file alone, asking no server.
    ///
    /// The commitment is computed from the seed, the digest from the registrations, the order from both, and what each got from the order
    /// and the units. Compare the commitment with what was published when the lottery was made, and the digest with what was published
    /// when registration closed; or give both, and they are compared. Status 0: it is right. 1: it differs, and where.
    ///
    ///   curl -s https://berth.example/v1/lotteries/spring/result > spring.ndjson
    ///   berth lottery verify spring.ndjson --commitment 63e8..b7 --digest 27aa..0c
    #[command(verbatim_doc_comment)]
    Verify {
        /// The result, as `GET /v1/lotteries/{lottery}/result` gives it.
        file: PathBuf,
        /// The commitment that was published when the lottery was made.
        #[arg(long, value_name = "HEX")]
        commitment: Option<String>,
        /// The digest that was published when registration closed.
        #[arg(long, value_name = "HEX")]
        digest: Option<String>,
    },
}

pub(crate) fn run(command: &LotteryCommand) -> Result<ExitCode, String> {
    let LotteryCommand::Verify { file, commitment, digest } = command;
    let told = verify(&read(file)?).and_then(|told| {
        for (what, given, found) in [("commitment", commitment, &told.commitment), ("digest", digest, &told.digest)] {
            if given.as_ref().is_some_and(|given| !given.eq_ignore_ascii_case(found)) {
                return Err(format!("the {what} is not the one given: the file's is {found}"));
            }
        }
        Ok(told)
    });
    match told {
        Ok(told) => {
            say(&format!(
                "{}: right. Lottery {}: {} registrations, {} were offered a unit, {} slots passed over because the programme said no.\n\
                 commitment {}\ndigest     {}",
                file.display(),
                told.id,
                told.registrations,
                told.given,
                told.refused,
                told.commitment,
                told.digest
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(differs) => {
            say(&format!("{}: not right: {differs}", file.display()))?;
            Ok(ExitCode::FAILURE)
        }
    }
}
