//! Long lists: the bookings of a centre's day, and all that a party ever had.

use serde_json::{Value, json};

use crate::acks::without_its_redis;
use crate::client::Reply;
use crate::server::{Server, claim, claims, sha256, tomorrow};

const OPERATOR: (&str, &str) = ("authorization", "Bearer operator");

fn server() -> Server {
    let key = |name: &str, centre: &str, secret: &str| {
        let hash = sha256(secret);
        format!("[[keys]]\nrole = 'operator'\nname = '{name}'\nsha256 = '{hash}'\ncentres = ['{centre}']\n")
    };
    let server = Server::start_with(&(key("o", "c1", "operator") + &key("e", "c2", "elsewhere")));
    server.add_places();
    server.add_parties(20);
    server
}

fn book(server: &Server, party: &str, slot: &str) -> String {
    let booked = server.post("/v1/bookings", &claims(&[claim(party, slot)])).expect(201);
    booked["hold"].as_str().unwrap().to_owned()
}

fn day(server: &Server, query: &str) -> Reply {
    server.send("GET", &format!("/v1/centres/c1/days/{}/bookings{query}", tomorrow()), &[OPERATOR], b"")
}

fn codes(page: &Value) -> Vec<&str> {
    page["bookings"].as_array().unwrap().iter().map(|row| row["booking"].as_str().unwrap()).collect()
}

/// Follows `next` and the link, which must say the same, from this path to the end.
fn pages(server: &Server, key: (&str, &str), first: &str) -> Vec<Vec<String>> {
    let mut path = first.to_owned();
    let mut pages = Vec::new();
    loop {
        let reply = server.send("GET", &path, &[key], b"");
        let page = reply.expect(200);
        pages.push(codes(&page).into_iter().map(str::to_owned).collect());
        assert!(pages.len() < 30, "it ends: {pages:?}");
        let Some(next) = page.get("next") else {
            assert_eq!(reply.header("link"), None);
            return pages;
        };
        let link = reply.header("link").unwrap();
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        let cursor = path.split("cursor=").nth(1).unwrap().split('&').next().unwrap();
        let plain = percent_encoding::percent_decode_str(cursor).decode_utf8().unwrap();
        assert_eq!(plain, next.as_str().unwrap());
    }
}

#[test]
fn an_operator_lists_the_day_of_its_centre_by_window() {
    let server = server();
    let slots = server.add_slots("s", &[9, 9]);
    let (a, b) = (book(&server, "p1.0", &slots[1]), book(&server, "p1.1", &slots[0]));
    let held = server.post("/v1/holds", &claims(&[claim("p1.2", &slots[0]), claim("p1.3", &slots[0])])).expect(201);
    let gone = book(&server, "p1.4", &slots[1]);
    server.post(&format!("/v1/bookings/{gone}/cancel"), &Value::Null).expect(200);
    let (h1, h2) = (held["hold"].as_str().unwrap(), held["claims"][1]["booking"].as_str().unwrap());

    let page = day(&server, "").expect(200);
    let date = tomorrow();
    assert_eq!((&page["centre"], &page["date"], page.get("next")), (&json!("c1"), &json!(date.to_string()), None));
    assert_eq!(codes(&page), [h2, h1, b.as_str(), gone.as_str(), a.as_str()], "by window, of each the newest first");
    let first = json!({"start": format!("{date}T09:00:00+05:30"), "end": format!("{date}T10:00:00+05:30"), "session": "s",
        "slot": slots[0], "pool": "dose1", "booking": h2, "hold": h1, "state": "held", "party": "p1.3", "dose": 1,
        "expires_at": held["expires_at"]});
    assert_eq!(page["bookings"][0], first);
    assert_eq!(codes(&day(&server, "?state=booked").expect(200)), [b.as_str(), a.as_str()]);
    assert_eq!(codes(&day(&server, "?state=cancelled,held").expect(200)), [h2, h1, gone.as_str()]);

    for limit in 1..=5 {
        let first = format!("/v1/centres/c1/days/{date}/bookings?limit={limit}");
        let pages = pages(&server, OPERATOR, &first);
        assert_eq!(pages.concat(), [h2, h1, b.as_str(), gone.as_str(), a.as_str()], "{limit}");
        assert!(pages.iter().all(|page| page.len() <= limit), "{pages:?}");
    }
    let first = format!("/v1/centres/c1/days/{date}/bookings?limit=1&state=booked");
    assert_eq!(pages(&server, OPERATOR, &first).concat(), [b.as_str(), a.as_str()]);
}

#[test]
fn the_day_is_a_table_for_a_spreadsheet_that_runs_nothing() {
    let server = server();
    // A session may be called what a sheet takes for a formula.
    let slots = server.add_slots("-1-2", &[9]);
    let booking = book(&server, "p1.0", &slots[0]);
    book(&server, "p1.1", &slots[0]);
    let path = format!("/v1/centres/c1/days/{}/bookings?limit=1", tomorrow());
    let csv = |accept: &str| server.send("GET", &path, &[OPERATOR, ("accept", accept)], b"");
    let table = csv("text/csv");
    assert_eq!((table.status, table.header("content-type")), (200, Some("text/csv; charset=utf-8; header=present")));
    let rows: Vec<_> = table.text().split("\r\n").collect();
    assert_eq!(rows[0], "start,end,session,slot,pool,booking,hold,state,party,dose,expires_at");
    assert!(rows[1].contains(",'-1-2,") && rows[1].ends_with(",booked,p1.1,1,"), "{rows:?}");
    assert_eq!((rows.len(), rows[2]), (3, ""));
    let next = table.header("link").unwrap().split(['<', '>']).nth(1).unwrap().to_owned();
    let rest = server.send("GET", &next, &[OPERATOR, ("accept", "text/csv")], b"");
    assert!(rest.text().contains(&booking) && rest.header("link").is_none(), "{}", rest.text());
    assert_eq!(csv("application/json;q=0.5, text/csv;q=0.9").header("content-type"), table.header("content-type"));
    assert_eq!(csv("*/*").header("content-type"), Some("application/json"));
    csv("image/png").expect_problem(406, "not_acceptable");
}

#[test]
fn a_day_is_for_its_operator_and_a_cursor_for_its_list() {
    let server = server();
    let slots = server.add_slots("s", &[9]);
    let booking = book(&server, "p1.0", &slots[0]);
    let path = format!("/v1/centres/c1/days/{}/bookings", tomorrow());
    server.get(&path).expect_problem(401, "unauthenticated");
    server.send("GET", &path, &[("authorization", "Bearer elsewhere")], b"").expect_problem(403, "forbidden");
    server.read(&path).expect(200);
    server.send("GET", &path, &[("authorization", "Bearer admin-key")], b"").expect_problem(403, "forbidden");
    let ask = |path: &str| server.send("GET", path, &[OPERATOR], b"");
    ask(&path.replace("/c1/", "/c9/")).expect_problem(404, "unknown_centre");
    for bad in ["x", "2026-1-1", "2026-13-01", "20261124"] {
        ask(&format!("/v1/centres/c1/days/{bad}/bookings")).expect_problem(400, "malformed_request");
    }
    assert_eq!(codes(&ask("/v1/centres/c1/days/2020-01-01/bookings").expect(200)).len(), 0);
    for query in
        ["limit=0", "state=gone", "cursor=x", "cursor=s1.0", "cursor=s1.0~x", "cursor=s1.0~0126-YN8ZR-4W7CK", "page=1"]
    {
        ask(&format!("{path}?{query}")).expect_problem(400, "malformed_request");
    }
    // Another day's slot is no cursor of this one.
    ask(&format!("{path}?cursor=s1.64~{booking}")).expect_problem(400, "malformed_request");
}

#[test]
fn a_partys_history_is_all_it_ever_had() {
    let server = server();
    let slots = server.add_slots("s", &[9, 9]);
    let first = book(&server, "p1.0", &slots[0]);
    book(&server, "p1.1", &slots[0]);
    let moved = server.post(&format!("/v1/bookings/{first}/move"), &json!({"slot": slots[1]})).expect(200);
    let second = moved["booking"].as_str().unwrap().to_owned();
    server.post(&format!("/v1/bookings/{second}/cancel"), &Value::Null).expect(200);
    let third = book(&server, "p1.0", &slots[0]);
    let server = server.kill_and_restart();
    let path = "/v1/parties/p1.0/history";
    let history = server.read(path).expect(200);
    let states: Vec<_> = history["bookings"].as_array().unwrap().iter().map(|b| b["state"].as_str().unwrap()).collect();
    assert_eq!((&history["party"], states), (&json!("p1.0"), vec!["booked", "cancelled", "moved"]));
    let all = [third.as_str(), second.as_str(), first.as_str()];
    assert_eq!(codes(&history), all);
    assert_eq!(history["bookings"][2]["moved_to"], second);
    let platform = ("authorization", "Bearer platform-key");
    for limit in 1..=3 {
        let pages = pages(&server, platform, &format!("{path}?limit={limit}"));
        assert_eq!(pages.concat(), all);
        assert!(pages.iter().all(|page| page.len() <= limit));
    }
    assert_eq!(server.read("/v1/parties/p1.9/history").expect(200)["bookings"], json!([]));
    server.read("/v1/parties/p1.99/history").expect_problem(404, "unknown_party");
    server.read("/v1/parties/x/history").expect_problem(400, "malformed_id");
    // A cursor of another party's list is none of this one.
    let other = codes(&server.read("/v1/parties/p1.1/history").expect(200))[0].to_owned();
    server.read(&format!("{path}?cursor={other}")).expect_problem(400, "malformed_request");
    for query in ["limit=x", "state=held", "cursor=x"] {
        server.read(&format!("{path}?{query}")).expect_problem(400, "malformed_request");
    }
    server.get(path).expect_problem(401, "unauthenticated");
    server.send("GET", path, &[OPERATOR], b"").expect_problem(403, "forbidden");
}

/// While Redis is away no list is shown to who waits for it.
// rule: IDM-2
#[test]
fn no_list_is_shown_before_it_is_as_safe_as_was_asked() {
    let (server, slots, _) = without_its_redis();
    book(&server, "p1.0", &slots[0]);
    let day = format!("/v1/centres/c1/days/{}/bookings", tomorrow());
    for path in [day.as_str(), "/v1/parties/p1.0/history"] {
        let ask = |ack| server.send("GET", path, &[("authorization", "Bearer platform-key"), ("berth-ack", ack)], b"");
        ask("redis").expect_problem(503, "redis_late");
        assert_eq!(codes(&ask("disk").expect(200)).len(), 1);
    }
}
