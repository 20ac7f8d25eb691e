//! A key table that is put back from before.

use super::*;

// rule: PPL-3
#[test]
fn a_copy_of_the_keys_from_before_brings_nobody_back_and_tells_whom_it_misses() {
    for rebuilt in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_TABLE);
        let world = open(dir.path(), 0);
        let account = world.account(1);
        let [erased, stays, goes] = ["K1", "K2", "K3"].map(|id| world.register(Some(account), Some(id)).unwrap());
        let copy = std::fs::read(&path).unwrap();
        world.erase(erased).unwrap();
        world.merge(stays, goes).unwrap();
        // More than were made ahead by then.
        let mut last = KeyId(0);
        for _ in 0..1100 {
            last = world.people.tables.keys.take().unwrap().0;
        }
        let late = world.register(None, Some("K4")).unwrap();
        let key = |party| world.people.tables.person(party).unwrap().map(|row| row.key);
        let (live, new) = (key(stays).unwrap(), key(late).unwrap());
        assert!(new > last);
        let known = Checked { destroyed_again: 0, missing: 0 };
        assert_eq!(world.checked, known);
        world.close();
        std::fs::write(&path, &copy).unwrap();
        assert_eq!(erasures_behind(&path, &dir.path().join("store")).unwrap(), 2);
        if rebuilt {
            // The log is whole: it brings back the store, and destroys by itself.
            std::fs::remove_dir_all(dir.path().join("store")).unwrap();
        }
        let world = open(dir.path(), 1);
        // Of those made ahead none has anybody: they go, too.
        let again = world.checked;
        assert_eq!(
            (again.destroyed_again > 0, again.missing),
            if rebuilt { (false, 0) } else { (true, 1) },
            "{again:?}"
        );
        let file = std::fs::read(&path).unwrap();
        for record in copy.chunks(64).skip(1).filter(|_| !rebuilt) {
            let there = file.chunks(64).any(|other| other == record);
            let place = world.people.tables.keys.place(live).unwrap();
            let of_account = |at: usize| copy.chunks(64).nth(at).unwrap() == record;
            assert_eq!(there, of_account(1) || of_account(usize::try_from(place).unwrap()), "two keys have somebody");
        }
        assert!(world.people.view(erased) == Err(PeopleError::Unknown(erased)));
        assert!(world.people.view(goes) == Err(PeopleError::Merged(goes, stays)));
        assert_eq!(world.people.view(stays).unwrap().person.name, "Asha Rao");
        assert!(world.people.view(late).is_err(), "its key is not in the copy");
        let next = world.register(None, Some("K5")).unwrap();
        assert!(world.people.tables.person(next).unwrap().unwrap().key > new, "no place is used again");
        world.close();
        // Once is enough.
        let world = open(dir.path(), 2);
        assert_eq!(world.checked.destroyed_again, 0);
        assert!(world.people.view(next).is_ok());
        world.close();
    }
}
