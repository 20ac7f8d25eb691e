//! Whose turn comes first.

use berth_engine::{BookingNumber, State};

use crate::access::{Caller, Seen};
use crate::app::App;
use crate::router::{Endpoint, Route};

/// Classes of requests, the highest first. A unit that is set aside is lost to all others until its holder settles, so that
/// comes first; whoever only looks can look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Settles a claim: confirm, release, cancel, check in, with the code of one that is live and its caller's.
    Settle,
    /// Makes or changes a claim, or asks what became of one.
    Claim,
    /// Looks; and what comes with a token that was not verified yet.
    Search,
    /// Publishes, exports, and whatever names a code that is none or another's.
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

/// The rank of a request, by its head alone. `seen` is who asks, where a key is needed.
pub(crate) fn rank(app: &App, endpoint: &Endpoint, parameter: &str, seen: Option<&Seen>) -> Rank {
    let caller = match seen {
        None => return Rank::of(Class::Search),
        Some(Seen::Known(caller)) if endpoint.roles.contains(&caller.role) => caller,
        // It will be told that its key is for something else.
        Some(Seen::Known(_)) => return Rank::of(Class::Admin),
        // Anybody can write something that looks like a token, so it goes before nothing that anybody may ask.
        Some(Seen::Token) if endpoint.is_for_admins_only() => return Rank::of(Class::Admin),
        Some(Seen::Token) => return Rank::of(Class::Search),
    };
    match endpoint.route {
        Route::Confirm | Route::Release | Route::Cancel | Route::CheckIn => {
            settling(app, endpoint.route, parameter, caller)
        }
        // Its codes are in its body; that its caller is known must do.
        Route::CancelGroup => Rank::of(Class::Settle),
        // How an administrator gets the server out of its trouble; it is one small answer. Only for who shows a key for it:
        // otherwise anybody could send as many as there is processor time for.
        Route::ReadAdmission | Route::ChangeAdmission => Rank { class: Class::Admin, exempt: !caller.is_account() },
        _ if endpoint.is_for_admins_only() => Rank::of(Class::Admin),
        _ => Rank::of(Class::Claim),
    }
}

/// Whether a request names a live claim that it would settle: then its token is worth a look at its signature before there
/// is a place for it. A code cannot be guessed, so nobody can have many signatures looked at by this.
pub(crate) fn may_settle(app: &App, endpoint: &Endpoint, parameter: &str) -> bool {
    matches!(endpoint.route, Route::Confirm | Route::Release | Route::Cancel | Route::CheckIn)
        && live(app, endpoint.route, parameter).is_some_and(|(_, live)| live)
}

/// Priority is for codes that are genuine, from those whose claim it is: they cannot be guessed, so who has one was given it.
// rule: ADM-1 a live hold is known by its record, and whose it is by the caller's key
fn settling(app: &App, route: Route, code: &str, caller: &Caller) -> Rank {
    let Some((number, live)) = live(app, route, code) else { return Rank::of(Class::Admin) };
    let own = match route {
        Route::Confirm | Route::Release => caller.may_touch_hold(number, app),
        _ => caller.may_touch(number, app),
    };
    match (own, live) {
        // To them it is a code that is none.
        (Err(_), _) => Rank::of(Class::Admin),
        (Ok(()), true) => Rank { class: Class::Settle, exempt: route == Route::Confirm },
        // A repeat of one that was settled, or too late: it will be told so.
        (Ok(()), false) => Rank::of(Class::Claim),
    }
}

/// The hold or booking of a code, and whether what the route does to it is still to be done.
fn live(app: &App, route: Route, code: &str) -> Option<(BookingNumber, bool)> {
    let engine = &app.campaign.engine;
    let number = engine.codes().decode(code)?;
    let view = engine.booking(number)?;
    let held = view.state == State::Held && engine.now() < view.expires_at;
    let live = match route {
        Route::Confirm | Route::Release => held,
        Route::Cancel => matches!(view.state, State::Held | State::Booked),
        // Whose booking it is stands at the door.
        _ => view.state == State::Booked,
    };
    Some((number, live))
}
