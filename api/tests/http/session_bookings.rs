//! All bookings of a session moved to another, or cancelled; some of a group given up.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{Server, claim, claims, lines};

fn admin(server: &Server, key: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", key)];
    server.send("POST", path, &headers, body.as_bytes())
}

/// The lines but the last, and the last.
#[track_caller]
fn told(reply: &Reply) -> (Vec<Value>, Value) {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")), "{}", reply.text());
    let mut told = lines(reply.text());
    let end = told.pop().expect("there is a last line");
    (told, end)
}

fn book(server: &Server, party: &str, slot: &str) -> String {
    let booked = server.post("/v1/bookings", &claims(&[claim(party, slot)])).expect(201);
    booked["hold"].as_str().unwrap().to_owned()
}

#[test]
fn bookings_go_to_the_same_window_or_the_next_with_room() {
    // From 09:00 and 10:00 to 09:00 (one unit), 10:00 (one), 11:00 (five).
    let (server, from) = Server::with_slots(&[5, 5]);
    let to = server.add_slots("to", &[1, 1, 5]);
    let first = book(&server, "p1.0", &from[0]);
    let second = book(&server, "p1.1", &from[0]);
    let third = book(&server, "p1.2", &from[1]);
    server.post("/v1/holds", &claims(&[claim("p1.3", &from[1])])).expect(201);
    let cancelled = book(&server, "p1.4", &from[1]);
    server.post(&format!("/v1/bookings/{cancelled}/cancel"), &Value::Null).expect(200);

    let reply = admin(&server, "m", "/v1/sessions/s/move-bookings", &json!({"to": "to"}));
    let (moved, end) = told(&reply);
    assert_eq!(end, json!({"end": true, "done": 3, "refused": 0, "left": 1}));
    let went: Vec<_> = moved.iter().map(|line| (line["booking"].as_str().unwrap(), &line["slot"])).collect();
    // Of a slot the newest first.
    assert_eq!(
        went,
        [(second.as_str(), &json!(to[0])), (first.as_str(), &json!(to[1])), (third.as_str(), &json!(to[2]))]
    );
    assert!(moved.iter().all(|line| line["status"] == 200 && line["state"] == "moved"));
    let old = server.read(&format!("/v1/bookings/{first}")).expect(200);
    assert_eq!((&old["state"], &old["moved_to"]), (&json!("moved"), &moved[1]["moved_to"]));
    assert_eq!((server.slot_counts(&from[0]), server.slot_counts(&from[1])), ((5, 0, 0), (5, 1, 0)));

    // A repeat tells the same of these, also after a crash, and takes those that came since.
    server.add_slots("elsewhere", &[5]);
    let late = book(&server, "p1.5", &from[0]);
    let server = server.kill_and_restart();
    let (again, end) = told(&admin(&server, "m", "/v1/sessions/s/move-bookings", &json!({"to": "to"})));
    assert_eq!(end, json!({"end": true, "done": 4, "refused": 0, "left": 1}));
    assert_eq!(
        (&again[0]["booking"], &again[0]["slot"], again[0].get("replayed")),
        (&json!(late), &json!(to[2]), None)
    );
    let replayed: Vec<_> = moved
        .iter()
        .map(|line| {
            let mut line = line.clone();
            line["replayed"] = json!(true);
            line
        })
        .collect();
    assert_eq!(again[1..], replayed);
    // Under another key they are another's business.
    let (other, end) = told(&admin(&server, "m2", "/v1/sessions/s/move-bookings", &json!({"to": "to"})));
    assert_eq!((other.len(), &end["done"]), (0, &json!(0)));
    // The same key for another session: those that were moved say so.
    let (conflict, _) = told(&admin(&server, "m", "/v1/sessions/s/move-bookings", &json!({"to": "elsewhere"})));
    assert!(
        conflict.len() == 4 && conflict.iter().all(|l| l["problem"]["code"] == "idempotency_conflict"),
        "{conflict:?}"
    );
}

#[test]
fn windows_and_pools_are_mapped_as_asked() {
    let (server, _) = Server::with_slots(&[1]);
    let from = server.add_session("late", &json!([{"start": "12:00", "end": "13:00", "pools": {"dose1": 5}}]));
    let windows = json!([{"start": "09:00", "end": "10:00", "pools": {"dose1": 1, "open": 1}},
                         {"start": "10:00", "end": "11:00", "pools": {"dose1": 1}}]);
    let to = server.add_session("to", &windows);
    for party in 0..4 {
        book(&server, &format!("p1.{party}"), &from[0]);
    }
    let path = "/v1/sessions/late/move-bookings";
    let (none, end) = told(&admin(&server, "a", path, &json!({"to": "to"})));
    assert_eq!(end, json!({"end": true, "done": 0, "refused": 4, "left": 0}), "nothing is at noon or later");
    assert!(none.iter().all(|line| line["status"] == 404 && line["problem"]["code"] == "unknown_slot"));
    let (any, end) = told(&admin(&server, "b", path, &json!({"to": "to", "windows": "any"})));
    assert_eq!((&end["done"], &end["refused"]), (&json!(2), &json!(2)));
    assert_eq!((&any[0]["slot"], &any[1]["slot"]), (&json!(to[2]), &json!(to[0])), "the nearest first");
    assert_eq!((&any[2]["problem"]["code"], &any[2]["problem"]["slot"]), (&json!("full"), &json!(to[0])));
    let pools = json!({"to": "to", "windows": "any", "pools": {"dose1": "open"}});
    let (open, end) = told(&admin(&server, "c", path, &pools));
    assert_eq!((&open[0]["slot"], &end["done"], &end["refused"]), (&json!(to[1]), &json!(1), &json!(1)));
    // No key was used up by a refusal.
    admin(&server, "d", "/v1/sessions/to/resize", &json!({"slot": to[2], "capacity": 2})).expect(200);
    let (_, end) = told(&admin(&server, "b", path, &json!({"to": "to", "windows": "any"})));
    assert_eq!((&end["done"], &end["refused"]), (&json!(3), &json!(0)));
}

#[test]
fn all_bookings_of_a_session_are_cancelled() {
    let (server, slots) = Server::with_slots(&[5, 5]);
    let (first, second) = (book(&server, "p1.0", &slots[0]), book(&server, "p1.1", &slots[1]));
    let other = server.add_slots("other", &[5]);
    let kept = book(&server, "p1.2", &other[0]);
    let (gone, end) = told(&admin(&server, "k", "/v1/sessions/s/cancel-bookings", &Value::Null));
    assert_eq!(end, json!({"end": true, "done": 2, "refused": 0, "left": 0}));
    let line = |booking: &str| json!({"booking": booking, "status": 200, "state": "cancelled"});
    assert_eq!(gone, [line(&first), line(&second)]);
    assert_eq!((server.slot_counts(&slots[0]), server.slot_counts(&slots[1])), ((5, 0, 0), (5, 0, 0)));
    assert_eq!(server.read(&format!("/v1/bookings/{kept}")).expect(200)["state"], "booked");
    let (again, _) = told(&admin(&server, "k", "/v1/sessions/s/cancel-bookings", &Value::Null));
    assert!(again.len() == 2 && again.iter().all(|line| line["replayed"] == true), "{again:?}");
}

#[test]
fn what_cannot_be_done_to_the_bookings_of_a_session_is_told() {
    let (server, slots) = Server::with_slots(&[5]);
    server.add_slots("to", &[5]);
    book(&server, "p1.0", &slots[0]);
    let before = server.export();
    let path = "/v1/sessions/s/move-bookings";
    for (path, body, status, code) in [
        (path, json!({}), 400, "malformed_request"),
        (path, json!({"to": "s"}), 400, "malformed_request"),
        (path, json!({"to": "nowhere"}), 404, "unknown_session"),
        (path, json!({"to": "to", "windows": "nearest"}), 400, "malformed_request"),
        (path, json!({"to": "to", "pools": {"dose1": "vip"}}), 400, "malformed_request"),
        (path, json!({"to": "to", "dose": 1}), 400, "malformed_request"),
        ("/v1/sessions/nowhere/move-bookings", json!({"to": "to"}), 404, "unknown_session"),
        ("/v1/sessions/nowhere/cancel-bookings", Value::Null, 404, "unknown_session"),
        ("/v1/sessions/s/cancel-bookings", json!({"to": "to"}), 400, "malformed_request"),
    ] {
        admin(&server, "k", path, &body).expect_problem(status, code);
    }
    for path in [path, "/v1/sessions/s/cancel-bookings"] {
        server.post(path, &Value::Null).expect_problem(403, "forbidden");
        let keyless = [("authorization", "Bearer admin-key")];
        server.send("POST", path, &keyless, b"").expect_problem(400, "idempotency_key_missing");
    }
    assert_eq!(server.export(), before);
}

#[test]
fn some_or_all_of_a_group_are_given_up_at_once() {
    let (server, slots) = Server::with_slots(&[5, 5]);
    let group: Vec<_> = (0..4).map(|p| claim(&format!("p1.{p}"), &slots[p % 2])).collect();
    let booked = server.post("/v1/bookings", &claims(&group)).expect(201);
    let codes: Vec<_> =
        booked["bookings"].as_array().unwrap().iter().map(|b| b["booking"].as_str().unwrap().to_owned()).collect();
    let single = book(&server, "p1.5", &slots[0]);
    let before = server.export();
    let path = "/v1/bookings/cancel";
    let many: Vec<_> = std::iter::repeat_n(codes[0].clone(), 17).collect();
    for (body, status, code) in [
        (json!({}), 400, "malformed_request"),
        (json!({"bookings": []}), 400, "group_size"),
        (json!({"bookings": many}), 400, "group_size"),
        (json!({"bookings": [codes[1], codes[1]]}), 400, "booking_repeated"),
        (json!({"bookings": [codes[0], single]}), 400, "not_of_group"),
        (json!({"bookings": ["x"]}), 400, "malformed_id"),
    ] {
        server.post(path, &body).expect_problem(status, code);
    }
    assert_eq!(server.export(), before);

    let body = json!({"bookings": [codes[2], codes[0]]});
    let part = server.post_under("part", path, &body);
    let gone = part.expect(200);
    let states: Vec<_> =
        gone["bookings"].as_array().unwrap().iter().map(|b| (&b["booking"], b["state"].as_str().unwrap())).collect();
    assert_eq!(states, [(&json!(codes[0]), "cancelled"), (&json!(codes[2]), "cancelled")]);
    assert_eq!((server.slot_counts(&slots[0]), server.slot_counts(&slots[1])), ((5, 0, 1), (5, 0, 2)));
    // All or none: one of these is cancelled already.
    server.post(path, &json!({"bookings": [codes[0], codes[1]]})).expect_problem(409, "wrong_state");
    assert_eq!(server.slot_counts(&slots[1]), (5, 0, 2));

    let server = server.kill_and_restart();
    let again = server.post_under("part", path, &json!({"bookings": [codes[0], codes[2]]}));
    assert_eq!((again.text(), again.header("idempotent-replayed")), (part.text(), Some("true")));
    assert_eq!(server.read("/v1/outcomes/part").expect(200), gone);
    let one = server.post(path, &json!({"bookings": [codes[1]]})).expect(200);
    assert_eq!(one["bookings"][0]["booking"], codes[1]);
}
