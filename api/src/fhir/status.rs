//! What a state is in FHIR's words. A slot's are those of searches ([`crate::wire::slot_status`]), which are FHIR's already.

use berth_engine::{Counts, State};

/// `Appointment.status`.
pub(super) fn appointment(state: State) -> &'static str {
    match state {
        // The unit is set aside; whose it is has not confirmed yet.
        State::Held => "pending",
        State::Booked => "booked",
        State::CheckedIn => "checked-in",
        State::Completed => "fulfilled",
        State::NoShow => "noshow",
        State::Released | State::Expired | State::Cancelled | State::Moved => "cancelled",
    }
}

/// Why it is cancelled, where that is not somebody's wish to give it up: what lives on elsewhere, and what was never confirmed.
pub(super) fn why_cancelled(state: State) -> Option<&'static str> {
    match state {
        State::Released => Some("the hold was given back"),
        State::Expired => Some("the hold ran out before it was confirmed"),
        State::Moved => Some("moved to another appointment"),
        _ => None,
    }
}

/// `Appointment.participant.status` of whom it is for.
pub(super) fn participant(state: State) -> &'static str {
    match state {
        State::Held => "tentative",
        State::Released | State::Expired | State::Cancelled | State::Moved => "declined",
        _ => "accepted",
    }
}

/// `Immunization.status`.
pub(super) fn immunization(valid: bool) -> &'static str {
    if valid { "completed" } else { "entered-in-error" }
}

/// `Slot.status` as SMART Scheduling Links has it, and the units of that status: those that anybody can book, or else all.
/// `for_anybody`: it can be booked without an invitation, and not at the door alone.
pub(super) fn published(counts: Counts, in_time: bool, for_anybody: bool) -> (&'static str, u32) {
    let free = counts.free_to_all().get();
    if counts.is_open() && in_time && for_anybody && free > 0 {
        ("free", free)
    } else {
        ("busy", counts.capacity().get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_words_that_fhir_knows() {
        let known = ["pending", "booked", "checked-in", "fulfilled", "cancelled", "noshow"];
        let words: Vec<_> = State::ALL.into_iter().map(appointment).collect();
        assert!(words.iter().all(|word| known.contains(word)) && known.iter().all(|word| words.contains(word)));
        for state in State::ALL {
            // FHIR: a reason only of what was cancelled or where nobody came.
            assert!(why_cancelled(state).is_none() || appointment(state) == "cancelled", "{state}");
            assert_eq!(participant(state) == "declined", appointment(state) == "cancelled", "{state}");
        }
    }
}
