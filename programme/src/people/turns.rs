//! Who may look and append: one at a time for each thing looked at.
//!
//! What is appended is in the store only when it is durable and applied. So a turn begins not only when nobody else has one, but when the
//! store has seen what was appended in the turns before on the same things: then what it looks at is all there is. Other things wait
//! for nobody.
// rule: PPL-1 one identity document is one person's

use berth_engine::{Engine, Seq};
use parking_lot::{Mutex, MutexGuard};

use super::{PeopleError, STORE_WAIT};
use crate::store::Store;

/// Things are spread over so many locks.
const SHARDS: usize = 4096;

/// The locks, each with the newest entry that was appended under it.
pub(super) struct Turns(Box<[Mutex<Seq>]>);

/// A turn. Dropped, the next one's begins.
pub(super) struct Turn<'a>(Vec<MutexGuard<'a, Seq>>);

impl Turns {
    pub(super) fn new() -> Turns {
        Turns((0..SHARDS).map(|_| Mutex::new(Seq(0))).collect())
    }

    /// A turn with these things, each by bytes of its own.
    pub(super) fn take(&self, engine: &Engine, store: &Store, things: &[&[u8]]) -> Result<Turn<'_>, PeopleError> {
        let mut shards: Vec<usize> = things.iter().map(|thing| shard(thing)).collect();
        // Ascending, and none twice: two turns never wait for each other.
        shards.sort_unstable();
        shards.dedup();
        loop {
            let guards: Vec<_> = shards.iter().map(|&shard| self.0[shard].lock()).collect();
            let newest = guards.iter().map(|guard| **guard).max().unwrap_or(Seq(0));
            if newest <= store.applied() {
                return Ok(Turn(guards));
            }
            // Nobody is kept out by who waits for a disk.
            drop(guards);
            engine.ticket(newest).wait()?;
            store.wait(newest, STORE_WAIT)?;
        }
    }
}

impl Turn<'_> {
    /// Whoever comes next waits for this entry.
    pub(super) fn appended(&mut self, seq: Seq) {
        for guard in &mut self.0 {
            **guard = (**guard).max(seq);
        }
    }
}

/// Things are keyed prints, random ids and numbers: folded, they are spread well enough.
fn shard(thing: &[u8]) -> usize {
    let folded = thing.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    folded % SHARDS
}
