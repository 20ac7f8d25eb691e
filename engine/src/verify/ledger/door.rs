//! What happens at the door of a centre, and bookings of a group that are given up together, as the books see it.

use super::super::records::BookingRecord;
use super::{ClaimAccount, Ledger};
use crate::booking::State;
use crate::command::{Claim, Given, NumberedClaim, Places};
use crate::ids::{BookingNumber, Seq};
use crate::units::TimestampMs;

impl ClaimAccount {
    /// As a snapshot has it.
    pub(super) fn of(record: BookingRecord) -> ClaimAccount {
        let BookingRecord { state, claim, programme, group_index, group_len, offered, expires_at, link, seq, .. } =
            record;
        ClaimAccount { state, claim, programme, group_index, group_len, offered, expires_at, link, seq }
    }
}

impl Ledger {
    // rule: CAP-3
    pub(super) fn group_cancelled(&mut self, seq: Seq, hold: BookingNumber, places: Places) {
        self.judged.cap_3 += u64::from(places.count() > 1);
        for number in places.numbers(hold) {
            if let Some(account) = self.claims.get(number)
                && number.0 - hold.0 != u64::from(account.group_index)
            {
                let place = account.group_index;
                let detail = format!("booking {number}, place {place} of its group, is cancelled as of hold {hold}");
                self.find("CAP-3", seq, detail);
            }
            self.leave(seq, number, State::Cancelled, None);
        }
    }

    /// A step that keeps the unit. Returns whether it was taken into the books now.
    pub(super) fn serve(&mut self, seq: Seq, booking: BookingNumber, from: State, to: State) -> bool {
        let Some(account) = self.claims.get(booking).copied() else {
            self.find("BKG-1", seq, format!("booking {booking} was never made"));
            return false;
        };
        if self.seen(&account, seq) {
            return false;
        }
        self.claims.insert(booking, ClaimAccount { state: to, seq, ..account });
        self.judged.bkg_1 += 1;
        if account.state != from {
            let found = account.state;
            self.find("BKG-1", seq, format!("booking {booking} became {to} though it was {found}"));
            return false;
        }
        true
    }

    // rule: DOS-1
    pub(super) fn completed(&mut self, seq: Seq, booking: BookingNumber, given: Given) {
        self.judged.dos_1 += 1;
        let known = self.claims.get(booking).copied();
        if !known.is_some_and(|account| account.state == State::CheckedIn || self.seen(&account, seq)) {
            self.find("DOS-1", seq, format!("a dose on booking {booking}, whose party was not checked in"));
        }
        if !self.serve(seq, booking, State::CheckedIn, State::Completed) {
            return;
        }
        let Some(account) = self.claims.get(booking).copied() else { return };
        let dose = account.claim.dose;
        if given.doses < dose.0 {
            let detail = format!("booking {booking} was dose {dose}, and its party has had {} since", given.doses);
            self.find("BKG-1", seq, detail);
        }
        if self.span.is_none() {
            self.end_claim(seq, booking, &account);
        }
    }

    // rule: NSH-1
    pub(super) fn no_show(&mut self, seq: Seq, booking: BookingNumber, at: TimestampMs) {
        self.judged.nsh_1 += 1;
        let slot = self.claims.get(booking).map(|account| account.claim.slot);
        let starts_at = slot.and_then(|slot| self.slots.get(&slot)).map(|slot| slot.starts_at);
        if let Some(starts_at) = starts_at.filter(|starts_at| at < *starts_at) {
            let detail = format!("booking {booking} is no_show at {}, and its slot starts at {}", at.0, starts_at.0);
            self.find("NSH-1", seq, detail);
        }
        self.leave(seq, booking, State::NoShow, None);
    }

    /// A hold in a group of its own, that says of itself that it was offered.
    pub(super) fn offered(&mut self, seq: Seq, number: BookingNumber, expires_at: TimestampMs, claim: Claim) {
        let programme = self.slots.get(&claim.slot).map(|slot| slot.programme).unwrap_or_default();
        let (state, group_index, group_len, offered, link) = (State::Held, 0, 1, true, None);
        let account = ClaimAccount { state, claim, programme, group_index, group_len, offered, expires_at, link, seq };
        self.birth(seq, number, account);
        self.check_slot(seq, claim.slot);
    }

    // rule: WLK-1
    pub(super) fn walked_in(&mut self, seq: Seq, walked: &NumberedClaim) {
        self.judged.wlk_1 += 1;
        self.born(seq, walked.number, State::CheckedIn, TimestampMs(0), &[walked.claim]);
    }
}
