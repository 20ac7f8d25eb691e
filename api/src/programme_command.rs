//! `berth programme`: a programme file checked, and asked who may have what.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use berth_engine::{Dose, Limits, PartyFacts, ProductId, TimestampMs};
use berth_programme::{Calendar, Programme, ProgrammeFileError, Question};
use clap::{Args, Subcommand};
use jiff::civil::Date;
use serde_json::json;

use crate::access::{hash, hex};
use crate::cli::{read, read_programme, say, tell};
use crate::eligibility::Eligibility;

#[derive(Debug, Subcommand)]
pub(crate) enum ProgrammeCommand {
    /// Check a programme file and name every fault, each by its key.
    ///
    /// Status 0: it is good. 2: it is not.
    Check {
        /// The programme file.
        file: PathBuf,
    },
    /// Say whether somebody may have a dose, which rule decides, and every rule on the way.
    ///
    /// Nothing is asked of a server: the file alone answers, as it would have on the day asked about. Status 0: yes. 1: no. 2: the
    /// question cannot be asked.
    ///
    ///   berth programme explain programmes/india-2021.toml --birth-year 1975 --product covishield --dose 2 --last 2021-03-01
    ///   berth programme explain programmes/india-2021.toml --birth-year 1990 --product covaxin --on 2021-03-15 --cohorts frontline
    #[command(verbatim_doc_comment)]
    Explain(ExplainArgs),
    /// Say which programmes were in force, and when: as the journal of a data directory has it that no server owns.
    ///
    /// One line of JSON for each, in order: the entry that put it in force, when, its SHA-256, and whether it came from a file or by
    /// a call. A running server says the same (`GET /v1/admin/programme`).
    History {
        /// The data directory.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Print the whole text of the programme of this entry instead.
        #[arg(long, value_name = "ENTRY")]
        text: Option<u64>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The programme file.
    file: PathBuf,
    /// What is asked for.
    #[arg(long, value_name = "ID")]
    product: String,
    /// Which dose.
    #[arg(long, alias = "step", value_name = "N", default_value_t = 1)]
    dose: u8,
    /// The year of birth. Absent: not known.
    #[arg(long, value_name = "YEAR")]
    birth_year: Option<u16>,
    /// The cohorts that the person is in.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    cohorts: Vec<String>,
    /// The day of the last dose.
    #[arg(long, value_name = "DATE")]
    last: Option<Date>,
    /// What the last dose was of. Default: what is asked for.
    #[arg(long, value_name = "ID")]
    last_product: Option<String>,
    /// Doses had so far. Default: one less than is asked for with --last, else none.
    #[arg(long, value_name = "N")]
    doses: Option<u8>,
    /// The day of the visit. Default: today.
    #[arg(long, value_name = "DATE")]
    on: Option<Date>,
    /// The day on whose first instant it is booked. Default: the day of the visit.
    #[arg(long, value_name = "DATE")]
    asked: Option<Date>,
    /// The pool of the slot. Default: one that is for everybody.
    #[arg(long, value_name = "ID")]
    pool: Option<String>,
    /// The person was invited to the pool, and has not booked by it.
    #[arg(long, requires = "pool")]
    invited: bool,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &ProgrammeCommand) -> Result<ExitCode, String> {
    match command {
        ProgrammeCommand::Check { file } => check(file),
        ProgrammeCommand::Explain(args) => explain(args),
        ProgrammeCommand::History { data_dir, text } => history(data_dir, *text),
    }
}

fn check(path: &Path) -> Result<ExitCode, String> {
    match Programme::from_toml(&read(path)?) {
        Ok(programme) => say(&format!("{}: good. {}", path.display(), summary(&programme))).map(|()| ExitCode::SUCCESS),
        Err(ProgrammeFileError::Values(faults)) => {
            for fault in faults {
                tell(&format!("{}: {fault}", path.display()));
            }
            Ok(ExitCode::from(2))
        }
        Err(shape) => Err(format!("{}: {shape}", path.display())),
    }
}

fn history(data_dir: &Path, text: Option<u64>) -> Result<ExitCode, String> {
    let opened = berth_programme::open_read_only(data_dir, &Limits::default(), &mut |_| {});
    let (_, catalogue) = opened.map_err(|error| error.to_string())?;
    let programmes = catalogue.programmes();
    if let Some(entry) = text {
        let kept = programmes.iter().find(|kept| kept.entry.0 == entry);
        let kept = kept.ok_or_else(|| format!("--text: entry {entry} is not that of a programme"))?;
        return say(kept.text().trim_end()).map(|()| ExitCode::SUCCESS);
    }
    for kept in programmes {
        say(&json!({
            "entry": kept.entry.0,
            "since": Calendar::utc().rfc3339(kept.since()),
            "sha256": hex(&hash(kept.text())),
            "by": if kept.by_call() { "call" } else { "file" },
        })
        .to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(programme: &Programme) -> String {
    let file = programme.file();
    let lengths = [
        (file.products.len(), "products"),
        (file.pools.len(), "pools"),
        (file.cohorts.len(), "cohorts"),
        (file.age_bands.len(), "age bands"),
        (file.changes.len(), "dated changes"),
        (file.documents.len(), "documents"),
    ];
    let counted: Vec<_> = lengths.iter().map(|(len, what)| format!("{len} {what}")).collect();
    format!("{}, in {}: {}", file.name, file.languages.join(", "), counted.join(", "))
}

fn explain(args: &ExplainArgs) -> Result<ExitCode, String> {
    let programme = read_programme(&args.file)?;
    let question = question(args, &programme).map_err(|fault| format!("{}: {fault}", args.file.display()))?;
    let told = programme.explain(&question);
    let answer = Eligibility::new(&programme, &question, &told);
    if args.json {
        say(&serde_json::to_string(&answer).map_err(|error| error.to_string())?)?;
    } else {
        say(text(&answer).trim_end())?;
    }
    Ok(if answer.eligible { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn question(args: &ExplainArgs, programme: &Programme) -> Result<Question, String> {
    let known = |ids: Vec<&str>| ids.join(", ");
    let product = |flag: &str, id: &str| {
        let ids = || known(programme.file().products.iter().map(|product| product.id.as_str()).collect());
        programme.product_number(id).ok_or_else(|| format!("{flag}: there is no product {id:?}; there are {}", ids()))
    };
    let day = |flag: &str, date: Date| {
        Calendar::day_of(date).ok_or_else(|| format!("{flag}: must be from 1970-01-01 to 2149-06-06, is {date}"))
    };
    let mut party = PartyFacts { birth_year: args.birth_year.unwrap_or(0), ..PartyFacts::default() };
    for id in &args.cohorts {
        let ids = || known(programme.file().cohorts.iter().map(|cohort| cohort.id.as_str()).collect());
        let bit = programme.cohort_bit(id);
        party.cohorts |= bit.ok_or_else(|| format!("--cohorts: there is no cohort {id:?}; there are {}", ids()))?;
    }
    let asked_product = product("--product", &args.product)?;
    let had = args.last.is_some() || args.last_product.is_some();
    party.doses = args.doses.unwrap_or(if had { args.dose.saturating_sub(1) } else { 0 });
    if party.doses > 0 {
        let last_product = args.last_product.as_ref().map(|id| product("--last-product", id)).transpose()?;
        party.product = last_product.unwrap_or(if had { asked_product } else { ProductId(0) });
        party.last_dose_day = args.last.map_or(Ok(0), |last| day("--last", last))?;
    }
    let pool = args.pool.as_ref().map(|id| {
        let ids = || known(programme.file().pools.iter().map(|pool| pool.id.as_str()).collect());
        programme.pool_number(id).ok_or_else(|| format!("--pool: there is no pool {id:?}; there are {}", ids()))
    });
    let pool = pool.transpose()?;
    if let Some(pool) = pool.filter(|_| args.invited) {
        let cohorts = programme.with_invitations(party.cohorts, pool, 1);
        party.cohorts = cohorts.ok_or("--invited: the pool is for everybody whom its other rules let in")?;
    }
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).map_or(TimestampMs(0), TimestampMs);
    let today = programme.calendar().day(now);
    let on = args.on.map_or(Ok(today), |on| day("--on", on))?;
    let asked = args.asked.map_or(Ok(on), |asked| day("--asked", asked))?;
    Ok(Question {
        party,
        product: asked_product,
        dose: Dose(args.dose),
        pool,
        on,
        asked: programme.calendar().start_of_day(asked),
        invitations_spent: 0,
    })
}

fn text(answer: &Eligibility) -> String {
    let mut out = String::new();
    let word = if answer.eligible { "yes" } else { "no" };
    let mut line = |text: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{text}");
    };
    line(&format!("{word}: {}, dose {}, on {}", answer.product, answer.dose, answer.on));
    if let (Some(rule), Some(detail)) = (answer.rule, answer.detail) {
        line(&format!("  decided by {rule}: it asks that {detail}"));
    }
    match (&answer.since, &answer.from) {
        (Some(since), _) => line(&format!("  yes for visits since {since}")),
        (_, Some(from)) => line(&format!("  yes for visits from {from} on")),
        (None, None) if answer.eligible => line("  yes for three years and more"),
        (None, None) => line("  on no day of the next three years"),
    }
    if let Some(due_by) = &answer.due_by {
        line(&format!("  due by {due_by}; later is late, and not refused"));
    }
    let since =
        answer.rules_since.as_ref().map_or(String::new(), |since| format!(", by the rules in force since {since}"));
    line(&format!("  booked at {}{since}", answer.asked));
    line("the rules, as they were asked:");
    for said in &answer.rules {
        let from = said.from.as_ref().map_or(String::new(), |from| format!("; from {from} on"));
        line(&format!("  {:<4} {:<16} {}{from}", said.says, said.rule, said.asks));
    }
    out
}
