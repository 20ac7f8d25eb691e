//! Faults planted on purpose, so that it is shown what tests, simulator and audits see. No ordinary build has one.
//!
//! Both ways are a cfg, given to our crates only by `xtask`, and never a cargo feature: nobody can switch one on by accident.
//! `--cfg berth_fault="NAME"` builds the one fault in, as the simulator and the racing tests want it. `--cfg berth_faults` builds all
//! of them, and `berth` plants the one that the environment's `BERTH_FAULT` names: one build serves for all surges. Whoever is
//! asked for the version names it.

/// Whether the fault of this name is planted: a constant `false` in an ordinary build.
#[doc(hidden)]
#[macro_export]
macro_rules! planted {
    ($name:tt) => {
        $crate::fault::is_planted(cfg!(berth_fault = $name), $name)
    };
}

macro_rules! faults {
    ($($name:tt),* $(,)?) => {
        /// Every fault that there is a name for.
        pub const NAMES: &[&str] = &[$($name),*];
        const BUILT_IN: &[bool] = &[$(cfg!(berth_fault = $name)),*];
    };
}

faults![
    "ack_before_durable",
    "append_before_take",
    "confirm_past_deadline",
    "false_full",
    "forget_keys",
    "give_before_append",
    "give_twice",
    "half_group",
    "hold_never_expires",
    "ignore_checksum",
    "late_expiry",
    "move_keeps_old",
    "no_fdatasync",
    "redis_drops_frames",
    "skip_capacity_check",
    "skip_head_check",
    "stale_search",
    "trim_without_snapshot",
    "two_claims_per_dose",
    "unlock_before_append",
    "unwritten_cancel",
    "unwritten_expiry",
];

/// The name of the planted fault, if there is one.
#[must_use]
pub fn planted_here() -> Option<&'static str> {
    let built_in = NAMES.iter().zip(BUILT_IN).find(|(_, built_in)| **built_in).map(|(name, _)| *name);
    built_in.or_else(at_run_time)
}

/// Whether the fault is built in, or this process was told to have it.
#[cfg(not(berth_faults))]
#[doc(hidden)]
#[must_use]
#[inline]
pub const fn is_planted(built_in: bool, _name: &str) -> bool {
    built_in
}

#[cfg(not(berth_faults))]
const fn at_run_time() -> Option<&'static str> {
    None
}

/// Whether the fault is built in, or this process was told to have it.
#[cfg(berth_faults)]
#[doc(hidden)]
#[must_use]
pub fn is_planted(built_in: bool, name: &str) -> bool {
    built_in || at_run_time() == Some(name)
}

#[cfg(berth_faults)]
static TOLD: std::sync::OnceLock<&'static str> = std::sync::OnceLock::new();

#[cfg(berth_faults)]
fn at_run_time() -> Option<&'static str> {
    TOLD.get().copied()
}

/// Gives this process its fault, once and before anything else is done. False where there is none of that name, or one
/// already.
#[cfg(berth_faults)]
#[must_use]
pub fn plant(name: &str) -> bool {
    NAMES.iter().find(|known| **known == name).is_some_and(|known| TOLD.set(known).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_build_has_no_fault() {
        if cfg!(berth_faults) || BUILT_IN.contains(&true) {
            return;
        }
        assert_eq!(planted_here(), None);
        assert!(NAMES.iter().all(|name| !is_planted(false, name)));
    }

    #[test]
    fn names_stand_once_and_in_order() {
        assert!(NAMES.is_sorted_by(|one, next| one < next));
    }
}
