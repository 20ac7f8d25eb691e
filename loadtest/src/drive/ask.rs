//! One request, before it is sent: what it asks, under which key, and how the history will name it.

use goose::goose::GooseMethod;

use crate::error::CannotRun;
use crate::history::{Claim, Op};
use crate::wire::ClaimsAsked;

/// A request that can be sent as often as needed: the same bytes and the same key each time.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) arrival: u64,
    pub(crate) op: Op,
    pub(crate) method: GooseMethod,
    pub(crate) path: String,
    /// The route's template, so that figures add up per route.
    pub(crate) route: &'static str,
    pub(crate) key: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) asked: Vec<Claim>,
    pub(crate) target: Option<String>,
}

/// A request whose outcome stayed unknown to the end of its attempts.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub(crate) arrival: u64,
    pub(crate) key: String,
}

impl Ask {
    pub(crate) fn search(arrival: u64, district: &str, from: &str, days: u32) -> Self {
        let path = format!("/v1/availability?district={district}&from={from}&days={days}&available=true");
        Self::read(arrival, Op::Search, path, "/v1/availability", district)
    }

    pub(crate) fn hold(arrival: u64, key: String, claims: Vec<Claim>) -> Result<Self, CannotRun> {
        Self::claiming(arrival, Op::Hold, "/v1/holds", key, claims)
    }

    pub(crate) fn book(arrival: u64, key: String, claims: Vec<Claim>) -> Result<Self, CannotRun> {
        Self::claiming(arrival, Op::Book, "/v1/bookings", key, claims)
    }

    pub(crate) fn confirm(arrival: u64, key: String, hold: &str) -> Self {
        Self::change(arrival, Op::Confirm, format!("/v1/holds/{hold}/confirm"), "/v1/holds/{hold}/confirm", key, hold)
    }

    pub(crate) fn release(arrival: u64, key: String, hold: &str) -> Self {
        Self::change(arrival, Op::Release, format!("/v1/holds/{hold}/release"), "/v1/holds/{hold}/release", key, hold)
    }

    pub(crate) fn cancel(arrival: u64, key: String, booking: &str) -> Self {
        let path = format!("/v1/bookings/{booking}/cancel");
        Self::change(arrival, Op::Cancel, path, "/v1/bookings/{booking}/cancel", key, booking)
    }

    /// Moves `booking`, which is `of` (a party and dose), to the slot in `of`.
    pub(crate) fn move_to(arrival: u64, key: String, booking: &str, of: Claim) -> Self {
        let path = format!("/v1/bookings/{booking}/move");
        let mut ask = Self::change(arrival, Op::Move, path, "/v1/bookings/{booking}/move", key, booking);
        ask.body = Some(serde_json::json!({ "slot": of.slot }).to_string());
        ask.asked = vec![of];
        ask
    }

    /// With the four digits that the person says.
    pub(crate) fn check_in(arrival: u64, key: String, booking: &str, code: &str) -> Self {
        let path = format!("/v1/bookings/{booking}/check-in");
        let mut ask = Self::change(arrival, Op::CheckIn, path, "/v1/bookings/{booking}/check-in", key, booking);
        ask.body = Some(serde_json::json!({ "code": code }).to_string());
        ask
    }

    pub(crate) fn complete(arrival: u64, key: String, booking: &str) -> Self {
        let path = format!("/v1/bookings/{booking}/complete");
        Self::change(arrival, Op::Complete, path, "/v1/bookings/{booking}/complete", key, booking)
    }

    pub(crate) fn no_show(arrival: u64, key: String, booking: &str) -> Self {
        let path = format!("/v1/bookings/{booking}/no-show");
        Self::change(arrival, Op::NoShow, path, "/v1/bookings/{booking}/no-show", key, booking)
    }

    pub(crate) fn walk_in(arrival: u64, key: String, claim: Claim) -> Result<Self, CannotRun> {
        let body = serde_json::to_string(&claim)
            .map_err(|error| CannotRun::because(format!("could not write a request: {error}")))?;
        let mut ask = Self::claiming(arrival, Op::WalkIn, "/v1/walk-ins", key, vec![claim])?;
        ask.body = Some(body);
        Ok(ask)
    }

    pub(crate) fn read_booking(arrival: u64, booking: &str) -> Self {
        Self::read(arrival, Op::Read, format!("/v1/bookings/{booking}"), "/v1/bookings/{booking}", booking)
    }

    /// Asks what became of `key`.
    pub(crate) fn outcome(arrival: u64, key: &str) -> Self {
        Self::read(arrival, Op::Outcome, format!("/v1/outcomes/{key}"), "/v1/outcomes/{key}", key)
    }

    fn read(arrival: u64, op: Op, path: String, route: &'static str, target: &str) -> Self {
        Self {
            arrival,
            op,
            method: GooseMethod::Get,
            path,
            route,
            key: None,
            body: None,
            asked: Vec::new(),
            target: Some(target.to_owned()),
        }
    }

    fn change(arrival: u64, op: Op, path: String, route: &'static str, key: String, target: &str) -> Self {
        Self { method: GooseMethod::Post, key: Some(key), ..Self::read(arrival, op, path, route, target) }
    }

    fn claiming(arrival: u64, op: Op, route: &'static str, key: String, asked: Vec<Claim>) -> Result<Self, CannotRun> {
        let body = serde_json::to_string(&ClaimsAsked { claims: &asked })
            .map_err(|error| CannotRun::because(format!("could not write a request: {error}")))?;
        Ok(Self {
            arrival,
            op,
            method: GooseMethod::Post,
            path: route.to_owned(),
            route,
            key: Some(key),
            body: Some(body),
            asked,
            target: None,
        })
    }
}
