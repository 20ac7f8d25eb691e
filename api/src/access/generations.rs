//! A bounded table that forgets what has lain idle: two maps, a young and an old one.
//!
//! What is asked for in the old map goes over to the young one. When the young one is full it becomes the old one, and what
//! nobody asked for since is dropped with its map, at once. So memory is bounded by the number of entries, no entry that is used
//! between two turns is ever lost, and nothing walks the table.

use std::collections::HashMap;
use std::hash::Hash;

/// The table.
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Entries of one generation.
    half: usize,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    /// At most `max` entries, of which those used last are kept: the newer half for certain.
    pub(crate) fn new(max: usize) -> Generations<K, V> {
        Generations { young: HashMap::new(), old: HashMap::new(), half: (max / 2).max(1) }
    }

    /// An entry, which is young again by this.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Puts an entry in, or in the place of the one that is there. How many were dropped for it.
    pub(crate) fn insert(&mut self, key: K, value: V) -> usize {
        let mut dropped = 0;
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            // What was in the old map alone is gone with it.
            dropped = self.old.len();
            self.old = std::mem::replace(&mut self.young, HashMap::with_capacity(self.half));
        }
        self.old.remove(&key);
        self.young.insert(key, value);
        dropped
    }

    /// Entries there are.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_idle_goes() {
        let mut table = Generations::new(8);
        table.insert(0, "used");
        table.insert(1, "idle");
        for i in 2..100 {
            table.insert(i, "new");
            assert_eq!(table.get(&0).copied(), Some("used"), "{i}");
            assert!(table.len() <= 8, "{}", table.len());
        }
        assert_eq!(table.get(&1), None);
        assert_eq!(table.get(&99).copied(), Some("new"));
    }

    #[test]
    fn an_entry_is_there_once() {
        let mut table = Generations::new(4);
        table.insert("a", 1);
        table.insert("b", 1);
        table.insert("c", 1);
        table.insert("a", 2);
        assert_eq!((table.get(&"a").copied(), table.len()), (Some(2), 3));
    }
}
