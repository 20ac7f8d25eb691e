//! Limits of rate: token buckets for each address, account and key.
//!
//! Whoever can be told apart from others is charged as such, and shared addresses are not punished for what they share: a
//! request with an account is charged to the account, one with a key to the key as well, and only a request of nobody known to
//! its address. Without `[rates]` nothing here runs: [`Rates::is_on`] is one read of a flag that never changes.
//!
//! A bucket is one number in a bounded, sharded table: the instant at which it will be full again (the generic cell rate
//! algorithm). One that nobody has charged for long is dropped, which is the same as full.

mod client;
mod meter;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use parking_lot::Mutex;

pub(crate) use self::client::{ForwardedBy, Proxies};
use self::meter::charge;
pub(crate) use self::meter::{Charged, Limit};
use crate::access::{Caller, Generations};
use crate::problem::{Code, Problem};

const SHARDS: usize = 64;

/// What a request is, as far as its rate goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Reads what everybody may read.
    Search,
    /// Takes units: holds and bookings.
    Hold,
    /// Everything else that has a limit. Confirming and releasing have none: who was let hold may settle it.
    Other,
    /// Came with a key or token that opens nothing. Charged to the address alone.
    Refused,
}

impl Class {
    pub(crate) const ALL: [Class; 4] = [Class::Search, Class::Hold, Class::Other, Class::Refused];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Class::Search => "search",
            Class::Hold => "hold",
            Class::Other => "other",
            Class::Refused => "refused",
        }
    }
}

/// Who is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payer {
    Address,
    Account,
    Key,
}

impl Payer {
    pub(crate) const ALL: [Payer; 3] = [Payer::Address, Payer::Account, Payer::Key];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Payer::Address => "address",
            Payer::Account => "account",
            Payer::Key => "key",
        }
    }
}

/// What the configuration says of rates.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RatesConfig {
    /// By payer and class; `None`: no limit.
    pub(crate) limits: [[Option<Limit>; Class::ALL.len()]; Payer::ALL.len()],
    pub(crate) buckets_max: usize,
    pub(crate) proxies: Proxies,
}

/// A bucket's name: its payer, its class, and who.
type BucketKey = (u8, [u8; 16]);

/// All buckets of a server.
pub(crate) struct Rates {
    config: RatesConfig,
    on: bool,
    started: Instant,
    shards: [Mutex<Generations<BucketKey, u64>>; SHARDS],
    hasher: RandomState,
    refused: [[AtomicU64; Class::ALL.len()]; Payer::ALL.len()],
    dropped: AtomicU64,
}

impl Rates {
    pub(crate) fn new(config: RatesConfig) -> Rates {
        let shard = (config.buckets_max / SHARDS).max(2);
        Rates {
            on: config.limits.iter().flatten().any(Option::is_some),
            config,
            started: Instant::now(),
            shards: std::array::from_fn(|_| Mutex::new(Generations::new(shard))),
            hasher: RandomState::new(),
            refused: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            dropped: AtomicU64::new(0),
        }
    }

    /// Whether anything is limited at all.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Who is charged for requests from this address where nobody better is known.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.config.proxies.client(peer, headers)
    }

    /// Charges a request of a known caller, and its account if it has one; never the address.
    pub(crate) fn charge_known(
        &self,
        caller: &Caller,
        account: Option<&[u8; 16]>,
        class: Class,
        now: Instant,
    ) -> Result<Option<Charged>, Problem> {
        if caller.is_account() {
            // It has no key: its account is all there is.
            return self.charge(Payer::Account, class, *caller.id(), now);
        }
        let key = self.charge(Payer::Key, class, *caller.id(), now)?;
        let account = account.map(|id| self.charge(Payer::Account, class, *id, now)).transpose();
        let account = match account {
            Ok(account) => account.flatten(),
            Err(refused) => {
                // What was not let through costs its key nothing, or one account could use up the key of all.
                self.give_back(Payer::Key, class, *caller.id());
                return Err(refused);
            }
        };
        Ok(match (account, key) {
            (Some(account), Some(key)) => Some(account.scarcer(key)),
            (account, key) => account.or(key),
        })
    }

    /// Charges a request of nobody known to its address.
    pub(crate) fn charge_address(
        &self,
        address: IpAddr,
        class: Class,
        now: Instant,
    ) -> Result<Option<Charged>, Problem> {
        self.charge(Payer::Address, class, client::bucket_of(address), now)
    }

    /// Takes a charge back.
    fn give_back(&self, payer: Payer, class: Class, who: [u8; 16]) {
        let Some(limit) = self.limit(payer, class) else { return };
        let key = (bucket_kind(payer, class), who);
        if let Some(full_at) = self.shard(&key).lock().get(&key) {
            *full_at = full_at.saturating_sub(limit.every);
        }
    }

    /// Whether this address is in good standing: it has not tried too many keys and tokens that open nothing.
    pub(crate) fn may_try(&self, address: IpAddr, now: Instant) -> bool {
        let Some(limit) = self.limit(Payer::Address, Class::Refused) else { return true };
        let key = (bucket_kind(Payer::Address, Class::Refused), client::bucket_of(address));
        let full_at = self.shard(&key).lock().get(&key).copied().unwrap_or(0);
        charge(limit, full_at, self.nanos(now)).1.is_ok()
    }

    fn charge(&self, payer: Payer, class: Class, who: [u8; 16], now: Instant) -> Result<Option<Charged>, Problem> {
        let Some(limit) = self.limit(payer, class) else { return Ok(None) };
        let key = (bucket_kind(payer, class), who);
        let now = self.nanos(now);
        let mut shard = self.shard(&key).lock();
        let charged = if let Some(full_at) = shard.get(&key) {
            let (after, charged) = charge(limit, *full_at, now);
            *full_at = after;
            charged
        } else {
            let (after, charged) = charge(limit, 0, now);
            let dropped = shard.insert(key, after);
            self.dropped.fetch_add(dropped as u64, Relaxed);
            charged
        };
        drop(shard);
        let charged = charged.named(payer, class);
        if charged.is_ok() { Ok(Some(charged)) } else { Err(self.refuse(payer, class, &charged)) }
    }

    fn refuse(&self, payer: Payer, class: Class, charged: &Charged) -> Problem {
        if let Some(counter) = self.refused.get(payer as usize).and_then(|classes| classes.get(class as usize)) {
            counter.fetch_add(1, Relaxed);
        }
        let what = match payer {
            Payer::Address => "requests of this kind from this address",
            Payer::Account => "requests of this kind for this account",
            Payer::Key => "requests of this kind with this key",
        };
        let charged = charged.named(payer, class);
        Problem::new(Code::RateLimited, format!("too many {what}: ask again later"))
            .with("charged_to", payer.as_str())
            .with("class", class.as_str())
            .limited(charged)
    }

    fn limit(&self, payer: Payer, class: Class) -> Option<Limit> {
        *self.config.limits.get(payer as usize)?.get(class as usize)?
    }

    fn shard(&self, key: &BucketKey) -> &Mutex<Generations<BucketKey, u64>> {
        // Addresses are chosen by who sends, so the shard is not read off them.
        let hash = self.hasher.hash_one(key);
        &self.shards[usize::from(hash.to_le_bytes()[0]) % SHARDS]
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Requests refused for their rate.
    pub(crate) fn refused(&self, payer: Payer, class: Class) -> u64 {
        self.refused.get(payer as usize).and_then(|classes| classes.get(class as usize)).map_or(0, |c| c.load(Relaxed))
    }

    /// Buckets there are, and how many were dropped to make room.
    pub(crate) fn buckets(&self) -> (usize, u64) {
        (self.shards.iter().map(|shard| shard.lock().len()).sum(), self.dropped.load(Relaxed))
    }
}

fn bucket_kind(payer: Payer, class: Class) -> u8 {
    (payer as u8) << 4 | class as u8
}

/// A limit of so many a second, and so many at once.
pub(crate) fn limit(per_second: f64, burst: u32) -> Option<Limit> {
    let every = Duration::try_from_secs_f64(1.0 / per_second).ok()?;
    let every = u64::try_from(every.as_nanos()).ok().filter(|every| *every > 0)?;
    Some(Limit { every, burst })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Role, Scope};

    fn rates(payer: Payer, class: Class, burst: u32, buckets_max: usize) -> Rates {
        let mut config = RatesConfig { buckets_max, ..RatesConfig::default() };
        config.limits[payer as usize][class as usize] = limit(1.0, burst);
        Rates::new(config)
    }

    fn code<T>(result: Result<T, Problem>) -> Option<Code> {
        result.err().map(|problem| problem.code())
    }

    const LIMITED: Option<Code> = Some(Code::RateLimited);

    #[test]
    fn an_address_has_its_burst_and_then_its_rate() {
        let rates = rates(Payer::Address, Class::Search, 3, 1024);
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let now = rates.started;
        let ask = |address, seconds: f64| {
            code(rates.charge_address(address, Class::Search, now + Duration::from_secs_f64(seconds)))
        };
        assert_eq!([ask(one, 0.0), ask(one, 0.0), ask(one, 0.0), ask(one, 0.0)], [None, None, None, LIMITED]);
        assert_eq!(ask(two, 0.0), None, "another address has its own");
        assert_eq!([ask(one, 0.9), ask(one, 1.1), ask(one, 1.2)], [LIMITED, None, LIMITED]);
        assert_eq!([ask(one, 99.0), ask(one, 99.0), ask(one, 99.0), ask(one, 99.0)], [None, None, None, LIMITED]);
        assert_eq!(code(rates.charge_address(one, Class::Hold, now)), None, "another class has none here");
        assert_eq!((rates.refused(Payer::Address, Class::Search), rates.buckets().0), (4, 2));
    }

    #[test]
    fn an_account_is_charged_by_itself_whatever_key_and_address_it_comes_through() {
        let rates = rates(Payer::Account, Class::Hold, 1, 1024);
        let platform = Caller::of_key(Role::Platform, "web", Scope::Everything);
        let ask = |account: Option<&[u8; 16]>| code(rates.charge_known(&platform, account, Class::Hold, rates.started));
        assert_eq!((ask(Some(&[1; 16])), ask(Some(&[2; 16])), ask(Some(&[1; 16]))), (None, None, LIMITED));
        assert_eq!((ask(None), ask(None)), (None, None), "without an account the key alone counts, and has no limit");
    }

    #[test]
    fn a_key_is_charged_beside_its_accounts() {
        let rates = rates(Payer::Key, Class::Other, 2, 1024);
        let web = Caller::of_key(Role::Platform, "web", Scope::Everything);
        let other = Caller::of_key(Role::Platform, "other", Scope::Everything);
        let ask = |caller: &Caller, account: u8| {
            code(rates.charge_known(caller, Some(&[account; 16]), Class::Other, rates.started))
        };
        assert_eq!((ask(&web, 1), ask(&web, 2), ask(&web, 3), ask(&other, 3)), (None, None, LIMITED, None));
    }

    #[test]
    fn what_an_account_is_refused_costs_the_key_nothing() {
        let mut config = RatesConfig { buckets_max: 1024, ..RatesConfig::default() };
        config.limits[Payer::Account as usize][Class::Hold as usize] = limit(1.0, 1);
        config.limits[Payer::Key as usize][Class::Hold as usize] = limit(1.0, 2);
        let rates = Rates::new(config);
        let web = Caller::of_key(Role::Platform, "web", Scope::Everything);
        let ask = |account: u8| code(rates.charge_known(&web, Some(&[account; 16]), Class::Hold, rates.started));
        assert_eq!((ask(1), ask(1), ask(1), ask(2), ask(3)), (None, LIMITED, LIMITED, None, LIMITED));
    }

    #[test]
    fn a_token_is_charged_to_its_account_and_never_as_a_key() {
        let rates = rates(Payer::Key, Class::Search, 1, 1024);
        let asha = Caller::of_account(Role::Citizen, "asha", Scope::Everything);
        let ask = || code(rates.charge_known(&asha, Some(asha.id()), Class::Search, rates.started));
        assert_eq!((ask(), ask()), (None, None));
    }

    #[test]
    fn who_has_tried_too_many_keys_tries_no_more_for_a_while() {
        let rates = rates(Payer::Address, Class::Refused, 2, 1024);
        let address = "2001:db8::1".parse().unwrap();
        let later = rates.started + Duration::from_secs(2);
        assert!(rates.may_try(address, rates.started));
        for _ in 0..5 {
            let _ = rates.charge_address(address, Class::Refused, rates.started);
        }
        assert!(!rates.may_try(address, rates.started));
        assert!(!rates.may_try(address, rates.started) && rates.may_try(address, later), "asking costs nothing");
    }

    #[test]
    fn buckets_are_bounded_and_one_in_use_is_kept() {
        let rates = rates(Payer::Address, Class::Search, 1, 1024);
        let mine = "192.0.2.1".parse().unwrap();
        let _ = rates.charge_address(mine, Class::Search, rates.started);
        for i in 0..20_000_u32 {
            let _ = rates.charge_address(std::net::Ipv4Addr::from(i).into(), Class::Search, rates.started);
            if i % 4 == 0 {
                assert_eq!(code(rates.charge_address(mine, Class::Search, rates.started)), LIMITED, "{i}");
            }
        }
        let (buckets, dropped) = rates.buckets();
        assert!((512..=1024).contains(&buckets) && dropped > 18_000, "{buckets} {dropped}");
    }

    #[test]
    fn without_limits_nothing_is_on() {
        let rates = Rates::new(RatesConfig::default());
        assert!(!rates.is_on());
        assert!(rates.charge_address("192.0.2.1".parse().unwrap(), Class::Search, rates.started).unwrap().is_none());
        assert_eq!(rates.buckets(), (0, 0));
    }
}
