//! How safe an effect must be before its answer is shown: by the server's configuration, or by the request.

use std::time::Duration;

use berth_engine::{Ack, Engine, Failure, Seq};
use hyper::HeaderMap;
use serde::Deserialize;

use crate::app::App;
use crate::problem::{Code, Problem};

const HEADER: &str = "berth-ack";

/// The modes as they are spelled in the configuration, in a flag and in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AckMode {
    /// Applied in memory; a crash of the process may lose it.
    Memory,
    /// In the local log and synced.
    Disk,
    /// Also in Redis, as durable as that Redis is configured.
    Redis,
}

impl AckMode {
    pub(crate) const ALL: [AckMode; 3] = [AckMode::Memory, AckMode::Disk, AckMode::Redis];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            AckMode::Memory => "memory",
            AckMode::Disk => "disk",
            AckMode::Redis => "redis",
        }
    }

    fn engine(self) -> Ack {
        match self {
            AckMode::Memory => Ack::Memory,
            AckMode::Disk => Ack::Disk,
            AckMode::Redis => Ack::Redis,
        }
    }
}

/// The mode a request asks for, or the server's. A mode that cannot be had is refused before anything is done.
pub(crate) fn asked(headers: &HeaderMap, app: &App) -> Result<AckMode, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let mode = match (values.next(), values.next()) {
        (None, _) => app.limits.ack,
        (Some(value), None) => AckMode::ALL
            .into_iter()
            .find(|mode| value.as_bytes().eq_ignore_ascii_case(mode.as_str().as_bytes()))
            .ok_or_else(|| Problem::new(Code::MalformedRequest, "Berth-Ack: must be memory, disk or redis"))?,
        (Some(_), Some(_)) => {
            return Err(Problem::new(Code::MalformedRequest, "there is more than one Berth-Ack header"));
        }
    };
    if !app.campaign.engine.can_acknowledge(mode.engine()) {
        let detail =
            "this server writes to no Redis, or has stopped doing so: nothing was done, ask for disk or memory";
        return Err(Problem::new(Code::AckUnavailable, detail));
    }
    Ok(mode)
}

/// What became of a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unsafe {
    /// It will not come to be as safe as was asked in this run.
    Failed(Failure),
    /// It is on disk, and Redis has not taken it in time.
    Late,
}

/// Waits until `seq` is as safe as was asked: on the disk for as long as it takes, then for Redis so long.
// rule: IDM-2 no answer shows what is not yet as safe as was asked
pub(crate) async fn wait(engine: &Engine, seq: Seq, mode: AckMode, redis_time: Duration) -> Result<(), Unsafe> {
    if mode == AckMode::Memory && engine.stopped().is_none() {
        return Ok(());
    }
    // In memory alone, and the journal has stopped: what it has not synced by now is as good as lost.
    engine.ticket_for(seq, Ack::Disk).await.map_err(Unsafe::Failed)?;
    if mode != AckMode::Redis {
        return Ok(());
    }
    match tokio::time::timeout(redis_time, engine.ticket_for(seq, Ack::Redis)).await {
        Ok(reached) => reached.map_err(Unsafe::Failed),
        Err(_) => Err(Unsafe::Late),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use berth_engine::{AllowAll, Command, Limits, PartyFacts, Request};

    use super::*;

    fn submitted(engine: &Engine) -> Seq {
        let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
        engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap().seq
    }

    fn is_pending(engine: &Engine, seq: Seq, mode: AckMode) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(wait(engine, seq, mode, Duration::MAX)).poll(&mut context).is_pending()
    }

    // rule: IDM-2
    #[test]
    fn memory_is_answered_while_the_disk_is_stalled_and_disk_and_redis_are_not() {
        let engine = Engine::in_memory_stalled(&Limits::default(), Arc::new(AllowAll));
        let seq = submitted(&engine);
        assert!(!is_pending(&engine, seq, AckMode::Memory));
        assert!(is_pending(&engine, seq, AckMode::Disk));
        assert!(is_pending(&engine, seq, AckMode::Redis));
    }

    // rule: IDM-2
    #[tokio::test]
    async fn redis_is_waited_for_so_long_and_then_said_to_be_late() {
        // In memory the disk is always there, and Redis never.
        let engine = Engine::in_memory(&Limits::default(), Arc::new(AllowAll));
        let seq = submitted(&engine);
        assert_eq!(wait(&engine, seq, AckMode::Redis, Duration::from_millis(1)).await, Err(Unsafe::Late));
        assert_eq!(wait(&engine, seq, AckMode::Disk, Duration::ZERO).await, Ok(()));
    }

    // rule: JNL-3
    #[tokio::test]
    async fn a_stopped_journal_acknowledges_nothing_more_in_memory_either() {
        let dir = tempfile::tempdir().unwrap();
        let app = App::for_test(dir.path());
        let engine = &app.campaign.engine;
        let seq = submitted(engine);
        engine.close().unwrap();
        assert_eq!(wait(engine, seq, AckMode::Memory, Duration::ZERO).await, Ok(()), "it is durable");
        let never = wait(engine, seq.next(), AckMode::Memory, Duration::ZERO).await;
        assert!(matches!(never, Err(Unsafe::Failed(_))), "{never:?}");
    }
}
