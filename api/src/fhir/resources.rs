//! Centres, sessions and slots as resources: the same in an answer, in a bundle and in a published file, but for a slot's status.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use berth_engine::{Counts, ProductId, TimestampMs};
use berth_programme::{Centre, Position, RegionKind, Rules, Session, SlotRef, Window};
use serde::Serialize;

use super::{FhirConfig, Service, ids, status};
use crate::app::App;
use crate::wire::slot_status;

/// Systems of our own names.
pub(super) const CENTRE: &str = "urn:berth:centre";
pub(super) const SESSION: &str = "urn:berth:session";
pub(super) const PRODUCT: &str = "urn:berth:product";
/// The list of vaccines that others go by.
const CVX: &str = "http://hl7.org/fhir/sid/cvx";

/// Extensions of SMART Scheduling Links.
macro_rules! smart {
    ($name:literal) => {
        concat!("http://fhir-registry.smarthealthit.org/StructureDefinition/", $name)
    };
}
pub(super) const VACCINE_PRODUCT: &str = smart!("vaccine-product");
pub(super) const VACCINE_DOSE: &str = smart!("vaccine-dose");
const DEEP_LINK: &str = smart!("booking-deep-link");
const CAPACITY: &str = smart!("slot-capacity");

/// What is told, with all that is looked up for it again and again.
pub(super) struct Teller<'a> {
    pub(super) app: &'a App,
    pub(super) config: &'a FhirConfig,
    pub(super) rules: Rules,
    /// When it is told.
    pub(super) now: TimestampMs,
    /// By district: its name, and that of its state.
    places: HashMap<Arc<str>, (String, String)>,
    /// The windows of a district are mostly the same few.
    windows: HashMap<(TimestampMs, TimestampMs), (String, String)>,
}

#[derive(Serialize)]
pub(super) struct Coding<'a> {
    pub(super) system: &'a str,
    pub(super) code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) display: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Concept<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) coding: Vec<Coding<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Identifier<'a> {
    pub(super) system: &'a str,
    pub(super) value: &'a str,
}

#[derive(Serialize)]
pub(super) struct Reference {
    pub(super) reference: String,
}

/// An extension has one of these.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Extension<'a> {
    pub(super) url: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_coding: Option<Coding<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_integer: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_url: Option<String>,
}

impl Extension<'_> {
    pub(super) fn integer(url: &'static str, value: u32) -> Extension<'static> {
        Extension { url, value_integer: Some(value), ..Extension::default() }
    }
}

#[derive(Serialize)]
struct Telecom<'a> {
    system: &'static str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Address<'a> {
    line: [&'a str; 1],
    city: &'a str,
    district: &'a str,
    state: &'a str,
    postal_code: &'a str,
}

#[derive(Serialize)]
struct At {
    longitude: f64,
    latitude: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location<'a> {
    resource_type: &'static str,
    id: String,
    identifier: [Identifier<'a>; 1],
    status: &'static str,
    name: &'a str,
    mode: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    telecom: Vec<Telecom<'a>>,
    address: Address<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<At>,
}

#[derive(Serialize)]
struct Period<'a> {
    start: &'a str,
    end: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Schedule<'a> {
    resource_type: &'static str,
    id: String,
    extension: Vec<Extension<'a>>,
    identifier: [Identifier<'a>; 1],
    active: bool,
    service_type: [Concept<'a>; 1],
    actor: [Reference; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    planning_horizon: Option<Period<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Slot<'a> {
    resource_type: &'static str,
    id: String,
    extension: Vec<Extension<'a>>,
    schedule: Reference,
    status: &'static str,
    start: &'a str,
    end: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
}

/// Of what is told, for whom.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Who asks for it: as searches tell it.
    Asking,
    /// Who copies all of it: in the fewer words of SMART Scheduling Links.
    Copying,
}

impl<'a> Teller<'a> {
    /// The counts must be read after `now`.
    pub(super) fn new(app: &'a App, now: TimestampMs) -> Teller<'a> {
        let (config, rules) = (&app.limits.fhir, app.campaign.programme.get());
        Teller { app, config, rules, now, places: HashMap::new(), windows: HashMap::new() }
    }

    fn place(&mut self, district: &Arc<str>) -> &(String, String) {
        let catalogue = &self.app.campaign.catalogue;
        self.places.entry(Arc::clone(district)).or_insert_with(|| {
            let of = |kind, id: &str| catalogue.region(kind, id);
            let found = of(RegionKind::District, district);
            let state = found.as_ref().and_then(|d| of(RegionKind::State, d.parent.as_deref()?));
            let name =
                |region: Option<Arc<berth_programme::Region>>| region.map(|r| r.name.to_string()).unwrap_or_default();
            (name(found), name(state))
        })
    }

    pub(super) fn location(&mut self, centre: &Centre, out: &mut Vec<u8>) {
        let config = self.config;
        let catalogue = &self.app.campaign.catalogue;
        let (phone, url) = telecom(config, centre);
        let phone = phone.map(|value| Telecom { system: "phone", value });
        let url = url.map(|value| Telecom { system: "url", value });
        let (district, state) = self.place(&centre.district);
        let address = Address {
            line: [centre.address.as_deref().unwrap_or(&centre.name)],
            city: district,
            district,
            state,
            postal_code: &centre.pincode,
        };
        let at = |p: Position| At { longitude: p.longitude(), latitude: p.latitude() };
        write(
            out,
            &Location {
                resource_type: "Location",
                id: ids::of_centre(catalogue, &centre.id),
                identifier: [Identifier { system: CENTRE, value: &centre.id }],
                status: "active",
                name: &centre.name,
                mode: "instance",
                telecom: phone.into_iter().chain(url).collect(),
                address,
                position: centre.position.map(at),
            },
        );
    }

    pub(super) fn schedule(&self, session: &Session, out: &mut Vec<u8>) {
        let (catalogue, names) = (&self.app.campaign.catalogue, self.app.names());
        // It takes one: that of the standard, if there is one.
        let vaccine = self.vaccine(session.product).into_iter().next();
        let mut extension: Vec<Extension<'_>> = vaccine
            .map(|coding| Extension { url: VACCINE_PRODUCT, value_coding: Some(coding), ..Extension::default() })
            .into_iter()
            .collect();
        extension.extend(self.doses(session).into_iter().map(|dose| Extension::integer(VACCINE_DOSE, dose.into())));
        let start = session.windows.iter().map(|window| window.start).min().map(|at| names.time(at));
        let end = session.windows.iter().map(|window| window.end).max().map(|at| names.time(at));
        write(
            out,
            &Schedule {
                resource_type: "Schedule",
                id: ids::of_session(catalogue, &session.id),
                extension,
                identifier: [Identifier { system: SESSION, value: &session.id }],
                active: true,
                service_type: [services(&self.config.services)],
                actor: [Reference { reference: format!("Location/{}", ids::of_centre(catalogue, &session.centre)) }],
                planning_horizon: start.as_deref().zip(end.as_deref()).map(|(start, end)| Period { start, end }),
            },
        );
    }

    /// What is given, as others know it and as we do.
    pub(super) fn vaccine(&self, product: ProductId) -> Vec<Coding<'_>> {
        let Some(product) = self.rules.product(product) else { return Vec::new() };
        let display = Some(product.name.as_str());
        let known = product.codes.cvx.as_deref().map(|code| Coding { system: CVX, code, display });
        known.into_iter().chain([Coding { system: PRODUCT, code: &product.id, display }]).collect()
    }

    /// The doses that the pools of a session serve; of a pool for any, all of the course.
    fn doses(&self, session: &Session) -> BTreeSet<u8> {
        let course = self.rules.product(session.product).map_or(1, |product| product.doses);
        let pools: BTreeSet<u8> = session.slots.iter().map(|slot| slot.pool.0).collect();
        let of = |pool: u8| match self.rules.pool(berth_engine::PoolId(pool)).and_then(|pool| pool.dose) {
            Some(dose) => dose..=dose,
            None => 1..=course,
        };
        pools.into_iter().flat_map(of).collect()
    }

    /// A slot with its counts: read once, so that status and units are of one instant.
    pub(super) fn slot(
        &mut self,
        (session, window): (&Session, &Window),
        slot: SlotRef,
        counts: Counts,
        audience: Audience,
        out: &mut Vec<u8>,
    ) {
        let (app, config) = (self.app, self.config);
        let names = app.names();
        let in_time = app.campaign.programme.in_time(window.start, self.now).is_ok();
        let (start, end) = &*self
            .windows
            .entry((window.start, window.end))
            .or_insert_with(|| (names.time(window.start), names.time(window.end)));
        let pool = self.rules.pool(slot.pool);
        let (status, units) = match audience {
            Audience::Asking => (slot_status(counts, in_time), counts.free_to_all().get()),
            Audience::Copying => status::published(counts, in_time, self.rules.is_for_anybody(slot.pool)),
        };
        let units = if status == "free" { units } else { counts.capacity().get() };
        let id = names.slot(slot.slot);
        let link = config.booking_link.as_deref().map(|link| {
            link.replace("{slot}", &id).replace("{session}", &session.id).replace("{centre}", &session.centre)
        });
        let dose = pool.and_then(|pool| pool.dose).map(|dose| Extension::integer(VACCINE_DOSE, dose.into()));
        let mut extension = vec![Extension::integer(CAPACITY, units)];
        extension.extend(link.map(|link| Extension { url: DEEP_LINK, value_url: Some(link), ..Extension::default() }));
        extension.extend(dose);
        let schedule = ids::of_session(&app.campaign.catalogue, &session.id);
        write(
            out,
            &Slot {
                resource_type: "Slot",
                id,
                extension,
                schedule: Reference { reference: format!("Schedule/{schedule}") },
                status,
                start,
                end,
                comment: pool.map(|pool| pool.name.as_str()).filter(|_| audience == Audience::Asking),
            },
        );
    }
}

/// Phone and page: a centre's own, or else of whoever answers for all of them.
fn telecom<'a>(config: &'a FhirConfig, centre: &'a Centre) -> (Option<&'a str>, Option<&'a str>) {
    match centre.phone.is_some() || centre.url.is_some() {
        true => (centre.phone.as_deref(), centre.url.as_deref()),
        false => (config.phone.as_deref(), config.url.as_deref()),
    }
}

/// Whether anybody can be asked about a centre, without which it is not published.
pub(super) fn has_telecom(config: &FhirConfig, centre: &Centre) -> bool {
    telecom(config, centre) != (None, None)
}

/// What is offered, in one concept.
pub(super) fn services(services: &[Service]) -> Concept<'_> {
    let codings = services.iter().map(|s| Coding { system: &s.system, code: &s.code, display: Some(&s.display) });
    Concept { coding: codings.collect(), text: None }
}

pub(super) fn write(out: &mut Vec<u8>, resource: &impl Serialize) {
    serde_json::to_writer(out, resource).expect("a resource has only string keys, and writing to memory cannot fail");
}
