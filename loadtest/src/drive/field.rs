//! What all workers share during a drive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use super::ask::Left;
use super::journey::Task;
use super::meter::Meter;
use super::schedule::Schedule;
use crate::history::{Clock, Recorder};
use crate::plan::{Arrival, Plan};
use crate::scenario::{FirstDay, Phase, Scenario};

/// The drive's shared state. Workers hold it by reference; nothing here blocks for long.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) scenario: Scenario,
    pub(crate) clock: Clock,
    pub(crate) recorder: Recorder,
    pub(crate) schedule: Schedule,
    pub(crate) meter: Meter,
    /// `Bearer ...` of the platform key. Never printed, never recorded.
    pub(crate) authorization: String,
    pub(crate) districts: Vec<String>,
    /// The first and the number of days on sale.
    pub(crate) from: String,
    pub(crate) days: u32,
    /// Pool to the dose it is for.
    pub(crate) doses: HashMap<String, u8>,
    /// When the sessions open, where they are closed at first.
    pub(crate) opens_us: Option<i64>,
    /// Whether the first day for sale is today, so that there are people at the doors.
    pub(crate) today: bool,
    /// All units for sale.
    pub(crate) units: u64,
    /// Whether the server is believed to answer.
    pub(crate) up: watch::Sender<bool>,
    plan: Plan,
    began: Duration,
    parties: PartyNames,
    run_id: String,
    keys: AtomicU64,
    next_arrival: AtomicU64,
    /// What everybody knows of each district: the slots somebody last saw, popular first.
    known: Vec<RwLock<Arc<Vec<Offer>>>>,
    left: Mutex<Vec<Left>>,
}

/// A slot somebody saw free units in.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) slot: String,
    pub(crate) dose: u8,
}

/// What [`Field::new`] is made of.
#[derive(Debug)]
pub(crate) struct FieldParts {
    pub(crate) scenario: Scenario,
    pub(crate) clock: Clock,
    pub(crate) recorder: Recorder,
    pub(crate) plan: Plan,
    pub(crate) platform_key: String,
    pub(crate) districts: Vec<String>,
    pub(crate) from: String,
    pub(crate) days: u32,
    pub(crate) doses: HashMap<String, u8>,
    pub(crate) first_party: String,
    pub(crate) run_id: String,
    pub(crate) units: u64,
}

#[derive(Debug)]
struct PartyNames {
    prefix: String,
    first: u64,
    /// How many people come by each account; none where accounts are not named.
    per_account: Option<u64>,
}

/// Workers need a moment to stand ready; the first person comes after it.
const READY_AFTER: Duration = Duration::from_millis(1_500);

impl Field {
    /// Puts the plan's people on the schedule, from a moment after now.
    pub(crate) fn new(parts: FieldParts) -> Option<Self> {
        let (prefix, first) = parts.first_party.rsplit_once('.')?;
        let population = &parts.scenario.population;
        let per_account = population.accounts.map(|accounts| u64::from(population.parties.div_ceil(accounts)));
        let parties = PartyNames { prefix: format!("{prefix}."), first: first.parse().ok()?, per_account };
        let began = parts.clock.elapsed() + READY_AFTER;
        let shape = parts.scenario.inventory.as_ref();
        let opens = shape.and_then(|shape| shape.opens_at_seconds).map(Duration::from_secs_f64);
        let field = Self {
            known: parts.districts.iter().map(|_| RwLock::default()).collect(),
            authorization: format!("Bearer {}", parts.platform_key),
            began,
            opens_us: opens.map(|opens| parts.clock.at_us(began + opens)),
            today: shape.is_some_and(|shape| shape.first_day == FirstDay::Today),
            units: parts.units,
            next_arrival: AtomicU64::new(u64::try_from(parts.plan.arrivals.len()).unwrap_or(u64::MAX)),
            scenario: parts.scenario,
            clock: parts.clock,
            recorder: parts.recorder,
            schedule: Schedule::new(),
            meter: Meter::default(),
            districts: parts.districts,
            from: parts.from,
            days: parts.days,
            doses: parts.doses,
            up: watch::Sender::new(true),
            plan: parts.plan,
            parties,
            run_id: parts.run_id,
            keys: AtomicU64::new(0),
            left: Mutex::default(),
        };
        let tasks: Vec<Task> = field.plan.arrivals.iter().map(|arrival| field.task_of(arrival.clone())).collect();
        field.schedule.add(tasks);
        Some(field)
    }

    /// How many people come in all, crowds included so far.
    pub(crate) fn plan_len(&self) -> u64 {
        self.next_arrival.load(Relaxed)
    }

    /// Whether the history keeps what this person's searches showed: of so few people in a large run that it stays small.
    pub(crate) fn notes_search(&self, arrival: u64) -> bool {
        const PEOPLE_MAX: u64 = 20_000;
        arrival.is_multiple_of(1 + self.plan_len() / PEOPLE_MAX)
    }

    /// Each phase of the arrivals with its first and last instant.
    pub(crate) fn phases(&self) -> Vec<(String, i64, i64)> {
        let of = |((name, at), phase): (&(String, Duration), &Phase)| {
            let begins = self.began + *at;
            let ends = begins + Duration::from_secs_f64(phase.seconds());
            (name.clone(), self.clock.at_us(begins), self.clock.at_us(ends))
        };
        self.plan.phases.iter().zip(&self.scenario.arrivals).map(of).collect()
    }

    pub(crate) fn since_drive_began(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.began)
    }

    /// Waits while the server is known to be down; false when the drive ends first.
    pub(crate) async fn server_is_up(&self) -> bool {
        let mut up = self.up.subscribe();
        while !self.schedule.is_closed() {
            if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(200), up.wait_for(|up| *up)).await {
                return true;
            }
        }
        false
    }

    /// Lets `count` further people rush in at once, now.
    pub(crate) fn call_crowd(&self, count: u32) {
        let first = self.next_arrival.fetch_add(u64::from(count), Relaxed);
        let crowd = self.plan.crowd(first, count, self.since_drive_began());
        self.schedule.add(crowd.into_iter().map(|arrival| self.task_of(arrival)));
    }

    pub(crate) fn new_key(&self) -> String {
        format!("{}-{}", self.run_id, self.keys.fetch_add(1, Relaxed))
    }

    pub(crate) fn party(&self, number: u32) -> String {
        format!("{}{}", self.parties.prefix, self.parties.first + u64::from(number))
    }

    /// The number of a party that the run has made; the first is 0.
    pub(crate) fn number_of(&self, party: &str) -> Option<u64> {
        let number: u64 = party.strip_prefix(&self.parties.prefix)?.parse().ok()?;
        number.checked_sub(self.parties.first)
    }

    /// The account by which a party comes, where the scenario has accounts. Families are neighbours, so they mostly share one.
    pub(crate) fn account_of(&self, party: &str) -> Option<String> {
        let account = self.number_of(party)? / self.parties.per_account?;
        Some(format!("{}-account-{account}", self.run_id))
    }

    /// The slots somebody last saw in a district.
    pub(crate) fn known(&self, district: usize) -> Arc<Vec<Offer>> {
        self.known
            .get(district)
            .map(|known| Arc::clone(&known.read().unwrap_or_else(PoisonError::into_inner)))
            .unwrap_or_default()
    }

    /// Tells everybody what was seen. An empty sight is not news: people then still rush to what they knew.
    pub(crate) fn tell(&self, district: usize, offers: &Arc<Vec<Offer>>) {
        if let (Some(known), false) = (self.known.get(district), offers.is_empty()) {
            *known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(offers);
        }
    }

    /// Remembers a request whose outcome is still unknown after its last attempt.
    pub(crate) fn leave(&self, left: Left) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push(left);
    }

    pub(crate) fn take_left(&self) -> Vec<Left> {
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn task_of(&self, arrival: Arrival) -> Task {
        let due_us = self.clock.at_us(self.began + arrival.at);
        Task::arriving(arrival, due_us)
    }
}
