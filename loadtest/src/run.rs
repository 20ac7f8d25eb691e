//! One run from beginning to end: start, seed, drive, hurt, settle, take the witnesses, audit, report.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::{self, CpuSample, Evidence, EvidenceFiles, GeneratorFacts, OverloadFacts, Promise, Verdict};
use crate::console;
use crate::drive::{self, Ask, Field, FieldParts, Hurting, hurt_all, strike_all};
use crate::error::{CannotRun, Doing};
use crate::ground::{Ground, Witness, log_frames, stream_frames};
use crate::history::{Clock, Recorder};
use crate::inventory::{Calendar, Inventory, Published};
use crate::objectives;
use crate::plan::Plan;
use crate::process::{Launch, Server, find_server, run_tool};
use crate::report;
use crate::samples;
use crate::scenario::Scenario;
use crate::seed::Admin;
use crate::share::{self, CpuShare};
use crate::stop::Stop;
use crate::wire::Version;

mod house;
mod setup;

pub(crate) use house::Target;

use house::House;
use setup::{make_report_dir, random_hex, sha256_hex, write_config, write_programme};

/// What is to be run, and where its results go.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) scenario: Scenario,
    pub(crate) inventory: Inventory,
    /// Lines for the report about where the inventory comes from.
    pub(crate) notes: Vec<String>,
    pub(crate) calendar: Calendar,
    pub(crate) seed: u64,
    pub(crate) server: Option<PathBuf>,
    pub(crate) report_dir: Option<PathBuf>,
    pub(crate) keep_data: bool,
    /// A server that the run does not start.
    pub(crate) target: Option<Target>,
    /// The report directory of an earlier run, to be shown beside this one.
    pub(crate) baseline: Option<PathBuf>,
}

/// What a run was, kept beside its witnesses so that it can be judged and shown again.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct RunRecord {
    pub(crate) scenario: Scenario,
    pub(crate) notes: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) command: String,
    pub(crate) started_at: String,
    pub(crate) server: Version,
    /// How long each start of the server took until it was ready.
    pub(crate) server_starts_ms: Vec<u64>,
    pub(crate) units: u64,
    pub(crate) slots: u64,
    pub(crate) published: Published,
    /// When the exports were begun, and whether every hold had been given the time to run out before.
    pub(crate) exported_us: i64,
    pub(crate) settled: bool,
    /// With what `berth verify` ended.
    pub(crate) verify_exit: i32,
    /// District to its name and units, in the inventory's order.
    pub(crate) districts: Vec<DistrictRecord>,
    /// Session to the index of its district.
    pub(crate) sessions: BTreeMap<String, usize>,
    pub(crate) generator: GeneratorFacts,
    /// The server was there before, and its data directory could not be read.
    #[serde(default)]
    pub(crate) elsewhere: bool,
}

/// A district, for the report's table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct DistrictRecord {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) units: u64,
}

/// Credentials of one run. They leave this process in a request's header, and else only as hashes.
#[derive(Clone)]
struct Keys {
    admin: String,
    platform: String,
}

/// Runs the order and judges it.
pub(crate) async fn run(mut order: Order) -> Result<Verdict, CannotRun> {
    let stop = Stop::install()?;
    if let Some(baseline) = &order.baseline {
        // Known to be there before anything is driven.
        report::read_baseline(baseline)?;
    }
    let program = match order.target {
        Some(_) => PathBuf::new(),
        None => find_server(order.server.clone()).await?,
    };
    let directory = make_report_dir(&order)?;
    let ground = Arc::new(Ground::raise(&order.scenario, &directory, &stop).await?);
    let data_dir = ground.data_dir.clone();
    let keys = match &order.target {
        Some(target) => Keys { admin: target.admin_key.clone(), platform: target.platform_key.clone() },
        None => Keys { admin: random_hex()?, platform: random_hex()? },
    };
    let run_id = format!("surge-{}", random_hex()?.chars().take(8).collect::<String>());
    let share = order.scenario.server.cpu_share.map(|share| CpuShare::raise(share, &run_id)).transpose()?.map(Arc::new);
    let started_at = jiff::Timestamp::now().to_string();
    let server = match &order.target {
        Some(target) => {
            order.inventory.mark_as(&run_id);
            House::Elsewhere(target.url.clone())
        }
        None => {
            let launch = launch_of(&order, &directory, &ground, &keys, &program, share.clone()).await?;
            let next = order.scenario.faults.iter().find_map(|fault| fault.kill);
            House::Own(Box::new(Server::start(launch, next, stop.clone()).await?))
        }
    };
    console::step(&format!("the server listens on {}", server.base_url()));

    let base_url = server.base_url();
    let mut admin = Admin::new(base_url.clone(), keys.admin.clone(), &run_id)?;
    let version = admin.version().await?;
    let first_party = admin.seed(&order.inventory, &order.scenario.population).await?;

    let sessions: Vec<String> = order.inventory.sessions.iter().map(|session| session.id.clone()).collect();
    let opens = order.scenario.inventory.as_ref().is_some_and(|shape| shape.opens_at_seconds.is_some());
    if opens {
        console::step("closing the sessions until the opening");
        admin.switch_all(&sessions, "close").await?;
    }
    let files = EvidenceFiles::in_directory(&directory);
    let (recorder, recording) = Recorder::create(&files.history)?;
    let plan = Plan::draw(&order.scenario, &order.inventory.weights(), order.seed);
    report::announce(&order, &plan, &version);
    let field = Field::new(FieldParts {
        scenario: order.scenario.clone(),
        clock: Clock::start(),
        recorder: recorder.clone(),
        plan,
        platform_key: keys.platform.clone(),
        districts: order.inventory.districts.iter().map(|district| district.id.clone()).collect(),
        from: order.calendar.first_day.to_string(),
        days: order.inventory.days,
        doses: HashMap::from([("dose1".into(), 1), ("open".into(), 1), ("dose2".into(), 2)]),
        first_party,
        run_id,
        units: order.inventory.units(),
    })
    .ok_or_else(|| CannotRun::because("the server's party names do not end in a number"))?;
    let field = Arc::new(field);

    let hurting = Hurting {
        field: Arc::clone(&field),
        ground: Arc::clone(&ground),
        admin: admin.marked("hurt"),
        stop: stop.clone(),
        sessions: Arc::new(order.inventory.sessions_with_centres()),
    };
    let hurting = tokio::spawn(hurt_all(hurting, order.seed));
    let opening = opens.then(|| tokio::spawn(open_at_the_minute(Arc::clone(&field), admin.marked("open"), sessions)));
    let cpu = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let looking =
        tokio::spawn(samples::watch(Arc::clone(&field), admin.marked("look"), stop.clone(), Arc::clone(&seen)));
    let sampling = tokio::spawn(watch_cpu(Arc::clone(&field), server.pid(), Arc::clone(&cpu)));
    share.iter().try_for_each(|share| share.hold())?;
    let (server, lagging_seconds) = drive_and_strike(&field, server, order.seed, &base_url, &directory, &stop).await?;
    share.iter().try_for_each(|share| share.let_go())?;
    sampling.abort();
    hurting.await.doing(|| "hurt what the server stands on".into())??;
    if let Some(opening) = opening {
        opening.await.doing(|| "open the sessions".into())??;
    }
    ask_what_is_left(&field, &base_url).await?;
    let settled = settle(&order.scenario, &stop).await;
    looking.abort();
    samples::write(&directory, &seen.lock().unwrap_or_else(PoisonError::into_inner))?;
    let caught_up_seq = wait_for_redis(&order.scenario, &admin, &stop).await;
    let mut generator = generator_facts(&field, lagging_seconds);
    generator.overload_facts = OverloadFacts {
        share: share.as_ref().map(|share| share.words()),
        phases: field.phases(),
        cpu: std::mem::take(&mut *cpu.lock().unwrap_or_else(PoisonError::into_inner)),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
    };
    recording.finish(&recorder)?;

    console::step("taking the export");
    let exported_us = field.clock.now_us();
    admin.export_to(&files.live_export).await?;
    let server_starts_ms =
        server.starts().iter().map(|start| u64::try_from(start.as_millis()).unwrap_or(u64::MAX)).collect();
    let elsewhere = order.target.is_some();
    let verify_exit = if elsewhere {
        house::witness_from_outside(&files, &order.inventory, &field, order.scenario.population.parties)?;
        0
    } else {
        server.drain().await?;
        console::step("reading the journal");
        witness_redis(&ground, caught_up_seq, &files.redis).await?;
        run_tool(&program, &["export"], &data_dir, &files.export).await?;
        run_tool(&program, &["export", "--entries"], &data_dir, &files.entries).await?;
        run_tool(&program, &["verify"], &data_dir, &files.verify).await?
    };

    let record = RunRecord {
        notes: order.notes.clone(),
        seed: order.seed,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        started_at,
        server: version,
        server_starts_ms,
        units: order.inventory.units(),
        slots: u64::try_from(order.inventory.slots()).unwrap_or(u64::MAX),
        published: order.inventory.published(),
        exported_us,
        settled,
        verify_exit,
        districts: order
            .inventory
            .districts
            .iter()
            .map(|district| DistrictRecord {
                id: district.id.clone(),
                name: district.name.clone(),
                units: district.units,
            })
            .collect(),
        sessions: order.inventory.sessions_by_district(),
        generator,
        elsewhere,
        scenario: order.scenario,
    };
    let text = serde_json::to_string_pretty(&record).doing(|| "write the run's record".into())?;
    std::fs::write(directory.join("run.json"), text).doing(|| "write the run's record".into())?;
    let verdict = judge_directory(&directory, order.baseline.as_deref())?;
    let kept = directory.join("data");
    if elsewhere {
        console::step("the server goes on; what was published for this run, and its bookings, are still there");
    } else if verdict == Verdict::Held && !order.keep_data {
        std::fs::remove_dir_all(&data_dir).doing(|| format!("remove {}", data_dir.display()))?;
    } else {
        if let Some(disk) = &ground.disk {
            disk.lock().await.keep(&data_dir, &kept)?;
        }
        console::step(&format!("the server's data is kept in {}", kept.display()));
    }
    Ok(verdict)
}

/// How the run's own server is started.
async fn launch_of(
    order: &Order,
    directory: &Path,
    ground: &Ground,
    keys: &Keys,
    program: &Path,
    share: Option<Arc<CpuShare>>,
) -> Result<Launch, CannotRun> {
    Ok(Launch {
        program: program.to_owned(),
        data_dir: ground.data_dir.clone(),
        programme: write_programme(directory, &order.scenario, &order.calendar.zone)?,
        config: write_config(directory, &order.scenario)?,
        redis: ground.redis_url().await,
        admin_key_sha256: sha256_hex(&keys.admin),
        platform_key_sha256: sha256_hex(&keys.platform),
        hold_grace_seconds: order.scenario.server.hold_seconds,
        log: directory.join("server.log"),
        start_within: Duration::from_secs(order.scenario.server.start_seconds_max),
        slow_disk: ground.slow_disk.clone(),
        clock_back: Duration::ZERO,
        share,
    })
}

/// Opens all sessions at the minute that the scenario names, unless the drive ends before.
async fn open_at_the_minute(field: Arc<Field>, admin: Admin, sessions: Vec<String>) -> Result<(), CannotRun> {
    let Some(opens_us) = field.opens_us else { return Ok(()) };
    // Nobody may be left to come by then.
    field.schedule.keep_open();
    while field.clock.now_us() < opens_us && !field.schedule.is_closed() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    console::step("the sessions open");
    let opened = admin.switch_all(&sessions, "open").await;
    field.schedule.done();
    if opened.is_err() {
        field.meter.note_cut_short("the sessions could not be opened");
        field.schedule.close();
    }
    opened
}

/// Waits until the server says that all it has is in Redis; the entry up to which it said so, or nothing.
async fn wait_for_redis(scenario: &Scenario, admin: &Admin, stop: &Stop) -> Option<u64> {
    let within = Duration::from_secs(scenario.redis.as_ref()?.caught_up_within_seconds);
    console::step("waiting for the write-behind to catch up");
    let began = std::time::Instant::now();
    while began.elapsed() < within && !stop.asked() {
        if let Ok(metrics) = admin.metrics().await {
            let metric = |name: &str| metrics.get(name).copied();
            if (metric("berth_redis_connected"), metric("berth_redis_lag_entries")) == (Some(1), Some(0)) {
                return metric("berth_redis_shipped_seq");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}

/// Writes down what lies in Redis and what lies in the log, now that nobody writes to either.
async fn witness_redis(ground: &Ground, caught_up_seq: Option<u64>, path: &Path) -> Result<(), CannotRun> {
    let Some(redis) = &ground.redis else { return Ok(()) };
    let stream = redis.lock().await.stream().await?;
    let witness = Witness {
        caught_up_seq,
        last: stream.last,
        link: stream.link.clone(),
        base: stream.base,
        snapshots: stream.snapshots.clone(),
        stream: stream_frames(&stream),
        log: log_frames(&ground.data_dir)?,
    };
    witness.write(path)
}

/// Judges a run from its directory alone, writes its report and prints its summary.
pub(crate) fn judge_directory(directory: &Path, baseline: Option<&Path>) -> Result<Verdict, CannotRun> {
    let path = directory.join("run.json");
    let text = std::fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
    let record: RunRecord = serde_json::from_str(&text).doing(|| format!("read {}", path.display()))?;
    console::step("auditing");
    let began = std::time::Instant::now();
    let mut evidence = Evidence::read(&EvidenceFiles::in_directory(directory))?;
    evidence.published = Some(record.published.clone());
    evidence.settled_us = record.settled.then_some(record.exported_us);
    evidence.verify_exit = Some(record.verify_exit);
    evidence.search_staleness_us = audit::search_staleness_us(&record.scenario.server.config);
    evidence.overload.clone_from(&record.generator.overload_facts);
    let by_key = audit::by_key(&evidence);
    let lives = audit::Lives::of(&evidence, &by_key);
    let reasons = audit::reasons_invalid(&evidence, &lives, &record.generator);
    // What was not there cannot have been promised anything about.
    let mut promises = record.scenario.audit.promises.clone();
    promises.retain(|promise| match promise {
        // The instant of an answer is told by the server's clock: another machine's, or one that was set back and since then is
        // behind by as long as the start took.
        Promise::FreshSearch => {
            !record.elsewhere && !record.scenario.faults.iter().any(|fault| fault.clock_back_seconds.is_some())
        }
        // Only the journal could tell.
        Promise::Journal | Promise::Conservation | Promise::RedisCopy | Promise::FullDisk if record.elsewhere => false,
        Promise::Overload => record.scenario.overload.is_some(),
        Promise::RedisCopy => record.scenario.redis.is_some(),
        Promise::FullDisk => record.scenario.faults.iter().any(|fault| fault.fills_disk()),
        _ => true,
    });
    let judgement = audit::judge(&evidence, &lives, &promises, record.scenario.overload.as_ref(), reasons)?
        .with_objectives(objectives::judge(&record.scenario.objectives, &evidence));
    console::step(&audit::cost(evidence.operations.len(), began.elapsed()));
    report::write(directory, &record, &evidence, &judgement, baseline)?;
    Ok(judgement.verdict)
}

/// Drives the plan while faults strike; hands the server back, and in how many seconds the generator's loop was late.
async fn drive_and_strike(
    field: &Arc<Field>,
    server: House,
    seed: u64,
    base_url: &str,
    directory: &Path,
    stop: &Stop,
) -> Result<(House, u64), CannotRun> {
    let striking = Arc::clone(field);
    let striker = tokio::spawn(async move {
        let struck = strike_all(Arc::clone(&striking), server, seed).await;
        if struck.is_err() {
            // Without a server there is nobody to drive.
            striking.meter.note_cut_short("the server could not be killed or restarted");
            striking.schedule.close();
        }
        struck
    });
    let lagging = Arc::new(AtomicU64::new(0));
    let lag = tokio::spawn(watch_own_loop(Arc::clone(&lagging)));
    let driven = drive::drive(field, base_url, &directory.join("goose.html"), stop).await;
    lag.abort();
    let server = striker.await.doing(|| "strike the server".into())??;
    driven?;
    let mut server = server;
    match server.gone() {
        Some(gone) => Err(gone),
        None => Ok((server, lagging.load(Relaxed))),
    }
}

/// Notes the CPU time of both sides, four times a second.
async fn watch_cpu(field: Arc<Field>, server: Option<u32>, samples: Arc<Mutex<Vec<CpuSample>>>) {
    let Some(server) = server.filter(|_| field.scenario.overload.is_some()) else { return };
    loop {
        if let (Some(server_us), Some(generator_us)) = (share::cpu_us(server), share::cpu_us(std::process::id())) {
            let sample = CpuSample { at_us: field.clock.now_us(), server_us, generator_us };
            samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Counts the seconds in which the generator's own loop woke up much too late.
async fn watch_own_loop(lagging: Arc<AtomicU64>) {
    const LATE: Duration = Duration::from_millis(100);
    const TICK: Duration = Duration::from_millis(20);
    loop {
        let mut late = false;
        let second = std::time::Instant::now();
        while second.elapsed() < Duration::from_secs(1) {
            let slept = std::time::Instant::now();
            tokio::time::sleep(TICK).await;
            late |= slept.elapsed() > TICK + LATE;
        }
        if late {
            lagging.fetch_add(1, Relaxed);
        }
    }
}

/// Asks the server what became of the requests whose answers never came.
async fn ask_what_is_left(field: &Arc<Field>, base_url: &str) -> Result<(), CannotRun> {
    let left = field.take_left();
    if left.is_empty() {
        return Ok(());
    }
    console::step(&format!("asking what became of {} requests that were never answered", left.len()));
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .build()
        .doing(|| "set up an HTTP client".into())?;
    for left in left {
        let ask = Ask::outcome(left.arrival, &left.key);
        let request = client.get(format!("{base_url}{}", ask.path));
        drive::exchange(field, drive::Line::Pooled(Box::new(request)), &ask, field.clock.now_us(), 1).await;
    }
    Ok(())
}

/// Waits until every hold has run out, so that what was abandoned must have come back. Says whether it did.
async fn settle(scenario: &Scenario, stop: &Stop) -> bool {
    if !scenario.audit.settle {
        return false;
    }
    let seconds = u64::from(scenario.server.hold_seconds) + audit::SETTLE_SECONDS;
    console::step(&format!("waiting {seconds} s for the last holds to run out"));
    for _ in 0..seconds * 10 {
        if stop.asked() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

fn generator_facts(field: &Field, lagging_seconds: u64) -> GeneratorFacts {
    let scenario = &field.scenario;
    GeneratorFacts {
        late_ms: scenario.driver.late_ms,
        late_share_max: scenario.driver.late_share_max,
        fast_ms: scenario.driver.fast_ms,
        faults: scenario.faults.clone(),
        acknowledged_bookings_min: scenario.audit.acknowledged_bookings_min,
        arrivals_planned: field.plan_len(),
        arrivals_dropped: field.meter.arrivals_dropped.load(Relaxed),
        lagging_seconds,
        cut_short: field.meter.cut_short().map(str::to_owned),
        overload: scenario.overload.clone(),
        overload_facts: OverloadFacts::default(),
    }
}
