//! The binary `berth`. Everything it does is in the library, where tests and benches reach it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    berth_api::cli::run()
}
