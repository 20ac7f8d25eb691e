//! What an entry of the log means to those who wait: a unit is free, or somebody stands otherwise than before. Shown in order; an entry that is
//! shown twice changes nothing the second time.

use std::sync::atomic::Ordering::Relaxed;

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::{BookingNumber, Claim, PartyId, Seq, TimestampMs};

use super::entry::{RECORDED_WAITLIST, Said, offered_for};
use super::queues::{Standing, Waiter};
use super::{Core, Waitlist};
use crate::{lottery, people};

impl Waitlist {
    /// Takes note of a durable entry.
    pub(super) fn seen(&self, seq: Seq, entry: &Entry) {
        let mut core = self.core.lock();
        if !core.begun {
            core.unseen = seq;
            return;
        }
        let joins = matches!(&entry.event, Event::Recorded { kind: RECORDED_WAITLIST, .. });
        if core.queues.is_empty() && !joins {
            return;
        }
        self.note(&mut core, seq, entry);
        self.wake(&mut core);
    }

    fn note(&self, core: &mut Core, seq: Seq, entry: &Entry) {
        let at = entry.at;
        match &entry.event {
            Event::Recorded { kind: RECORDED_WAITLIST, bytes } => match Said::read(bytes) {
                Some(Said::Joined(wish)) if core.queues.waiter(seq).is_none() => {
                    // Of this run it is there already, or has ended since.
                    if !core.ended.contains_key(&seq) {
                        let waiter = Waiter { wish, at, standing: Standing::Waiting, passed: Vec::new() };
                        self.join_queue(core, seq, waiter);
                        core.looks.insert(seq);
                    }
                }
                Some(Said::Ended { entry, why }) => {
                    // Kept until the next: its row is not in the store yet.
                    core.end(entry, why, at, seq);
                    core.ended.retain(|_, over| over.seq >= seq);
                }
                Some(Said::Joined(_)) | None => {}
            },
            Event::Recorded { kind, bytes } => {
                if let Some(party) = people::no_more(*kind, bytes) {
                    let own = core.queues.of_party(party);
                    core.gone.extend(own);
                }
                for slot in lottery::entry::opened(*kind, bytes) {
                    core.queues.freed(slot, at);
                }
            }
            Event::Published { slots, .. } => core.unplaced.extend(slots.iter().map(|slot| slot.slot)),
            Event::SlotChanged { slot, .. } => core.queues.freed(*slot, at),
            Event::Offered { number, claim, note, .. } => {
                if let Some(of) = offered_for(note) {
                    core.queues.stand(of, Standing::Offered(*number, claim.slot));
                }
                look(core, claim.party);
            }
            Event::Held { claims, .. } | Event::Booked { claims, .. } => {
                claims.iter().for_each(|claim| look(core, claim.party));
            }
            Event::WalkedIn { claim } => look(core, claim.claim.party),
            Event::Confirmed { hold, len } => {
                for claim in self.claims(*hold, *len) {
                    let own = core.queues.of_party(claim.party);
                    let offered = own.iter().filter_map(|entry| core.queues.waiter(*entry));
                    let taken = offered.filter(|waiter| waiter.standing == Standing::Offered(*hold, claim.slot));
                    self.counts.taken.fetch_add(taken.count() as u64, Relaxed);
                    look(core, claim.party);
                }
            }
            Event::Released { hold, len } | Event::Expired { hold, len } => {
                let lost = if matches!(entry.event, Event::Expired { .. }) {
                    &self.counts.missed
                } else {
                    &self.counts.declined
                };
                for claim in self.claims(*hold, *len) {
                    for of in core.queues.of_party(claim.party) {
                        let offer = Standing::Offered(*hold, claim.slot);
                        if core.queues.waiter(of).is_some_and(|waiter| waiter.standing == offer) {
                            core.queues.not_taken(of, claim.slot);
                            core.queues.stand(of, Standing::Claimed);
                            lost.fetch_add(1, Relaxed);
                        }
                    }
                    free(core, claim, at);
                }
            }
            Event::Cancelled { booking } | Event::NoShow { booking } => {
                self.claims(*booking, 1).for_each(|claim| free(core, claim, at));
            }
            Event::GroupCancelled { hold, places, .. } => {
                let numbers = places.numbers(*hold);
                numbers.filter_map(|number| self.engine.claimed(number)).for_each(|(claim, _)| free(core, claim, at));
            }
            Event::Moved { from, to, .. } => {
                self.claims(*from, 1).for_each(|claim| free(core, claim, at));
                look(core, to.claim.party);
            }
            Event::Completed { booking, .. } | Event::CompletedNoted { booking, .. } => {
                self.claims(*booking, 1).for_each(|claim| look(core, claim.party));
            }
            Event::FactsChanged { party, .. } => {
                for of in core.queues.of_party(*party) {
                    core.queues.changed(of);
                    core.looks.insert(of);
                }
            }
            Event::PartiesAdded { .. } | Event::Note { .. } | Event::CheckedIn { .. } | Event::HoldsGraced { .. } => {}
        }
    }

    /// The claims of `len` numbers from this one on: they never change.
    fn claims(&self, first: BookingNumber, len: u8) -> impl Iterator<Item = Claim> + '_ {
        let numbers = (0..u64::from(len)).filter_map(move |n| first.0.checked_add(n).map(BookingNumber));
        numbers.filter_map(|number| self.engine.claimed(number)).map(|(claim, _)| claim)
    }
}

fn look(core: &mut Core, party: PartyId) {
    let own = core.queues.of_party(party);
    core.looks.extend(own);
}

fn free(core: &mut Core, claim: Claim, at: TimestampMs) {
    core.queues.freed(claim.slot, at);
    look(core, claim.party);
}
