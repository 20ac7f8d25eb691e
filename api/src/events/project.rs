//! From a journal entry to its events: a pure reading of the entry and of facts that never change.
//!
//! One event for each booking an entry moves a step, so that every event is of one booking, named by its subject. An entry
//! that only names its claims by number (`confirmed`) is completed from the engine's records: who, where and which dose are
//! written before the entry that names them and never change. The place of a slot is the catalogue's, which
//! shows a session a moment after its entry is durable.
//!
//! **Names.** A booking's public code lets its bearer act on it, and a stream is read, copied and kept by many: so events name a
//! booking by its reference (`b1.7`), which says nothing and opens nothing; `GET /v1/booking-references/{reference}` turns
//! it into the booking for who holds a platform key. Codes come along only if the configuration says so.

use std::sync::Arc;

use berth_engine::journal::entry::{Entry, Event, PublishedSlot};
use berth_engine::{BookingNumber, By, CellId, Claim, Engine, Seq, SlotId, TimestampMs};
use berth_programme::{Calendar, Campaign, SlotPlace};
use serde::Serialize;

use super::EventsConfig;
use crate::wire::Names;

/// Why there is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cannot {
    /// The session of a slot is not in the catalogue yet. It will be in a moment.
    #[error("the session is not in the catalogue yet")]
    NotYet,
    /// The entry names a booking that was never recorded: a bug, or another journal's entry.
    #[error("booking {0} is in the journal and has no record")]
    NoRecord(BookingNumber),
}

/// A `CloudEvent`, version 1.0, in its JSON format.
#[derive(Debug, Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: String,
    time: String,
    datacontenttype: &'static str,
    /// Of the sequence extension: orders as text as the journal does.
    sequence: String,
    /// Of the partitioning extension: events that share it have an order.
    partitionkey: String,
    data: Data,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data {
    Parties { first: String, count: u32 },
    Party { party: String },
    Slot(SlotData),
    Booking(Box<BookingData>),
    Grace { from: String, until: String },
    Gap { first_entry: u64, last_entry: u64 },
}

#[derive(Debug, Serialize)]
struct SlotData {
    slot: String,
    #[serde(flatten)]
    place: PlaceData,
    product: String,
    pool: String,
    capacity: u32,
    open: bool,
}

#[derive(Debug, Serialize)]
struct PlaceData {
    session: String,
    centre: String,
    start: String,
    end: String,
}

#[derive(Debug, Serialize)]
struct BookingData {
    booking: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    hold: String,
    party: String,
    slot: String,
    dose: u8,
    #[serde(flatten)]
    place: PlaceData,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_from: Option<String>,
    /// Only where it was not the holder.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
}

/// One event of an entry, before its attributes.
struct Told {
    kind: &'static str,
    subject: String,
    data: Data,
}

/// Makes events. Cheap to share; reads only what never changes.
pub(super) struct Projector {
    campaign: Campaign,
    source: String,
    booking_codes: bool,
    utc: Calendar,
}

impl Projector {
    pub(super) fn new(campaign: Campaign, config: &EventsConfig) -> Projector {
        let EventsConfig { source, booking_codes, .. } = config;
        Projector { campaign, source: source.clone(), booking_codes: *booking_codes, utc: Calendar::utc() }
    }

    /// How many events an entry has.
    pub(super) fn count(&self, entry: &Entry) -> u64 {
        match &entry.event {
            Event::Note { .. } | Event::Recorded { .. } => 0,
            Event::PartiesAdded { .. }
            | Event::Cancelled { .. }
            | Event::CheckedIn { .. }
            | Event::Completed { .. }
            | Event::CompletedNoted { .. }
            | Event::FactsChanged { .. }
            | Event::NoShow { .. }
            | Event::WalkedIn { .. }
            | Event::Offered { .. }
            | Event::SlotChanged { .. }
            | Event::HoldsGraced { .. } => 1,
            Event::Moved { .. } => 2,
            Event::GroupCancelled { places, .. } => u64::from(places.count()),
            Event::Published { slots, .. } => slots.len() as u64,
            Event::Held { claims, .. } | Event::Booked { claims, .. } => claims.len() as u64,
            Event::Confirmed { len, .. } | Event::Released { len, .. } | Event::Expired { len, .. } => u64::from(*len),
        }
    }

    /// Event `n` of an entry, from 0, as JSON.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn event(&self, seq: Seq, entry: &Entry, n: u64) -> Result<String, Cannot> {
        let Told { kind, subject, data } = self.told(&entry.event, n)?;
        Ok(self.render(format!("{}-{seq}-{n}", self.cell()), kind, subject, entry.at, (seq, n), data))
    }

    /// Says that the entries from `first` to `last` will not be told.
    pub(super) fn gap(&self, first: Seq, last: Seq, n: u64, now: TimestampMs) -> String {
        let id = format!("{}-{last}-gap", self.cell());
        let data = Data::Gap { first_entry: first.0, last_entry: last.0 };
        self.render(id, "io.berth.gap.v1", format!("cell/{}", self.cell()), now, (last, n), data)
    }

    /// Says that what was told of the entries behind `keep` up to `last` is taken back: the log goes on otherwise.
    pub(super) fn withdrawn(&self, keep: Seq, last: Seq, now: TimestampMs) -> String {
        let id = format!("{}-{keep}-withdrawn-{}", self.cell(), self.engine().epoch());
        let data = Data::Gap { first_entry: keep.0 + 1, last_entry: last.0 };
        // Behind every event of that entry.
        self.render(id, "io.berth.withdrawn.v1", format!("cell/{}", self.cell()), now, (keep, 999_999), data)
    }

    fn render(
        &self,
        id: String,
        kind: &'static str,
        subject: String,
        at: TimestampMs,
        (seq, n): (Seq, u64),
        data: Data,
    ) -> String {
        let event = CloudEvent {
            specversion: "1.0",
            id,
            source: &self.source,
            kind,
            partitionkey: subject.clone(),
            subject,
            time: self.utc.rfc3339(at),
            datacontenttype: "application/json",
            // As text: twenty digits for a number of 64 bits, six for what one entry can hold.
            sequence: format!("{:020}-{n:06}", seq.0),
            data,
        };
        serde_json::to_string(&event).expect("an event has only string keys, and writing to memory cannot fail")
    }

    fn told(&self, event: &Event, n: u64) -> Result<Told, Cannot> {
        let number = |first: &BookingNumber| BookingNumber(first.0 + n);
        let claim = |claims: &[Claim]| usize::try_from(n).ok().and_then(|n| claims.get(n).copied());
        match event {
            Event::PartiesAdded { first, count, .. } => {
                let first = self.names().party(*first);
                let data = Data::Parties { first: first.clone(), count: *count };
                Ok(Told { kind: "io.berth.parties.added.v1", subject: first, data })
            }
            Event::Published { slots, .. } => {
                let slot = usize::try_from(n).ok().and_then(|n| slots.get(n)).expect("n is below the count");
                let PublishedSlot { slot, capacity, .. } = slot;
                self.slot("io.berth.slot.published.v1", *slot, capacity.get(), true)
            }
            Event::SlotChanged { slot, capacity, open } => {
                self.slot("io.berth.slot.changed.v1", *slot, capacity.get(), *open)
            }
            Event::Held { first, expires_at, claims } => {
                let claim = claim(claims).expect("n is below the count");
                let mut data = self.booking(number(first), *first, claim)?;
                data.expires_at = Some(self.names().time(*expires_at));
                Ok(of("io.berth.booking.held.v1", data))
            }
            // Why it is offered is the programme's own.
            Event::Offered { number, expires_at, claim, .. } => {
                let mut data = self.booking(*number, *number, *claim)?;
                data.expires_at = Some(self.names().time(*expires_at));
                Ok(of("io.berth.booking.offered.v1", data))
            }
            Event::Booked { first, claims } => {
                let claim = claim(claims).expect("n is below the count");
                Ok(of("io.berth.booking.booked.v1", self.booking(number(first), *first, claim)?))
            }
            Event::Confirmed { hold, .. } => self.known("io.berth.booking.confirmed.v1", number(hold)),
            Event::Released { hold, .. } => self.known("io.berth.booking.released.v1", number(hold)),
            Event::Expired { hold, .. } => self.known("io.berth.booking.expired.v1", number(hold)),
            Event::Cancelled { booking } => self.known("io.berth.booking.cancelled.v1", *booking),
            Event::GroupCancelled { hold, places, by } => {
                let number = usize::try_from(n).ok().and_then(|n| places.numbers(*hold).nth(n));
                let mut data = self.recorded(number.expect("n is below the count"))?;
                data.by = told_by(*by);
                Ok(of("io.berth.booking.cancelled.v1", data))
            }
            Event::CheckedIn { booking } => self.known("io.berth.booking.checked_in.v1", *booking),
            Event::Completed { booking, .. } | Event::CompletedNoted { booking, .. } => {
                self.known("io.berth.booking.completed.v1", *booking)
            }
            Event::NoShow { booking } => self.known("io.berth.booking.no_show.v1", *booking),
            Event::WalkedIn { claim } => {
                let data = self.booking(claim.number, claim.number, claim.claim)?;
                Ok(of("io.berth.booking.walked_in.v1", data))
            }
            Event::Moved { from, to, by } if n == 0 => {
                let mut data = self.recorded(*from)?;
                data.moved_to = Some(self.names().reference(to.number));
                data.by = told_by(*by);
                Ok(of("io.berth.booking.moved.v1", data))
            }
            Event::Moved { from, to, .. } => {
                let mut data = self.booking(to.number, to.number, to.claim)?;
                data.moved_from = Some(self.names().reference(*from));
                Ok(of("io.berth.booking.booked.v1", data))
            }
            Event::HoldsGraced { from, until } => {
                let data = Data::Grace { from: self.names().time(*from), until: self.names().time(*until) };
                let subject = format!("cell/{}", self.cell());
                Ok(Told { kind: "io.berth.holds.graced.v1", subject, data })
            }
            // What is known of a person is not for everybody who reads along: whoever may know asks for it.
            Event::FactsChanged { party, .. } => {
                let party = self.names().party(*party);
                let data = Data::Party { party: party.clone() };
                Ok(Told { kind: "io.berth.party.changed.v1", subject: party, data })
            }
            Event::Note { .. } | Event::Recorded { .. } => unreachable!("neither has an event"),
        }
    }

    fn known(&self, kind: &'static str, number: BookingNumber) -> Result<Told, Cannot> {
        Ok(of(kind, self.recorded(number)?))
    }

    /// A booking by its number alone. The entry that names it came after its record was written.
    fn recorded(&self, number: BookingNumber) -> Result<BookingData, Cannot> {
        let (claim, hold) = self.campaign.engine.claimed(number).ok_or(Cannot::NoRecord(number))?;
        self.booking(number, hold, claim)
    }

    fn booking(&self, number: BookingNumber, hold: BookingNumber, claim: Claim) -> Result<BookingData, Cannot> {
        let names = self.names();
        Ok(BookingData {
            booking: names.reference(number),
            code: self.booking_codes.then(|| names.booking(number)),
            hold: names.reference(hold),
            party: names.party(claim.party),
            slot: names.slot(claim.slot),
            dose: claim.dose.0,
            place: self.place(claim.slot).map(|place| self.place_data(&place))?,
            expires_at: None,
            moved_to: None,
            moved_from: None,
            by: None,
        })
    }

    fn slot(&self, kind: &'static str, slot: SlotId, capacity: u32, open: bool) -> Result<Told, Cannot> {
        let place = self.place(slot)?;
        let catalogue = &self.campaign.catalogue;
        let subject = self.names().slot(slot);
        let data = SlotData {
            slot: subject.clone(),
            place: self.place_data(&place),
            product: catalogue.product_name(place.session.product),
            pool: catalogue.pool_name(place.pool),
            capacity,
            open,
        };
        Ok(Told { kind, subject, data: Data::Slot(data) })
    }

    fn place(&self, slot: SlotId) -> Result<SlotPlace, Cannot> {
        self.campaign.catalogue.slot(slot).ok_or(Cannot::NotYet)
    }

    fn place_data(&self, place: &SlotPlace) -> PlaceData {
        let names = self.names();
        PlaceData {
            session: place.session.id.to_string(),
            centre: place.session.centre.to_string(),
            start: names.time(place.start),
            end: names.time(place.end),
        }
    }

    fn names(&self) -> Names<'_> {
        let Campaign { engine, programme, .. } = &self.campaign;
        Names { cell: engine.cell(), codes: engine.codes(), calendar: programme.calendar() }
    }

    fn cell(&self) -> CellId {
        self.campaign.engine.cell()
    }

    /// The engine whose facts complete the entries.
    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.campaign.engine
    }
}

fn told_by(by: By) -> Option<&'static str> {
    (by == By::Administration).then_some(by.as_str())
}

fn of(kind: &'static str, data: BookingData) -> Told {
    Told { kind, subject: data.booking.clone(), data: Data::Booking(Box::new(data)) }
}
