//! `public_url` and `[fhir]` of the configuration file: what stands in the addresses that others are told, and in FHIR.

use std::time::Duration;

use berth_programme::{PHONE_RULE, is_phone_line, is_web_address};
use serde::Deserialize;

use super::Faults;
use crate::fhir::{FhirConfig, Service};
use crate::search::SearchConfig;

/// FHIR and SMART Scheduling Links. docs/fhir.md tells more.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FhirEntry {
    /// The platform's page on which a slot is booked, with `{slot}`, `{session}` or `{centre}` in it. Default none: slots are published
    /// without a link.
    pub(crate) booking_link: Option<String>,
    /// Whom to ring up where a centre has no phone of its own. Default nobody.
    pub(crate) phone: Option<String>,
    /// What page to open where a centre has none of its own. Default none.
    pub(crate) url: Option<String>,
    /// What is offered, as codings. Default immunization, and immunization against Covid-19, as SMART Scheduling Links has them.
    #[serde(default)]
    pub(crate) services: Vec<ServiceEntry>,
    /// How old a published file may be when it is asked for. 0 to 3600; 0: each is rendered anew. Default 30. Shorter costs more when
    /// somebody copies everything. Searches of FHIR are as old as `search.staleness_ms` allows.
    pub(crate) staleness_seconds: Option<u64>,
    /// MiB of published files that are kept, and as many of answers. 48 to 65536. Default 256. Less than a copy of everything, and who
    /// copies it has every file rendered.
    pub(crate) cache_mib: Option<usize>,
}

/// A coding of what is offered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceEntry {
    pub(crate) system: String,
    pub(crate) code: String,
    pub(crate) display: String,
}

/// What may stand in braces in the link to a slot.
const PLACES: [&str; 3] = ["{slot}", "{session}", "{centre}"];
const URL: &str = "must be an address as https://book.example.org, without a query or a slash at its end";

impl Faults {
    pub(super) fn fhir(&mut self, public_url: Option<String>, entry: FhirEntry) -> FhirConfig {
        // As the sample writes what is not set.
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (public_url, booking_link) = (said(public_url), said(entry.booking_link));
        let (phone, url) = (said(entry.phone), said(entry.url));
        if public_url
            .as_deref()
            .is_some_and(|url| !is_web_address(url) || url.contains(['?', '#']) || url.ends_with('/'))
        {
            self.push("public_url", URL);
        }
        if let Some(link) = &booking_link {
            let bare = PLACES.iter().fold(link.clone(), |link, place| link.replace(place, "x"));
            if !is_web_address(&bare) {
                self.push(
                    "fhir.booking_link",
                    format!("must be an address with nothing in braces but {}", PLACES.join(", ")),
                );
            }
        }
        if phone.as_deref().is_some_and(|phone| !is_phone_line(phone)) {
            self.push("fhir.phone", PHONE_RULE);
        }
        if url.as_deref().is_some_and(|url| !is_web_address(url)) {
            self.push("fhir.url", "must be an address as https://book.example.org");
        }
        let good = |text: &str| !text.is_empty() && text.trim() == text && !text.contains(char::is_control);
        let services =
            entry.services.into_iter().map(|ServiceEntry { system, code, display }| Service { system, code, display });
        let mut services: Vec<Service> = services.collect();
        let coded =
            |s: &Service| s.system.contains(':') && !s.system.contains(' ') && good(&s.code) && good(&s.display);
        if services.iter().any(|service| !coded(service)) {
            self.push("fhir.services", "each must have a system, which is a URI, a code and a display");
        }
        if services.is_empty() {
            services = Service::covid_19_immunization();
        }
        let staleness = self.within("fhir.staleness_seconds", entry.staleness_seconds, 30, 0, 3600);
        let cache_mib = self.within("fhir.cache_mib", entry.cache_mib, 256, 48, 65_536);
        FhirConfig {
            public_url,
            booking_link,
            phone,
            url,
            services,
            kept: SearchConfig { staleness: Duration::from_secs(staleness), cache_bytes: cache_mib << 20 },
        }
    }
}

/// What of it is no fault, and not what an operator wants for a server that others are told of.
pub(crate) fn warnings(config: &FhirConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    match &config.public_url {
        None => warnings.push(
            "public_url: is not set, so nothing is published at /smart/$bulk-publish, and links in FHIR have no host"
                .to_owned(),
        ),
        Some(_) => warnings.extend(loopback(config)),
    }
    if config.phone.is_none() && config.url.is_none() {
        let told = "fhir.phone, fhir.url: neither is set, so a centre without either is not published: SMART Scheduling Links asks for a telecom";
        warnings.push(told.to_owned());
    }
    if config.booking_link.is_none() {
        warnings.push("fhir.booking_link: is not set, so published slots do not say where they are booked".to_owned());
    }
    warnings
}

/// What nobody else could follow, if that is what is published.
pub(crate) fn loopback(config: &FhirConfig) -> Option<String> {
    let url = config.public_url.as_ref().filter(|url| is_of_this_machine(url))?;
    Some(format!("public_url: {url} means another machine to everybody but this one"))
}

fn is_of_this_machine(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let ip = host.parse::<std::net::IpAddr>().map(|ip| ip.to_canonical());
    let loopback = ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
    // `127.1` is short for 127.0.0.1.
    let short = host.starts_with("127.") && host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    loopback || short || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FhirConfig, Vec<String>> {
        #[derive(Deserialize)]
        struct File {
            public_url: Option<String>,
            #[serde(default)]
            fhir: FhirEntry,
        }
        let file: File = toml::from_str(text).unwrap();
        let mut faults = Faults::default();
        let config = faults.fhir(file.public_url, file.fhir);
        if faults.0.is_empty() { Ok(config) } else { Err(faults.0.into_iter().map(|fault| fault.key).collect()) }
    }

    #[test]
    fn every_fault_is_named_and_defaults_are_those_of_the_standard() {
        let config = read("public_url = ''\n[fhir]\nphone = ''").unwrap();
        assert_eq!((&config.public_url, &config.phone), (&None, &None), "as the sample has them");
        assert_eq!((config.services.len(), config.kept.staleness), (2, Duration::from_secs(30)));
        let good = "public_url = 'https://book.example.org/in'\n[fhir]\nbooking_link = 'https://book.example.org/?s={slot}&c={centre}'\n\
            services = [{ system = 'urn:x', code = '1', display = 'Exam' }]";
        assert_eq!(read(good).unwrap().services[0].code, "1");
        let faulty = "public_url = 'https://x/'\n[fhir]\nbooking_link = 'https://x/{party}'\nphone = 'ring'\nurl = 'x'\n\
            services = [{ system = 'x', code = '', display = '' }]\nstaleness_seconds = 3601\ncache_mib = 0";
        let keys = ["public_url", "fhir.booking_link", "fhir.phone", "fhir.url", "fhir.services"];
        assert_eq!(read(faulty).unwrap_err(), [&keys[..], &["fhir.staleness_seconds", "fhir.cache_mib"]].concat());
        for bad in ["book.example.org", "https://x?a=1", "https://me:secret@x"] {
            assert_eq!(read(&format!("public_url = '{bad}'")).unwrap_err(), ["public_url"], "{bad}");
        }
    }

    #[test]
    fn what_others_could_not_follow_is_warned_of() {
        let warned = |text: &str| warnings(&read(text).unwrap()).len();
        assert_eq!(warned(""), 3);
        let rest = "\n[fhir]\nphone = '1075'\nbooking_link = 'https://x.org/{slot}'";
        assert_eq!(warned(&format!("public_url = 'https://book.example.org'{rest}")), 0);
        for loopback in [
            "http://127.0.0.1:8080",
            "http://localhost",
            "https://[::1]:8443",
            "http://0.0.0.0:80",
            "http://127.1",
            "http://LOCALHOST.:80",
            "http://[::ffff:127.0.0.1]",
            "http://a.localhost/x",
        ] {
            assert_eq!(warned(&format!("public_url = '{loopback}'{rest}")), 1, "{loopback}");
        }
    }
}
