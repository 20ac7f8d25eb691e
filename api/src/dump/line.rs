//! A journal entry as a line of JSON, written byte by byte into one buffer: nothing is allocated for a line, and a log has many.
//!
//! Every text in a line is made here, of digits, letters and a few signs, so nothing needs escaping.

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::verify::Numbered;
use berth_engine::{BookingNumber, CellId, Claim, Epoch, Given, PartyFacts, PartyId, Seq, SlotId, TimestampMs};

use crate::wire::Names;

/// Claims by number.
pub(super) type Claims = Numbered<Claim>;
/// The claims that one entry is about.
pub(super) type Met = Vec<(BookingNumber, Option<Claim>)>;

/// The last instant that is spelled with four digits of a year, less a day for every zone: 9999-12-30T00:00:00Z.
const YEARS_END: u64 = 253_402_128_000_000;

/// Journal entries as lines.
pub(super) struct EntryLines<'a> {
    names: Names<'a>,
    /// Claims that can still be named by an entry.
    known: Claims,
    /// The second of the newest time that was spelled, and its spelling up to there: neighbours share it.
    second: Option<(u64, String)>,
    line: Vec<u8>,
}

impl<'a> EntryLines<'a> {
    /// Lines behind a place where these claims were there.
    pub(super) fn new(names: Names<'a>, known: Claims) -> Self {
        Self { names, known, second: None, line: Vec::new() }
    }

    /// The claims that an entry is about, the one a move ends last. Of a claim that was never made, in a journal that breaks its
    /// rules, or one from before the log's beginning, only the number is known.
    pub(super) fn meet(&mut self, entry: &Entry, met: &mut Met) {
        met.clear();
        let known = &mut self.known;
        let mut born = |first: BookingNumber, claims: &[Claim]| {
            for (number, claim) in (first.0..u64::MAX).map(BookingNumber).zip(claims) {
                known.insert(number, *claim);
                met.push((number, Some(*claim)));
            }
        };
        let group = |first: &BookingNumber, len: u8| {
            let first = first.0;
            (first..first.saturating_add(u64::from(len))).map(BookingNumber)
        };
        match &entry.event {
            Event::Held { first, claims, .. } | Event::Booked { first, claims } => born(*first, claims),
            Event::WalkedIn { claim } => born(claim.number, &[claim.claim]),
            Event::Offered { number, claim, .. } => born(*number, &[*claim]),
            Event::Moved { from, to, .. } => {
                born(to.number, &[to.claim]);
                met.push((*from, known.remove(*from)));
            }
            Event::Confirmed { hold, len } => {
                met.extend(group(hold, *len).map(|number| (number, known.get(number).copied())));
            }
            Event::CheckedIn { booking } => met.push((*booking, known.get(*booking).copied())),
            Event::Released { hold, len } | Event::Expired { hold, len } => {
                met.extend(group(hold, *len).map(|number| (number, known.remove(number))));
            }
            Event::Cancelled { booking }
            | Event::Completed { booking, .. }
            | Event::CompletedNoted { booking, .. }
            | Event::NoShow { booking } => {
                met.push((*booking, known.remove(*booking)));
            }
            Event::GroupCancelled { hold, places, .. } => {
                met.extend(places.numbers(*hold).map(|number| (number, known.remove(number))));
            }
            Event::PartiesAdded { .. }
            | Event::Published { .. }
            | Event::Note { .. }
            | Event::SlotChanged { .. }
            | Event::FactsChanged { .. }
            | Event::Recorded { .. }
            | Event::HoldsGraced { .. } => {}
        }
    }

    /// The entry as a line with its end; valid until the next.
    pub(super) fn line(&mut self, seq: Seq, epoch: Epoch, entry: &Entry, claims: &Met) -> &[u8] {
        let mut line = Line { names: self.names, second: &mut self.second, out: &mut self.line };
        line.out.clear();
        line.number(r#"{"seq":"#, seq.0);
        line.time(r#","at":""#, entry.at);
        line.number(r#","epoch":"#, u64::from(epoch.0));
        line.text(r#","kind":""#);
        line.text(entry.event.kind());
        line.text("\"");
        if let Some(idempotency) = entry.idempotency {
            // The hash that the engine knows; the client's key is in nobody's hands but the client's.
            line.text(r#","key":""#);
            line.hexadecimal(idempotency.key.0);
            line.text("\"");
        }
        line.event(&entry.event, claims);
        line.text("}\n");
        &self.line
    }
}

/// A line that is being written. `before` is what stands between the value and the one before it.
struct Line<'a> {
    names: Names<'a>,
    second: &'a mut Option<(u64, String)>,
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn event(&mut self, event: &Event, claims: &Met) {
        match event {
            Event::PartiesAdded { first, count, .. } => {
                self.text(r#","first":""#);
                self.party(*first);
                self.number(r#"","count":"#, u64::from(*count));
            }
            Event::Published { slots, note } => {
                self.text(r#","slots":["#);
                for (index, published) in slots.iter().enumerate() {
                    self.text(if index == 0 { r#"{"slot":""# } else { r#",{"slot":""# });
                    self.slot(published.slot);
                    self.number(r#"","capacity":"#, u64::from(published.capacity.get()));
                    self.text("}");
                }
                self.number(r#"],"note_bytes":"#, note.len() as u64);
            }
            Event::Note { note } => self.number(r#","note_bytes":"#, note.len() as u64),
            Event::Held { first, expires_at, .. } => {
                self.code(r#","hold":"#, *first);
                self.time(r#","expires_at":""#, *expires_at);
                self.claims(claims);
            }
            Event::Offered { number, expires_at, note, .. } => {
                self.code(r#","hold":"#, *number);
                self.time(r#","expires_at":""#, *expires_at);
                self.claims(claims);
                self.number(r#","note_bytes":"#, note.len() as u64);
            }
            Event::Booked { first: hold, .. }
            | Event::Confirmed { hold, .. }
            | Event::Released { hold, .. }
            | Event::Expired { hold, .. } => {
                self.code(r#","hold":"#, *hold);
                self.claims(claims);
            }
            Event::Cancelled { .. } | Event::CheckedIn { .. } | Event::NoShow { .. } | Event::WalkedIn { .. } => {
                self.claims(claims);
            }
            Event::GroupCancelled { hold, by, .. } => {
                self.code(r#","hold":"#, *hold);
                self.text(r#","by":""#);
                self.text(by.as_str());
                self.text("\"");
                self.claims(claims);
            }
            Event::Completed { given, .. } => {
                self.given(given);
                self.claims(claims);
            }
            // What the programme noted is its own, and may be about a person: only how much of it there is.
            Event::CompletedNoted { given, note, .. } => {
                self.given(given);
                self.number(r#","note_bytes":"#, note.len() as u64);
                self.claims(claims);
            }
            Event::FactsChanged { party, facts, note } => {
                self.text(r#","party":""#);
                self.party(*party);
                self.text("\"");
                let PartyFacts { doses, product, last_dose_day: day, .. } = *facts;
                self.given(&Given { doses, product, day });
                self.number(r#","note_bytes":"#, note.len() as u64);
            }
            Event::Recorded { kind, bytes } => {
                self.number(r#","record":"#, u64::from(*kind));
                self.number(r#","bytes":"#, bytes.len() as u64);
            }
            Event::Moved { from, .. } => {
                self.code(r#","from":"#, *from);
                self.claims(&claims[..1]);
            }
            Event::HoldsGraced { from, until } => {
                self.time(r#","from":""#, *from);
                self.time(r#","until":""#, *until);
            }
            Event::SlotChanged { slot, capacity, open } => {
                self.text(r#","slot":""#);
                self.slot(*slot);
                self.number(r#"","capacity":"#, u64::from(capacity.get()));
                self.text(if *open { r#","open":true"# } else { r#","open":false"# });
            }
        }
    }

    fn given(&mut self, given: &Given) {
        self.number(r#","doses":"#, u64::from(given.doses));
        self.number(r#","product":"#, u64::from(given.product.0));
        self.number(r#","day":"#, u64::from(given.day));
    }

    fn claims(&mut self, claims: &[(BookingNumber, Option<Claim>)]) {
        self.text(r#","claims":["#);
        for (index, (number, claim)) in claims.iter().enumerate() {
            self.code(if index == 0 { r#"{"booking":"# } else { r#",{"booking":"# }, *number);
            if let Some(claim) = claim {
                self.text(r#","party":""#);
                self.party(claim.party);
                self.text(r#"","slot":""#);
                self.slot(claim.slot);
                self.number(r#"","dose":"#, u64::from(claim.dose.0));
            }
            self.text("}");
        }
        self.text("]");
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, before: &str, number: u64) {
        self.text(before);
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn named(&mut self, letter: u8, CellId(cell): CellId, number: u64) {
        self.out.push(letter);
        self.number("", u64::from(cell));
        self.number(".", number);
    }

    fn party(&mut self, party: PartyId) {
        self.named(b'p', self.names.cell, u64::from(party.0));
    }

    fn slot(&mut self, slot: SlotId) {
        self.named(b's', self.names.cell, u64::from(slot.0));
    }

    /// Null for a number that no kernel gives out.
    fn code(&mut self, before: &str, number: BookingNumber) {
        self.text(before);
        if number.0 >> 55 == 0 {
            self.out.push(b'"');
            self.out.extend_from_slice(&self.names.codes.encode(number).to_bytes());
            self.out.push(b'"');
        } else {
            self.text("null");
        }
    }

    fn hexadecimal(&mut self, number: u128) {
        let digit = |at: u32| b"0123456789abcdef"[(number >> (4 * at) & 15) as usize];
        self.out.extend((0..32).rev().map(digit));
    }

    /// As [`Names::time`], in quotes of which the first is in `before`.
    fn time(&mut self, before: &str, at: TimestampMs) {
        self.text(before);
        if at.0 >= YEARS_END {
            let spelled = self.names.time(at);
            self.text(&spelled);
            self.text("\"");
            return;
        }
        let (second, fraction) = (at.0 / 1000, at.0 % 1000);
        if self.second.as_ref().is_none_or(|(spelled, _)| *spelled != second) {
            *self.second = Some((second, self.names.time(TimestampMs(second * 1000))));
        }
        let Some((_, spelled)) = &*self.second else { return };
        // Up to the seconds, then what the zone's clocks are ahead.
        let (civil, offset) = spelled.split_at("2026-11-24T06:00:00".len());
        self.out.extend_from_slice(civil.as_bytes());
        if fraction > 0 {
            let digits = [fraction / 100, fraction / 10 % 10, fraction % 10].map(|digit| b'0' + digit.to_le_bytes()[0]);
            let shown = 3 - digits.iter().rev().take_while(|digit| **digit == b'0').count();
            self.out.push(b'.');
            self.out.extend_from_slice(&digits[..shown]);
        }
        self.out.extend_from_slice(offset.as_bytes());
        self.out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use berth_engine::{BookingCodes, By, Dose, Idempotency, IdempotencyKey, NumberedClaim, Places, ProductId, Units};
    use berth_programme::Calendar;
    use serde_json::{Value, json};

    use super::*;

    const AT: TimestampMs = TimestampMs(1_795_500_000_120);

    fn claim(party: u32) -> Claim {
        Claim { party: PartyId(party), slot: SlotId(5), dose: Dose(1) }
    }

    fn claims(parties: &[u32]) -> berth_engine::journal::entry::Claims {
        parties.iter().map(|party| claim(*party)).collect()
    }

    /// Each kind of event behind a hold of 40 and 41 and a booking of 42, and what its line says beside seq, at, epoch and kind.
    fn events(code: &dyn Fn(u64) -> Value) -> Vec<(Event, Value)> {
        let told = |number: u64, party: u32| json!({"booking": code(number), "party": format!("p3.{party}"), "slot": "s3.5", "dose": 1});
        let (hold, booking) = (BookingNumber(40), BookingNumber(42));
        let both = json!([told(40, 9), told(41, 10)]);
        let one = json!([told(42, 11)]);
        let moved = NumberedClaim { number: BookingNumber(50), claim: claim(11) };
        let capacity = Units::new(7).unwrap();
        let (first, expires_at) = (BookingNumber(60), AT);
        vec![
            (
                Event::PartiesAdded { first: PartyId(7), count: 3, facts: PartyFacts::default() },
                json!({"first": "p3.7", "count": 3}),
            ),
            (Event::Published { slots: Vec::new(), note: vec![1; 9] }, json!({"slots": [], "note_bytes": 9})),
            (Event::Note { note: vec![1] }, json!({"note_bytes": 1})),
            (
                Event::Held { first, expires_at, claims: claims(&[1]) },
                json!({"hold": code(60), "expires_at": "2026-11-24T06:00:00.12+00:00", "claims": [told(60, 1)]}),
            ),
            (
                Event::Offered { number: first, expires_at, claim: claim(1), note: vec![1; 9] },
                json!({
                    "hold": code(60), "expires_at": "2026-11-24T06:00:00.12+00:00", "claims": [told(60, 1)],
                    "note_bytes": 9
                }),
            ),
            (
                Event::Booked { first, claims: claims(&[1, 2]) },
                json!({"hold": code(60), "claims": [told(60, 1), told(61, 2)]}),
            ),
            (Event::Confirmed { hold, len: 2 }, json!({"hold": code(40), "claims": both})),
            (Event::Released { hold, len: 2 }, json!({"hold": code(40), "claims": both})),
            (Event::Expired { hold, len: 1 }, json!({"hold": code(40), "claims": [told(40, 9)]})),
            (Event::Cancelled { booking }, json!({"claims": one})),
            (
                Event::Moved { from: booking, to: moved, by: By::Holder },
                json!({"from": code(42), "claims": [told(50, 11)]}),
            ),
            (
                Event::Moved { from: booking, to: moved, by: By::Administration },
                json!({"from": code(42), "claims": [told(50, 11)]}),
            ),
            (
                Event::SlotChanged { slot: SlotId(5), capacity, open: false },
                json!({"slot": "s3.5", "capacity": 7, "open": false}),
            ),
            (
                Event::HoldsGraced { from: TimestampMs(1_795_500_000_000), until: TimestampMs(u64::MAX) },
                json!({"from": "2026-11-24T06:00:00+00:00", "until": Calendar::utc().rfc3339(TimestampMs(u64::MAX))}),
            ),
            (
                Event::GroupCancelled { hold, places: Places::new(3).unwrap(), by: By::Administration },
                json!({"hold": code(40), "by": "administration", "claims": both}),
            ),
            (Event::CheckedIn { booking }, json!({"claims": one})),
            (
                Event::Completed { booking, given: Given { doses: 2, product: ProductId(4), day: 20_000 } },
                json!({"doses": 2, "product": 4, "day": 20_000, "claims": one}),
            ),
            (
                Event::CompletedNoted {
                    booking,
                    given: Given { doses: 2, product: ProductId(4), day: 20_000 },
                    note: vec![1; 9],
                },
                json!({"doses": 2, "product": 4, "day": 20_000, "note_bytes": 9, "claims": one}),
            ),
            (
                Event::FactsChanged {
                    party: PartyId(9),
                    facts: PartyFacts { birth_year: 1980, doses: 1, ..PartyFacts::default() },
                    note: vec![1; 3],
                },
                json!({"party": "p3.9", "doses": 1, "product": 0, "day": 0, "note_bytes": 3}),
            ),
            (Event::Recorded { kind: 2, bytes: vec![1; 5] }, json!({"record": 2, "bytes": 5})),
            (Event::NoShow { booking }, json!({"claims": one})),
            (
                Event::WalkedIn { claim: NumberedClaim { number: first, claim: claim(3) } },
                json!({"claims": [told(60, 3)]}),
            ),
            // Never made, and past every number that there can be.
            (Event::Cancelled { booking: BookingNumber(u64::MAX) }, json!({"claims": [{"booking": null}]})),
        ]
    }

    #[test]
    fn every_kind_of_entry_is_a_line_of_json_that_says_what_it_is_about() {
        let codes = BookingCodes::new(CellId(3), [7; 16]);
        let calendar = Calendar::utc();
        let names = Names { cell: CellId(3), codes: &codes, calendar: &calendar };
        let code = |number: u64| Value::from(codes.encode(BookingNumber(number)).to_string());
        let mut kinds = std::collections::BTreeSet::new();
        for (event, says) in events(&code) {
            let mut known = Claims::default();
            for (number, party) in [(40, 9), (41, 10), (42, 11)] {
                known.insert(BookingNumber(number), claim(party));
            }
            let mut lines = EntryLines::new(names, known);
            let kind = event.kind();
            kinds.insert(kind);
            let mut expected = json!({"seq": 120, "at": "2026-11-24T06:00:00.12+00:00", "epoch": 3, "kind": kind});
            let mut key = json!({"key": "00112233445566778899aabbccddeeff"});
            let idempotency =
                Idempotency { key: IdempotencyKey(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF), fingerprint: 1 };
            let entry = Entry { at: AT, idempotency: Some(idempotency), event };
            let mut met = Met::new();
            lines.meet(&entry, &mut met);
            let line = lines.line(Seq(120), Epoch(3), &entry, &met);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let line: Value = serde_json::from_slice(line).unwrap_or_else(|error| panic!("{kind}: {error}"));
            for more in [&mut key, &mut says.clone()] {
                expected.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
            }
            assert_eq!(line, expected);
        }
        assert_eq!(kinds.len(), Event::kinds().len(), "every kind was tried");
    }

    #[test]
    fn times_are_spelled_as_everywhere_else() {
        let codes = BookingCodes::new(CellId(3), [7; 16]);
        for zone in ["UTC", "Asia/Kolkata", "America/St_Johns"] {
            let calendar = Calendar::new(zone).unwrap();
            let names = Names { cell: CellId(3), codes: &codes, calendar: &calendar };
            let (mut second, mut out) = (None, Vec::new());
            for at in
                [0, 1, 10, 100, 999, 1000, 1_795_500_000_120, 1_795_500_000_999, YEARS_END - 1, YEARS_END, u64::MAX]
            {
                out.clear();
                Line { names, second: &mut second, out: &mut out }.time("\"", TimestampMs(at));
                assert_eq!(String::from_utf8(out.clone()).unwrap(), format!("{:?}", names.time(TimestampMs(at))));
            }
        }
    }
}
