//! What a query string asks for, and the one way to spell it.

use std::fmt::Write as _;

use berth_engine::{Dose, PoolId, TimestampMs};
use berth_programme::{Cursor, NumberSet, Place, Position, Programme, Query, Spilled, Unknown, is_pincode};
use jiff::civil::Date;

use super::SLOTS_INLINE;
use crate::app::App;
use crate::problem::{Code, Problem};

const DAYS_DEFAULT: u16 = 7;
const DAYS_MAX: u16 = 28;
/// Districts, postal codes, centres, products or pools in one search.
const VALUES_MAX: usize = 50;
const AGE_MAX: u16 = 150;
/// Centres in one answer.
const LIMIT_MAX: u16 = 1000;
/// The same where nothing is said: all of a district, but around a point nobody wants them all.
const LIMIT_DEFAULT: u16 = 1000;
const LIMIT_NEAR: u16 = 25;
/// Parameters of one query; there are fifteen. Also the faults that one sentence names.
const PARAMETERS_MAX: usize = 20;
/// An answer ends after the centre with which it has so many slots: some two megabytes of JSON.
const SLOTS_PER_PAGE: usize = 10_000;
/// It ends, too, when so many were looked at, found or not: some milliseconds of work.
const SLOTS_LOOKED_AT: usize = 100_000;
const RADIUS_KM_DEFAULT: f64 = 25.0;
const RADIUS_KM: (f64, f64) = (0.1, 200.0);

/// A query string, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    place: AskedPlace,
    from: Option<Date>,
    days: u16,
    products: Vec<String>,
    pools: Vec<String>,
    age: Option<u16>,
    dose: Option<u16>,
    free_of_charge: Option<bool>,
    available: bool,
    limit: u16,
    after: Option<Cursor>,
}

#[derive(Clone, Debug, PartialEq)]
enum AskedPlace {
    Districts(Vec<String>),
    Pincodes(Vec<String>),
    Centres(Vec<String>),
    Near { point: Position, radius_m: u32 },
}

impl AskedPlace {
    fn as_place(&self) -> Place<'_> {
        match self {
            AskedPlace::Districts(ids) => Place::Districts(ids),
            AskedPlace::Pincodes(pincodes) => Place::Pincodes(pincodes),
            AskedPlace::Centres(ids) => Place::Centres(ids),
            AskedPlace::Near { point, radius_m } => Place::Near(*point, *radius_m),
        }
    }

    fn limit(&self) -> u16 {
        if matches!(self, AskedPlace::Near { .. }) { LIMIT_NEAR } else { LIMIT_DEFAULT }
    }
}

/// A search that can be answered: what it names is there.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    asked: Asked,
    /// The first date: that of today if none was asked for.
    pub(crate) from: Date,
    products: NumberSet,
    pools: NumberSet,
    /// Pools that spill to the dose that was asked for.
    spilled: Vec<(PoolId, u64)>,
    /// It may be answered where it was asked.
    pub(crate) is_small: bool,
}

/// What is wrong with a query string: all of it, in one sentence.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn take<T>(&mut self, name: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|reason| self.0.push(format!("{name}: {reason}"))).ok()
    }
}

fn malformed(detail: String) -> Problem {
    Problem::new(Code::MalformedRequest, detail)
}

const PLACES: &str = "give exactly one of district, pincode, centre, near";

impl Asked {
    /// Reads a query string.
    pub(crate) fn parse(query: &str) -> Result<Asked, Problem> {
        let mut wrong = Wrong::default();
        let (mut place, mut places, mut point, mut radius_m) = (None, 0, None, None);
        let mut limit = None;
        let mut asked = Asked {
            place: AskedPlace::Centres(Vec::new()),
            from: None,
            days: DAYS_DEFAULT,
            products: Vec::new(),
            pools: Vec::new(),
            age: None,
            dose: None,
            free_of_charge: None,
            available: false,
            limit: 0,
            after: None,
        };
        let mut seen: Vec<String> = Vec::new();
        for (place_in_query, (name, value)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
            if place_in_query == PARAMETERS_MAX {
                wrong.0.push(format!("there are more than {PARAMETERS_MAX} parameters"));
                break;
            }
            if seen.iter().any(|s| *s == name) {
                wrong.0.push(format!("{}: stands twice, give several values with commas", shown(&name)));
                continue;
            }
            seen.push(name.clone().into_owned());
            places += u32::from(matches!(&*name, "district" | "pincode" | "centre" | "near"));
            let mut read = |read: Result<_, String>| wrong.take(&name, read);
            match &*name {
                "district" => place = read(list(&value)).map(AskedPlace::Districts),
                "pincode" => place = read(pincodes(&value)).map(AskedPlace::Pincodes),
                "centre" => place = read(list(&value)).map(AskedPlace::Centres),
                "near" => point = wrong.take("near", near(&value)),
                "radius_km" => radius_m = wrong.take("radius_km", radius(&value)),
                "from" => asked.from = wrong.take("from", date(&value)),
                "days" => asked.days = wrong.take("days", whole(&value, 1, DAYS_MAX)).unwrap_or_default(),
                "product" => asked.products = read(list(&value)).unwrap_or_default(),
                "pool" => asked.pools = read(list(&value)).unwrap_or_default(),
                "age" => asked.age = wrong.take("age", whole(&value, 0, AGE_MAX)),
                "dose" => asked.dose = wrong.take("dose", whole(&value, 1, u16::from(u8::MAX))),
                "fee" => asked.free_of_charge = wrong.take("fee", one_of(&value, "free", "paid")),
                "available" => {
                    asked.available = wrong.take("available", one_of(&value, "true", "false")).unwrap_or(false)
                }
                "limit" => limit = wrong.take("limit", whole(&value, 1, LIMIT_MAX)),
                "cursor" => asked.after = wrong.take("cursor", cursor(&value)),
                other => wrong.0.push(format!("{:?} is not a parameter of this search", shown(other))),
            }
        }
        if let Some(point) = point {
            let radius_m = radius_m.take().unwrap_or_else(|| in_metres(RADIUS_KM_DEFAULT));
            place = Some(AskedPlace::Near { point, radius_m });
        } else if radius_m.is_some() && !seen.iter().any(|name| name == "near") {
            wrong.0.push("radius_km: is nothing without near".to_owned());
        }
        if places != 1 {
            wrong.0.push(PLACES.to_owned());
        }
        match place {
            Some(place) if wrong.0.is_empty() => {
                asked.limit = limit.unwrap_or_else(|| place.limit());
                asked.place = place;
                Ok(asked)
            }
            _ => Err(malformed(wrong.0.join("; "))),
        }
    }

    /// Looks up what it names.
    pub(crate) fn resolve(self, app: &App) -> Result<Resolved, Problem> {
        let (programme, catalogue) = (app.campaign.programme.get(), &app.campaign.catalogue);
        let from = self.from.unwrap_or_else(|| programme.calendar().date(app.campaign.engine.now()));
        let products = named("product", &self.products, |id| programme.product_number(id).map(|n| n.0))?;
        let pools = named("pool", &self.pools, |id| programme.pool_number(id).map(|n| n.0))?;
        let dose = self.dose.and_then(|dose| u8::try_from(dose).ok());
        let mut spilled = dose.map_or_else(Vec::new, |dose| programme.spills_to_dose(Dose(dose)));
        spilled.retain(|(pool, _)| pools.contains(pool.0));
        let (products, pools) = of_dose(&programme, self.dose, (products, pools))?;
        let slots = match self.place.as_place() {
            // Nothing that might not be there, and too much work to find out here.
            Place::Near(..) => usize::MAX,
            place => catalogue.slots_at(&place, from, self.days, SLOTS_INLINE).map_err(|what| unknown(&what))?,
        };
        Ok(Resolved { asked: self, from, products, pools, spilled, is_small: slots <= SLOTS_INLINE })
    }
}

/// A 404 that says what there is not.
pub(crate) fn unknown(what: &Unknown) -> Problem {
    match what {
        Unknown::District(id) => Problem::new(Code::UnknownRegion, format!("there is no district {}", shown(id))),
        Unknown::Centre(id) => Problem::new(Code::UnknownCentre, format!("there is no centre {}", shown(id))),
    }
}

/// What came from outside, not at any length.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The numbers of these names, or of all if there are none.
fn named(what: &str, names: &[String], number: impl Fn(&str) -> Option<u8>) -> Result<NumberSet, Problem> {
    if names.is_empty() {
        return Ok(NumberSet::ALL);
    }
    let found = |name: &String| {
        number(name).ok_or_else(|| malformed(format!("{what}: the programme has no {what} {:?}", shown(name))))
    };
    names.iter().map(found).collect()
}

/// Those that serve a dose: pools for it or for any, products whose course has it.
fn of_dose(
    programme: &Programme,
    dose: Option<u16>,
    (products, pools): (NumberSet, NumberSet),
) -> Result<(NumberSet, NumberSet), Problem> {
    let Some(dose) = dose else { return Ok((products, pools)) };
    let file = programme.file();
    let doses_max = file.products.iter().map(|product| u16::from(product.doses)).max().unwrap_or(0);
    if dose > doses_max {
        return Err(malformed(format!("dose: the programme's products have doses 1 to {doses_max}")));
    }
    let products = (1..)
        .zip(&file.products)
        .filter(|&(number, product)| products.contains(number) && u16::from(product.doses) >= dose);
    let pools = (1..)
        .zip(&file.pools)
        .filter(|&(number, pool)| pools.contains(number) && pool.dose.is_none_or(|only| u16::from(only) == dose));
    Ok((products.map(|(number, _)| number).collect(), pools.map(|(number, _)| number).collect()))
}

impl Resolved {
    pub(crate) fn days(&self) -> u16 {
        self.asked.days
    }

    pub(crate) fn query(&self, now: TimestampMs) -> Query<'_> {
        let Asked { place, days, age, free_of_charge, available, limit, after, .. } = &self.asked;
        Query {
            place: place.as_place(),
            from: self.from,
            days: *days,
            products: self.products,
            pools: self.pools,
            spilled: Spilled { pools: &self.spilled, now },
            age: age.and_then(|age| u8::try_from(age).ok()),
            free_of_charge: *free_of_charge,
            only_free: *available,
            centres_max: usize::from(*limit),
            slots_max: SLOTS_PER_PAGE,
            looked_max: SLOTS_LOOKED_AT,
            after: *after,
        }
    }

    /// The one way to spell it, which is itself a query string: names need no escaping, lists are sorted, defaults are
    /// left out but for the date.
    pub(crate) fn key(&self) -> String {
        self.spelled(self.asked.after)
    }

    /// How to ask for what comes behind this.
    pub(crate) fn next(&self, after: Cursor) -> String {
        self.spelled(Some(after))
    }

    fn spelled(&self, after: Option<Cursor>) -> String {
        let Asked { place, days, products, pools, age, dose, free_of_charge, available, limit, .. } = &self.asked;
        let mut key = match place {
            AskedPlace::Districts(ids) => format!("district={}", ids.join(",")),
            AskedPlace::Pincodes(pincodes) => format!("pincode={}", pincodes.join(",")),
            AskedPlace::Centres(ids) => format!("centre={}", ids.join(",")),
            AskedPlace::Near { point, radius_m } => {
                let (latitude, longitude, radius_km) =
                    (point.latitude(), point.longitude(), f64::from(*radius_m) / 1000.0);
                format!("near={latitude:.3},{longitude:.3}&radius_km={radius_km}")
            }
        };
        let mut say = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a String cannot fail.
            let _ = write!(key, "&{name}={value}");
        };
        say("from", &self.from);
        if *days != DAYS_DEFAULT {
            say("days", days);
        }
        if !products.is_empty() {
            say("product", &products.join(","));
        }
        if let Some(age) = age {
            say("age", age);
        }
        if let Some(dose) = dose {
            say("dose", dose);
        }
        if !pools.is_empty() {
            say("pool", &pools.join(","));
        }
        if let Some(free) = free_of_charge {
            say("fee", &if *free { "free" } else { "paid" });
        }
        if *available {
            say("available", &true);
        }
        if *limit != place.limit() {
            say("limit", limit);
        }
        if let Some(after) = after {
            say("cursor", &after);
        }
        key
    }
}

/// Values with commas between them, sorted, each once. What cannot be a name is left for who looks it up.
fn list(value: &str) -> Result<Vec<String>, String> {
    let mut values: Vec<String> = value.split(',').map(str::to_owned).collect();
    if values.iter().any(String::is_empty) {
        return Err("has an empty value".to_owned());
    }
    values.sort_unstable();
    values.dedup();
    if values.len() > VALUES_MAX {
        return Err(format!("has {} values, more than {VALUES_MAX}", values.len()));
    }
    Ok(values)
}

/// As a list; a wrong one finds nothing and is no fault to look up, so it is one here.
fn pincodes(value: &str) -> Result<Vec<String>, String> {
    let values = list(value)?;
    if values.iter().all(|value| is_pincode(value)) {
        Ok(values)
    } else {
        Err("must be 3 to 10 of A-Z 0-9 -".to_owned())
    }
}

fn near(value: &str) -> Result<Position, String> {
    let point = value.split_once(',').and_then(|(latitude, longitude)| {
        // A point is taken to a thousandth of a degree, 110 metres, so that neighbours share an answer.
        let rounded = |degrees: &str| Some((plain(degrees)? * 1000.0).round() / 1000.0);
        Position::from_degrees(rounded(latitude)?, rounded(longitude)?)
    });
    point.ok_or_else(|| "must be latitude and longitude in degrees, as 19.076,72.878".to_owned())
}

fn radius(value: &str) -> Result<u32, String> {
    let (min, max) = RADIUS_KM;
    let radius = plain(value).filter(|radius| (min..=max).contains(radius)).map(in_metres);
    radius.ok_or_else(|| format!("must be from {min} to {max}"))
}

fn in_metres(km: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within RADIUS_KM")]
    let metres = (km * 1000.0).round() as u32;
    metres
}

/// A number as people write it: `-12.5`, not `inf` or `1e3`.
fn plain(text: &str) -> Option<f64> {
    let good = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
    good.then(|| text.parse().ok()).flatten()
}

fn date(value: &str) -> Result<Date, String> {
    let date = (value.len() == 10).then(|| value.parse().ok()).flatten();
    date.ok_or_else(|| "must be a date as 2026-11-24".to_owned())
}

fn whole(value: &str, min: u16, max: u16) -> Result<u16, String> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| value.parse().ok()).flatten().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("must be from {min} to {max}"))
}

/// Whether it is the first of the two.
fn one_of(value: &str, yes: &str, no: &str) -> Result<bool, String> {
    if value == yes || value == no { Ok(value == yes) } else { Err(format!("must be {yes} or {no}")) }
}

fn cursor(value: &str) -> Result<Cursor, String> {
    value.parse().map_err(|()| "is none that an answer gave".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(query: &str) -> String {
        let problem = Asked::parse(query).expect_err(query);
        assert_eq!(problem.code(), Code::MalformedRequest);
        problem.detail().to_owned()
    }

    #[test]
    fn every_fault_is_named_with_its_parameter() {
        for (query, expected) in [
            ("", PLACES),
            ("days=7", PLACES),
            ("district=1&centre=2", PLACES),
            ("near=1,1&district=1", PLACES),
            ("district=1&district=1", "district: stands twice, give several values with commas"),
            ("district=", "district: has an empty value"),
            ("district=1,,2", "district: has an empty value"),
            ("pincode=4%200", "pincode: must be 3 to 10 of A-Z 0-9 -"),
            ("district=1&days=0", "days: must be from 1 to 28"),
            ("district=1&days=29", "days: must be from 1 to 28"),
            ("district=1&days=%2B7", "days: must be from 1 to 28"),
            ("district=1&from=24.11.2026", "from: must be a date as 2026-11-24"),
            ("district=1&from=2026-11-24T00", "from: must be a date as 2026-11-24"),
            ("district=1&available=1", "available: must be true or false"),
            ("district=1&fee=0", "fee: must be free or paid"),
            ("district=1&age=151", "age: must be from 0 to 150"),
            ("district=1&dose=0", "dose: must be from 1 to 255"),
            ("district=1&limit=1001", "limit: must be from 1 to 1000"),
            ("district=1&cursor=7", "cursor: is none that an answer gave"),
            ("district=1&sort=name", "\"sort\" is not a parameter of this search"),
            ("district=1&radius_km=5", "radius_km: is nothing without near"),
            ("near=91,1", "near: must be latitude and longitude in degrees, as 19.076,72.878"),
            ("near=1", "near: must be latitude and longitude in degrees, as 19.076,72.878"),
            ("near=nan,1", "near: must be latitude and longitude in degrees, as 19.076,72.878"),
            ("near=1,1&radius_km=0", "radius_km: must be from 0.1 to 200"),
            ("near=1,1&radius_km=1e1", "radius_km: must be from 0.1 to 200"),
            (
                "days=x&sort=&age=y&days=2",
                "days: must be from 1 to 28; \"sort\" is not a parameter of this search; age: must be from 0 to 150; days: stands twice, give several values with commas; give exactly one of district, pincode, centre, near",
            ),
        ] {
            assert_eq!(detail(query), expected, "{query}");
        }
        let many = (0..51).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(detail(&format!("district={many}")), "district: has 51 values, more than 50");
        let many = (0..10_000).map(|n| format!("p{n}")).collect::<Vec<_>>().join("&");
        assert!(
            detail(&many)
                .ends_with("; there are more than 20 parameters; give exactly one of district, pincode, centre, near")
        );
        assert!(detail(&"days=0&".repeat(10_000)).len() < 2000);
    }

    #[test]
    fn every_spelling_of_a_query_is_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let app = App::for_test(dir.path());
        let key = |query: &str| Asked::parse(query).unwrap().resolve(&app).unwrap().key();
        let today = app.campaign.programme.calendar().date(app.campaign.engine.now());
        let near = format!("near=19.076,-72.878&radius_km=25&from={today}&product=covaxin,covishield&fee=free");
        for spelling in [
            near.as_str(),
            "near=19.0760,-72.8780&product=covaxin,covishield&fee=free",
            "fee=free&near=19.0764,-72.8778&product=covishield,covaxin,covishield&radius_km=25.0",
            "near=19.076%2C-72.878&pr%6Fduct=covaxin%2Ccovishield&fee=free&days=7&limit=25&available=false",
            &format!(
                "available=false&from={today}&near=019.076,-72.878&fee=free&product=covishield,covaxin&radius_km=025"
            ),
        ] {
            assert_eq!(key(spelling), near, "{spelling}");
        }
        let pincode = "pincode=400001,400002&from=2026-11-24&days=28&age=45&dose=2&pool=dose2,open&available=true&limit=5&cursor=0-1f";
        assert_eq!(key(pincode), pincode);
        let other = "pool=open,dose2&limit=5&cursor=0-1f&dose=2&age=45&available=true&days=28&from=2026-11-24&pincode=400002,400001";
        assert_eq!(key(other), pincode);
        assert_ne!(key("pincode=400001"), key("pincode=400002"));
        assert_eq!(key("near=-0.0001,0.0004"), format!("near=0.000,0.000&radius_km=25&from={today}"));
        app.campaign.engine.close().unwrap();
    }

    #[test]
    fn what_a_search_names_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let app = App::for_test(dir.path());
        let told = |query: &str| {
            Asked::parse(query).unwrap().resolve(&app).map(|_| ()).map_err(|p| (p.code(), p.detail().to_owned()))
        };
        let malformed = |detail: &str| Err((Code::MalformedRequest, detail.to_owned()));
        assert_eq!(told("district=9"), Err((Code::UnknownRegion, "there is no district 9".to_owned())));
        assert_eq!(told("centre=c%009"), Err((Code::UnknownCentre, "there is no centre c\09".to_owned())));
        assert_eq!(told("pincode=999999"), Ok(()));
        assert_eq!(told("pincode=999999&pool=dose1,vip"), malformed("pool: the programme has no pool \"vip\""));
        assert_eq!(told("pincode=999999&product=x"), malformed("product: the programme has no product \"x\""));
        assert_eq!(told("pincode=999999&dose=3"), malformed("dose: the programme's products have doses 1 to 2"));
        app.campaign.engine.close().unwrap();
    }
}
