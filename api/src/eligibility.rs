//! What the programme says to who may have what, as it is told: to a command line and over HTTP, in the same members.

use berth_engine::TimestampMs;
use berth_programme::{Calendar, Explanation, Programme, Question, sentence};
use serde::Serialize;

/// The answer to one question.
#[derive(Debug, Serialize)]
pub(crate) struct Eligibility {
    pub(crate) eligible: bool,
    pub(crate) product: String,
    pub(crate) dose: u8,
    /// The day of the visit.
    pub(crate) on: String,
    /// When it is asked for.
    pub(crate) asked: String,
    /// The rule that says no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<&'static str>,
    /// What that rule asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<&'static str>,
    /// From when that rule says yes, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule_from: Option<String>,
    /// The first later day on which every rule says yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The first of the days up to this one on all of which it is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    /// By when the dose should be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) due_by: Option<String>,
    /// Since when the rules that judged are in force; absent: they are the file's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rules_since: Option<String>,
    /// Every rule on the way, in the order in which they are asked; of a no, the last one is that which says it.
    pub(crate) rules: Vec<RuleSaid>,
}

/// What one rule said.
#[derive(Debug, Serialize)]
pub(crate) struct RuleSaid {
    pub(crate) rule: &'static str,
    pub(crate) says: &'static str,
    pub(crate) asks: &'static str,
    /// Since when it says yes, or from when it will.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
}

impl Eligibility {
    /// The answer in words of the wire.
    pub(crate) fn new(programme: &Programme, question: &Question, told: &Explanation) -> Eligibility {
        let calendar = programme.calendar();
        let time = |at: TimestampMs| calendar.rfc3339(at);
        let date = |day: u16| Calendar::date_of(day).to_string();
        let said =
            |rule, says, from: Option<TimestampMs>| RuleSaid { rule, says, asks: sentence(rule), from: from.map(time) };
        let mut rules: Vec<_> = told.passed.iter().map(|passed| said(passed.rule, "yes", passed.since)).collect();
        rules.extend(told.refusal.map(|no| said(no.rule, "no", no.from)));
        Eligibility {
            eligible: told.refusal.is_none(),
            product: programme.product(question.product).map_or_else(String::new, |product| product.id.clone()),
            dose: question.dose.0,
            on: date(question.on),
            asked: time(question.asked),
            rule: told.refusal.map(|no| no.rule),
            detail: told.refusal.map(|no| sentence(no.rule)),
            rule_from: told.refusal.and_then(|no| no.from).map(time),
            from: told.from.map(date),
            since: told.since.map(date),
            due_by: told.due_by.map(date),
            rules_since: told.rules_since.map(time),
            rules,
        }
    }
}
