//! Invitations: a pool with `invitation = true` serves who was invited to it, once for each invitation.
//!
//! How often a party was invited stands in its facts, so it is replaced by compare and set and judged in the party's lock, and no
//! journal needs another entry. The cohorts of a programme have the low bits of a word; each pool with invitations has three of those
//! that are left, from the top, in the order of the pools. How many of them are spent is what the party's bookings say: see
//! [`berth_engine::Policy::invitations`].

use berth_engine::PoolId;

use crate::file::ProgrammeFile;
use crate::programme::Programme;

/// Bits of one pool's count.
pub(crate) const INVITATION_BITS: u32 = 3;
/// As often as a party can be invited to one pool.
pub const INVITATIONS_MAX: u32 = (1 << INVITATION_BITS) - 1;

/// Where the count of the pool at this place begins; `None`: the pool has no invitations.
pub(crate) fn shift(file: &ProgrammeFile, place: usize) -> Option<u32> {
    file.pools.get(place).filter(|pool| pool.invitation)?;
    let before = file.pools[..place].iter().filter(|pool| pool.invitation).count();
    32u32.checked_sub(INVITATION_BITS * (u32::try_from(before).ok()? + 1))
}

/// The count that begins there.
pub(crate) fn count(cohorts: u32, shift: u32) -> u32 {
    cohorts >> shift & INVITATIONS_MAX
}

impl Programme {
    /// How often a party with these facts was invited to a pool; `None`: the pool has no invitations.
    #[must_use]
    pub fn invited(&self, cohorts: u32, pool: PoolId) -> Option<u32> {
        Some(count(cohorts, self.invitation_shift(pool)?))
    }

    /// The same facts with another count, at most [`INVITATIONS_MAX`]; `None`: the pool has no invitations.
    #[must_use]
    pub fn with_invitations(&self, cohorts: u32, pool: PoolId, times: u32) -> Option<u32> {
        let shift = self.invitation_shift(pool)?;
        Some(cohorts & !(INVITATIONS_MAX << shift) | times.min(INVITATIONS_MAX) << shift)
    }

    /// The pools with invitations, in the order of the file.
    pub fn invitation_pools(&self) -> impl Iterator<Item = (PoolId, &str)> {
        let pools = (1..=u8::MAX).map(PoolId).zip(&self.file().pools);
        pools.filter(|(_, pool)| pool.invitation).map(|(number, pool)| (number, pool.id.as_str()))
    }

    /// The bits of cohorts alone: of whom a party is one, and not to what it was invited.
    #[must_use]
    pub fn cohorts_alone(&self, cohorts: u32) -> u32 {
        self.invitation_pools().fold(cohorts, |left, (pool, _)| self.with_invitations(left, pool, 0).unwrap_or(left))
    }

    fn invitation_shift(&self, pool: PoolId) -> Option<u32> {
        shift(self.file(), usize::from(pool.0).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lie_apart_from_each_other_and_from_the_cohorts() {
        let text = r#"
name = "P"
time_zone = "Europe/Paris"
hold_seconds = 60
group_claims_max = 1
booking_horizon_days = 10
booking_cutoff_minutes = 0
cancel_cutoff_minutes = 0
products = [{ id = "a", name = "A" }]
pools = [{ id = "x", name = "X", invitation = true }, { id = "y", name = "Y" }, { id = "z", name = "Z", invitation = true }]
cohorts = [{ id = "c", name = "C" }]
"#;
        let programme = Programme::from_toml(text).unwrap();
        let cohorts = programme.with_invitations(1, PoolId(1), 7).unwrap();
        let cohorts = programme.with_invitations(cohorts, PoolId(3), 2).unwrap();
        assert_eq!((programme.invited(cohorts, PoolId(1)), programme.invited(cohorts, PoolId(3))), (Some(7), Some(2)));
        assert_eq!((programme.invited(cohorts, PoolId(2)), programme.invited(cohorts, PoolId(9))), (None, None));
        assert_eq!(cohorts, 0b111 << 29 | 0b010 << 26 | 1);
        assert_eq!((programme.cohorts_alone(cohorts), programme.cohort_ids(cohorts).count()), (1, 1));
        assert_eq!(
            programme.with_invitations(cohorts, PoolId(3), 99),
            Some(0b111_111 << 26 | 1),
            "as many as there can be"
        );
        let thirty: Vec<String> = (0..30).map(|at| format!("{{ id = \"c{at}\", name = \"C\" }}")).collect();
        let many = text.replace("{ id = \"c\", name = \"C\" }", &thirty.join(", "));
        let told = Programme::from_toml(&many).unwrap_err().to_string();
        assert_eq!(told, "pools: with 30 cohorts 0 pools may have invitation = true, 2 have");
    }
}
