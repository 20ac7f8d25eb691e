//! Why somebody may or may not have a dose, in words: the same rules as the engine asks, with what they said on the way.

use berth_engine::{
    Dose, INVITATION_SPENT, PartyFacts, Policy as _, PolicyRefusal, PoolId, ProductId, SlotFacts, TimestampMs,
};

use crate::programme::Programme;
use crate::rules::{
    BOOKING_HORIZON, BOOKING_OPENING, DOSE_ORDER, INVITATION, POOL_COHORT, POOL_DOSE, PROGRAMME, SAME_PRODUCT, Trace,
};

/// So far forth and back a day is looked for.
const DAYS_LOOKED: u16 = 3 * 366;

/// Who asks for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who.
    pub party: PartyFacts,
    /// What is given.
    pub product: ProductId,
    /// Which dose.
    pub dose: Dose,
    /// Of which pool; `None`: of one that is for everybody.
    pub pool: Option<PoolId>,
    /// The day of the visit (see [`crate::Calendar::day`]).
    pub on: u16,
    /// When it is booked.
    pub asked: TimestampMs,
    /// Invitations to the pool that the party's bookings have spent.
    pub invitations_spent: u32,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The rule that says no; `None`: yes.
    pub refusal: Option<PolicyRefusal>,
    /// The rules that said yes, in their order.
    pub passed: Vec<Passed>,
    /// If yes: the first of the days up to this one on all of which it is yes. `None` if it has been for three years.
    pub since: Option<u16>,
    /// If no: the first day from this one on on which it is yes, booked now or as soon as that can be. `None` if it is not within
    /// three years.
    pub from: Option<u16>,
    /// By when the dose should be given. Later is late, and not too late.
    pub due_by: Option<u16>,
    /// Since when the rules that judged have been in force; `None`: they are the file's first.
    pub rules_since: Option<TimestampMs>,
}

/// A rule that said yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Its name.
    pub rule: &'static str,
    /// Since when, where it has not always.
    pub since: Option<TimestampMs>,
}

impl Trace for Vec<Passed> {
    fn passed(&mut self, rule: &'static str, since: impl FnOnce() -> Option<TimestampMs>) {
        self.push(Passed { rule, since: since() });
    }
}

impl Programme {
    /// What the programme says to a question, and why.
    #[must_use]
    pub fn explain(&self, question: &Question) -> Explanation {
        let mut passed = Vec::new();
        let refusal = self.judge(question, &mut passed).err();
        let says_yes = |to: Question| self.judge(&to, &mut ()).is_ok();
        let earlier =
            |days: u16| Some(Question { on: question.on.checked_sub(days)?, ..self.moved(question, -i32::from(days)) });
        let (mut since, mut from) = (None, None);
        if refusal.is_some() {
            let mut days = (0..=DAYS_LOOKED).filter_map(|days| question.on.checked_add(days));
            from = days.find(|&on| self.opens(question, on));
        } else {
            let broken = (1..=DAYS_LOOKED).map_while(earlier).find(|&to| !says_yes(to));
            since = broken.map(|to| to.on + 1);
        }
        let slot = self.slot_of(question);
        let rules_since = self.compiled().changes().filter(|&from| from <= question.asked).last();
        let due_by = self.due_by(&question.party, &slot, question.dose, question.asked);
        Explanation { refusal, passed, since, from, due_by, rules_since }
    }

    /// Whether it is yes on that day, asked for now or as soon as it can be.
    fn opens(&self, question: &Question, on: u16) -> bool {
        let mut to = Question { on, ..*question };
        // The horizon may change on its way, and who is covered may have to wait for a minute besides.
        for _ in 0..4 {
            let Err(no) = self.judge(&to, &mut ()) else { return true };
            let waits =
                [BOOKING_HORIZON, BOOKING_OPENING, POOL_DOSE, POOL_COHORT, INVITATION, SAME_PRODUCT, DOSE_ORDER];
            match no.from.filter(|_| waits.contains(&no.rule)) {
                Some(from) => to.asked = from,
                None => return false,
            }
        }
        false
    }

    fn judge(&self, question: &Question, trace: &mut impl Trace) -> Result<(), PolicyRefusal> {
        let Question { party, dose, asked, .. } = question;
        let slot = self.slot_of(question);
        self.judge_claim(party, &slot, *dose, *asked, trace)?;
        // As the engine asks, after everything else.
        match self.invitations(party, &slot, *dose, *asked) {
            Some(given) if given <= question.invitations_spent => {
                Err(PolicyRefusal { rule: INVITATION_SPENT, from: None })
            }
            Some(_) => {
                trace.passed(INVITATION_SPENT, || None);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A slot of the day that can still be booked at the moment of asking, if any can.
    fn slot_of(&self, question: &Question) -> SlotFacts {
        let calendar = self.calendar();
        let (first, next) = (calendar.start_of_day(question.on), calendar.start_of_day(question.on.saturating_add(1)));
        let cutoff_ms = self.compiled().era(question.asked).booking_cutoff_ms;
        let last = next.0.saturating_sub(1).max(first.0);
        let starts_at = TimestampMs(question.asked.0.saturating_add(cutoff_ms).clamp(first.0, last));
        let pool = question.pool.unwrap_or(PoolId(0));
        SlotFacts { programme: PROGRAMME, dose: self.pool_dose(pool), product: question.product, pool, starts_at }
    }

    /// The same question, asked so many days later, at the same time of day.
    fn moved(&self, question: &Question, days: i32) -> Question {
        let calendar = self.calendar();
        let day = calendar.day(question.asked);
        let into_day = question.asked.0.saturating_sub(calendar.start_of_day(day).0);
        let day = u16::try_from(i32::from(day) + days).unwrap_or(if days < 0 { 0 } else { u16::MAX });
        Question { asked: TimestampMs(calendar.start_of_day(day).0.saturating_add(into_day)), ..*question }
    }
}
