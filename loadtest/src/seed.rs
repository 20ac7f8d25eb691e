//! Filling an empty server: regions, centres, sessions and parties, in bulk, as an administrator would.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde::Serialize;
use tokio::io::AsyncWriteExt;

use crate::apportion::by_largest_remainder;
use crate::console;
use crate::error::{CannotRun, Doing};
use crate::inventory::Inventory;
use crate::scenario::Population;
use crate::wire::{PartiesMade, Problem, Version};

mod sessions;

pub(crate) use sessions::Emptying;

/// An administrator's client, beside the people's.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    client: Client,
    base_url: String,
    key: String,
    run_id: String,
    calls: u32,
}

fn plain_sample((name, value): (&str, &str)) -> Option<(String, u64)> {
    Some((name.to_owned(), value.parse().ok()?))
}

/// Lines of one bulk request: well under the 8 MiB a body may have.
const BULK_BYTES_MAX: usize = 4 << 20;
/// What one `POST /v1/parties` may make.
const PARTIES_PER_CALL_MAX: u32 = 1_000_000;

/// Lines of one request that fills the log, of 800 bytes each: well under the smallest buffer, which bounds one entry.
const FILL_LINES: u32 = 200;
/// The log's rest of a segment is filled within this, or the run goes on without.
const FILL_WITHIN: Duration = Duration::from_secs(10);

impl Admin {
    pub(crate) fn new(base_url: String, key: String, run_id: &str) -> Result<Self, CannotRun> {
        let client = Client::builder()
            .timeout(Duration::from_secs(300))
            .no_proxy()
            .build()
            .doing(|| "set up an HTTP client".into())?;
        Ok(Self { client, base_url, key, run_id: run_id.to_owned(), calls: 0 })
    }

    /// Publishes the inventory and makes the parties; returns the first party's name.
    pub(crate) async fn seed(&mut self, inventory: &Inventory, population: &Population) -> Result<String, CannotRun> {
        self.bulk("/v1/regions", "regions", &inventory.regions).await?;
        self.bulk("/v1/centres", "centres", &inventory.centres).await?;
        self.bulk("/v1/sessions", "sessions", &inventory.sessions).await?;
        let mut first: Option<(String, u64)> = None;
        let now = jiff::Timestamp::now().in_tz("UTC").doing(|| "find the year".into())?;
        for (parties, birth_year) in cohorts(population, i64::from(now.year())) {
            self.parties(parties, birth_year, &mut first).await?;
        }
        console::step(&format!("made {} parties", population.parties));
        first.map(|(name, _)| name).ok_or_else(|| CannotRun::because("no parties were made"))
    }

    pub(crate) async fn version(&self) -> Result<Version, CannotRun> {
        let response = self.send(self.client.get(format!("{}/version", self.base_url)), "read the version").await?;
        response.json().await.doing(|| "read the server's version".into())
    }

    /// Streams `GET /v1/export` into a file.
    pub(crate) async fn export_to(&self, path: &std::path::Path) -> Result<(), CannotRun> {
        let what = || "fetch the export".to_owned();
        let request = self.client.get(format!("{}/v1/export", self.base_url));
        let mut response = self.send(request, &what()).await?;
        let mut file = tokio::fs::File::create(path).await.doing(|| format!("create {}", path.display()))?;
        while let Some(chunk) = response.chunk().await.doing(what)? {
            file.write_all(&chunk).await.doing(|| format!("write {}", path.display()))?;
        }
        file.flush().await.doing(|| format!("write {}", path.display()))
    }

    /// `GET /metrics`: every sample without labels that is a whole number, by its name.
    pub(crate) async fn metrics(&self) -> Result<BTreeMap<String, u64>, CannotRun> {
        let response = self.send(self.client.get(format!("{}/metrics", self.base_url)), "read the metrics").await?;
        let page = response.text().await.doing(|| "read the metrics".into())?;
        Ok(page.lines().filter_map(|line| line.split_once(' ')).filter_map(plain_sample).collect())
    }

    /// The same administrator, whose keys are told from this one's by `mark`.
    pub(crate) fn marked(&self, mark: &str) -> Self {
        Self { run_id: format!("{}-{mark}", self.run_id), calls: 0, ..self.clone() }
    }

    /// Publishes regions that nobody asks for until the journal takes no more: on a full disk, the first that would need
    /// the next segment. Gives up after [`FILL_WITHIN`].
    pub(crate) async fn fill_log(&mut self) -> Result<(), CannotRun> {
        let began = std::time::Instant::now();
        while began.elapsed() < FILL_WITHIN {
            let name = "\u{1F489}".repeat(200);
            let lines: Vec<String> = (0..FILL_LINES)
                .map(|line| {
                    let id = format!("filler-{}-{line}", self.calls);
                    serde_json::json!({ "id": id, "kind": "state", "name": name }).to_string()
                })
                .collect();
            let request = self.client.post(format!("{}/v1/regions", self.base_url));
            let request = self.keyed(request.header("content-type", "application/x-ndjson").body(lines.join("\n")));
            match request.bearer_auth(&self.key).send().await {
                Ok(response) if response.status().as_u16() == 503 => return Ok(()),
                Ok(response) if response.status().is_success() => {}
                Ok(response) => {
                    return Err(CannotRun::because(format!("could not fill the log: {}", response.status())));
                }
                // The server may just be dead.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        Ok(())
    }

    async fn bulk<T: Serialize>(&mut self, route: &str, what: &str, things: &[T]) -> Result<(), CannotRun> {
        let mut body = String::new();
        let mut sent = 0;
        for (index, thing) in things.iter().enumerate() {
            let line = serde_json::to_string(thing).doing(|| format!("write the {what}"))?;
            body.push_str(&line);
            body.push('\n');
            if body.len() > BULK_BYTES_MAX || index + 1 == things.len() {
                let request = self
                    .client
                    .post(format!("{}{route}", self.base_url))
                    .header("content-type", "application/x-ndjson")
                    .body(std::mem::take(&mut body));
                let request = self.keyed(request);
                self.send(request, &format!("publish {what}")).await?;
                sent = index + 1;
                console::progress(&format!("publishing {what}: {sent} of {}", things.len()));
            }
        }
        console::step(&format!("published {sent} {what}"));
        Ok(())
    }

    /// Makes parties of one year; they must follow those made before, of which `first` has the first and how many there are.
    async fn parties(
        &mut self,
        parties: u32,
        birth_year: i64,
        first: &mut Option<(String, u64)>,
    ) -> Result<(), CannotRun> {
        let mut made = 0;
        while made < parties {
            let count = (parties - made).min(PARTIES_PER_CALL_MAX);
            let request = self
                .client
                .post(format!("{}/v1/parties", self.base_url))
                .json(&serde_json::json!({ "count": count, "birth_year": birth_year }));
            let request = self.keyed(request);
            let answer: PartiesMade =
                self.send(request, "make parties").await?.json().await.doing(|| "read the parties made".into())?;
            let number = answer.first.rsplit_once('.').and_then(|(_, number)| number.parse::<u64>().ok());
            if answer.count != u64::from(count) {
                return Err(CannotRun::because(format!("asked for {count} parties, the server made {}", answer.count)));
            }
            match (first.as_mut(), number) {
                (None, Some(number)) => *first = Some((answer.first, number + u64::from(count))),
                (Some((_, next)), Some(number)) if number == *next => *next += u64::from(count),
                _ => {
                    return Err(CannotRun::because(format!(
                        "the parties from {} on do not follow the others",
                        answer.first
                    )));
                }
            }
            made += count;
            console::progress(&format!("making parties: {made} of {parties}"));
        }
        Ok(())
    }

    fn keyed(&mut self, request: RequestBuilder) -> RequestBuilder {
        self.calls += 1;
        request.header("idempotency-key", format!("{}-seed-{}", self.run_id, self.calls))
    }

    async fn send(&self, request: RequestBuilder, what: &str) -> Result<reqwest::Response, CannotRun> {
        let response = request.bearer_auth(&self.key).send().await.doing(|| what.to_owned())?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let problem = serde_json::from_slice::<Problem>(&body).unwrap_or_default();
        let code = problem.code.unwrap_or_else(|| "no code".into());
        let detail = problem.detail.unwrap_or_else(|| String::from_utf8_lossy(&body).chars().take(300).collect());
        Err(CannotRun::because(format!("could not {what}: the server answered {status} ({code}): {detail}")))
    }
}

/// How many people were born in which year: by the scenario's ages, or all in 1980.
fn cohorts(population: &Population, this_year: i64) -> Vec<(u32, i64)> {
    if population.ages.is_empty() {
        return vec![(population.parties, 1980)];
    }
    let weights: Vec<u64> = population.ages.values().map(|share| in_millionths(*share)).collect();
    let shares = by_largest_remainder(u64::from(population.parties), &weights);
    let ages = population.ages.keys().map(|age| age.parse::<i64>().unwrap_or(0));
    ages.zip(shares)
        .filter(|(_, share)| *share > 0)
        .map(|(age, share)| (u32::try_from(share).unwrap_or(u32::MAX), this_year - age))
        .collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share, checked by validate()")]
fn in_millionths(share: f64) -> u64 {
    (share * 1_000_000.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, tests::SMALL};

    #[test]
    fn people_are_as_old_as_the_scenario_says() {
        let mut scenario: Scenario = toml::from_str(SMALL).unwrap();
        assert_eq!(cohorts(&scenario.population, 2026), [(400, 1980)]);
        scenario.population.ages = [("25".into(), 0.75), ("67".into(), 0.25), ("9".into(), 0.0)].into();
        assert_eq!(cohorts(&scenario.population, 2026), [(300, 2001), (100, 1959)]);
    }
}
