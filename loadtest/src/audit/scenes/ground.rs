//! What happens to Redis and the disk, and how the server answers meanwhile.

use super::Scene;
use crate::ground::Witness;
use crate::history::{Mark, MarkKind, Op, Operation, Outcome};

impl Scene {
    pub(in super::super) fn hurt(&mut self, what: &str) -> &mut Self {
        self.marks.push(Mark { at_us: self.now_us, mark: MarkKind::Hurt { fault: 0, what: what.into() } });
        self
    }

    pub(in super::super) fn healed(&mut self, lost_entries: Option<u64>) -> &mut Self {
        self.marks.push(Mark { at_us: self.now_us, mark: MarkKind::Healed { fault: 0, lost_entries } });
        self
    }

    pub(in super::super) fn redis_holds(&mut self, witness: Witness) -> &mut Self {
        self.redis = Some(witness);
        self
    }

    /// A claim for which the journal has no room.
    pub(in super::super) fn no_room(
        &mut self,
        key: &str,
        party: &str,
        slot: &str,
        retry_after_s: Option<u64>,
    ) -> &mut Self {
        let code = Some("journal_full".into());
        let no = Operation { status: Some(503), outcome: Outcome::Refused, code, ..self.unanswered(key, party, slot) };
        let operation = Operation { retry_after_s, ..no };
        self.push(operation)
    }

    /// A change of a live claim for which it has none.
    pub(in super::super) fn no_room_to(&mut self, key: &str, op: Op, target: &str) -> &mut Self {
        self.unserved(key, op, target, "journal_full")
    }

    pub(in super::super) fn unserved(&mut self, key: &str, op: Op, target: &str, code: &str) -> &mut Self {
        let operation = Operation {
            outcome: Outcome::Unknown,
            status: Some(503),
            code: Some(code.into()),
            retry_after_s: Some(1),
            ..self.on(op, key, target)
        };
        self.push(operation)
    }
}
