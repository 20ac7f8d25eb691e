//! What the configuration says of who may ask: keys, tokens.

use std::path::PathBuf;
use std::time::Duration;

use berth_engine::{CellId, TimestampMs};
use serde::Deserialize;

use super::Faults;
use crate::access::{Access, AccessConfig, KeyEntry, Role, Rules, TokensConfig};

/// Signed tokens. docs/access.md says what one must be like.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokensEntry {
    /// What a token's `iss` must be. Required.
    pub(crate) issuer: Option<String>,
    /// What its `aud` must be, or have; one or several. Required.
    #[serde(default)]
    pub(crate) audience: OneOrMore,
    /// The issuer's public keys as a JSON Web Key Set; taken up again when it changes. Required.
    pub(crate) jwks_file: Option<PathBuf>,
    /// Revoked tokens by their `jti`, one JSON object a line; written by the server and taken up again when it changes. Default
    /// none: what is revoked is forgotten when the server stops.
    pub(crate) revocations_file: Option<PathBuf>,
    /// Roles that tokens may carry. Default `citizen` and `operator`.
    pub(crate) roles: Option<Vec<Role>>,
    /// The claim that has the role. Default `role`.
    pub(crate) role_claim: Option<String>,
    /// The claim that has a citizen's parties. Default `parties`.
    pub(crate) parties_claim: Option<String>,
    /// The claim that has an operator's centres. Default `centres`.
    pub(crate) centres_claim: Option<String>,
    /// The claim that has an operator's districts. Default `districts`.
    pub(crate) districts_claim: Option<String>,
    /// How far the issuer's clock may be off. 0 to 600. Default 30.
    pub(crate) leeway_seconds: Option<u64>,
    /// No token may be valid longer than this from its `iat` on. 60 to 2678400. Default 86400.
    pub(crate) life_seconds_max: Option<u64>,
    /// The longest token. 256 to 32768. Default 4096.
    pub(crate) bytes_max: Option<usize>,
    /// Verified tokens kept, some 300 bytes each. 16 to 10 million. Default 100000.
    pub(crate) cached_max: Option<usize>,
    /// Signatures verified at once. 1 to 256. Default half the processors.
    pub(crate) verifying_max: Option<usize>,
}

/// One text, or a list of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "OneOrMoreText")]
pub(crate) struct OneOrMore(pub(crate) Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMoreText {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMoreText> for OneOrMore {
    fn from(text: OneOrMoreText) -> OneOrMore {
        OneOrMore(match text {
            OneOrMoreText::One(text) => vec![text],
            OneOrMoreText::More(texts) => texts,
        })
    }
}

impl Faults {
    /// Who may ask; the files it names are read once, so that their faults are named with all others.
    pub(super) fn who_may_ask(
        &mut self,
        inline: Vec<KeyEntry>,
        keys_file: Option<PathBuf>,
        tokens: Option<TokensEntry>,
        cell: CellId,
    ) -> AccessConfig {
        if inline.is_empty() && keys_file.is_none() {
            self.push("keys", "there are none and no keys_file, so nobody could publish or book");
        }
        let before = self.0.len();
        let tokens = tokens.map(|entry| self.tokens(entry, cell));
        // Without a field there is no sense in what the files of the others say.
        let tokens = tokens.filter(|_| self.0.len() == before);
        let config = AccessConfig { inline, keys_file, tokens };
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        if let Err(faults) = Access::open(&config, TimestampMs(now)) {
            self.0.extend(faults);
        }
        config
    }

    fn tokens(&mut self, entry: TokensEntry, cell: CellId) -> TokensConfig {
        let issuer = self.required("tokens.issuer", entry.issuer.filter(|issuer| !issuer.is_empty()));
        let audience = entry.audience.0;
        if audience.is_empty() || audience.iter().any(String::is_empty) {
            self.push("tokens.audience", "is missing: tokens that are meant for others would be taken here");
        }
        let jwks_file = self.required("tokens.jwks_file", entry.jwks_file);
        let roles = entry.roles.unwrap_or_else(|| vec![Role::Citizen, Role::Operator]);
        if roles.is_empty() {
            self.push("tokens.roles", "is empty, so no token would be taken");
        }
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let or = |claim: Option<String>, or: &str| claim.unwrap_or_else(|| or.to_owned());
        TokensConfig {
            rules: Rules {
                issuer: issuer.unwrap_or_default(),
                audience,
                roles,
                role_claim: or(entry.role_claim, "role"),
                parties_claim: or(entry.parties_claim, "parties"),
                centres_claim: or(entry.centres_claim, "centres"),
                districts_claim: or(entry.districts_claim, "districts"),
                leeway: Duration::from_secs(self.within("tokens.leeway_seconds", entry.leeway_seconds, 30, 0, 600)),
                life_max: Duration::from_secs(self.within(
                    "tokens.life_seconds_max",
                    entry.life_seconds_max,
                    86_400,
                    60,
                    2_678_400,
                )),
                cell,
                members: None,
            },
            jwks_file: jwks_file.unwrap_or_default(),
            revocations_file: entry.revocations_file,
            bytes_max: self.within("tokens.bytes_max", entry.bytes_max, 4096, 256, 32_768),
            cached_max: self.within("tokens.cached_max", entry.cached_max, 100_000, 16, 10_000_000),
            verifying_max: self.within("tokens.verifying_max", entry.verifying_max, (processors / 2).max(1), 1, 256),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConfigFile;

    const GOOD: &str = "listen = '127.0.0.1:0'\ndata_dir = 'd'\nprogramme = 'p'\n";

    fn faults(more: &str) -> Vec<String> {
        let file = ConfigFile::parse(&format!("{GOOD}{more}")).unwrap();
        file.validate().err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn faults_of_the_files_are_named_with_all_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let row = |role: &str, hash: &str| format!("[[keys]]\nrole = '{role}'\nname = 'x'\nsha256 = '{hash}'\n");
        let keys = file("keys.toml", &format!("{}{}", row("admin", &"ab".repeat(32)), row("operator", "12")));
        let jwks = file("jwks.json", "{\"keys\":[]}");
        let text = format!(
            "keys_file = '{keys}'\n{}[tokens]\nissuer = 'i'\naudience = 'a'\njwks_file = '{jwks}'",
            row("platform", &"ab".repeat(32))
        );
        assert_eq!(
            faults(&text),
            [
                format!("keys_file: {keys}: keys[0].sha256: is the hash of another entry's key"),
                format!("keys_file: {keys}: keys[1].centres: an operator's key names its centres or districts"),
                format!("keys_file: {keys}: keys[1].sha256: must be 64 hex digits: printf %s KEY | sha256sum"),
                format!("tokens.jwks_file: {jwks}: has no key that signs with EdDSA (Ed25519) or ES256 (P-256)"),
            ]
        );
        let text = "keys_file = 'no/such'\n[tokens]\nleeway_seconds = 601\nroles = []";
        let found = faults(text);
        let keys: Vec<_> = found.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(
            keys,
            [
                "tokens.issuer",
                "tokens.audience",
                "tokens.jwks_file",
                "tokens.roles",
                "tokens.leeway_seconds",
                "keys_file"
            ]
        );
    }
}
