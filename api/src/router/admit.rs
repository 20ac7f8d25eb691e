//! Whether a request gets a place, by its head alone: before anything is copied or read, for what is refused here must cost less
//! than what is served.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::HeaderMap;

use super::Endpoint;
use crate::access::Seen;
use crate::admission::{self, Class, Place, Reason, Shed};
use crate::app::App;
use crate::gate;
use crate::problem::Problem;

/// A request that may run.
pub(super) struct Admitted {
    /// Probes have none, and need none.
    pub(super) place: Option<(Place, Class)>,
    /// Who asks, where a key is needed.
    pub(super) seen: Option<Seen>,
}

/// A request that may not.
#[derive(Debug)]
pub(super) enum Turned {
    /// There is no room for it.
    Away(Shed),
    /// It bears nothing that opens anything, where that is needed: it waits in no queue and takes nobody's place.
    Unknown(Problem),
}

/// A place for a request. `from`: whence and when it came. `room`: fewer run than may.
pub(super) async fn admit(
    app: &Arc<App>,
    endpoint: &Endpoint,
    parameter: &str,
    headers: &HeaderMap,
    from: (IpAddr, Instant),
    room: bool,
) -> Result<Admitted, Turned> {
    if endpoint.is_probe() {
        return Ok(Admitted { place: None, seen: None });
    }
    let (peer, now) = from;
    let mut seen = None;
    if !endpoint.roles.is_empty() {
        seen = Some(gate::recognise(app, headers, peer, now).map_err(Turned::Unknown)?);
    }
    if matches!(seen, Some(Seen::Token)) {
        // A signature is looked at before there is a place where it settles a live claim; and where searches are switched off,
        // with which it would be ranked otherwise, and never be known.
        let settles = admission::may_settle(app, endpoint, parameter);
        if settles || !app.admission.takes(Class::Search) {
            let known = gate::verify(app, headers, from, settles).await.map_err(Turned::Unknown)?;
            seen = Some(Seen::Known(known));
        }
    }
    let rank = admission::rank(app, endpoint, parameter, seen.as_ref());
    if !room && !rank.exempt {
        return Err(Turned::Away(app.admission.refuse(rank.class, Reason::Running)));
    }
    let place = app.admission.enter(rank).await.map_err(Turned::Away)?;
    Ok(Admitted { place: Some((place, rank.class)), seen })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::access::{Access, AccessConfig, KeyEntry, Role, held};
    use crate::admission::Settings;
    use crate::problem::Code;
    use crate::router::{Route, TABLE};

    /// A server with a key `p` of a platform, `o` of an operator elsewhere and `a` of an admin; and the code of a live hold.
    fn app(dir: &std::path::Path) -> (Arc<App>, String) {
        let mut app = App::for_test(dir);
        let entry = |role, key: &str| KeyEntry::new(role, "test", crate::access::hash(key));
        let elsewhere = KeyEntry { centres: vec!["c9".to_owned()], ..entry(Role::Operator, "o") };
        let inline = vec![entry(Role::Platform, "p"), elsewhere, entry(Role::Admin, "a")];
        let config = AccessConfig { inline, ..AccessConfig::default() };
        let now = app.campaign.engine.now();
        Arc::get_mut(&mut app).unwrap().access = Access::open(&config, now).unwrap();
        let hold = held(&app);
        let code = app.names().booking(hold);
        (app, code)
    }

    async fn ask(app: &Arc<App>, route: Route, code: &str, key: Option<&str>, room: bool) -> Result<Class, Turned> {
        let endpoint = TABLE.iter().find(|row| row.route == route).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
        }
        let from = (Ipv4Addr::LOCALHOST.into(), Instant::now());
        let admitted = admit(app, endpoint, code, &headers, from, room).await?;
        Ok(admitted.place.unwrap().1)
    }

    fn refused(asked: Result<Class, Turned>) -> Result<Reason, Code> {
        match asked {
            Ok(class) => panic!("it was let in as {class:?}"),
            Err(Turned::Away(shed)) => Ok(shed.reason),
            Err(Turned::Unknown(problem)) => Err(problem.code()),
        }
    }

    // rule: ADM-1
    #[tokio::test]
    async fn only_who_has_the_key_to_a_live_hold_confirms_it_whatever_stands_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let (app, code) = app(dir.path());
        let code = code.as_str();
        let settings = app.admission.settings();
        let full = || {
            let full = Settings {
                mode: crate::admission::Mode::Fixed,
                limit_min: 1,
                limit_max: 1,
                queue_max: 0,
                ..settings.clone()
            };
            app.admission.switch(full);
        };
        full();
        let inside = app.admission.enter(admission::rank(&app, &TABLE[0], "", None)).await.unwrap();
        // The queue is full, and so is the server.
        for room in [true, false] {
            let reason = if room { Reason::QueueFull } else { Reason::Running };
            let confirm = async |code: &str, key| ask(&app, Route::Confirm, code, key, room).await;
            assert_eq!(confirm(code, Some("p")).await.unwrap(), Class::Settle, "room: {room}");
            assert_eq!(refused(confirm(code, None).await), Err(Code::Unauthenticated));
            assert_eq!(refused(confirm(code, Some("q")).await), Err(Code::InvalidKey));
            for other in ["o", "a"] {
                assert_eq!(refused(confirm(code, Some(other)).await), Ok(reason), "{other} confirms nothing");
            }
            assert_eq!(refused(confirm("0126-YN8ZR-4W7CK", Some("p")).await), Ok(reason), "there is no such hold");
            for (route, code) in [(Route::Release, code), (Route::Hold, ""), (Route::CancelGroup, "")] {
                assert_eq!(refused(ask(&app, route, code, Some("p"), room).await), Ok(reason), "{route:?}");
            }
            assert_eq!(ask(&app, Route::ReadAdmission, "", Some("a"), room).await.unwrap(), Class::Admin);
            assert_eq!(refused(ask(&app, Route::ReadAdmission, "", None, room).await), Err(Code::Unauthenticated));
        }
        drop(inside);
        app.campaign.engine.close().unwrap();
    }

    #[tokio::test]
    async fn a_class_is_for_who_may_ask_it() {
        let dir = tempfile::tempdir().unwrap();
        let (app, code) = app(dir.path());
        let class = async |route, code: &str, key| ask(&app, route, code, key, true).await.unwrap();
        assert_eq!(class(Route::Availability, "", None).await, Class::Search);
        assert_eq!(class(Route::Availability, "", Some("q")).await, Class::Search, "no key is needed");
        for (route, of) in [
            (Route::Hold, Class::Claim),
            (Route::Release, Class::Settle),
            (Route::Cancel, Class::Settle),
            (Route::CancelGroup, Class::Settle),
            (Route::BulkBookings, Class::Claim),
            // It is held and not booked yet: nobody is checked in by it.
            (Route::CheckIn, Class::Claim),
        ] {
            assert_eq!(class(route, &code, Some("p")).await, of, "{route:?}");
        }
        assert_eq!(class(Route::Hold, "", Some("a")).await, Class::Admin, "it will be told that it may not");
        assert_eq!(class(Route::CheckIn, &code, Some("o")).await, Class::Admin, "another centre's");
        let engine = &app.campaign.engine;
        let hold = engine.codes().decode(&code).unwrap();
        let command = berth_engine::Command::Confirm { hold };
        let request = berth_engine::Request { command, idempotency: None };
        engine.submit(&request, engine.now()).unwrap().result.unwrap();
        assert_eq!(class(Route::Confirm, &code, Some("p")).await, Class::Claim, "a repeat");
        assert_eq!(class(Route::CheckIn, &code, Some("p")).await, Class::Settle, "somebody stands at the door");
        app.campaign.engine.close().unwrap();
    }
}
