//! Many parties with what is known of each: a platform that moves its people here, who may have had doses elsewhere.

use std::sync::Arc;

use berth_engine::{Command, IdempotencyKey, Outcome, PartyFacts, Seq, TimestampMs};
use bytes::Bytes;
use hyper::Response;
use serde::Serialize;
use serde_json::Value;

use super::facts::FactsChange;
use super::line_by_line::{self, Answering, Stream};
use super::lines::Stop;
use super::parse;
use crate::body::ResponseBody;
use crate::idempotency::{self, Fingerprint};
use crate::problem::{self, Code, Problem};
use crate::router::Call;

/// `POST /v1/bulk/parties`
pub(crate) async fn stream(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let print = Fingerprint::new(call.endpoint.method.as_str(), call.endpoint.template);
    line_by_line::answer(call, |stream| Bulk { stream, print }).await
}

struct Bulk {
    stream: Stream,
    print: Fingerprint,
}

/// A party that was made.
#[derive(Serialize)]
struct Made<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    status: u16,
    party: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
}

impl Answering for Bulk {
    fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    fn into_stream(self) -> Stream {
        self.stream
    }

    async fn answer(&mut self, line: &Bytes, now: TimestampMs) -> Result<(), Stop> {
        let number = self.stream.line;
        let (key, asked) = match keyed(line) {
            Err(problem) => (None, Err(problem)),
            Ok((key, said)) => {
                let asked = self.asked(key.as_deref(), &said, now);
                (key, asked)
            }
        };
        let key = key.as_deref();
        let (facts, print, under) = match asked {
            Ok(asked) => asked,
            Err(problem) => {
                self.stream.refuse(number, key, problem, Seq(0));
                return Ok(());
            }
        };
        let app = Arc::clone(&self.stream.app);
        let command = Command::AddParties { count: 1, facts };
        let submitted = self.stream.lines.submit(&app, command, print.under(under)).await?;
        match &submitted.result {
            Ok(Outcome::PartiesAdded { first, .. }) => {
                let (party, replayed) = (app.names().party(*first), submitted.replayed);
                let made = Made { line: number, key, status: 201, party, replayed };
                self.stream.done(&made, replayed, submitted.seq);
            }
            Ok(other) => unreachable!("a line makes a party, and not {other:?}"),
            Err(refusal) => {
                self.stream.refuse(number, key, problem::refused(refusal, &app.names()), submitted.seq);
            }
        }
        Ok(())
    }
}

impl Bulk {
    /// What a line says of a party, under its own key or its place in the request's.
    fn asked(
        &self,
        key: Option<&str>,
        said: &Value,
        now: TimestampMs,
    ) -> Result<(PartyFacts, Fingerprint, IdempotencyKey), Problem> {
        // In the order of its members' names, so that a repeat may have them in another.
        let text = said.to_string();
        let said: FactsChange = parse(text.as_bytes())?;
        said.may_be_said_by(self.stream.caller.role)?;
        let rules = self.stream.app.campaign.programme.get();
        let facts = said.over(PartyFacts::default(), &rules, rules.calendar().day(now))?;
        let under = match self.stream.key_of(key)? {
            (own, 0) => self.stream.scope.key(own),
            (request, line) => self.stream.scope.step(request, "line", line),
        };
        Ok((facts, self.print.clone().piece(text.as_bytes()), under))
    }
}

/// A line's own key, and the rest of it.
fn keyed(line: &[u8]) -> Result<(Option<String>, Value), Problem> {
    let malformed = |error| Problem::new(Code::MalformedJson, format!("the line: {error}"));
    let mut rest: Value = serde_json::from_slice(line).map_err(malformed)?;
    let key = match rest.as_object_mut().and_then(|members| members.remove("key")) {
        None => None,
        Some(Value::String(key)) if idempotency::is_key(&key) => Some(key),
        Some(_) => return Err(idempotency::malformed()),
    };
    Ok((key, rest))
}
