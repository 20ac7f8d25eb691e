//! `berth supply plan`: a plan from two files, whose figures add up.

use std::fs;

use serde_json::Value;

use crate::server::berth;

fn plan(regions: &str, batches: &str, more: &[&str]) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let (r, b) = (dir.path().join("regions.csv"), dir.path().join("batches.csv"));
    fs::write(&r, regions).unwrap();
    fs::write(&b, batches).unwrap();
    let mut command = berth(&["supply", "plan", r.to_str().unwrap(), b.to_str().unwrap(), "--on", "2021-06-01"]);
    let output = command.args(more).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

const REGIONS: &str =
    "region,population,given,stock,per_day\n\"North, upper\",1500,500,0,\nSouth,1000,300,100,\nWest,400,0,0,2\n";
const BATCHES: &str = "batch,product,quantity,expires\nL1,covishield,1000,2021-09-30\nS1,covaxin,205,2021-06-10\n";

#[test]
fn a_plan_says_who_gets_what_and_adds_up() {
    let asked = ["--target-percent", "50", "--pack", "10"];
    let (status, text, _) = plan(REGIONS, BATCHES, &asked);
    assert_eq!(status, 0, "{text}");
    // 205 until the tenth of June: West can give twenty; 18 packs remain for 1000 and 600.
    let (_, json, _) = plan(REGIONS, BATCHES, &[&asked[..], &["--format", "json"]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    let first = &json["batches"][0];
    assert_eq!((&first["batch"], first["left"].as_u64()), (&"S1".into(), Some(5)));
    let doses = |batch: &Value| {
        batch["parts"].as_array().unwrap().iter().map(|part| part["doses"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(doses(first), [110, 70, 20]);
    for (batch, there) in json["batches"].as_array().unwrap().iter().zip([205, 1000]) {
        assert_eq!(doses(batch).iter().sum::<u64>() + batch["left"].as_u64().unwrap(), there);
    }
    assert!(text.contains("there 1205 = allotted "), "{text}");
    let (_, table, _) = plan(REGIONS, BATCHES, &[&asked[..], &["--format", "csv"]].concat());
    assert!(table.contains("S1,covaxin,2021-06-10,\"North, upper\",1000,1000,11.250,110\r\n"), "{table}");
}

#[test]
fn every_fault_of_both_files_is_named_by_its_line() {
    let regions = "region,population,given\nA,10,x\n,10,0\nB,10,0\nB,10,0\n";
    let (status, text, told) = plan(regions, "batch,product,quantity,expires\nL,c,-1,2021-09-30\nM,c,1,never\n", &[]);
    assert_eq!((status, text.as_str()), (2, ""));
    for part in [
        "line 2: given: ",
        "line 3: region: is missing",
        "line 5: region: B stands there before",
        "line 2: quantity: ",
        "line 3: expires: ",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(told.lines().count(), 5, "{told}");
}
