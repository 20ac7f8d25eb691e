//! A programme file as tables: what the policy reads while party locks are held.
//!
//! Made once, when a file is taken up. Names have become numbers, civil dates of visits day numbers, and days from which rules
//! change instants. So judging a claim allocates nothing and asks no calendar.

use berth_engine::{Dose, TimestampMs};

use crate::calendar::Calendar;
use crate::file::{AgeBand, CivilDate, DOSES_MAX, Mix, ProgrammeFile, UnknownAge, WalkIn};

const MINUTE_MS: u64 = 60_000;
/// A place for each dose of a product, from 0 on: 0 is none.
const GAPS_PER_PRODUCT: usize = DOSES_MAX as usize + 1;

/// The tables of one file.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    /// What holds from when on, ascending; the first from the beginning of time.
    eras: Box<[Era]>,
    /// By product, from 0 on; in the order of the file.
    bands: Box<[Box<[Band]>]>,
    /// Whether there is any band.
    pub(crate) is_banded: bool,
    /// Whether any band is booked later than the horizon lets.
    pub(crate) has_openings: bool,
    pub(crate) refuses_unknown_age: bool,
    /// By bit: the first day of its members.
    opens: Box<[u16]>,
    pools: Box<[Pool]>,
    pub(crate) mixes: Box<[Mixed]>,
}

/// The rules between two changes.
#[derive(Clone, Debug)]
pub(crate) struct Era {
    pub(crate) from: TimestampMs,
    pub(crate) horizon_days: u16,
    pub(crate) booking_cutoff_ms: u64,
    pub(crate) cancel_cutoff_ms: u64,
    pub(crate) move_cutoff_ms: u64,
    pub(crate) no_show_grace_ms: u64,
    pub(crate) doses_in_order: bool,
    pub(crate) same_product: bool,
    /// By product, then dose.
    gaps: Box<[Gap]>,
}

/// Days from one dose to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) min: u16,
    /// 0: no such day.
    pub(crate) max: u16,
}

/// Who may have a product.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    /// Days of visits, both in it.
    pub(crate) from: u16,
    pub(crate) until: u16,
    pub(crate) books_from: TimestampMs,
    pub(crate) age_min: u16,
    pub(crate) age_max: u16,
    /// 0: everybody.
    pub(crate) cohorts: u32,
    doses: u16,
}

/// A pool, and those that it spills into.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) walk_in: WalkIn,
    pub(crate) cohorts: u32,
    /// Where a party's facts count its invitations, if it needs one.
    pub(crate) invitation: Option<u32>,
    /// In the order of the spills; the times before a slot's start never grow.
    pub(crate) spills: Box<[Spill]>,
}

/// Whom else a pool serves from when on.
#[derive(Clone, Debug)]
pub(crate) struct Spill {
    pub(crate) before_ms: u64,
    pub(crate) dose: Dose,
    pub(crate) cohorts: u32,
}

/// A product that may follow another.
#[derive(Clone, Debug)]
pub(crate) struct Mixed {
    after: u8,
    product: u8,
    doses: u16,
    pub(crate) from: TimestampMs,
    min: Option<u16>,
    max: Option<u16>,
}

impl Compiled {
    /// The tables of a file that [`ProgrammeFile::validate`] has found right.
    pub(crate) fn new(file: &ProgrammeFile, calendar: &Calendar) -> Compiled {
        let bands: Box<[Box<[Band]>]> = file
            .products
            .iter()
            .map(|product| {
                let of_product = |band: &&AgeBand| band.products.is_empty() || band.products.contains(&product.id);
                file.age_bands.iter().filter(of_product).map(|band| Band::new(band, file, calendar)).collect()
            })
            .collect();
        let first_day = |opens: Option<CivilDate>| opens.map_or(0, day);
        Compiled {
            eras: eras(file, calendar),
            is_banded: !file.age_bands.is_empty(),
            has_openings: bands.iter().flatten().any(|band| band.books_from > TimestampMs(0)),
            bands,
            refuses_unknown_age: file.unknown_age == UnknownAge::Refuse,
            opens: file.cohorts.iter().map(|cohort| first_day(cohort.opens)).collect(),
            pools: (0..file.pools.len()).map(|index| Pool::new(file, index)).collect(),
            mixes: file.mixes.iter().map(|mix| Mixed::new(mix, file, calendar)).collect(),
        }
    }

    /// The rules in force at an instant.
    pub(crate) fn era(&self, at: TimestampMs) -> &Era {
        &self.eras[self.index(at)]
    }

    fn index(&self, at: TimestampMs) -> usize {
        // Nearly every claim is judged by the newest rules.
        self.eras.iter().rposition(|era| era.from <= at).unwrap_or(0)
    }

    /// The rules in force at an instant and all that come after them, each with the instant at which it ends.
    pub(crate) fn eras_from(&self, at: TimestampMs) -> impl Iterator<Item = (&Era, TimestampMs)> {
        let eras = &self.eras[self.index(at)..];
        let ends = eras.iter().skip(1).map(|era| era.from).chain([TimestampMs(u64::MAX)]);
        eras.iter().zip(ends)
    }

    /// The instants from which other rules hold.
    pub(crate) fn changes(&self) -> impl Iterator<Item = TimestampMs> {
        self.eras.iter().skip(1).map(|era| era.from)
    }

    /// Who may have a product, by its place in the file.
    pub(crate) fn bands(&self, product: usize) -> &[Band] {
        self.bands.get(product).map_or(&[], |bands| bands)
    }

    /// A pool by its place in the file.
    pub(crate) fn pool(&self, index: usize) -> Option<&Pool> {
        self.pools.get(index)
    }

    /// Whether one of these cohorts has opened by that day.
    pub(crate) fn is_open(&self, cohorts: u32, day: u16) -> bool {
        cohorts != 0 && self.opens_at(cohorts).is_some_and(|opens| opens <= day)
    }

    /// The first day on which one of these cohorts is open.
    pub(crate) fn opens_at(&self, cohorts: u32) -> Option<u16> {
        let members = self.opens.iter().enumerate().filter(|&(bit, _)| cohorts >> bit & 1 == 1);
        members.map(|(_, &opens)| opens).min()
    }

    /// How a product may follow another as this dose.
    pub(crate) fn mixed(&self, after: u8, product: u8, dose: Dose) -> impl Iterator<Item = &Mixed> {
        let fits = move |mix: &&Mixed| mix.after == after && mix.product == product && has(mix.doses, dose);
        self.mixes.iter().filter(fits)
    }
}

impl Era {
    pub(crate) fn gap(&self, product: usize, dose: Dose) -> Gap {
        self.gaps.get(product * GAPS_PER_PRODUCT + usize::from(dose.0)).copied().unwrap_or_default()
    }
}

impl Mixed {
    /// The gap before what follows: its own, or that of the product.
    pub(crate) fn gap(&self, of_product: Gap) -> Gap {
        // With a gap of its own it has no other's last day, which may lie before its first.
        let max = self.max.unwrap_or(if self.min.is_some() { 0 } else { of_product.max });
        Gap { min: self.min.unwrap_or(of_product.min), max }
    }

    fn new(mix: &Mix, file: &ProgrammeFile, calendar: &Calendar) -> Mixed {
        let number = |id: &str| file.products.iter().position(|product| product.id == id).map_or(0, |at| at + 1);
        let number = |id: &str| u8::try_from(number(id)).unwrap_or(0);
        Mixed {
            after: number(&mix.after),
            product: number(&mix.product),
            doses: doses(&mix.doses),
            from: mix.from.map_or(TimestampMs(0), |from| calendar.start_of_day(day(from))),
            min: mix.gap_days_min,
            max: mix.gap_days_max,
        }
    }
}

impl Band {
    pub(crate) fn is_for(&self, dose: Dose) -> bool {
        has(self.doses, dose)
    }

    fn new(band: &AgeBand, file: &ProgrammeFile, calendar: &Calendar) -> Band {
        // A time that the clocks skip is the first instant after it: nobody waits longer for that.
        let instant = |at: jiff::civil::DateTime| {
            let there = calendar.instant(at.date(), at.time());
            there.or_else(|| calendar.instant(at.date(), at.time().saturating_add(jiff::Span::new().hours(1))))
        };
        let midnight_of = |at: jiff::civil::DateTime| calendar.start_of_day(day(CivilDate(at.date())));
        Band {
            from: band.from.map_or(0, day),
            until: band.until.map_or(u16::MAX, day),
            books_from: band.books_from.map_or(TimestampMs(0), |at| instant(at.0).unwrap_or_else(|| midnight_of(at.0))),
            age_min: band.age_min.map_or(0, u16::from),
            age_max: band.age_max.map_or(u16::MAX, u16::from),
            cohorts: bits(&band.cohorts, file),
            doses: doses(&band.doses),
        }
    }
}

impl Pool {
    fn new(file: &ProgrammeFile, index: usize) -> Pool {
        let pool = &file.pools[index];
        let mut spills: Vec<Spill> = Vec::new();
        let (mut at, mut before_ms) = (pool, u64::MAX);
        // As many steps as there are pools: the file was checked for circles, and this ends all the same.
        for _ in 0..file.pools.len() {
            let (Some(to), Some(minutes)) = (&at.spills_to, at.spill_minutes_before) else { break };
            let Some(next) = file.pools.iter().find(|pool| pool.id == *to) else { break };
            // What comes over two steps comes with the later of them.
            before_ms = before_ms.min(u64::from(minutes) * MINUTE_MS);
            spills.push(Spill { before_ms, dose: Dose(next.dose.unwrap_or(0)), cohorts: bits(&next.cohorts, file) });
            at = next;
        }
        let invitation = crate::invitations::shift(file, index);
        Pool { walk_in: pool.walk_in, cohorts: bits(&pool.cohorts, file), invitation, spills: spills.into() }
    }
}

fn eras(file: &ProgrammeFile, calendar: &Calendar) -> Box<[Era]> {
    let mut gaps = vec![Gap::default(); file.products.len() * GAPS_PER_PRODUCT];
    for (product, of) in file.products.iter().zip(gaps.chunks_mut(GAPS_PER_PRODUCT)) {
        for dose in 2..=product.doses {
            let (min, max) = product.gap(dose);
            of[usize::from(dose)] = Gap { min, max };
        }
    }
    let mut era = Era {
        from: TimestampMs(0),
        horizon_days: file.booking_horizon_days,
        booking_cutoff_ms: u64::from(file.booking_cutoff_minutes) * MINUTE_MS,
        cancel_cutoff_ms: u64::from(file.cancel_cutoff_minutes) * MINUTE_MS,
        move_cutoff_ms: u64::from(file.move_cutoff_minutes.unwrap_or(file.cancel_cutoff_minutes)) * MINUTE_MS,
        no_show_grace_ms: u64::from(file.no_show_grace_minutes) * MINUTE_MS,
        doses_in_order: file.doses_in_order,
        same_product: file.same_product,
        gaps: gaps.into(),
    };
    let mut eras = vec![era.clone()];
    let mut move_cutoff_minutes = file.move_cutoff_minutes;
    for change in &file.changes {
        era.from = calendar.start_of_day(day(change.from));
        let minutes = |value: Option<u32>, before: u64| value.map_or(before, |minutes| u64::from(minutes) * MINUTE_MS);
        era.horizon_days = change.booking_horizon_days.unwrap_or(era.horizon_days);
        era.booking_cutoff_ms = minutes(change.booking_cutoff_minutes, era.booking_cutoff_ms);
        era.cancel_cutoff_ms = minutes(change.cancel_cutoff_minutes, era.cancel_cutoff_ms);
        // Once it is named it goes on by itself.
        move_cutoff_minutes = change.move_cutoff_minutes.or(move_cutoff_minutes);
        era.move_cutoff_ms = minutes(move_cutoff_minutes, era.cancel_cutoff_ms);
        era.no_show_grace_ms = minutes(change.no_show_grace_minutes, era.no_show_grace_ms);
        era.doses_in_order = change.doses_in_order.unwrap_or(era.doses_in_order);
        era.same_product = change.same_product.unwrap_or(era.same_product);
        for changed in &change.products {
            for (product, of) in file.products.iter().zip(era.gaps.chunks_mut(GAPS_PER_PRODUCT)) {
                for dose in (2..=product.doses).filter(|&dose| changed.is_for(&product.id, dose)) {
                    let gap = &mut of[usize::from(dose)];
                    gap.min = changed.gap_days_min.unwrap_or(gap.min);
                    gap.max = changed.gap_days_max.unwrap_or(gap.max);
                }
            }
        }
        eras.push(era.clone());
    }
    eras.into()
}

/// The day of a date; of dates past what 16 bits hold, which no checked file has, the last.
fn day(CivilDate(date): CivilDate) -> u16 {
    Calendar::day_of(date).unwrap_or(u16::MAX)
}

/// One bit for each dose; none given is all.
fn doses(given: &[u8]) -> u16 {
    if given.is_empty() {
        u16::MAX
    } else {
        given.iter().fold(0, |bits, &dose| bits | 1u16.checked_shl(dose.into()).unwrap_or(0))
    }
}

fn has(doses: u16, dose: Dose) -> bool {
    1u16.checked_shl(dose.0.into()).is_some_and(|bit| doses & bit != 0)
}

/// One bit for each cohort.
fn bits(ids: &[String], file: &ProgrammeFile) -> u32 {
    let bit = |id: &String| file.cohorts.iter().position(|cohort| cohort.id == *id);
    let bit = |id| bit(id).and_then(|at| 1u32.checked_shl(u32::try_from(at).ok()?)).unwrap_or(0);
    ids.iter().fold(0, |bits, id| bits | bit(id))
}
