//! Taking over from a process that still serves.
//!
//! The address is waited for, then the lock of the data directory: in the order in which the old process gives them up
//! (it closes its listener, lets running requests end, closes the journal, ends). So who connects in between waits in this
//! process's backlog until the journal is replayed, and is not refused.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// How often an address that is taken is tried again.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Binds; while the address is taken, again and again until `wait` is over, of which it leaves what is left. Nothing was
/// opened or written before.
///
/// # Errors
/// In one sentence, with the address.
pub(crate) fn bind(listen: &str, wait: &mut Duration) -> Result<(TcpListener, SocketAddr), String> {
    let (began, patience) = (Instant::now(), *wait);
    let mut told = false;
    let listener = loop {
        let error = match TcpListener::bind(listen) {
            Ok(listener) => break listener,
            Err(error) => error,
        };
        *wait = patience.saturating_sub(began.elapsed());
        if error.kind() != ErrorKind::AddrInUse || patience.is_zero() {
            return Err(format!("cannot listen on {listen}: {error}"));
        }
        if wait.is_zero() {
            return Err(format!("cannot listen on {listen}: {error}, still, after {} s", patience.as_secs()));
        }
        if !std::mem::replace(&mut told, true) {
            let seconds = patience.as_secs();
            tracing::info!(listen, seconds, "waiting for the process that serves here; stop it to hand over");
        }
        std::thread::sleep(LOOK_EVERY.min(*wait));
    };
    let address = listener.local_addr().map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    if told {
        tracing::info!(%address, "took the address over; connections wait until the data directory is open");
    }
    Ok((listener, address))
}
