//! The store of what the journal comes to beside bookings: opened with the server, followed while it runs, waited for by who reads
//! after a write.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_engine::{CellId, Engine, Seq};
use berth_programme::Campaign;
use berth_programme::certificates::register::Register;
use berth_programme::doses::Doses;
use berth_programme::lottery::Lotteries;
use berth_programme::store::{Projection, Store, StoreError, Told};
use berth_programme::supply::Ledger;
use berth_programme::waitlist::Waitlist;

use crate::app::App;
use crate::problem::{Code, Problem};

/// Its directory, in the data directory.
pub(crate) const DIR: &str = "store";
/// How long a read waits for what was written before it.
const WAIT: Duration = Duration::from_secs(5);
/// How often it is tried to make the books of stock.
const AGAIN: Duration = Duration::from_secs(1);

/// What was opened, and is to be [followed](follow).
pub(crate) struct Opened {
    pub(crate) store: Arc<Store>,
    pub(crate) doses: Arc<Doses>,
    pub(crate) waitlist: Arc<Waitlist>,
    pub(crate) lotteries: Arc<Lotteries>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) register: Arc<Register>,
    pub(crate) projections: Vec<Arc<dyn Projection>>,
}

/// Opens the store in this data directory, with what a server always keeps in it.
///
/// # Errors
/// In one sentence.
pub(crate) fn open(data_dir: &Path, campaign: &Campaign, cell: CellId) -> Result<Opened, String> {
    let opened = || -> Result<_, StoreError> {
        let store = Arc::new(Store::open(&data_dir.join(DIR))?);
        let doses = Arc::new(Doses::open(Arc::clone(&campaign.engine), &store)?);
        let waitlist = Waitlist::open(campaign, &store)?;
        let (lotteries, drawn) = Lotteries::open(campaign, &store, cell)?;
        let lotteries = Arc::new(lotteries);
        let (ledger, counted) = Ledger::open(campaign, &store)?;
        let ledger = Arc::new(ledger);
        let register = Arc::new(Register::open(campaign, Arc::clone(&doses), &store)?);
        let certificates: Arc<dyn Projection> = Arc::<Register>::clone(&register);
        let projections: Vec<Arc<dyn Projection>> =
            vec![Arc::<Doses>::clone(&doses), Arc::<Waitlist>::clone(&waitlist), drawn, counted, certificates];
        Ok(Opened { store, doses, waitlist, lotteries, ledger, register, projections })
    };
    opened().map_err(|error| error.to_string())
}

/// Follows the log from now on: to be called before anything trims it.
///
/// # Errors
/// In one sentence.
pub(crate) fn follow(store: &Store, engine: &Arc<Engine>, projections: Vec<Arc<dyn Projection>>) -> Result<(), String> {
    store.follow(engine, projections, tell).map_err(|error| error.to_string())
}

/// Makes the books of stock: at once, or as soon as the store has come so far.
pub(crate) fn keep_books(ledger: &Arc<Ledger>) {
    let began = ledger.began();
    if began.0 > 0 {
        tracing::warn!(
            entry = began.0,
            "the ledger of supply does not have what was before this entry: batches, recalls and stock of then are to be written down again"
        );
    }
    let Err(why) = ledger.begin() else { return };
    tracing::error!(%why, "the books of stock cannot be made yet: they are once the store has come so far");
    let later = Arc::downgrade(ledger);
    let run = move || {
        while later.upgrade().is_some_and(|ledger| ledger.begin().is_err()) {
            std::thread::park_timeout(AGAIN);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("berth-books".to_owned()).spawn(run) {
        tracing::error!(%error, "the books of stock are made by who asks first of a batch");
    }
}

fn tell(told: Told) {
    match told {
        Told::StandsStill(why) => tracing::error!(
            %why,
            "the store of projections stands still: doses are recorded and not shown, and the log is kept for it"
        ),
        Told::GoesOn => tracing::info!("the store of projections goes on"),
        Told::BeganLate(seq) => tracing::warn!(
            entry = seq.0,
            "the store of projections is new, and the log was trimmed before: what was recorded up to this entry is not in it"
        ),
    }
}

/// Waits until reads see entries up to this one, which are durable.
pub(crate) async fn reached(app: &App, seq: Seq) -> Result<(), Problem> {
    let store = app.store.as_ref().ok_or_else(unavailable)?;
    match tokio::time::timeout(WAIT, store.reached(seq)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(unavailable()),
    }
}

/// A read of the store has failed: why is for the operator's log.
pub(crate) fn failed(error: &StoreError) -> Problem {
    tracing::error!(%error, "the store of projections cannot be read");
    unavailable()
}

/// It is not to be had now.
pub(crate) fn unavailable() -> Problem {
    Problem::new(Code::StoreUnavailable, "what was written is on the disk, and not to be read yet: ask again")
}
