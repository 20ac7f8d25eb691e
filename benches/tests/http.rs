//! The comparison over HTTP runs, and what it compares is answered by both sides.

use berth_benches::http::run::{Plan, run};

#[test]
fn the_comparison_over_http_runs_tiny() {
    let mut told = Vec::new();
    let figures = run(&Plan::tiny(), &mut told).expect("both servers answer");
    let told = String::from_utf8(told).expect("it is text");
    assert_eq!(figures.len(), 5, "{told}");
    for figure in figures {
        assert!(figure.requests > 0 && figure.ratio > 0.0, "{told}");
    }
    assert!(told.contains("hit rate") && told.contains("a miss, gzip"), "{told}");
}
