//! Going through the catalogue by number: centres and sessions are numbered in the order of publishing, and keep their numbers.
//!
//! For whoever tells of all of it a piece at a time. Nothing here looks at more than it is asked for.

use std::sync::Arc;

use super::{Catalogue, Centre, CentreIndex, Region, RegionKind, Session};
use crate::availability::{Place, Unknown};

/// A centre with its number.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its place in the order of publishing.
    pub number: u32,
    /// How far it is from the point that was asked for.
    pub distance_m: Option<u32>,
    /// The centre.
    pub centre: Arc<Centre>,
}

impl Catalogue {
    /// The centres of a place: around a point nearest first, else by number.
    ///
    /// # Errors
    /// The first thing it names that is not there.
    pub fn centres_at(&self, place: &Place<'_>) -> Result<Vec<Numbered>, Unknown> {
        let candidates = self.candidates(place)?.into_iter();
        Ok(candidates.map(|c| Numbered { number: c.index.0, distance_m: c.distance_m, centre: c.centre }).collect())
    }

    /// So many centres, from this number on.
    #[must_use]
    pub fn centres_from(&self, first: u32, count: usize) -> Vec<Numbered> {
        let index = self.index.read();
        let centres = (first..).zip(index.centres.iter().skip(CentreIndex(first).as_usize()));
        let numbered = |(number, centre)| Numbered { number, distance_m: None, centre: Arc::clone(centre) };
        centres.take(count).map(numbered).collect()
    }

    /// The number of a centre.
    #[must_use]
    pub fn centre_number(&self, id: &str) -> Option<u32> {
        self.centre_index(id).map(|index| index.0)
    }

    /// The centre of a number.
    #[must_use]
    pub fn centre_of_number(&self, number: u32) -> Option<Arc<Centre>> {
        self.index.read().centres.get(CentreIndex(number).as_usize()).map(Arc::clone)
    }

    /// The number of a session.
    #[must_use]
    pub fn session_number(&self, id: &str) -> Option<u32> {
        self.index.read().session_by_id.get(id).copied()
    }

    /// The session of a number.
    #[must_use]
    pub fn session_of_number(&self, number: u32) -> Option<Arc<Session>> {
        self.index.read().sessions.get(usize::try_from(number).ok()?).map(Arc::clone)
    }

    /// A region.
    #[must_use]
    pub fn region(&self, kind: RegionKind, id: &str) -> Option<Arc<Region>> {
        let index = self.index.read();
        let at = *index.region_by_id.get(&(kind, Arc::from(id)))?;
        index.regions.get(usize::try_from(at).ok()?).map(Arc::clone)
    }

    /// Sessions with their numbers.
    #[must_use]
    pub fn with_numbers(&self, sessions: Vec<Arc<Session>>) -> Vec<(u32, Arc<Session>)> {
        let mut numbered = Vec::with_capacity(sessions.len());
        let mut sessions = sessions.into_iter().peekable();
        while sessions.peek().is_some() {
            let index = self.index.read();
            // By a slot of its own: a look into a table. So many at once, that who publishes has not long to wait.
            let number = |session: &Session| {
                let of_slot = session.slots.first().and_then(|slot| index.session_of_slot.get(slot.slot.0 as usize));
                of_slot.or_else(|| index.session_by_id.get(&session.id)).copied().unwrap_or(super::NO_SESSION)
            };
            numbered.extend(sessions.by_ref().take(1000).map(|session| (number(&session), session)));
        }
        numbered
    }

    /// The numbers of the centres of a state's districts, ascending; none if there is no such state.
    ///
    /// Numbers, and not the centres: who goes through a state holds one at a time, so that what is published meanwhile is put into the
    /// others in place.
    #[must_use]
    pub fn centres_of_state(&self, state: &str) -> Vec<u32> {
        let index = self.index.read();
        let of_state = |region: &&Arc<Region>| {
            region.kind == RegionKind::District && region.parent.as_deref().is_some_and(|parent| parent == state)
        };
        let districts = index.regions.iter().filter(of_state);
        let lists = districts.filter_map(|district| index.by_district.get(&district.id));
        let mut numbers: Vec<u32> = lists.flatten().map(|index| index.0).collect();
        numbers.sort_unstable();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ndjson::{CentreLine, RegionLine};
    use crate::note::CatalogueNote;
    use berth_engine::Seq;

    fn region(id: &str, kind: RegionKind, parent: Option<&str>) -> RegionLine {
        RegionLine { id: id.into(), kind, name: id.to_uppercase(), parent: parent.map(Into::into) }
    }

    #[test]
    fn a_states_centres_are_those_of_its_districts_by_number() {
        let catalogue = Catalogue::default();
        let (state, district) = (RegionKind::State, RegionKind::District);
        let regions = vec![
            region("1", state, None),
            region("2", state, None),
            region("a", district, Some("1")),
            region("b", district, Some("2")),
            region("c", district, Some("1")),
        ];
        catalogue.apply(Seq(1), CatalogueNote::Regions(regions), &[]).unwrap();
        let centre = |(n, district): (usize, &&str)| CentreLine {
            id: format!("c{n}"),
            name: "C".into(),
            district: (*district).into(),
            pincode: "400001".into(),
            address: None,
            position: None,
            phone: Some("1075".into()),
            url: None,
        };
        let centres = ["c", "b", "a", "c"].iter().enumerate().map(centre).collect();
        catalogue.apply(Seq(2), CatalogueNote::Centres(centres), &[]).unwrap();
        let of = |state| catalogue.centres_of_state(state);
        assert_eq!((of("1"), of("2"), of("3")), (vec![0, 2, 3], vec![1], vec![]));
        let numbers = |from, count| catalogue.centres_from(from, count).iter().map(|n| n.number).collect::<Vec<_>>();
        assert_eq!((numbers(1, 2), numbers(3, 9), numbers(9, 9)), (vec![1, 2], vec![3], vec![]));
        assert_eq!((catalogue.centre_number("c3"), catalogue.centre_number("x")), (Some(3), None));
        let third = catalogue.centre_of_number(3).unwrap();
        assert_eq!((&*third.id, third.phone.as_deref()), ("c3", Some("1075")));
        assert_eq!(catalogue.region(state, "2").map(|r| r.name.to_string()), Some("2".to_owned()));
        assert!(catalogue.region(district, "2").is_none() && catalogue.session_of_number(0).is_none());
    }
}
