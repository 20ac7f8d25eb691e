//! A checked programme: what the file says, with products and pools numbered.

use std::time::Duration;

use berth_engine::{Dose, PoolId, ProductId};

use crate::calendar::Calendar;
use crate::file::{PoolFile, ProductFile, ProgrammeFile, ProgrammeFileError};

/// The rules of one campaign. Immutable; the engine's policy (see `rules`).
#[derive(Clone, Debug)]
pub struct Programme {
    file: ProgrammeFile,
    calendar: Calendar,
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
        Ok(Programme { file, calendar })
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

    /// The one dose a pool serves; 0 for any.
    #[must_use]
    pub fn pool_dose(&self, number: PoolId) -> Dose {
        Dose(self.pool(number).and_then(|p| p.dose).unwrap_or(0))
    }
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
}
