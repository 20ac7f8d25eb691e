//! What every request shares.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use berth_engine::{CellId, Epoch};
use berth_programme::Campaign;
use berth_programme::doses::Doses;
use berth_programme::lottery::Lotteries;
use berth_programme::store::Store;
use berth_programme::supply::Ledger;
use berth_programme::waitlist::Waitlist;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::access::{Access, Accounts, AccountsConfig};
use crate::ack::AckMode;
use crate::admission::{Admission, Settings as AdmissionSettings};
use crate::audit::Audit;
use crate::certificates::{Certificates, Signing};
use crate::events::Events;
use crate::fhir::FhirConfig;
use crate::log::AccessLog;
use crate::metrics::{Host, Metrics, Units};
use crate::openapi::{self, Document};
use crate::people::Registration;
use crate::rates::{Rates, RatesConfig};
use crate::reload_programme::ProgrammeSource;
use crate::routes::programme::ProgrammePage;
use crate::search::{Renderers, Search, SearchConfig};
use crate::snapshots::SnapshotPolicy;
use crate::tls::Tls;
use crate::trace::Traces;
use crate::wire::Names;

/// Where the server stands between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is answered.
    Serving,
    /// Everything is answered, but `/readyz` says no, so that balancers send nobody new.
    Leaving,
    /// What is running runs to its end; what is new is refused as `draining`.
    Draining,
}

/// Limits of the HTTP side. Checked by [`crate::config`].
#[derive(Clone, Debug)]
pub(crate) struct HttpLimits {
    /// A request's head must be there this long after its connection is ready for it.
    pub(crate) head_time: Duration,
    /// A request's body must be there this long after its head.
    pub(crate) body_time: Duration,
    /// An answer must be taken this long after it was made.
    pub(crate) send_time: Duration,
    /// Connections open at once; more wait in the listener's backlog.
    pub(crate) connections_max: usize,
    /// Requests answered at once; more are refused as `overloaded`.
    pub(crate) inflight_requests_max: usize,
    /// How requests are admitted, until somebody changes it at run time.
    pub(crate) admission: AdmissionSettings,
    /// With less room on the disk `/readyz` says so.
    pub(crate) disk_low_bytes: u64,
    /// One request in so many is told of in the log; 0: none.
    pub(crate) access_one_in: u64,
    /// How safe an effect must be before its answer is shown, where the request does not say.
    pub(crate) ack: AckMode,
    /// How long an answer waits for Redis after it waited for the disk.
    pub(crate) ack_redis_time: Duration,
    /// How long `/readyz` says no before new requests are refused.
    pub(crate) drain_notice: Duration,
    /// How long running requests may take to end after that.
    pub(crate) drain_time: Duration,
    /// How searches are answered.
    pub(crate) search: SearchConfig,
    /// What is told in FHIR, and published.
    pub(crate) fhir: FhirConfig,
}

/// Bulk bodies in memory or waiting for their turn at once. Each is up to 8 MiB.
const BULK_CONCURRENCY: usize = 8;

/// How old the look at the disk may be that a probe goes by.
const DISK_SEEN_AGO_MAX: Duration = Duration::from_secs(1);

/// A server's state.
pub(crate) struct App {
    pub(crate) campaign: Campaign,
    /// Who asks, and what they may do.
    pub(crate) access: Access,
    /// How often they may.
    pub(crate) rates: Rates,
    /// What each account has set aside.
    pub(crate) accounts: Accounts,
    /// The audit log, if there is one.
    pub(crate) audit: Option<Audit>,
    pub(crate) cell: CellId,
    pub(crate) epoch: Epoch,
    pub(crate) limits: HttpLimits,
    pub(crate) snapshots: SnapshotPolicy,
    pub(crate) metrics: Metrics,
    /// What process and disk are looked at by.
    pub(crate) host: Host,
    /// Who counts the units of all slots.
    pub(crate) units: Units,
    pub(crate) search: Arc<Search>,
    /// What is told of the catalogue in FHIR: as old as searches may be, and kept apart from them.
    pub(crate) fhir: Arc<Search>,
    /// Published files: a copy of everything would push all else out.
    pub(crate) published: Arc<Search>,
    /// Their manifest, which looks through everything: nobody who reads a file waits for that.
    pub(crate) manifest: Arc<Search>,
    /// Centres that the last manifest left out, for they lack what a published one must have.
    pub(crate) unpublished_centres: AtomicUsize,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) access_log: AccessLog,
    pub(crate) traces: Traces,
    /// Where the programme lies.
    pub(crate) programme: ProgrammeSource,
    /// The programme in force, as everybody reads it.
    pub(crate) programme_page: ProgrammePage,
    /// Permits for bulk bodies.
    pub(crate) bulk: Arc<Semaphore>,
    /// Permits for bulk bookings.
    pub(crate) streams: Arc<Semaphore>,
    /// Permits for what is done to all bookings of a session: no stream of a platform keeps an administrator waiting.
    pub(crate) session_jobs: Arc<Semaphore>,
    /// Where the journal lies; its filesystem is looked at.
    pub(crate) data_dir: PathBuf,
    /// TLS on the main listener, if it is configured.
    pub(crate) tls: Option<Tls>,
    /// The listener for probes, until the server takes it.
    pub(crate) probes: Mutex<Option<std::net::TcpListener>>,
    /// The events stream, if there is one.
    pub(crate) events: Option<Events>,
    /// What projections of the journal keep on disk.
    pub(crate) store: Option<Arc<Store>>,
    /// What was given to whom.
    pub(crate) doses: Option<Arc<Doses>>,
    /// Units that are drawn.
    pub(crate) lotteries: Option<Arc<Lotteries>>,
    /// Where doses came from and went.
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// People, if they are registered here.
    pub(crate) registration: Option<Registration>,
    /// What was given, as proof.
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// Who waits for what is given back.
    pub(crate) waitlist: Option<Arc<Waitlist>>,
    document: OnceLock<Document>,
    inflight: AtomicUsize,
    /// Set when the thread that gives expired holds back has ended before its time.
    pub(crate) expiry_failed: Arc<AtomicBool>,
}

impl App {
    /// A server's state at its start.
    #[must_use]
    pub(crate) fn new(
        campaign: Campaign,
        access: Access,
        cell: CellId,
        epoch: Epoch,
        limits: HttpLimits,
        snapshots: SnapshotPolicy,
    ) -> App {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let renderers = Renderers::new(cores);
        let of_fhir = SearchConfig { staleness: limits.search.staleness, ..limits.fhir.kept };
        App {
            campaign,
            access,
            rates: Rates::new(RatesConfig::default()),
            accounts: Accounts::new(AccountsConfig::default()),
            audit: None,
            cell,
            epoch,
            admission: Admission::new(limits.admission.clone()),
            access_log: AccessLog::new(limits.access_one_in),
            traces: Traces::new(),
            // Of the renderers that searches have: who asks in FHIR takes no more of the machine, and leaves half to who books.
            fhir: Search::new(of_fhir, renderers.at_most(cores.div_ceil(2))),
            search: Search::new(limits.search, renderers),
            // One at a time: who copies everything waits, so that searches and bookings do not.
            published: Search::new(limits.fhir.kept, Renderers::new(1)),
            manifest: Search::new(limits.fhir.kept, Renderers::new(1)),
            unpublished_centres: AtomicUsize::new(0),
            limits,
            snapshots,
            metrics: Metrics::new(),
            host: Host::new(),
            units: Units::new(),
            phase: watch::Sender::new(Phase::Serving),
            programme: ProgrammeSource::default(),
            programme_page: ProgrammePage::default(),
            bulk: Arc::new(Semaphore::new(BULK_CONCURRENCY)),
            streams: Arc::new(Semaphore::new(BULK_CONCURRENCY)),
            session_jobs: Arc::new(Semaphore::new(BULK_CONCURRENCY)),
            data_dir: PathBuf::new(),
            tls: None,
            probes: Mutex::new(None),
            events: None,
            store: None,
            doses: None,
            lotteries: None,
            ledger: None,
            certificates: None,
            registration: None,
            waitlist: None,
            document: OnceLock::new(),
            inflight: AtomicUsize::new(0),
            expiry_failed: Arc::new(AtomicBool::new(false)),
        }
    }

    /// What certificates are signed with, if they are.
    pub(crate) fn signing(&self) -> Option<&Signing> {
        self.certificates.as_ref()?.signing.as_ref()
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Why no requests should be sent here, if so.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        let stats = self.campaign.engine.stats();
        if self.phase() != Phase::Serving {
            Some("draining")
        } else if stats.journal_stopped != 0 {
            Some("journal_stopped")
        } else if self.expiry_failed.load(Relaxed) {
            Some("expiry_stopped")
        } else if stats.journal_abandoned != 0 {
            Some("segments_stopped")
        } else {
            None
        }
    }

    /// Whether the disk has little room left. Serving goes on.
    pub(crate) async fn disk_is_low(&self) -> bool {
        let seen = self.host.sample(&self.data_dir, DISK_SEEN_AGO_MAX).await;
        seen.and_then(|sample| sample.room).is_some_and(|(free, _)| free < self.limits.disk_low_bytes)
    }

    /// How things are named on the wire.
    pub(crate) fn names(&self) -> Names<'_> {
        Names { cell: self.cell, codes: self.campaign.engine.codes(), calendar: self.campaign.programme.calendar() }
    }

    /// What is told of the API; made when it is first asked for.
    pub(crate) fn document(&self) -> &Document {
        self.document.get_or_init(openapi::rendered)
    }

    /// Counts a request in, and says whether there is room for it.
    pub(crate) fn enter(self: &Arc<Self>) -> (Inflight, bool) {
        // Relaxed: a count, nothing is published by it.
        let before = self.inflight.fetch_add(1, Relaxed);
        (Inflight(Arc::clone(self)), before < self.limits.inflight_requests_max)
    }

    /// Requests running now, until their answer is taken: not the probes, but those being refused.
    pub(crate) fn inflight(&self) -> usize {
        self.inflight.load(Relaxed)
    }

    /// Waits until every bulk publish and request of many steps has ended, also those whose client is gone.
    pub(crate) async fn bulk_ended(&self) {
        // All permits back means that nobody holds one; the semaphores are never closed.
        let _ = self.bulk.acquire_many(BULK_CONCURRENCY_PERMITS).await;
        let _ = self.streams.acquire_many(BULK_CONCURRENCY_PERMITS).await;
        let _ = self.session_jobs.acquire_many(BULK_CONCURRENCY_PERMITS).await;
    }
}

const BULK_CONCURRENCY_PERMITS: u32 = 8;
const _: () = assert!(BULK_CONCURRENCY == BULK_CONCURRENCY_PERMITS as usize, "draining waits for every permit");

/// A request, counted while it runs.
pub(crate) struct Inflight(Arc<App>);

impl Drop for Inflight {
    fn drop(&mut self) {
        self.0.inflight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
impl App {
    /// An empty cell in this directory, with nobody to ask it.
    pub(crate) fn for_test(dir: &std::path::Path) -> Arc<App> {
        let programme = include_str!("../../programmes/india-2021.toml");
        let programme = berth_programme::Programme::from_toml(programme).unwrap();
        let (campaign, report) = Campaign::open(berth_engine::Config::new(dir), programme).unwrap();
        let time = Duration::from_secs(1);
        let limits = HttpLimits {
            head_time: time,
            body_time: time,
            send_time: time,
            connections_max: 1,
            inflight_requests_max: 1,
            admission: AdmissionSettings::default(),
            disk_low_bytes: 0,
            access_one_in: 0,
            ack: AckMode::Disk,
            ack_redis_time: time,
            drain_notice: time,
            drain_time: time,
            search: SearchConfig { staleness: time, cache_bytes: 1 << 20 },
            fhir: FhirConfig::default(),
        };
        let never = SnapshotPolicy { every: None, log_bytes: None, stop_log_bytes: u64::MAX };
        Arc::new(App::new(campaign, Access::default(), CellId(1), report.epoch, limits, never))
    }
}
