//! The comparison over HTTP runs, and what it compares is answered by both sides.

use berth_benches::http::copy;
use berth_benches::http::run::{Plan, run};

#[test]
fn the_comparison_over_http_runs_tiny() {
    let mut told = Vec::new();
    let figures = run(&Plan::tiny(), &mut told).expect("both servers answer");
    let told = String::from_utf8(told).expect("it is text");
    let titles: Vec<_> = figures.iter().map(|figure| figure.title).collect();
    assert_eq!(
        titles,
        [
            "search, one district, zstd",
            "search, one district, gzip",
            "search, one district, identity",
            "search, one centre, zstd",
            "FHIR slots of that centre, zstd",
            "search, Zipf over all districts, inventory changing, zstd",
            "one durable booking",
            "one durable booking, eight times the connections",
        ],
        "{told}"
    );
    for figure in &figures {
        // That both answer the same bytes is looked at before they are compared; how fast, no test can say.
        assert!(figure.requests > 0 && figure.bare_requests > 0, "{told}");
        assert!(figure.ratio.is_finite() && figure.ratio > 0.0, "{told}");
    }
    assert!(told.contains("hit rate") && told.contains("a miss, gzip") && told.contains("a published file"), "{told}");
}

#[test]
fn a_day_at_the_centre_runs_tiny() {
    let mut told = Vec::new();
    let figures = berth_benches::centre::run(&berth_benches::centre::Plan::tiny(), &mut told).expect("it is all done");
    let told = String::from_utf8(told).expect("it is text");
    let calls = |lanes: &[berth_benches::centre::Lane]| lanes.iter().map(|lane| lane.calls).collect::<Vec<_>>();
    // Five are checked in before the first dose; how fast, no test can say.
    assert_eq!((calls(&figures.paced), calls(&figures.flat_out)), (vec![20, 15, 15], vec![40; 3]), "{told}");
    assert!(figures.share.is_finite() && figures.bare_share.is_finite() && told.contains("a bare one"), "{told}");
}

#[test]
fn copies_of_everything_run_tiny() {
    let mut told = Vec::new();
    let figures = copy::run(&copy::Plan::tiny(), &mut told).expect("it is all copied");
    let told = String::from_utf8(told).expect("it is text");
    // 80 centres: a file of locations, one of schedules, three of slots.
    assert_eq!((figures.files, figures.slots), (5, 80 * 2 * 4), "{told}");
    // Two askers of sixteen connections, alone and beside a copier.
    assert!(figures.bookings.iter().all(|&bookings| bookings >= 32), "{told}");
}
