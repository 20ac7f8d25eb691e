//! Hoarding: a party that holds and lets go, again and again, keeps units from others. Judged under the party's lock, from its own
//! claims.

use std::time::Duration;

use super::No;
use crate::booking::State;
use crate::command::{BookingView, Claim};
use crate::engine::Engine;
use crate::error::{HoardingLimit, Refusal};
use crate::inventory::Locked;
use crate::units::TimestampMs;

const HOUR: Duration = Duration::from_secs(3600);
/// A party's claims that are looked at, at most: whoever made so many within an hour is kept in check by the limits on requests.
const LOOKED_AT_MAX: usize = 256;

impl Engine {
    /// A hold more for this party: is that too many at once, or too many that it let expire within an hour?
    ///
    /// A hold whose deadline has passed counts as expired, noticed or not. The look back ends at the first hold whose deadline was
    /// longer ago than an hour and the longest hold: what came before it has expired before the hour. What was offered is passed over:
    /// nobody asked for it.
    // rule: HLD-2 a party has at most so many live holds, and so many that expired within the hour
    pub(super) fn judge_hoarding(&self, claim: &Claim, now: TimestampMs, locked: &mut Locked<'_>) -> Result<(), No> {
        let limits = self.policy.hold_limits();
        let slots = &self.inventory.slots;
        let programme = slots.facts(claim.slot).map(|facts| facts.programme).unwrap_or_default();
        let record = locked.of(claim.party);
        let bookings = &self.inventory.bookings;
        let refuse = |limit, max: u16, from| {
            Err(No::resting_on(record.seq(), Refusal::Hoarding { party: claim.party, limit, max, from }))
        };
        let held = |view: &BookingView| view.state == State::Held && view.programme == programme && !view.offered;
        if limits.live_max > 0 {
            let live = record.numbers().into_iter().filter_map(|number| bookings.get(number)?.view(number));
            let live = live.filter(|view| held(view) && now < view.expires_at).map(|view| view.expires_at);
            let (count, from) = live.fold((0, None), |(count, from), at| (count + 1, earlier(from, at)));
            if let Some(from) = from.filter(|_| count >= usize::from(limits.live_max)) {
                return refuse(HoardingLimit::Live, limits.live_max, from);
            }
        }
        if limits.expired_per_hour_max == 0 {
            return Ok(());
        }
        let (mut count, mut oldest, mut next) = (0, None, record.newest());
        for _ in 0..LOOKED_AT_MAX {
            let Some(number) = next else { break };
            let Some(cell) = bookings.get(number) else { break };
            let Some(view) = cell.view(number) else { break };
            next = cell.before_of_party();
            if view.offered {
                continue;
            }
            let deadline = view.expires_at;
            if deadline != TimestampMs(0) && deadline.plus(HOUR).plus(self.policy.hold_ttl_max()) < now {
                break;
            }
            let expired = view.state == State::Expired && view.programme == programme || held(&view);
            if expired && deadline <= now && now < deadline.plus(HOUR) {
                count += 1;
                oldest = earlier(oldest, deadline);
            }
            if let Some(oldest) = oldest.filter(|_| count >= limits.expired_per_hour_max) {
                return refuse(HoardingLimit::ExpiredPerHour, limits.expired_per_hour_max, oldest.plus(HOUR));
            }
        }
        Ok(())
    }
}

fn earlier(one: Option<TimestampMs>, other: TimestampMs) -> Option<TimestampMs> {
    Some(one.map_or(other, |one| one.min(other)))
}
