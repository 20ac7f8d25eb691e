//! Which address a request is charged to: the peer's, or what a proxy that is trusted says of it.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};
use ipnet::IpNet;
use serde::Deserialize;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header by which a proxy tells whom it asks for. Only the one that it writes may be read: the other comes from the
/// client as it pleases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardedBy {
    #[default]
    XForwardedFor,
    Forwarded,
}

/// Proxies that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) header: ForwardedBy,
}

impl Proxies {
    /// The address of who asks: the last one in the chain that no trusted proxy has.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let header = match self.header {
            ForwardedBy::XForwardedFor => &X_FORWARDED_FOR,
            ForwardedBy::Forwarded => &FORWARDED,
        };
        // Each proxy adds at the end whom it was asked by, so the chain is read from its end.
        // A line that cannot be read is one hop that is no address: what stands before it is the client's own word.
        let chain = headers.get_all(header).iter().rev().map(|value| value.to_str().unwrap_or(""));
        for hop in chain.flat_map(|value| value.rsplit(',')) {
            // What is no address says nothing of who stands behind it: the proxy itself is charged.
            let Some(address) = self.address(hop) else { return client };
            client = address;
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    fn address(&self, hop: &str) -> Option<IpAddr> {
        match self.header {
            ForwardedBy::XForwardedFor => node(hop),
            ForwardedBy::Forwarded => {
                let pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
                pairs
                    .into_iter()
                    .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
                    .and_then(|(_, node_)| node(node_))
            }
        }
    }
}

/// An address, possibly in quotes, in brackets, with a port.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address)?,
        // One colon is a port's; more are an IPv6 address's.
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => address,
            _ => text,
        },
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// What is charged for an address: of IPv6 the /64, because one household has all of it.
pub(super) fn bucket_of(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ForwardedBy, peer: &str, values: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
        let name = match header {
            ForwardedBy::XForwardedFor => X_FORWARDED_FOR,
            ForwardedBy::Forwarded => FORWARDED,
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, hyper::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Proxies { trusted, header }.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let xff = |peer, values: &[&str]| client(ForwardedBy::XForwardedFor, peer, values);
        assert_eq!(xff("192.0.2.9", &["203.0.113.5"]), "192.0.2.9");
        assert_eq!(xff("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(xff("10.0.0.1", &["203.0.113.5"]), "203.0.113.5");
        assert_eq!(xff("::ffff:10.0.0.1", &["203.0.113.5"]), "203.0.113.5");
        // What the client wrote itself stands further left, and is not read.
        assert_eq!(xff("10.0.0.1", &["8.8.8.8, 203.0.113.5, 10.0.0.2"]), "203.0.113.5");
        assert_eq!(xff("10.0.0.1", &["8.8.8.8", "203.0.113.5", "10.0.0.2"]), "203.0.113.5");
        assert_eq!(xff("10.0.0.1", &["8.8.8.8", "203.0.113.5, \u{e9}"]), "10.0.0.1");
        assert_eq!(xff("10.0.0.1", &["8.8.8.8, unknown"]), "10.0.0.1");
        assert_eq!(xff("10.0.0.1", &["8.8.8.8, rubbish, 10.0.0.7"]), "10.0.0.7");
        assert_eq!(xff("fd00::1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(xff("10.0.0.1", &["203.0.113.5:80"]), "203.0.113.5");
        assert_eq!(xff("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3", "all of them ours: the first");
    }

    #[test]
    fn the_standard_header_is_read_where_the_proxies_write_that() {
        let forwarded = |values: &[&str]| client(ForwardedBy::Forwarded, "10.0.0.1", values);
        assert_eq!(forwarded(&["for=8.8.8.8, For=\"[2001:db8:cafe::17]:4711\";proto=https"]), "2001:db8:cafe::17");
        assert_eq!(forwarded(&["by=10.0.0.9;for=203.0.113.60;host=x", "for=10.0.0.2"]), "203.0.113.60");
        assert_eq!(forwarded(&["for=_hidden"]), "10.0.0.1");
        assert_eq!(forwarded(&["proto=https"]), "10.0.0.1");
        assert_eq!(client(ForwardedBy::XForwardedFor, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_household_is_one_address() {
        let bucket = |text: &str| bucket_of(text.parse().unwrap());
        assert_eq!(bucket("2001:db8:1:2::1"), bucket("2001:db8:1:2:ffff::9"));
        assert_ne!(bucket("2001:db8:1:2::1"), bucket("2001:db8:1:3::1"));
        assert_ne!(bucket("192.0.2.1"), bucket("192.0.2.2"));
        assert_eq!(bucket("192.0.2.1"), bucket("::ffff:192.0.2.1"));
    }
}
