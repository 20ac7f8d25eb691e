//! Whose turn comes first.

use berth_engine::State;
use hyper::HeaderMap;

use crate::access::Role;
use crate::app::App;
use crate::router::{Endpoint, Route};

/// Classes of requests, the highest first. A unit that is set aside is lost to all others until its holder settles, so that
/// comes first; whoever only looks can look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Settles a claim: confirm, release, cancel, with the code of one that is live.
    Settle,
    /// Makes or changes a claim, or asks what became of one.
    Claim,
    /// Looks.
    Search,
    /// Publishes, exports, and whatever names a code that is none.
    Admin,
}

impl Class {
    pub(crate) const ALL: [Class; 4] = [Class::Settle, Class::Claim, Class::Search, Class::Admin];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Class::Settle => "settle",
            Class::Claim => "claim",
            Class::Search => "search",
            Class::Admin => "admin",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.as_str() == text)
    }

    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    pub(crate) class: Class,
    /// Never refused for want of room.
    pub(crate) exempt: bool,
}

impl Rank {
    fn of(class: Class) -> Rank {
        Rank { class, exempt: false }
    }
}

/// The rank of a request, by its head alone.
pub(crate) fn rank(app: &App, endpoint: &Endpoint, parameter: &str, headers: &HeaderMap) -> Rank {
    match endpoint.route {
        Route::Confirm | Route::Release | Route::Cancel => settling(app, endpoint.route, parameter),
        // How an administrator gets the server out of its trouble; it is one small answer. Only for who shows a key for it:
        // otherwise anybody could send as many as there is processor time for.
        Route::ReadAdmission | Route::ChangeAdmission => {
            let exempt = app.access.has_key(headers, Role::Admin, app.campaign.engine.now());
            Rank { class: Class::Admin, exempt }
        }
        _ if endpoint.roles.is_empty() => Rank::of(Class::Search),
        _ if endpoint.is_for_admins_only() => Rank::of(Class::Admin),
        _ => Rank::of(Class::Claim),
    }
}

/// Priority is for codes that are genuine: they cannot be guessed, so who has one was given it.
// rule: ADM-1 a live hold is known by its record
fn settling(app: &App, route: Route, code: &str) -> Rank {
    let engine = &app.campaign.engine;
    let Some(view) = engine.codes().decode(code).and_then(|number| engine.booking(number)) else {
        return Rank::of(Class::Admin);
    };
    let held = view.state == State::Held && engine.now() < view.expires_at;
    match route {
        Route::Confirm if held => Rank { class: Class::Settle, exempt: true },
        Route::Release if held => Rank::of(Class::Settle),
        Route::Cancel if matches!(view.state, State::Held | State::Booked) => Rank::of(Class::Settle),
        // A repeat of one that was settled, or too late: it will be told so.
        _ => Rank::of(Class::Claim),
    }
}
