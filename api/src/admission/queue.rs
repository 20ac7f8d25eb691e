//! Those who wait for a place: a queue for each class, all of them bounded together.

use std::collections::VecDeque;

use tokio::sync::oneshot::{Receiver, Sender, channel};

use super::Place;
use super::class::Class;

#[derive(Default)]
pub(super) struct Queue {
    classes: [VecDeque<Sender<Place>>; Class::ALL.len()],
}

impl Queue {
    /// Joins behind the others of the class. Where there is no room, the newest of the lowest class gives way, if that
    /// is lower; its own turn then never comes.
    // rule: ADM-3
    pub(super) fn join(&mut self, class: Class, len_max: usize) -> Option<Receiver<Place>> {
        self.forget_gone();
        if self.len() >= len_max {
            let lowest = Class::ALL.into_iter().rev().find(|lower| !self.classes[*lower as usize].is_empty())?;
            if lowest <= class {
                return None;
            }
            self.classes[lowest as usize].pop_back();
        }
        let (turn, wait) = channel();
        self.classes[class as usize].push_back(turn);
        Some(wait)
    }

    /// The next whose turn it is.
    // rule: ADM-3
    pub(super) fn next(&mut self) -> Option<Sender<Place>> {
        self.forget_gone();
        self.classes.iter_mut().find_map(VecDeque::pop_front)
    }

    /// Forgets those at the front who have left: their time was over, or their client is gone. All of a class wait equally
    /// long, so those whose time is over stand in front.
    pub(super) fn forget_gone(&mut self) {
        for class in &mut self.classes {
            while class.front().is_some_and(Sender::is_closed) {
                class.pop_front();
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }

    pub(super) fn waiting(&self, class: Class) -> usize {
        self.classes[class as usize].len()
    }
}
