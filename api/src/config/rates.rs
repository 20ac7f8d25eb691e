//! What the configuration says of rates, and of what one account may set aside.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::Faults;
use crate::access::{AccountsConfig, RECENT_MAX};
use crate::rates::{Class, ForwardedBy, Limit, Payer, Proxies, RatesConfig, limit};

/// Limits of rate. Nothing is limited that is not said here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RatesEntry {
    /// For each address that nobody known asks from; of IPv6 for each /64.
    #[serde(default)]
    pub(crate) address: AddressRates,
    /// For each account: a citizen's, or the one a platform names in `Berth-Account`.
    #[serde(default)]
    pub(crate) account: PayerRates,
    /// For each key, by its role and name.
    #[serde(default)]
    pub(crate) key: PayerRates,
    /// Proxies whose word is taken for whom they ask, as addresses or networks. Default none.
    #[serde(default)]
    pub(crate) trusted_proxies: Vec<String>,
    /// The header in which they say it: `x-forwarded-for` or `forwarded`. Default `x-forwarded-for`.
    #[serde(default)]
    pub(crate) forwarded_by: ForwardedBy,
    /// Buckets kept, some 50 bytes each. 1024 to 100 million. Default 500000.
    pub(crate) buckets_max: Option<usize>,
}

/// Limits of an account or a key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PayerRates {
    /// Searches and other reads that need no key.
    pub(crate) search: Option<RateEntry>,
    /// Holds and bookings.
    pub(crate) hold: Option<RateEntry>,
    /// All else, but for confirming and releasing.
    pub(crate) other: Option<RateEntry>,
}

/// Limits of an address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddressRates {
    /// Searches and other reads that need no key.
    pub(crate) search: Option<RateEntry>,
    /// Requests whose key or token opens nothing.
    pub(crate) refused: Option<RateEntry>,
}

/// One limit.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateEntry {
    /// 0.0001 to 1 million.
    pub(crate) per_second: f64,
    /// At once. 1 to 10 million.
    pub(crate) burst: u32,
}

/// What one account may set aside; an account is a citizen's, or the one a platform names in `Berth-Account`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountsEntry {
    /// Live holds. 0 to 32; 0: no limit. Default 4.
    pub(crate) holds_live_max: Option<usize>,
    /// Holds left to expire within an hour. 0 to 32; 0: no limit. Default 8.
    pub(crate) holds_expired_per_hour_max: Option<usize>,
    /// Accounts whose recent holds are remembered, some 600 bytes each once they hold. 1024 to 100 million. Default 100000.
    pub(crate) remembered_max: Option<usize>,
}

impl Faults {
    pub(super) fn rates(&mut self, entry: RatesEntry) -> RatesConfig {
        let mut limits = [[None; Class::ALL.len()]; Payer::ALL.len()];
        let RatesEntry { address, account, key, trusted_proxies, forwarded_by, buckets_max } = entry;
        let rows = [
            (Payer::Address, Class::Search, address.search),
            (Payer::Address, Class::Refused, address.refused),
            (Payer::Account, Class::Search, account.search),
            (Payer::Account, Class::Hold, account.hold),
            (Payer::Account, Class::Other, account.other),
            (Payer::Key, Class::Search, key.search),
            (Payer::Key, Class::Hold, key.hold),
            (Payer::Key, Class::Other, key.other),
        ];
        for (payer, class, entry) in rows {
            let found = entry.and_then(|entry| self.rate(payer, class, entry));
            if let Some(place) = limits.get_mut(payer as usize).and_then(|classes| classes.get_mut(class as usize)) {
                *place = found;
            }
        }
        let mut trusted = Vec::new();
        for (i, text) in trusted_proxies.iter().enumerate() {
            match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                Ok(net) => trusted.push(net),
                Err(_) => self.push(
                    format!("rates.trusted_proxies[{i}]"),
                    format!("{text:?} is no address as 10.0.0.1 and no network as 10.0.0.0/8"),
                ),
            }
        }
        RatesConfig {
            limits,
            buckets_max: self.within("rates.buckets_max", buckets_max, 500_000, 1024, 100_000_000),
            proxies: Proxies { trusted, header: forwarded_by },
        }
    }

    fn rate(&mut self, payer: Payer, class: Class, entry: RateEntry) -> Option<Limit> {
        let name = format!("rates.{}.{}", payer.as_str(), class.as_str());
        // What is no number is not between two.
        let per_second = if entry.per_second.is_nan() { 0.0 } else { entry.per_second };
        let per_second = self.within(&format!("{name}.per_second"), Some(per_second), 1.0, 0.0001, 1_000_000.0);
        let burst = self.within(&format!("{name}.burst"), Some(entry.burst), 1, 1, 10_000_000);
        limit(per_second, burst)
    }

    pub(super) fn accounts(&mut self, entry: AccountsEntry) -> AccountsConfig {
        AccountsConfig {
            holds_live_max: self.within("accounts.holds_live_max", entry.holds_live_max, 4, 0, RECENT_MAX / 2),
            holds_expired_per_hour_max: self.within(
                "accounts.holds_expired_per_hour_max",
                entry.holds_expired_per_hour_max,
                8,
                0,
                RECENT_MAX / 2,
            ),
            remembered_max: self.within("accounts.remembered_max", entry.remembered_max, 100_000, 1024, 100_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConfigFile;

    #[test]
    fn every_fault_of_the_rates_is_named() {
        let text = "listen = '127.0.0.1:0'\ndata_dir = 'd'\nprogramme = 'p'\n\
                    [[keys]]\nrole = 'admin'\nname = 'a'\nsha256 = 'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb'\n\
                    [rates]\nbuckets_max = 1\ntrusted_proxies = ['10.0.0.0/8', '10.0.0.1', '::1', 'proxy']\n\
                    address.search = { per_second = 0.0, burst = 0 }\nkey.hold = { per_second = nan, burst = 1 }\n\
                    [accounts]\nholds_live_max = 33";
        let faults = ConfigFile::parse(text).unwrap().validate().unwrap_err();
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "rates.address.search.per_second",
                "rates.address.search.burst",
                "rates.key.hold.per_second",
                "rates.trusted_proxies[3]",
                "rates.buckets_max",
                "accounts.holds_live_max"
            ]
        );
        let unknown = ConfigFile::parse("[rates]\naddress.hold = { per_second = 1, burst = 1 }").unwrap_err();
        assert!(unknown.contains("unknown field `hold`"), "nobody unknown can hold: {unknown}");
    }
}
