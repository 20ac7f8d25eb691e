//! The HTTP contract (`docs/http-api.md`), held against real servers: each test starts the binary on a free
//! port in a directory of its own. One test binary, one link.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod certificates;
mod certificates_told;
mod client;
mod contract;
mod redis;
mod server;

mod access;
mod acks;
mod admission;
mod audit;
mod availability;
mod backup;
mod bad_input;
mod batches;
mod bookings;
mod bulk_bookings;
mod bulk_doses;
mod bulk_parties;
mod certificate_command;
mod connections;
mod deploy;
mod door;
mod doses;
mod dump;
mod events;
mod fhir;
mod fhir_people;
mod fhir_publish;
mod handover;
mod hostile;
mod idempotency;
mod invitations;
mod keys;
mod lists;
mod lotteries;
mod matrix;
mod observability;
mod openapi;
mod operations;
mod people;
mod people_kept;
mod people_matrix;
mod process;
mod programme;
mod rates;
mod recover;
mod refusals;
mod road;
mod search;
mod session_bookings;
mod sessions;
mod snapshots;
mod stock;
mod stock_kept;
mod supply;
mod tls;
mod tokens;
mod trace;
mod waitlist;
mod webhook;
