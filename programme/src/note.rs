//! What the catalogue keeps in the journal: the accepted lines of a bulk publish, in a compact encoding.
//!
//! `version u8 | kind u8 | count | records`. Numbers are LEB128, text is a length and UTF-8. Capacities are
//! not here: the engine keeps them with the slots, which stand in the same entry in the order of the windows
//! and their pools.
//!
//! A note of sessions begins with the names of the products and pools it uses beside their numbers, because the
//! engine's slot facts hold the numbers for ever: [`Numbering::check`] refuses a programme file that numbers them
//! otherwise today, instead of giving people another vaccine. The same for the currency that fees are in.
//!
//! Version 1 had no positions of centres, and no age bands and fees of sessions. Version 3 has programmes (`programme`), and writes the others
//! as version 2 did.
//!
//! Version 4 has phones and pages of centres; the others are written as before.
//!
//! Adding a field: take the next version, read both, write the new one. An older Berth refuses the newer
//! version by name.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use berth_engine::{PoolId, ProductId, TimestampMs};
use jiff::civil::Date;

use crate::catalogue::{Ages, CentreIndex, RegionKind};
use crate::ndjson::{CentreLine, RegionLine, SessionLine};
use crate::position::Position;
use crate::programme::Programme;

pub(crate) use programme::{ProgrammeNote, encode_programme};

mod programme;

const VERSION: u8 = 2;
/// The newest that is read.
const VERSION_MAX: u8 = CENTRES_VERSION;
/// In which centres are written.
const CENTRES_VERSION: u8 = 4;
/// The oldest that is still read.
const VERSION_MIN: u8 = 1;
/// No bound of an age band.
const NO_AGE: u8 = u8::MAX;
const REGIONS: u8 = 1;
const CENTRES: u8 = 2;
const SESSIONS: u8 = 3;
const PROGRAMME: u8 = 4;

/// A decoded note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CatalogueNote {
    Regions(Vec<RegionLine>),
    Centres(Vec<CentreLine>),
    Sessions(Numbering, Vec<NotedSession>),
    Programme(ProgrammeNote),
}

/// The names behind the product and pool numbers of a note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbering {
    pub(crate) products: BTreeMap<ProductId, String>,
    pub(crate) pools: BTreeMap<PoolId, String>,
    /// What the fees are in, if there are any.
    pub(crate) currency: Option<String>,
}

impl Numbering {
    /// What the programme calls the products and pools of these sessions.
    pub(crate) fn of(lines: &[SessionLine], programme: &Programme) -> Numbering {
        let mut numbering = Numbering::default();
        if lines.iter().any(|line| line.fee.is_some()) {
            numbering.currency.clone_from(&programme.file().currency);
        }
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
        if let Some(kept) = &self.currency
            && Some(kept) != programme.file().currency.as_ref()
        {
            let found = programme.file().currency.clone().unwrap_or_else(|| "nothing".to_owned());
            return Err(NoteError::Currency { kept: kept.clone(), found });
        }
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
    pub(crate) ages: Ages,
    pub(crate) fee: Option<NonZeroU64>,
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
    #[error("the catalogue note has version {0}, this Berth reads version {VERSION_MAX}")]
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
    /// The programme file names another currency than fees of the journal are in.
    #[error("the journal's fees are in {kept}, but the programme file's currency is {found}")]
    Currency {
        /// What the journal's fees are in.
        kept: String,
        /// What the file says.
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
    let mut out = Writer(vec![CENTRES_VERSION, CENTRES]);
    out.number(lines.len() as u64);
    for line in lines {
        for text in [&line.id, &line.name, &line.district, &line.pincode] {
            out.text(text);
        }
        out.text(line.address.as_deref().unwrap_or(""));
        out.byte(line.position.is_some().into());
        if let Some(position) = line.position {
            out.0.extend_from_slice(&position.latitude_e6().to_le_bytes());
            out.0.extend_from_slice(&position.longitude_e6().to_le_bytes());
        }
        out.text(line.phone.as_deref().unwrap_or(""));
        out.text(line.url.as_deref().unwrap_or(""));
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
    out.text(numbering.currency.as_deref().unwrap_or(""));
    for line in lines {
        out.text(&line.id);
        out.number(line.centre.0.into());
        out.date(line.date);
        out.byte(line.product.0);
        out.byte(line.ages.min.unwrap_or(NO_AGE));
        out.byte(line.ages.max.unwrap_or(NO_AGE));
        out.number(line.fee.map_or(0, NonZeroU64::get));
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
    let mut input = Reader { bytes, at: 0, version: 0 };
    input.version = input.byte()?;
    if !(VERSION_MIN..=VERSION_MAX).contains(&input.version) {
        return Err(NoteError::Version(input.version));
    }
    let kind = input.byte()?;
    let count = input.number()?;
    let note = match kind {
        REGIONS => CatalogueNote::Regions(input.records(count, Reader::region)?),
        CENTRES => CatalogueNote::Centres(input.records(count, Reader::centre)?),
        SESSIONS => {
            let products = input.names()?.into_iter().map(|(n, name)| (ProductId(n), name)).collect();
            let pools = input.names()?.into_iter().map(|(n, name)| (PoolId(n), name)).collect();
            let currency = if input.version >= 2 { input.optional_text()? } else { None };
            CatalogueNote::Sessions(Numbering { products, pools, currency }, input.records(count, Reader::session)?)
        }
        PROGRAMME if input.version >= programme::SINCE_VERSION && count == 1 => {
            CatalogueNote::Programme(input.programme()?)
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
    version: u8,
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
            position: if self.version >= 2 { self.position()? } else { None },
            phone: if self.version >= CENTRES_VERSION { self.optional_text()? } else { None },
            url: if self.version >= CENTRES_VERSION { self.optional_text()? } else { None },
        })
    }

    fn position(&mut self) -> Result<Option<Position>, NoteError> {
        match self.byte()? {
            0 => Ok(None),
            1 => {
                let (latitude_e6, longitude_e6) = (self.four_bytes()?, self.four_bytes()?);
                Position::from_e6(latitude_e6, longitude_e6).map(Some).ok_or(self.malformed())
            }
            _ => Err(self.malformed()),
        }
    }

    fn four_bytes(&mut self) -> Result<i32, NoteError> {
        Ok(i32::from_le_bytes([self.byte()?, self.byte()?, self.byte()?, self.byte()?]))
    }

    fn ages(&mut self) -> Result<Ages, NoteError> {
        let bound = |age| (age != NO_AGE).then_some(age);
        Ok(Ages { min: bound(self.byte()?), max: bound(self.byte()?) })
    }

    fn session(&mut self) -> Result<NotedSession, NoteError> {
        let id = self.text()?;
        let centre = u32::try_from(self.number()?).map_err(|_| self.malformed())?;
        let date = self.date()?;
        let product = ProductId(self.byte()?);
        let (ages, fee) =
            if self.version >= 2 { (self.ages()?, NonZeroU64::new(self.number()?)) } else { (Ages::default(), None) };
        let count = self.number()?;
        let windows = self.records(count, Reader::window)?;
        // A session's windows refer to its slots by 16 bits.
        let slots: usize = windows.iter().map(|w| w.pools.len()).sum();
        if u16::try_from(slots).is_err() {
            return Err(self.malformed());
        }
        Ok(NotedSession { id, centre: CentreIndex(centre), date, product, ages, fee, windows })
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
            line: 1,
            id: "c-1".to_owned(),
            centre: CentreIndex(300),
            date: date(2026, 11, 24),
            product: ProductId(2),
            ages: Ages { min: Some(18), max: None },
            fee: NonZeroU64::new(25_000),
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
            position: Position::from_degrees(-19.076, 72.8777),
            phone: Some("+91 22 2301 0000".into()),
            url: None,
        }];
        assert_eq!(decode(&encode_centres(&centres)), Ok(CatalogueNote::Centres(centres)));
        let SessionLine { id, centre, date, product, ages, fee, windows, .. } = session();
        let windows = windows
            .iter()
            .map(|w| NotedWindow { start: w.start, end: w.end, pools: w.pools.iter().map(|p| p.0).collect() })
            .collect();
        let noted = NotedSession { id, centre, date, product, ages, fee, windows };
        let numbering = Numbering::of(&[session()], &india);
        assert_eq!(numbering.currency.as_deref(), Some("INR"));
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
        assert_eq!(decode(&[5, 1, 0]), Err(NoteError::Version(5)));
        assert_eq!(decode(&[0, 1, 0]), Err(NoteError::Version(0)));
    }

    /// Byte by byte what the first version wrote: a journal of then is read for ever.
    #[test]
    fn a_note_of_version_1_is_still_read() {
        let mut centre = vec![1, CENTRES, 1];
        for text in ["c", "C", "395", "400001", ""] {
            centre.push(u8::try_from(text.len()).unwrap());
            centre.extend(text.bytes());
        }
        let Ok(CatalogueNote::Centres(centres)) = decode(&centre) else { panic!("{:?}", decode(&centre)) };
        assert_eq!((centres[0].id.as_str(), centres[0].position), ("c", None));
        // And what version 2 wrote, which had no phones.
        centre[0] = 2;
        centre.push(0);
        let Ok(CatalogueNote::Centres(centres)) = decode(&centre) else { panic!("{:?}", decode(&centre)) };
        assert_eq!((centres[0].id.as_str(), &centres[0].phone, &centres[0].url), ("c", &None, &None));
        let mut session = vec![1, SESSIONS, 1, 1, 2, 1, b'v', 1, 1, 2, b'd', b'1', 1, b's', 7];
        session.extend([0xEA, 0x07, 11, 24, 2, 1, 10, 20, 1, 1]);
        let Ok(CatalogueNote::Sessions(numbering, sessions)) = decode(&session) else {
            panic!("{:?}", decode(&session))
        };
        assert_eq!((numbering.currency, numbering.products[&ProductId(2)].as_str()), (None, "v"));
        let NotedSession { centre, ages, fee, date: on, ref windows, .. } = sessions[0];
        assert_eq!((centre, ages, fee, on), (CentreIndex(7), Ages::default(), None, date(2026, 11, 24)));
        assert_eq!((windows[0].end, windows[0].pools.as_slice()), (TimestampMs(30), &[PoolId(1)][..]));
    }

    #[test]
    fn fees_in_another_currency_are_refused_by_name() {
        let numbering = Numbering::of(&[session()], &india());
        let other = Programme::from_toml(&INDIA.replace("\"INR\"", "\"EUR\"")).unwrap();
        assert_eq!(numbering.check(&other), Err(NoteError::Currency { kept: "INR".into(), found: "EUR".into() }));
        let free = SessionLine { fee: None, ..session() };
        assert_eq!(Numbering::of(&[free], &india()).check(&other), Ok(()), "without fees nothing is in a currency");
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
        fn decoding_never_panics(kind in 0u8..6, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for version in VERSION_MIN..=VERSION_MAX {
                let mut note = vec![version, kind];
                note.extend_from_slice(&bytes);
                let _ = decode(&note);
            }
        }

        #[test]
        fn numbers_read_back(number: u64) {
            let mut out = Writer(Vec::new());
            out.number(number);
            let mut input = Reader { bytes: &out.0, at: 0, version: VERSION };
            prop_assert_eq!(input.number(), Ok(number));
            prop_assert_eq!(input.at, out.0.len());
        }
    }
}
