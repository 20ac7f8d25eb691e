//! Admission: who may enter now, in which order, and who is told to come again.
//!
//! A request is *at work* from the moment its head is read until it has run as far as it can without waiting for the
//! disk or Redis ([`place`]). How many may be at work at once is the *limit*. While requests do not wait, nothing is limited in effect.
//! Once they do ([`control`] measures it), every request but a confirm of a live hold first gives way to the heads that are ready to be read, so that those
//! who wait are counted and their class is known; whoever is over the limit waits in a short queue by class ([`queue`]), or is
//! refused ([`shed`]). The limit follows the delay ([`limit`]).
//!
//! Nothing has been done for a request that is refused here: its body is not read and its key stays free.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

pub(crate) use self::class::{Class, Rank, may_settle, rank};
pub(crate) use self::control::{Gate, control};
use self::limit::Limit;
pub(crate) use self::place::{Place, Reading, RunningOfClass};
use self::queue::Queue;
pub(crate) use self::settings::{Entry, Mode, Settings};
pub(crate) use self::shed::{Reason, Shed};

mod class;
mod control;
mod limit;
mod place;
mod queue;
mod settings;
mod shed;
#[cfg(test)]
mod tests;

/// The gate of one server.
pub(crate) struct Admission {
    settings: RwLock<Settings>,
    /// The limit in force; no bound when switched off. Written by the control loop and by whoever changes the settings.
    limit: AtomicUsize,
    control: Mutex<Limit>,
    /// Requests wait: they are counted before they run, and connections are let in one for one.
    strained: AtomicBool,
    /// Classes that an operator has switched off, a bit each.
    switched_off: AtomicU8,
    at_work: AtomicUsize,
    /// The most that were at work, or wanted to be, since the control loop last looked.
    most: AtomicUsize,
    /// The same between its two last looks.
    recent_most: AtomicUsize,
    queue: Mutex<Queue>,
    queued: AtomicUsize,
    /// Of requests that were counted before they ran: how long they waited, and how many they were, since the last look.
    waited_nanos: AtomicU64,
    waited: AtomicU64,
    /// The delay that the control loop goes by.
    delay_nanos: AtomicU64,
    /// Connections that were let in while requests waited.
    pub(crate) gated: AtomicU64,
    classes: [ClassCounters; Class::ALL.len()],
    sheds: [[AtomicU64; Reason::ALL.len()]; Class::ALL.len()],
}

#[derive(Default)]
struct ClassCounters {
    running: AtomicU64,
    admitted: AtomicU64,
}

impl Admission {
    pub(crate) fn new(settings: Settings) -> Arc<Admission> {
        let admission = Admission {
            limit: AtomicUsize::new(usize::MAX),
            control: Mutex::new(Limit::new()),
            strained: AtomicBool::new(false),
            switched_off: AtomicU8::new(0),
            at_work: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            recent_most: AtomicUsize::new(0),
            queue: Mutex::new(Queue::default()),
            queued: AtomicUsize::new(0),
            waited_nanos: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            delay_nanos: AtomicU64::new(0),
            gated: AtomicU64::new(0),
            classes: std::array::from_fn(|_| ClassCounters::default()),
            sheds: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            settings: RwLock::new(settings.clone()),
        };
        admission.switch(settings);
        Arc::new(admission)
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings.read().clone()
    }

    /// Puts other settings in force, for every request from now on.
    pub(crate) fn switch(&self, settings: Settings) {
        let _ = self.change(|_| Ok::<_, ()>(settings));
    }

    /// Puts what `over` makes of the settings in force in their place: of two changes at once the second sees the first.
    pub(crate) fn change<E>(&self, over: impl FnOnce(&Settings) -> Result<Settings, E>) -> Result<Settings, E> {
        let mut in_force = self.settings.write();
        let settings = over(&in_force)?;
        let mut control = self.control.lock();
        control.reset(&settings);
        // Relaxed, all three: each is read for itself, and a request that comes beside the change may meet either.
        self.limit.store(control.now(&settings), Relaxed);
        self.switched_off.store(settings.shed.iter().fold(0, |bits, class| bits | class.bit()), Relaxed);
        if settings.mode != Mode::Adaptive {
            self.strained.store(false, Relaxed);
        }
        in_force.clone_from(&settings);
        Ok(settings)
    }

    /// Whether requests of a class are taken at all.
    pub(crate) fn takes(&self, class: Class) -> bool {
        self.switched_off.load(Relaxed) & class.bit() == 0
    }

    /// Lets a request enter, after waiting for its turn if need be.
    ///
    /// # Errors
    /// Why it may not; nothing was done for it.
    pub(crate) async fn enter(self: &Arc<Self>, rank: Rank) -> Result<Place, Shed> {
        let Rank { class, exempt } = rank;
        // rule: ADM-1 whoever confirms a live hold is never refused here
        if !exempt && self.switched_off.load(Relaxed) & class.bit() != 0 {
            return Err(self.refuse(class, Reason::SwitchedOff));
        }
        let read = Instant::now();
        let others = self.at_work.fetch_add(1, Relaxed);
        // Relaxed: counts; a guess that is one request old is good enough, the queue decides under its lock.
        if self.most.load(Relaxed) <= others {
            self.most.fetch_max(others + 1, Relaxed);
        }
        let place = Place::new(self);
        // rule: ADM-3 nobody passes those of a higher class who wait
        if !exempt && (others >= self.limit.load(Relaxed) || self.queued.load(Relaxed) > 0) {
            // Its place goes to whoever has waited longest; its own turn comes by the queue.
            drop(place);
            let place = self.wait_in_queue(class).await?;
            self.count_wait(read);
            return Ok(self.admitted(class, place));
        }
        // Whom nothing can hold up has nobody to give way to.
        if !exempt && self.strained.load(Relaxed) {
            tokio::task::yield_now().await;
            self.count_wait(read);
        }
        Ok(self.admitted(class, place))
    }

    async fn wait_in_queue(self: &Arc<Self>, class: Class) -> Result<Place, Shed> {
        let (queue_max, time) = {
            let settings = self.settings.read();
            (settings.queue_max.min(self.limit.load(Relaxed).max(settings.limit_min)), settings.queue_time)
        };
        let joined = {
            let mut queue = self.queue.lock();
            let joined = queue.join(class, queue_max);
            self.queued.store(queue.len(), Relaxed);
            joined
        };
        let Some(mut turn) = joined else { return Err(self.refuse(class, Reason::QueueFull)) };
        // Room may have come between the look at the limit and the joining.
        self.hand_over();
        match tokio::time::timeout(time, &mut turn).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(self.refuse(class, Reason::Displaced)),
            // A place given in this very moment is taken; one that nobody takes goes back when `turn` is dropped.
            Err(_) => turn.try_recv().map_err(|_| {
                // Gone now, or it would still be counted among those who wait.
                turn.close();
                let mut queue = self.queue.lock();
                queue.forget_gone();
                self.queued.store(queue.len(), Relaxed);
                drop(queue);
                self.refuse(class, Reason::QueueTime)
            }),
        }
    }

    /// Gives free places to those who wait, the highest class first.
    fn hand_over(self: &Arc<Self>) {
        // Who gives a place up counts it and then looks whether anybody waits; who joins the queue is counted there and then
        // looks whether there is a place. Without an order of all between the two steps of each, both could see what was before,
        // and one would wait beside a free place until its time is over.
        fence(SeqCst);
        if self.queued.load(Relaxed) == 0 {
            return;
        }
        let mut queue = self.queue.lock();
        while self.at_work.load(Relaxed) < self.limit.load(Relaxed) {
            let Some(turn) = queue.next() else { break };
            self.at_work.fetch_add(1, Relaxed);
            if let Err(place) = turn.send(Place::new(self)) {
                // Gone in this moment. Not dropped: that would come back here, under the lock.
                place.disarm();
                self.at_work.fetch_sub(1, Relaxed);
            }
        }
        self.queued.store(queue.len(), Relaxed);
    }

    fn admitted(&self, class: Class, place: Place) -> Place {
        self.classes[class as usize].admitted.fetch_add(1, Relaxed);
        place
    }

    fn count_wait(&self, since: Instant) {
        let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.waited_nanos.fetch_add(nanos, Relaxed);
        self.waited.fetch_add(1, Relaxed);
    }

    /// Counts a request that is refused.
    pub(crate) fn refuse(&self, class: Class, reason: Reason) -> Shed {
        self.sheds[class as usize][reason as usize].fetch_add(1, Relaxed);
        Shed { class, reason }
    }

    /// Counts a request of this class as running for as long as the guard lives.
    pub(crate) fn running(self: &Arc<Self>, class: Class) -> RunningOfClass {
        self.classes[class as usize].running.fetch_add(1, Relaxed);
        RunningOfClass(Arc::clone(self), class)
    }

    pub(crate) fn is_strained(&self) -> bool {
        self.strained.load(Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn strain(&self, strained: bool) {
        self.strained.store(strained, Relaxed);
    }

    /// What the metrics and the route show.
    pub(crate) fn state(&self) -> State {
        let mut waiting = [0; Class::ALL.len()];
        let queue = self.queue.lock();
        for class in Class::ALL {
            waiting[class as usize] = queue.waiting(class) as u64;
        }
        drop(queue);
        State {
            limit: self.limit.load(Relaxed),
            at_work: self.at_work.load(Relaxed),
            strained: self.is_strained(),
            delay: Duration::from_nanos(self.delay_nanos.load(Relaxed)),
            waiting,
            running: std::array::from_fn(|class| self.classes[class].running.load(Relaxed)),
            admitted: std::array::from_fn(|class| self.classes[class].admitted.load(Relaxed)),
            sheds: std::array::from_fn(|class| std::array::from_fn(|reason| self.sheds[class][reason].load(Relaxed))),
        }
    }

    /// One look of the control loop: how late it was itself, beside what requests waited since the last look.
    fn look(self: &Arc<Self>, late: Duration) {
        self.follow(late);
        // The limit may have gone up, by this or by a change of the settings: nobody has given a place up for that.
        self.hand_over();
    }

    fn follow(&self, late: Duration) {
        let settings = self.settings.read();
        if settings.mode != Mode::Adaptive {
            self.delay_nanos.store(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Relaxed);
            return;
        }
        let (nanos, count) = (self.waited_nanos.swap(0, Relaxed), self.waited.swap(0, Relaxed));
        let waited = Duration::from_nanos(nanos.checked_div(count).unwrap_or(0));
        let most = self.most.swap(self.at_work.load(Relaxed), Relaxed);
        self.recent_most.store(most, Relaxed);
        let mut control = self.control.lock();
        control.look(late.max(waited), most, &settings);
        self.delay_nanos.store(u64::try_from(control.delay().as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.limit.store(control.now(&settings), Relaxed);
        self.strained.store(control.strained(), Relaxed);
    }
}

/// What is going on, as it is shown.
pub(crate) struct State {
    pub(crate) limit: usize,
    pub(crate) at_work: usize,
    pub(crate) strained: bool,
    pub(crate) delay: Duration,
    pub(crate) waiting: [u64; Class::ALL.len()],
    pub(crate) running: [u64; Class::ALL.len()],
    pub(crate) admitted: [u64; Class::ALL.len()],
    pub(crate) sheds: [[u64; Reason::ALL.len()]; Class::ALL.len()],
}
