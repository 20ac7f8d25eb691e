//! Party records: the facts the policy reads and the live claims, behind one small lock each.

use arrayvec::ArrayVec;

use crate::booking::NUMBER_BITS;
use crate::command::PartyFacts;
use crate::ids::{BookingNumber, Dose, PartyId, ProgrammeId, Seq};
use crate::slot::ChunkTable;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{Mutex, MutexGuard};

/// The most live claims one party may have, over all programmes and doses of the cell.
pub const LIVE_CLAIMS_MAX: usize = 3;

/// Eight bytes without their alignment: with it, a record and its one-byte lock would be 56 bytes, not 48.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Packed([u8; 8]);

impl Packed {
    const fn new(value: u64) -> Self {
        Self(value.to_le_bytes())
    }

    const fn get(self) -> u64 {
        u64::from_le_bytes(self.0)
    }
}

/// A live claim, or the newest one though it has ended: booking number + 1, 39 bits | ended 1 | programme 16 | dose 8. Zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place(Packed);

const ENDED: u64 = 1 << NUMBER_BITS;
const PROGRAMME_SHIFT: u32 = NUMBER_BITS + 1;

impl Place {
    fn new(number: BookingNumber, programme: ProgrammeId, dose: Dose) -> Self {
        assert!(number.0 + 1 < 1 << NUMBER_BITS, "booking number {number} does not fit a claim");
        Self(Packed::new((number.0 + 1) | u64::from(programme.0) << PROGRAMME_SHIFT | u64::from(dose.0) << 56))
    }

    /// What is left of a claim that has ended while it is the party's newest.
    fn ended(number: BookingNumber) -> Self {
        Self(Packed::new((number.0 + 1) | ENDED))
    }

    const fn is_ended(self) -> bool {
        self.0.get() & ENDED != 0
    }

    /// The number, of one that has ended too.
    fn number(self) -> Option<BookingNumber> {
        (self.0.get() & (ENDED - 1)).checked_sub(1).map(BookingNumber)
    }

    fn live(self) -> Option<BookingNumber> {
        if self.is_ended() { None } else { self.number() }
    }

    const fn is_for(self, programme: ProgrammeId, dose: Dose) -> bool {
        self.0.get() & (ENDED - 1) != 0
            && self.0.get() >> NUMBER_BITS == (programme.0 as u64) << 1 | (dose.0 as u64) << 17
    }
}

/// One party. 48 bytes with its lock.
#[derive(Debug, Default)]
pub(crate) struct PartyRecord {
    places: [Place; LIVE_CLAIMS_MAX],
    pub(crate) facts: PartyFacts,
    /// The entry that last changed this record or a booking of its.
    seq: Packed,
}

impl PartyRecord {
    pub(crate) fn seq(&self) -> Seq {
        Seq(self.seq.get())
    }

    pub(crate) fn set_seq(&mut self, seq: Seq) {
        self.seq = Packed::new(seq.0);
    }

    /// The live claim for this dose, if there is one.
    // rule: PTY-1 at most one live claim per (party, programme, dose)
    pub(crate) fn live_claim(&self, programme: ProgrammeId, dose: Dose) -> Option<BookingNumber> {
        self.places.iter().find(|place| place.is_for(programme, dose))?.live()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.places.iter().all(|place| place.live().is_some())
    }

    /// The newest booking, live or not: the chain of all others begins there. A party's numbers ascend, for each is given out under
    /// the party's lock.
    pub(crate) fn newest(&self) -> Option<BookingNumber> {
        self.places.iter().filter_map(|place| place.number()).max()
    }

    /// Adds a live claim, the newest. The caller has checked [`PartyRecord::live_claim`] and [`PartyRecord::is_full`].
    pub(crate) fn add(&mut self, number: BookingNumber, programme: ProgrammeId, dose: Dose) {
        *self.free().expect("the caller checked is_full") = Place::new(number, programme, dose);
    }

    /// Notes a booking that has ended, the newest, where records come back in the order of their numbers. False if there is no
    /// place: three live claims before it leave none, and whoever has three makes no fourth.
    pub(crate) fn add_ended(&mut self, number: BookingNumber) -> bool {
        self.free().map(|place| *place = Place::ended(number)).is_some()
    }

    /// The place of the one that had ended and is now not the newest any more, or an empty one.
    fn free(&mut self) -> Option<&mut Place> {
        let ended = self.places.iter().position(|place| place.is_ended());
        let free = ended.or_else(|| self.places.iter().position(|place| place.number().is_none()));
        free.map(|at| &mut self.places[at])
    }

    /// Drops the claim of `number`; false if it was not live. The newest stays as a mark.
    pub(crate) fn remove(&mut self, number: BookingNumber) -> bool {
        let left = if self.newest() == Some(number) { Place::ended(number) } else { Place::default() };
        let found = self.places.iter_mut().find(|place| place.live() == Some(number));
        found.map(|place| *place = left).is_some()
    }

    /// The live claims' numbers.
    pub(crate) fn numbers(&self) -> ArrayVec<BookingNumber, LIVE_CLAIMS_MAX> {
        self.places.iter().filter_map(|place| place.live()).collect()
    }
}

/// All parties of a cell by number.
#[derive(Debug)]
pub(crate) struct PartyTable {
    records: ChunkTable<Mutex<PartyRecord>>,
    /// Parties below this number exist. Written only under the engine's administrative lock.
    count: AtomicU32,
    len_max: u32,
}

impl PartyTable {
    pub(crate) fn new(parties_max: u32) -> Self {
        Self { records: ChunkTable::new(parties_max as usize), count: AtomicU32::new(0), len_max: parties_max }
    }

    pub(crate) fn len_max(&self) -> u32 {
        self.len_max
    }

    pub(crate) fn count(&self) -> u32 {
        // Acquire pairs with the release in `add`: who sees the count sees the facts below it.
        self.count.load(Acquire)
    }

    pub(crate) fn exists(&self, party: PartyId) -> bool {
        party.0 < self.count()
    }

    /// Locks a party. A caller that locks several does so in ascending number.
    pub(crate) fn lock(&self, party: PartyId) -> Option<MutexGuard<'_, PartyRecord>> {
        if !self.exists(party) {
            return None;
        }
        self.records.get(party.0 as usize).map(Mutex::lock)
    }

    /// Reads the lock of a party, and with it the cache line that its record begins in; what it returns means nothing.
    #[inline]
    pub(crate) fn warm(&self, party: u32) -> bool {
        self.records.get(party as usize).is_some_and(crate::sync::is_locked)
    }

    /// Creates parties `count() .. count() + n`. Only under the engine's administrative lock, and within
    /// [`PartyTable::len_max`].
    pub(crate) fn add(&self, n: u32, facts: PartyFacts, seq: Seq) {
        let first = self.count.load(Relaxed);
        for party in first..first + n {
            let record = self.records.get_or_grow(party as usize).expect("within len_max, as the caller checked");
            let mut record = record.lock();
            record.facts = facts;
            record.set_seq(seq);
        }
        self.count.store(first + n, Release);
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_party_with_its_lock_is_48_bytes() {
        assert_eq!(size_of::<Mutex<PartyRecord>>(), 48);
    }

    // rule: PTY-1
    #[test]
    fn a_live_claim_is_found_by_programme_and_dose_only() {
        let mut record = PartyRecord::default();
        let big = BookingNumber((1 << NUMBER_BITS) - 2);
        record.add(big, ProgrammeId(u16::MAX), Dose(255));
        record.add(BookingNumber(0), ProgrammeId(0), Dose(1));
        assert_eq!(record.live_claim(ProgrammeId(u16::MAX), Dose(255)), Some(big));
        assert_eq!(record.live_claim(ProgrammeId(0), Dose(1)), Some(BookingNumber(0)));
        assert_eq!(record.live_claim(ProgrammeId(0), Dose(2)), None);
        assert_eq!(record.live_claim(ProgrammeId(1), Dose(1)), None);
        assert!(record.remove(big));
        assert!(!record.remove(big));
        assert_eq!(record.live_claim(ProgrammeId(u16::MAX), Dose(255)), None);
        assert_eq!(record.newest(), Some(big), "it is the newest all the same");
    }

    /// Whatever begins and ends: the newest is known, and no live claim is lost to its mark.
    #[test]
    fn the_newest_booking_is_known_though_it_has_ended() {
        let mut random = crate::testing::random::Random::new(7);
        for _ in 0..200 {
            let (mut record, mut live, mut newest) = (PartyRecord::default(), Vec::new(), None);
            for number in (0..30).map(BookingNumber) {
                if live.len() < LIVE_CLAIMS_MAX && random.chance(60) {
                    record.add(number, ProgrammeId(1), Dose(u8::try_from(number.0).unwrap()));
                    live.push(number);
                    newest = Some(number);
                } else if !live.is_empty() {
                    let at = usize::try_from(random.below(live.len() as u64)).unwrap();
                    assert!(record.remove(live.swap_remove(at)));
                }
                assert_eq!((record.newest(), record.is_full()), (newest, live.len() == LIVE_CLAIMS_MAX));
                let mut found = record.numbers();
                found.sort_unstable();
                live.sort_unstable();
                assert_eq!(found[..], live[..]);
            }
        }
    }
}
