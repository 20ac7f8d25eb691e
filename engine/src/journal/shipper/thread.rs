//! The thread that turns a shipper.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;

use super::{IDLE, ShipTurn, Shipper, Shipping};
use crate::clock::Stopwatch;

/// How often the server is asked how it stands, however busy the shipper is.
const ASK_SERVER: Duration = Duration::from_secs(5);
/// How long a closing engine waits for Redis to take what it has not. The log has it, and the next start ships it.
const CLOSING_MAX: Duration = Duration::from_secs(2);

/// Wakes the shipper when the watermark has moved.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Thread);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.unpark();
    }
}

/// The thread that turns a shipper.
#[derive(Debug)]
pub(crate) struct ShipperThread {
    shared: Arc<Shipping>,
    bell: Bell,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ShipperThread {
    pub(crate) fn spawn(mut shipper: Shipper) -> io::Result<Self> {
        let shared = shipper.shared();
        let told = ToldOfPanic(shipper.shared());
        let run = move || {
            let _told = told;
            let mut asked = Stopwatch::start();
            while Self::turn(&mut shipper) {
                if asked.elapsed() >= ASK_SERVER {
                    asked = Stopwatch::start();
                    shipper.ask_soon();
                }
            }
        };
        let thread = std::thread::Builder::new().name("berth-shipper".to_owned()).spawn(run)?;
        let bell = Bell(thread.thread().clone());
        Ok(Self { shared, bell, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// False when it is over.
    fn turn(shipper: &mut Shipper) -> bool {
        let closing = shipper.shared.is_closing();
        let mut came_to = shipper.turn();
        if came_to == ShipTurn::Idle && !closing {
            let watch = Stopwatch::start();
            std::thread::park_timeout(IDLE);
            if watch.elapsed() < IDLE {
                // Woken: there is something to ship.
                return true;
            }
            came_to = shipper.look();
        }
        match came_to {
            ShipTurn::Shipped => !shipper.shared.given_up.load(Relaxed),
            ShipTurn::Idle => !closing,
            ShipTurn::Lost(backoff) => !closing && Self::sleep(&shipper.shared, backoff),
            ShipTurn::Stopped => false,
        }
    }

    /// Sleeps through the bell; false if the engine is closing.
    fn sleep(shared: &Shipping, time: Duration) -> bool {
        let watch = Stopwatch::start();
        while !shared.is_closing() {
            shared.look();
            match time.checked_sub(watch.elapsed()) {
                Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                _ => return true,
            }
        }
        false
    }

    /// Ships what is durable, if Redis takes it within [`CLOSING_MAX`], and ends. A thread that waits for a silent
    /// Redis is left to its own time-out.
    pub(crate) fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        self.shared.closing.store(true, Release);
        self.bell.ring();
        let watch = Stopwatch::start();
        while !thread.is_finished() && watch.elapsed() < CLOSING_MAX {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.shared.given_up.store(true, Relaxed);
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

/// Tells at once whoever waits for Redis, and the metrics, when the thread panics: it would stand still, and nobody would know.
struct ToldOfPanic(Arc<Shipping>);

impl Drop for ToldOfPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop("the thread that ships has panicked".to_owned());
        }
    }
}

impl Drop for ShipperThread {
    fn drop(&mut self) {
        self.close();
    }
}
