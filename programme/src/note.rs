//! What the catalogue keeps in the journal: the accepted lines of a bulk publish, in a compact encoding.
//!
//! `version u8 | kind u8 | count | records`. Numbers are LEB128, text is a length and UTF-8. Capacities are
//! not here: the engine keeps them with the slots, which stand in the same entry in the order of the windows
//! and their pools.
//!
//! A note of sessions begins with the names of the products and pools it uses beside their numbers, because the
//! engine's slot facts hold the numbers for ever: [`Numbering::check`] refuses a programme file that numbers them
//! otherwise today, instead of giving people another vaccine.
//!
//! Adding a field: take the next version, read both, write the new one. An older Berth refuses the newer
//! version by name.

use std::collections::BTreeMap;

use berth_engine::{PoolId, ProductId, TimestampMs};
use jiff::civil::Date;

use crate::catalogue::{CentreIndex, RegionKind};
use crate::ndjson::{CentreLine, RegionLine, SessionLine};
use crate::programme::Programme;

const VERSION: u8 = 1;
const REGIONS: u8 = 1;
const CENTRES: u8 = 2;
const SESSIONS: u8 = 3;

/// A decoded note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CatalogueNote {
    Regions(Vec<RegionLine>),
    Centres(Vec<CentreLine>),
    Sessions(Numbering, Vec<NotedSession>),
}

/// The names behind the product and pool numbers of a note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbering {
    pub(crate) products: BTreeMap<ProductId, String>,
    pub(crate) pools: BTreeMap<PoolId, String>,
}

impl Numbering {
    /// What the programme calls the products and pools of these sessions.
    pub(crate) fn of(lines: &[SessionLine], programme: &Programme) -> Numbering {
        let mut numbering = Numbering::default();
        for line in lines {
            let name = || programme.product(line.product).map_or_else(String::new, |p| p.id.clone());
            numbering.products.entry(line.product).or_insert_with(name);
            for &(pool, _) in line.windows.iter().flat_map(|w| &w.pools) {
                let name = || programme.pool(pool).map_or_else(String::new, |p| p.id.clone());
                numbering.pools.entry(pool).or_insert_with(name);
            }
        }
        numbering
    }

    /// Whether the programme still means the same by these numbers.
    pub(crate) fn check(&self, programme: &Programme) -> Result<(), NoteError> {
        let same = |what, number, kept: &str, found: Option<&str>| {
            let found = found.unwrap_or("nothing");
            let (kept, found) = (kept.to_owned(), found.to_owned());
            if kept == found { Ok(()) } else { Err(NoteError::Renumbered { what, number, kept, found }) }
        };
        for (&number, kept) in &self.products {
            same("product", number.0, kept, programme.product(number).map(|p| p.id.as_str()))?;
        }
        for (&number, kept) in &self.pools {
            same("pool", number.0, kept, programme.pool(number).map(|p| p.id.as_str()))?;
        }
        Ok(())
    }
}

/// A session as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotedSession {
    pub(crate) id: String,
    pub(crate) centre: CentreIndex,
    pub(crate) date: Date,
    pub(crate) product: ProductId,
    pub(crate) windows: Vec<NotedWindow>,
}

/// A window as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotedWindow {
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    pub(crate) pools: Vec<PoolId>,
}

/// Why a note cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Written by a newer Berth.
    #[error("the catalogue note has version {0}, this Berth reads version {VERSION}")]
    Version(u8),
    /// Not what any Berth wrote.
    #[error("the catalogue note is malformed at its byte {0}")]
    Malformed(usize),
    /// The programme file gives a number of the journal to something else.
    #[error(
        "the journal's {what} number {number} is {kept}, but the programme file makes it {found}: put its entries back in order"
    )]
    Renumbered {
        /// `product` or `pool`.
        what: &'static str,
        /// The number.
        number: u8,
        /// The name it has in the journal.
        kept: String,
        /// The name at that place in the file.
        found: String,
    },
}

/// The note of a publish of regions.
pub(crate) fn encode_regions(lines: &[RegionLine]) -> Vec<u8> {
    let mut out = Writer::new(REGIONS, lines.len());
    for line in lines {
        out.text(&line.id);
        out.byte(match line.kind {
            RegionKind::State => 1,
            RegionKind::District => 2,
        });
        out.text(&line.name);
        out.text(line.parent.as_deref().unwrap_or(""));
    }
    out.0
}

/// The note of a publish of centres.
pub(crate) fn encode_centres(lines: &[CentreLine]) -> Vec<u8> {
    let mut out = Writer::new(CENTRES, lines.len());
    for line in lines {
        for text in [&line.id, &line.name, &line.district, &line.pincode] {
            out.text(text);
        }
        out.text(line.address.as_deref().unwrap_or(""));
    }
    out.0
}

/// The note of a publish of sessions.
pub(crate) fn encode_sessions(lines: &[SessionLine], numbering: &Numbering) -> Vec<u8> {
    let mut out = Writer::new(SESSIONS, lines.len());
    let products = numbering.products.iter().map(|(number, name)| (number.0, name)).collect::<Vec<_>>();
    let pools = numbering.pools.iter().map(|(number, name)| (number.0, name)).collect::<Vec<_>>();
    for names in [products, pools] {
        out.number(names.len() as u64);
        for (number, name) in names {
            out.byte(number);
            out.text(name);
        }
    }
    for line in lines {
        out.text(&line.id);
        out.number(line.centre.0.into());
        out.date(line.date);
        out.byte(line.product.0);
        out.number(line.windows.len() as u64);
        for window in &line.windows {
            out.number(window.start.0);
            out.number(window.end.0.saturating_sub(window.start.0));
            out.number(window.pools.len() as u64);
            for (pool, _) in &window.pools {
                out.byte(pool.0);
            }
        }
    }
    out.0
}

/// Reads a note. Never panics, whatever the bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<CatalogueNote, NoteError> {
    let mut input = Reader { bytes, at: 0 };
    let version = input.byte()?;
    if version != VERSION {
        return Err(NoteError::Version(version));
    }
    let kind = input.byte()?;
    let count = input.number()?;
    let note = match kind {
        REGIONS => CatalogueNote::Regions(input.records(count, Reader::region)?),
        CENTRES => CatalogueNote::Centres(input.records(count, Reader::centre)?),
        SESSIONS => {
            let products = input.names()?.into_iter().map(|(n, name)| (ProductId(n), name)).collect();
            let pools = input.names()?.into_iter().map(|(n, name)| (PoolId(n), name)).collect();
            CatalogueNote::Sessions(Numbering { products, pools }, input.records(count, Reader::session)?)
        }
        _ => return Err(input.malformed()),
    };
    if input.at == bytes.len() { Ok(note) } else { Err(input.malformed()) }
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: u8, count: usize) -> Writer {
        let mut out = Writer(vec![VERSION, kind]);
        out.number(count as u64);
        out
    }

    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, mut number: u64) {
        loop {
            let [low, ..] = number.to_le_bytes();
            number >>= 7;
            if number == 0 {
                return self.0.push(low & 0x7F);
            }
            self.0.push(low | 0x80);
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn date(&mut self, date: Date) {
        self.0.extend_from_slice(&date.year().to_le_bytes());
        self.0.extend_from_slice(&date.month().to_le_bytes());
        self.0.extend_from_slice(&date.day().to_le_bytes());
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn malformed(&self) -> NoteError {
        NoteError::Malformed(self.at)
    }

    fn byte(&mut self) -> Result<u8, NoteError> {
        let byte = *self.bytes.get(self.at).ok_or(self.malformed())?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, NoteError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7F);
            if low << shift >> shift != low {
                return Err(self.malformed());
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.malformed())
    }

    fn text(&mut self) -> Result<String, NoteError> {
        let len = usize::try_from(self.number()?).map_err(|_| self.malformed())?;
        let end = self.at.checked_add(len).ok_or(self.malformed())?;
        let bytes = self.bytes.get(self.at..end).ok_or(self.malformed())?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.malformed())?;
        self.at = end;
        Ok(text.to_owned())
    }

    fn optional_text(&mut self) -> Result<Option<String>, NoteError> {
        Ok(Some(self.text()?).filter(|text| !text.is_empty()))
    }

    fn date(&mut self) -> Result<Date, NoteError> {
        let year = i16::from_le_bytes([self.byte()?, self.byte()?]);
        let month = i8::from_le_bytes([self.byte()?]);
        let day = i8::from_le_bytes([self.byte()?]);
        Date::new(year, month, day).map_err(|_| self.malformed())
    }

    /// `count` records. Reserves nothing ahead: a false `count` runs into the end of the bytes instead.
    fn records<T>(
        &mut self,
        count: u64,
        read: impl Fn(&mut Self) -> Result<T, NoteError>,
    ) -> Result<Vec<T>, NoteError> {
        let mut records = Vec::new();
        for _ in 0..count {
            records.push(read(self)?);
        }
        Ok(records)
    }

    fn names(&mut self) -> Result<Vec<(u8, String)>, NoteError> {
        let count = self.number()?;
        self.records(count, |input| Ok((input.byte()?, input.text()?)))
    }

    fn region(&mut self) -> Result<RegionLine, NoteError> {
        let id = self.text()?;
        let kind = match self.byte()? {
            1 => RegionKind::State,
            2 => RegionKind::District,
            _ => return Err(self.malformed()),
        };
        Ok(RegionLine { id, kind, name: self.text()?, parent: self.optional_text()? })
    }

    fn centre(&mut self) -> Result<CentreLine, NoteError> {
        Ok(CentreLine {
            id: self.text()?,
            name: self.text()?,
            district: self.text()?,
            pincode: self.text()?,
            address: self.optional_text()?,
        })
    }

    fn session(&mut self) -> Result<NotedSession, NoteError> {
        let id = self.text()?;
        let centre = u32::try_from(self.number()?).map_err(|_| self.malformed())?;
        let date = self.date()?;
        let product = ProductId(self.byte()?);
        let count = self.number()?;
        let windows = self.records(count, Reader::window)?;
        // A session's windows refer to its slots by 16 bits.
        let slots: usize = windows.iter().map(|w| w.pools.len()).sum();
        if u16::try_from(slots).is_err() {
            return Err(self.malformed());
        }
        Ok(NotedSession { id, centre: CentreIndex(centre), date, product, windows })
    }

    fn window(&mut self) -> Result<NotedWindow, NoteError> {
        let start = self.number()?;
        let end = start.checked_add(self.number()?).ok_or(self.malformed())?;
        let count = self.number()?;
        let pools = self.records(count, |input| input.byte().map(PoolId))?;
        Ok(NotedWindow { start: TimestampMs(start), end: TimestampMs(end), pools })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ndjson::WindowLine;
    use berth_engine::Units;
    use jiff::civil::date;
    use proptest::prelude::*;

    const INDIA: &str = include_str!("../../programmes/india-2021.toml");

    fn india() -> Programme {
        Programme::from_toml(INDIA).unwrap()
    }

    fn session() -> SessionLine {
        let pools = vec![(PoolId(1), Units::ONE), (PoolId(2), Units::MAX)];
        let window = WindowLine { start: TimestampMs(1_000_000), end: TimestampMs(8_200_000), pools };
        SessionLine {
            id: "c-1".to_owned(),
            centre: CentreIndex(300),
            date: date(2026, 11, 24),
            product: ProductId(2),
            windows: vec![window],
        }
    }

    #[test]
    fn notes_read_back_as_written() {
        let india = india();
        let regions = vec![
            RegionLine { id: "27".into(), kind: RegionKind::State, name: "Maharashtra".into(), parent: None },
            RegionLine {
                id: "395".into(), kind: RegionKind::District, name: "मुंबई".into(), parent: Some("27".into())
            },
        ];
        assert_eq!(decode(&encode_regions(&regions)), Ok(CatalogueNote::Regions(regions)));
        let centres = vec![CentreLine {
            id: "c".into(),
            name: "C".into(),
            district: "395".into(),
            pincode: "400001".into(),
            address: Some("x".repeat(200)),
        }];
        assert_eq!(decode(&encode_centres(&centres)), Ok(CatalogueNote::Centres(centres)));
        let SessionLine { id, centre, date, product, windows } = session();
        let windows = windows
            .iter()
            .map(|w| NotedWindow { start: w.start, end: w.end, pools: w.pools.iter().map(|p| p.0).collect() })
            .collect();
        let noted = NotedSession { id, centre, date, product, windows };
        let numbering = Numbering::of(&[session()], &india);
        let note = encode_sessions(&[session()], &numbering);
        assert_eq!(decode(&note), Ok(CatalogueNote::Sessions(numbering, vec![noted])));
    }

    #[test]
    fn a_reordered_programme_is_refused_by_name() {
        let numbering = Numbering::of(&[session()], &india());
        assert_eq!(numbering.check(&india()), Ok(()));
        let reordered =
            INDIA.replace("covaxin", "x").replace("covishield", "covaxin").replace("\"x\"", "\"covishield\"");
        let error = numbering.check(&Programme::from_toml(&reordered).unwrap()).unwrap_err();
        assert_eq!(
            error,
            NoteError::Renumbered { what: "product", number: 2, kept: "covaxin".into(), found: "covishield".into() }
        );
    }

    #[test]
    fn a_newer_version_is_named() {
        assert_eq!(decode(&[2, 1, 0]), Err(NoteError::Version(2)));
    }

    #[test]
    fn every_cut_of_a_note_is_malformed() {
        let lines = [session(), session()];
        let note = encode_sessions(&lines, &Numbering::of(&lines, &india()));
        for cut in 0..note.len() {
            assert!(decode(&note[..cut]).is_err(), "cut at {cut} of {}", note.len());
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics(kind in 0u8..5, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut note = vec![VERSION, kind];
            note.extend(bytes);
            let _ = decode(&note);
        }

        #[test]
        fn numbers_read_back(number: u64) {
            let mut out = Writer(Vec::new());
            out.number(number);
            let mut input = Reader { bytes: &out.0, at: 0 };
            prop_assert_eq!(input.number(), Ok(number));
            prop_assert_eq!(input.at, out.0.len());
        }
    }
}
