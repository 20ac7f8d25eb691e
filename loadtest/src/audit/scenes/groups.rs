//! Several people in one request, and what searches show.

use super::{HOLD_US, Scene};
use crate::history::{Claim, Op, Operation, Outcome, Shown};

impl Scene {
    /// One request for several people, held under codes of their own.
    pub(in super::super) fn hold_group(&mut self, key: &str, group: &[(&str, &str, &str)]) -> &mut Self {
        let deadline_us = self.now_us + HOLD_US;
        let asked: Vec<Claim> = group.iter().map(|(party, slot, _)| self.claim(party, slot)).collect();
        for ((_, _, code), claim) in group.iter().zip(&asked) {
            self.claims.insert((*code).into(), claim.clone());
            self.deadlines.insert((*code).into(), deadline_us);
        }
        let told = group.iter().map(|(_, _, code)| self.told(code)).collect();
        let hold = Some(group[0].2.into());
        let expires_us = Some(deadline_us);
        self.push(Operation { target: None, asked, told, hold, expires_us, ..self.on(Op::Hold, key, "") })
    }

    /// The same without an answer.
    pub(in super::super) fn lost_group(&mut self, key: &str, group: &[(&str, &str)]) -> &mut Self {
        let asked = group.iter().map(|(party, slot)| self.claim(party, slot)).collect();
        let lost = Operation { target: None, asked, outcome: Outcome::Unknown, ..self.on(Op::Hold, key, "") };
        self.push(lost)
    }

    /// The last answer named only so many claims.
    pub(in super::super) fn told_only(&mut self, count: usize) -> &mut Self {
        self.operations.last_mut().unwrap().told.truncate(count);
        self
    }

    /// A search that showed these free units, as of so long before it was sent.
    pub(in super::super) fn search_shows(&mut self, old_us: i64, free: &[(&str, u64)]) -> &mut Self {
        let free = free.iter().map(|&(slot, free)| (slot.to_owned(), free)).collect();
        let shown = Some(Shown { as_of_us: self.now_us - old_us, free });
        let operation = Operation { key: None, shown, ..self.on(Op::Search, "", "d001") };
        self.push(operation)
    }
}
