//! Promise `redis-copy`: whatever happens to Redis, booking goes on; once Redis is back and the write-behind has caught up,
//! its stream is the journal: the same frames, none missing, none twice, each linked to the one before.

use std::collections::HashMap;

use super::evidence::Evidence;
use super::hurts::{HurtFacts, hurts};
use super::validity::is_new_booking;
use super::{Finding, Promise};
use crate::fault::{Fault, RedisFault};
use crate::ground::{FrameLine, Witness};

pub(crate) fn judge(evidence: &Evidence) -> (String, Vec<Finding>) {
    let Some(witness) = &evidence.redis else {
        let what = "nothing was read from Redis".to_owned();
        return (what.clone(), vec![Finding::new(Promise::RedisCopy, what, Vec::new())]);
    };
    let mut broken = Vec::new();
    caught_up(witness, &mut broken);
    chain(witness, &mut broken);
    same_as_the_log(witness, &mut broken);
    let mut findings: Vec<Finding> =
        broken.into_iter().map(|what| Finding::new(Promise::RedisCopy, what, Vec::new())).collect();
    findings.extend(refused_meanwhile(evidence));
    let looked_at = format!(
        "{} frames up to entry {} in Redis, {} in the log; {} times hurt",
        witness.stream.len(),
        witness.last,
        witness.log.len(),
        windows(evidence).len()
    );
    (looked_at, findings)
}

/// Why the faults of Redis in this run show too little, if they do.
pub(crate) fn proves_nothing(evidence: &Evidence, faults: &[Fault]) -> Vec<String> {
    let mut reasons = Vec::new();
    let windows = windows(evidence);
    for (number, fault) in (0_u32..).zip(faults) {
        let Some(how) = fault.redis else { continue };
        let name = format!("fault {} ({})", number + 1, fault.word());
        let Some(window) = windows.iter().find(|window| window.fault == number) else {
            reasons.push(format!("{name} never struck"));
            continue;
        };
        let Some(to_us) = window.to_us else {
            reasons.push(format!("{name} was never healed"));
            continue;
        };
        let bookings: usize = evidence
            .operations
            .iter()
            .filter(|one| is_new_booking(one) && window.from_us <= one.sent_us && one.received_us <= to_us)
            .map(|one| one.told.len())
            .sum();
        if u64::try_from(bookings).unwrap_or(u64::MAX) < fault.acknowledged_min {
            reasons.push(format!(
                "{name}: {bookings} bookings were acknowledged meanwhile, and the scenario asks for at least {}",
                fault.acknowledged_min
            ));
        }
        let must_lose = matches!(how, RedisFault::Wipe | RedisFault::FailoverLostTail);
        if must_lose && window.lost_entries == Some(0) {
            reasons.push(format!("{name} lost no entry of the stream, so there was nothing to heal"));
        }
    }
    reasons
}

fn windows(evidence: &Evidence) -> Vec<HurtFacts> {
    hurts(evidence).into_iter().filter(|hurt| hurt.what.starts_with("redis-")).collect()
}

fn caught_up(witness: &Witness, broken: &mut Vec<String>) {
    match witness.caught_up_seq {
        None => broken.push("the write-behind never caught up after the drive".into()),
        Some(seq) if witness.last < seq => broken.push(format!(
            "the server said that entry {seq} is in Redis, and the head of the stream is {}",
            witness.last
        )),
        Some(_) => {}
    }
}

/// The stream in itself: whole frames, each behind the other, up to what the head says.
fn chain(witness: &Witness, broken: &mut Vec<String>) {
    for frame in &witness.stream {
        if !frame.sound {
            broken.push(format!("stream entry {} is not a whole frame", frame.id));
        } else if frame.id != format!("{}-0", frame.last) {
            broken.push(format!("stream entry {} holds a frame that ends with entry {}", frame.id, frame.last));
        }
    }
    for pair in witness.stream.windows(2) {
        let [before, frame] = pair else { continue };
        if frame.first != before.last + 1 {
            let kind = if frame.first > before.last { "a hole" } else { "a duplicate" };
            broken.push(format!("the stream has {kind}: {} follows {}", frame.first, before.last));
        } else if frame.previous != before.link {
            broken.push(format!("frame {} of the stream is not linked to the one before", frame.first));
        }
        if frame.epoch < before.epoch {
            broken.push(format!("frame {} of the stream is of an older epoch than the one before", frame.first));
        }
    }
    let (said, named) = (witness.last, &witness.link);
    match witness.stream.last() {
        Some(frame) if (frame.last, &frame.link) != (said, named) => {
            broken.push(format!("the head says {said} {named}, and the last frame is {} {}", frame.last, frame.link));
        }
        None if said != witness.base => broken.push(format!("the head says {said}, and there is no frame")),
        _ => {}
    }
}

/// The stream beside the log, frame by frame.
fn same_as_the_log(witness: &Witness, broken: &mut Vec<String>) {
    let log: HashMap<u64, &FrameLine> = witness.log.iter().map(|frame| (frame.first, frame)).collect();
    let log_begins = witness.log.first().map_or(1, |frame| frame.first);
    // What is not in the stream must be in a snapshot beside it.
    let s0s = witness.snapshots.split(' ').filter_map(|snapshot| snapshot.split('/').next()?.parse::<u64>().ok());
    let behind = if s0s.max() >= Some(witness.base) { witness.base } else { 0 };
    let may_begin = log_begins.max(behind + 1);
    if let Some(first) = witness.stream.first().filter(|frame| frame.first > may_begin) {
        broken.push(format!("the stream begins with entry {}, the log with {log_begins}", first.first));
    }
    for frame in witness.stream.iter().filter(|frame| frame.last >= log_begins) {
        match log.get(&frame.first) {
            None => broken.push(format!("Redis holds a frame from entry {} on that the log has not", frame.first)),
            Some(own) if (own.last, &own.link, own.epoch) != (frame.last, &frame.link, frame.epoch) => {
                broken.push(format!("the frame from entry {} on is another in Redis than in the log", frame.first));
            }
            Some(_) => {}
        }
    }
}

/// Redis is behind the journal: that it is away is no reason to refuse anything.
fn refused_meanwhile(evidence: &Evidence) -> Vec<Finding> {
    let windows = windows(evidence);
    let away = |at_us: i64| {
        windows.iter().find(|window| window.from_us <= at_us && window.to_us.is_none_or(|to_us| at_us <= to_us))
    };
    let unserved = evidence.operations.iter().filter(|one| {
        one.op.changes()
            && one.status.is_some_and(|status| status >= 500)
            // The disk, and the crowd: neither is Redis.
            && !matches!(one.code.as_deref(), Some("journal_full" | "overloaded"))
    });
    unserved
        .filter_map(|one| {
            let window = away(one.received_us)?;
            let code = one.code.as_deref().unwrap_or("no code");
            let what = format!("a {} was answered with {code} during {}", one.op.word(), window.what);
            Some(Finding::new(Promise::RedisCopy, what, Vec::new()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;
    use crate::history::Op;

    /// Frames of two entries each, whose links are their places.
    fn frames(count: u64, in_stream: bool) -> Vec<FrameLine> {
        let frame = |place: u64| FrameLine {
            id: if in_stream { format!("{}-0", place * 2) } else { String::new() },
            first: place * 2 - 1,
            last: place * 2,
            epoch: 1,
            previous: (place - 1).to_string(),
            link: place.to_string(),
            bytes: 64,
            sound: true,
        };
        (1..=count).map(frame).collect()
    }

    fn copied() -> Witness {
        Witness {
            caught_up_seq: Some(8),
            last: 8,
            link: "4".into(),
            stream: frames(4, true),
            log: frames(4, false),
            ..Witness::default()
        }
    }

    fn found(bend: impl FnOnce(&mut Witness)) -> Vec<String> {
        let mut witness = copied();
        bend(&mut witness);
        let mut scene = Scene::new();
        scene.redis_holds(witness);
        broken(&scene, Promise::RedisCopy)
    }

    #[test]
    fn a_true_copy_is_fine() {
        assert_eq!(found(|_| {}), [""; 0]);
        // A stream that was trimmed behind a snapshot; one that was installed with it and has no frame yet.
        let trimmed = |all: &mut Witness, frames: usize| {
            all.stream.drain(..frames);
            (all.base, all.snapshots) = (2 * u64::try_from(frames).unwrap(), format!("{}/9/3/700", 2 * frames));
        };
        assert_eq!(found(|witness| trimmed(witness, 2)), [""; 0]);
        assert_eq!(found(|witness| trimmed(witness, 4)), [""; 0]);
        assert!(
            found(|witness| {
                trimmed(witness, 2);
                witness.snapshots.clear();
            })[0]
                .contains("begins with entry 5, the log with 1")
        );
        // What was written after the server had said that all was there may still be on its way.
        assert_eq!(found(|witness| witness.log = frames(5, false)), [""; 0]);
    }

    #[test]
    fn every_difference_is_found() {
        let two = |all: &mut Witness| all.stream.remove(1);
        assert_eq!(found(|all| drop(two(all))), ["the stream has a hole: 5 follows 2"]);
        assert!(found(|all| all.stream.insert(1, all.stream[1].clone()))[0].contains("a duplicate: 3 follows 4"));
        assert!(found(|all| all.stream[2].previous = "9".into())[0].contains("not linked"));
        assert!(found(|all| all.stream[2].sound = false)[0].contains("not a whole frame"));
        assert!(found(|all| all.stream[2].id = "7-0".into())[0].contains("ends with entry 6"));
        assert!(found(|all| all.log[2].link = "9".into())[0].contains("is another in Redis"));
        assert!(found(|all| drop(all.log.pop()))[0].contains("that the log has not"));
        assert!(found(|all| drop(all.stream.remove(0)))[0].contains("begins with entry 3, the log with 1"));
        assert!(found(|all| all.link = "3".into())[0].contains("the head says 8 3"));
        assert!(found(|all| all.stream[3].epoch = 0)[0].contains("older epoch"));
        assert!(found(|all| all.caught_up_seq = None)[0].contains("never caught up"));
        assert!(found(|all| all.caught_up_seq = Some(9))[0].contains("said that entry 9 is in Redis"));
    }

    #[test]
    fn a_refusal_because_redis_is_away_is_found() {
        let mut scene = Scene::new();
        scene.redis_holds(copied()).hold("k1", "p1.1", "s1.1", "A").hurt("redis-stop");
        scene.unserved("k2", Op::Confirm, "A", "redis_stopped");
        // What is not for Redis: the server has too much to do.
        scene.unserved("k3", Op::Confirm, "A", "overloaded").healed(Some(0));
        assert_eq!(broken(&scene, Promise::RedisCopy), ["a confirm was answered with redis_stopped during redis-stop"]);
    }

    #[test]
    fn a_fault_that_nobody_met_or_that_lost_nothing_shows_nothing() {
        let fault: Fault = toml::from_str("redis = \"wipe\"\nat_seconds = 0.0\nfor_seconds = 1.0").unwrap();
        let reasons = |scene: &Scene| proves_nothing(&scene.evidence(), std::slice::from_ref(&fault));
        assert_eq!(reasons(&Scene::new()), ["fault 1 (redis-wipe) never struck"]);
        let mut scene = Scene::new();
        scene.hurt("redis-wipe").healed(Some(0));
        let found = reasons(&scene).join("\n");
        assert!(found.contains("0 bookings were acknowledged") && found.contains("lost no entry"), "{found}");
        let mut scene = Scene::new();
        scene.hurt("redis-wipe").book("k1", "p1.1", "s1.1", "A").healed(Some(7));
        assert_eq!(reasons(&scene), [""; 0]);
    }
}
