//! Promise `full-disk`: while the disk is full, claims are refused with `journal_full` and live ones are still settled;
//! afterwards service resumes by itself.

use super::evidence::Evidence;
use super::hurts::{HurtFacts, hurts};
use super::record::Operation;
use super::{Finding, Promise};
use crate::fault::Fault;
use crate::history::{Op, Outcome};

/// How long after the disk was freed a claim may still be refused: the journal looks for room ten times a second.
const RESUME_SLACK_US: i64 = 3_000_000;

/// What a refusal for want of room in the journal is called.
const FULL: &str = "journal_full";

pub(crate) fn judge(evidence: &Evidence) -> (String, Vec<Finding>) {
    let windows = windows(evidence);
    let mut findings = Vec::new();
    let mut broken = |what: String, operation: &Operation| {
        let story = vec![tell(operation, evidence.began_us())];
        findings.push(Finding::new(Promise::FullDisk, what, story));
    };
    let refusals: Vec<&Operation> = evidence.operations.iter().filter(|operation| is_full(operation)).collect();
    for operation in &refusals {
        let word = operation.op.word();
        let within = |window: &HurtFacts| {
            let to_us = window.to_us.map_or(i64::MAX, |to_us| to_us + RESUME_SLACK_US);
            window.from_us <= operation.received_us && operation.sent_us <= to_us
        };
        if !windows.iter().any(within) {
            broken(format!("a {word} was refused with {FULL} while the disk had room"), operation);
        }
        if settles(operation.op) {
            broken(format!("a {word} was refused with {FULL}, though it only settles a claim"), operation);
        }
        if operation.status != Some(503) || operation.retry_after_s().is_none() {
            let status = operation.status.unwrap_or(0);
            broken(format!("{FULL} came as {status} with Retry-After {:?}", operation.retry_after_s()), operation);
        }
    }
    let (mut settled, mut resumed) = (0, 0);
    for window in &windows {
        let facts = Facts::of(evidence, window);
        settled += facts.settled;
        resumed += facts.resumed;
        if let (0, Some(asked)) = (facts.resumed, facts.asked_after) {
            broken("no claim succeeded after the disk was freed".into(), asked);
        }
    }
    let looked_at = format!(
        "{} full disks; {} claims refused, {settled} live claims settled meanwhile, {resumed} claims made afterwards",
        windows.len(),
        refusals.len()
    );
    (looked_at, findings)
}

/// Why the full disks of this run show too little, if they do.
pub(crate) fn proves_nothing(evidence: &Evidence, faults: &[Fault]) -> Vec<String> {
    let mut reasons = Vec::new();
    let windows = windows(evidence);
    for (number, fault) in (0_u32..).zip(faults).filter(|(_, fault)| fault.fills_disk()) {
        let name = format!("fault {} ({})", number + 1, fault.word());
        let Some(window) = windows.iter().find(|window| window.fault == number) else {
            reasons.push(format!("{name} never struck"));
            continue;
        };
        let facts = Facts::of(evidence, window);
        for (count, least, what) in [
            (facts.refused, fault.refused_min, "claims were refused for it"),
            (facts.settled, fault.settled_min, "live claims were settled meanwhile"),
            (facts.resumed, fault.resumed_min, "claims were made afterwards"),
        ] {
            if count < least {
                reasons.push(format!("{name}: {count} {what}, and the scenario asks for at least {least}"));
            }
        }
    }
    reasons
}

/// What one full disk came to.
struct Facts<'a> {
    refused: u64,
    /// Confirmations, releases and cancellations acknowledged between the first refusal and the freeing.
    settled: u64,
    /// Holds and bookings acknowledged that were sent after the freeing.
    resumed: u64,
    /// A claim that was asked for clearly after it.
    asked_after: Option<&'a Operation>,
}

impl<'a> Facts<'a> {
    fn of(evidence: &'a Evidence, window: &HurtFacts) -> Self {
        let to_us = window.to_us.unwrap_or(i64::MAX / 2);
        let refused: Vec<&Operation> = evidence
            .operations
            .iter()
            .filter(|operation| is_full(operation) && (window.from_us..=to_us).contains(&operation.received_us))
            .collect();
        let first_us = refused.iter().map(|operation| operation.received_us).min().unwrap_or(i64::MAX);
        let fresh = |operation: &&Operation| operation.outcome == Outcome::Ok && !operation.replayed;
        let settled = evidence.operations.iter().filter(fresh).filter(|operation| {
            settles(operation.op) && first_us <= operation.sent_us && operation.received_us <= to_us
        });
        let resumed = evidence.operations.iter().filter(fresh).filter(|one| one.op.claims() && to_us <= one.sent_us);
        let asked_after = |one: &&Operation| one.op.claims() && to_us + RESUME_SLACK_US <= one.sent_us;
        Self {
            refused: count(refused.len()),
            settled: count(settled.count()),
            resumed: count(resumed.count()),
            asked_after: evidence.operations.iter().find(asked_after),
        }
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn windows(evidence: &Evidence) -> Vec<HurtFacts> {
    hurts(evidence).into_iter().filter(|hurt| hurt.what == "disk-fill").collect()
}

fn is_full(operation: &Operation) -> bool {
    operation.code.as_deref() == Some(FULL)
}

/// Whether it ends or settles a claim that is there already.
fn settles(op: Op) -> bool {
    matches!(op, Op::Confirm | Op::Release | Op::Cancel)
}

fn tell(operation: &Operation, began_us: i64) -> String {
    let milliseconds = (operation.sent_us - began_us) / 1_000;
    format!(
        "+{}.{:03}s {} {} attempt {}: {:?} {}",
        milliseconds / 1_000,
        milliseconds % 1_000,
        operation.op.word(),
        operation.target.or(operation.key).map_or("?".into(), |name| name.to_string()),
        operation.attempt,
        operation.status,
        operation.code.as_deref().unwrap_or("")
    )
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;

    fn full_disk() -> Scene {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").hold("k2", "p1.2", "s1.1", "B").hurt("disk-fill");
        scene
    }

    fn fault(settled_min: u64) -> Vec<Fault> {
        let text = format!("disk = \"fill\"\nat_seconds = 0.0\nfor_seconds = 1.0\nsettled_min = {settled_min}");
        vec![toml::from_str(&text).unwrap()]
    }

    #[test]
    fn claims_refused_meanwhile_and_live_ones_settled_is_the_rule() {
        let mut scene = full_disk();
        scene.no_room("k3", "p1.3", "s1.1", Some(1)).confirm("k4", "A").healed(None);
        scene.hold("k3", "p1.3", "s1.1", "C");
        assert_eq!(broken(&scene, Promise::FullDisk), [""; 0]);
        assert_eq!(proves_nothing(&scene.evidence(), &fault(1)), [""; 0]);
        let too_few = proves_nothing(&scene.evidence(), &fault(2));
        assert_eq!(
            too_few,
            ["fault 1 (disk-fill): 1 live claims were settled meanwhile, and the scenario asks for at least 2"]
        );
    }

    #[test]
    fn a_settlement_that_is_refused_is_found() {
        let mut scene = full_disk();
        scene.no_room("k3", "p1.3", "s1.1", Some(1)).no_room_to("k4", Op::Confirm, "A").healed(None);
        scene.hold("k3", "p1.3", "s1.1", "C");
        assert_eq!(
            broken(&scene, Promise::FullDisk),
            ["a confirm was refused with journal_full, though it only settles a claim"]
        );
    }

    #[test]
    fn a_refusal_with_room_or_without_a_time_to_try_again_is_found() {
        let mut scene = full_disk();
        scene.no_room("k3", "p1.3", "s1.1", None).healed(None).wait_seconds(5);
        scene.no_room("k4", "p1.4", "s1.1", Some(1)).hold("k5", "p1.5", "s1.1", "C");
        assert_eq!(
            broken(&scene, Promise::FullDisk),
            [
                "journal_full came as 503 with Retry-After None",
                "a hold was refused with journal_full while the disk had room"
            ]
        );
    }

    #[test]
    fn a_service_that_does_not_resume_is_found() {
        let mut scene = full_disk();
        scene.no_room("k3", "p1.3", "s1.1", Some(1)).healed(None).wait_seconds(5);
        assert_eq!(broken(&scene, Promise::FullDisk), [""; 0], "nobody asked since");
        scene.lost_claim("k4", "p1.4", "s1.1");
        assert_eq!(broken(&scene, Promise::FullDisk), ["no claim succeeded after the disk was freed"]);
    }

    #[test]
    fn a_disk_that_never_filled_shows_nothing() {
        let found = proves_nothing(&Scene::new().evidence(), &fault(1));
        assert_eq!(found, ["fault 1 (disk-fill) never struck"]);
    }
}
