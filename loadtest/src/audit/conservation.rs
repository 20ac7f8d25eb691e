//! Promise `conservation`: the counts of each slot are those of the bookings that stand on it, a move included, and the
//! journal's own sum is the export's.

use std::collections::{BTreeMap, BTreeSet};

use super::Promise;
use super::evidence::{Evidence, Export};
use super::findings::Found;
use super::journal::Walk;
use crate::inventory::Published;
use crate::name::{Map, Name};

/// The export without a server is judged in full: replay has counted its units anew. The running server's own counts are
/// judged once all holds have run out, for then nothing changes while it is read.
pub(crate) fn judge(evidence: &Evidence, walk: &Walk) -> (String, Found) {
    let mut found = Found::none(Promise::Conservation);
    counts(&evidence.export, "after the end", &mut found);
    if let Some(live) = evidence.live_export.as_ref().filter(|_| evidence.settled_us.is_some()) {
        counts(live, "of the running server", &mut found);
    }
    against_published(evidence, &mut found);
    against_entries(evidence, walk, &mut found);
    let (capacity, held, booked) = evidence
        .export
        .slots
        .values()
        .fold((0, 0, 0), |sum, slot| (sum.0 + slot.capacity, sum.1 + slot.held, sum.2 + slot.booked));
    let free = i128::from(capacity) - i128::from(held) - i128::from(booked);
    (format!("{capacity} units = {free} free + {held} held + {booked} booked"), found)
}

fn counts(export: &Export, which: &str, found: &mut Found) {
    #[derive(Default)]
    struct Sum {
        held: u64,
        booked: u64,
        /// A no-show may or may not have given its unit back.
        no_show: u64,
    }
    let mut sums: Map<Name, Sum> = Map::default();
    for line in export.bookings.values() {
        let sum = sums.entry(line.slot).or_default();
        match &*line.state {
            "held" => sum.held += 1,
            "booked" | "checked_in" | "completed" => sum.booked += 1,
            "no_show" => sum.no_show += 1,
            _ => {}
        }
    }
    for slot in export.slots.values() {
        let sum = sums.remove(&slot.slot).unwrap_or_default();
        let booked = sum.booked..=sum.booked + sum.no_show;
        if slot.held != sum.held || !booked.contains(&slot.booked) {
            let story = || {
                vec![
                    format!("its line says capacity {}, held {}, booked {}", slot.capacity, slot.held, slot.booked),
                    format!("its bookings are {} held and {} booked", sum.held, sum.booked),
                ]
            };
            found.told(|| format!("slot {} does not count what stands on it in the export {which}", slot.slot), story);
        }
    }
    let mut unlisted: Vec<Name> = sums.into_keys().collect();
    unlisted.sort_unstable();
    for slot in unlisted {
        found.told(|| format!("bookings stand on slot {slot}, which the export {which} does not list"), Vec::new);
    }
}

/// Each session has in each pool the slots that were published, with their units. Which window a slot is of no export
/// says, so the units of one session and pool are compared in order of size; the journal knows each slot's own.
fn against_published(evidence: &Evidence, found: &mut Found) {
    let Some(published) = &evidence.published else { return };
    let mut exported = Published::new();
    for slot in evidence.export.slots.values() {
        exported.entry(slot.session.clone()).or_default().entry(slot.pool.clone()).or_default().push(slot.capacity);
    }
    for units in exported.values_mut().flat_map(BTreeMap::values_mut) {
        units.sort_unstable();
    }
    let pairs = |of: &Published| -> BTreeSet<(String, String)> {
        of.iter().flat_map(|(session, pools)| pools.keys().map(|pool| (session.clone(), pool.clone()))).collect()
    };
    for (session, pool) in &pairs(published) | &pairs(&exported) {
        let units = |of: &Published| of.get(&session).and_then(|pools| pools.get(&pool)).cloned().unwrap_or_default();
        let (wanted, there) = (units(published), units(&exported));
        if wanted != there {
            let what = || {
                format!(
                    "slots of session {session} and pool {pool} were published with units {wanted:?} and have {there:?} in the export"
                )
            };
            found.told(what, Vec::new);
        }
    }
}

/// The export is the journal's sum: the same codes in the same states, the same slots with the same capacity.
fn against_entries(evidence: &Evidence, walk: &Walk, found: &mut Found) {
    for slot in evidence.export.slots.values().filter(|_| !walk.capacities.is_empty()) {
        let written = walk.capacities.get(&slot.slot).copied();
        if written != Some(slot.capacity) {
            let what = || {
                format!(
                    "slot {} has a capacity of {} in the export and {} by the journal's entries",
                    slot.slot,
                    slot.capacity,
                    written.map_or_else(|| "none".into(), |capacity| capacity.to_string())
                )
            };
            found.told(what, Vec::new);
        }
    }
    for code in evidence.export.codes() {
        let line = &evidence.export.bookings[&code];
        let written = walk.codes.get(&code).map(|born| born.state);
        if written != Some(&*line.state) {
            let what = || {
                let written = written.unwrap_or("absent");
                format!("booking {code} is {} in the export and {written} by the journal's entries", line.state)
            };
            found.about(what, &[code]);
        }
    }
    if walk.codes.len() == evidence.export.bookings.len() && found.count == 0 {
        return;
    }
    let mut missing: Vec<_> =
        walk.codes.iter().filter(|(code, _)| !evidence.export.bookings.contains_key(code)).collect();
    missing.sort_unstable_by_key(|(code, _)| **code);
    for (code, born) in missing {
        let what =
            || format!("booking {code} is {} by journal entry {} and absent from the export", born.state, born.seq);
        found.about(what, &[*code]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;

    fn sold() -> Scene {
        let mut scene = Scene::new();
        scene.capacity("s1.1", 3).book("k1", "p1.1", "s1.1", "A").hold("k2", "p1.2", "s1.1", "B");
        scene.hold("k3", "p1.3", "s1.1", "C").state("A", "booked").state("B", "held").state("C", "expired");
        scene
    }

    #[test]
    fn counts_that_add_up_are_fine() {
        assert_eq!(broken(&sold(), Promise::Conservation), [""; 0]);
    }

    #[test]
    fn units_that_were_never_published_are_found() {
        let mut scene = sold();
        assert_eq!(broken(scene.published(&[3]), Promise::Conservation), [""; 0]);
        let found = broken(scene.published(&[4]), Promise::Conservation);
        assert!(found[0].contains("published with units [4] and have [3]"), "{found:?}");
    }

    #[test]
    fn slots_that_exchange_capacity_are_found() {
        let mut scene = sold();
        scene.capacity("s1.2", 5).published(&[3, 5]);
        assert_eq!(broken(&scene, Promise::Conservation), [""; 0]);
        // One unit from one slot to the other: the sum is as it was.
        scene.capacity("s1.1", 4).capacity("s1.2", 4);
        assert!(broken(&scene, Promise::Conservation)[0].contains("[3, 5] and have [4, 4]"));
        // A plain exchange keeps even the list; the journal's own entry knows which slot had what.
        let mut scene = sold();
        scene.capacity("s1.2", 5).published(&[3, 5]).entry_published(&[("s1.1", 3), ("s1.2", 5)]);
        assert_eq!(broken(&scene, Promise::Conservation), [""; 0]);
        scene.capacity("s1.1", 5).capacity("s1.2", 3);
        let found = broken(&scene, Promise::Conservation);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("slot s1.1 has a capacity of 5 in the export and 3 by the journal"), "{found:?}");
    }

    #[test]
    fn a_leaked_unit_is_found() {
        let mut scene = sold();
        scene.miscount("s1.1", 2, 1);
        assert!(broken(&scene, Promise::Conservation)[0].contains("does not count what stands on it"));
        let mut scene = sold();
        scene.miscount("s1.1", 1, 0);
        assert_eq!(broken(&scene, Promise::Conservation).len(), 1);
    }

    #[test]
    fn an_export_that_is_not_the_journals_sum_is_found() {
        let mut scene = sold();
        scene.export_says("A", "cancelled").miscount("s1.1", 1, 0);
        assert!(broken(&scene, Promise::Conservation)[0].contains("booked by the journal's entries"));
        let mut scene = sold();
        scene.export_forgets("C");
        assert!(broken(&scene, Promise::Conservation)[0].contains("absent from the export"));
    }
}
