//! The binary's commands: what each is told, and how it ends.
//!
//! Exit status 0: done. 1: `verify` found a broken rule, or a command failed half-way. 2: it could not start; one
//! sentence on standard error says what and where, and no entry was written.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use berth_engine::{Limits, ReplayReport, Seq};
use berth_programme::certificates::key_files;
use berth_programme::{Campaign, KeyFault, Programme};
use clap::{Args, Parser, Subcommand};

use crate::access::key_command::{self, KeyCommand};
use crate::access::{Access, Accounts, KeyEntry, Role, Sessions, reload};
use crate::ack::AckMode;
use crate::app::App;
use crate::audit::Audit;
use crate::audit::command::{self as audit_command, AuditArgs};
use crate::certificate_command::{self, CertificateCommand};
use crate::certificates::{self, Certificates, Signing};
use crate::config::{ConfigFile, RedisEntry, Settings, effective, environment};
use crate::events::Events;
use crate::log::{self, LogFormat};
use crate::lottery::{self, LotteryCommand};
use crate::people::command::PeopleCommand;
use crate::programme_command::{self, ProgrammeCommand};
use crate::progress::Teller;
use crate::rates::Rates;
use crate::snapshots::{Asker, Snapshots};
use crate::supply_command::{self, SupplyCommand};
use crate::tls::{self, Tls};
use crate::{
    backup, demo, descriptors, dump, handover, offline, openapi, people, recover, reload_programme, server, store,
};

/// Berth: a booking core for mass appointment campaigns.
#[derive(Debug, Parser)]
#[command(name = "berth", version = version())]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the HTTP API from a data directory.
    Serve(ServeArgs),
    /// Check a configuration file and the programme it names, and name every fault.
    ///
    /// Where there is none it prints the configuration in force, field by field, and where each comes from: the file, a variable of the
    /// environment (`BERTH_HTTP__HEAD_TIME_MS` for `head_time_ms` of `[http]`), or the default. Flags of `berth serve` go before all of them.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a programme file, and ask it who may have what.
    ///
    /// docs/programme.md tells of every key of the file.
    #[command(subcommand)]
    Programme(ProgrammeCommand),
    /// Plan how doses are shared out.
    #[command(subcommand)]
    Supply(SupplyCommand),
    /// Issue and verify certificates, and make their keys.
    ///
    /// docs/certificates.md tells of kinds, keys and verifiers.
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Verify the published result of a lottery.
    #[command(subcommand)]
    Lottery(LotteryCommand),
    /// Make, list and revoke the keys of those who may ask.
    ///
    /// Keys lie in a file beside the configuration, by their SHA-256 alone. docs/access.md tells more.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Keep what is kept of people safe: change the master key.
    #[command(subcommand)]
    People(PeopleCommand),
    /// Print the lines of an audit log that fit: who read whom, and what admins and operators did.
    ///
    /// What is said narrows the lines, all of it together. Those set aside are read, too, with --config.
    ///
    ///   berth audit --config berth.toml --party p1.17 --text
    ///   berth audit audit.ndjson --who web --from 2026-11-26T09:00:00Z
    #[command(verbatim_doc_comment)]
    Audit(AuditArgs),
    /// Rebuild a lost data directory from Redis alone, and fence its old owner.
    Recover(recover::RecoverArgs),
    /// Print the OpenAPI 3.1 document of the HTTP API, as `GET /openapi.json` serves it.
    Openapi,
    /// Serve a made-up campaign to play with (what `berth` alone does).
    Demo(demo::DemoArgs),
    /// Print everything in a data directory that no server owns, as NDJSON.
    Export {
        /// The data directory.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Print the journal, entry by entry, instead of what it comes to: as `berth journal dump`.
        #[arg(long)]
        entries: bool,
        /// The server's configuration file, for its limits. Without it the defaults are taken.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Show no progress on standard error.
        #[arg(long)]
        quiet: bool,
    },
    /// Copy a data directory, beside a running server too, and prove the copy.
    ///
    /// Everything that was acknowledged before is in it. The copy gets its name when every checksum, the chain and every rule
    /// that `berth verify` proves were found right. docs/backup.md tells more.
    Backup(backup::BackupArgs),
    /// Make a data directory from a backup, and prove it.
    ///
    /// What was acknowledged after the backup is not in it: where the old disk or Redis can still be read, recover from there.
    Restore(backup::RestoreArgs),
    /// Read the journal of a data directory.
    #[command(subcommand)]
    Journal(dump::JournalCommand),
    /// Read a data directory that no server owns, snapshots and log, and prove every rule that they can show.
    ///
    /// Prints one JSON object: the verdict, how many times each rule was judged, what was found, what could not be judged and
    /// why, and how fast it went. A summary goes to standard error. Status 0: every rule held. 1: one did not. 2: the log
    /// cannot be read; the sentence names segment and offset. Writes nothing.
    Verify {
        /// The data directory.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The server's configuration file, for how long and how many idempotency keys it keeps. Without it the
        /// defaults are taken.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Show no progress on standard error. The summary comes all the same.
        #[arg(long)]
        quiet: bool,
    },
}

/// Flags override the file.
#[derive(Debug, Args)]
struct ServeArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// HOST:PORT to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where the journal lies; created if absent.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The programme file.
    #[arg(long, value_name = "FILE")]
    programme: Option<PathBuf>,
    /// SHA-256 of a key for publishing, named `admin`.
    #[arg(long, value_name = "HEX")]
    admin_key_sha256: Option<String>,
    /// SHA-256 of a key for booking, named `platform`.
    #[arg(long, value_name = "HEX")]
    platform_key_sha256: Option<String>,
    /// Redis to write behind to, as redis://host:port/db. Other users see flags: put its password elsewhere.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// How safe an effect must be before its answer is shown, where a request does not say. Default disk.
    #[arg(long, value_name = "MODE")]
    ack: Option<AckMode>,
    /// Redis for the events stream, as redis://host:port/db.
    #[arg(long, value_name = "URL")]
    events_redis: Option<String>,
    /// After an outage every live hold has at least so long; 0: deadlines run on. Default 120.
    #[arg(long, value_name = "SECONDS")]
    hold_grace_seconds: Option<u64>,
    /// Take over from a process that serves the same data directory: wait so long for it to be stopped. Default 0.
    #[arg(long, value_name = "SECONDS")]
    wait_for_lock: Option<u64>,
    /// Where the events stream tells of another log, as after a recovery of a lost machine: take back what it tells of entries
    /// behind this one (the `last_entry` that `berth recover` printed), say so in the stream, and go on from there.
    #[arg(long, value_name = "ENTRY")]
    events_resume: Option<u64>,
    /// Keep what is written in process memory until it is synced, so that `kill -9` loses what a power cut would.
    #[arg(long)]
    power_cut_rehearsal: bool,
    /// Make each sync of the journal take as many milliseconds longer as stand in this file at that moment.
    #[arg(long, value_name = "FILE")]
    slow_disk_rehearsal: Option<PathBuf>,
    /// Start as if the wall clock had been set back so far.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    clock_back_rehearsal: u64,
}

/// The version, and the planted fault if there is one.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match berth_engine::fault::planted_here() {
        None => version.to_owned(),
        Some(fault) => format!("{version} (planted fault: {fault})"),
    }
}

/// Runs the binary.
#[must_use]
pub fn run() -> ExitCode {
    #[cfg(berth_faults)]
    if let Ok(name) = std::env::var("BERTH_FAULT")
        && !berth_engine::fault::plant(&name)
    {
        let _ = writeln!(std::io::stderr(), "berth: BERTH_FAULT={name} is none of {:?}", berth_engine::fault::NAMES);
        return ExitCode::from(2);
    }
    let command = Cli::parse().command.unwrap_or_else(|| Command::Demo(demo::DemoArgs::default()));
    // A server says how it wants its log; whatever else this is, is run by a person.
    if !matches!(command, Command::Serve(_)) {
        log::begin(LogFormat::Text);
    }
    let done = match command {
        Command::Serve(args) => settings(args).and_then(|settings| {
            log::begin(settings.log);
            serve(settings)
        }),
        Command::Check { config } => check(&config),
        Command::Programme(command) => programme_command::run(&command),
        Command::Supply(command) => supply_command::run(&command),
        Command::Certificate(command) => certificate_command::run(&command),
        Command::Lottery(command) => lottery::run(&command),
        Command::Key(command) => key_command::run(&command),
        Command::People(command) => people::command::run(&command),
        Command::Audit(args) => audit_command::run(&args),
        Command::Recover(args) => recover::run(args),
        Command::Openapi => print(&openapi::text(&openapi::document())),
        Command::Demo(args) => demo::run(&args),
        Command::Export { data_dir, entries: true, quiet, .. } => dump::run(&dump::DumpArgs::all_of(&data_dir, quiet)),
        Command::Export { data_dir, config, quiet, .. } => {
            limits(config.as_deref()).and_then(|limits| offline::export(&data_dir, &limits, quiet))
        }
        Command::Backup(args) => limits(args.config.as_deref()).and_then(|limits| backup::backup(&args, &limits)),
        Command::Restore(args) => limits(args.config.as_deref()).and_then(|limits| backup::restore(&args, &limits)),
        Command::Journal(dump::JournalCommand::Dump(args)) => dump::run(&args),
        Command::Verify { data_dir, config, quiet } => {
            limits(config.as_deref()).and_then(|limits| offline::verify(&data_dir, &limits, quiet))
        }
    };
    done.unwrap_or_else(|sentence| {
        tell(&format!("berth: {sentence}"));
        ExitCode::from(2)
    })
}

/// What is said when nobody takes the output any more.
pub(crate) const CANNOT_WRITE: &str = "cannot write to standard output";

/// Prints a line on standard error.
pub(crate) fn tell(line: &str) {
    // Nobody reads standard error: then there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a line on standard output, in one piece: who read enough of it may have closed the pipe.
pub(crate) fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("cannot write to standard output: {error}"))
}

fn print(text: &str) -> Result<ExitCode, String> {
    say(text.trim_end()).map(|()| ExitCode::SUCCESS)
}

pub(crate) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn settings(args: ServeArgs) -> Result<Settings, String> {
    let ServeArgs { config, listen, data_dir, programme, redis, power_cut_rehearsal, .. } = args;
    let mut file = config_file(config.as_deref())?;
    file.listen = listen.or(file.listen);
    file.ack = args.ack.or(file.ack);
    file.hold_grace_seconds = args.hold_grace_seconds.or(file.hold_grace_seconds);
    file.wait_for_lock_seconds = args.wait_for_lock.or(file.wait_for_lock_seconds);
    file.data_dir = data_dir.or(file.data_dir);
    file.programme = programme.or(file.programme);
    if let Some(url) = redis {
        file.redis = Some(RedisEntry { url: Some(url), ..file.redis.unwrap_or_default() });
    }
    if let Some(url) = args.events_redis {
        file.events.get_or_insert_default().url = Some(url);
    }
    let flags = [(Role::Admin, args.admin_key_sha256), (Role::Platform, args.platform_key_sha256)];
    for (role, sha256) in flags {
        file.keys.extend(sha256.map(|sha256| KeyEntry { sha256, ..KeyEntry::new(role, role.as_str(), [0; 32]) }));
    }
    let place = config.map_or_else(|| "the flags".to_owned(), |path| path.display().to_string());
    let mut settings = file.validate().map_err(|faults| sentence(&place, &faults))?;
    settings.engine.journal.power_cut_rehearsal = power_cut_rehearsal;
    settings.engine.journal.slow_disk_rehearsal = args.slow_disk_rehearsal;
    settings.engine.journal.clock_back_rehearsal = Duration::from_secs(args.clock_back_rehearsal);
    match (&mut settings.events, args.events_resume) {
        (Some(events), resume) => events.resume = resume.map(Seq),
        (None, Some(_)) => return Err("--events-resume: there is no events stream".to_owned()),
        (None, None) => {}
    }
    Ok(settings)
}

/// The file, or an empty one.
pub(crate) fn config_file(path: Option<&Path>) -> Result<ConfigFile, String> {
    with_environment(path).map(|(file, _)| file)
}

/// The file, or an empty one, with the environment over it; and the same as a table.
fn with_environment(path: Option<&Path>) -> Result<(ConfigFile, toml::Table), String> {
    let text = path.map(read).transpose()?.unwrap_or_default();
    if let (Some(path), Err(fault)) = (path, ConfigFile::parse(&text)) {
        return Err(format!("{}: {fault}", path.display()));
    }
    // A variable that is no text cannot be one of ours.
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    environment::over(&text, variables).map_err(|faults| faults.join("; "))
}

/// The limits that a server with this file has.
fn limits(config: Option<&Path>) -> Result<Limits, String> {
    let place = config.map_or_else(String::new, |path| path.display().to_string());
    config_file(config)?.limits().map_err(|faults| sentence(&place, &faults))
}

pub(crate) fn sentence(place: &str, faults: &[KeyFault]) -> String {
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    format!("{place}: {}", faults.join("; "))
}

pub(crate) fn read_programme(path: &Path) -> Result<Programme, String> {
    Programme::from_toml(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

fn check(config: &Path) -> Result<ExitCode, String> {
    let (file, table) = with_environment(Some(config))?;
    let effective = effective::lines(&table, &file.said);
    let mut faults = Vec::new();
    let programme = file.programme.as_ref().map(|path| read_programme(path).map_err(|fault| faults.push(fault)));
    match file.validate() {
        Ok(settings) if faults.is_empty() => {
            let keys = settings.certificates.as_deref().and_then(|dir| key_files::load(dir).ok());
            let public_url = settings.http.fhir.public_url.as_deref();
            let of_certificates = programme.and_then(Result::ok).map_or_else(Vec::new, |programme| {
                let now = jiff::Timestamp::now();
                crate::config::certificates::warnings(programme.file(), keys.as_ref(), public_url, now)
            });
            for warning in crate::config::fhir::warnings(&settings.http.fhir).into_iter().chain(of_certificates) {
                tell(&format!("{}: warning: {warning}", config.display()));
            }
            say(&format!(
                "{}: good. In force, with where each comes from:\n{}",
                config.display(),
                effective.join("\n")
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        checked => {
            if let Err(more) = checked {
                faults.extend(more.iter().map(|fault| format!("{}: {fault}", config.display())));
            }
            for fault in faults {
                tell(&fault);
            }
            Ok(ExitCode::from(2))
        }
    }
}

fn serve(mut settings: Settings) -> Result<ExitCode, String> {
    let programme = read_programme(&settings.programme)?;
    // What can fail without writing comes first.
    let (listener, address) = handover::bind(&settings.listen, &mut settings.engine.lock_wait)?;
    let probes = settings.probes.as_deref().map(server::bind).transpose()?;
    let app = open(&settings, programme)?;
    if let Some((listener, address)) = probes {
        tracing::info!(%address, "probes and metrics are answered here, too");
        *app.probes.lock() = Some(listener);
    }
    if let Some(warning) = crate::config::fhir::loopback(&app.limits.fhir) {
        tracing::warn!("{warning}");
    }
    let scheme = if app.tls.is_some() { "https" } else { "http" };
    run_server(app, listener, || say(&format!("berth listening on {scheme}://{address}")))
}

/// Opens the campaign and tells what was replayed.
pub(crate) fn open(settings: &Settings, programme: Programme) -> Result<Arc<App>, String> {
    let mut teller = Teller::new();
    let sha256 = *programme.sha256();
    let opened = Campaign::open_watched(settings.engine.clone(), programme, &mut |progress| teller.tell(progress));
    drop(teller);
    let (campaign, report) = opened.map_err(|error| error.to_string())?;
    tell_of_replay(&report);
    let (cell, epoch) = (settings.engine.cell, report.epoch);
    let mut http = settings.http.clone();
    http.connections_max = descriptors::connections_max(http.connections_max);
    // Before anything trims the log that it has not told.
    let events = settings.events.clone().map(|events| Events::start(events, &campaign)).transpose();
    let events = events.map_err(|error| format!("cannot start the events stream: {error}"))?;
    let access = Access::open(&settings.access, campaign.engine.now());
    // They were right when the configuration was checked: a file has changed since.
    let access = access.map_err(|faults| sentence("who may ask", &faults))?;
    tracing::info!(
        keys = access.key_count(),
        tokens = access.tokens.is_some(),
        audited = settings.audit.is_some(),
        "who may ask"
    );
    let data_dir = &settings.engine.journal.dir;
    // Also before anything trims the log.
    let mut opened = store::open(data_dir, &campaign, cell)?;
    let mut access = access;
    let mut registration = None;
    let engine = Arc::clone(&campaign.engine);
    if let Some(settings) = &settings.people {
        let master = people::master_key(&settings.master, data_dir)?;
        let (registered, projection) = people::open(settings, &master, &campaign, &opened.store, data_dir)?;
        opened.projections.push(projection);
        let keys = Arc::clone(&registered.people);
        opened.doses.seal_with(keys);
        let (life, revoked) = (settings.session_life, data_dir.join(people::REVOKED));
        access.sessions = Some(Sessions::open(&master, &registered.people, cell, life, revoked, engine.now())?);
        registration = Some(registered);
    }
    store::follow(&opened.store, &engine, opened.projections)?;
    let caught_up = people::catch_up(&opened.store, &engine);
    lottery::begin(&opened.lotteries, &caught_up)?;
    campaign.publisher.bound_by(Arc::clone(&opened.ledger));
    store::keep_books(&opened.ledger);
    if let Some(registration) = &registration {
        caught_up?;
        people::check(&registration.people)?;
    }
    if opened.waitlist.rules().is_some() {
        people::catch_up(&opened.store, &engine)?;
        opened.waitlist.begin(&opened.store).map_err(|error| error.to_string())?;
    }
    let (waitlist, kept) = (Arc::clone(&opened.waitlist), Arc::clone(&opened.store));
    let ended = || tracing::error!("the thread of the waitlist panicked: nothing more is offered; restart this server");
    waitlist.start(&kept, ended).map_err(|error| format!("cannot start the thread of the waitlist: {error}"))?;
    let mut app = App::new(campaign, access, cell, epoch, http, settings.snapshots);
    app.events = events;
    (app.store, app.doses) = (Some(opened.store), Some(opened.doses));
    (app.registration, app.waitlist) = (registration, Some(waitlist));
    (app.lotteries, app.ledger) = (Some(opened.lotteries), Some(opened.ledger));
    let signing = settings.certificates.as_deref().map(Signing::open).transpose()?;
    app.certificates = Some(Arc::new(Certificates::new(opened.register, signing)));
    certificates::warn(&app);
    app.data_dir.clone_from(&settings.engine.journal.dir);
    app.programme.sha256 = sha256;
    // The demo has none.
    app.programme.file = Some(settings.programme.clone()).filter(|path| !path.as_os_str().is_empty());
    app.rates = Rates::new(settings.rates.clone());
    app.accounts = Accounts::new(settings.accounts);
    if let Some(audit) = settings.audit.clone() {
        let file = audit.file.display().to_string();
        app.audit = Some(Audit::start(audit).map_err(|error| format!("audit log {file}: {error}"))?);
    }
    app.tls = settings.tls.clone().map(Tls::new).transpose()?;
    Ok(Arc::new(app))
}

fn tell_of_replay(report: &ReplayReport) {
    for (path, what) in &report.snapshots_damaged {
        tracing::warn!(path = %path.display(), %what, "the newest snapshot is damaged: started from the one before, or the log");
    }
    if let Some(why) = &report.redis_unreachable {
        tracing::warn!(why, "Redis could not be asked what it holds; serving starts, the write-behind lags");
    }
    if let Some((segment, offset)) = &report.cut {
        tracing::warn!(segment = %segment.display(), offset, "cut the torn end of the journal");
    }
    let milliseconds = |nanos: u64| nanos / 1_000_000;
    tracing::info!(
        snapshot = report.snapshot.map(|s0| s0.0),
        entries = report.entries,
        bytes = report.bytes,
        milliseconds = milliseconds(report.nanos),
        entries_per_second = u128::from(report.entries) * 1_000_000_000 / u128::from(report.nanos.max(1)),
        snapshot_bytes = report.snapshot_bytes,
        snapshot_milliseconds = milliseconds(report.snapshot_nanos),
        holds_graced = report.holds_graced,
        epoch = report.epoch.0,
        fault = berth_engine::fault::planted_here(),
        "replayed the journal"
    );
}

/// Serves until a signal to stop. A second signal ends the process at once.
pub(crate) fn run_server(
    app: Arc<App>,
    listener: std::net::TcpListener,
    ready: impl FnOnce() -> Result<(), String>,
) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("berth-http")
        .build()
        .map_err(|error| format!("cannot start the threads of the server: {error}"))?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
        let snapshots = Snapshots::start(Arc::clone(&app.campaign.engine), app.snapshots)
            .map_err(|error| format!("cannot start the thread of the snapshots: {error}"))?;
        signals.ask_on_usr1(snapshots.asker());
        reload::follow(Arc::clone(&app)).map_err(|error| format!("cannot listen for signals: {error}"))?;
        reload_programme::follow(Arc::clone(&app)).map_err(|error| format!("cannot listen for signals: {error}"))?;
        signals.reload_on_hup(&app);
        ready()?;
        let stop = async {
            signals.next().await;
            tokio::spawn(async move {
                signals.next().await;
                tell("berth: stopped at the second signal; what was acknowledged is safe");
                std::process::exit(1);
            });
            // What is taken now need not be replayed by the next start; serving goes on meanwhile.
            let _ = tokio::task::spawn_blocking(move || snapshots.stop()).await;
        };
        // As a task among the others, not on this thread: what it starts is then ready on a worker at once.
        let serving = tokio::spawn(server::serve(app, listener, stop));
        serving.await.expect("serving does not panic").map_err(|error| format!("the server failed: {error}"))
    })?;
    if ended.cut_off > 0 {
        tracing::warn!(requests = ended.cut_off, "some requests did not end in time");
    }
    match ended.journal {
        Ok(()) => {
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            tell(&format!("berth: {failure}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// SIGTERM and SIGINT to stop, SIGUSR1 for a snapshot, SIGHUP to take files up again.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    snapshot: Option<tokio::signal::unix::Signal>,
    hang_up: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            snapshot: Some(signal(SignalKind::user_defined1())?),
            // Also where there is nothing to take up: without a handler it would end the process.
            hang_up: Some(signal(SignalKind::hangup())?),
        })
    }

    /// From now on SIGHUP takes up the certificate again, as does a change of its files.
    fn reload_on_hup(&mut self, app: &Arc<App>) {
        let Some(hang_up) = self.hang_up.take() else { return };
        let app = Arc::clone(app);
        tokio::spawn(async move {
            if let Some(tls) = &app.tls {
                tls::watch(tls, hang_up).await;
            }
        });
    }

    /// From now on each SIGUSR1 asks for a snapshot.
    fn ask_on_usr1(&mut self, asker: Asker) {
        let Some(mut snapshot) = self.snapshot.take() else { return };
        tokio::spawn(async move {
            while snapshot.recv().await.is_some() {
                asker.ask();
            }
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
