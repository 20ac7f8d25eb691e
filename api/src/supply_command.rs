//! `berth supply`: an allotment plan from what there is and what is needed.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use berth_programme::supply::plan::{Batch, Plan, Region, Target};
use clap::{Args, Subcommand, ValueEnum};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cli::{read, say, tell};
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum SupplyCommand {
    /// Share batches out among regions, fair by need, and show the arithmetic.
    ///
    /// A region needs the doses that its target asks for, less those given and those it has. Batches go in the order in which they
    /// expire; each is shared in proportion to what is still needed, nobody gets more than it needs or can give in time, and whole
    /// packs travel (Hamilton's method). The parts of a batch and what is left of it add up to it.
    ///
    /// REGIONS is CSV with a header: region,population,given,stock,per_day (the last two may be left out or empty: no stock, any
    /// number a day). BATCHES: batch,product,quantity,expires.
    ///
    ///   berth supply plan regions.csv batches.csv --target-percent 70 --doses 2 --pack 10 --on 2021-06-01
    ///
    /// Status 0: planned. 2: a file is faulty, and every fault is named by its line.
    #[command(verbatim_doc_comment)]
    Plan(PlanArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Where doses go.
    regions: PathBuf,
    /// What there is.
    batches: PathBuf,
    /// How much of the population is to be covered.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    target_percent: u8,
    /// Doses of a full course.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=10))]
    doses: u8,
    /// Doses of a pack that is not opened on the way.
    #[arg(long, value_name = "DOSES", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pack: u64,
    /// The first day on which what is shared out can be given. Default: today, in universal time.
    #[arg(long, value_name = "DATE")]
    on: Option<Date>,
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// A row for each region and batch.
    Csv,
    /// One object.
    Json,
}

#[derive(Deserialize)]
struct RegionRow {
    region: String,
    population: u64,
    given: u64,
    stock: Option<u64>,
    per_day: Option<u64>,
}

#[derive(Deserialize)]
struct BatchRow {
    batch: String,
    product: String,
    quantity: u64,
    expires: String,
}

pub(crate) fn run(command: &SupplyCommand) -> Result<ExitCode, String> {
    let SupplyCommand::Plan(args) = command;
    let mut faults = Vec::new();
    let region = |row: RegionRow| {
        let RegionRow { region: id, population, given, stock, per_day } = row;
        Ok(Region { id, population, given, stock: stock.unwrap_or(0), per_day })
    };
    let batch = |row: BatchRow| {
        let BatchRow { batch: id, product, quantity, expires } = row;
        let expires = expires.parse().map_err(|error| format!("expires: {error}"))?;
        Ok(Batch { id, product, quantity, expires })
    };
    let regions = rows(&args.regions, "region", region, |region| &region.id, &mut faults)?;
    let batches = rows(&args.batches, "batch", batch, |batch| &batch.id, &mut faults)?;
    if !faults.is_empty() {
        faults.iter().for_each(|fault| tell(fault));
        return Ok(ExitCode::from(2));
    }
    let on = args.on.unwrap_or_else(|| TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date());
    let target = Target { percent: args.target_percent, doses: args.doses, pack: args.pack, on };
    let plan = Plan::new(&regions, &batches, &target);
    let text = match args.format {
        Format::Text => text(&plan, &regions, &batches, &target),
        Format::Csv => csv(&plan, &regions, &batches),
        Format::Json => serde_json::to_string_pretty(&object(&plan, &regions, &batches, &target))
            .map_err(|error| error.to_string())?,
    };
    say(text.trim_end()).map(|()| ExitCode::SUCCESS)
}

/// The rows of a file; what is wrong with it, by its lines.
fn rows<R: DeserializeOwned, T>(
    path: &Path,
    name: &str,
    make: impl Fn(R) -> Result<T, String>,
    id: impl Fn(&T) -> &String,
    faults: &mut Vec<String>,
) -> Result<Vec<T>, String> {
    let text = read(path)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| format!("{}: {error}", path.display()))?.clone();
    let (mut rows, mut ids) = (Vec::new(), HashSet::new());
    for record in reader.records() {
        let row = record.map_err(|error| fault(&error, &header)).and_then(|record| {
            let line = record.position().map_or(0, csv::Position::line);
            let row = record.deserialize::<R>(Some(&header)).map_err(|error| fault(&error, &header))?;
            make(row).map(|row| (line, row)).map_err(|why| format!("line {line}: {why}"))
        });
        match row {
            Err(why) => faults.push(format!("{} {why}", path.display())),
            Ok((line, row)) => {
                let id = id(&row);
                if id.is_empty() {
                    faults.push(format!("{} line {line}: {name}: is missing", path.display()));
                } else if !ids.insert(id.clone()) {
                    faults.push(format!("{} line {line}: {name}: {id} stands there before", path.display()));
                }
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

/// Where a row is wrong, by line and column, and why.
fn fault(error: &csv::Error, header: &csv::StringRecord) -> String {
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => {
            let column = err.field().and_then(|at| header.get(usize::try_from(at).ok()?)).unwrap_or("the row");
            format!("line {line}: {column}: {}", err.kind())
        }
        _ => format!("line {line}: {error}"),
    }
}

fn text(plan: &Plan, regions: &[Region], batches: &[Batch], target: &Target) -> String {
    let mut text = format!(
        "need = {} % of the population x {} doses - given - stock; packs of {}; given from {} on\n\n",
        target.percent, target.doses, target.pack, target.on
    );
    let width = regions.iter().map(|region| region.id.chars().count()).max().unwrap_or(0).max(6);
    let _ = writeln!(
        text,
        "{:width$} {:>13} {:>13} {:>13} {:>11} {:>13} {:>13} {:>8}",
        "region", "population", "asked for", "given", "stock", "need", "allotted", "of need"
    );
    for (at, region) in regions.iter().enumerate() {
        let (need, doses) = (plan.need[at], plan.doses(at));
        let _ = writeln!(
            text,
            "{:width$} {:>13} {:>13} {:>13} {:>11} {need:>13} {doses:>13} {:>8}",
            region.id,
            region.population,
            region.asked(target),
            region.given,
            region.stock,
            percent(doses, need)
        );
    }
    let (need, doses) = (plan.need.iter().sum(), (0..regions.len()).map(|at| plan.doses(at)).sum());
    let there: u64 = batches.iter().map(|batch| batch.quantity).sum();
    let left: u64 = plan.shared.iter().map(|shared| shared.left).sum();
    let _ = writeln!(
        text,
        "\nneed {need}, there {there} = allotted {doses} + left {left}; {} of need",
        percent(doses, need)
    );
    for shared in &plan.shared {
        let batch = &batches[shared.batch];
        let _ = writeln!(
            text,
            "\nbatch {} ({}, expires {}): {} = allotted {} + left {}",
            batch.id,
            batch.product,
            batch.expires,
            batch.quantity,
            batch.quantity - shared.left,
            shared.left
        );
        for (region, part) in regions.iter().zip(&shared.parts) {
            let _ = writeln!(
                text,
                "  {:width$} needs {:>12}, takes at most {:>12}, quota {:>11}.{:03} packs: {:>12}",
                region.id,
                part.need,
                part.most,
                part.quota / 1000,
                part.quota % 1000,
                part.doses
            );
        }
    }
    text
}

fn percent(doses: u64, need: u64) -> String {
    if need == 0 {
        return "-".to_owned();
    }
    let tenths = u128::from(doses) * 1000 / u128::from(need);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn csv(plan: &Plan, regions: &[Region], batches: &[Batch]) -> String {
    let mut table = Table::new(&["batch", "product", "expires", "region", "need", "most", "quota_packs", "doses"]);
    for shared in &plan.shared {
        let Batch { id, product, expires, .. } = &batches[shared.batch];
        for (region, part) in regions.iter().zip(&shared.parts) {
            let (need, most, doses) = (part.need.to_string(), part.most.to_string(), part.doses.to_string());
            let quota = format!("{}.{:03}", part.quota / 1000, part.quota % 1000);
            table.row(&[id, product, &expires.to_string(), &region.id, &need, &most, &quota, &doses]);
        }
    }
    String::from_utf8(table.finish()).expect("cells are text")
}

fn object(plan: &Plan, regions: &[Region], batches: &[Batch], target: &Target) -> Value {
    let shared = plan.shared.iter().map(|shared| {
        let batch = &batches[shared.batch];
        let parts = regions.iter().zip(&shared.parts).map(|(region, part)| {
            json!({"region": region.id, "need": part.need, "most": part.most, "quota_milli_packs": part.quota, "doses": part.doses})
        });
        json!({
            "batch": batch.id, "product": batch.product, "expires": batch.expires.to_string(), "quantity": batch.quantity,
            "left": shared.left, "parts": parts.collect::<Vec<_>>(),
        })
    });
    let needs = regions.iter().enumerate().map(|(at, region)| {
        json!({
            "region": region.id, "population": region.population, "asked": region.asked(target), "given": region.given,
            "stock": region.stock, "need": plan.need[at], "doses": plan.doses(at),
        })
    });
    json!({
        "target_percent": target.percent, "doses_each": target.doses, "pack": target.pack, "on": target.on.to_string(),
        "regions": needs.collect::<Vec<_>>(), "batches": shared.collect::<Vec<_>>(),
    })
}
