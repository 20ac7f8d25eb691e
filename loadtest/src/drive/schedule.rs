//! The shared schedule: who is to act next, and when.
//!
//! A dispatcher moves people from "later" to "now" at their time; workers take from "now" in that order. Thinking people
//! go back to "later", so a worker is never kept busy by somebody who is only waiting.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::field::Field;
use super::journey::Task;

/// Tasks by due time, for many workers.
#[derive(Debug)]
pub(crate) struct Schedule {
    later: Mutex<BinaryHeap<Reverse<Due>>>,
    now: Mutex<VecDeque<Task>>,
    /// One permit per task in `now`; closed when the drive is over.
    ready: Semaphore,
    changed: Notify,
    /// Tasks that exist anywhere: later, now, or in a worker's hands. The drive is over at 0.
    open: AtomicU64,
}

#[derive(Debug)]
struct Due {
    at_us: i64,
    /// Breaks ties in the order of adding.
    order: u64,
    task: Task,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.order) == (other.at_us, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Schedule {
    pub(crate) fn new() -> Self {
        Self {
            later: Mutex::default(),
            now: Mutex::default(),
            ready: Semaphore::new(0),
            changed: Notify::new(),
            open: AtomicU64::new(0),
        }
    }

    /// Adds new people. They count until their last step is done.
    pub(crate) fn add(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut later = lock(&self.later);
        for task in tasks {
            let order = self.open.fetch_add(1, SeqCst);
            later.push(Reverse(Due { at_us: task.due_us, order, task }));
        }
        drop(later);
        self.changed.notify_one();
    }

    /// Takes back a person who has a further step, at its due time.
    pub(crate) fn again(&self, task: Task) {
        let mut later = lock(&self.later);
        later.push(Reverse(Due { at_us: task.due_us, order: 0, task }));
        drop(later);
        self.changed.notify_one();
    }

    /// One person has done their last step.
    pub(crate) fn done(&self) {
        if self.open.fetch_sub(1, SeqCst) == 1 {
            self.changed.notify_one();
        }
    }

    /// Keeps the drive open for somebody who is not a person: a kill that has still to strike.
    pub(crate) fn keep_open(&self) {
        self.open.fetch_add(1, SeqCst);
    }

    /// The next person whose time has come; none when the drive is over.
    pub(crate) async fn next(&self) -> Option<Task> {
        let permit = self.ready.acquire().await.ok()?;
        permit.forget();
        lock(&self.now).pop_front()
    }

    /// Ends the drive: workers finish the step at hand and take no other.
    pub(crate) fn close(&self) {
        self.ready.close();
        self.changed.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.ready.is_closed()
    }

    /// People whose time has come and whom nobody has taken yet.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.now).len()
    }

    /// Moves everybody who is due at `now_us`; returns how long until the next one.
    fn release_due(&self, now_us: i64) -> Option<Duration> {
        let mut later = lock(&self.later);
        let mut released = 0;
        let mut now = lock(&self.now);
        while let Some(Reverse(due)) = later.peek() {
            if due.at_us > now_us {
                break;
            }
            if let Some(Reverse(due)) = later.pop() {
                now.push_back(due.task);
                released += 1;
            }
        }
        let next = later.peek().map(|Reverse(due)| u64::try_from(due.at_us - now_us).unwrap_or(0));
        drop(now);
        drop(later);
        self.ready.add_permits(released);
        next.map(Duration::from_micros)
    }
}

/// Runs until the schedule is empty or closed.
pub(crate) async fn dispatch(field: Arc<Field>) {
    let schedule = &field.schedule;
    loop {
        let until_next = schedule.release_due(field.clock.now_us()).unwrap_or(Duration::from_secs(1));
        if schedule.open.load(SeqCst) == 0 {
            schedule.close();
        }
        if schedule.ready.is_closed() {
            return;
        }
        let _ = tokio::time::timeout(until_next.min(Duration::from_secs(1)), schedule.changed.notified()).await;
    }
}
