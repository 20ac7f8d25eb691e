//! What others read of a cell in the words of FHIR R4 (4.0.1): centres as Locations, sessions as Schedules, slots as Slots; and, to
//! who shows a credential, bookings as Appointments and doses as Immunizations. Read only.
//!
//! And SMART Scheduling Links: all that can be booked, in files for whoever copies it ([`publish`]).
//!
//! Nothing here decides anything. Who may see a booking or a dose at `/v1` may see it here, and nobody else; what is told of the
//! catalogue is kept as searches are ([`kept`]), apart from them.

pub(crate) mod appointments;
pub(crate) mod capability;
pub(crate) mod ids;
pub(crate) mod immunizations;
pub(crate) mod locations;
pub(crate) mod outcome;
pub(crate) mod publish;
pub(crate) mod schedules;
pub(crate) mod slots;

mod bundle;
mod by_patient;
mod kept;
mod query;
mod resources;
mod status;

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::router::{Endpoint, Route};
use crate::search::{Search, SearchConfig};

/// What an operator says of it. Checked by [`crate::config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FhirConfig {
    /// How others reach this server; without a slash at its end.
    pub(crate) public_url: Option<String>,
    /// The page on which a slot is booked, with names in braces.
    pub(crate) booking_link: Option<String>,
    /// Whom to ring up where a centre has no phone.
    pub(crate) phone: Option<String>,
    /// What page to open where a centre has none.
    pub(crate) url: Option<String>,
    /// What is offered.
    pub(crate) services: Vec<Service>,
    /// How published files are kept, and in as much memory again what else is told; that is as old as searches may be.
    pub(crate) kept: SearchConfig,
}

/// A coding of what is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) system: String,
    pub(crate) code: String,
    pub(crate) display: String,
}

impl Service {
    /// As SMART Scheduling Links has it.
    pub(crate) fn covid_19_immunization() -> Vec<Service> {
        let smart = "http://fhir-registry.smarthealthit.org/CodeSystem/service-type";
        let codings = [
            ("http://terminology.hl7.org/CodeSystem/service-type", "57", "Immunization"),
            (smart, "covid19-immunization", "COVID-19 Immunization Appointment"),
        ];
        let owned = |(system, code, display): (&str, &str, &str)| Service {
            system: system.to_owned(),
            code: code.to_owned(),
            display: display.to_owned(),
        };
        codings.map(owned).into()
    }
}

impl Default for FhirConfig {
    fn default() -> FhirConfig {
        FhirConfig {
            public_url: None,
            booking_link: None,
            phone: None,
            url: None,
            services: Service::covid_19_immunization(),
            kept: SearchConfig { staleness: Duration::from_secs(30), cache_bytes: 256 << 20 },
        }
    }
}

impl FhirConfig {
    /// What stands before every path; empty where nobody said.
    fn base(&self) -> &str {
        self.public_url.as_deref().unwrap_or("")
    }
}

/// Whether what answers there speaks FHIR, when it refuses, too.
pub(crate) fn speaks(path: &str) -> bool {
    path == "/fhir" || path.starts_with("/fhir/") || path == "/smart" || path.starts_with("/smart/")
}

/// Where answers of it are kept, if they are.
pub(crate) fn kept_in(app: &App, route: Route) -> Option<&Arc<Search>> {
    match route {
        Route::FhirLocations | Route::FhirSchedules | Route::FhirSlots => Some(&app.fhir),
        Route::BulkPublish => Some(&app.manifest),
        Route::PublishedLocations | Route::PublishedSchedules | Route::PublishedSlots => Some(&app.published),
        _ => None,
    }
}

/// Whether it is a search that names a party in its query.
pub(crate) fn is_by_patient(route: Route) -> bool {
    matches!(route, Route::FhirAppointments | Route::FhirImmunizations)
}

/// The party that a search names, as a path would name it.
pub(crate) fn patient(endpoint: &Endpoint, query: Option<&str>) -> Option<String> {
    let query = query.filter(|_| is_by_patient(endpoint.route))?;
    let (_, patient) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| query::PATIENT.contains(&&**name))?;
    Some(query::party(&patient).to_owned())
}
