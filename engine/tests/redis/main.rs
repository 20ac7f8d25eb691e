//! Write-behind to a real redis-server.
//!
//! Needs `redis-server` on the path; `cargo xtask test` installs it where it may.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod server;

mod failover;
mod outages;
mod recovery;
mod secured;
mod settling;
mod stream;
