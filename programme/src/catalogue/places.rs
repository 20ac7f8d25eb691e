//! The centres of a place, in the order a search goes through them.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::ToSpan;
use jiff::civil::Date;

use super::{Catalogue, Centre, CentreIndex, Index};
use crate::availability::{Candidate, Place, Unknown};

impl Catalogue {
    /// Around a point nearest first, else in the order of publishing; each once.
    pub(crate) fn candidates(&self, place: &Place<'_>) -> Result<Vec<Candidate>, Unknown> {
        let index = self.index.read();
        let candidate = |(distance_m, centre_index): (Option<u32>, CentreIndex)| {
            let centre = Arc::clone(index.centres.get(centre_index.as_usize())?);
            Some(Candidate { index: centre_index, distance_m, centre })
        };
        Ok(index.places(place)?.into_iter().filter_map(candidate).collect())
    }

    /// The centres of a district, in the order of publishing.
    #[must_use]
    pub fn centres_of(&self, district: &str) -> Vec<Arc<Centre>> {
        let index = self.index.read();
        let centres = index.by_district.get(district).into_iter().flatten();
        centres.filter_map(|centre| index.centres.get(centre.as_usize())).map(Arc::clone).collect()
    }

    /// How many slots a search of so many dates would look at, but no more than it takes to pass `enough`: what it will cost.
    /// Around a point, that is as much work to find out as to do.
    ///
    /// # Errors
    /// The first thing it names that is not there.
    pub fn slots_at(&self, place: &Place<'_>, from: Date, days: u16, enough: usize) -> Result<usize, Unknown> {
        let end = from.saturating_add(i32::from(days).days());
        let mut slots = 0;
        for candidate in self.candidates(place)? {
            slots += candidate.centre.offered(from, end).slots;
            if slots > enough {
                break;
            }
        }
        Ok(slots)
    }
}

impl Index {
    fn places(&self, place: &Place<'_>) -> Result<Vec<(Option<u32>, CentreIndex)>, Unknown> {
        let of = |lists: &HashMap<Arc<str>, Vec<CentreIndex>>, id: &str| lists.get(id).cloned();
        let found: Vec<Vec<CentreIndex>> = match *place {
            Place::Districts(ids) => {
                let found = ids.iter().map(|id| of(&self.by_district, id).ok_or_else(|| Unknown::District(id.clone())));
                found.collect::<Result<_, _>>()?
            }
            Place::Pincodes(ids) => ids.iter().filter_map(|id| of(&self.by_pincode, id)).collect(),
            Place::Centres(ids) => {
                let found = ids.iter().map(|id| {
                    let index = self.centre_by_id.get(id.as_str()).copied();
                    index.map(|index| vec![index]).ok_or_else(|| Unknown::Centre(id.clone()))
                });
                found.collect::<Result<_, _>>()?
            }
            Place::Near(point, radius_m) => {
                let near = self.grid.within(point, radius_m);
                return Ok(near.into_iter().map(|(distance, centre)| (Some(distance), centre)).collect());
            }
        };
        let mut found = found.concat();
        // Each list has this order already; a search of several has it, too, so that a cursor means the same in both.
        found.sort_unstable_by_key(|centre| centre.0);
        found.dedup();
        Ok(found.into_iter().map(|centre| (None, centre)).collect())
    }
}
