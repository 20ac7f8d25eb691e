//! A table by numbers that are given out one after the other: as quick as an array where they are, and no larger than what is in it
//! where somebody wrote any number there is.

use std::collections::HashMap;

use super::ledger::Numbers;
use crate::ids::BookingNumber;

/// Places made at once.
const BLOCK: u64 = 256;

#[derive(Debug)]
struct Block<V> {
    places: Box<[Option<V>]>,
    used: usize,
}

/// Values by booking number.
#[derive(Debug)]
pub struct Numbered<V> {
    blocks: HashMap<u64, Block<V>, Numbers>,
    len: usize,
}

impl<V> Default for Numbered<V> {
    fn default() -> Self {
        Self { blocks: HashMap::default(), len: 0 }
    }
}

impl<V> Numbered<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The value under this number.
    #[must_use]
    pub fn get(&self, number: BookingNumber) -> Option<&V> {
        self.blocks.get(&(number.0 / BLOCK))?.places[place(number)].as_ref()
    }

    /// What was there before.
    pub fn insert(&mut self, number: BookingNumber, value: V) -> Option<V> {
        let empty = || Block { places: (0..BLOCK).map(|_| None).collect(), used: 0 };
        let block = self.blocks.entry(number.0 / BLOCK).or_insert_with(empty);
        let before = block.places[place(number)].replace(value);
        block.used += usize::from(before.is_none());
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes out what was there.
    pub fn remove(&mut self, number: BookingNumber) -> Option<V> {
        let block = self.blocks.get_mut(&(number.0 / BLOCK))?;
        let value = block.places[place(number)].take()?;
        block.used -= 1;
        self.len -= 1;
        if block.used == 0 {
            self.blocks.remove(&(number.0 / BLOCK));
        }
        Some(value)
    }

    /// In no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (BookingNumber, &V)> {
        self.blocks.iter().flat_map(|(block, values)| {
            let numbers = (0..BLOCK).map(move |place| BookingNumber(block * BLOCK + place));
            values.places.iter().zip(numbers).filter_map(|(value, number)| Some((number, value.as_ref()?)))
        })
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.blocks.values_mut().flat_map(|values| values.places.iter_mut().flatten())
    }
}

fn place(number: BookingNumber) -> usize {
    usize::try_from(number.0 % BLOCK).expect("below 256")
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_under_a_number_is_found_under_it_and_no_other() {
        let numbers = [0, 1, BLOCK - 1, BLOCK, 77 * BLOCK + 3, u64::MAX - BLOCK, u64::MAX - 1, u64::MAX];
        let mut table = Numbered::default();
        for number in numbers {
            assert_eq!(table.insert(BookingNumber(number), number), None);
        }
        assert_eq!(table.insert(BookingNumber(1), 9), Some(1));
        assert_eq!((table.insert(BookingNumber(1), 1), table.get(BookingNumber(1))), (Some(9), Some(&1)));
        assert_eq!(table.len(), numbers.len());
        let mut found: Vec<_> = table.iter().map(|(number, value)| (number.0, *value)).collect();
        found.sort_unstable();
        assert_eq!(found, numbers.map(|number| (number, number)));
        assert_eq!(table.values_mut().count(), numbers.len());
        assert_eq!((table.remove(BookingNumber(BLOCK)), table.remove(BookingNumber(BLOCK))), (Some(BLOCK), None));
        assert_eq!(
            (table.get(BookingNumber(BLOCK)), table.blocks.len()),
            (None, 4),
            "what holds nothing takes no room"
        );
        assert!([2, BLOCK + 1, 78 * BLOCK].iter().all(|number| table.get(BookingNumber(*number)).is_none()));
    }
}
