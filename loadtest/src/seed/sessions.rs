//! What the administration does to sessions while people book: opens and closes them, and moves or cancels their bookings.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Admin;
use crate::drive::Field;
use crate::error::{CannotRun, Doing};
use crate::history::{Claim, Op, Operation, Outcome, Told};
use crate::wire::Answer;

/// Sessions are opened and closed so many at once.
const AT_ONCE: usize = 16;
/// How often a request is sent again, with its key, while its answer was cut.
const TRIES: usize = 5;

/// What is done with the bookings of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Emptying<'a> {
    MoveTo(&'a str),
    Cancel,
}

/// A line of the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    booking: Option<String>,
    status: u16,
    moved_to: Option<String>,
    end: bool,
}

impl Admin {
    /// Closes every session, or opens it: `word` is the last word of the path.
    pub(crate) async fn switch_all(&self, sessions: &[String], word: &'static str) -> Result<(), CannotRun> {
        let size = sessions.len().div_ceil(AT_ONCE).max(1);
        let mut tasks = tokio::task::JoinSet::new();
        for (number, part) in sessions.chunks(size).enumerate() {
            let (mut own, part) = (self.marked(&format!("{word}-{number}")), part.to_vec());
            tasks.spawn(async move {
                for session in part {
                    own.switch(&session, word).await?;
                }
                Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.doing(|| format!("{word} the sessions"))??;
        }
        Ok(())
    }

    pub(crate) async fn switch(&mut self, session: &str, word: &str) -> Result<(), CannotRun> {
        let request = self.client.post(format!("{}/v1/sessions/{session}/{word}", self.base_url));
        let request = self.keyed(request);
        self.send(request, &format!("{word} session {session}")).await.map(drop)
    }

    /// Moves all bookings of a session to another, or cancels them. Each that was moved or cancelled goes into the history as
    /// if its holder had asked for it; how many there were is returned.
    pub(crate) async fn empty(&mut self, field: &Field, session: &str, how: Emptying<'_>) -> Result<u64, CannotRun> {
        self.calls += 1;
        let key = format!("{}-empty-{}", self.run_id, self.calls);
        let (word, body) = match how {
            Emptying::MoveTo(to) => ("move-bookings", Some(serde_json::json!({ "to": to, "windows": "any" }))),
            Emptying::Cancel => ("cancel-bookings", None),
        };
        let intended_us = field.clock.now_us();
        let mut told = BTreeSet::new();
        for _ in 0..TRIES {
            let request = self.client.post(format!("{}/v1/sessions/{session}/{word}", self.base_url));
            let request = request.header("idempotency-key", &key).bearer_auth(&self.key);
            let request = body.iter().fold(request, |request, body| request.json(body));
            let Ok(response) = request.send().await else { continue };
            let status = response.status();
            let text = response.text().await.unwrap_or_default();
            if !status.is_success() {
                let said: String = text.chars().take(300).collect();
                return Err(CannotRun::because(format!("could not {word} of session {session}: {status}: {said}")));
            }
            let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            for line in &lines {
                let Some(booking) = line.booking.as_deref().filter(|_| (200..300).contains(&line.status)) else {
                    continue;
                };
                if told.insert(booking.to_owned()) {
                    let done = Done { key: format!("{key}/{booking}"), booking, intended_us };
                    self.record(field, &done, line.moved_to.as_deref()).await?;
                }
            }
            if lines.last().is_some_and(|line| line.end) {
                return Ok(u64::try_from(told.len()).unwrap_or(u64::MAX));
            }
        }
        Err(CannotRun::because(format!("could not {word} of session {session}: the answer was cut {TRIES} times")))
    }

    /// One booking that was moved or cancelled, as an operation of the history.
    async fn record(&self, field: &Field, done: &Done<'_>, moved_to: Option<&str>) -> Result<(), CannotRun> {
        let mut operation = Operation {
            arrival: u64::MAX,
            op: Op::Cancel,
            key: Some(done.key.clone()),
            attempt: 1,
            target: Some(done.booking.to_owned()),
            intended_us: done.intended_us,
            sent_us: done.intended_us,
            outcome: Outcome::Ok,
            status: Some(200),
            ..Operation::default()
        };
        if let Some(code) = moved_to {
            // The line names neither person nor dose; only a platform may read them.
            let request = self.client.get(format!("{}/v1/bookings/{code}", self.base_url));
            let request = request.header("authorization", &field.authorization);
            let what = || "read a booking that was moved".to_owned();
            let answer: Answer = request.send().await.doing(what)?.json().await.doing(what)?;
            operation.op = Op::Move;
            // Whatever has become of it since, it was booked when it was moved.
            operation.told = answer.told().into_iter().map(|told| Told { state: None, ..told }).collect();
            let claim = |told: &Told| Claim { party: told.party.clone(), slot: told.slot.clone(), dose: told.dose };
            operation.asked = operation.told.iter().map(claim).collect();
        }
        operation.received_us = field.clock.now_us();
        field.recorder.operation(operation);
        Ok(())
    }
}

/// What was done to one booking.
struct Done<'a> {
    key: String,
    booking: &'a str,
    intended_us: i64,
}
