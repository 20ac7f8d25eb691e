//! Many persons at once: the same as one after the other.

use super::*;

#[test]
fn many_at_once_are_what_each_is_and_who_is_gone_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let mut parties: Vec<PartyId> = (0..70u8)
        .map(|number| {
            let account = (number < 60).then(|| world.account(number / 3));
            world.register(account, None).unwrap()
        })
        .collect();
    for (number, party) in parties.iter().enumerate() {
        world.rename(*party, named(&format!("Person {number} of Pune"))).unwrap();
    }
    world.erase(parties[7]).unwrap();
    world.merge(parties[20], parties[9]).unwrap();
    // In no order, one twice, and one whom nobody knows.
    parties.reverse();
    parties.extend([parties[3], PartyId(4_000_000)]);
    for some in [&parties[..], &parties[..5], &[]] {
        let found = world.people.views_of(some).unwrap();
        let mut there = 0;
        let asked: std::collections::BTreeSet<_> = some.iter().copied().collect();
        for party in asked {
            let Ok(view) = world.people.view(party) else {
                assert!(!found.contains_key(&party), "{party:?}");
                continue;
            };
            there += 1;
            let of = &found[&party];
            assert_eq!((of.party, of.account), (party, view.account));
            assert!(of.person == view.person && of.account_phone == view.account_phone, "{party:?}");
        }
        assert_eq!(found.len(), there);
    }
    assert_eq!(world.people.views_of(&parties).unwrap().len(), 68);
    world.close();
}
