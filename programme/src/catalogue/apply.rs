//! Putting one note of the journal into the catalogue.

use std::collections::HashMap;
use std::sync::Arc;

use berth_engine::{Seq, SlotId};

use super::types::{Centre, CentreIndex, Region, Session, SlotRef, Window};
use super::{Catalogue, Index, NO_SESSION, RegionKind};
use crate::ndjson::{CentreLine, RegionLine};
use crate::note::{CatalogueNote, NotedSession};
use crate::publish::Published;

/// A note that does not fit the catalogue it comes to: the journal is not the one the catalogue was built from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A session of a centre that no earlier entry published.
    #[error("session {session} belongs to a centre that no earlier entry published")]
    NoCentre {
        /// The session.
        session: String,
    },
    /// The note's windows and pools make another number of slots than the entry has.
    #[error("the sessions of the note make {noted} slots, the entry has {published}")]
    SlotCount {
        /// Slots by the note.
        noted: usize,
        /// Slots by the entry.
        published: usize,
    },
}

impl Catalogue {
    /// Shows what one entry published. Call it in journal order, once per entry.
    pub(crate) fn apply(&self, seq: Seq, note: CatalogueNote, slots: &[SlotId]) -> Result<Published, ApplyError> {
        let lines = match &note {
            CatalogueNote::Regions(lines) => lines.len(),
            CatalogueNote::Centres(lines) => lines.len(),
            CatalogueNote::Sessions(_, lines) => lines.len(),
            CatalogueNote::Programme(_) => 0,
        };
        let published = Published { lines: lines as u64, slots: slots.len() as u64, replayed: false };
        match note {
            CatalogueNote::Programme(note) => {
                self.took_up(seq, note);
                return Ok(published);
            }
            CatalogueNote::Regions(lines) => self.index.write().add_regions(lines),
            CatalogueNote::Centres(lines) => self.index.write().add_centres(lines),
            CatalogueNote::Sessions(numbering, lines) => {
                let sessions = self.numbered(lines, slots)?;
                let mut index = self.index.write();
                index.numbering.products.extend(numbering.products);
                index.numbering.pools.extend(numbering.pools);
                index.numbering.currency = numbering.currency.or(index.numbering.currency.take());
                index.add_sessions(sessions);
            }
        }
        self.index.write().published.insert(seq, published);
        Ok(published)
    }

    /// The sessions as they will be shared, each with its centre; built before the write lock is taken.
    fn numbered(&self, lines: Vec<NotedSession>, slots: &[SlotId]) -> Result<Vec<(CentreIndex, Session)>, ApplyError> {
        let noted = lines.iter().flat_map(|l| &l.windows).map(|w| w.pools.len()).sum();
        if noted != slots.len() {
            return Err(ApplyError::SlotCount { noted, published: slots.len() });
        }
        let index = self.index.read();
        let mut numbers = slots.iter().copied();
        let mut sessions = Vec::with_capacity(lines.len());
        for line in lines {
            let Some(centre) = index.centres.get(line.centre.as_usize()) else {
                return Err(ApplyError::NoCentre { session: line.id });
            };
            let mut windows = Vec::with_capacity(line.windows.len());
            let mut slots = Vec::new();
            for window in line.windows {
                let first = slots.len();
                slots.extend(window.pools.iter().zip(numbers.by_ref()).map(|(&pool, slot)| SlotRef { slot, pool }));
                windows.push(Window {
                    start: window.start,
                    end: window.end,
                    slots: as_u16(first)..as_u16(slots.len()),
                });
            }
            let session = Session {
                id: line.id.into(),
                centre: Arc::clone(&centre.id),
                date: line.date,
                product: line.product,
                ages: line.ages,
                fee: line.fee,
                windows: windows.into(),
                slots: slots.into(),
            };
            sessions.push((line.centre, session));
        }
        Ok(sessions)
    }
}

impl Index {
    fn add_regions(&mut self, lines: Vec<RegionLine>) {
        for line in lines {
            let id: Arc<str> = line.id.into();
            if line.kind == RegionKind::District {
                self.by_district.entry(Arc::clone(&id)).or_default();
            }
            self.region_by_id.insert((line.kind, Arc::clone(&id)), as_u32(self.regions.len()));
            let parent = line.parent.map(String::into_boxed_str);
            self.regions.push(Arc::new(Region { id, kind: line.kind, name: line.name.into(), parent }));
        }
    }

    fn add_centres(&mut self, lines: Vec<CentreLine>) {
        for line in lines {
            let index = CentreIndex(as_u32(self.centres.len()));
            let id: Arc<str> = line.id.into();
            // One allocation per district and pincode, not one per centre.
            let district = shared_key(&self.by_district, line.district);
            let pincode = shared_key(&self.by_pincode, line.pincode);
            self.centre_by_id.insert(Arc::clone(&id), index);
            self.by_district.entry(Arc::clone(&district)).or_default().push(index);
            self.by_pincode.entry(Arc::clone(&pincode)).or_default().push(index);
            let address = line.address.map(String::into_boxed_str);
            let name = line.name.into();
            let position = line.position;
            if let Some(position) = position {
                self.grid.add(position, index);
            }
            let (phone, url) = (line.phone.map(String::into_boxed_str), line.url.map(String::into_boxed_str));
            let (sessions, days) = (Vec::new(), Vec::new());
            let centre = Centre { id, name, district, pincode, address, position, phone, url, sessions, days };
            self.centres.push(Arc::new(centre));
        }
    }

    fn add_sessions(&mut self, sessions: Vec<(CentreIndex, Session)>) {
        let mut by_centre: HashMap<CentreIndex, Vec<Arc<Session>>> = HashMap::new();
        for (centre, session) in sessions {
            let index = as_u32(self.sessions.len());
            let session = Arc::new(session);
            for slot in &session.slots {
                let at = slot.slot.0 as usize;
                if self.session_of_slot.len() <= at {
                    self.session_of_slot.resize(at + 1, NO_SESSION);
                }
                self.session_of_slot[at] = index;
            }
            self.session_by_id.insert(Arc::clone(&session.id), index);
            self.sessions.push(Arc::clone(&session));
            by_centre.entry(centre).or_default().push(session);
        }
        for (centre, sessions) in by_centre {
            let Some(centre) = self.centres.get_mut(centre.as_usize()) else {
                continue;
            };
            // In place unless a search holds the centre at this moment; that search keeps the old one.
            Arc::make_mut(centre).add(sessions);
        }
    }
}

fn shared_key<T>(map: &HashMap<Arc<str>, T>, key: String) -> Arc<str> {
    map.get_key_value(key.as_str()).map_or_else(|| key.into(), |(shared, _)| Arc::clone(shared))
}

fn as_u32(index: usize) -> u32 {
    u32::try_from(index).expect("a catalogue of four billion things does not fit into memory")
}

fn as_u16(index: usize) -> u16 {
    u16::try_from(index).expect("a session has at most SLOTS_MAX slots")
}
