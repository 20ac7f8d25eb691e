//! Writes the seeds of the fuzz targets: what `cargo xtask fuzz` begins with.
//!
//! `fuzz_seeds DIR` writes `DIR/TARGET/seed-N`, and says how many.
#![expect(clippy::print_stdout, reason = "a command-line chore speaks on stdout")]

use std::path::Path;
use std::process::ExitCode;

use berth_engine::testing::seeds::seeds;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1) else {
        println!("fuzz_seeds DIR");
        return ExitCode::from(2);
    };
    match write(Path::new(&dir)) {
        Ok(written) => {
            println!("{written} seeds");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}: {error}", Path::new(&dir).display());
            ExitCode::FAILURE
        }
    }
}

fn write(dir: &Path) -> std::io::Result<usize> {
    let mut written = 0;
    for seeds in seeds() {
        let dir = dir.join(seeds.target);
        std::fs::create_dir_all(&dir)?;
        for (number, input) in seeds.inputs.iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{number}")), input)?;
            written += 1;
        }
    }
    Ok(written)
}
