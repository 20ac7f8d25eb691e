//! When a fault's moment has come.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::field::Field;
use super::meter::Meter;
use crate::fault::Fault;

/// Waits for it; false when the drive ends first. A moment `within_seconds` is drawn from the seed and the fault's place.
pub(crate) async fn moment_comes(field: &Field, fault: &Fault, index: usize, seed: u64) -> bool {
    let index = u64::try_from(index).unwrap_or(u64::MAX);
    let mut rng = SmallRng::seed_from_u64(seed ^ (0x0F1A_57ED_u64.wrapping_add(index) << 20));
    let drawn = fault.within_seconds.map(|[from, to]| rng.random_range(from..to));
    let at = fault.at_seconds.or(drawn);
    loop {
        if field.schedule.is_closed() {
            return false;
        }
        let by_time = at.is_some_and(|at| field.since_drive_began().as_secs_f64() >= at);
        let by_count = fault.after_bookings.is_some_and(|count| field.meter.bookings.load(Relaxed) >= count);
        let by_share = fault.when_full_share.is_some_and(|share| share_of(&field.meter, field.units) >= share);
        if by_time || by_count || by_share {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for a threshold")]
fn share_of(meter: &Meter, units: u64) -> f64 {
    meter.bookings.load(Relaxed) as f64 / units.max(1) as f64
}
