//! The simulator over a few seeds. The gate runs some hundreds, and each planted fault; `cargo xtask sim` as many as asked for.
#![cfg(not(any(loom, shuttle)))]

use berth_engine::testing::sim::{Tally, run};

const SEEDS: u64 = 30;

// rule: CAP-1
// rule: PTY-1
// rule: IDM-1
// rule: HLD-3
// rule: HLD-5
// rule: TIM-1
// rule: JNL-1
// rule: JNL-2
// rule: JNL-3
// rule: JNL-4
// rule: JNL-5
// rule: SNP-1
// rule: SNP-2
// rule: SNP-3
// rule: FNC-1
// rule: FNC-2
// rule: FNC-4
// rule: FNC-5
#[test]
fn no_crash_breaks_a_promise() {
    let mut tally = Tally::default();
    for seed in 1..=SEEDS {
        match run(seed) {
            Ok(of_one) => tally.add(&of_one),
            Err(violation) => panic!("{violation}"),
        }
    }
    assert!(tally.work["starts"] > SEEDS * 3, "hardly anything crashed:\n{tally}");
}

#[test]
fn a_seed_repeats() {
    assert_eq!(run(5), run(5));
}
