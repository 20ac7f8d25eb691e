//! An overload: what was offered, what was served, and whether who was let in was served in time.
//!
//! Goodput is bookings acknowledged, because that is what people come for: an answer to a search that leads to nothing
//! is worth as little as a refusal. The peak is the best phase but the one of the overload.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::record::Operation;
use super::validity::{is_new_booking, quantile};
use super::{Finding, Promise};
use crate::history::{Op, Outcome};
use crate::scenario::Overload;

/// What the run notes for it, beside the history.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct OverloadFacts {
    /// How the server was held, in words.
    pub(crate) share: Option<String>,
    /// Each phase with its first and last instant.
    pub(crate) phases: Vec<(String, i64, i64)>,
    /// CPU time of the server and of the generator, now and then.
    pub(crate) cpu: Vec<CpuSample>,
    /// CPUs of the machine.
    pub(crate) cpus: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct CpuSample {
    pub(crate) at_us: i64,
    pub(crate) server_us: u64,
    pub(crate) generator_us: u64,
}

/// One phase, per second.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct PhaseFigures {
    pub(crate) phase: String,
    /// People who came, and how many of them were sent off: refused for want of room, or not let in at all.
    pub(crate) offered_per_second: f64,
    pub(crate) turned_away_per_second: f64,
    /// Of those, who found no connection, and who was told `overloaded`.
    pub(crate) no_connection_per_second: f64,
    pub(crate) overloaded_per_second: f64,
    /// Requests that were let in: answered with anything but a refusal for want of room, or left without an answer.
    pub(crate) admitted_per_second: f64,
    pub(crate) bookings_per_second: f64,
    /// Of those answers, from the sending, the making of a connection included; and from the intended start.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p99_from_intended_ms: f64,
    /// In CPUs.
    pub(crate) server_cpu: f64,
    pub(crate) generator_cpu: f64,
    /// Confirms told `overloaded`.
    pub(crate) confirms_refused: u64,
}

/// The phases in order, each without its first seconds.
pub(crate) fn phases(evidence: &Evidence, overload: &Overload) -> Vec<PhaseFigures> {
    let settle_us = micros(overload.settle_seconds);
    let facts = &evidence.overload;
    facts.phases.iter().map(|(name, from, to)| of_phase(evidence, name, from + settle_us, *to)).collect()
}

fn of_phase(evidence: &Evidence, name: &str, from_us: i64, to_us: i64) -> PhaseFigures {
    let seconds = seconds_of_us(to_us - from_us).max(f64::MIN_POSITIVE);
    let within = |at_us: i64| (from_us..to_us).contains(&at_us);
    let ended = || evidence.operations.iter().filter(|one| one.op != Op::Outcome && within(one.received_us));
    let per_second = |count: usize| exact(count) / seconds;
    let (mut service, mut latency) = (Vec::new(), Vec::new());
    for one in ended().filter(|one| is_admitted(one)) {
        service.push(one.received_us - one.sent_us);
        latency.push(one.received_us - one.intended_us);
    }
    let admitted = service.len();
    let ms = |samples: &mut Vec<i64>, share| seconds_of_us(quantile(samples, share)) * 1_000.0;
    let firsts = evidence.operations.iter().filter(|one| is_first(one) && within(one.intended_us));
    PhaseFigures {
        phase: name.to_owned(),
        offered_per_second: per_second(firsts.count()),
        turned_away_per_second: per_second(ended().filter(|one| is_first(one) && is_turned_away(one)).count()),
        no_connection_per_second: per_second(ended().filter(|one| found_no_connection(one)).count()),
        overloaded_per_second: per_second(ended().filter(|one| is_shed(one)).count()),
        admitted_per_second: per_second(admitted),
        bookings_per_second: per_second(ended().filter(|one| is_new_booking(one)).map(|one| one.told.len()).sum()),
        p50_ms: ms(&mut service, 0.5),
        p99_ms: ms(&mut service, 0.99),
        p99_from_intended_ms: ms(&mut latency, 0.99),
        server_cpu: cpus(evidence, from_us, to_us, |sample| sample.server_us),
        generator_cpu: cpus(evidence, from_us, to_us, |sample| sample.generator_us),
        confirms_refused: ended().filter(|one| one.op == Op::Confirm && is_shed(one)).count() as u64,
    }
}

/// The first thing a person does: a search, or where there is none, the claim itself.
fn is_first(one: &Operation) -> bool {
    one.op == Op::Search && one.attempt == 1
}

fn is_shed(one: &Operation) -> bool {
    one.code.as_deref() == Some("overloaded")
}

fn is_turned_away(one: &Operation) -> bool {
    is_shed(one) || one.outcome == Outcome::Unknown
}

/// Who was let in and then left without an answer waited, too: for as long as their client did.
fn is_admitted(one: &Operation) -> bool {
    !found_no_connection(one) && !is_shed(one)
}

fn found_no_connection(one: &Operation) -> bool {
    one.code.as_deref() == Some("no_connection")
}

/// CPUs used between two instants, from the samples nearest to them.
fn cpus(evidence: &Evidence, from_us: i64, to_us: i64, of: impl Fn(&CpuSample) -> u64) -> f64 {
    let within = |sample: &&CpuSample| (from_us..=to_us).contains(&sample.at_us);
    let mut samples = evidence.overload.cpu.iter().filter(within);
    let (Some(first), Some(last)) = (samples.next(), samples.next_back()) else { return 0.0 };
    exact_u64(of(last).saturating_sub(of(first))) / exact_u64(u64::try_from(last.at_us - first.at_us).unwrap_or(1))
}

/// The peak, and the overload beside it.
pub(crate) fn compared(evidence: &Evidence, overload: &Overload) -> Option<(PhaseFigures, PhaseFigures)> {
    let (over, others): (Vec<_>, Vec<_>) =
        phases(evidence, overload).into_iter().partition(|figures| figures.phase == overload.phase);
    let peak = others.into_iter().max_by(|a, b| a.bookings_per_second.total_cmp(&b.bookings_per_second))?;
    Some((peak, over.into_iter().next()?))
}

/// Judges the overload, if the scenario has one.
pub(super) fn judge(evidence: &Evidence, overload: Option<&Overload>) -> (String, Vec<Finding>) {
    let Some((overload, (peak, over))) = overload.and_then(|one| Some((one, compared(evidence, one)?))) else {
        return ("there was no overload".into(), Vec::new());
    };
    let mut findings = Vec::new();
    let mut find = |what: String, story: Vec<String>| findings.push(Finding::new(Promise::Overload, what, story));
    let share = over.bookings_per_second / peak.bookings_per_second.max(f64::MIN_POSITIVE);
    if share < overload.goodput_share_min {
        find(
            format!("goodput fell to {:.1} % of its peak", share * 100.0),
            vec![
                format!("{:.1} bookings/s in phase {}", peak.bookings_per_second, peak.phase),
                format!("{:.1} bookings/s in phase {}", over.bookings_per_second, over.phase),
            ],
        );
    }
    if over.p99_ms > overload.admitted_p99_ms_max {
        find(
            format!("one of a hundred who were let in waited {:.1} ms or more", over.p99_ms),
            vec![format!("the scenario allows {:.1} ms", overload.admitted_p99_ms_max)],
        );
    }
    let refused: Vec<&Operation> =
        evidence.operations.iter().filter(|one| one.op == Op::Confirm && is_shed(one)).collect();
    if !refused.is_empty() {
        let story = refused
            .iter()
            .take(3)
            .map(|one| format!("confirm of {}", one.target.map_or("?".into(), |name| name.to_string())));
        find(format!("{} confirms of live holds were refused for want of room", refused.len()), story.collect());
    }
    let unanswered = |one: &&Operation| one.outcome == Outcome::Unknown && !found_no_connection(one);
    let hung: Vec<_> = evidence.operations.iter().filter(|one| one.op == Op::Confirm).filter(unanswered).collect();
    if !hung.is_empty() {
        let story = hung.iter().take(3).map(|one| {
            let target = one.target.map_or_else(|| "?".into(), |target| target.to_string());
            format!("confirm of {target}: {}", one.code.as_deref().unwrap_or("unknown"))
        });
        find(format!("{} confirms were left without an answer", hung.len()), story.collect());
    }
    let looked_at = format!(
        "{:.0} people/s offered, {:.1} times the peak of {:.1} bookings/s; {:.1} bookings/s then, {:.1} % of it; \
         p99 of the admitted {:.1} ms; {} confirms refused",
        over.offered_per_second,
        over.offered_per_second / peak.bookings_per_second.max(f64::MIN_POSITIVE),
        peak.bookings_per_second,
        over.bookings_per_second,
        share * 100.0,
        over.p99_ms,
        refused.len()
    );
    (looked_at, findings)
}

/// Why the run does not show an overload, if it does not.
pub(super) fn proves_nothing(evidence: &Evidence, overload: &Overload) -> Vec<String> {
    let Some((peak, over)) = compared(evidence, overload) else {
        return vec!["the phases of the overload left no operations".into()];
    };
    let times = over.offered_per_second / peak.bookings_per_second.max(f64::MIN_POSITIVE);
    if times >= overload.times {
        return Vec::new();
    }
    vec![format!(
        "only {times:.1} times the peak of {:.1} bookings/s was offered, and the scenario asks for {:.1}",
        peak.bookings_per_second, overload.times
    )]
}

fn seconds_of_us(us: i64) -> f64 {
    exact_u64(u64::try_from(us).unwrap_or(0)) / 1_000_000.0
}

#[expect(clippy::cast_possible_truncation, reason = "some seconds of a scenario")]
fn micros(seconds: f64) -> i64 {
    (seconds * 1_000_000.0) as i64
}

fn exact(count: usize) -> f64 {
    exact_u64(count as u64)
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of one run, for people to read")]
fn exact_u64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::record::Told;
    use super::*;
    use crate::name::{Name, Word};

    fn overload() -> Overload {
        toml::from_str("phase = 'five'\nsettle_seconds = 0.0").unwrap()
    }

    /// Two phases of a second: in the first 100 people book, in the second so many of 500 do, each in so many ms.
    fn evidence(booked: i64, took_us: i64, last: Operation) -> Evidence {
        let mut evidence = Evidence::default();
        evidence.overload.phases = vec![("one".into(), 0, 1_000_000), ("five".into(), 1_000_000, 2_000_000)];
        let mut person = |at_us: i64, books: bool, took_us: i64| {
            let base = Operation {
                attempt: 1,
                intended_us: at_us,
                sent_us: at_us,
                received_us: at_us + took_us,
                ..Operation::default()
            };
            let search = Operation { op: Op::Search, outcome: Outcome::Ok, ..base.clone() };
            if !books {
                let code = Some(Word::new("overloaded"));
                evidence.operations.push(Operation { outcome: Outcome::Refused, code, ..search });
                return;
            }
            evidence.operations.push(search);
            let (booking, party, slot) = (Name::new("b"), Name::new("p"), Name::new("s"));
            let told = [Told { booking, party, slot, dose: 1, state: None }].into();
            evidence.operations.push(Operation { op: Op::Book, outcome: Outcome::Ok, told, ..base });
        };
        (0..100).for_each(|i| person(i * 9_000, true, 1_000));
        (0..500).for_each(|i| person(1_000_000 + i * 1_800, i < booked, took_us));
        evidence.operations.push(last);
        evidence
    }

    fn quiet() -> Operation {
        Operation { received_us: -1, ..Operation::default() }
    }

    fn found(evidence: &Evidence) -> Vec<String> {
        judge(evidence, Some(&overload())).1.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn goodput_that_stays_at_its_peak_is_no_finding() {
        let evidence = evidence(97, 2_000, quiet());
        assert_eq!(found(&evidence), Vec::<String>::new());
        assert_eq!(proves_nothing(&evidence, &overload()), Vec::<String>::new());
        let looked_at = judge(&evidence, Some(&overload())).0;
        assert!(looked_at.contains("500 people/s offered, 5.0 times the peak"), "{looked_at}");
    }

    #[test]
    fn goodput_that_falls_is_found() {
        assert_eq!(found(&evidence(80, 2_000, quiet())), ["goodput fell to 80.0 % of its peak"]);
    }

    #[test]
    fn an_admitted_request_that_waits_is_found() {
        assert_eq!(found(&evidence(98, 60_000, quiet())), ["one of a hundred who were let in waited 60.0 ms or more"]);
    }

    #[test]
    fn a_confirm_that_is_refused_is_found() {
        let confirm = Operation {
            op: Op::Confirm,
            outcome: Outcome::Refused,
            code: Some(Word::new("overloaded")),
            received_us: 1_500_000,
            ..Operation::default()
        };
        assert_eq!(found(&evidence(98, 2_000, confirm)), ["1 confirms of live holds were refused for want of room"]);
    }

    #[test]
    fn who_is_let_in_and_never_answered_counts_as_waiting_and_who_finds_no_connection_does_not() {
        let without_answer = |code: &str| {
            let mut evidence = evidence(98, 2_000, quiet());
            for one in evidence.operations.iter_mut().filter(|one| one.op == Op::Search).take(150) {
                *one = Operation {
                    outcome: Outcome::Unknown,
                    code: Some(Word::new(code)),
                    received_us: 1_900_000,
                    sent_us: 1_000_000,
                    ..one.clone()
                };
            }
            found(&evidence)
        };
        assert_eq!(without_answer("timed_out"), ["one of a hundred who were let in waited 900.0 ms or more"]);
        assert_eq!(without_answer("no_connection"), Vec::<String>::new());
    }

    #[test]
    fn a_confirm_that_is_never_answered_is_found() {
        let confirm =
            Operation { op: Op::Confirm, code: Some(Word::new("timed_out")), received_us: -1, ..Operation::default() };
        assert_eq!(found(&evidence(98, 2_000, confirm)), ["1 confirms were left without an answer"]);
    }

    #[test]
    fn less_than_was_asked_for_proves_nothing() {
        let six = Overload { times: 6.0, ..overload() };
        assert_eq!(proves_nothing(&evidence(98, 2_000, quiet()), &six).len(), 1);
    }
}
