//! A checked programme: what the file says, with products and pools numbered.

use std::time::Duration;

use berth_engine::{Dose, PoolId, ProductId, TimestampMs};

use regex::Regex;
use sha2::{Digest as _, Sha256};

use crate::calendar::Calendar;
use crate::compiled::Compiled;
use crate::file::{PoolFile, ProductFile, ProgrammeFile, ProgrammeFileError, WalkIn, whole};

/// The rules of one campaign. Immutable; the engine's policy (see `rules`).
#[derive(Clone, Debug)]
pub struct Programme {
    file: ProgrammeFile,
    calendar: Calendar,
    compiled: Compiled,
    /// What the numbers of the file's documents look like.
    numbers: Vec<Regex>,
    /// The file as it was read: what the journal keeps.
    text: Box<str>,
    sha256: [u8; 32],
}

impl Programme {
    /// Reads and checks a programme file.
    ///
    /// # Errors
    /// What is wrong with it: the first fault of shape, or every fault of value.
    pub fn from_toml(text: &str) -> Result<Programme, ProgrammeFileError> {
        let file = ProgrammeFile::parse(text)?;
        file.validate().map_err(ProgrammeFileError::Values)?;
        let calendar = Calendar::new(&file.time_zone).expect("validate() looked the zone up");
        let compiled = Compiled::new(&file, &calendar);
        let numbers = file.documents.iter().map(|document| whole(&document.pattern).expect("validate() compiled it"));
        let numbers = numbers.collect();
        let sha256 = Sha256::digest(text.as_bytes()).into();
        Ok(Programme { file, calendar, compiled, numbers, text: text.into(), sha256 })
    }

    /// The file's text, which says which programme this is.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the file's text.
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub(crate) fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// What the file says.
    #[must_use]
    pub fn file(&self) -> &ProgrammeFile {
        &self.file
    }

    /// Civil time in the programme's zone.
    #[must_use]
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// How long a hold lives; also the longest.
    #[must_use]
    pub fn hold_ttl(&self) -> Duration {
        Duration::from_secs(self.file.hold_seconds.into())
    }

    /// Claims one request may make.
    #[must_use]
    pub fn group_claims_max(&self) -> usize {
        self.file.group_claims_max
    }

    /// The number of a product named in a session line or search.
    #[must_use]
    pub fn product_number(&self, id: &str) -> Option<ProductId> {
        number(self.file.products.iter().position(|p| p.id == id)?).map(ProductId)
    }

    /// The product of a number.
    #[must_use]
    pub fn product(&self, number: ProductId) -> Option<&ProductFile> {
        self.file.products.get(usize::from(number.0).checked_sub(1)?)
    }

    /// The number of a pool named in a session line or search.
    #[must_use]
    pub fn pool_number(&self, id: &str) -> Option<PoolId> {
        number(self.file.pools.iter().position(|p| p.id == id)?).map(PoolId)
    }

    /// The pool of a number.
    #[must_use]
    pub fn pool(&self, number: PoolId) -> Option<&PoolFile> {
        self.file.pools.get(usize::from(number.0).checked_sub(1)?)
    }

    /// People one account may look after.
    #[must_use]
    pub fn members_per_account_max(&self) -> u32 {
        self.file.members_per_account_max
    }

    /// The bit of a cohort in a party's facts.
    #[must_use]
    pub fn cohort_bit(&self, id: &str) -> Option<u32> {
        let at = self.file.cohorts.iter().position(|cohort| cohort.id == id)?;
        1u32.checked_shl(u32::try_from(at).ok()?)
    }

    /// The cohorts of a party's facts, in the order of the file; bits that the file does not know are left out.
    pub fn cohort_ids(&self, cohorts: u32) -> impl Iterator<Item = &str> {
        let member =
            move |at: usize| u32::try_from(at).ok().and_then(|at| cohorts.checked_shr(at)).unwrap_or(0) & 1 == 1;
        self.file.cohorts.iter().enumerate().filter(move |&(at, _)| member(at)).map(|(_, cohort)| cohort.id.as_str())
    }

    /// A document's number as it is kept and compared, without spaces, hyphens and small letters; `None` if there is no such
    /// document, or its number looks otherwise.
    #[must_use]
    pub fn document_number(&self, document: &str, number: &str) -> Option<String> {
        let at = self.file.documents.iter().position(|known| known.id == document)?;
        let number = plain_number(number);
        self.numbers.get(at)?.is_match(&number).then_some(number)
    }

    /// Pools that are not for this dose, and spill into one that is: how many milliseconds before the start of a slot. Whether it is also
    /// for cohorts is left to whoever claims.
    #[must_use]
    pub fn spills_to_dose(&self, dose: Dose) -> Vec<(PoolId, u64)> {
        let numbers = (1..=u8::MAX).map(PoolId).zip(&self.file.pools);
        let others = numbers.filter(|(_, pool)| pool.dose.is_some_and(|only| only != dose.0));
        let spill = |number: PoolId| {
            let pool = self.compiled.pool(usize::from(number.0) - 1)?;
            let spill = pool.spills.iter().find(|spill| spill.dose == Dose(0) || spill.dose == dose)?;
            Some((number, spill.before_ms))
        };
        others.filter_map(|(number, _)| spill(number)).collect()
    }

    /// How many days ahead can be booked by the rules of now, whatever the file began with.
    #[must_use]
    pub fn booking_horizon_days(&self, now: TimestampMs) -> u16 {
        self.compiled().era(now).horizon_days
    }

    /// Whether a pool's units can be booked by anybody of the right age: without an invitation, of no cohort, and not at the door alone.
    #[must_use]
    pub fn is_for_anybody(&self, number: PoolId) -> bool {
        let open = |pool: &PoolFile| pool.cohorts.is_empty() && !pool.invitation && pool.walk_in != WalkIn::Only;
        self.pool(number).is_some_and(open)
    }

    /// Whether a pool's units are had at the door only.
    #[must_use]
    pub fn is_walk_in_only(&self, number: PoolId) -> bool {
        self.pool(number).is_some_and(|pool| pool.walk_in == WalkIn::Only)
    }

    /// The one dose a pool serves; 0 for any.
    #[must_use]
    pub fn pool_dose(&self, number: PoolId) -> Dose {
        Dose(self.pool(number).and_then(|p| p.dose).unwrap_or(0))
    }
}

/// A number as people write it on one line: spaces, hyphens and small letters say nothing.
pub(crate) fn plain_number(number: &str) -> String {
    number.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase()).collect()
}

/// Numbers start at 1, so that 0 in a slot's facts can never pass for the first product.
fn number(index: usize) -> Option<u8> {
    u8::try_from(index + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_pools_are_numbered_by_their_place() {
        let india = Programme::from_toml(include_str!("../../programmes/india-2021.toml")).unwrap();
        assert_eq!(india.product_number("covaxin"), Some(ProductId(2)));
        assert_eq!(india.product(ProductId(2)).unwrap().name, "Covaxin");
        assert_eq!(india.pool_number("open"), Some(PoolId(3)));
        assert_eq!((india.pool_dose(PoolId(1)), india.pool_dose(PoolId(3))), (Dose(1), Dose(0)));
        assert_eq!((india.product_number("x"), india.pool_number("x")), (None, None));
        assert!(india.product(ProductId(0)).is_none() && india.pool(PoolId(200)).is_none());
    }

    #[test]
    fn the_horizon_is_that_of_the_day_and_a_pool_for_a_few_is_not_for_anybody() {
        let text = include_str!("../../programmes/india-2021.toml");
        let few = "[[pools]]\nid = \"staff\"\nname = \"Staff\"\ncohorts = [\"health_worker\"]\n\n[[cohorts]]";
        let text = text.replacen("[[cohorts]]", few, 1);
        let change = "[[changes]]\nfrom = 2022-02-01\nbooking_horizon_days = 40";
        let programme = Programme::from_toml(&format!("{text}\n{change}\n")).unwrap();
        let day = |year, month| jiff::civil::date(year, month, 1);
        let at = |year, month| programme.calendar().instant(day(year, month), jiff::civil::Time::midnight()).unwrap();
        assert_eq!(
            (programme.booking_horizon_days(at(2022, 1)), programme.booking_horizon_days(at(2022, 3))),
            (28, 40)
        );
        let anybody = |pool: &str| programme.is_for_anybody(programme.pool_number(pool).unwrap());
        assert_eq!((anybody("dose1"), anybody("open"), anybody("staff")), (true, true, false));
        assert!(!programme.is_for_anybody(PoolId(99)), "no pool of the programme");
    }
}
