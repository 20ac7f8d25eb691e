//! All bookings of a session moved to another, or cancelled: an answer line for each as it is done.
//!
//! Each is a step of its own under a key made of the request's and the booking's number. So a repeat, after a crash or a lost
//! connection, tells of what was done before as it was told, and goes on with the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_engine::{
    BookingNumber, BookingView, By, Command, Idempotency, Outcome, PoolId, Refusal, SlotId, State, Submitted,
};
use berth_programme::{Calendar, Session};
use hyper::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::lines::{Lines, Stop, turn};
use super::sessions::session;
use super::{fingerprint, parse, read_json, read_nothing};
use crate::access::Standing;
use crate::app::App;
use crate::body::ResponseBody;
use crate::idempotency::{self, Fingerprint, KeySpace};
use crate::problem::{self, Code, Problem};
use crate::router::Call;
use crate::wire::{MoveBookingsRequest, Windows};

/// Bookings of a slot that are looked at together.
const LOOK_AT: usize = 256;

/// `POST /v1/sessions/{session}/move-bookings`
pub(crate) async fn move_all(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = idempotency::needed(&call.headers)?.to_owned();
    let body = read_json(&mut call).await?;
    let asked: MoveBookingsRequest = parse(&body)?;
    let from = session(&call.app, &call.parameter)?;
    let to = session(&call.app, &asked.to)?;
    if from.id == to.id {
        return Err(Problem::new(Code::MalformedRequest, "to: is the session itself"));
    }
    let pools = pools(&call.app, &asked.pools)?;
    let calendar = call.app.campaign.programme.calendar();
    let slots = from
        .windows
        .iter()
        .flat_map(|window| from.slots_of(window).iter().map(move |slot| (window, slot)))
        .map(|(window, slot)| {
            let pool = pools.get(&slot.pool).copied().unwrap_or(slot.pool);
            (slot.slot, targets(calendar, &to, calendar.time(window.start), pool, asked.windows))
        })
        .collect();
    let mut print = fingerprint(&call).piece(from.id.as_bytes()).piece(to.id.as_bytes());
    print = print.piece(asked.windows.as_str().as_bytes());
    for (from, to) in &pools {
        print = print.number(from.0.into()).number(to.0.into());
    }
    start(call, key, print, slots, Kind::Move).await
}

/// `POST /v1/sessions/{session}/cancel-bookings`
pub(crate) async fn cancel_all(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = idempotency::needed(&call.headers)?.to_owned();
    read_nothing(&mut call).await?;
    let from = session(&call.app, &call.parameter)?;
    let print = fingerprint(&call).piece(from.id.as_bytes());
    let slots = from.slots.iter().map(|slot| (slot.slot, Vec::new())).collect();
    start(call, key, print, slots, Kind::Cancel).await
}

/// Which pool of the other session takes the place of which.
fn pools(app: &App, named: &BTreeMap<String, String>) -> Result<BTreeMap<PoolId, PoolId>, Problem> {
    let programme = app.campaign.programme.get();
    let number = |name: &String| {
        programme
            .pool_number(name)
            .ok_or_else(|| Problem::new(Code::MalformedRequest, format!("pools: the programme has no pool {name:?}")))
    };
    named.iter().map(|(from, to)| Ok((number(from)?, number(to)?))).collect()
}

/// The slots that a booking of this time of day may go to, the best first.
fn targets(calendar: &Calendar, to: &Session, opens: jiff::civil::Time, pool: PoolId, windows: Windows) -> Vec<SlotId> {
    let mut all: Vec<_> = to
        .windows
        .iter()
        .flat_map(|window| to.slots_of(window).iter().map(move |slot| (calendar.time(window.start), slot)))
        .filter(|(_, slot)| slot.pool == pool)
        .map(|(at, slot)| (at, slot.slot))
        .collect();
    all.sort_by_key(|(at, _)| *at);
    let later = all.partition_point(|(at, _)| *at < opens);
    let (before, after) = all.split_at(later);
    let mut targets: Vec<_> = after.iter().map(|(_, slot)| *slot).collect();
    match windows {
        Windows::Same => targets.retain(|slot| after.iter().any(|(at, s)| s == slot && *at == opens)),
        Windows::Later => {}
        // The nearest first.
        Windows::Any => targets.extend(before.iter().rev().map(|(_, slot)| *slot)),
    }
    targets
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Move,
    Cancel,
}

async fn start(
    call: Call,
    key: String,
    print: Fingerprint,
    slots: Vec<(SlotId, Vec<SlotId>)>,
    kind: Kind,
) -> Result<Response<ResponseBody>, Problem> {
    let (standing, caller) = call.standing()?;
    let space = KeySpace::of(&caller);
    let permit = turn(&call.app, &call.app.session_jobs).await?;
    let (lines, response) = Lines::start(&call.app, call.ack);
    let work = Work { app: call.app, standing, space, key, print, kind, lines, tally: Tally::default() };
    // A task of its own, as with bulk bookings; draining waits for it.
    tokio::spawn(async move {
        let _permit = permit;
        work.run(&slots).await;
    });
    Ok(response)
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    done: u64,
    refused: u64,
    /// Live, and not to be moved or cancelled: held, or checked in.
    left: u64,
}

struct Work {
    app: Arc<App>,
    /// Whoever asked may be told no at any page.
    standing: Standing,
    space: KeySpace,
    key: String,
    print: Fingerprint,
    kind: Kind,
    lines: Lines,
    tally: Tally,
}

#[derive(Serialize)]
struct Line {
    booking: String,
    status: u16,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Value>,
}

impl Work {
    async fn run(mut self, slots: &[(SlotId, Vec<SlotId>)]) {
        let mut stopped = None;
        for (slot, targets) in slots {
            if let Err(stop) = self.empty(*slot, targets).await {
                stopped = Some(stop);
                break;
            }
        }
        let Tally { done, refused, left } = self.tally;
        let summary = json!({"end": true, "done": done, "refused": refused, "left": left});
        match stopped {
            Some(Stop::Gone) => {}
            Some(Stop::Problem(problem)) => self.lines.end(summary, Some(problem)).await,
            None => self.lines.end(summary, None).await,
        }
    }

    /// Every booking of a slot, newest first.
    async fn empty(&mut self, slot: SlotId, targets: &[SlotId]) -> Result<(), Stop> {
        let app = Arc::clone(&self.app);
        let mut after = None;
        loop {
            self.standing.check(&app.access, app.campaign.engine.now()).await.map_err(Stop::Problem)?;
            let page = app.campaign.engine.slot_bookings(slot, after, LOOK_AT);
            let page = page.map_err(|refusal| Stop::Problem(problem::refused(&refusal, &app.names())))?;
            for view in &page.bookings {
                self.one(view, targets).await?;
            }
            self.lines.flush().await?;
            if app.phase() == crate::app::Phase::Draining {
                let detail = "this server is stopping: repeat with the same key to go on";
                return Err(Stop::Problem(Problem::new(Code::Draining, detail)));
            }
            tokio::task::yield_now().await;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn one(&mut self, view: &BookingView, targets: &[SlotId]) -> Result<(), Stop> {
        let app = Arc::clone(&self.app);
        let booking = view.number;
        let step = self.step(booking);
        let submitted = match (view.state, self.kind) {
            (State::Booked, Kind::Cancel) => {
                let command = Command::Cancel { booking, by: By::Administration };
                self.lines.submit(&app, command, step).await?
            }
            (State::Booked, Kind::Move) => match self.move_one(booking, targets, step).await? {
                Some(submitted) => submitted,
                None => {
                    let detail = "the other session has no such pool in a window it could go to";
                    self.refuse(view, Problem::new(Code::UnknownSlot, detail));
                    return Ok(());
                }
            },
            // Done before, by this very request or by another.
            (State::Moved, Kind::Move) | (State::Cancelled, Kind::Cancel) => {
                match app.campaign.engine.repeat_of(step) {
                    Some(earlier) => earlier,
                    None => return Ok(()),
                }
            }
            (State::Held | State::CheckedIn, _) => {
                self.tally.left += 1;
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.tell(booking, &submitted);
        Ok(())
    }

    /// The key of this booking's step, and what it stands for. Not which slot was found: a repeat may find another.
    fn step(&self, booking: BookingNumber) -> Idempotency {
        let key = self.space.step(&self.key, "booking", booking.0);
        self.print.clone().number(booking.0).under(key)
    }

    /// To the first slot that has room; the last refusal if none has. `None` if there is no slot at all.
    async fn move_one(
        &mut self,
        booking: BookingNumber,
        targets: &[SlotId],
        step: Idempotency,
    ) -> Result<Option<Submitted>, Stop> {
        let app = Arc::clone(&self.app);
        let mut last = None;
        for &to in targets {
            let command = Command::Move { booking, to, by: By::Administration };
            let submitted = self.lines.submit(&app, command, step).await?;
            let next = matches!(submitted.result, Err(Refusal::Full { .. } | Refusal::SlotClosed { .. }));
            last = Some(submitted);
            if !next {
                break;
            }
        }
        Ok(last)
    }

    fn tell(&mut self, booking: BookingNumber, submitted: &Submitted) {
        let app = Arc::clone(&self.app);
        let names = app.names();
        let line = Line {
            booking: names.booking(booking),
            status: 200,
            replayed: submitted.replayed,
            state: None,
            moved_to: None,
            slot: None,
            problem: None,
        };
        let line = match &submitted.result {
            Err(refusal) => {
                self.tally.refused += 1;
                let problem = problem::refused(refusal, &names);
                let status = problem.code().status().as_u16();
                Line { status, problem: Some(problem.into_member()), ..line }
            }
            Ok(outcome) => {
                self.tally.done += 1;
                match outcome {
                    Outcome::Moved { to, .. } => Line {
                        state: Some(State::Moved.as_str()),
                        moved_to: Some(names.booking(to.number)),
                        slot: Some(names.slot(to.claim.slot)),
                        ..line
                    },
                    _ => Line { state: Some(State::Cancelled.as_str()), ..line },
                }
            }
        };
        self.lines.push(&line, submitted.seq);
    }

    fn refuse(&mut self, view: &BookingView, problem: Problem) {
        self.tally.refused += 1;
        let line = Line {
            booking: self.app.names().booking(view.number),
            status: problem.code().status().as_u16(),
            replayed: false,
            state: None,
            moved_to: None,
            slot: None,
            problem: Some(problem.into_member()),
        };
        self.lines.push(&line, view.seq);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hyper::HeaderMap;

    use super::*;
    use crate::access::{Access, AccessConfig, Caller, KeyEntry, Role, hash, held};

    #[tokio::test]
    async fn a_job_ends_once_its_key_is_revoked() {
        for revoked in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut app = App::for_test(dir.path());
            let slot = app.campaign.engine.booking(held(&app)).unwrap().claim.slot;
            let open = |inline| {
                let config = AccessConfig { inline, ..AccessConfig::default() };
                Access::open(&config, app.campaign.engine.now()).unwrap()
            };
            let (with, without) = (open(vec![KeyEntry::new(Role::Admin, "a", hash("a"))]), open(Vec::new()));
            let headers: HeaderMap =
                [(hyper::header::AUTHORIZATION, "Bearer a".parse().unwrap())].into_iter().collect();
            let Ok(crate::access::Seen::Known(caller)) = with.recognise(&headers, app.campaign.engine.now()) else {
                panic!("the key is known");
            };
            let standing = Standing::of(&with, &headers, caller).unwrap();
            Arc::get_mut(&mut app).unwrap().access = if revoked { without } else { with };
            let (lines, _response) = Lines::start(&app, app.limits.ack);
            let space = KeySpace::of(&Caller::default());
            let (key, print) = ("k".to_owned(), Fingerprint::new("POST", "/"));
            let mut work = Work {
                app: Arc::clone(&app),
                standing,
                space,
                key,
                print,
                kind: Kind::Cancel,
                lines,
                tally: Tally::default(),
            };
            match work.empty(slot, &[]).await {
                Ok(()) => assert!(!revoked && work.tally.left > 0, "{:?}", work.tally),
                Err(Stop::Problem(problem)) => assert!(revoked && problem.code() == Code::InvalidKey),
                Err(Stop::Gone) => panic!("somebody reads it"),
            }
            drop(work);
            app.campaign.engine.close().unwrap();
        }
    }
}
