//! Counters of the HTTP side, and the page that shows them beside the engine's.
//!
//! Labels are bounded: route templates, statuses and codes from fixed tables, never a path or a name. Counters
//! are relaxed atomics; a scrape may see one request in a counter and not yet in its histogram.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use berth_engine::UnitTotals;
use berth_programme::store::Store;
use hyper::StatusCode;

use crate::access::Access;
use crate::access::hex;
use crate::ack::AckMode;
use crate::admission::{Class, Reason};
use crate::app::App;
use crate::audit::AuditStats;
use crate::events::EventsStats;
use crate::problem::Code;
use crate::rates::{self, Payer, Rates};
use crate::router::{Endpoint, TABLE};
use crate::tls::Tls;

pub(crate) use self::host::{Host, Sample};
pub(crate) use self::units::Units;

mod host;
mod sampler;
mod search;
mod units;
mod waitlist;

/// Upper bounds of the latency buckets: bookings take a disk sync, searches microseconds.
const BUCKETS_SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Every status an answer of ours can have.
const STATUSES: [u16; 17] = [200, 201, 304, 400, 401, 403, 404, 405, 406, 408, 409, 413, 415, 422, 429, 500, 503];

/// What can become of a line of a bulk request.
const BULK_OUTCOMES: [&str; 3] = ["done", "replayed", "refused"];

/// Classes of status, by their first digit.
const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The HTTP side's counters.
pub(crate) struct Metrics {
    /// One per route, by its number, and one for paths that are in no row of the table.
    routes: [RouteMetrics; TABLE.len() + 1],
    refusals: [AtomicU64; Code::ALL.len()],
    replays: AtomicU64,
    /// Lines of bulk bookings: done, repeated, refused.
    bulk_lines: [AtomicU64; BULK_OUTCOMES.len()],
    acks: [AtomicU64; AckMode::ALL.len()],
    connections: AtomicU64,
    connections_total: AtomicU64,
    handshakes_failed: AtomicU64,
}

#[derive(Default)]
struct RouteMetrics {
    by_status: [AtomicU64; STATUSES.len()],
    durations: [Durations; CODES.len()],
}

/// The histogram of one route and class of status.
#[derive(Default)]
struct Durations {
    buckets: [AtomicU64; BUCKETS_SECONDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Durations {
    fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS_SECONDS.partition_point(|&bound| bound < seconds);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        Metrics {
            routes: std::array::from_fn(|_| RouteMetrics::default()),
            refusals: std::array::from_fn(|_| AtomicU64::new(0)),
            replays: AtomicU64::new(0),
            bulk_lines: std::array::from_fn(|_| AtomicU64::new(0)),
            acks: std::array::from_fn(|_| AtomicU64::new(0)),
            connections: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, endpoint: Option<&'static Endpoint>, status: StatusCode, took: Duration) {
        let index = endpoint.map_or(TABLE.len(), |endpoint| endpoint.route as usize);
        let Some(route) = self.routes.get(index) else { return };
        let code = usize::from(status.as_u16() / 100).saturating_sub(1);
        let status = STATUSES.iter().position(|&s| s == status.as_u16());
        debug_assert!(status.is_some(), "every status is in the table");
        if let Some(counter) = status.and_then(|s| route.by_status.get(s)) {
            counter.fetch_add(1, Relaxed);
        }
        if let Some(durations) = route.durations.get(code) {
            durations.add(took);
        }
    }

    /// A request was refused with this code.
    pub(crate) fn refused(&self, code: Code) {
        let index = Code::ALL.iter().position(|&c| c == code);
        if let Some(counter) = index.and_then(|i| self.refusals.get(i)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// A request asked to be this safe, or left it to the server.
    pub(crate) fn asked(&self, mode: AckMode) {
        if let Some(counter) = self.acks.get(mode as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// A request got the answer to an earlier one.
    pub(crate) fn replayed(&self) {
        self.replays.fetch_add(1, Relaxed);
    }

    /// A bulk request has ended: what became of its lines.
    pub(crate) fn bulk_lines(&self, done: u64, replayed: u64, refused: u64) {
        for (counter, lines) in self.bulk_lines.iter().zip([done, replayed, refused]) {
            counter.fetch_add(lines, Relaxed);
        }
    }

    /// A client did not come through its TLS handshake.
    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Relaxed);
    }

    /// A connection was accepted; it is closed when the guard is dropped.
    pub(crate) fn connection(&self) -> OpenConnection<'_> {
        self.connections.fetch_add(1, Relaxed);
        self.connections_total.fetch_add(1, Relaxed);
        OpenConnection(&self.connections)
    }
}

/// A connection, counted while it is open; also when what serves it panics.
pub(crate) struct OpenConnection<'a>(&'a AtomicU64);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What takes a while to find out.
pub(crate) struct Looked {
    /// Of process and disk.
    pub(crate) host: Option<Arc<Sample>>,
    /// Of all slots.
    pub(crate) units: Option<Arc<UnitTotals>>,
}

/// The page, in Prometheus' text format.
pub(crate) fn page(app: &App, looked: &Looked) -> String {
    let mut page = Page(String::with_capacity(16 << 10));
    let metrics = &app.metrics;
    http(&mut page, metrics);

    page.family("berth_http_refusals_total", "counter", "Requests refused, by the code of the answer.");
    for (code, count) in Code::ALL.iter().zip(&metrics.refusals) {
        page.sample("berth_http_refusals_total", &format!("code=\"{}\"", code.as_str()), count.load(Relaxed));
    }
    let name = "berth_http_acks_total";
    page.family(name, "counter", "Requests by how safe what their answer rests on had to be.");
    for (mode, count) in AckMode::ALL.iter().zip(&metrics.acks) {
        page.sample(name, &format!("ack=\"{}\"", mode.as_str()), count.load(Relaxed));
    }
    page.counter(
        "berth_idempotent_replays_total",
        "Requests that got an earlier answer.",
        metrics.replays.load(Relaxed),
    );
    let name = "berth_bulk_lines_total";
    page.family(name, "counter", "Lines of bulk bookings, by what became of them; counted when their request ends.");
    for (outcome, count) in BULK_OUTCOMES.iter().zip(&metrics.bulk_lines) {
        page.sample(name, &format!("outcome=\"{outcome}\""), count.load(Relaxed));
    }
    page.counter("berth_http_connections_total", "Connections accepted.", metrics.connections_total.load(Relaxed));
    page.counter(
        "berth_tls_handshake_failures_total",
        "TLS handshakes that failed, took too long or were broken off.",
        metrics.handshakes_failed.load(Relaxed),
    );
    page.gauge("berth_http_connections", "Connections open now.", metrics.connections.load(Relaxed));
    page.gauge(
        "berth_http_connections_max",
        "Connections that may be open at once.",
        app.limits.connections_max as u64,
    );
    page.gauge(
        "berth_http_inflight_requests",
        "Requests running now, until their answer is taken; probes and scrapes left out.",
        app.inflight() as u64,
    );
    page.gauge("berth_ready", "1 while /readyz says yes.", u64::from(app.not_ready().is_none()));
    let catalogue = &app.campaign.catalogue;
    let rules = app.campaign.programme.get();
    // One series at a time: the one in force.
    page.family("berth_programme_info", "gauge", "1, with the SHA-256 of the programme in force.");
    page.sample("berth_programme_info", &format!("sha256=\"{}\"", hex(rules.sha256())), 1);
    let since = rules.since.0 / 1000;
    page.gauge("berth_programme_since_timestamp_seconds", "When the programme in force was taken up.", since);
    let reloads = app.programme.reloads.load(Relaxed);
    page.counter("berth_programme_reloads_total", "Programmes taken up while serving.", reloads);
    let failures = app.programme.failures.load(Relaxed);
    let help = "Programmes that could not be taken up; what was in force goes on.";
    page.counter("berth_programme_reload_failures_total", help, failures);
    page.gauge("berth_catalogue_centres", "Centres published.", catalogue.centre_count() as u64);
    page.gauge("berth_catalogue_sessions", "Sessions published.", catalogue.session_count() as u64);

    admission(&mut page, app);
    access(&mut page, &app.access);
    limits_of_rate(&mut page, &app.rates);
    people(&mut page, app);
    if let Some(audit) = &app.audit {
        audit_log(&mut page, audit.stats());
    }
    engine(&mut page, app);
    if let Some(sample) = &looked.host {
        host::process(&mut page, sample);
        host::disk(&mut page, sample);
    }
    if let Some(totals) = &looked.units {
        units::units(&mut page, totals);
    }
    certificate(&mut page, app.tls.as_ref());
    search::search(&mut page, &app.search);
    search::fhir(&mut page, &[("search", &app.fhir), ("file", &app.published), ("manifest", &app.manifest)]);
    page.gauge(
        "berth_fhir_unpublished_centres",
        "Centres that the last manifest left out: without phone and url, or without a state.",
        app.unpublished_centres.load(Relaxed) as u64,
    );
    if let Some(kept) = &app.store {
        store(&mut page, kept, app.campaign.engine.durable().0);
    }
    if let Some(waits) = &app.waitlist {
        waitlist::waitlist(&mut page, &waits.stats());
    }
    if let Some(events) = &app.events {
        stream(&mut page, &events.stats());
    }

    page.family("berth_build_info", "gauge", "1, with what was built; fault is a planted one, for tests only.");
    let fault = berth_engine::fault::planted_here().unwrap_or("");
    page.sample("berth_build_info", &format!("version=\"{}\",fault=\"{fault}\"", env!("CARGO_PKG_VERSION")), 1);
    page.0
}

/// Nothing where there is no TLS, or a certificate whose end cannot be read.
fn certificate(page: &mut Page, tls: Option<&Tls>) {
    let name = "berth_tls_certificate_expires_timestamp_seconds";
    page.family(name, "gauge", "When the certificate in force runs out, in seconds since 1970.");
    if let Some(expires) = tls.and_then(Tls::expires) {
        page.bare(name, expires);
    }
}

fn access(page: &mut Page, access: &Access) {
    page.gauge(
        "berth_access_keys",
        "Keys of those who may ask, those past their end included.",
        access.key_count() as u64,
    );
    let stats = &access.stats;
    let reloads = stats.reloads.load(Relaxed);
    page.counter("berth_access_reloads_total", "Files of who may ask, taken up while serving.", reloads);
    let failures = stats.reload_failures.load(Relaxed);
    page.counter("berth_access_reload_failures_total", "Such files that were wrong; what was there goes on.", failures);
    let Some(tokens) = &access.tokens else { return };
    let stats = &tokens.stats;
    page.counter("berth_tokens_verified_total", "Signatures of tokens looked at.", stats.verified.load(Relaxed));
    page.counter("berth_tokens_cache_hits_total", "Requests whose token was known.", stats.cached.load(Relaxed));
    page.counter("berth_tokens_refused_total", "Requests refused for their token.", stats.refused.load(Relaxed));
    page.gauge("berth_tokens_cached", "Verified tokens kept now.", tokens.cached() as u64);
    page.gauge("berth_tokens_revoked", "Tokens that are revoked now.", tokens.revoked.len() as u64);
}

fn limits_of_rate(page: &mut Page, limits: &Rates) {
    if !limits.is_on() {
        return;
    }
    let name = "berth_rate_limited_total";
    page.family(name, "counter", "Requests refused for their rate, by what they were charged to and what they were.");
    for payer in Payer::ALL {
        for class in rates::Class::ALL {
            let labels = format!("charged_to=\"{}\",class=\"{}\"", payer.as_str(), class.as_str());
            page.sample(name, &labels, limits.refused(payer, class));
        }
    }
    let (buckets, dropped) = limits.buckets();
    page.gauge("berth_rate_buckets", "Token buckets kept.", buckets as u64);
    page.counter("berth_rate_buckets_dropped_total", "Token buckets dropped to make room: full again.", dropped);
}

/// People, where they are registered here.
fn people(page: &mut Page, app: &App) {
    let Some(registration) = &app.registration else { return };
    let stats = registration.people.stats();
    page.counter("berth_people_keys_destroyed_total", "Keys of people and accounts destroyed.", stats.keys_destroyed);
    let help = "Entries of people passed over because their key is gone.";
    page.counter("berth_people_unreadable_total", help, stats.unreadable);
    if let Some(codes) = &registration.codes {
        let (sent, failed) = (codes.sink.stats.sent.load(Relaxed), codes.sink.stats.failed.load(Relaxed));
        page.counter("berth_codes_sent_total", "One-time codes handed over.", sent);
        page.counter("berth_codes_failed_total", "One-time codes that could not be handed over.", failed);
    }
}

fn audit_log(page: &mut Page, stats: AuditStats) {
    let AuditStats { written, refused, lost, rotated, queued, failing, dead: _ } = stats;
    page.counter("berth_audit_records_total", "Lines written to the audit log.", written);
    page.counter("berth_audit_refused_total", "Requests refused because they could not be audited.", refused);
    page.counter("berth_audit_lost_total", "Requests that went on without their line in the audit log.", lost);
    page.counter("berth_audit_rotations_total", "Times that the audit log was set aside for its size.", rotated);
    page.gauge("berth_audit_queued", "Lines that wait to be written.", queued);
    page.gauge(
        "berth_audit_failing",
        "1 while the audit log cannot be written, and once its thread has ended.",
        u64::from(failing),
    );
}

fn http(page: &mut Page, metrics: &Metrics) {
    let label = |row: Option<&Endpoint>| match row {
        Some(row) => format!("method=\"{}\",route=\"{}\"", row.method, row.template),
        None => "method=\"\",route=\"\"".to_owned(),
    };
    let rows = || {
        let all = TABLE.iter().map(Some).chain([None]);
        all.filter_map(|row| Some((row, metrics.routes.get(row.map_or(TABLE.len(), |row| row.route as usize))?)))
    };
    let name = "berth_http_requests_total";
    page.family(name, "counter", "Requests answered; an empty route is a path or method that does not exist.");
    for (row, route) in rows() {
        for (status, count) in STATUSES.iter().zip(&route.by_status) {
            let count = count.load(Relaxed);
            if count > 0 {
                page.sample(name, &format!("{},status=\"{status}\"", label(row)), count);
            }
        }
    }
    let name = "berth_http_request_duration_seconds";
    page.family(name, "histogram", "From the whole head of a request to its answer, waiting for the journal included.");
    for (row, route) in rows() {
        for (code, durations) in CODES.iter().zip(&route.durations) {
            page.durations(&format!("{},code=\"{code}\"", label(row)), durations);
        }
    }
}

fn admission(page: &mut Page, app: &App) {
    let state = app.admission.state();
    let name = "berth_admission_limit";
    page.family(name, "gauge", "Requests that may be at work at once; +Inf where admission is switched off.");
    match state.limit {
        usize::MAX => page.bare(name, "+Inf"),
        limit => page.bare(name, limit),
    }
    page.gauge(
        "berth_admission_at_work",
        "Requests read and not yet run as far as they can without waiting for body, disk or Redis.",
        state.at_work as u64,
    );
    page.gauge("berth_admission_strained", "1 while requests wait for a thread.", u64::from(state.strained));
    page.family("berth_admission_delay_seconds", "gauge", "How long requests wait before they run, smoothed.");
    page.bare("berth_admission_delay_seconds", state.delay.as_secs_f64());
    let mut by_class = |name: &str, kind: &str, help: &str, counts: &[u64]| {
        page.family(name, kind, help);
        for (class, count) in Class::ALL.iter().zip(counts) {
            page.sample(name, &format!("class=\"{}\"", class.as_str()), count);
        }
    };
    by_class("berth_admission_running", "gauge", "Requests admitted and not yet answered.", &state.running);
    by_class("berth_admission_waiting", "gauge", "Requests that wait for a place.", &state.waiting);
    by_class("berth_admission_admitted_total", "counter", "Requests let in.", &state.admitted);
    let name = "berth_admission_sheds_total";
    page.family(name, "counter", "Requests refused for want of room; nothing was done for them.");
    for (class, reasons) in Class::ALL.iter().zip(&state.sheds) {
        for (reason, count) in Reason::ALL.iter().zip(reasons) {
            let labels = format!("class=\"{}\",reason=\"{}\"", class.as_str(), reason.as_str());
            page.sample(name, &labels, count);
        }
    }
    page.counter(
        "berth_admission_gated_connections_total",
        "Connections that were let in one for one, while requests waited.",
        app.admission.gated.load(Relaxed),
    );
}

fn engine(page: &mut Page, app: &App) {
    let stats = app.campaign.engine.stats();
    page.gauge("berth_parties", "Parties that exist.", stats.parties);
    page.gauge("berth_slot_numbers", "Slot numbers given out, the unused ends of blocks included.", stats.slots);
    page.counter("berth_claims_total", "Holds and bookings ever made, over all runs.", stats.bookings);
    page.gauge("berth_idempotency_keys", "Idempotency keys kept.", stats.idempotency_keys);

    let name = "berth_journal_entries_total";
    page.family(name, "counter", "Entries appended in this run, by kind.");
    for (kind, count) in &stats.entries {
        page.sample(name, &format!("kind=\"{kind}\""), count);
    }
    page.gauge("berth_journal_appended_seq", "Number of the newest entry.", stats.appended);
    page.gauge("berth_journal_durable_seq", "Number of the newest durable entry.", stats.durable);
    page.counter("berth_journal_syncs_total", "Batches written and synced.", stats.journal_batches);
    page.counter("berth_journal_bytes_total", "Bytes of those batches.", stats.journal_bytes);
    let seconds = Duration::from_nanos(stats.journal_sync_nanos).as_secs_f64();
    page.family("berth_journal_sync_seconds_total", "counter", "Time spent in syncs.");
    page.bare("berth_journal_sync_seconds_total", seconds);
    page.gauge(
        "berth_journal_starved",
        "1 while no further segment can be made: what takes units is refused.",
        stats.journal_starved,
    );
    page.gauge(
        "berth_journal_stopped",
        "1 once a failed write or sync, or another owner, has stopped the journal.",
        stats.journal_stopped,
    );

    page.gauge("berth_log_bytes", "Bytes of all segments of the journal, those made ahead included.", stats.log_bytes);
    let snapshots = &stats.snapshots;
    page.counter("berth_snapshots_total", "Snapshots taken in this run.", snapshots.taken);
    page.counter("berth_snapshot_failures_total", "Snapshots that failed in this run.", snapshots.failed);
    page.gauge("berth_snapshot_running", "1 while one is being taken.", snapshots.running);
    page.gauge(
        "berth_snapshot_seq",
        "Every entry up to here is in the newest snapshot; 0: there is none.",
        snapshots.s0.0,
    );
    page.gauge("berth_snapshot_bytes", "Bytes of the newest snapshot.", snapshots.bytes);
    page.gauge(
        "berth_snapshot_replay_bytes",
        "Bytes of the journal that a start would have to replay behind the newest snapshot.",
        snapshots.log_bytes_since,
    );
    page.family("berth_snapshot_age_seconds", "gauge", "Since the newest snapshot was taken; of none, nothing.");
    if snapshots.at.0 > 0 {
        let age = app.campaign.engine.now().0.saturating_sub(snapshots.at.0);
        page.bare("berth_snapshot_age_seconds", age / 1000);
    }
    page.family("berth_snapshot_duration_seconds", "gauge", "How long the newest snapshot of this run took.");
    page.bare("berth_snapshot_duration_seconds", Duration::from_nanos(snapshots.nanos).as_secs_f64());

    if let Some(redis) = &stats.redis {
        page.gauge("berth_redis_connected", "1 while the write-behind is connected.", redis.connected);
        page.gauge("berth_redis_shipped_seq", "Number of the newest entry known to be in Redis.", redis.shipped);
        page.gauge("berth_redis_lag_entries", "Durable entries not yet in Redis.", redis.lag_entries);
        page.gauge("berth_redis_lag_bytes", "Bytes of the journal's frames that hold them.", redis.lag_bytes);
        page.family("berth_redis_lag_seconds", "gauge", "How long the oldest of them has been durable in this run.");
        page.bare("berth_redis_lag_seconds", Duration::from_nanos(redis.lag_nanos).as_secs_f64());
        page.counter("berth_redis_bytes_total", "Bytes of the frames appended in this run.", redis.bytes);
        page.counter(
            "berth_redis_rewinds_total",
            "Times that Redis had lost entries, which were shipped again.",
            redis.rewinds,
        );
        page.counter(
            "berth_redis_installs_total",
            "Times that a snapshot and its head were installed in one step, because the log no longer reached back.",
            redis.installs,
        );
        page.gauge(
            "berth_redis_snapshot_seq",
            "Where the newest snapshot begins that is whole in Redis; 0 if there is none.",
            redis.snapshot,
        );
        page.gauge("berth_redis_memory_used_bytes", "Bytes that Redis has in use.", redis.memory_used_bytes);
        page.gauge("berth_redis_memory_max_bytes", "Bytes that Redis may use; 0 is no bound.", redis.memory_max_bytes);
        page.gauge(
            "berth_redis_warnings",
            "Settings of Redis that an operator should change; the log names them.",
            redis.warnings.len() as u64,
        );
        page.gauge("berth_redis_fenced", "1 once another owner has taken the cell over.", redis.fenced);
        page.counter("berth_redis_frames_total", "Frames appended in this run.", redis.frames);
        page.counter("berth_redis_errors_total", "Connections lost and failed.", redis.errors);
        page.gauge("berth_redis_stopped", "1 once shipping has stopped for good.", redis.stopped);
    }
}

fn store(page: &mut Page, store: &Store, durable: u64) {
    let applied = store.applied().0;
    page.gauge("berth_store_applied_seq", "The newest entry that is in the store of projections.", applied);
    page.gauge("berth_store_lag_entries", "Durable entries that are not in it yet.", durable.saturating_sub(applied));
    page.gauge("berth_store_bytes", "Bytes of it on the disk.", store.disk_bytes());
    let stands_still = u64::from(store.standing_still().is_some());
    page.gauge("berth_store_stands_still", "1 while it does not go on: the log is kept for it.", stands_still);
    let anew = store.opened_anew();
    page.counter(
        "berth_store_opened_anew_total",
        "Times that a full disk had stopped its database, and it was opened anew.",
        anew,
    );
}

fn stream(page: &mut Page, events: &EventsStats) {
    page.gauge("berth_events_connected", "1 while the events stream is connected.", u64::from(events.connected));
    page.gauge("berth_events_told_seq", "Every event up to this entry is known to be in the stream.", events.told);
    page.gauge(
        "berth_events_lag_entries",
        "Durable entries whose events are not yet in the stream.",
        events.lag_entries,
    );
    page.family("berth_events_lag_seconds", "gauge", "Age of the oldest of those entries.");
    page.bare("berth_events_lag_seconds", events.lag.as_secs_f64());
    page.counter("berth_events_total", "Events appended in this run.", events.events);
    page.counter("berth_events_gaps_total", "Gap events among them: the log had lost what was not told.", events.gaps);
    page.counter("berth_events_errors_total", "Connections lost and failed.", events.errors);
    page.gauge("berth_events_stopped", "1 once nothing more is told in this run.", u64::from(events.stopped));
}

/// Prometheus' text format, a family at a time.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    /// The lines of one histogram, if there is anything in it.
    fn durations(&mut self, label: &str, durations: &Durations) {
        let counts: Vec<u64> = durations.buckets.iter().map(|b| b.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return;
        }
        let mut below = 0;
        for (bound, count) in BUCKETS_SECONDS.iter().zip(&counts) {
            below += count;
            self.sample("berth_http_request_duration_seconds_bucket", &format!("{label},le=\"{bound}\""), below);
        }
        self.sample("berth_http_request_duration_seconds_bucket", &format!("{label},le=\"+Inf\""), total);
        let seconds = Duration::from_nanos(durations.nanoseconds.load(Relaxed)).as_secs_f64();
        self.sample("berth_http_request_duration_seconds_sum", label, seconds);
        self.sample("berth_http_request_duration_seconds_count", label, total);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.bare(name, value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.bare(name, value);
    }

    fn bare(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }
}
