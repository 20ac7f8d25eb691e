//! The same scenario, larger or smaller, longer or shorter.

use super::Scenario;

impl Scenario {
    /// With `factor` times the people, units, and bookings before a fault, in `times` times the time. How long a fault lasts
    /// and how long people think stays.
    pub(crate) fn scaled(mut self, factor: f64, times: f64) -> Self {
        let both = factor * times;
        self.population.parties = count(self.population.parties, both).max(4);
        if let Some(accounts) = &mut self.population.accounts {
            *accounts = count(*accounts, both).max(1);
        }
        if let Some(shape) = &mut self.inventory {
            if shape.seekers_per_slot.is_none() {
                for units in shape.pools.values_mut() {
                    *units = count(*units, both).max(1);
                }
            }
            if let Some(opens) = &mut shape.opens_at_seconds {
                *opens *= times;
            }
        }
        for phase in &mut self.arrivals {
            phase.scale(factor, times);
        }
        for fault in &mut self.faults {
            fault.after_bookings = fault.after_bookings.map(|bookings| big(bookings, both));
            if let Some(at) = &mut fault.at_seconds {
                *at *= times;
            }
            if let Some(within) = &mut fault.within_seconds {
                within.iter_mut().for_each(|moment| *moment *= times);
            }
            for least in
                [&mut fault.acknowledged_min, &mut fault.refused_min, &mut fault.settled_min, &mut fault.resumed_min]
            {
                *least = big(*least, both).max((*least).min(1));
            }
            if factor < 1.0 {
                fault.in_flight_min = count(fault.in_flight_min, factor).max(fault.in_flight_min.min(20));
                fault.crowd = count(fault.crowd, factor).max(fault.crowd.min(fault.in_flight_min * 3));
            }
        }
        for objective in &mut self.objectives {
            objective.goodput_min = objective.goodput_min.map(|least| least * factor);
        }
        self.audit.acknowledged_bookings_min = big(self.audit.acknowledged_bookings_min, both);
        self
    }
}

pub(super) fn count(count: u32, factor: f64) -> u32 {
    u32::try_from(big(u64::from(count), factor)).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rounded count of people or units"
)]
fn big(count: u64, factor: f64) -> u64 {
    (count as f64 * factor).round().max(0.0) as u64
}
