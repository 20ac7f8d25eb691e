//! Made-up people and the honest server they meet. The server is one moment inside each request; its clock is theirs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Result;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::witnesses::{Line, Witnesses, claim, code, party_name, session, slot_name};
use super::{BEGAN_US, Lie, SynthArgs};
use crate::inventory::Published;

const HOLD_US: i64 = 8_000_000;
const CAPACITY: u64 = 40;
/// Operations for each slot: about as many people want a unit as there are, and the popular slots fill.
const OPERATIONS_PER_SLOT: u64 = 120;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Arrive,
    Claim { slot: u32, arrival: u64 },
    Confirm(usize),
    Cancel(usize),
    Move(usize),
    Release(usize),
    Expire(usize),
}

/// A booking, or a claim of a hold.
struct Booking {
    slot: u32,
    party: u64,
    state: &'static str,
    /// The hold's first claim and how many it has.
    first: usize,
    len: usize,
    arrival: u64,
}

pub(super) struct World {
    rng: SmallRng,
    witnesses: Witnesses,
    queue: BinaryHeap<Reverse<(i64, u64, Step)>>,
    queued: u64,
    bookings: Vec<Booking>,
    taken: Vec<u64>,
    keys: u64,
    people: u64,
    parties: u64,
    /// How long after one person the next comes.
    every_us: i64,
    /// What is still to be got wrong.
    lie: Option<Lie>,
    lost: Option<usize>,
}

impl World {
    pub(super) fn new(args: &SynthArgs, witnesses: Witnesses) -> Self {
        let slots = usize::try_from(args.operations / OPERATIONS_PER_SLOT + 4).unwrap_or(4);
        Self {
            rng: SmallRng::seed_from_u64(args.seed),
            witnesses,
            queue: BinaryHeap::new(),
            queued: 0,
            bookings: Vec::new(),
            taken: vec![0; slots],
            keys: 0,
            people: 0,
            parties: 0,
            // Twelve seconds at least, so that holds run out while others come; three operations a person.
            every_us: (36_000_000 / i64::try_from(args.operations.max(1)).unwrap_or(i64::MAX)).max(90),
            lie: args.lie,
            lost: None,
        }
    }

    pub(super) fn units(&self) -> u64 {
        self.slots() * CAPACITY
    }

    pub(super) fn slots(&self) -> u64 {
        self.taken.len() as u64
    }

    pub(super) fn published(&self) -> Published {
        let mut published = Published::new();
        for slot in self.numbers() {
            let pools = published.entry(session(slot)).or_default();
            pools.entry("dose1".into()).or_default().push(CAPACITY);
        }
        published
    }

    fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.taken.len()).unwrap_or(u32::MAX)
    }

    /// Lets people come until there are so many operations, and everything that was begun run out. The last instant.
    pub(super) fn live(&mut self, operations: u64) -> Result<i64> {
        for some in self.numbers().collect::<Vec<u32>>().chunks(500) {
            let listed: Vec<String> =
                some.iter().map(|slot| format!("{{\"capacity\":{CAPACITY},\"slot\":\"s1.{slot}\"}}")).collect();
            self.witnesses.entry(
                BEGAN_US - 1_000_000,
                "published",
                None,
                format!(",\"slots\":[{}]", listed.join(",")),
            )?;
        }
        self.later(BEGAN_US, Step::Arrive);
        let mut now_us = BEGAN_US;
        while let Some(Reverse((at_us, _, step))) = self.queue.pop() {
            now_us = at_us;
            match step {
                Step::Arrive if self.witnesses.lines >= operations => {}
                Step::Arrive => self.arrive(at_us)?,
                Step::Claim { slot, arrival } => self.claim(slot, arrival, at_us)?,
                Step::Confirm(first) => self.confirm(first, at_us)?,
                Step::Cancel(booking) => self.cancel(booking, at_us)?,
                Step::Move(booking) => self.move_on(booking, at_us)?,
                Step::Release(first) => self.release(first, at_us)?,
                Step::Expire(first) => self.expire(first, at_us)?,
            }
        }
        Ok(now_us)
    }

    /// The exports, and the ends of all files. How many operations there are.
    pub(super) fn finish(mut self) -> Result<u64> {
        for (slot, taken) in self.numbers().zip(std::mem::take(&mut self.taken)) {
            self.witnesses.slot(slot, CAPACITY, taken)?;
        }
        for (number, booking) in self.bookings.iter().enumerate() {
            if self.lost != Some(number) {
                let (own, hold) = (code(number as u64), code(booking.first as u64));
                self.witnesses.booking(&own, &hold, booking.state, booking.party, booking.slot)?;
            }
        }
        self.witnesses.finish()
    }

    fn later(&mut self, at_us: i64, step: Step) {
        self.queued += 1;
        self.queue.push(Reverse((at_us, self.queued, step)));
    }

    fn think(&mut self, now_us: i64, step: Step) {
        let at_us = now_us + self.rng.random_range(50_000..400_000);
        self.later(at_us, step);
    }

    fn key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    /// When the answer to what is sent now comes.
    fn answered(&mut self, now_us: i64) -> i64 {
        now_us + self.rng.random_range(300..4_000)
    }

    /// Popular slots are wanted by most.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    fn choose(&mut self) -> u32 {
        let point: f64 = self.rng.random();
        (point.powf(1.4) * self.taken.len() as f64) as u32
    }

    fn takes(&mut self, slot: u32, units: u64) -> bool {
        let taken = &mut self.taken[slot as usize];
        let oversells = self.lie == Some(Lie::Oversold) && *taken + units > CAPACITY;
        if *taken + units > CAPACITY && !oversells {
            return false;
        }
        if oversells {
            self.lie = None;
        }
        *taken += units;
        true
    }

    fn gives(&mut self, slot: u32) {
        self.taken[slot as usize] -= 1;
    }

    fn arrive(&mut self, now_us: i64) -> Result<()> {
        self.later(now_us + self.every_us, Step::Arrive);
        self.people += 1;
        let arrival = self.people;
        let slot = self.choose();
        self.later(now_us + 5_000, Step::Claim { slot, arrival });
        self.search(arrival, slot, now_us)
    }

    fn claim(&mut self, slot: u32, arrival: u64, at_us: i64) -> Result<()> {
        let wants = self.rng.random_range(0..100);
        if wants < 12 {
            return Ok(());
        }
        let people = if wants < 17 { 2 } else { 1 };
        let parties: Vec<u64> = (0..people).map(|more| self.parties + more).collect();
        self.parties += people;
        let key = self.key();
        let books = people == 1 && wants > 80;
        let op = if books { "book" } else { "hold" };
        let asked: Vec<String> = parties.iter().map(|&party| claim(None, party, slot)).collect();
        let asked = format!(",\"asked\":[{}]", asked.join(","));
        let received_us = self.answered(at_us);
        let line = Line { arrival, op, key: Some(key), attempt: 1, sent_us: at_us, received_us, ..Line::default() };
        // One that is full in truth may be far above; the lie needs room.
        let lies = self.lie == Some(Lie::FalseFull) && people == 1 && self.taken[slot as usize] == 3;
        if lies {
            self.lie = None;
        }
        if lies || !self.takes(slot, people) {
            let taken = if lies { CAPACITY } else { self.taken[slot as usize] };
            let more = format!("{asked},\"code\":\"full\",\"counts\":[{CAPACITY},0,{taken}]");
            return self.witnesses.operation(&Line { outcome: "refused", status: 409, more, ..line });
        }
        let first = self.bookings.len();
        // To the millisecond, as the server has them.
        let deadline_us = (at_us + HOLD_US) / 1_000 * 1_000;
        let state = if books { "booked" } else { "held" };
        for &party in &parties {
            self.bookings.push(Booking { slot, party, state, first, len: parties.len(), arrival });
        }
        let claims: Vec<String> =
            (first..).zip(&parties).map(|(number, &party)| claim(Some(&code(number as u64)), party, slot)).collect();
        let claims = claims.join(",");
        let kind = if books { "booked" } else { "held" };
        let expires = if books { String::new() } else { Witnesses::expires(deadline_us) };
        let unwritten = books && self.lie == Some(Lie::LostBooking);
        if unwritten {
            (self.lie, self.lost) = (None, Some(first));
            self.gives(slot);
        } else {
            self.witnesses.entry(at_us + 100, kind, Some(key), format!(",\"claims\":[{claims}]{expires}"))?;
        }
        let expires = if books { String::new() } else { format!(",\"expires_us\":{deadline_us}") };
        let more = format!("{asked},\"hold\":\"{}\"{expires},\"told\":[{claims}]", code(first as u64));
        self.witnesses.operation(&Line { outcome: "ok", status: 201, more: more.clone(), ..line })?;
        if wants == 40 {
            let sent_us = received_us + 10;
            let (attempt, received_us) = (2, self.answered(sent_us));
            let more = more + ",\"replayed\":true";
            let again =
                Line { arrival, op, key: Some(key), attempt, sent_us, received_us, outcome: "ok", status: 201, more };
            self.witnesses.operation(&again)?;
        }
        if unwritten {
            return Ok(());
        }
        match wants {
            _ if books => self.after_booking(first, received_us),
            20..28 => self.later(deadline_us + 64_000, Step::Expire(first)),
            28..32 => self.think(received_us, Step::Release(first)),
            _ => self.think(received_us, Step::Confirm(first)),
        }
        Ok(())
    }

    fn search(&mut self, arrival: u64, slot: u32, now_us: i64) -> Result<()> {
        let received_us = self.answered(now_us);
        let mut more = format!(",\"target\":\"d{:03}\"", slot / 512);
        if arrival.is_multiple_of(50) {
            let mut free = CAPACITY.saturating_sub(self.taken[slot as usize]);
            if self.lie == Some(Lie::StaleSearch) && free == 0 && now_us > BEGAN_US + 4_000_000 {
                (self.lie, free) = (None, CAPACITY);
            }
            more.push_str(&format!(",\"shown\":{{\"as_of_us\":{now_us},\"free\":[[\"{}\",{free}]]}}", slot_name(slot)));
        }
        let line = Line {
            arrival,
            op: "search",
            attempt: 1,
            sent_us: now_us,
            received_us,
            outcome: "ok",
            status: 200,
            ..Line::default()
        };
        self.witnesses.operation(&Line { more, ..line })
    }

    /// A change of something that exists, written and answered.
    fn change(&mut self, op: &str, kind: &str, on: usize, entry: &str, more: &str, now_us: i64) -> Result<i64> {
        let (key, arrival) = (self.key(), self.bookings[on].arrival);
        let received_us = self.answered(now_us);
        self.witnesses.entry(now_us + 100, kind, Some(key), entry)?;
        let more = format!(",\"target\":\"{}\"{more}", code(on as u64));
        let line = Line {
            arrival,
            op,
            key: Some(key),
            attempt: 1,
            sent_us: now_us,
            received_us,
            outcome: "ok",
            status: 200,
            more,
        };
        self.witnesses.operation(&line)?;
        Ok(received_us)
    }

    fn told(&self, first: usize, len: usize) -> String {
        let of = |number: usize| {
            let booking = &self.bookings[number];
            claim(Some(&code(number as u64)), booking.party, booking.slot)
        };
        let told: Vec<String> = (first..first + len).map(of).collect();
        format!(",\"told\":[{}]", told.join(","))
    }

    fn confirm(&mut self, first: usize, now_us: i64) -> Result<()> {
        let len = self.bookings[first].len;
        let hold = code(first as u64);
        let more = format!(",\"hold\":\"{hold}\"{}", self.told(first, len));
        let entry = format!(",\"hold\":\"{hold}\"");
        let received_us = self.change("confirm", "confirmed", first, &entry, &more, now_us)?;
        self.bookings[first..first + len].iter_mut().for_each(|booking| booking.state = "booked");
        self.after_booking(first, received_us);
        Ok(())
    }

    fn after_booking(&mut self, booking: usize, now_us: i64) {
        match self.rng.random_range(0..100) {
            0..8 => self.think(now_us, Step::Cancel(booking)),
            8..13 => self.think(now_us, Step::Move(booking)),
            _ => {}
        }
    }

    fn release(&mut self, first: usize, now_us: i64) -> Result<()> {
        let entry = format!(",\"hold\":\"{}\"", code(first as u64));
        self.change("release", "released", first, &entry, "", now_us)?;
        self.end(first, "released");
        Ok(())
    }

    fn expire(&mut self, first: usize, now_us: i64) -> Result<()> {
        if self.lie == Some(Lie::LateExpiry) {
            self.lie = None;
            self.later(now_us + 10_000_000, Step::Expire(first));
            return Ok(());
        }
        self.witnesses.entry(now_us, "expired", None, format!(",\"hold\":\"{}\"", code(first as u64)))?;
        self.end(first, "expired");
        Ok(())
    }

    fn end(&mut self, first: usize, state: &'static str) {
        for number in first..first + self.bookings[first].len {
            self.bookings[number].state = state;
            self.gives(self.bookings[number].slot);
        }
    }

    fn cancel(&mut self, booking: usize, now_us: i64) -> Result<()> {
        let (entry, told) = (format!(",\"booking\":\"{}\"", code(booking as u64)), self.told(booking, 1));
        self.change("cancel", "cancelled", booking, &entry, &told, now_us)?;
        self.bookings[booking].state = "cancelled";
        self.gives(self.bookings[booking].slot);
        Ok(())
    }

    fn move_on(&mut self, booking: usize, now_us: i64) -> Result<()> {
        let Booking { slot: from, party, arrival, .. } = self.bookings[booking];
        let slot = self.choose();
        if slot == from || !self.takes(slot, 1) {
            return Ok(());
        }
        let to = self.bookings.len();
        self.bookings.push(Booking { slot, party, state: "booked", first: to, len: 1, arrival });
        let entry =
            format!(",\"from\":\"{}\",\"to\":{}", code(booking as u64), claim(Some(&code(to as u64)), party, slot));
        let asked = format!("{{\"party\":\"{}\",\"slot\":\"{}\",\"dose\":1}}", party_name(party), slot_name(slot));
        let more = format!(",\"asked\":[{asked}]{}", self.told(to, 1));
        self.change("move", "moved", booking, &entry, &more, now_us)?;
        self.bookings[booking].state = "moved";
        self.gives(from);
        Ok(())
    }
}
