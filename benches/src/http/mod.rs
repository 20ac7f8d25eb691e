//! `berth serve` beside a bare hyper server that answers with the same bytes: server CPU per request.
//!
//! Both are processes of their own and are driven by one client in one run, in turns. What is counted is the CPU time the system
//! booked on the server's process (`utime` + `stime`), so neither the client nor the other side weighs in.

pub mod client;
pub mod copy;
pub mod inventory;
pub mod process;
pub mod run;
pub mod wire;
