//! What some people do otherwise: those who wait for the minute, who look again and again, who hammer, who storm, who hoard; and
//! those who work at the door.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rand::Rng;

use super::ask::Ask;
use super::exchange::exchange;
use super::journey::{Next, Person, Step, free_slots, of_dose};
use crate::history::{Claim, Operation, Outcome};
use crate::scenario::Behaviour;
use crate::wire::AtTheDoor;

/// How often a refresher looks before giving up.
const LOOKS_MAX: u32 = 12;
/// How often a bot tries, and how long it waits for the next: not at all, for what a person could see.
const BOT_TRIES: u32 = 40;
const BOT_PAUSE: Duration = Duration::from_millis(8);
/// A storm sends the next when the answer has not come within this.
const STORM_GAP: Duration = Duration::from_millis(40);
/// How often somebody hoards.
const HOARDINGS: u32 = 3;
/// The pool whose units are had at the door alone.
const DOOR_POOL: &str = "walk_in";

impl Person<'_> {
    /// The arrival of those who do not search and claim at once; none for all others.
    pub(super) async fn arrives_otherwise(&mut self, due_us: i64) -> Option<Next> {
        let next = match self.arrival.behaviour {
            Behaviour::EarlyBird => {
                let opens_us = self.field.opens_us.filter(|&opens_us| opens_us > self.field.clock.now_us())?;
                self.search(self.arrival.district, due_us).await;
                Some((Step::Opening, opens_us))
            }
            Behaviour::Refresher => self.look(LOOKS_MAX, due_us).await,
            Behaviour::Bot => self.hammer(due_us).await,
            Behaviour::Hoarder => self.hoard(HOARDINGS, due_us).await,
            Behaviour::SecondDose if !self.field.today => self.look_and_claim(due_us, 2).await,
            Behaviour::Operator if self.field.today && self.rng.random_bool(0.25) => self.walk_in(due_us).await,
            _ => return None,
        };
        Some(next)
    }

    /// Looks, books if something is free, and else looks again later.
    pub(super) async fn look(&mut self, left: u32, due_us: i64) -> Next {
        let next = self.look_and_claim(due_us, 1).await;
        if next.is_none() && self.found_full && left > 1 { self.later(Step::Look { left: left - 1 }) } else { next }
    }

    /// Looks and books as fast as answers come, whatever they say.
    async fn hammer(&mut self, due_us: i64) -> Next {
        let mut due_us = due_us;
        for _ in 0..BOT_TRIES {
            if self.field.schedule.is_closed() {
                return None;
            }
            let offers = of_dose(self.search(self.arrival.district, due_us).await, 1);
            if !offers.is_empty() {
                let ask = Ask::book(self.arrival.number, self.field.new_key(), self.choose_claims(&offers)).ok()?;
                let answer = self.send(&ask, self.field.clock.now_us()).await;
                if answer.outcome == Outcome::Ok {
                    return self.later(Step::Booked { bookings: answer.told, confirming: ask });
                }
            }
            tokio::time::sleep(BOT_PAUSE).await;
            due_us = self.field.clock.now_us();
        }
        None
    }

    /// Sends a request, and the same again with the same key each time the answer is not there in time; up to five are under way
    /// at once. The answer is the best of them.
    pub(super) async fn send_storm(&mut self, ask: &Ask, intended_us: i64) -> Operation {
        let answered = AtomicBool::new(false);
        let (answered, field) = (&answered, self.field);
        let one = |number: u32| {
            let line = self.line(ask);
            async move {
                tokio::time::sleep(STORM_GAP * number).await;
                if number > 0 && answered.load(Relaxed) {
                    return None;
                }
                let operation = exchange(field, line?, ask, intended_us, number + 1).await.0;
                answered.fetch_or(operation.outcome != Outcome::Unknown, Relaxed);
                Some(operation)
            }
        };
        let storm = tokio::join!(one(0), one(1), one(2), one(3), one(4));
        let answers: Vec<Operation> = <[Option<Operation>; 5]>::from(storm).into_iter().flatten().collect();
        for answer in &answers {
            self.tell_goose(ask, answer).await;
        }
        let rank = |operation: &&Operation| match operation.outcome {
            Outcome::Ok => 2,
            Outcome::Refused => 1,
            Outcome::Unknown => 0,
        };
        let best = answers.iter().max_by_key(rank).cloned().unwrap_or_default();
        if best.outcome == Outcome::Refused && answers.iter().any(|answer| answer.outcome == Outcome::Unknown) {
            self.settle_later(ask);
        }
        self.insist(best, ask, intended_us).await
    }

    /// Sets a unit aside for each of several people, and comes back when the holds have run out.
    pub(super) async fn hoard(&mut self, left: u32, due_us: i64) -> Next {
        let offers = of_dose(self.search(self.arrival.district, due_us).await, 1);
        if offers.is_empty() {
            return None;
        }
        let mut until_us = None;
        for &party in &self.arrival.parties {
            let offer = self.choose(&offers);
            let claim = Claim { party: self.field.party(party), slot: offer.slot, dose: offer.dose };
            let ask = Ask::hold(self.arrival.number, self.field.new_key(), vec![claim]).ok()?;
            let answer = self.send(&ask, self.field.clock.now_us()).await;
            until_us = until_us.max(answer.expires_us);
        }
        let again_us = until_us? + self.rng.random_range(200_000..800_000);
        (left > 1).then_some((Step::Hoard { left: left - 1 }, again_us))
    }

    /// Somebody stands at the door without a booking.
    async fn walk_in(&mut self, due_us: i64) -> Next {
        let name = self.field.districts.get(self.arrival.district)?;
        let ask = Ask::search(self.arrival.number, name, &self.field.from, 1);
        let body = self.once(&ask, due_us, 1).await.1?;
        let slot = free_slots(&body).find(|slot| slot.pool == DOOR_POOL)?.slot;
        let claim = Claim { party: self.field.party(*self.arrival.parties.first()?), slot, dose: 1 };
        let ask = Ask::walk_in(self.arrival.number, self.field.new_key(), claim).ok()?;
        let answer = self.send(&ask, self.field.clock.now_us()).await;
        let booking = answer.told.first()?.booking.clone();
        self.later(Step::Serve { booking })
    }

    /// The person is there and says the digits. Now and then somebody is taken for absent first, which is too early to say.
    pub(super) async fn check_in(&mut self, booking: String, due_us: i64) -> Next {
        let mut due_us = due_us;
        if self.arrival.behaviour == Behaviour::Operator && self.rng.random_bool(0.1) {
            let ask = Ask::no_show(self.arrival.number, self.field.new_key(), &booking);
            if self.send(&ask, due_us).await.outcome == Outcome::Ok {
                return None;
            }
            due_us = self.field.clock.now_us();
        }
        let ask = Ask::read_booking(self.arrival.number, &booking);
        let body = self.once(&ask, due_us, 1).await.1?;
        let code = serde_json::from_slice::<AtTheDoor>(&body).ok()?.check_in_code?;
        let ask = Ask::check_in(self.arrival.number, self.field.new_key(), &booking, &code);
        let answer = self.send(&ask, self.field.clock.now_us()).await;
        if answer.outcome == Outcome::Ok { self.later(Step::Serve { booking }) } else { None }
    }

    /// The dose is given; who comes for both then looks for the second.
    pub(super) async fn serve(&mut self, booking: &str, due_us: i64) -> Next {
        let ask = Ask::complete(self.arrival.number, self.field.new_key(), booking);
        let answer = self.send(&ask, due_us).await;
        let again = answer.outcome == Outcome::Ok && self.arrival.behaviour == Behaviour::SecondDose;
        if again { self.later(Step::Second) } else { None }
    }
}
