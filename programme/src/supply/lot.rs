//! Counters of a batch at a centre, and of a centre's day. What is on hand is never negative: a dose that is on record though nothing was there is counted as
//! *uncovered*, and what comes in later covers it first.
//!
//! Of each batch at each centre `received + arrived + back + found + uncovered = on_hand + given + revoked + wasted + missing + sent`;
//! of a batch at all centres together what was sent, and has not come back, has arrived or is on the way.

use super::entry::Waste;

const REASONS: usize = Waste::ALL.len();

/// What something does to the stock of a batch at a centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// From outside.
    Received(u64),
    /// Left for another centre.
    Sent(u64),
    /// What had left is with the other centre, or lost: it is on the way no more.
    Delivered(u64),
    /// Came from another centre.
    Arrived(u64),
    /// What was sent, and was not to go.
    Back(u64),
    /// Thrown away.
    Wasted(u64, Waste),
    /// More was there than the books said.
    Found(u64),
    /// Less.
    Missing(u64),
    /// A dose was given.
    Given,
    /// It was of another batch.
    NotGiven,
    /// It was not given: the vial is gone all the same.
    Revoked,
    /// One that was revoked was of another batch.
    NotRevoked,
    /// One that was revoked was of this batch.
    GoneRevoked,
}

/// What is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Doses that can be given.
    pub on_hand: u64,
    /// Doses on record for which nothing was there.
    pub uncovered: u64,
}

impl Held {
    // rule: SUP-1 stock is never negative
    fn take(&mut self, doses: u64) {
        let there = self.on_hand.min(doses);
        self.on_hand -= there;
        self.uncovered += doses - there;
    }

    fn come(&mut self, doses: u64) {
        let covered = self.uncovered.min(doses);
        self.uncovered -= covered;
        self.on_hand += doses - covered;
    }

    pub(super) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Received(n) | Effect::Arrived(n) | Effect::Back(n) | Effect::Found(n) => self.come(n),
            Effect::Sent(n) | Effect::Wasted(n, _) | Effect::Missing(n) => self.take(n),
            Effect::Given | Effect::GoneRevoked => self.take(1),
            Effect::NotGiven | Effect::NotRevoked => self.come(1),
            Effect::Revoked | Effect::Delivered(_) => {}
        }
    }
}

/// All that is counted of a batch at a centre.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lot {
    /// What is there.
    pub held: Held,
    /// From outside.
    pub received: u64,
    /// To other centres, but for what came back.
    pub sent: u64,
    /// Of that, what is still on the way.
    pub on_the_way: u64,
    /// From other centres, with what was lost on the way.
    pub arrived: u64,
    /// Doses given that stand.
    pub given: u64,
    /// Doses given that were revoked.
    pub revoked: u64,
    /// Stock-takes that found more.
    pub found: u64,
    /// Stock-takes that found less.
    pub missing: u64,
    /// By the order of [`Waste::ALL`].
    pub wasted: [u64; REASONS],
}

impl Lot {
    pub(super) fn apply(&mut self, effect: Effect) {
        self.held.apply(effect);
        match effect {
            Effect::Received(n) => self.received += n,
            Effect::Sent(n) => {
                self.sent += n;
                self.on_the_way += n;
            }
            Effect::Delivered(n) => self.on_the_way = self.on_the_way.saturating_sub(n),
            Effect::Back(n) => {
                self.sent = self.sent.saturating_sub(n);
                self.on_the_way = self.on_the_way.saturating_sub(n);
            }
            Effect::Arrived(n) => self.arrived += n,
            Effect::Wasted(n, reason) => self.wasted[reason as usize] += n,
            Effect::Found(n) => self.found += n,
            Effect::Missing(n) => self.missing += n,
            Effect::Given => self.given += 1,
            Effect::NotGiven => self.given = self.given.saturating_sub(1),
            Effect::Revoked => {
                self.given = self.given.saturating_sub(1);
                self.revoked += 1;
            }
            Effect::NotRevoked => self.revoked = self.revoked.saturating_sub(1),
            Effect::GoneRevoked => self.revoked += 1,
        }
    }

    /// All that was thrown away.
    #[must_use]
    pub fn wasted_in_all(&self) -> u64 {
        self.wasted.iter().sum()
    }

    /// Both sides of the sum at the head of this file.
    #[must_use]
    pub fn sides(&self) -> (u64, u64) {
        let came = self.received + self.arrived + self.found + self.held.uncovered;
        let went = self.held.on_hand + self.given + self.revoked + self.wasted_in_all() + self.missing + self.sent;
        (came, went)
    }

    /// Of several centres together.
    pub fn add(&mut self, other: &Lot) {
        let sums = self.numbers().into_iter().zip(other.numbers());
        let mut numbers = [0; NUMBERS];
        numbers.iter_mut().zip(sums).for_each(|(sum, (a, b))| *sum = a + b);
        *self = Lot::of(&numbers);
    }

    fn numbers(&self) -> [u64; NUMBERS] {
        let Lot { held, received, sent, on_the_way, arrived, given, revoked, found, missing, wasted } = self;
        let Held { on_hand, uncovered } = held;
        let own = [on_hand, uncovered, received, sent, on_the_way, arrived, given, revoked, found, missing];
        let mut all = own.into_iter().chain(wasted).copied();
        std::array::from_fn(|_| all.next().unwrap_or(0))
    }

    fn of(numbers: &[u64; NUMBERS]) -> Lot {
        let [on_hand, uncovered, received, sent, on_the_way, arrived, given, revoked, found, missing, wasted @ ..] =
            *numbers;
        let held = Held { on_hand, uncovered };
        Lot { held, received, sent, on_the_way, arrived, given, revoked, found, missing, wasted }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.numbers().iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Lot> {
        read_numbers(bytes).map(|numbers| Lot::of(&numbers))
    }
}

const NUMBERS: usize = 10 + REASONS;

fn read_numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let numbers: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
    if rest.is_empty() { numbers.try_into().ok() } else { None }
}

/// A day of a centre: what came, what went, and what was there at its end. Doses are counted on the day of their session, all else on the day on which it was
/// written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// From outside.
    pub received: u64,
    /// From other centres, with what was lost on the way.
    pub arrived: u64,
    /// To other centres, but for what came back.
    pub sent: u64,
    /// Doses given, of whatever batch, that stand.
    pub given: u64,
    /// Doses that were revoked.
    pub revoked: u64,
    /// Stock-takes that found more.
    pub found: u64,
    /// Stock-takes that found less.
    pub missing: u64,
    /// Bookings whose people did not come.
    pub no_shows: u64,
    /// What was on hand of all batches after the last thing that was written down that day, plus one; 0: nothing was.
    on_hand: u64,
    /// By the order of [`Waste::ALL`].
    pub wasted: [u64; REASONS],
}

const DAY_NUMBERS: usize = 9 + REASONS;

impl Day {
    /// What happens to stock that day. Doses are [counted](Day::given) by themselves.
    pub(super) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Received(n) => self.received += n,
            Effect::Arrived(n) => self.arrived += n,
            Effect::Sent(n) => self.sent += n,
            // It may have been sent on another day: what came back came.
            Effect::Back(n) => self.arrived += n,
            Effect::Wasted(n, reason) => self.wasted[reason as usize] += n,
            Effect::Found(n) => self.found += n,
            Effect::Missing(n) => self.missing += n,
            _ => {}
        }
    }

    pub(super) fn ends_with(&mut self, on_hand: u64) {
        self.on_hand = on_hand + 1;
    }

    /// What was on hand at its end, if anything was written down of the stock that day.
    #[must_use]
    pub fn on_hand(&self) -> Option<u64> {
        self.on_hand.checked_sub(1)
    }

    /// Of several centres or days together, but for what was on hand.
    pub fn add(&mut self, other: &Day) {
        let (a, b) = (self.numbers(), other.numbers());
        let mut numbers = [0; DAY_NUMBERS];
        numbers.iter_mut().zip(a.into_iter().zip(b)).for_each(|(sum, (a, b))| *sum = a + b);
        *self = Day { on_hand: 0, ..Day::of(&numbers) };
    }

    fn numbers(&self) -> [u64; DAY_NUMBERS] {
        let Day { received, arrived, sent, given, revoked, found, missing, no_shows, on_hand, wasted } = self;
        let own = [received, arrived, sent, given, revoked, found, missing, no_shows, on_hand];
        let mut all = own.into_iter().chain(wasted).copied();
        std::array::from_fn(|_| all.next().unwrap_or(0))
    }

    fn of(numbers: &[u64; DAY_NUMBERS]) -> Day {
        let [received, arrived, sent, given, revoked, found, missing, no_shows, on_hand, wasted @ ..] = *numbers;
        Day { received, arrived, sent, given, revoked, found, missing, no_shows, on_hand, wasted }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.numbers().iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Day> {
        read_numbers(bytes).map(|numbers| Day::of(&numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: SUP-1
    #[test]
    fn what_is_not_there_is_uncovered_and_what_comes_covers_it_first() {
        let mut lot = Lot::default();
        for (effect, on_hand, uncovered) in [
            (Effect::Given, 0, 1),
            (Effect::Received(3), 2, 0),
            (Effect::Wasted(1, Waste::Broken), 1, 0),
            (Effect::Given, 0, 0),
            (Effect::Given, 0, 1),
            (Effect::NotGiven, 0, 0),
            (Effect::Found(2), 2, 0),
            (Effect::Revoked, 2, 0),
            (Effect::Sent(2), 0, 0),
            (Effect::Back(2), 2, 0),
            (Effect::Missing(1), 1, 0),
        ] {
            lot.apply(effect);
            assert_eq!(lot.held, Held { on_hand, uncovered }, "{effect:?}");
            let (came, went) = lot.sides();
            assert_eq!(came, went, "{effect:?}: {lot:?}");
        }
        assert_eq!((lot.given, lot.revoked, lot.sent, lot.on_the_way), (1, 1, 0, 0));
        assert_eq!(Lot::read(&lot.bytes()), Some(lot));
        assert_eq!(Lot::read(&lot.bytes()[1..]), None);
    }

    #[test]
    fn a_day_reads_back_and_days_add_up() {
        let mut day = Day { no_shows: 2, given: 5, ..Day::default() };
        day.apply(Effect::Wasted(3, Waste::Other));
        assert_eq!(day.on_hand(), None);
        day.ends_with(0);
        assert_eq!((day.on_hand(), Day::read(&day.bytes())), (Some(0), Some(day)));
        let mut sum = day;
        sum.add(&day);
        assert_eq!((sum.no_shows, sum.wasted[Waste::Other as usize], sum.on_hand()), (4, 6, None));
    }
}
