//! What was noted of doses, and whose they are, through merges and erasure.

use berth_engine::PartyFacts;

use super::*;
use crate::doses::history::revoked;
use crate::doses::{CannotChange, Details, DoseNote, DoseRecord};

impl World {
    /// A dose given today to who came without a booking.
    fn give(&self, party: PartyId, batch: &str) -> BookingNumber {
        let now = self.engine.now();
        let facts =
            SlotFacts { programme: PROGRAMME, dose: Dose(0), product: ProductId(1), pool: PoolId(3), starts_at: now };
        let slots = [SlotSpec { centre: CentreKey(1), capacity: Units::new(9).unwrap(), facts }];
        let slot = match self.submit(Command::Publish { slots: &slots, note: b"" }).unwrap() {
            Outcome::Published { slots, .. } => slots[0],
            other => panic!("{other:?}"),
        };
        let claim = Claim { party, slot, dose: Dose(1) };
        let booking = match self.submit(Command::WalkIn { claim }).unwrap() {
            Outcome::WalkedIn { claim } => claim.number,
            other => panic!("{other:?}"),
        };
        let details = Details { given_at: now, product: ProductId(1), batch: batch.to_owned(), ..Details::default() };
        let note = self.doses.bytes(party, &DoseNote::Given { details, author: "operator:x".to_owned() }).unwrap();
        let product = Some(ProductId(1));
        self.submit(Command::CompleteNoted { booking, given_at: now, product, note: &note }).unwrap();
        self.settle();
        booking
    }

    fn revoke(&self, party: PartyId, booking: BookingNumber) {
        let facts = self.facts(party);
        let note = DoseNote::Revoked { booking, reason: "typo".to_owned(), author: "operator:x".to_owned() };
        let note = self.doses.bytes(party, &note).unwrap();
        self.submit(Command::ChangeFacts { party, facts, expected: None, note: &note }).unwrap();
        self.settle();
    }

    fn settle(&self) {
        let seq = self.engine.appended();
        self.engine.ticket(seq).wait().unwrap();
        self.store.wait(seq, TIME).unwrap();
    }

    fn facts(&self, party: PartyId) -> PartyFacts {
        self.engine.party_bookings(party).unwrap().facts
    }

    fn batches(&self, party: PartyId) -> Vec<String> {
        self.records(party).into_iter().map(|record| record.details.batch).collect()
    }

    fn records(&self, party: PartyId) -> Vec<DoseRecord> {
        self.doses.records(party).unwrap()
    }

    fn somebody(&self) -> PartyId {
        self.register(None, None).unwrap()
    }

    /// A merge that comes no further than the entry that brings the doses over.
    fn break_off_behind_the_doses(&self, stays: PartyId, goes: PartyId) {
        let (one, two) = (stays.0.to_be_bytes(), goes.0.to_be_bytes());
        let mut turn = self.people.turns.take(&self.engine, &self.store, &[&one, &two]).unwrap();
        let over = self.people.take_doses(&mut turn, stays, goes, self.engine.now()).unwrap();
        assert!(over.is_some());
    }
}

// rule: PPL-4
#[test]
fn what_was_noted_follows_every_merge_and_goes_with_the_last_erasure() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let [a, b, c] = [(); 3].map(|()| world.somebody());
    let first = world.give(a, "AAA");
    world.give(b, "BBB");
    world.give(c, "CCC");
    assert_eq!(world.batches(a), ["AAA"]);
    world.merge(b, a).unwrap();
    assert_eq!(world.batches(b), ["AAA", "BBB"]);
    world.merge(c, b).unwrap();
    assert_eq!(world.batches(c), ["AAA", "BBB", "CCC"], "through two merges");
    assert_eq!((world.doses.owner(a), world.doses.owner(c)), (Ok(c), Ok(c)));
    assert_eq!(world.facts(c).doses, 3);
    // In the order in which they were given, whatever their numbers say.
    let records = world.records(c);
    let calendar = crate::Calendar::new("Asia/Kolkata").unwrap();
    let facts = world.facts(c);
    assert_eq!(revoked(facts, &records, first, 1, &calendar), Err(CannotChange::LaterDose));
    assert_eq!(revoked(facts, &records, records[2].booking, 1, &calendar).map(|left| left.doses), Ok(2));
    world.revoke(c, first);
    assert_eq!(world.records(c).iter().map(|record| record.valid).collect::<Vec<_>>(), [false, true, true]);
    world.close();
    // Made anew from the log: the keys of a and b are gone by then, and what went with the merges is there.
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    let world = open(dir.path(), 1);
    assert_eq!(world.batches(c), ["AAA", "BBB", "CCC"]);
    world.erase(c).unwrap();
    assert_eq!(world.batches(c), ["", "", ""], "that there was a dose, and nothing else");
    let left = world.records(c);
    assert_eq!(
        left.iter().map(|record| (record.valid, record.author.as_str())).collect::<Vec<_>>(),
        [(false, ""), (true, ""), (true, "")]
    );
    assert!(left[0].changes[0].author.is_empty());
    world.close();
}

#[test]
fn what_is_noted_of_who_is_not_registered_stands_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let command = Command::AddParties { count: 1, facts: PartyFacts { birth_year: 1975, ..PartyFacts::default() } };
    let Outcome::PartiesAdded { first, .. } = world.submit(command).unwrap() else { panic!("no party") };
    world.give(first, "PLAIN");
    assert_eq!(world.batches(first), ["PLAIN"]);
    world.close();
}

// rule: PPL-4
#[test]
fn a_merge_that_broke_off_adds_no_doses_twice_under_whatever_key_and_whichever_way_round() {
    for reversed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let world = open(dir.path(), 0);
        let (stays, goes) = (world.somebody(), world.somebody());
        world.give(stays, "S");
        world.give(goes, "G");
        world.break_off_behind_the_doses(stays, goes);
        // The server is killed behind it.
        world.close();
        let world = open(dir.path(), 1);
        assert_eq!(world.facts(stays).doses, 2);
        let (stays, goes) = if reversed { (goes, stays) } else { (stays, goes) };
        assert_eq!(world.merge(stays, goes).unwrap().doses, 2, "reversed: {reversed}");
        assert_eq!(world.batches(stays).len(), 2);
        world.close();
    }
}

// rule: PPL-3
#[test]
fn nothing_can_be_claimed_for_who_was_erased() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let (one, other) = (world.somebody(), world.somebody());
    let slot = world.slot();
    world.erase(one).unwrap();
    for dose in [1, 2, 3] {
        assert!(matches!(world.book(one, slot, dose), Err(Refusal::NotEligible { .. })), "dose {dose}");
    }
    // A place that somebody takes stands in the way, and then all is as it was.
    let booking = world.book(other, slot, 1).unwrap();
    let known = world.facts(other);
    let late = std::cell::Cell::new(0);
    let check = || {
        late.set(late.get() + 1);
        if late.get() > 1 { world.people.without_claims(other) } else { Ok(()) }
    };
    let refused = Err(PeopleError::LiveClaims { party: other, bookings: vec![booking] });
    assert_eq!(world.people.close_party(other, world.engine.now(), check), refused);
    assert_eq!(world.facts(other), known);
    world.close();
}

// rule: PPL-4
#[test]
fn a_merge_that_broke_off_brings_over_what_was_given_since_and_is_not_begun_on_who_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path(), 0);
    let (stays, goes) = (world.somebody(), world.somebody());
    world.give(stays, "S");
    world.give(goes, "G");
    world.break_off_behind_the_doses(stays, goes);
    let now = world.engine.now();
    world.settle();
    // Another dose is put on record meanwhile, and the first attempt is forgotten.
    let known = world.facts(goes);
    let facts = PartyFacts { doses: 2, ..known };
    world.submit(Command::ChangeFacts { party: goes, facts, expected: Some(&known), note: b"" }).unwrap();
    world.people.close_party(goes, now, || Ok(())).unwrap();
    assert!(matches!(world.merge(goes, stays), Err(PeopleError::Unknown(party)) if party == goes), "it is closed");
    world.people.open_party(goes, Some(facts), now).unwrap();
    assert_eq!(world.merge(stays, goes).unwrap().doses, 3);
    world.close();
}
