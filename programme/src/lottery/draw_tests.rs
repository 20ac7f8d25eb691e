//! The draw, held against what it promises, with random lists; and files with one thing wrong.

use std::collections::BTreeMap;

use jiff::civil::{Date, date};
use proptest::prelude::*;

use super::draw::*;
use super::result::{ResultLine, verify};

const DAY: Date = date(2026, 12, 1);

fn slots(units: &[u32]) -> Vec<DrawnSlot> {
    let slot = |(at, units): (usize, &u32)| DrawnSlot {
        slot: format!("s1.{at}"),
        // Two windows of a session, two sessions of a centre.
        session: format!("s-{}", at / 2),
        centre: format!("c-{}", at / 4),
        date: DAY,
        units: *units,
    };
    units.iter().enumerate().map(slot).collect()
}

fn a_preference() -> impl Strategy<Value = Preference> {
    prop_oneof![
        3 => (0..6u8).prop_map(|at| Preference::Session(format!("s-{at}"))),
        1 => (0..3u8).prop_map(|at| Preference::CentreDay(format!("c-{at}"), DAY)),
    ]
}

fn registrations() -> impl Strategy<Value = Vec<Registration>> {
    proptest::collection::btree_map(0..500u32, proptest::collection::vec(a_preference(), 1..=PREFERENCES_MAX), 0..40)
        .prop_map(|all| {
            all.into_iter()
                .map(|(party, preferences)| Registration { party: format!("p1.{party}"), preferences })
                .collect()
        })
}

/// The file of a draw in which the programme refuses what `refuses` says.
fn drawn(
    seed: &[u8; 32],
    slots: &[DrawnSlot],
    list: &[Registration],
    refuses: impl Fn(&str, &str) -> bool,
) -> Vec<ResultLine> {
    let digest = digest("l", list);
    let mut units = Units::new(slots);
    let mut lines = vec![ResultLine::Lottery {
        id: "l".to_owned(),
        commitment: hex(&commitment(seed)),
        digest: hex(&digest),
        seed: hex(seed),
        slots: slots.to_vec(),
    }];
    let mut given_to = 0;
    for (registration, place) in order(seed, &digest, list).into_iter().zip(1u64..) {
        let refused = |slot: &DrawnSlot| refuses(&registration.party, &slot.slot);
        let Came { passed, given } =
            units.turn(registration, |slot| if refused(slot) { Err("age_band".to_owned()) } else { Ok(()) });
        given_to += u64::from(given.is_some());
        let Registration { party, preferences } = registration.clone();
        lines.push(ResultLine::Registration { place, party, preferences, passed, given });
    }
    lines.push(ResultLine::End { registrations: list.len() as u64, given: given_to });
    lines
}

fn text(lines: &[ResultLine]) -> String {
    lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    // rule: LOT-1
    #[test]
    fn a_draw_keeps_its_promises_and_its_file_is_found_right(
        mut list in registrations(),
        units in proptest::collection::vec(0..4u32, 12),
        seed in any::<[u8; 32]>(),
        odd in 1..5usize,
    ) {
        in_order_of_parties(&mut list);
        let slots = slots(&units);
        let refuses = |party: &str, slot: &str| (party.len() * 7 + slot.len() + slot.as_bytes()[slot.len() - 1] as usize).is_multiple_of(odd + 1);
        let lines = drawn(&seed, &slots, &list, refuses);
        let told = verify(&text(&lines));
        prop_assert!(told.is_ok(), "{told:?}");
        // No slot gives more than it has, and nobody was passed over who could have had one: by a plain count.
        let mut left: BTreeMap<&str, u32> = slots.iter().map(|slot| (slot.slot.as_str(), slot.units)).collect();
        for line in &lines {
            let ResultLine::Registration { party, preferences, given, .. } = line else { continue };
            let wished = preferences.iter().flat_map(|wish| slots.iter().filter(move |slot| match wish {
                Preference::Session(id) => slot.session == *id,
                Preference::CentreDay(centre, day) => slot.centre == *centre && slot.date == *day,
            }));
            let first = wished.map(|slot| slot.slot.as_str()).find(|slot| left[slot] > 0 && !refuses(party, slot));
            prop_assert_eq!(first, given.as_deref());
            if let Some(given) = first {
                *left.get_mut(given).unwrap() -= 1;
            }
        }
        // Neither the order in which people registered nor their names are in it: another list, another order.
        let digest = digest("l", &list);
        let mut turned = list.clone();
        turned.reverse();
        let names = |list: &[&Registration]| list.iter().map(|one| one.party.clone()).collect::<Vec<_>>();
        prop_assert_eq!(names(&order(&seed, &digest, &list)), names(&order(&seed, &digest, &turned)));
    }

    // rule: LOT-1
    #[test]
    fn whatever_is_changed_in_a_file_is_found(
        mut list in registrations(),
        units in proptest::collection::vec(0..3u32, 12),
        seed in any::<[u8; 32]>(),
        at in any::<prop::sample::Index>(),
        what in 0..7u8,
    ) {
        prop_assume!(list.len() > 2);
        in_order_of_parties(&mut list);
        let slots = slots(&units);
        let good = drawn(&seed, &slots, &list, |_, _| false);
        let mut bad = good.clone();
        let row = 1 + at.index(list.len());
        match (&mut bad[row], what) {
            (ResultLine::Registration { given, passed, .. }, 0) => match given {
                Some(_) => *given = None,
                // Units that nobody had.
                None => match passed.pop() {
                    Some(last) => *given = Some(last.slot),
                    None => *given = Some("s1.0".to_owned()),
                },
            },
            (ResultLine::Registration { party, .. }, 1) => party.push('7'),
            (ResultLine::Registration { preferences, .. }, 2) => preferences.push(Preference::Session("s-9".to_owned())),
            (_, 3) => bad.swap(1, 2),
            (_, 4) => drop(bad.remove(row)),
            (_, 5) => drop(bad.pop()),
            _ => {
                if let ResultLine::Lottery { seed, .. } = &mut bad[0] {
                    let other = if seed.starts_with('0') { "1" } else { "0" };
                    seed.replace_range(..1, other);
                }
            }
        }
        prop_assert!(verify(&text(&good)).is_ok());
        prop_assert!(verify(&text(&bad)).is_err(), "{what}: {}", text(&bad));
    }
}

#[test]
fn the_order_is_what_anybody_computes() {
    // Computed apart, with Python's hmac and hashlib.
    let seed: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    assert_eq!(hex(&commitment(&seed)), "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd");
    let list = [
        Registration { party: "p1.2".to_owned(), preferences: vec![Preference::Session("a".to_owned())] },
        Registration { party: "p1.10".to_owned(), preferences: vec!["centre:c@2026-12-01".parse().unwrap()] },
    ];
    let plain = "berth lottery 1 l\np1.2 session:a\np1.10 centre:c@2026-12-01\n";
    assert_eq!(digest("l", &list), <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(plain)));
    let digest = digest("l", &list);
    assert_eq!(
        hex(&order_key(&seed, &digest, "p1.2")),
        "6efe32bf63bed5acc7ef71d76f0b0953e53c16ed0c2dc34f63d6ff63538d19e1"
    );
    assert_eq!(
        hex(&order_key(&seed, &digest, "p1.10")),
        "07c2b72eaf1288d97547b98d588745f7c698aa7e8c716649a81c597b8cdd0ac9"
    );
    let names: Vec<_> = order(&seed, &digest, &list).iter().map(|one| one.party.clone()).collect();
    assert_eq!(names, ["p1.10", "p1.2"]);
    let mut turned = [list[1].clone(), list[0].clone()];
    in_order_of_parties(&mut turned);
    assert_eq!(turned, list, "p1.2 before p1.10");
    assert_eq!(unhex(&hex(&seed)), Some(seed));
    for bad in ["session:", "session:a b", "centre:c", "centre:c@2026-13-01", "centre:c@20261201", "slot:a", ""] {
        assert!(bad.parse::<Preference>().is_err(), "{bad}");
    }
}
