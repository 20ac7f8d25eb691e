//! Trace and recall over many doses: how long a dose takes to its batch, a batch to its first page, to its whole recall list and to its sums.
//!
//! The store has the rows that the projection of the journal writes for so many doses, put there in order and without a journal. Each batch
//! has a hundred thousand doses at ten centres. `BERTH_BENCH_DOSES` says how many doses (default 100,000,000); the store lies below
//! `target/`, is opened anew before anything is read, and is deleted at the end.
//!
//! `cargo bench -p berth-benches --bench trace`

use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_engine::BookingNumber;
use berth_programme::store::Store;
use berth_programme::supply::rows::{DosesOf, Filled, fill};

const DOSES: u64 = 100_000_000;
const OF_A_BATCH: u64 = 100_000;
const CENTRES_OF_A_BATCH: u64 = 10;
const LOOKS: u64 = 200;
const PAGE: usize = 100;

/// Away however the bench ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn batch(number: u64) -> String {
    format!("B{number:07}")
}

fn main() {
    // Of tests there is none to be listed.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let tiny = !std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::var("BERTH_BENCH_DOSES").ok().and_then(|text| text.parse().ok());
    let doses: u64 = if tiny { 20_000 } else { asked.unwrap_or(DOSES) };
    let of_a_batch = OF_A_BATCH.min(doses);
    let batches = doses / of_a_batch;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let target = if Path::new("target").is_dir() { target } else { PathBuf::from("../target") };
    let folder = Folder(target.join(format!("bench-trace-{}", std::process::id())));
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").expect("standard output takes it");

    let began = Instant::now();
    let at_a_centre = of_a_batch / CENTRES_OF_A_BATCH;
    let filled = move || {
        (0..batches * of_a_batch).map(move |booking| {
            let (number, centre) = (booking / of_a_batch, booking % of_a_batch / at_a_centre);
            // Centres share batches, and the ids of a batch's centres ascend.
            Filled { batch: batch(number), centre: format!("c{:05}", number % 49_990 + centre), booking }
        })
    };
    {
        let store = Store::open(&folder.0).expect("the store opens");
        fill(&store, filled).expect("the store takes them");
    }
    let filled = began.elapsed();
    let began = Instant::now();
    let store = Store::open(&folder.0).expect("the store opens");
    let all = DosesOf::open(&store).expect("there are tables");
    let opened = began.elapsed();
    let bytes = store.disk_bytes();
    say(format!(
        "{doses} doses of {batches} batches: filled in {:.1} s, opened in {:.3} s, {} MiB, {:.1} bytes a dose",
        filled.as_secs_f64(),
        opened.as_secs_f64(),
        bytes >> 20,
        bytes as f64 / doses as f64,
    ));

    // Spread by a step that shares no factor with any number of doses that is round.
    let spread = |look: u64, among: u64| look.wrapping_mul(7_919_999_983) % among;
    let mut sum = 0u64;
    let dose = times(LOOKS, |look| {
        let of = all.batch_of(BookingNumber(spread(look, doses))).expect("it is read").expect("it is there");
        sum += of.batch.len() as u64;
    });
    let page = times(LOOKS, |look| {
        sum += all
            .of(&batch(spread(look, batches)), None)
            .take(PAGE)
            .map(|row| row.expect("it is read").day)
            .map(u64::from)
            .sum::<u64>();
    });
    let list = times(LOOKS.min(batches).min(20), |look| {
        let valid =
            all.of(&batch(spread(look + 1000, batches)), None).filter(|row| row.as_ref().is_ok_and(|row| row.valid));
        let found = valid.count() as u64;
        assert_eq!(found, of_a_batch);
        sum += found;
    });
    let sums = times(LOOKS, |look| {
        let lot = all.sums(&batch(spread(look, batches))).expect("it is read");
        assert_eq!(lot.given, of_a_batch);
        sum += lot.given;
    });
    for (what, times) in [
        ("a dose to its batch", dose),
        ("a batch to its first 100 doses", page),
        ("a batch to its whole list", list),
        ("the sums of a batch", sums),
    ] {
        let [median, p99, worst] = times;
        say(format!("{what}: median {:.3} ms, p99 {:.3} ms, worst {:.3} ms", ms(median), ms(p99), ms(worst)));
    }
    say(format!("checksum {}", black_box(sum)));
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Median, 99th percentile and the longest.
fn times(looks: u64, mut look: impl FnMut(u64)) -> [Duration; 3] {
    let mut times: Vec<Duration> = (0..looks)
        .map(|number| {
            let began = Instant::now();
            look(number);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    let last = times.len() - 1;
    [times[last / 2], times[last * 99 / 100], times[last]]
}
