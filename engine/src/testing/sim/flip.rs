//! Bits that flip at rest: damage is refused by name of segment and offset, or is harmless, never taken for the truth.

use std::sync::Arc;
use std::time::Duration;

use super::check::{self, Place};
use super::history::PICKY;
use super::load::index;
use super::world::World;
use super::{Broken, broken};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::ids::Seq;
use crate::journal::directory::OpenError;
use crate::journal::reader::{ReadError, log_start, segments};
use crate::journal::segment::SEGMENT_HEADER_BYTES;
use crate::journal::snapshot as snapshot_file;
use crate::journal::storage::Storage;
use crate::journal::stream::Stream;
use crate::testing::Model;
use crate::testing::disk::DiskFault;
use crate::units::TimestampMs;

/// Bytes of a segment's header that are always zero and that nothing reads.
const HEADER_UNUSED: std::ops::Range<usize> = 56..64;

impl World {
    /// Before a start, now and then.
    pub(super) fn flips(&mut self) -> Result<(), Broken> {
        if self.random.chance(25) {
            self.flip_in_log()?;
        }
        let snapshots = snapshot_file::list(&*self.stage).unwrap_or_default();
        // One damaged snapshot is survived, by the one before it or the whole log. That both are gone is not.
        let spare = snapshots.len() > 1 || log_start(&*self.stage).is_ok_and(|start| start == Seq(0));
        let newest = snapshots.first().filter(|_| spare && self.damaged.is_none());
        if let Some(&newest) = newest.filter(|_| self.random.chance(15)) {
            let name = snapshot_file::name(newest);
            if self.disk.flip_bit(&name, 0, usize::MAX).is_some() {
                self.tally.work("bits flipped in a snapshot", 1);
                self.damaged = Some(name);
            }
        }
        Ok(())
    }

    /// On a copy, because a cell with a damaged log has no next life.
    // rule: JNL-4
    fn flip_in_log(&mut self) -> Result<(), Broken> {
        let copy = self.disk.copy_with(self.random.next());
        let names = segments(&copy).unwrap_or_default();
        let places = check::frames(&copy);
        if names.is_empty() {
            return Ok(());
        }
        let (_, segment) = &names[index(&mut self.random, names.len())];
        // Most flips where something was written.
        let used = places.iter().filter(|place| place.segment == *segment).map(|place| place.to).max();
        let end = used.filter(|_| self.random.chance(90)).unwrap_or(usize::MAX);
        let Some(at) = copy.flip_bit(segment, 0, end) else { return Ok(()) };
        self.tally.fault(&format!("{:?}", DiskFault::BitFlip), 1);
        let last = places.last();
        let hit = places.iter().find(|place| place.segment == *segment && (place.from..place.to).contains(&at));
        let storage: Arc<dyn Storage> = Arc::new(copy.clone());
        // A stream that has the last frame tells that it was durable.
        let redis = (self.with_redis && self.random.chance(50)).then(|| self.redis.copy());
        let head = redis.as_ref().map_or(Seq(0), |redis| redis.head().last);
        let stream = redis.map(|redis| -> Box<dyn Stream> { Box::new(redis.connect()) });
        let clock = |newest| Clock::simulated(Arc::clone(&self.time), newest);
        let opened = Engine::assemble(storage, stream, &self.config, Arc::new(PICKY), &clock, &mut |_| {});
        match opened {
            Ok((engine, parts, report)) => {
                let found = report.last;
                if found < head {
                    let what =
                        format!("a bit flipped in {segment} at {at}; the start accepts {found}, Redis has {head}");
                    return broken("FNC-5", what);
                }
                let from = report.snapshot.unwrap_or_default();
                self.accepted(found, from, at, segment, hit, last, &places)?;
                let mut model = self.history.model_at(found);
                grace(&mut model, &engine, parts.newest, self.config.hold_grace);
                self.tally.work("bit flips that were harmless", 1);
                same_records(&engine, &model).map_err(|Broken { rule, what }| Broken {
                    rule,
                    what: format!("a bit flipped in {segment} at {at}: {what}"),
                })
            }
            Err(OpenError::Read(ReadError::Damaged { path, offset, .. })) => {
                let expected = hit.map_or(0, |place| place.from as u64);
                let inside = used.is_some_and(|used| at < used) || hit.is_some();
                // A segment that was never used may be taken for what follows a torn tail.
                if used.is_some() && (path != self.disk.path(segment) || (inside && offset != expected)) {
                    let what = format!(
                        "a bit flipped in {segment} at {at}, and the start names {} at {offset}",
                        path.display()
                    );
                    return broken("JNL-4", what);
                }
                self.tally.work("bit flips refused by name", 1);
                Ok(())
            }
            Err(error) => broken("JNL-4", format!("a bit flipped in {segment} at {at}, and the start says: {error}")),
        }
    }

    /// It opened. Nothing that was read may have had the flip, but for the very last frame.
    #[expect(clippy::too_many_arguments, reason = "what is known of one flip")]
    fn accepted(
        &self,
        found: Seq,
        from: Seq,
        at: usize,
        segment: &str,
        hit: Option<&Place>,
        last: Option<&Place>,
        places: &[Place],
    ) -> Result<(), Broken> {
        let whole = self.history.last();
        let only_frame_of_last_segment = last.is_some_and(|last| {
            last.segment == segment && places.iter().filter(|place| place.segment == segment).count() == 1
        });
        let in_last = match (hit, last) {
            (Some(hit), Some(last)) => hit.first == last.first,
            (None, Some(_)) => at < SEGMENT_HEADER_BYTES && only_frame_of_last_segment,
            _ => false,
        };
        if in_last {
            return Ok(());
        }
        // Segments before the one that holds the snapshot's next entry are not read.
        let first_read = places.iter().rev().find(|place| place.first <= from.next()).map(|place| &place.segment);
        let unread = first_read.is_some_and(|first| segment < first.as_str());
        let header = at < SEGMENT_HEADER_BYTES && !HEADER_UNUSED.contains(&at);
        let used = places.iter().any(|place| place.segment == segment);
        if !unread && used && (hit.is_some() || header) {
            return broken("JNL-4", format!("a bit flipped in {segment} at {at} was accepted"));
        }
        if found < self.acked {
            let what = format!("a bit flipped in {segment} at {at}, and entries up to {} of {whole} are gone", found);
            return broken("JNL-4", what);
        }
        Ok(())
    }
}

/// What a start puts off.
pub(super) fn grace(model: &mut Model, engine: &Engine, newest: TimestampMs, grace: Duration) {
    if !grace.is_zero() {
        model.grace(newest.plus(Duration::from_millis(1)), engine.now().plus(grace));
    }
}

/// Everything but the keys, of which a state of the past does not have all.
pub(super) fn same_records(engine: &Engine, model: &Model) -> Result<(), Broken> {
    check::state(engine, model, &super::history::History::new())
}
