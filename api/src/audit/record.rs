//! One line of the audit log: who, what, whom, when, and how it ended. Names and ids, never secrets or personal data.

use berth_engine::{BookingNumber, PartyId};
use serde::Serialize;

use crate::access::{Caller, hex};
use crate::app::App;
use crate::fhir;
use crate::router::Endpoint;
use crate::wire::Names;

/// A line, its members in this order.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    /// UTC, to the millisecond.
    pub(crate) at: jiff::Timestamp,
    /// The trace that the request is part of, its caller's or its own.
    pub(crate) trace: String,
    pub(crate) role: &'static str,
    /// A key's name. Of an account its digest: an account may be a phone number.
    pub(crate) who: String,
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    #[serde(flatten)]
    pub(crate) whom: Whom,
    /// Why they asked, where they said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) status: u16,
    /// `ok`, or the code of the refusal.
    pub(crate) outcome: &'static str,
}

/// What a request names in its path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Whom {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) party: Option<String>,
    /// Those it came to, where the path names none: `p1.17`, and `p1.20..p1.29` of many in a row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) parties: Vec<String>,
    /// By its reference: a code would let whoever reads the log act on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) booking: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) centre: Option<String>,
}

/// Rides on an answer to the audit log: the parties that a request came to, which its path does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CameTo(pub(crate) Vec<String>);

/// Parties as a line names them: many in a row by the first and the last.
pub(crate) fn in_rows(names: &Names<'_>, mut parties: Vec<PartyId>) -> Vec<String> {
    parties.sort_unstable();
    parties.dedup();
    let rows = parties.chunk_by(|one, next| next.0 - one.0 == 1).flat_map(|row| match row {
        [first, _, .., last] => vec![format!("{}..{}", names.party(*first), names.party(*last))],
        few => few.iter().map(|party| names.party(*party)).collect(),
    });
    rows.collect()
}

/// Who it was, as the log names them.
pub(crate) fn who(caller: &Caller) -> String {
    if caller.is_account() { format!("account:{}", hex(&caller.id()[..8])) } else { caller.name.clone() }
}

impl Whom {
    /// What the path of a request names, as far as there is such a thing: what does not parse is not repeated.
    pub(crate) fn of(app: &App, endpoint: &Endpoint, parameters: &[&str]) -> Whom {
        let mut whom = Whom::default();
        let names = app.names();
        let named = endpoint.template.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        // A search of FHIR names its party in the query.
        let by_patient = fhir::is_by_patient(endpoint.route).then_some("party");
        for (name, text) in named.chain(by_patient).zip(parameters) {
            let id = || berth_programme::is_name(text).then(|| (*text).to_owned());
            match name {
                "booking" | "hold" => {
                    if let Ok(number) = names.parse_booking(text) {
                        whom.booking(app, number);
                    }
                }
                "appointment" => {
                    if let Ok(number) = fhir::ids::booking(&names, text) {
                        whom.booking(app, number);
                    }
                }
                "immunization" => {
                    if let Ok(number) = fhir::ids::dose(&names, text) {
                        whom.booking(app, number);
                    }
                }
                "certificate" => {
                    let dose = text.parse().ok().zip(app.certificates.as_ref());
                    if let Some((number, _)) = dose.and_then(|(id, desk)| desk.register.dose(&id)) {
                        whom.booking(app, number);
                    }
                }
                "dose" => {
                    if let Ok(number) = names.parse_dose(text) {
                        whom.booking(app, number);
                    }
                }
                "reference" => {
                    if let Ok(number) = names.parse_reference(text) {
                        whom.booking(app, number);
                    }
                }
                "party" => whom.party = names.parse_party(text).ok().map(|party| names.party(party)),
                "slot" => whom.slot = names.parse_slot(text).ok().map(|slot| names.slot(slot)),
                "session" => whom.session = id(),
                "centre" => whom.centre = id(),
                _ => {}
            }
        }
        whom
    }

    fn booking(&mut self, app: &App, number: BookingNumber) {
        let names = app.names();
        self.booking = Some(names.reference(number));
        // Whose it is, whatever became of it; nothing if there is no such booking.
        if let Some((claim, _)) = app.campaign.engine.claimed(number) {
            self.party = Some(names.party(claim.party));
            self.slot = Some(names.slot(claim.slot));
        }
    }
}
