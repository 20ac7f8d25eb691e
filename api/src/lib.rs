//! The HTTP API of Berth, version 1 (`docs/http-api.md` is the contract), and the commands of its binary.
//!
//! Life of a request: [`server`] accepts, [`connection`] tells HTTP/1.1 from HTTP/2, [`router`] finds the
//! endpoint, asks [`admission`] whether it may enter now, [`gate`] says who asks and whether they may ([`access`], [`rates`], [`audit`]),
//! and it calls one function of [`routes`]; that reads the body within its
//! limits ([`body`]), turns it into one engine command ([`wire`], [`idempotency`]), submits it, waits until
//! what the answer rests on is as safe as was asked ([`ack`]), and renders. Every refusal becomes a status and a code in [`problem`],
//! and nowhere else.
//!
//! **A client that hangs up.** `Engine::submit` does all its work in one call that never waits, so there is no
//! moment at which dropping the handler could leave a booking half done: before the call nothing has happened,
//! after it the journal has the entry whoever still listens. What blocks (bulk publishes) runs on threads that
//! nobody cancels.

#![forbid(unsafe_code)]

pub mod cli;

mod config;

mod app;
mod fhir;
mod handover;
mod search;
mod server;
mod snapshots;
mod store;

mod connection;
mod descriptors;
mod eligibility;
mod gate;
mod openapi;
mod rates;
mod reload_programme;
mod router;
mod tls;
mod traffic;

mod access;
mod ack;
mod admission;
mod audit;
mod body;
mod certificates;
mod idempotency;
mod log;
mod lottery;
mod meter;
mod metrics;
mod panics;
mod people;
mod problem;
mod progress;
mod recover;
mod routes;
mod supply_command;
mod table;
mod trace;
mod waking;
mod wire;

mod backup;
mod certificate_command;
mod demo;
mod dump;
mod events;
mod export;
mod offline;
mod programme_command;
