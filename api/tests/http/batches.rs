//! A batch that is put right, and lists of stock a page at a time.

use serde_json::{Value, json};

use crate::door::text;
use crate::stock::{
    admin, admin_reads, admin_under, batch, give, operator, operator_reads, receive, server, today_walk_in, walked_in,
};

// rule: SUP-3
#[test]
fn a_batch_is_put_right_with_a_reason_and_its_past_is_told() {
    let (server, _programme) = server("off");
    let made = json!({"id": "4120Z/1", "product": "covaxin", "quantity": 100, "expires": "2021-01-31",
        "manufacturer": "Serum"});
    admin(&server, "/v1/batches", &made).expect(201);
    receive(&server, "4120Z/1", "c1", 60);
    let slot = today_walk_in(&server);
    let booking = walked_in(&server, &slot, "p1.0");
    give(&server, &booking, "4120Z/1").expect_problem(409, "batch_other_product");
    let path = "/v1/batches/4120Z%2F1/correct";
    let right = json!({"reason": "typo", "product": "covishield", "expires": "2099-12-31", "manufacturer": "",
        "doses_per_vial": 10});
    let told = admin_under(&server, "right", path, &right);
    let mut expected = right.clone();
    expected["batch"] = json!("4120Z/1");
    assert_eq!(told.expect(200), expected);
    let again = admin_under(&server, "right", path, &right);
    assert_eq!((again.text(), again.header("idempotent-replayed")), (told.text(), Some("true")));
    give(&server, &booking, "4120Z/1").expect(200);

    let below = admin(&server, path, &json!({"reason": "typo", "quantity": 59})).expect_problem(409, "beyond_batch");
    assert_eq!(below["received"], 60);
    admin(&server, path, &json!({"reason": "typo", "quantity": 60})).expect(200);
    for (wrong, names) in [
        (json!({"reason": "typo"}), "nothing is said"),
        (json!({"reason": "It was a typo", "quantity": 70}), "reason: must be"),
        (json!({"reason": "typo", "product": "water"}), "product: is none"),
        (json!({"reason": "typo", "expires": "soon"}), "expires: must be"),
        (json!({"reason": "typo", "quantity": 0}), "quantity: must be"),
        (json!({"reason": "typo", "id": "B"}), "unknown field"),
        (json!({"quantity": 70}), "missing field `reason`"),
    ] {
        let told = admin(&server, path, &wrong).expect_problem(400, "malformed_request");
        assert!(text(&told, "detail").contains(names), "{told}");
    }
    admin(&server, "/v1/batches/none/correct", &right).expect_problem(404, "unknown_batch");
    operator(&server, "c1", path, &right).expect_problem(403, "forbidden");

    let server = server.kill_and_restart();
    let told = admin_reads(&server, "/v1/batches/4120Z%2F1").expect(200);
    assert_eq!(
        (&told["product"], &told["quantity"], told.get("manufacturer"), &told["given"]),
        (&json!("covishield"), &json!(60), None, &json!(1))
    );
    let past: Vec<_> = told["corrections"].as_array().unwrap().iter().map(|one| one["before"].clone()).collect();
    let mut first = made;
    first.as_object_mut().unwrap().remove("id");
    assert_eq!(past[0], first);
    assert_eq!((past.len(), &past[1]["quantity"]), (2, &json!(100)));
    give(&server, &walked_in(&server, &slot, "p1.1"), "4120Z/1").expect(200);
}

#[test]
fn stock_transfers_and_centres_are_told_a_page_at_a_time() {
    let (server, _programme) = server("off");
    let ids = ["B1", "B2", "B3", "B4"];
    for id in ids {
        batch(&server, id, "covishield", "2099-12-31");
        receive(&server, id, "c1", 5);
    }
    receive(&server, "B1", "c2", 5);
    // Of the second nothing is left.
    let gone = json!({"batch": "B2", "centre": "c1", "quantity": 5, "reason": "broken"});
    operator(&server, "c1", "/v1/wastage", &gone).expect(201);
    let mut sent = Vec::new();
    for id in ["B1", "B3", "B4"] {
        let send = json!({"batch": id, "from": "c1", "to": "c2", "quantity": 5});
        sent.push(text(&operator(&server, "c1", "/v1/transfers", &send).expect(201), "transfer").to_owned());
    }
    let stock =
        |centre: &str, query: &str| operator_reads(&server, centre, &format!("/v1/centres/{centre}/stock{query}"));
    let names = |told: &Value, list: &str, member: &str| -> Vec<String> {
        told[list].as_array().unwrap().iter().map(|row| text(row, member).to_owned()).collect()
    };
    // What is on the way from there is there still, as far as its papers go.
    let told = stock("c1", "").expect(200);
    assert_eq!(
        (names(&told, "batches", "id"), &told["on_hand"]),
        (vec!["B1".into(), "B3".into(), "B4".into()], &json!(0))
    );
    assert_eq!((told.get("next"), told.get("next_transfer"), &told["complete"]), (None, None, &json!(true)));
    assert_eq!(names(&stock("c1", "?all=true").expect(200), "batches", "id"), ids);
    let first = stock("c1", "?limit=2").expect(200);
    assert_eq!((names(&first, "batches", "id"), &first["next"]), (vec!["B1".into(), "B3".into()], &json!("B3")));
    assert_eq!(
        (names(&first, "transfers", "transfer"), &first["next_transfer"]),
        (sent[..2].to_vec(), &json!(sent[1]))
    );
    let rest = stock("c1", &format!("?limit=2&after=B3&transfers_after={}", sent[1])).expect(200);
    assert_eq!(
        (names(&rest, "batches", "id"), names(&rest, "transfers", "transfer")),
        (vec!["B4".into()], sent[2..].to_vec())
    );
    assert_eq!((rest.get("next"), rest.get("next_transfer")), (None, None));
    // One that arrived is on the way no more, at either end.
    operator(&server, "c2", &format!("/v1/transfers/{}/receive", sent[1]), &json!({"arrived": 5})).expect(200);
    operator(&server, "c1", &format!("/v1/transfers/{}/cancel", sent[2]), &Value::Null).expect(200);
    let server = server.kill_and_restart();
    for centre in ["c1", "c2"] {
        let told = operator_reads(&server, centre, &format!("/v1/centres/{centre}/stock")).expect(200);
        assert_eq!(names(&told, "transfers", "transfer"), sent[..1], "{centre}");
    }
    let told = operator_reads(&server, "c2", "/v1/centres/c2/stock").expect(200);
    assert_eq!((names(&told, "batches", "id"), &told["on_hand"]), (vec!["B1".into(), "B3".into()], &json!(10)));
    let page = admin_reads(&server, "/v1/batches/B1?limit=1").expect(200);
    assert_eq!(
        (&page["centres"][0]["centre"], &page["next"], &page["centres_in_all"]),
        (&json!("c1"), &json!("c1"), &json!(2))
    );
    let rest = admin_reads(&server, "/v1/batches/B1?limit=1&after=c1").expect(200);
    assert_eq!((&rest["centres"][0]["centre"], rest.get("next"), &rest["received"]), (&json!("c2"), None, &json!(10)));
    let far = operator_reads(&server, "c1", "/v1/centres/c1/stock?transfers_after=t1.18446744073709551615").expect(200);
    assert_eq!(far["transfers"], json!([]));
    for bad in ["?limit=0", "?x=1", "?all=yes", "?transfers_after=t2.1", "?transfers_after=x"] {
        operator_reads(&server, "c1", &format!("/v1/centres/c1/stock{bad}")).expect_problem(400, "malformed_request");
    }
    admin_reads(&server, "/v1/batches/B1?x=1").expect_problem(400, "malformed_request");
}
