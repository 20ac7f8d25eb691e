//! SMART Scheduling Links: the manifest and its files, as who copies everything reads them.

use std::io::Read;

use serde_json::{Value, json};

use crate::client::Reply;
use crate::fhir::{ndjson, refused, server, server_under};
use crate::server::{Server, claim, claims, lines, programme_path, tomorrow};

const URL: &str = "https://book.example.org/in";
const CONFIG: &str = "[fhir]\nphone = '1075'\nbooking_link = 'https://book.example.org/?slot={slot}'\n";

fn path(url: &Value) -> String {
    url.as_str().unwrap().strip_prefix(URL).expect("the public address, and no other").to_owned()
}

/// Type, address and lines of every file that the manifest names.
fn files(server: &Server) -> Vec<(String, String, Vec<Value>)> {
    let manifest = server.get("/smart/$bulk-publish").expect(200);
    let output = manifest["output"].as_array().unwrap().clone();
    let read = |file: &Value| {
        let path = path(&file["url"]);
        let reply = server.get(&path);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/fhir+ndjson")), "{path}");
        (file["type"].as_str().unwrap().to_owned(), path, lines(reply.text()))
    };
    output.iter().map(read).collect()
}

#[test]
fn the_manifest_names_every_file_and_the_files_have_everything() {
    let server = server(&format!("{CONFIG}staleness_seconds = 0\n"));
    let reply = server.get("/smart/$bulk-publish");
    let manifest = reply.expect(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(manifest["request"], format!("{URL}/smart/$bulk-publish"));
    assert_eq!((&manifest["error"], manifest["transactionTime"].as_str()), (&json!([]), reply.header("berth-as-of")));
    let output: Vec<_> = manifest["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["type"].as_str().unwrap(), path(&f["url"]), f["extension"]["state"][0].as_str().unwrap()))
        .collect();
    let file = |kind, path: &str, state| (kind, path.to_owned(), state);
    assert_eq!(
        output,
        [
            file("Location", "/smart/locations/27/0.ndjson", "Maharashtra"),
            file("Schedule", "/smart/schedules/27/0.ndjson", "Maharashtra"),
            file("Slot", "/smart/slots/27/0.ndjson", "Maharashtra"),
            file("Location", "/smart/locations/.a.ub/0.ndjson", "Goa"),
            file("Schedule", "/smart/schedules/.a.ub/0.ndjson", "Goa"),
            file("Slot", "/smart/slots/.a.ub/0.ndjson", "Goa"),
        ]
    );
    let all = files(&server);
    let count = |kind: &str| all.iter().filter(|(k, ..)| k == kind).map(|(.., lines)| lines.len()).sum::<usize>();
    assert_eq!((count("Location"), count("Schedule"), count("Slot")), (3, 3, 9));
    for (kind, path, lines) in &all {
        assert!(lines.iter().all(|line| line["resourceType"] == kind.as_str()), "{path}");
    }
    // A location, a schedule, and a schedule's slots lead to one another, whatever their names are.
    let of =
        |kind: &str| all.iter().filter(|(k, ..)| k == kind).flat_map(|(.., lines)| lines.clone()).collect::<Vec<_>>();
    let known =
        |kind: &str| of(kind).iter().map(|r| format!("{kind}/{}", r["id"].as_str().unwrap())).collect::<Vec<_>>();
    let (locations, schedules) = (known("Location"), known("Schedule"));
    assert!(
        of("Schedule").iter().all(|s| locations.contains(&s["actor"][0]["reference"].as_str().unwrap().to_owned()))
    );
    assert!(of("Slot").iter().all(|s| schedules.contains(&s["schedule"]["reference"].as_str().unwrap().to_owned())));
    for (path, kind) in [
        ("/smart/%24bulk-publish", "application/json"),
        ("/smart/$bulk-publish?_since=2021-01-01T00:00:00Z", "application/json"),
    ] {
        assert_eq!((server.get(path).status, server.get(path).header("content-type")), (200, Some(kind)), "{path}");
    }
}

/// Free and busy, and no finer: what cannot be booked by everybody now is busy.
#[test]
fn a_published_slot_is_free_or_busy_and_says_how_many() {
    let server = server(&format!("{CONFIG}staleness_seconds = 0\n"));
    let windows = json!([{"start": "15:00", "end": "16:00", "pools": {"dose1": 3}}]);
    let far = tomorrow().saturating_add(jiff::ToSpan::days(26)).to_string();
    let session = |id: &str, date: &str| json!({"id": id, "centre": "c1", "date": date, "product": "covaxin", "windows": windows});
    server
        .publish("/v1/sessions", &ndjson(&[session("last", &far), session("closed", &tomorrow().to_string())]))
        .expect(200);
    let admin = [("authorization", "Bearer admin-key"), ("idempotency-key", "close")];
    server.send("POST", "/v1/sessions/closed/close", &admin, b"").expect(200);
    // Of today, and begun at midnight: nobody can book it any more.
    let today = json!({"id": "begun", "centre": "c1", "date": tomorrow().yesterday().unwrap().to_string(), "product": "covaxin",
        "windows": [{"start": "00:00", "end": "23:59", "pools": {"dose1": 7}}]});
    server.publish("/v1/sessions", &ndjson(&[today])).expect(200);
    server.post("/v1/bookings", &claims(&[claim("p1.0", "s1.0")])).expect(201);
    server.post("/v1/holds", &claims(&[claim("p1.1", "s1.2")])).expect(201);
    let all = files(&server);
    let slot = |id: &str| {
        let found = all.iter().flat_map(|(.., lines)| lines).find(|line| line["id"] == id);
        let slot = found.unwrap_or_else(|| panic!("no {id}"));
        (slot["status"].as_str().unwrap().to_owned(), slot["extension"][0]["valueInteger"].as_u64().unwrap())
    };
    assert_eq!(slot("s1.0"), ("free".into(), 4), "what is left");
    assert_eq!(slot("s1.2"), ("busy".into(), 1), "held, and all of it");
    let place = |session: &str| {
        server.get(&format!("/v1/sessions/{session}")).expect(200)["slots"][0]["slot"].as_str().unwrap().to_owned()
    };
    assert_eq!(slot(&place("closed")), ("busy".into(), 3));
    assert_eq!(slot(&place("begun")), ("busy".into(), 7));
    assert_eq!(slot(&place("last")), ("free".into(), 3), "the last day of the horizon");
}

/// The days are those on which something can be booked now, and free is what anybody can book.
#[test]
fn what_is_published_is_by_the_programme_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let programme = dir.path().join("programme.toml");
    let india = std::fs::read_to_string(programme_path()).unwrap();
    let staff = "[[pools]]\nid = \"staff\"\nname = \"Staff\"\ncohorts = [\"health_worker\"]\n\n[[cohorts]]";
    let change = "\n[[changes]]\nfrom = 2022-02-01\nbooking_horizon_days = 12\n";
    std::fs::write(&programme, india.replacen("[[cohorts]]", staff, 1) + change).unwrap();
    let server = server_under(&format!("{CONFIG}staleness_seconds = 0\n"), &programme);
    let windows = json!([{"start": "15:00", "end": "16:00", "pools": {"dose1": 3, "staff": 2}}]);
    let session = |days: i64| {
        let date = tomorrow().saturating_add(jiff::ToSpan::days(days)).to_string();
        json!({"id": format!("d{days}"), "centre": "c1", "date": date, "product": "covaxin", "windows": windows})
    };
    server.publish("/v1/sessions", &ndjson(&[session(0), session(11), session(12)])).expect(200);
    let all = files(&server);
    let of =
        |kind: &str| all.iter().filter(|(k, ..)| k == kind).flat_map(|(.., lines)| lines.clone()).collect::<Vec<_>>();
    let days: Vec<_> = of("Schedule").iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(days, ["s-1", "d0", "d11", ".s.u2", "s3"]);
    let told: Vec<_> =
        of("Slot").iter().filter(|slot| slot["schedule"]["reference"] == "Schedule/d0").cloned().collect();
    let statuses: Vec<_> =
        told.iter().map(|slot| (slot["status"].clone(), slot["extension"][0]["valueInteger"].clone())).collect();
    assert_eq!(statuses, [(json!("free"), json!(3)), (json!("busy"), json!(2))]);
}

/// A file is never larger than what is kept: where each line has a very long link, it has fewer lines.
#[test]
fn lines_with_long_links_are_in_more_files() {
    let link = format!("https://book.example.org/?slot={{slot}}&from={}", "x".repeat(250));
    let server =
        server(&format!("[fhir]\nphone = '1075'\ncache_mib = 48\nstaleness_seconds = 600\nbooking_link = '{link}'\n"));
    let hour = |n: u32| format!("{:02}:{:02}", 8 + n / 6, n % 6 * 10);
    let pools = json!({"dose1": 1, "dose2": 1, "open": 1});
    let windows: Vec<_> = (0..80).map(|n| json!({"start": hour(n), "end": hour(n + 1), "pools": pools})).collect();
    let session = |n: i64| {
        let date = tomorrow().saturating_add(jiff::ToSpan::days(n % 2)).to_string();
        json!({"id": format!("l-{n}"), "centre": "c1", "date": date, "product": "covaxin", "windows": windows})
    };
    server.publish("/v1/sessions", &ndjson(&(0..70).map(session).collect::<Vec<_>>())).expect(200);
    let slots = files(&server).into_iter().filter(|(kind, path, _)| kind == "Slot" && path.contains("/27/"));
    let told: Vec<_> = slots.map(|(_, path, lines)| (path, lines.len())).collect();
    assert_eq!(told.iter().map(|(_, lines)| *lines).collect::<Vec<_>>(), [35 * 240 + 6, 35 * 240]);
    let again = server.get(&told[0].0);
    assert!(again.body.len() > 5_000_000 && again.header("age").is_some(), "{}", again.body.len());
    let page = server.get("/metrics");
    assert!(page.text().contains("\nberth_fhir_answers_total{kind=\"file\",source=\"cache\"} 1\n"), "it is kept");
}

/// The same of schedules.
#[test]
fn where_schedules_are_very_many_each_day_has_its_file() {
    let server = server(&format!("{CONFIG}staleness_seconds = 0\n"));
    let windows = json!([{"start": "09:00", "end": "10:00", "pools": {"dose1": 1}}]);
    for day in 0..2 {
        let date = tomorrow().saturating_add(jiff::ToSpan::days(day)).to_string();
        let session = |n: u32| json!({"id": format!("w-{day}-{n}"), "centre": "c1", "date": date, "product": "covaxin", "windows": windows});
        server.publish("/v1/sessions", &ndjson(&(0..5000).map(session).collect::<Vec<_>>())).expect(200);
    }
    let all = files(&server);
    let told = |kind: &str| {
        let of = all.iter().filter(|(k, path, _)| k == kind && path.contains("/27/"));
        of.map(|(_, path, lines)| (path.clone(), lines.len())).collect::<Vec<_>>()
    };
    let file =
        |days: i64| format!("/smart/schedules/27/0.{}.ndjson", tomorrow().saturating_add(jiff::ToSpan::days(days)));
    assert_eq!(told("Schedule"), [(file(0), 5002), (file(1), 5000)]);
    assert_eq!(told("Slot"), [("/smart/slots/27/0.ndjson".to_owned(), 10_006)]);
}

#[test]
fn a_file_that_is_not_named_is_not_there() {
    let server = server(CONFIG);
    for path in [
        "/smart",
        "/smart/slots/27/1.ndjson",
        "/smart/slots/27/00.ndjson",
        "/smart/slots/27/0",
        "/smart/slots/28/0.ndjson",
        "/smart/slots/a_b/0.ndjson",
        "/smart/slots/27/0.2026-11-27.ndjson",
        "/smart/slots/27/0.2026-11-27.0.ndjson",
        "/smart/slots/27/0..ndjson",
        "/smart/locations/27/x.ndjson",
        "/smart/locations/27/1.ndjson",
    ] {
        refused(&server.get(path), 404, "not-supported", "not_found");
    }
    refused(&server.get("/smart/slots/27/0.ndjson?state=27"), 400, "invalid", "malformed_request");
}

#[test]
fn a_file_is_kept_compared_and_compressed() {
    let server = server(&format!("{CONFIG}staleness_seconds = 600\n"));
    let get = |path: &str, headers: &[(&str, &str)]| server.send("GET", path, headers, b"");
    for path in ["/smart/$bulk-publish", "/smart/slots/27/0.ndjson"] {
        let first = get(path, &[]);
        assert_eq!(first.status, 200);
        let control = first.header("cache-control").unwrap();
        let age: u64 = control.strip_prefix("public, max-age=").unwrap().split(',').next().unwrap().parse().unwrap();
        assert!((590..=600).contains(&age), "{control}");
        let (etag, since) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
        assert!(since.ends_with(" GMT"), "{since}");
        for header in [("if-none-match", etag), ("if-modified-since", since)] {
            let again = get(path, &[header]);
            assert_eq!(
                (again.status, again.body.len(), again.header("content-type")),
                (304, 0, None),
                "{path} {header:?}"
            );
        }
        // A tag goes before a date; another date than was said, and what is none, compare with nothing.
        for headers in [
            &[("if-none-match", "\"x\""), ("if-modified-since", since)][..],
            &[("if-modified-since", "Fri, 01 Jan 2021 00:00:00 GMT")],
            &[("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")],
            &[("if-modified-since", "yesterday")],
        ] {
            assert_eq!(get(path, headers).status, 200, "{path} {headers:?}");
        }
        let unzipped = |reply: &Reply| {
            let mut text = String::new();
            match reply.header("content-encoding") {
                Some("gzip") => flate2::read::GzDecoder::new(&*reply.body).read_to_string(&mut text).unwrap(),
                Some("zstd") => zstd::Decoder::new(&*reply.body).unwrap().read_to_string(&mut text).unwrap(),
                other => panic!("{other:?}"),
            };
            text
        };
        for encoding in ["gzip", "zstd"] {
            let packed = get(path, &[("accept-encoding", encoding)]);
            let (plain, mut packed_text) = (first.text().to_owned(), unzipped(&packed));
            if path.ends_with("publish") {
                // Rendered for each encoding, so each of its own instant.
                packed_text =
                    packed_text.replace(packed.header("berth-as-of").unwrap(), first.header("berth-as-of").unwrap());
            }
            assert!(packed_text == plain && packed.body.len() < first.body.len(), "{path} {encoding}");
        }
    }
    // What happens meanwhile is in the next file, and not in this one.
    server.post("/v1/bookings", &claims(&[claim("p1.0", "s1.0")])).expect(201);
    let kept = lines(get("/smart/slots/27/0.ndjson", &[]).text());
    assert_eq!(kept[0]["extension"][0]["valueInteger"], 5);
    // But what is asked for one by one is as fresh as any search.
    let asked = server.get("/fhir/Slot?_id=s1.0").expect(200);
    assert_eq!(asked["entry"][0]["resource"]["extension"][0]["valueInteger"], 4);
}

/// Concurrent callers share one rendering.
#[test]
fn who_comes_meanwhile_waits_for_the_one_that_is_made() {
    let server = server(&format!("{CONFIG}staleness_seconds = 600\n"));
    // So many that it takes its time.
    let hour = |n: u32| format!("{:02}:{:02}", 8 + n / 6, n % 6 * 10);
    let pools = json!({"dose1": 1, "dose2": 1, "open": 1});
    let windows: Vec<_> = (0..80).map(|n| json!({"start": hour(n), "end": hour(n + 1), "pools": pools})).collect();
    let session = |n: u32| json!({"id": format!("t-{n}"), "centre": "c1", "date": tomorrow().to_string(), "product": "covaxin", "windows": windows});
    server.publish("/v1/sessions", &ndjson(&(0..50).map(session).collect::<Vec<_>>())).expect(200);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let ask = || server.send("GET", "/smart/slots/27/0.ndjson", &[("accept-encoding", "gzip")], b"");
            scope.spawn(move || assert_eq!(ask().status, 200));
        }
    });
    let page = server.get("/metrics");
    let answered = |source: &str| -> u64 {
        let name = format!("berth_fhir_answers_total{{kind=\"file\",source=\"{source}\"}} ");
        page.text().lines().find_map(|line| line.strip_prefix(&name)).expect("the metric is there").parse().unwrap()
    };
    assert_eq!((answered("rendered"), answered("cache") + answered("waited")), (1, 15));
}

/// The manifest is what tells a client that there is something new: it is never the same for longer than files are kept.
#[test]
fn who_has_an_old_manifest_is_given_a_new_one() {
    let server = server(&format!("{CONFIG}staleness_seconds = 1\n"));
    let first = server.get("/smart/$bulk-publish");
    let (etag, since) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
    server.post("/v1/bookings", &claims(&[claim("p1.0", "s1.0")])).expect(201);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    for header in [("if-none-match", etag), ("if-modified-since", since)] {
        let again = server.send("GET", "/smart/$bulk-publish", &[header], b"");
        assert_eq!(again.status, 200, "{header:?}");
        assert_ne!(again.expect(200)["transactionTime"], first.json()["transactionTime"]);
    }
}

/// So many slots that a file would be too large: one for each day.
#[test]
fn where_slots_are_very_many_each_day_has_its_file() {
    let server = server(&format!("{CONFIG}staleness_seconds = 0\n"));
    let hour = |n: u32| format!("{:02}:{:02}", 8 + n / 6, n % 6 * 10);
    let pools = json!({"dose1": 1, "dose2": 1, "open": 1});
    let windows: Vec<_> = (0..40).map(|n| json!({"start": hour(n), "end": hour(n + 1), "pools": pools})).collect();
    let mut sessions = Vec::new();
    for day in 0..20 {
        let date = tomorrow().saturating_add(jiff::ToSpan::days(day)).to_string();
        for n in 0..17 {
            sessions.push(json!({"id": format!("m-{day}-{n}"), "centre": "c1", "date": date, "product": "covaxin", "windows": windows}));
        }
    }
    for part in sessions.chunks(100) {
        server.publish("/v1/sessions", &ndjson(part)).expect(200);
    }
    let manifest = server.get("/smart/$bulk-publish").expect(200);
    let slots: Vec<_> = manifest["output"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["type"] == "Slot" && f["extension"]["state"][0] == "Maharashtra")
        .map(|f| path(&f["url"]))
        .collect();
    assert_eq!(slots.len(), 20, "{slots:?}");
    assert_eq!(slots[0], format!("/smart/slots/27/0.{}.ndjson", tomorrow()));
    let count = |path: &str| lines(server.get(path).text()).len();
    assert_eq!((count(&slots[0]), count(&slots[19])), (17 * 40 * 3 + 6, 17 * 40 * 3));
    refused(&server.get("/smart/slots/27/0.ndjson"), 404, "not-supported", "not_found");
    refused(&server.get(&slots[0].replace(".ndjson", ".0.ndjson")), 404, "not-supported", "not_found");
}

/// So many on one day that this, too, would be too large: one for each centre.
#[test]
fn where_a_day_has_very_many_slots_each_centre_has_its_file() {
    let server = server(&format!("{CONFIG}staleness_seconds = 0\n"));
    let clock = |n: u32| format!("{:02}:{:02}", 8 + n / 12, n % 12 * 5);
    let pools = json!({"dose1": 1, "dose2": 1, "open": 1});
    let windows: Vec<_> = (0..96).map(|n| json!({"start": clock(n), "end": clock(n + 1), "pools": pools})).collect();
    let day = tomorrow().tomorrow().unwrap();
    for centre in ["c1", "phc_2"] {
        let session = |n: u32| json!({"id": format!("d-{centre}-{n}"), "centre": centre, "date": day.to_string(), "product": "covaxin", "windows": windows});
        server.publish("/v1/sessions", &ndjson(&(0..36).map(session).collect::<Vec<_>>())).expect(200);
    }
    let manifest = server.get("/smart/$bulk-publish").expect(200);
    let of = |kind: &str| {
        let files = manifest["output"].as_array().unwrap().iter();
        let files = files.filter(|f| f["type"] == kind && f["extension"]["state"][0] == "Maharashtra");
        files.map(|f| path(&f["url"])).collect::<Vec<_>>()
    };
    let file = |part: String| format!("/smart/slots/27/0.{part}.ndjson");
    let expected = [file(tomorrow().to_string()), file(format!("{day}.0")), file(format!("{day}.1"))];
    assert_eq!((of("Slot"), of("Schedule").len()), (expected.to_vec(), 1));
    for (path, lines_of, centre) in [(&expected[1], 10_368, "c1"), (&expected[2], 10_368, "phc.u2")] {
        let lines = lines(server.get(path).text());
        let all = lines.iter().all(|line| line["schedule"]["reference"].as_str().unwrap().contains(centre));
        assert!(lines.len() == lines_of && all, "{path}: {}", lines.len());
    }
    for part in [day.to_string(), format!("{day}.2"), format!("{}.0", tomorrow())] {
        refused(&server.get(&file(part)), 404, "not-supported", "not_found");
    }
}

/// What lacks a field that a published one must have is not published, nor what leads to it; and somebody is told.
#[test]
fn a_centre_that_nobody_can_reach_is_not_published() {
    let server = server("[fhir]\nstaleness_seconds = 0\n");
    let all = files(&server);
    let told: Vec<_> = all.iter().map(|(kind, path, lines)| (kind.as_str(), path.as_str(), lines.len())).collect();
    let expected = [
        ("Location", "/smart/locations/27/0.ndjson", 1),
        ("Schedule", "/smart/schedules/27/0.ndjson", 1),
        ("Slot", "/smart/slots/27/0.ndjson", 3),
    ];
    assert_eq!(told, expected);
    assert!(all.iter().flat_map(|(.., lines)| lines).all(|line| !line.to_string().contains("phc")));
    refused(&server.get("/smart/locations/.a.ub/0.ndjson"), 404, "not-supported", "not_found");
    // Who asks for it is told of it all the same.
    assert!(server.get("/fhir/Location/.phc.u2").expect(200).get("telecom").is_none());
    assert!(server.get("/metrics").text().contains("\nberth_fhir_unpublished_centres 2\n"));
    server.terminate();
    let (_, home) = server.ended();
    let told = home.told();
    assert!(told.contains("not in what is published") && told.contains("centres=2"), "{told}");
}
