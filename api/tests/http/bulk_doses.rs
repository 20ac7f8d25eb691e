//! What a centre gave while it had no network: a result for each line, conflicts told by line, and the whole again at any time.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::door::{at_the_door, booked_today, server, text};
use crate::doses::today_walk_in;
use crate::server::{Server, claim, claims, lines};

/// The lines but the last, and the last.
#[track_caller]
fn upload(server: &Server, centre: &str, key: Option<&str>, body: &[Value]) -> (Vec<Value>, Value) {
    let reply = raw(server, centre, key, &body.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")), "{}", reply.text());
    let mut told = lines(reply.text());
    let end = told.pop().expect("there is a last line");
    (told, end)
}

fn raw(server: &Server, centre: &str, key: Option<&str>, body: &str) -> Reply {
    let bearer = format!("Bearer operator-{centre}");
    let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    server.send("POST", "/v1/bulk/doses", &headers, body.as_bytes())
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn codes(told: &[Value]) -> Vec<&str> {
    told.iter().map(|line| line["problem"]["code"].as_str().unwrap_or("")).collect()
}

// rule: DOS-1
#[test]
fn a_centre_tells_late_and_every_conflict_is_its_lines() {
    let server = server();
    let booked = booked_today(&server, &["p1.0", "p1.1", "p1.2", "p1.3"]);
    let open = today_walk_in(&server);
    let at = now();
    let line = |booked: &Value, batch: &str| {
        let (booking, code) = (text(booked, "booking"), text(booked, "check_in_code"));
        json!({"booking": booking, "code": code, "given_at": at, "batch": batch, "vaccinator": "nurse-17"})
    };
    let walked =
        |party: &str| json!({"party": party, "slot": open, "dose": 1, "came_at": at, "given_at": at, "batch": "W1"});
    let mut wrong_code = line(&booked[1], "B1");
    wrong_code["code"] =
        format!("{:04}", (text(&booked[1], "check_in_code").parse::<u32>().unwrap() + 1) % 10_000).into();
    let mut without = line(&booked[1], "B1");
    without.as_object_mut().unwrap().remove("code");
    // Meanwhile one is said to have stayed away, and one was served elsewhere.
    let no_show = format!("/v1/bookings/{}/no-show", text(&booked[2], "booking"));
    at_the_door(&server, "c1", "n", &no_show, &Value::Null).expect(200);
    let elsewhere = json!({"party": "p1.6", "slot": open, "dose": 1});
    let elsewhere = at_the_door(&server, "c1", "e", "/v1/walk-ins", &elsewhere).expect(201);
    let complete = format!("/v1/bookings/{}/complete", text(&elsewhere, "booking"));
    at_the_door(&server, "c1", "e2", &complete, &json!({"batch": "E1"})).expect(200);

    let file = [
        line(&booked[0], "B1"),
        wrong_code,
        without,
        line(&booked[2], "B1"),
        walked("p1.5"),
        walked("p1.6"),
        walked("p1.99"),
        json!({"booking": "x", "given_at": at}),
        json!({"given_at": at}),
        json!({"booking": text(&booked[3], "booking"), "code": text(&booked[3], "check_in_code"), "given_at": "2021-04-28T16:00:00Z"}),
        json!({"booking": text(&booked[3], "booking"), "code": "12", "given_at": at}),
    ];
    let (told, end) = upload(&server, "c1", Some("file-1"), &file);
    assert_eq!(end, json!({"end": true, "lines": 11, "done": 2, "repeated": 0, "refused": 9}), "{told:?}");
    let problems = codes(&told);
    assert_eq!(
        problems,
        [
            "",
            "wrong_check_in_code",
            "malformed_request",
            "wrong_state",
            "",
            "dose_conflict",
            "unknown_party",
            "malformed_id",
            "malformed_request",
            "not_eligible",
            "malformed_request"
        ]
    );
    assert_eq!(
        (&told[0]["status"], &told[0]["line"], &told[3]["problem"]["from"]),
        (&json!(201), &json!(1), &json!("no_show"))
    );
    let number = text(&told[0], "dose_record");
    let dose = server.read(&format!("/v1/doses/{number}")).expect(200);
    assert_eq!(
        (&dose["batch"], &dose["vaccinator"], &dose["recorded_by"]),
        (&json!("B1"), &json!("nurse-17"), &json!("operator:c1"))
    );

    // The whole file again, also under another key and after a crash: what is on record is told so, and nothing is twice.
    let server = server.kill_and_restart();
    for key in ["file-1", "file-2"] {
        let (again, end) = upload(&server, "c1", Some(key), &file);
        assert_eq!((&end["done"], &end["repeated"]), (&json!(2), &json!(2)), "{again:?}");
        assert_eq!((&again[0]["already"], &again[0]["dose_record"]), (&json!(true), &json!(number)));
        assert_eq!((&again[4]["already"], &again[4]["dose_record"]), (&json!(true), &told[4]["dose_record"]));
        assert_eq!(codes(&again)[3..7], problems[3..7]);
    }
    let listed = server.read("/v1/parties/p1.5/doses").expect(200);
    assert_eq!(listed["doses"].as_array().unwrap().len(), 1);
    // Another batch for the same person is no repeat; corrected since, the first word still counts as told.
    let (conflict, _) = upload(&server, "c1", Some("file-3"), &[line(&booked[0], "B2")]);
    assert_eq!((codes(&conflict), &conflict[0]["problem"]["dose_record"]), (vec!["dose_conflict"], &json!(number)));
    let fix = json!({"reason": "typo", "batch": "B2"});
    at_the_door(&server, "c1", "fix", &format!("/v1/doses/{number}/correct"), &fix).expect(200);
    let (again, _) = upload(&server, "c1", Some("file-4"), &[line(&booked[0], "B1")]);
    assert_eq!(again[0]["already"], json!(true));

    // What was refused before it was recorded has checked nobody in.
    let left = server.read(&format!("/v1/bookings/{}", text(&booked[3], "booking"))).expect(200);
    assert_eq!(left["state"], "booked");
    // A dose that was revoked is not brought back by its file.
    let walked_number = text(&told[4], "dose_record");
    let revoke = json!({"reason": "wrong_person"});
    at_the_door(&server, "c1", "rev", &format!("/v1/doses/{walked_number}/revoke"), &revoke).expect(200);
    let (again, _) = upload(&server, "c1", Some("file-5"), &[walked("p1.5")]);
    assert_eq!((codes(&again), &again[0]["problem"]["dose_record"]), (vec!["dose_revoked"], &json!(walked_number)));
    assert_eq!(server.read("/v1/parties/p1.5/doses").expect(200)["known"], 0);

    // Others' bookings and doors are not theirs.
    let (others, _) = upload(&server, "c2", Some("o"), &[line(&booked[3], "B1"), walked("p1.7")]);
    assert_eq!(codes(&others), ["unknown_booking", "forbidden"]);
    let (keyless, _) = upload(&server, "c1", None, &[line(&booked[3], "B1")]);
    assert_eq!(codes(&keyless), ["idempotency_key_missing"]);
    let mut keyed = line(&booked[3], "B1");
    keyed["key"] = json!("own");
    let (own, end) = upload(&server, "c1", None, &[keyed]);
    assert_eq!((&own[0]["key"], &end["done"]), (&json!("own"), &json!(1)));
}

/// A line does two things, and a crash may come between: the next attempt goes on where it broke off.
// rule: DOS-1
#[test]
fn a_line_that_broke_off_between_its_steps_goes_on() {
    let server = server();
    let booked = booked_today(&server, &["p1.0"]);
    let open = today_walk_in(&server);
    let (booking, at) = (text(&booked[0], "booking"), now());
    // As if it had broken off behind the first step, under keys that nobody knows any more.
    let code = json!({"code": text(&booked[0], "check_in_code")});
    at_the_door(&server, "c1", "lost", &format!("/v1/bookings/{booking}/check-in"), &code).expect(200);
    let walk_in = json!({"party": "p1.5", "slot": open, "dose": 1});
    let walked = at_the_door(&server, "c1", "lost2", "/v1/walk-ins", &walk_in).expect(201);
    let slots = server.add_slots("later", &[5]);
    let server = server.kill_and_restart();
    let file = [
        json!({"booking": booking, "given_at": at, "batch": "B1"}),
        json!({"party": "p1.5", "slot": open, "dose": 1, "came_at": at, "given_at": at, "batch": "B1"}),
    ];
    let (told, end) = upload(&server, "c1", Some("k"), &file);
    assert_eq!(end["done"], 2, "{told:?}");
    assert_eq!((&told[0]["booking"], &told[1]["booking"]), (&json!(booking), &walked["booking"]));
    // A party with a live claim elsewhere is not taken twice.
    let held = server.post_under("own", "/v1/bookings", &claims(&[claim("p1.7", &slots[0])])).expect(201);
    let again = json!({"party": "p1.7", "slot": open, "dose": 1, "came_at": at, "given_at": at});
    let (told, _) = upload(&server, "c1", Some("k2"), &[again]);
    assert_eq!(
        (codes(&told), &told[0]["problem"]["booking"]),
        (vec!["already_claimed"], &held["bookings"][0]["booking"])
    );
}
