//! The policy against a plain reading of the programme file: random programmes, people, slots and instants.
//!
//! The oracle here shares nothing with the policy but the parsed file. It reads the file as somebody at a desk would: date by date,
//! with jiff's calendar, names instead of numbers, and no tables.

use berth_engine::{Dose, PartyFacts, Policy as _, PolicyRefusal, PoolId, ProductId, SlotFacts, TimestampMs};
use berth_programme::file::{AgeBand, PoolFile, ProductFile, ProgrammeFile, UnknownAge, WalkIn};
use berth_programme::{PROGRAMME, Programme};
use jiff::civil::{Date, DateTime, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

const ZONES: [&str; 4] = ["Asia/Kolkata", "Europe/Paris", "America/New_York", "America/Sao_Paulo"];
const PRODUCTS: [&str; 3] = ["a", "b", "c"];
const COHORTS: [&str; 3] = ["k", "l", "m"];
const POOLS: [&str; 4] = ["p", "q", "r", "s"];

type Answer = Result<(), (&'static str, Option<i64>)>;

/// Who reads the file.
struct Desk<'f> {
    file: &'f ProgrammeFile,
    zone: TimeZone,
}

/// What is asked at the desk.
#[derive(Clone, Copy)]
struct Asked<'a> {
    party: &'a PartyFacts,
    product: Option<&'a ProductFile>,
    pool: Option<&'a PoolFile>,
    slot_dose: u8,
    dose: u8,
    starts: Timestamp,
    now: Timestamp,
}

fn no(rule: &'static str) -> Answer {
    Err((rule, None))
}

fn instant(at: i64) -> Timestamp {
    Timestamp::from_millisecond(at).expect("an instant")
}

impl Desk<'_> {
    fn midnight(&self, on: Date) -> i64 {
        on.to_zoned_datetime(self.zone.clone()).expect("a date of these years").timestamp().as_millisecond()
    }

    fn instant(&self, at: DateTime) -> i64 {
        at.to_zoned_datetime(self.zone.clone()).expect("a date of these years").timestamp().as_millisecond()
    }

    fn date(&self, at: Timestamp) -> Date {
        at.to_zoned_datetime(self.zone.clone()).date()
    }

    /// The value of a key on the day of asking: the last change that has it, or what stands at the top.
    fn value<T: Clone>(&self, now: Timestamp, first: T, of: impl Fn(&berth_programme::file::Change) -> Option<T>) -> T {
        let mut value = first;
        for change in &self.file.changes {
            if self.midnight(change.from.0) <= now.as_millisecond() {
                value = of(change).unwrap_or(value);
            }
        }
        value
    }

    fn is_member(&self, party: &PartyFacts, cohort: &str) -> bool {
        let bit = self.file.cohorts.iter().position(|known| known.id == cohort).expect("the file was checked");
        party.cohorts & (1 << bit) != 0
    }

    fn has_opened(&self, cohort: &str, on: Date) -> bool {
        let cohort = self.file.cohorts.iter().find(|known| known.id == cohort).expect("the file was checked");
        cohort.opens.is_none_or(|opens| opens.0 <= on)
    }

    fn in_open_cohort(&self, party: &PartyFacts, cohorts: &[String], on: Date) -> bool {
        cohorts.is_empty() || cohorts.iter().any(|cohort| self.is_member(party, cohort) && self.has_opened(cohort, on))
    }

    fn covers_but_for_the_cohort(&self, band: &AgeBand, asked: &Asked<'_>, on: Date) -> bool {
        let age = i32::from(on.year()) - i32::from(asked.party.birth_year);
        band.from.is_none_or(|from| from.0 <= on)
            && band.until.is_none_or(|until| on <= until.0)
            && (band.products.is_empty() || band.products.contains(&asked.product.expect("judged before").id))
            && (band.doses.is_empty() || band.doses.contains(&asked.dose))
            && (asked.party.birth_year == 0
                || (i32::from(band.age_min.unwrap_or(0)) <= age
                    && band.age_max.is_none_or(|max| age <= i32::from(max))))
    }

    fn covers(&self, band: &AgeBand, asked: &Asked<'_>, on: Date) -> bool {
        self.covers_but_for_the_cohort(band, asked, on) && self.in_open_cohort(asked.party, &band.cohorts, on)
    }

    /// The first instant after `now` at which it is so: it can begin at one of these, or where the file changes.
    fn first_after(
        &self,
        now: i64,
        instants: impl IntoIterator<Item = i64>,
        is_so: impl Fn(i64) -> bool,
    ) -> Option<i64> {
        let changes = self.file.changes.iter().map(|change| self.midnight(change.from.0));
        instants.into_iter().chain(changes).filter(|&at| at > now && is_so(at)).min()
    }

    /// Every rule in its order.
    fn may_claim(&self, asked: &Asked<'_>) -> Answer {
        if asked.pool.is_some_and(|pool| pool.walk_in == WalkIn::Only) {
            return no("walk_in_only");
        }
        self.eligible(asked)?;
        let (now, starts) = (asked.now.as_millisecond(), asked.starts.as_millisecond());
        let cutoff = self.value(asked.now, self.file.booking_cutoff_minutes, |change| change.booking_cutoff_minutes);
        if now > starts - i64::from(cutoff) * 60_000 {
            return no("booking_cutoff");
        }
        let horizon = self.value(asked.now, self.file.booking_horizon_days, |change| change.booking_horizon_days);
        let opens = self
            .midnight(self.date(asked.starts).checked_sub(i64::from(horizon).days()).expect("a date of these years"));
        if now < opens {
            let open = |at: i64| {
                let horizon =
                    self.value(instant(at), self.file.booking_horizon_days, |change| change.booking_horizon_days);
                let first = self.date(asked.starts).checked_sub(i64::from(horizon).days());
                at >= self.midnight(first.expect("a date of these years"))
            };
            let horizons = self.file.changes.iter().filter_map(|change| change.booking_horizon_days);
            let first =
                |days: u16| self.date(asked.starts).checked_sub(i64::from(days).days()).expect("of these years");
            let opens = horizons.chain([self.file.booking_horizon_days]).map(|days| self.midnight(first(days)));
            return Err(("booking_horizon", self.first_after(now, opens, open)));
        }
        let on = self.date(asked.starts);
        let covering = self.file.age_bands.iter().filter(|band| self.covers(band, asked, on));
        let opens = covering.map(|band| band.books_from.map_or(0, |at| self.instant(at.0))).min().unwrap_or(0);
        if now < opens { Err(("booking_opening", Some(opens))) } else { Ok(()) }
    }

    /// By the rules of now, or by any that held before: who has booked keeps it.
    fn may_be_moved(&self, asked: &Asked<'_>) -> Answer {
        let before = self.file.changes.iter().map(|change| self.midnight(change.from.0));
        let before = before.filter(|&from| from <= asked.now.as_millisecond());
        let mut then = before.map(|from| Timestamp::from_millisecond(from - 1).expect("an instant"));
        let now = self.eligible(asked);
        if now.is_ok() || then.any(|now| self.eligible(&Asked { now, ..*asked }).is_ok()) { Ok(()) } else { now }
    }

    fn eligible(&self, asked: &Asked<'_>) -> Answer {
        self.may_use_the_pool(asked)?;
        let Asked { party, dose, .. } = *asked;
        let Some(product) = asked.product else { return no("course_doses") };
        if dose == 0 || dose > product.doses {
            return no("course_doses");
        }
        if dose <= party.doses {
            return no("dose_given");
        }
        let in_order = self.value(asked.now, self.file.doses_in_order, |change| change.doses_in_order);
        if in_order && dose != party.doses + 1 {
            let free = |at| !self.value(instant(at), self.file.doses_in_order, |change| change.doses_in_order);
            return Err(("dose_order", self.first_after(asked.now.as_millisecond(), [], free)));
        }
        let mut gap = self.value(asked.now, product.gap(dose).0, |change| {
            change
                .products
                .iter()
                .rfind(|gap| gap.is_for(&product.id, dose) && gap.gap_days_min.is_some())?
                .gap_days_min
        });
        let had = usize::from(party.product.0).checked_sub(1).and_then(|at| self.file.products.get(at));
        if let Some(had) = had.filter(|had| party.doses > 0 && had.id != product.id) {
            let fits = |mix: &&berth_programme::file::Mix| {
                mix.after == had.id && mix.product == product.id && (mix.doses.is_empty() || mix.doses.contains(&dose))
            };
            let from = |mix: &berth_programme::file::Mix| mix.from.map_or(0, |from| self.midnight(from.0));
            let mixes: Vec<_> = self.file.mixes.iter().filter(fits).collect();
            let same = self.value(asked.now, self.file.same_product, |change| change.same_product);
            match mixes.iter().filter(|mix| from(mix) <= asked.now.as_millisecond()).max_by_key(|mix| from(mix)) {
                Some(mix) => gap = mix.gap_days_min.unwrap_or(gap),
                None if same => {
                    let free = |at| {
                        mixes.iter().any(|mix| from(mix) <= at)
                            || !self.value(instant(at), self.file.same_product, |change| change.same_product)
                    };
                    let now = asked.now.as_millisecond();
                    return Err(("same_product", self.first_after(now, mixes.iter().map(|mix| from(mix)), free)));
                }
                None => {}
            }
        }
        self.may_come(asked)?;
        if gap > 0 && party.doses > 0 {
            let last =
                date(1970, 1, 1).checked_add(i64::from(party.last_dose_day).days()).expect("a date of these years");
            let from = self.midnight(last.checked_add(i64::from(gap).days()).expect("a date of these years"));
            if asked.starts.as_millisecond() < from {
                return Err(("dose_gap", Some(from)));
            }
        }
        Ok(())
    }

    fn may_use_the_pool(&self, asked: &Asked<'_>) -> Answer {
        let on = self.date(asked.starts);
        let serves = |only: Option<u8>| only.is_none_or(|only| only == asked.dose);
        let own_dose = (asked.slot_dose != 0).then_some(asked.slot_dose);
        let Some(pool) = asked.pool else { return if serves(own_dose) { Ok(()) } else { no("pool_dose") } };
        let own = if !serves(own_dose) {
            ("pool_dose", None)
        } else if self.in_open_cohort(asked.party, &pool.cohorts, on) {
            if !pool.invitation || self.times_invited(asked.party, pool) > 0 {
                return Ok(());
            }
            ("invitation", None)
        } else {
            let mine = self.file.cohorts.iter().filter(|known| pool.cohorts.contains(&known.id));
            let mine = mine.filter(|known| self.is_member(asked.party, &known.id));
            match mine.map(|known| known.opens.expect("else it would be open").0).min() {
                Some(opens) => ("cohort_opening", Some(self.midnight(opens))),
                None => ("pool_cohort", None),
            }
        };
        match self.spills_at(asked, pool) {
            Some(opens) if asked.now.as_millisecond() >= opens => Ok(()),
            opens => Err((own.0, own.1.or(opens))),
        }
    }

    /// Three bits for each pool with invitations, from the top.
    fn times_invited(&self, party: &PartyFacts, pool: &PoolFile) -> u32 {
        let with: Vec<_> = self.file.pools.iter().filter(|pool| pool.invitation).map(|pool| &pool.id).collect();
        let at = with.iter().position(|id| **id == pool.id).expect("it has invitations");
        (0..3).filter(|bit| party.cohorts & (1 << (32 - 3 * (at + 1) + bit)) != 0).map(|bit| 1 << bit).sum()
    }

    /// How many invitations bind, if any do: whom a spill lets in needs none.
    fn invitations(&self, asked: &Asked<'_>) -> Option<u32> {
        let pool = asked.pool.filter(|pool| pool.invitation)?;
        let spilled = self.spills_at(asked, pool).is_some_and(|opens| asked.now.as_millisecond() >= opens);
        (!spilled).then(|| self.times_invited(asked.party, pool))
    }

    /// From when on another pool's people, of whom the party is one, may have what is free.
    fn spills_at(&self, asked: &Asked<'_>, pool: &PoolFile) -> Option<i64> {
        let on = self.date(asked.starts);
        let serves = |only: Option<u8>| only.is_none_or(|only| only == asked.dose);
        // Along the spills, each not before the one that leads to it.
        let (mut at, mut opens) = (pool, i64::MIN);
        while let (Some(to), Some(minutes)) = (&at.spills_to, at.spill_minutes_before) {
            opens = opens.max(asked.starts.as_millisecond() - i64::from(minutes) * 60_000);
            at = self.file.pools.iter().find(|pool| pool.id == *to).expect("the file was checked");
            if serves(at.dose) && self.in_open_cohort(asked.party, &at.cohorts, on) {
                return Some(opens);
            }
        }
        None
    }

    fn may_come(&self, asked: &Asked<'_>) -> Answer {
        if self.file.age_bands.is_empty() {
            return Ok(());
        }
        if asked.party.birth_year == 0 && self.file.unknown_age == UnknownAge::Refuse {
            return no("age_unknown");
        }
        let on = self.date(asked.starts);
        if self.file.age_bands.iter().any(|band| self.covers(band, asked, on)) {
            return Ok(());
        }
        // A band can begin to cover somebody on its own day, on that of a cohort, or on a New Year's Day.
        let mut days: Vec<Date> =
            (on.year() + 1..on.year() + 160).filter(|&y| y < 2149).map(|year| date(year, 1, 1)).collect();
        days.extend(self.file.age_bands.iter().filter_map(|band| band.from).map(|from| from.0));
        days.extend(self.file.cohorts.iter().filter_map(|cohort| cohort.opens).map(|opens| opens.0));
        days.retain(|&day| day > on);
        days.sort_unstable();
        for day in days {
            if let Some(band) = self.file.age_bands.iter().find(|band| self.covers(band, asked, day)) {
                let waits_for_the_cohort = self.covers_but_for_the_cohort(band, asked, on);
                let rule = if waits_for_the_cohort { "cohort_opening" } else { "age_band" };
                return Err((rule, Some(self.midnight(day))));
            }
        }
        no("age_band")
    }
}

/// `"x", "y"` of the names whose bits are set.
fn listed(names: &[&str], bits: u8) -> String {
    let chosen = names.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    chosen.map(|(_, name)| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn day_of_2021(day: u16) -> Date {
    date(2020, 11, 1).checked_add(i64::from(day).days()).expect("a date of these years")
}

fn option<T: std::fmt::Debug>(inner: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(inner)
}

fn key<T: std::fmt::Display>(name: &str, value: Option<T>) -> String {
    value.map_or_else(String::new, |value| format!("{name} = {value}, "))
}

fn a_product(id: &'static str) -> impl Strategy<Value = String> {
    (1..4u8, 0..40u16, option(0..30u16)).prop_map(move |(doses, gap, step)| {
        // One of them has all the doses that anything else may name.
        let doses = if id == "a" { 3 } else { doses };
        let schedule = step.filter(|_| doses > 1).map(|gap| format!("[{{ dose = {doses}, gap_days_min = {gap} }}]"));
        format!("{{ id = {id:?}, name = \"P\", doses = {doses}, gap_days_min = {gap}, {} }}", key("schedule", schedule))
    })
}

fn a_pool(at: usize) -> impl Strategy<Value = String> {
    let walk_in = prop_oneof![Just("true"), Just("false"), Just("\"only\"")];
    (
        option(1..3u8),
        (prop_oneof![4 => Just("false"), 1 => walk_in], any::<bool>()),
        prop_oneof![2 => Just(0u8), 1 => 0..8u8],
        option((1..4usize, 0..4000u32)),
    )
        .prop_map(move |(dose, (walk_in, invitation), cohorts, spill)| {
            // Only ever to one further down, so that there is no circle.
            let spill = spill.filter(|(by, _)| at + by < POOLS.len());
            let spill = spill.map_or_else(String::new, |(by, minutes)| {
                format!("spills_to = {:?}, spill_minutes_before = {minutes}, ", POOLS[at + by])
            });
            let cohorts = listed(&COHORTS, cohorts);
            let dose = key("dose", dose);
            // Only of one that nothing spills into.
            let invitation = invitation && at == 0;
            format!(
                "{{ id = {:?}, name = \"P\", {dose}walk_in = {walk_in}, invitation = {invitation}, cohorts = [{cohorts}], {spill} }}",
                POOLS[at]
            )
        })
}

fn a_band() -> impl Strategy<Value = String> {
    let when = (option(0..420u16), option(0..200u16), option((0..40u16, 0..24u8)));
    let ages = (option(0..90u8), option(0..60u8));
    (when, ages, 0..8u8, option(1..4u8), prop_oneof![Just(0u8), 0..8u8]).prop_map(
        |((from, until, books), (min, older), products, dose, cohorts)| {
            let until = until.map(|days| day_of_2021(from.unwrap_or(0) + days));
            let books = books.and_then(|(before, hour)| {
                Some(format!("{}T{hour:02}:30:00", day_of_2021(from?.checked_sub(before)?)))
            });
            let max = older.map(|older| min.unwrap_or(0) + older);
            let when =
                format!("{}{}{}", key("from", from.map(day_of_2021)), key("until", until), key("books_from", books));
            let ages = format!("{}{}", key("age_min", min), key("age_max", max));
            let (products, cohorts) = (listed(&PRODUCTS, products), listed(&COHORTS, cohorts));
            let doses = key("doses", dose.map(|dose| format!("[{dose}]")));
            format!("{{ {when}{ages}products = [{products}], {doses}cohorts = [{cohorts}] }}")
        },
    )
}

fn a_change() -> impl Strategy<Value = (u16, String)> {
    let scalars = (option(1..60u16), option(0..3000u32), option(any::<bool>()), option(any::<bool>()));
    (1..60u16, scalars, option((0..3usize, 0..50u16))).prop_map(|(after, (horizon, cutoff, order, same), gap)| {
        let gap = gap.map(|(product, days)| format!("[{{ id = {:?}, gap_days_min = {days} }}]", PRODUCTS[product]));
        let text = format!(
            "{}{}{}{}{}note = \"n\", no_show_grace_minutes = 1",
            key("booking_horizon_days", horizon),
            key("booking_cutoff_minutes", cutoff),
            key("doses_in_order", order),
            key("same_product", same),
            key("products", gap)
        );
        (after, text)
    })
}

/// A mix, and what no other may be for.
fn a_mix() -> impl Strategy<Value = (String, String)> {
    (0..3usize, 1..3usize, option(0..420u16), option(0..60u16)).prop_map(|(after, other, from, gap)| {
        let (after, product) = (PRODUCTS[after], PRODUCTS[(after + other) % 3]);
        let (from, gap) = (key("from", from.map(day_of_2021)), key("gap_days_min", gap));
        let what = format!("after = {after:?}, product = {product:?}, {from}");
        (format!("{{ {what}{gap} }}"), what)
    })
}

fn a_programme() -> impl Strategy<Value = String> {
    let lists = (
        proptest::collection::vec(a_band(), 0..6),
        proptest::collection::vec(a_change(), 0..4),
        proptest::collection::vec(a_mix(), 0..4),
        proptest::collection::vec(option(0..420u16), 3),
    );
    let products = (a_product("a"), a_product("b"), a_product("c"));
    let pools = (a_pool(0), a_pool(1), a_pool(2), a_pool(3));
    let scalars = (0..ZONES.len(), 1..60u16, 0..3000u32, any::<(bool, bool, bool)>());
    (scalars, products, pools, lists).prop_map(
        |((zone, horizon, cutoff, (order, same, refuse)), (a, b, c), (p, q, r, s), (bands, changes, mixes, opens))| {
            let mut day = 0;
            let changes = changes.into_iter().map(|(after, change)| {
                day += after;
                format!("{{ from = {}, {change} }}", day_of_2021(day))
            });
            let changes = changes.collect::<Vec<_>>().join(", ");
            let mut seen = std::collections::HashSet::new();
            let mixes: Vec<_> = mixes.into_iter().filter(|(_, what)| seen.insert(what.clone())).map(|(mix, _)| mix).collect();
            let cohorts = COHORTS.iter().zip(opens);
            let cohorts = cohorts.map(|(id, opens)| format!("{{ id = {id:?}, name = \"C\", {} }}", key("opens", opens.map(day_of_2021))));
            format!(
                "name = \"Random\"\ntime_zone = {:?}\nhold_seconds = 60\ngroup_claims_max = 4\nbooking_horizon_days = {horizon}\n\
                 booking_cutoff_minutes = {cutoff}\ncancel_cutoff_minutes = 0\ndoses_in_order = {order}\nsame_product = {same}\n\
                 unknown_age = {:?}\nproducts = [{a}, {b}, {c}]\npools = [{p}, {q}, {r}, {s}]\ncohorts = [{}]\n\
                 age_bands = [{}]\nmixes = [{}]\nchanges = [{changes}]\n",
                ZONES[zone],
                if refuse { "refuse" } else { "allow" },
                cohorts.collect::<Vec<_>>().join(", "),
                bands.join(", "),
                mixes.join(", "),
            )
        },
    )
}

fn a_party() -> impl Strategy<Value = PartyFacts> {
    let cohorts = (0..8u32, prop_oneof![Just(0), 0..8u32]).prop_map(|(cohorts, invited)| cohorts | invited << 29);
    (prop_oneof![1 => Just(0u16), 4 => 1930..2022u16], cohorts, 0..3u8, 0..4u8, 0..420u16).prop_map(
        |(birth_year, cohorts, doses, product, day)| {
            let last_dose_day =
                if doses == 0 { 0 } else { berth_programme::Calendar::day_of(day_of_2021(day)).expect("after 1970") };
            let product = ProductId(if doses == 0 { 0 } else { product });
            PartyFacts { birth_year, cohorts, doses, product, last_dose_day }
        },
    )
}

/// A visit, and when it is asked for: often at the very edge of a day, or just where the horizon and a spill end.
fn a_moment() -> impl Strategy<Value = (u16, u16, i64, i64)> {
    let edge = prop_oneof![Just(0i64), Just(-1i64), Just(1), -86_400_000..86_400_000i64];
    (0..420u16, 0..1440u16, prop_oneof![0..70i64, 0..3i64], edge)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(debug_assertions) { 600 } else { 20_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    // rule: ELG-1
    #[test]
    fn the_policy_reads_the_file_as_it_stands(
        text in a_programme(),
        party in a_party(),
        (slot_product, slot_pool, dose) in (0..4u8, 0..5u8, 0..4u8),
        moments in proptest::collection::vec(a_moment(), 1..12),
    ) {
        let programme = match Programme::from_toml(&text) {
            Ok(programme) => programme,
            Err(error) => panic!("{error}\n{text}"),
        };
        let file = programme.file();
        let desk = Desk { file, zone: TimeZone::get(&file.time_zone).expect("the file was checked") };
        for (day, minute, days_before, edge) in moments {
            let on = day_of_2021(day);
            let visit = desk.midnight(on) + i64::from(minute) * 60_000;
            let now = (desk.midnight(on.checked_sub(days_before.days()).expect("a date of these years")) + edge).min(visit + 86_400_000);
            let pool = usize::from(slot_pool).checked_sub(1).and_then(|at| file.pools.get(at));
            let slot = SlotFacts {
                programme: PROGRAMME,
                dose: Dose(pool.and_then(|pool| pool.dose).unwrap_or(0)),
                product: ProductId(slot_product),
                pool: PoolId(slot_pool),
                starts_at: TimestampMs(u64::try_from(visit).expect("after 1970")),
            };
            let asked = Asked {
                party: &party,
                product: usize::from(slot_product).checked_sub(1).and_then(|at| file.products.get(at)),
                pool,
                slot_dose: slot.dose.0,
                dose,
                starts: Timestamp::from_millisecond(visit).expect("an instant"),
                now: Timestamp::from_millisecond(now).expect("an instant"),
            };
            let at = TimestampMs(u64::try_from(now).expect("after 1970"));
            let plain = |told: Result<(), PolicyRefusal>| {
                told.map_err(|no| (no.rule, no.from.map(|from| i64::try_from(from.0).expect("an instant"))))
            };
            let told = plain(programme.may_claim(&party, &slot, Dose(dose), at));
            prop_assert_eq!(told, desk.may_claim(&asked), "claimed at {} for {} in\n{}", asked.now, asked.starts, text);
            let moved = plain(programme.may_be_moved(&party, &slot, Dose(dose), at));
            prop_assert_eq!(programme.invitations(&party, &slot, Dose(dose), at), desk.invitations(&asked), "{}", text);
            prop_assert_eq!(moved, desk.may_be_moved(&asked), "moved at {} to {} in\n{}", asked.now, asked.starts, text);
        }
    }
}
