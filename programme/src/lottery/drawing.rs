//! What the clock brings: a list is closed, drawn, and what is left opened. Each step is found again after a crash by what stands in the
//! journal.

use std::sync::atomic::Ordering::Relaxed;

use berth_engine::{
    Claim, Command, Dose, Idempotency, IdempotencyKey, Outcome, PartyId, Refusal, Request, Seq, SlotId, TimestampMs,
};
use sha2::{Digest as _, Sha256};

use super::draw::{Registration, Units, commitment, digest, hex, order, unhex};
use super::entry::{CameRow, Said, Spec};
use super::result::ResultLine;
use super::{FULL_PAUSE, Lotteries, Lottery, LotteryError, State};
use crate::store::StoreError;

/// Whose the note of an offer is; behind it stands the lottery's id.
const OFFER_NOTE: u8 = 2;
/// Outcomes that are written ahead of the disk.
const AHEAD: u64 = 256;
/// Of a party that a draw before a restart had come to, and had passed this slot over.
const PASSED_BEFORE: &str = "passed_over_before_a_restart";
/// Somebody at the door, or whom the administration moved, has it.
const TAKEN: &str = "taken";
const TOO_LATE: &str = "too_late";

impl Lotteries {
    /// Does what is due, of every lottery. To be called now and then, where blocking is welcome. What happened is told by id.
    ///
    /// # Errors
    /// The first that could not be done, with its lottery; the others were.
    pub fn step(&self, now: TimestampMs) -> Result<Vec<(String, State)>, (String, LotteryError)> {
        let _turn = self.turn.lock();
        let (mut done, mut failed) = (Vec::new(), None);
        let specs = self.tables.specs().map_err(|error| (String::new(), error.into()))?;
        for Spec { id, .. } in specs {
            match self.due(&id, now, false) {
                Ok(Some(state)) => done.push((id, state)),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some((id, error))),
            }
        }
        failed.map_or(Ok(done), Err)
    }

    /// Draws a lottery now, whose registration has closed, though its time may not have come yet.
    ///
    /// # Errors
    /// Registration is still open, or it could not be done.
    pub fn draw_now(&self, id: &str, now: TimestampMs) -> Result<Lottery, LotteryError> {
        let _turn = self.turn.lock();
        let lottery = self.get(id)?;
        if now.0 < lottery.spec.closes_at {
            return Err(LotteryError::State(lottery.standing.state, "people may register still".to_owned()));
        }
        self.due(id, now, true)?;
        self.get(id)
    }

    /// Whoever draws stops at the next registration. The next start goes on.
    pub fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// One lottery's steps that are due. The state that it came to, if it is another.
    fn due(&self, id: &str, now: TimestampMs, at_once: bool) -> Result<Option<State>, LotteryError> {
        let Lottery { spec, mut standing, .. } = self.get(id)?;
        let before = standing.state;
        if before == State::Over {
            return Ok(None);
        }
        // Again each time: a start whose store had not seen the making of one has not reserved it.
        self.reserve(&spec, true);
        if standing.state == State::Registering && now.0 >= spec.closes_at {
            self.close(&spec, now)?;
            standing = self.get(id)?.standing;
        }
        if standing.state == State::Closed && (at_once || now.0 >= spec.draws_at) {
            match self.begin(&spec, now) {
                // It can never be drawn: nobody waits for it longer than for its offers.
                Err(LotteryError::SeedLost(_)) if now.0 >= spec.offers_until => {
                    return self.open_up(&spec, now).map(Some);
                }
                begun => begun?,
            }
            standing = self.get(id)?.standing;
        }
        if standing.state == State::Drawing {
            match self.draw(&spec) {
                // Seed or list are not what was published: it can never go on, and nothing stays reserved for it.
                Err(LotteryError::SeedLost(_) | LotteryError::Store(StoreError::Broken(_)))
                    if now.0 >= spec.offers_until =>
                {
                    return self.open_up(&spec, now).map(Some);
                }
                drawn => drawn?,
            }
            standing = self.get(id)?.standing;
        }
        if standing.state == State::Drawn && now.0 >= spec.offers_until {
            standing.state = self.open_up(&spec, now)?;
        }
        Ok((standing.state != before).then_some(standing.state))
    }

    /// What is left is everybody's.
    fn open_up(&self, spec: &Spec, now: TimestampMs) -> Result<State, LotteryError> {
        // Before the entry: who waits hears of it by that, and keeps what is left from that moment on. A crash between reserves again.
        self.reserve(spec, false);
        let done = self.submit(&Said::Opened { id: spec.id.clone(), slots: spec.slots.clone() }, None, now)?;
        self.wait(done.seq)?;
        Ok(State::Over)
    }

    /// The list as it stands, in the order of the parties. What was told to be registered is in it: nobody registers meanwhile.
    fn close(&self, spec: &Spec, now: TimestampMs) -> Result<(), LotteryError> {
        let _alone = self.registering.write();
        self.wait(self.engine.appended())?;
        let list = self.list(spec)?;
        let (digest, registrations) = (hex(&digest(&spec.id, &list)), list.len() as u64);
        let done = self.submit(&Said::Closed { id: spec.id.clone(), digest, registrations }, None, now)?;
        self.wait(done.seq)
    }

    pub(super) fn list(&self, spec: &Spec) -> Result<Vec<Registration>, LotteryError> {
        let registrations = self.tables.registrations(&spec.id);
        let named = registrations.map(|row| {
            let (party, preferences) = row?;
            Ok(Registration { party: self.party_name(party), preferences })
        });
        named.collect()
    }

    /// The seed is told, and what there is to be had is settled.
    fn begin(&self, spec: &Spec, now: TimestampMs) -> Result<(), LotteryError> {
        let seed = hex(&self.own_seed(spec)?);
        let free = |slot: &u32| self.engine.counts(SlotId(*slot)).map_or(0, |counts| counts.free().get());
        let units = spec.slots.iter().map(free).collect();
        let done = self.submit(&Said::Drawing { id: spec.id.clone(), seed, units }, None, now)?;
        self.wait(done.seq)
    }

    /// Offers to each in turn. What came of whom before a crash stands in the store; of the one under way the offer's own key says it.
    // rule: LOT-1 the order is that of seed and list, however often the draw is begun
    fn draw(&self, spec: &Spec) -> Result<(), LotteryError> {
        self.wait(self.engine.appended())?;
        let standing = self.get(&spec.id)?.standing;
        // That which was told, and not what the cell's key gives now.
        let seed = standing.seed.as_deref().and_then(unhex).filter(|seed| hex(&commitment(seed)) == spec.commitment);
        let seed = seed.ok_or_else(|| LotteryError::SeedLost(spec.id.clone()))?;
        let list = self.list(spec)?;
        let digest = digest(&spec.id, &list);
        if standing.digest.as_deref() != Some(hex(&digest).as_str()) {
            let why = format!("the list of lottery {} is not the one whose digest was published", spec.id);
            return Err(StoreError::Broken(why).into());
        }
        let slots = self.slots(spec, &standing.units);
        let (mut units, mut given, mut place) = (Units::new(&slots), 0, 0);
        for came in self.tables.came(&spec.id) {
            place += 1;
            if let Some((slot, _)) = came?.given {
                given += 1;
                units.take(&self.slot_name(slot));
            }
        }
        let mut newest = Seq(0);
        for registration in order(&seed, &digest, &list).into_iter().skip(usize::try_from(place).unwrap_or(usize::MAX))
        {
            if self.stopping.load(Relaxed) {
                return Err(LotteryError::Stopping);
            }
            place += 1;
            let party = registration.party.rsplit('.').next().and_then(|number| number.parse().ok()).map(PartyId);
            let party = party.ok_or_else(|| LotteryError::Unknown(registration.party.clone()))?;
            let (key, mut got, mut failed) = (offer_key(&spec.id, party), None, None);
            let before = self.engine.repeat_of(key).and_then(|submitted| submitted.result.ok()).and_then(held);
            let came = units.turn(registration, |slot| {
                let number = slot.slot.rsplit('.').next().and_then(|number| number.parse().ok());
                let number = number.ok_or_else(|| TAKEN.to_owned())?;
                let told = match before {
                    Some((there, _)) if there != number => Ok(Err(PASSED_BEFORE.to_owned())),
                    Some(there) => Ok(Ok(there)),
                    None if failed.is_some() => Ok(Err(TAKEN.to_owned())),
                    None => self.offer(spec, party, SlotId(number), key),
                };
                match told {
                    Ok(Ok(there)) => {
                        got = Some(there);
                        Ok(())
                    }
                    Ok(Err(why)) => Err(why),
                    Err(error) => {
                        failed = Some(error);
                        Err(TAKEN.to_owned())
                    }
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            given += u64::from(got.is_some());
            let came = CameRow { party: party.0, passed: came.passed, given: got };
            newest = self.tell(&Said::Came { id: spec.id.clone(), place, came })?;
            if place.is_multiple_of(AHEAD) {
                self.engine.ticket(newest).wait()?;
            }
        }
        self.engine.ticket(newest).wait()?;
        let newest = self.tell(&Said::Drawn { id: spec.id.clone(), given })?;
        self.wait(newest)
    }

    /// Writes an entry down, and waits while the journal's buffer is full.
    fn tell(&self, said: &Said) -> Result<Seq, LotteryError> {
        loop {
            match self.submit(said, None, self.engine.now()) {
                Err(LotteryError::Refused(Refusal::JournalFull)) => self.pause()?,
                told => return Ok(told?.seq),
            }
        }
    }

    fn pause(&self) -> Result<(), LotteryError> {
        self.engine.ticket(self.engine.appended()).wait()?;
        std::thread::sleep(FULL_PAUSE);
        if self.stopping.load(Relaxed) { Err(LotteryError::Stopping) } else { Ok(()) }
    }

    /// A unit of this slot for this party, or why not.
    fn offer(
        &self,
        spec: &Spec,
        party: PartyId,
        slot: SlotId,
        key: Idempotency,
    ) -> Result<Result<(u32, u64), String>, LotteryError> {
        let note = [&[OFFER_NOTE][..], spec.id.as_bytes()].concat();
        loop {
            let now = self.engine.now();
            let left = spec.offers_until.saturating_sub(now.0);
            if left == 0 {
                return Ok(Err(TOO_LATE.to_owned()));
            }
            let claim = Claim { party, slot, dose: Dose(spec.dose) };
            let ttl = std::time::Duration::from_millis(left);
            let request = Request { command: Command::Offer { claim, ttl, note: &note }, idempotency: Some(key) };
            match self.engine.submit(&request, now)?.result {
                Ok(outcome) => return Ok(held(outcome).ok_or_else(|| TAKEN.to_owned())),
                Err(Refusal::JournalFull | Refusal::IdempotencyInFlight) => self.pause()?,
                Err(Refusal::NotEligible { rule, .. }) => return Ok(Err(rule.to_owned())),
                Err(Refusal::AlreadyClaimed { .. }) => return Ok(Err("already_claimed".to_owned())),
                Err(Refusal::TooManyClaims { .. }) => return Ok(Err("too_many_claims".to_owned())),
                Err(Refusal::SlotClosed { .. }) => return Ok(Err("slot_closed".to_owned())),
                Err(_) => return Ok(Err(TAKEN.to_owned())),
            }
        }
    }

    /// The file that anybody may verify, line by line.
    ///
    /// # Errors
    /// It is not drawn yet, or the store cannot be read.
    pub fn result(
        &self,
        id: &str,
    ) -> Result<impl Iterator<Item = Result<ResultLine, LotteryError>> + '_, LotteryError> {
        let Lottery { spec, standing, registrations } = self.get(id)?;
        if standing.state < State::Drawn || standing.seed.is_none() {
            return Err(LotteryError::State(standing.state, "it is not drawn yet".to_owned()));
        }
        let first = ResultLine::Lottery {
            id: spec.id.clone(),
            commitment: spec.commitment.clone(),
            digest: standing.digest.clone().unwrap_or_default(),
            seed: standing.seed.clone().unwrap_or_default(),
            slots: self.slots(&spec, &standing.units),
        };
        let rows = self.tables.came(id).zip(1u64..).map(move |(row, place)| {
            let CameRow { party, passed, given } = row?;
            let party = PartyId(party);
            let preferences = self.tables.preferences(&spec.id, party)?.unwrap_or_default();
            let given = given.map(|(slot, _)| self.slot_name(slot));
            Ok(ResultLine::Registration { place, party: self.party_name(party), preferences, passed, given })
        });
        let end = ResultLine::End { registrations, given: standing.given };
        Ok(std::iter::once(Ok(first)).chain(rows).chain(std::iter::once(Ok(end))))
    }
}

/// Slot and number of what was offered.
fn held(outcome: Outcome) -> Option<(u32, u64)> {
    match outcome {
        Outcome::Held { claims, .. } => claims.first().map(|held| (held.claim.slot.0, held.number.0)),
        _ => None,
    }
}

/// One offer for each party of a lottery, however often it is drawn.
pub(super) fn offer_key(id: &str, party: PartyId) -> Idempotency {
    let digest = Sha256::digest(format!("berth lottery offer\0{id}\0{party}"));
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    let mut fingerprint = [0; 8];
    fingerprint.copy_from_slice(&digest[16..24]);
    Idempotency { key: IdempotencyKey(u128::from_be_bytes(key)), fingerprint: u64::from_be_bytes(fingerprint) }
}
