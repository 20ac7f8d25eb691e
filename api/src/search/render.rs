//! An answer's bytes, written straight from what was found: a large district has thousands of slots, and nothing
//! about one of them is worth an allocation.

use std::collections::HashMap;
use std::sync::Arc;

use berth_engine::TimestampMs;
use berth_programme::{Availability, CentreOffer, Rules, SessionOffer, SlotOffer, Window};
use itoa::Buffer;

use super::asked::Resolved;
use crate::app::App;
use crate::wire::{Names, slot_status};

/// A slot's part of an answer, about.
const SLOT_BYTES: usize = 200;

/// The first part of an answer ([`super::encoding`]): when it was true.
pub(crate) fn head(as_of: &str) -> Vec<u8> {
    format!("{{\"as_of\":\"{as_of}\"").into_bytes()
}

/// The second part: all the rest.
pub(crate) fn tail(app: &App, asked: &Resolved, found: &Availability) -> Vec<u8> {
    let mut page = Page {
        programme: app.campaign.programme.get(),
        names: app.names(),
        windows: HashMap::new(),
        digits: Buffer::new(),
        out: Vec::with_capacity(256 + found.slot_count() * SLOT_BYTES),
    };
    page.text(&format!(",\"from\":\"{}\",\"days\":{},\"centres\":[", asked.from, asked.days()));
    page.each(found.centres(), |page, centre| page.centre(found, centre));
    page.text("]");
    if let Some(next) = found.next() {
        page.text(&format!(",\"next\":\"{next}\""));
    }
    page.text("}");
    page.out
}

struct Page<'a> {
    programme: Rules,
    names: Names<'a>,
    /// The windows of a district are mostly the same few, so each is written once per answer.
    windows: HashMap<(TimestampMs, TimestampMs), Box<str>>,
    digits: Buffer,
    out: Vec<u8>,
}

impl Page<'_> {
    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: impl itoa::Integer) {
        self.out.extend_from_slice(self.digits.format(number).as_bytes());
    }

    /// A string that may have anything in it.
    fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut self.out, text).expect("writing to memory cannot fail");
    }

    fn each<T>(&mut self, things: &[T], mut write: impl FnMut(&mut Self, &T)) {
        for (index, thing) in things.iter().enumerate() {
            if index > 0 {
                self.text(",");
            }
            write(self, thing);
        }
    }

    fn centre(&mut self, found: &Availability, offer: &CentreOffer) {
        let centre = &offer.centre;
        self.text("{\"id\":");
        self.string(&centre.id);
        self.text(",\"name\":");
        self.string(&centre.name);
        self.text(",\"district\":");
        self.string(&centre.district);
        self.text(",\"pincode\":");
        self.string(&centre.pincode);
        if let Some(address) = &centre.address {
            self.text(",\"address\":");
            self.string(address);
        }
        if let Some(position) = centre.position {
            self.text(&format!(",\"lat\":{},\"lon\":{}", position.latitude(), position.longitude()));
        }
        if let Some(distance_m) = offer.distance_m {
            self.text(&format!(",\"distance_km\":{:.1}", f64::from(distance_m) / 1000.0));
        }
        self.text(",\"sessions\":[");
        self.each(found.sessions(offer), |page, session| page.session(found, session));
        self.text("]}");
    }

    fn session(&mut self, found: &Availability, offer: &SessionOffer) {
        let session = &offer.session;
        self.text("{\"id\":");
        self.string(&session.id);
        self.text(&format!(",\"date\":\"{}\",\"product\":", session.date));
        let programme = Arc::clone(&self.programme);
        self.string(programme.product(session.product).map_or("", |product| product.id.as_str()));
        for (name, age) in [("min_age", session.ages.min), ("max_age", session.ages.max)] {
            if let Some(age) = age {
                self.text(&format!(",\"{name}\":{age}"));
            }
        }
        if let Some(fee) = session.fee {
            self.text(&format!(",\"fee\":{{\"amount\":{fee},\"currency\":"));
            self.string(programme.file().currency.as_deref().unwrap_or(""));
            self.text("}");
        }
        self.text(",\"slots\":[");
        let mut first = true;
        for slot in found.slots(offer) {
            let Some(window) = slot.window_of(session) else { continue };
            if !std::mem::take(&mut first) {
                self.text(",");
            }
            self.slot(slot, window);
        }
        self.text("]}");
    }

    fn slot(&mut self, slot: &SlotOffer, window: &Window) {
        let counts = slot.counts;
        self.text("{\"slot\":\"s");
        self.number(self.names.cell.0);
        self.text(".");
        self.number(slot.slot.slot.0);
        self.window(window);
        // Names of pools need no escaping.
        let id = self.programme.pool(slot.slot.pool).map_or("", |pool| pool.id.as_str());
        self.out.extend_from_slice(id.as_bytes());
        self.text("\",\"capacity\":");
        self.number(counts.capacity().get());
        self.text(",\"free\":");
        self.number(counts.free_to_all().get());
        self.text(",\"held\":");
        self.number(counts.held().get());
        if counts.is_reserved() {
            self.text(",\"reserved\":true");
        } else if counts.is_open() && counts.free().get() == 0 && counts.held().get() > 0 {
            self.text(",\"held_may_return\":true");
        }
        self.text(",\"status\":\"");
        self.text(slot_status(counts, slot.in_time));
        self.text("\"}");
    }

    /// From the end of the slot's name to the beginning of its pool's.
    fn window(&mut self, window: &Window) {
        let names = self.names;
        let written = self.windows.entry((window.start, window.end)).or_insert_with(|| {
            let (start, end) = (names.time(window.start), names.time(window.end));
            format!("\",\"start\":\"{start}\",\"end\":\"{end}\",\"pool\":\"").into()
        });
        self.out.extend_from_slice(written.as_bytes());
    }
}
