//! Centres as Locations.

use berth_engine::TimestampMs;
use berth_programme::{Centre, Numbered, Place, Position, RegionKind};
use hyper::{Response, StatusCode};

use super::bundle::Bundle;
use super::ids;
use super::kept::{self, Question, Rendered};
use super::query::Params;
use super::resources::{CENTRE, Teller};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, respond};

const PATH: &str = "/fhir/Location";
const PARAMETERS: [&str; 7] =
    ["_id", "identifier", "name", "address-city", "address-state", "address-postalcode", "near"];
/// Centres looked at for one page of a search by name alone; then it ends, short, and says where it goes on.
const LOOKS_MAX: usize = 20_000;
const RADIUS_M_DEFAULT: u32 = 25_000;
const RADIUS_M_MAX: f64 = 200_000.0;

/// `GET /fhir/Location/{location}`
pub(crate) fn read(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    Params::read(call.query.as_deref(), &[]).checked()?;
    let centre = ids::centre(&call.app.campaign.catalogue, &call.parameter).ok_or_else(|| unknown(&call.parameter))?;
    let mut body = Vec::new();
    Teller::new(&call.app, call.app.campaign.engine.now()).location(&centre, &mut body);
    Ok(respond(StatusCode::OK, call.gives, body))
}

/// The no to a location that is not there.
pub(super) fn unknown(id: &str) -> Problem {
    let shown: String = id.chars().take(80).collect();
    Problem::new(Code::UnknownCentre, format!("there is no Location {shown}"))
}

/// What a search asks for.
struct Asked {
    /// Found by these, if any stands.
    ids: Option<Vec<String>>,
    pincodes: Vec<String>,
    near: Option<(Position, u32)>,
    cities: Vec<String>,
    states: Vec<String>,
    names: Vec<String>,
    /// Behind this distance and number.
    after: Option<(u32, u32)>,
    count: usize,
    params: Params,
}

/// `GET /fhir/Location`
pub(crate) async fn search(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let asked = Asked::parse(call)?;
    let is_small = asked.ids.is_some() && asked.count <= 100;
    let question = Question::of_search(asked.params.spelled());
    kept::answer(call, question, |_| Ok(is_small), move |app, now| asked.render(app, now)).await
}

impl Asked {
    fn parse(call: &Call) -> Result<Asked, Problem> {
        let mut params = Params::read(call.query.as_deref(), &PARAMETERS);
        let (by_id, by_identifier) = (params.has("_id"), params.has("identifier"));
        let catalogue = &call.app.campaign.catalogue;
        let by_ids = params.references("_id", "Location").into_iter();
        let mut found: Vec<String> =
            by_ids.filter_map(|id| ids::centre(catalogue, &id)).map(|centre| centre.id.to_string()).collect();
        let named = params.identifiers("identifier", CENTRE);
        if by_id && by_identifier {
            found.retain(|id| named.contains(id));
        } else {
            found.extend(named.into_iter().filter(|id| catalogue.centre(id).is_some()));
        }
        let lower = |list: Vec<String>| list.iter().map(|text| text.to_lowercase()).collect::<Vec<_>>();
        let near = params.one("near");
        let near = near.and_then(|text| {
            let near = near_of(&text);
            if near.is_none() {
                params
                    .fault("near: must be latitude|longitude|distance|km or m, as 19.076|72.878|10|km, at most 200 km");
            }
            near
        });
        let after = params.after.clone().and_then(|text| {
            let after = text
                .split_once('-')
                .and_then(|(distance, number)| Some((distance.parse().ok()?, number.parse().ok()?)));
            let after: Option<(u32, u32)> = after.filter(|(distance, number)| format!("{distance}-{number}") == text);
            if after.is_none() {
                params.fault("_after: is none that an answer gave");
            }
            after
        });
        let asked = Asked {
            ids: (by_id || by_identifier).then_some(found),
            pincodes: params.list("address-postalcode"),
            near,
            cities: lower(params.list("address-city")),
            states: lower(params.list("address-state")),
            names: lower(params.list("name")),
            after,
            count: params.count,
            params,
        };
        asked.params.checked()?;
        Ok(asked)
    }

    /// Those that the catalogue finds by a list of its own; `None`: it would have to look at all.
    fn listed(&self, app: &App, districts: Option<&[String]>) -> Option<Vec<Numbered>> {
        let place = match (&self.ids, self.near, districts) {
            (_, Some((point, radius_m)), _) => Place::Near(point, radius_m),
            (Some(ids), None, _) => Place::Centres(ids),
            (None, None, _) if !self.pincodes.is_empty() => Place::Pincodes(&self.pincodes),
            (None, None, Some(districts)) => Place::Districts(districts),
            (None, None, None) => return None,
        };
        // What was looked up a moment ago is still there.
        Some(app.campaign.catalogue.centres_at(&place).unwrap_or_default())
    }

    /// The districts of the cities and states asked for; `None`: of all.
    fn districts(&self, app: &App) -> Option<Vec<String>> {
        if self.cities.is_empty() && self.states.is_empty() {
            return None;
        }
        let regions = app.campaign.catalogue.regions();
        let named = |names: &[String], name: &str| {
            let name = name.to_lowercase();
            names.is_empty() || names.iter().any(|asked| name.starts_with(asked))
        };
        let states = regions.iter().filter(|r| r.kind == RegionKind::State && named(&self.states, &r.name));
        let states: Vec<&str> = states.map(|state| &*state.id).collect();
        let of_state = |parent: Option<&str>| parent.is_some_and(|parent| states.contains(&parent));
        let districts = regions.iter().filter(|r| {
            r.kind == RegionKind::District && of_state(r.parent.as_deref()) && named(&self.cities, &r.name)
        });
        Some(districts.map(|district| district.id.to_string()).collect())
    }

    fn matches(&self, centre: &Centre, districts: Option<&[String]>) -> bool {
        let name = || centre.name.to_lowercase();
        self.ids.as_ref().is_none_or(|ids| ids.iter().any(|id| **id == *centre.id))
            && districts.is_none_or(|districts| districts.iter().any(|d| **d == *centre.district))
            && (self.pincodes.is_empty() || self.pincodes.iter().any(|p| **p == *centre.pincode))
            && (self.names.is_empty() || self.names.iter().any(|asked| name().starts_with(asked)))
    }

    fn render(&self, app: &App, now: TimestampMs) -> Rendered {
        let base = app.limits.fhir.base();
        let mut teller = Teller::new(app, now);
        let mut bundle = Bundle::new(base, PATH);
        let districts = self.districts(app);
        let districts = districts.as_deref();
        let key = |n: &Numbered| (n.distance_m.unwrap_or(0), n.number);
        let is_behind = |n: &Numbered| self.after.is_none_or(|after| key(n) > after);
        // Where the next page begins: behind the last that was told or looked at.
        let cursor = |n: &Numbered| format!("{}-{}", n.distance_m.unwrap_or(0), n.number);
        let (mut next, mut total) = (None, None);
        let mut tell = |found: &Numbered, bundle: &mut Bundle<'_>| {
            let search = found.distance_m.map(distance).unwrap_or_default();
            let id = ids::of_centre(&app.campaign.catalogue, &found.centre.id);
            bundle.push(&id, &search, |out| teller.location(&found.centre, out));
        };
        match self.listed(app, districts) {
            Some(listed) => {
                let matching: Vec<_> = listed.iter().filter(|n| self.matches(&n.centre, districts)).collect();
                total = Some(matching.len());
                let mut rest = matching.into_iter().filter(|n| is_behind(n));
                next = bundle.fill(&self.params, &mut rest, |bundle, found| {
                    tell(found, bundle);
                    cursor(found)
                });
            }
            None => {
                let first = self.after.map_or(0, |(_, number)| number.saturating_add(1));
                // Where every one of them is told no more need be looked at.
                let looks = if self.names.is_empty() { self.count } else { LOOKS_MAX };
                let looked = app.campaign.catalogue.centres_from(first, looks + 1);
                if self.names.is_empty() {
                    total = Some(app.campaign.catalogue.centre_count());
                }
                let mut last = None;
                for (looks, found) in looked.iter().enumerate() {
                    if looks == LOOKS_MAX || bundle.len >= self.count {
                        next = last.map(|last| self.params.after(Some(&cursor(last))));
                        break;
                    }
                    last = Some(found);
                    if self.matches(&found.centre, districts) {
                        tell(found, &mut bundle);
                    }
                }
            }
        }
        bundle.rendered(&self.params, total, next)
    }
}

/// How far it is, as FHIR says it of an entry.
fn distance(metres: u32) -> String {
    format!(
        "\"extension\":[{{\"url\":\"http://hl7.org/fhir/StructureDefinition/location-distance\",\"valueDistance\":{{\
         \"value\":{:.1},\"unit\":\"km\",\"system\":\"http://unitsofmeasure.org\",\"code\":\"km\"}}}}],",
        f64::from(metres) / 1000.0
    )
}

/// `latitude|longitude|distance|unit`, of which the last two may be missing. The point is taken to a thousandth of a degree, as in
/// searches, so that neighbours share an answer.
fn near_of(text: &str) -> Option<(Position, u32)> {
    let mut parts = text.split('|');
    let plain = |text: &str| {
        let good = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
        good.then(|| text.parse::<f64>().ok()).flatten()
    };
    let degrees = |text: &str| Some((plain(text)? * 1000.0).round() / 1000.0);
    let point = Position::from_degrees(degrees(parts.next()?)?, degrees(parts.next()?)?)?;
    let Some(distance) = parts.next() else { return Some((point, RADIUS_M_DEFAULT)) };
    let metres = plain(distance)? * if parts.next().unwrap_or("km") == "km" { 1000.0 } else { 1.0 };
    let unit = text.split('|').nth(3).unwrap_or("km");
    let good = matches!(unit, "km" | "m") && text.split('|').count() <= 4 && (100.0..=RADIUS_M_MAX).contains(&metres);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range")]
    let radius_m = metres.round() as u32;
    good.then_some((point, radius_m))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_as_fhir_writes_it() {
        let point = Position::from_degrees(19.076, 72.878);
        let near = |text: &str| near_of(text).map(|(at, radius)| (Some(at) == point, radius));
        assert_eq!(near("19.076|72.8779"), Some((true, 25_000)));
        assert_eq!(near("19.076|72.878|11.2|km"), Some((true, 11_200)));
        assert_eq!(near("19.076|72.878|500|m"), Some((true, 500)));
        assert_eq!(near("19.076|72.878|200"), Some((true, 200_000)));
        for bad in [
            "",
            "19.076",
            "19.076|",
            "x|y",
            "91|0",
            "19|73|0|km",
            "19|73|201|km",
            "19|73|5|mi",
            "19|73|5|km|x",
            "19|73|inf|km",
        ] {
            assert_eq!(near(bad), None, "{bad}");
        }
    }
}
