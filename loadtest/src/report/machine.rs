//! The server's CPU, memory and lag over the drive, and how the districts filled: charts for the page.

use super::charts::{Line, Outage, over_time};
use super::figures::milliseconds;
use crate::audit::Evidence;
use crate::history::{Op, Outcome};
use crate::name::Name;
use crate::run::RunRecord;
use crate::samples::Sample;

/// One value per second of the drive: of each second the last that was seen.
fn by_second(
    samples: &[Sample],
    began_us: i64,
    seconds: usize,
    of: impl Fn(&Sample) -> Option<f64>,
) -> Vec<Option<f64>> {
    let mut values = vec![None; seconds];
    for sample in samples {
        let second = usize::try_from((sample.at_us - began_us).div_euclid(1_000_000)).ok();
        if let Some(value) = second.and_then(|second| values.get_mut(second))
            && let Some(seen) = of(sample)
        {
            *value = Some(seen);
        }
    }
    values
}

/// CPUs in use between each sample and the one before, at the later one's time. A process that was started anew begins from
/// nothing.
fn cpus(samples: &[Sample], of: impl Fn(&Sample) -> Option<u64>) -> Vec<Sample> {
    let pairs = samples.windows(2).filter_map(|pair| {
        let (before, after) = (of(&pair[0])?, of(&pair[1])?);
        let passed_us = u64::try_from(pair[1].at_us - pair[0].at_us).ok().filter(|&us| us > 0)?;
        // In thousandths, kept in a field that is a whole number.
        let used = after.checked_sub(before)? * 1_000 / passed_us;
        Some(Sample { at_us: pair[1].at_us, connections: Some(used), ..Sample::default() })
    });
    pairs.collect()
}

#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn float(value: u64) -> f64 {
    value as f64
}

/// The three charts of the process; nothing of a run that saw nothing of it.
pub(super) fn server(samples: &[Sample], began_us: i64, seconds: usize, outages: &[Outage]) -> String {
    let mut html = String::new();
    let line = |name, class, values| Line { name, class, values };
    let used = |of: fn(&Sample) -> Option<u64>| {
        let spent = cpus(samples, of);
        by_second(&spent, began_us, seconds, |sample| sample.connections.map(|used| float(used) / 1_000.0))
    };
    let any = |values: &[Option<f64>]| values.iter().any(Option::is_some);
    let (server_cpu, own_cpu) = (used(|sample| sample.cpu_us), used(|sample| sample.generator_cpu_us));
    if any(&server_cpu) || any(&own_cpu) {
        html.push_str("<h2>CPUs in use</h2>");
        let lines = [line("server", "a", server_cpu), line("this generator", "c", own_cpu)];
        html.push_str(&over_time(&lines, outages, false));
    }
    let memory = by_second(samples, began_us, seconds, |sample| sample.rss_mib);
    if any(&memory) {
        html.push_str("<h2>Memory of the server, in MiB</h2>");
        html.push_str(&over_time(&[line("resident", "a", memory)], outages, false));
    }
    let of =
        |value: fn(&Sample) -> Option<u64>| by_second(samples, began_us, seconds, |sample| value(sample).map(float));
    let (journal, redis) = (of(|sample| sample.journal_lag), of(|sample| sample.redis_lag));
    if any(&journal) {
        html.push_str("<h2>Entries behind: not yet on disk, not yet in Redis; requests open</h2>");
        let mut lines = vec![line("not yet on disk", "d", journal)];
        if redis.iter().flatten().any(|&lag| lag > 0.0) {
            lines.push(line("not yet in Redis", "c", redis));
        }
        lines.push(line("requests open", "a", of(|sample| sample.requests_open)));
        html.push_str(&over_time(&lines, outages, false));
    }
    html
}

/// How full the country, its most and least popular districts, and one in the middle were, second by second: bookings acknowledged
/// and not cancelled since, in percent of their units.
pub(super) fn filling(record: &RunRecord, evidence: &Evidence, seconds: usize, outages: &[Outage]) -> String {
    let count = record.districts.len();
    if count == 0 || seconds == 0 {
        return String::new();
    }
    let district_of = |slot: Name| {
        let slot = evidence.export.slots.get(&slot)?;
        record.sessions.get(&slot.session).copied()
    };
    let began_us = evidence.began_us();
    let mut change = vec![vec![0_i64; seconds]; count];
    let mut booked: std::collections::BTreeMap<Name, usize> = std::collections::BTreeMap::new();
    let mut operations: Vec<_> = evidence.operations.iter().filter(|one| one.outcome == Outcome::Ok).collect();
    operations.sort_by_key(|one| one.received_us);
    for one in operations.iter().filter(|one| !one.replayed) {
        let second = usize::try_from((one.received_us - began_us).div_euclid(1_000_000)).unwrap_or(0);
        let second = second.min(seconds.saturating_sub(1));
        let mut step = |district: usize, by: i64| {
            if let Some(change) = change.get_mut(district).and_then(|of| of.get_mut(second)) {
                *change += by;
            }
        };
        if matches!(one.op, Op::Cancel | Op::Move | Op::NoShow)
            && let Some(district) = one.target.and_then(|code| booked.remove(&code))
        {
            step(district, -1);
        }
        if matches!(one.op, Op::Confirm | Op::Book | Op::Move | Op::WalkIn) {
            for told in &one.told {
                if let Some(district) = district_of(told.slot) {
                    booked.insert(told.booking, district);
                    step(district, 1);
                }
            }
        }
    }
    let share = |districts: &[usize]| -> Vec<Option<f64>> {
        let units: u64 = districts.iter().map(|&district| record.districts[district].units).sum();
        let mut sum = 0;
        (0..seconds)
            .map(|second| {
                sum += districts.iter().map(|&district| change[district][second]).sum::<i64>();
                (units > 0).then(|| milliseconds(sum) * 1_000.0 * 100.0 / float(units))
            })
            .collect()
    };
    let all: Vec<usize> = (0..count).collect();
    let mut lines = vec![Line { name: "all districts", class: "a", values: share(&all) }];
    for (name, class, place) in
        [("the first", "d", 0), ("one in the middle", "c", count / 2), ("the last", "b", count - 1)]
    {
        if count > 2 {
            lines.push(Line { name, class, values: share(&[place]) });
        }
    }
    format!(
        "<h2>Units booked, in percent of what is for sale</h2><p class=\"soft\">Districts stand in the order of how many people live there.</p>{}",
        over_time(&lines, outages, false)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_of_the_time_between_two_samples_and_a_new_process_begins_anew() {
        let sample = |at_us, cpu_us| Sample { at_us, cpu_us, ..Sample::default() };
        let samples = [
            sample(0, Some(100_000)),
            sample(1_000_000, Some(600_000)),
            sample(2_000_000, None),
            sample(3_000_000, Some(10_000)),
            sample(4_000_000, Some(2_010_000)),
        ];
        let spent = cpus(&samples, |sample| sample.cpu_us);
        let values = by_second(&spent, 0, 5, |sample| sample.connections.map(|used| float(used) / 1_000.0));
        assert_eq!(values, [None, Some(0.5), None, None, Some(2.0)]);
        assert!(server(&samples, 0, 5, &[]).contains("CPUs in use"));
        assert_eq!(server(&[], 0, 5, &[]), "");
    }
}
