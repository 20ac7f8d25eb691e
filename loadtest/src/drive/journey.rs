//! What a person does, step by step.
//!
//! A journey is a chain of [`Task`]s: each step acts at once and either ends or names the next step and its time. A
//! request whose outcome is unknown is sent again under the same key until the server answers, as a careful client
//! does; that is also the test of "a retried key has one effect".

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use goose::goose::GooseUser;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::ask::{Ask, Left};
use super::exchange::{JOURNAL_FULL, Line, exchange, took};
use super::field::{Field, Offer};
use super::own::OwnConnection;
use crate::history::{Claim, Op, Operation, Outcome, Told};
use crate::plan::Arrival;
use crate::scenario::Behaviour;
use crate::wire::{Availability, SlotSeen};

/// One step of one person.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) due_us: i64,
    arrival: Arrival,
    rng: SmallRng,
    step: Step,
    /// The person's own connection, where the scenario gives them one.
    connection: Option<OwnConnection>,
}

#[derive(Debug)]
pub(super) enum Step {
    Arrive,
    /// Confirm a hold; a latecomer's time for this is after the deadline.
    Confirm {
        hold: String,
        holding: Ask,
    },
    Release {
        hold: String,
    },
    Booked {
        bookings: Vec<Told>,
        confirming: Ask,
    },
    /// Book again after a cancellation.
    Return,
    /// Look once more, so many times at the most.
    Look {
        left: u32,
    },
    /// The minute of the opening has come.
    Opening,
    /// At the door: say the four digits.
    CheckIn {
        booking: String,
    },
    /// At the door: give the dose.
    Serve {
        booking: String,
    },
    /// Come for the second dose.
    Second,
    /// Set units aside once more.
    Hoard {
        left: u32,
    },
}

impl Task {
    pub(crate) fn arriving(arrival: Arrival, due_us: i64) -> Self {
        let rng = SmallRng::seed_from_u64(arrival.seed);
        Self { due_us, arrival, rng, step: Step::Arrive, connection: None }
    }
}

/// How many slots a person tries before giving up.
const TRIES: usize = 3;

/// A Goose user's life: take the next person, act one step, until the drive is over.
pub(crate) async fn work(field: &Arc<Field>, user: &mut GooseUser) {
    while let Some(mut task) = field.schedule.next().await {
        if matches!(task.step, Step::Arrive) {
            let late = Duration::from_micros(u64::try_from(field.clock.now_us() - task.due_us).unwrap_or(0));
            if late.as_secs_f64() > field.scenario.driver.drop_after_seconds {
                field.meter.arrivals_dropped.fetch_add(1, Relaxed);
                field.schedule.done();
                continue;
            }
            field.meter.arrivals_started.fetch_add(1, Relaxed);
        }
        if field.scenario.driver.own_connections && task.connection.is_none() {
            task.connection = connection(field, user);
        }
        let connection = task.connection.as_ref();
        let rng = &mut task.rng;
        let mut person = Person { field, user, arrival: &task.arrival, rng, connection, found_full: false };
        let step = std::mem::replace(&mut task.step, Step::Arrive);
        match person.act(step, task.due_us).await {
            Some((next, due_us)) => {
                task.step = next;
                task.due_us = due_us;
                field.schedule.again(task);
            }
            None => field.schedule.done(),
        }
    }
}

/// A place for a connection of their own, with none in it yet.
fn connection(field: &Field, user: &GooseUser) -> Option<OwnConnection> {
    let driver = &field.scenario.driver;
    let [connect, request] = [driver.connect_timeout_ms, driver.request_timeout_ms].map(Duration::from_millis);
    OwnConnection::new(&user.build_url("/").ok()?, connect, request)
}

/// A person in the middle of one step.
pub(super) struct Person<'a> {
    pub(super) field: &'a Arc<Field>,
    user: &'a mut GooseUser,
    pub(super) arrival: &'a Arrival,
    pub(super) rng: &'a mut SmallRng,
    connection: Option<&'a OwnConnection>,
    /// Every slot that was tried in this step was full.
    pub(super) found_full: bool,
}

pub(super) type Next = Option<(Step, i64)>;

impl Person<'_> {
    async fn act(&mut self, step: Step, due_us: i64) -> Next {
        match step {
            Step::Arrive => self.arrive(due_us, self.arrival.rushes).await,
            Step::Return => self.arrive(due_us, false).await,
            Step::Confirm { hold, holding } => self.confirm(&hold, holding, due_us).await,
            Step::Release { hold } => {
                let ask = Ask::release(self.arrival.number, self.field.new_key(), &hold);
                self.send(&ask, due_us).await;
                None
            }
            Step::Booked { bookings, confirming } => self.after_booking(&bookings, &confirming, due_us).await,
            Step::Look { left } => self.look(left, due_us).await,
            Step::Opening => self.look_and_claim(due_us, 1).await,
            Step::CheckIn { booking } => self.check_in(booking, due_us).await,
            Step::Serve { booking } => self.serve(&booking, due_us).await,
            Step::Second => self.look_and_claim(due_us, 2).await,
            Step::Hoard { left } => self.hoard(left, due_us).await,
        }
    }

    async fn arrive(&mut self, due_us: i64, rushes: bool) -> Next {
        if !rushes && let Some(next) = self.arrives_otherwise(due_us).await {
            return next;
        }
        let (offers, due_us) = if rushes {
            (self.field.known(self.arrival.district), due_us)
        } else {
            (self.search(self.arrival.district, due_us).await, self.field.clock.now_us())
        };
        let offers = of_dose(offers, 1);
        if offers.is_empty() || self.arrival.behaviour == Behaviour::Browse {
            return None;
        }
        match self.arrival.behaviour {
            Behaviour::TwoDevices => self.two_devices(&offers, due_us).await,
            _ => self.claim(&offers, due_us).await,
        }
    }

    /// Searches and tries what was found for this dose.
    pub(super) async fn look_and_claim(&mut self, due_us: i64, dose: u8) -> Next {
        let offers = of_dose(self.search(self.arrival.district, due_us).await, dose);
        if offers.is_empty() {
            self.found_full = true;
            return None;
        }
        self.claim(&offers, self.field.clock.now_us()).await
    }

    /// Tries a few slots until one takes the claims.
    async fn claim(&mut self, offers: &[Offer], mut due_us: i64) -> Next {
        if offers.is_empty() {
            return None;
        }
        let direct = matches!(self.arrival.behaviour, Behaviour::Direct | Behaviour::Operator);
        for _ in 0..TRIES {
            let claims = self.choose_claims(offers);
            let key = self.field.new_key();
            let ask = if direct {
                Ask::book(self.arrival.number, key, claims).ok()?
            } else {
                Ask::hold(self.arrival.number, key, claims).ok()?
            };
            let answer = self.send_in_their_way(&ask, due_us).await;
            match answer.outcome {
                Outcome::Ok if direct => return self.later(Step::Booked { bookings: answer.told, confirming: ask }),
                Outcome::Ok => return self.after_hold(answer, ask),
                Outcome::Refused if answer.code.as_deref() == Some("full") => due_us = self.field.clock.now_us(),
                Outcome::Refused | Outcome::Unknown => return None,
            }
        }
        self.found_full = true;
        None
    }

    /// Once, or twice at once, or again and again without waiting.
    async fn send_in_their_way(&mut self, ask: &Ask, due_us: i64) -> Operation {
        match self.arrival.behaviour {
            Behaviour::Twins => self.send_twins(ask, due_us).await,
            Behaviour::RetryStorm => self.send_storm(ask, due_us).await,
            _ => self.send(ask, due_us).await,
        }
    }

    fn after_hold(&mut self, answer: Operation, holding: Ask) -> Next {
        let hold = answer.hold?;
        match self.arrival.behaviour {
            Behaviour::Abandon => None,
            Behaviour::Release => self.later(Step::Release { hold }),
            Behaviour::Latecomer => {
                // Clearly past the deadline, so that an acknowledgement could not be excused by slack.
                let due_us = answer.expires_us? + self.rng.random_range(1_500_000..2_500_000);
                Some((Step::Confirm { hold, holding }, due_us))
            }
            _ => self.later(Step::Confirm { hold, holding }),
        }
    }

    async fn confirm(&mut self, hold: &str, holding: Ask, due_us: i64) -> Next {
        let ask = Ask::confirm(self.arrival.number, self.field.new_key(), hold);
        let answer = self.send_in_their_way(&ask, due_us).await;
        if answer.outcome != Outcome::Ok {
            return None;
        }
        if self.arrival.behaviour == Behaviour::Retry {
            // The hold's key once more, after its hold has become a booking: still the first answer.
            self.repeat(&holding).await;
        }
        self.later(Step::Booked { bookings: answer.told, confirming: ask })
    }

    async fn after_booking(&mut self, bookings: &[Told], confirming: &Ask, due_us: i64) -> Next {
        let first = bookings.first()?;
        match self.arrival.behaviour {
            Behaviour::Operator | Behaviour::SecondDose if self.field.today && first.dose == 1 => {
                self.later(Step::CheckIn { booking: first.booking.clone() })
            }
            Behaviour::Cancel => {
                for booking in bookings {
                    let ask = Ask::cancel(self.arrival.number, self.field.new_key(), &booking.booking);
                    self.send(&ask, due_us).await;
                }
                if self.rng.random_bool(0.4) { self.later(Step::Return) } else { None }
            }
            Behaviour::Move => {
                let offers = self.search(self.arrival.district, due_us).await;
                let offers: Vec<Offer> = offers
                    .iter()
                    .filter(|offer| offer.slot != first.slot && offer.dose == first.dose)
                    .cloned()
                    .collect();
                if !offers.is_empty() {
                    let slot = self.choose(&offers).slot;
                    let to = Claim { party: first.party.clone(), slot, dose: first.dose };
                    let ask = Ask::move_to(self.arrival.number, self.field.new_key(), &first.booking, to);
                    self.send(&ask, self.field.clock.now_us()).await;
                }
                None
            }
            Behaviour::Retry => {
                self.repeat(confirming).await;
                self.read(&first.booking).await;
                None
            }
            _ => {
                if self.rng.random_bool(0.1) {
                    self.read(&first.booking).await;
                }
                None
            }
        }
    }

    /// One person, two devices, two slots, at the same moment: at most one may win.
    async fn two_devices(&mut self, offers: &[Offer], due_us: i64) -> Next {
        let left = Ask::hold(self.arrival.number, self.field.new_key(), self.choose_claims(offers)).ok()?;
        let right = Ask::hold(self.arrival.number, self.field.new_key(), self.choose_claims(offers)).ok()?;
        let answers = self.send_both(&left, &right, due_us).await;
        let mut winner = None;
        for (answer, ask) in answers.into_iter().zip([left, right]) {
            let answer = self.insist(answer, &ask, due_us).await;
            if answer.outcome == Outcome::Ok {
                winner = Some((answer, ask));
            }
        }
        let (answer, ask) = winner?;
        self.after_hold(answer, ask)
    }

    pub(super) async fn search(&mut self, district: usize, due_us: i64) -> Arc<Vec<Offer>> {
        let Some(name) = self.field.districts.get(district) else { return Arc::default() };
        let ask = Ask::search(self.arrival.number, name, &self.field.from, self.field.days);
        let Some(body) = self.once(&ask, due_us, 1).await.1 else {
            if self.field.scenario.overload.is_some() {
                // Sent off, or not even let in: they leave.
                return Arc::default();
            }
            // The server did not answer: people act on what they knew.
            return self.field.known(district);
        };
        let offers = Arc::new(offers_of(self.field, &body));
        self.field.tell(district, &offers);
        offers
    }

    async fn read(&mut self, booking: &str) {
        let ask = Ask::read_booking(self.arrival.number, booking);
        self.once(&ask, self.field.clock.now_us(), 1).await;
    }

    /// Sends a request that has succeeded once more, with its key.
    async fn repeat(&mut self, ask: &Ask) {
        let now_us = self.field.clock.now_us();
        let (answer, _) = self.once(ask, now_us, 2).await;
        self.insist(answer, ask, now_us).await;
    }

    /// Sends a request until its outcome is known or the attempts are used up.
    pub(super) async fn send(&mut self, ask: &Ask, intended_us: i64) -> Operation {
        let (first, _) = self.once(ask, intended_us, 1).await;
        self.insist(first, ask, intended_us).await
    }

    /// Sends the same request twice at once; the answer is the better of the two.
    async fn send_twins(&mut self, ask: &Ask, intended_us: i64) -> Operation {
        let [one, two] = self.send_both(ask, ask, intended_us).await;
        let better = if one.outcome == Outcome::Ok { one } else { two };
        self.insist(better, ask, intended_us).await
    }

    /// Repeats under the same key while the outcome is unknown, a twin is still at work, or the journal has no room.
    pub(super) async fn insist(&mut self, first: Operation, ask: &Ask, intended_us: i64) -> Operation {
        let mut answer = first;
        let mut pause = Duration::from_millis(25);
        let mut lost = false;
        while is_open(&answer) {
            lost |= answer.outcome == Outcome::Unknown;
            let jitter = self.rng.random_range(0.5..1.5);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(Duration::from_secs(1));
            let patient = answer.attempt < self.field.scenario.driver.attempts_max;
            if !patient || !self.field.server_is_up().await {
                if let Some(key) = &ask.key {
                    self.field.leave(Left { arrival: ask.arrival, key: key.clone() });
                }
                break;
            }
            answer = self.once(ask, intended_us, answer.attempt + 1).await.0;
        }
        if lost && answer.outcome == Outcome::Refused {
            self.settle_later(ask);
        }
        answer
    }

    /// A sending was lost and a later one refused: the lost one may still be on its way, so the server is asked at the end.
    pub(super) fn settle_later(&self, ask: &Ask) {
        if let Some(key) = &ask.key {
            self.field.leave(Left { arrival: ask.arrival, key: key.clone() });
        }
    }

    pub(super) async fn once(&mut self, ask: &Ask, intended_us: i64, attempt: u32) -> (Operation, Option<Vec<u8>>) {
        let Some(line) = self.line(ask) else {
            return (Operation { attempt: u32::MAX, ..Operation::default() }, None);
        };
        let (operation, body) = exchange(self.field, line, ask, intended_us, attempt).await;
        self.tell_goose(ask, &operation).await;
        (operation, body)
    }

    async fn send_both(&mut self, left: &Ask, right: &Ask, intended_us: i64) -> [Operation; 2] {
        let (Some(one), Some(two)) = (self.line(left), self.line(right)) else { return Default::default() };
        let (one, two) = tokio::join!(
            exchange(self.field, one, left, intended_us, 1),
            exchange(self.field, two, right, intended_us, 1)
        );
        self.tell_goose(left, &one.0).await;
        self.tell_goose(right, &two.0).await;
        [one.0, two.0]
    }

    /// The person's own connection, or the worker's.
    pub(super) fn line(&self, ask: &Ask) -> Option<Line<'_>> {
        match self.connection {
            Some(connection) => Some(Line::Own(connection)),
            None => self.user.get_request_builder(&ask.method, &ask.path).ok().map(Box::new).map(Line::Pooled),
        }
    }

    /// A refusal that keeps the rules is a good answer to Goose; only an unknown outcome is a failure.
    pub(super) async fn tell_goose(&mut self, ask: &Ask, operation: &Operation) {
        let known = operation.outcome != Outcome::Unknown;
        let error = if known { None } else { operation.code.as_deref() };
        let method = if ask.op.changes() { "POST" } else { "GET" };
        let _ = self
            .user
            .record_custom_request_duration(method, ask.route, took(operation), known, operation.status, error)
            .await;
    }

    pub(super) fn choose_claims(&mut self, offers: &[Offer]) -> Vec<Claim> {
        let first = self.choose(offers);
        let second = if self.rng.random_bool(0.3) { self.choose(offers) } else { first.clone() };
        self.arrival
            .parties
            .iter()
            .enumerate()
            .map(|(member, &party)| {
                let offer = if member % 2 == 0 { &first } else { &second };
                Claim { party: self.field.party(party), slot: offer.slot.clone(), dose: offer.dose }
            })
            .collect()
    }

    /// The popular places come first in a search, and most people want those.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index under a short list's length"
    )]
    pub(super) fn choose(&mut self, offers: &[Offer]) -> Offer {
        let point: f64 = self.rng.random();
        let index = (point.powi(3) * offers.len() as f64) as usize;
        offers[index.min(offers.len() - 1)].clone()
    }

    pub(super) fn later(&mut self, step: Step) -> Next {
        let own = self.field.scenario.behaviours.get(&self.arrival.behaviour).and_then(|manner| manner.think_ms);
        let [from, to] = own.unwrap_or(self.field.scenario.driver.think_ms);
        let think_us = i64::try_from(self.rng.random_range(from..=to) * 1_000).unwrap_or(0);
        Some((step, self.field.clock.now_us() + think_us))
    }
}

fn is_open(answer: &Operation) -> bool {
    match answer.outcome {
        Outcome::Unknown => answer.op.changes() || answer.op == Op::Outcome,
        Outcome::Refused => matches!(answer.code.as_deref(), Some("idempotency_in_flight" | JOURNAL_FULL)),
        Outcome::Ok => false,
    }
}

/// What of these is for this dose.
pub(super) fn of_dose(offers: Arc<Vec<Offer>>, dose: u8) -> Arc<Vec<Offer>> {
    if offers.iter().all(|offer| offer.dose == dose) {
        return offers;
    }
    Arc::new(offers.iter().filter(|offer| offer.dose == dose).cloned().collect())
}

/// The slots with free units in a search's answer, in its order; what is only for walk-ins is left out.
pub(crate) fn offers_of(field: &Field, body: &[u8]) -> Vec<Offer> {
    free_slots(body).filter_map(|slot| Some(Offer { dose: *field.doses.get(&slot.pool)?, slot: slot.slot })).collect()
}

/// Slots that can be had, by a search's answer.
pub(super) fn free_slots(body: &[u8]) -> impl Iterator<Item = SlotSeen> {
    let seen = serde_json::from_slice::<Availability>(body).map(|seen| seen.centres).unwrap_or_default();
    seen.into_iter()
        .flat_map(|centre| centre.sessions)
        .flat_map(|session| session.slots)
        .filter(|slot| slot.free > 0 && slot.status.as_deref().is_none_or(|status| status == "free"))
}
