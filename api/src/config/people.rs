//! What the configuration says of people: whether they register here, what a record must be like, and how codes reach phones.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_programme::is_name;
use berth_programme::people::{CodeLimits, KEY_TABLE, MasterKey, People, RecordRules};
use serde::Deserialize;

use super::Faults;
use crate::people::{Master, PeopleSettings, Secret, SinkSettings, WebhookSettings};

/// The variable that holds the master key where no file does.
pub(crate) const MASTER_VARIABLE: &str = "BERTH_PEOPLE_KEY";
const HOUR_MS: u64 = 3_600_000;

/// Registration. docs/people.md tells more.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeopleEntry {
    /// Where the master key lies: 64 hexadecimal digits, made at the first start. Keep it off the disk of the data directory, and keep a
    /// copy: without it nothing of people can be read. Required, unless the environment's `BERTH_PEOPLE_KEY` is the key itself.
    pub(crate) master_key_file: Option<PathBuf>,
    /// The country's calling code, digits alone, for numbers that are said without one. Default none: then each needs its own.
    pub(crate) country_code: Option<String>,
    /// What sex may be. Default anything.
    #[serde(default)]
    pub(crate) sexes: Vec<String>,
    /// Whether nobody is registered without a document. Default false: children and many others have none.
    #[serde(default)]
    pub(crate) document_needed: bool,
    /// People of one account. 1 to 100. Default the programme's `members_per_account_max`.
    pub(crate) members_per_account_max: Option<usize>,
    /// How long a person who was offered to another account can be taken. 1 to 720. Default 24.
    pub(crate) transfer_hours: Option<u64>,
    /// How long a token is good. 5 to 1440. Default 60.
    pub(crate) session_minutes: Option<u64>,
    /// How long a one-time code opens. 30 to 3600. Default 180.
    pub(crate) code_seconds: Option<u64>,
    /// Wrong codes that are looked at for each. 1 to 20. Default 5.
    pub(crate) code_tries_max: Option<u8>,
    /// Codes sent to one phone within an hour. 1 to 100. Default 5.
    pub(crate) codes_per_phone_per_hour_max: Option<usize>,
    /// Codes asked for and wrong codes said from one address (of IPv6 from one /64) within an hour. Behind a balancer name it in
    /// `rates.trusted_proxies`. 1 to 1 million. Default 200: a village may have one address.
    pub(crate) codes_per_address_per_hour_max: Option<u32>,
    /// Codes sent within a minute, to all phones: each costs money. 1 to 1 million. Default 6000.
    pub(crate) codes_per_minute_max: Option<u32>,
    /// Wrong codes that are looked at within a minute, of all phones together that wait for one: past it none is, and who says one is told
    /// when to say it again. 1 to 1 million. Default 600: so many guess one code of a million in a day.
    pub(crate) wrong_codes_per_minute_max: Option<u32>,
    /// Codes are written here, one JSON object a line: for rehearsals and tests, for whoever reads it is let in as anybody. Default none.
    pub(crate) codes_file: Option<PathBuf>,
    /// Codes are posted here as JSON; `https://`, or `http://` of this machine. Default none.
    pub(crate) webhook_url: Option<String>,
    /// A file whose first line is sent as `Authorization: Bearer`. Default none.
    pub(crate) webhook_secret_file: Option<PathBuf>,
    /// Who signed the webhook's certificate, as PEM. Default the system's roots.
    pub(crate) webhook_ca_file: Option<PathBuf>,
    /// How long the webhook may take to answer. 100 to 60000. Default 5000.
    pub(crate) webhook_time_ms: Option<u64>,
    /// Codes that may wait for the webhook. 16 to 1 million. Default 10000.
    pub(crate) webhook_queue_max: Option<usize>,
}

impl Faults {
    pub(super) fn people(&mut self, entry: PeopleEntry, data_dir: Option<&Path>, audited: bool) -> PeopleSettings {
        if !audited {
            self.push("people", "needs [audit]: whoever reads a person, or registers one for them, is written down");
        }
        let master = self.master(entry.master_key_file, data_dir);
        let digits = |code: &String| (1..=3).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_digit());
        if entry.country_code.as_ref().is_some_and(|code| !digits(code)) {
            self.push("people.country_code", "must be 1 to 3 digits, as \"91\"");
        }
        if entry.sexes.iter().any(|name| !is_name(name)) {
            self.push("people.sexes", "each must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        let webhook = entry.webhook_url.map(|url| {
            if !is_webhook(&url) {
                self.push("people.webhook_url", "must be https://, or http:// of 127.0.0.1, [::1] or localhost");
            }
            let secret = self.file("people.webhook_secret_file", entry.webhook_secret_file.clone());
            let secret = secret.and_then(|bytes| Secret::parse(String::from_utf8(bytes).ok()?.lines().next()?.trim()));
            if entry.webhook_secret_file.is_some() && secret.is_none() {
                self.push(
                    "people.webhook_secret_file",
                    "its first line must be the secret: whsec_ and 24 to 64 bytes in Base64, or visible ASCII characters",
                );
            }
            WebhookSettings {
                url,
                secret,
                ca_pem: self.file("people.webhook_ca_file", entry.webhook_ca_file.clone()),
                time: self.millis("people.webhook_time_ms", entry.webhook_time_ms, 5000, 100, 60_000),
                queue_max: self.within("people.webhook_queue_max", entry.webhook_queue_max, 10_000, 16, 1_000_000),
            }
        });
        let sink = match (entry.codes_file, webhook) {
            (Some(_), Some(_)) => {
                self.push("people.codes_file", "codes go to a file or to webhook_url, not to both");
                None
            }
            (Some(file), None) => Some(SinkSettings::File(file)),
            (None, Some(webhook)) => Some(SinkSettings::Webhook(Box::new(webhook))),
            (None, None) => None,
        };
        let tries = self.within("people.code_tries_max", entry.code_tries_max, 5, 1, 20);
        let phone = entry.codes_per_phone_per_hour_max;
        PeopleSettings {
            master,
            rules: RecordRules {
                country_code: entry.country_code,
                sexes: entry.sexes,
                programme: None,
                document_needed: entry.document_needed,
            },
            members_max: entry
                .members_per_account_max
                .map(|max| self.within("people.members_per_account_max", Some(max), 4, 1, 100)),
            offer_ms: self.within("people.transfer_hours", entry.transfer_hours, 24, 1, 720) * HOUR_MS,
            session_life: Duration::from_secs(
                60 * self.within("people.session_minutes", entry.session_minutes, 60, 5, 1440),
            ),
            codes: CodeLimits {
                life_ms: 1000 * self.within("people.code_seconds", entry.code_seconds, 180, 30, 3600),
                tries_max: tries,
                per_phone_per_hour_max: self.within("people.codes_per_phone_per_hour_max", phone, 5, 1, 100),
                per_address_per_hour_max: self.within(
                    "people.codes_per_address_per_hour_max",
                    entry.codes_per_address_per_hour_max,
                    200,
                    1,
                    1_000_000,
                ),
                wrong_per_minute_max: self.within(
                    "people.wrong_codes_per_minute_max",
                    entry.wrong_codes_per_minute_max,
                    600,
                    1,
                    1_000_000,
                ),
                per_minute_max: self.within(
                    "people.codes_per_minute_max",
                    entry.codes_per_minute_max,
                    6000,
                    1,
                    1_000_000,
                ),
            },
            sink,
        }
    }

    /// Where the key is, and that it is one. It is made at a start, not here.
    fn master(&mut self, file: Option<PathBuf>, data_dir: Option<&Path>) -> Master {
        let Some(path) = file else {
            let Ok(text) = std::env::var(MASTER_VARIABLE) else {
                self.push("people.master_key_file", format!("is missing, and there is no {MASTER_VARIABLE}"));
                return Master::File(PathBuf::new());
            };
            return match MasterKey::parse(&text) {
                Ok(key) => Master::Key(Arc::new(key)),
                Err(error) => {
                    self.push(MASTER_VARIABLE, error.to_string());
                    Master::File(PathBuf::new())
                }
            };
        };
        let table = data_dir.map(|dir| dir.join(KEY_TABLE));
        if path.exists() {
            if let Err(error) = MasterKey::load(&path) {
                self.push("people.master_key_file", format!("{}: {error}", path.display()));
            }
        } else if let Some(table) = table.filter(|table| People::has_key_table(table)) {
            let fault = format!("{} is gone, and {} can be read with it alone", path.display(), table.display());
            self.push("people.master_key_file", fault);
        }
        Master::File(path)
    }
}

/// Codes are for one phone alone: they leave this machine encrypted or not at all.
fn is_webhook(url: &str) -> bool {
    let Ok(uri) = url.parse::<hyper::Uri>() else { return false };
    let near = matches!(uri.host(), Some("127.0.0.1" | "[::1]" | "localhost"));
    match uri.scheme_str() {
        Some("https") => uri.host().is_some(),
        Some("http") => near,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConfigFile;

    const GOOD: &str = "listen = '127.0.0.1:0'\ndata_dir = 'd'\nprogramme = 'p'\n[[keys]]\nrole = 'admin'\nname = 'a'\n\
                        sha256 = 'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb'\n";

    fn keys_of(more: &str) -> Vec<String> {
        let file = ConfigFile::parse(&format!("{GOOD}{more}")).unwrap();
        file.validate().err().unwrap_or_default().into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn every_fault_of_people_is_named_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("people.key");
        let audit = "[audit]\nfile = 'audit.ndjson'\n";
        assert_eq!(keys_of(&format!("[people]\nmaster_key_file = {key:?}")), ["people"]);
        assert!(keys_of(&format!("{audit}[people]\nmaster_key_file = {key:?}")).is_empty(), "it is made at the start");
        std::fs::write(&key, "no key").unwrap();
        let faulty = "country_code = '+91'\nsexes = ['a b']\nwebhook_url = 'http://sms.example.org'\ncodes_file = 'c'\n\
                      webhook_secret_file = 'no/such'\nmembers_per_account_max = 0\ncode_tries_max = 0";
        assert_eq!(
            keys_of(&format!("{audit}[people]\nmaster_key_file = {key:?}\n{faulty}")),
            [
                "people.master_key_file",
                "people.country_code",
                "people.sexes",
                "people.webhook_url",
                "people.webhook_secret_file",
                "people.webhook_secret_file",
                "people.codes_file",
                "people.code_tries_max",
                "people.members_per_account_max",
            ]
        );
    }

    #[test]
    fn codes_leave_this_machine_encrypted() {
        for good in ["https://sms.example.org/send", "http://127.0.0.1:8080/", "http://localhost/x", "http://[::1]:1/"]
        {
            assert!(super::is_webhook(good), "{good}");
        }
        for bad in ["http://sms.example.org", "ftp://127.0.0.1", "/send", "", "https://"] {
            assert!(!super::is_webhook(bad), "{bad}");
        }
    }
}
