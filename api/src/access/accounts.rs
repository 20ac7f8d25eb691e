//! Hoarding limits of accounts: so many live holds, and so many that were left to expire within an hour.
//!
//! The engine limits each party (HLD-2); an account with many parties could still set aside more than it needs. What an
//! account holds is not counted here but looked up: a bounded table remembers the numbers of its recent holds, and the
//! engine says what became of each. So a hold that was confirmed, released or put off counts as what it is now. The table is
//! this process's: a restart forgets it, and with it no hold that is an hour old.

use arrayvec::ArrayVec;
use berth_engine::{BookingNumber, Engine, HoardingLimit, State, TimestampMs};
use parking_lot::Mutex;

use super::Generations;
use crate::problem::{Code, Problem};
use crate::wire::Names;

const SHARDS: usize = 64;
/// How long an expired hold counts.
const HOUR_MS: u64 = 3_600_000;
/// Most holds that one account can have remembered: what both limits together may come to.
pub(crate) const RECENT_MAX: usize = 64;

/// An account, by the first bytes of a digest.
pub(crate) type AccountId = [u8; 16];

/// What the configuration says of accounts. 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccountsConfig {
    pub(crate) holds_live_max: usize,
    pub(crate) holds_expired_per_hour_max: usize,
    pub(crate) remembered_max: usize,
}

/// The table.
pub(crate) struct Accounts {
    config: AccountsConfig,
    shards: [Mutex<Generations<AccountId, Recent>>; SHARDS],
}

/// An account's recent holds.
#[derive(Debug, Default)]
struct Recent {
    /// Let in and not yet made.
    pending: usize,
    holds: ArrayVec<BookingNumber, RECENT_MAX>,
}

/// One hold that was let in. Dropped without [`Admitted::made`], it was not made.
pub(crate) struct Admitted<'a> {
    accounts: &'a Accounts,
    account: AccountId,
    made: Option<BookingNumber>,
}

impl Accounts {
    pub(crate) fn new(config: AccountsConfig) -> Accounts {
        let shard = (config.remembered_max / SHARDS).max(2);
        Accounts { config, shards: std::array::from_fn(|_| Mutex::new(Generations::new(shard))) }
    }

    /// Lets an account hold once more, or says why not.
    // rule: HLD-6 at most so many live holds, and so many expired ones an hour, for each account
    pub(crate) fn admit(
        &self,
        account: AccountId,
        engine: &Engine,
        names: &Names<'_>,
        now: TimestampMs,
    ) -> Result<Option<Admitted<'_>>, Problem> {
        let AccountsConfig { holds_live_max, holds_expired_per_hour_max, .. } = self.config;
        if holds_live_max == 0 && holds_expired_per_hour_max == 0 {
            return Ok(None);
        }
        let mut shard = self.shard(&account).lock();
        if shard.get(&account).is_none() {
            shard.insert(account, Recent::default());
        }
        let Some(recent) = shard.get(&account) else { return Ok(None) };
        let (mut live, mut expired) = (Ends::default(), Ends::default());
        recent.holds.retain(|number| {
            let Some(view) = engine.booking(*number) else { return true };
            let ends = view.expires_at;
            match view.state {
                State::Held => live.add(ends),
                State::Expired if now.0 < ends.0.saturating_add(HOUR_MS) => expired.add(TimestampMs(ends.0 + HOUR_MS)),
                _ => return false,
            }
            true
        });
        let over = |count: usize, max: usize| max != 0 && count >= max;
        let refused = if over(live.count + recent.pending, holds_live_max) {
            Some((live, holds_live_max, HoardingLimit::Live))
        } else if over(expired.count, holds_expired_per_hour_max) {
            Some((expired, holds_expired_per_hour_max, HoardingLimit::ExpiredPerHour))
        } else {
            None
        };
        if let Some((ends, max, limit)) = refused {
            let detail = format!("the account has reached its limit of {max} for {limit}");
            let problem = Problem::new(Code::Hoarding, detail).with("limit", limit.as_str()).with("max", max);
            return Err(match ends.first {
                Some(from) => problem.with("from", names.time(from)),
                None => problem,
            });
        }
        recent.pending += 1;
        Ok(Some(Admitted { accounts: self, account, made: None }))
    }

    fn shard(&self, account: &AccountId) -> &Mutex<Generations<AccountId, Recent>> {
        // A digest is as good as random.
        &self.shards[usize::from(account[0]) % SHARDS]
    }
}

/// Holds of one kind, and when the first of them counts no more.
#[derive(Clone, Copy, Default)]
struct Ends {
    count: usize,
    first: Option<TimestampMs>,
}

impl Ends {
    fn add(&mut self, ends: TimestampMs) {
        self.count += 1;
        self.first = Some(self.first.map_or(ends, |first| first.min(ends)));
    }
}

impl Admitted<'_> {
    /// The hold of this number was made. To be called before anything is waited for: whoever hangs up then has held all
    /// the same.
    pub(crate) fn made(mut self, hold: BookingNumber) {
        self.made = Some(hold);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut shard = self.accounts.shard(&self.account).lock();
        let Some(recent) = shard.get(&self.account) else { return };
        recent.pending = recent.pending.saturating_sub(1);
        if let Some(hold) = self.made {
            if recent.holds.is_full() {
                recent.holds.remove(0);
            }
            recent.holds.push(hold);
        }
    }
}
