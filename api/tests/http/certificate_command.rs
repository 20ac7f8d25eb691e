//! `berth certificate`: keys are made, certificates issued and judged, by files alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::server::berth;

struct Folder(tempfile::TempDir);

/// Status, standard output, standard error.
type Told = (i32, String, String);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, words: &[&str]) -> Told {
        let output = berth(&[&["certificate"], words].concat()).current_dir(self.0.path()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn issue(&self, kind: &str, claims: &Value) -> Told {
        fs::write(self.path("claims.json"), claims.to_string()).unwrap();
        // India's programme issues no cards; this one issues all kinds.
        let all = fs::read_to_string(programme()).unwrap();
        let all = all.replace("kinds = [\"w3c\", \"eu_dcc\"]", "kinds = [\"w3c\", \"eu_dcc\", \"smart_health_card\"]");
        fs::write(self.path("programme.toml"), all).unwrap();
        self.run(&["issue", "claims.json", "--kind", kind, "--keys", "keys", "--programme", "programme.toml"])
    }
}

fn programme() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../programmes/india-2021.toml")
}

fn claims() -> Value {
    let dose = json!({"product": "covishield", "number": 2, "given_on": "2021-05-20", "facility": {"name": "PHC"}});
    json!({"id": "C1", "holder": {"name": "Asha Bharti", "born": "1979-12-31"}, "doses": [dose]})
}

#[test]
fn a_certificate_is_issued_and_judged_without_a_server() {
    let folder = Folder::new();
    let programme = programme();
    let programme = programme.to_str().unwrap();
    for kind in ["w3c", "eu_dcc", "smart_health_card"] {
        let (status, told, warned) =
            folder.run(&["keygen", "--keys", "keys", "--kind", kind, "--programme", programme, "--name", kind]);
        assert_eq!(status, 0, "{told}{warned}");
        assert!(warned.contains(&format!("{kind}.pem safe")), "{warned}");
        let (status, certificate, told) = folder.issue(kind, &claims());
        assert_eq!(status, 0, "{told}");
        fs::write(folder.path("certificate"), certificate).unwrap();
        fs::write(folder.path("trusted.json"), folder.run(&["keys", "--keys", "keys"]).1).unwrap();
        fs::write(folder.path("revoked.txt"), "# none of them\nC2\n\n").unwrap();
        fs::write(folder.path("revoked-too.txt"), "C1\n").unwrap();
        let judged = |more: &[&str]| {
            let (status, told, warned) = folder.run(&[&["verify", "certificate", "--json"], more].concat());
            (status, serde_json::from_str::<Value>(&told).unwrap_or_else(|_| panic!("{told}{warned}")))
        };
        for keys in ["keys", "trusted.json"] {
            let (status, told) = judged(&["--keys", keys, "--revoked", "revoked.txt"]);
            assert_eq!(
                (status, &told["valid"], &told["id"], &told["kind"]),
                (0, &json!(true), &json!("C1"), &json!(kind))
            );
            assert_eq!((&told["name"], &told["revocations_asked"]), (&json!("Asha Bharti"), &json!(true)));
        }
        let (status, told) = judged(&["--keys", "keys", "--revoked", "revoked-too.txt"]);
        assert_eq!((status, &told["code"]), (3, &json!("revoked")));
        let (status, told) = judged(&["--keys", "keys", "--at", "2099-01-01T00:00:00Z"]);
        assert_eq!((status, &told["code"]), (4, &json!("expired")));
        let (status, told) = judged(&["--keys", "keys", "--at", "2001-01-01T00:00:00Z"]);
        assert_eq!((status, &told["code"]), (4, &json!("not_yet_valid")));
        fs::write(folder.path("nobody.json"), r#"{"keys": []}"#).unwrap();
        let (status, told) = judged(&["--keys", "nobody.json"]);
        assert_eq!((status, &told["code"]), (1, &json!("unknown_key")));
    }
    let (status, words, _) = folder.run(&["verify", "certificate", "--keys", "keys"]);
    assert_eq!(status, 0);
    assert!(words.starts_with("valid: smart_health_card C1\nAsha Bharti, born 1979-12-31\n"), "{words}");
    assert!(words.ends_with("no list of revocations was asked: --revoked FILE\n"), "{words}");
}

#[test]
fn what_cannot_be_issued_or_read_is_one_sentence_without_a_name() {
    let folder = Folder::new();
    let (status, _, told) = folder.run(&["keygen", "--keys", "keys", "--kind", "eu_dcc"]);
    assert_eq!(status, 2);
    assert!(told.contains("needs --programme FILE"), "{told}");
    // Two of one day, as where the first was stolen: each has a name of its own.
    for end in ["", "-2", "-3"] {
        let (status, told, warned) =
            folder.run(&["keygen", "--keys", "same-day", "--kind", "w3c", "--from", "2026-11-27T10:00:00Z"]);
        assert_eq!(status, 0, "{told}{warned}");
        assert!(warned.contains(&format!("w3c-2026-11-27{end}.pem safe")), "{warned}");
    }
    assert_eq!(folder.run(&["keygen", "--keys", "keys", "--kind", "w3c", "--name", "a"]).0, 0);
    let (status, _, told) = folder.run(&["keygen", "--keys", "keys", "--kind", "w3c", "--name", "a"]);
    assert!(status == 2 && told.contains("a.pem"), "{told}");

    let (status, _, told) = folder.issue("eu_dcc", &claims());
    assert!(status == 2 && told.contains("no key signs eu_dcc at "), "{told}");
    let mut wrong = claims();
    wrong["doses"][0]["number"] = json!("Asha Bharti");
    let (status, _, told) = folder.issue("w3c", &wrong);
    assert!(status == 2 && told.contains("is no JSON, or a value of another type") && !told.contains("Asha"), "{told}");
    wrong["doses"][0]["number"] = json!(3);
    let (status, _, told) = folder.issue("w3c", &wrong);
    assert!(status == 2 && told.contains("doses[0].number: must be from 1 to 2"), "{told}");

    fs::write(folder.path("revoked.txt"), "C1\nc2\n").unwrap();
    fs::write(folder.path("certificate"), "hello").unwrap();
    let (status, _, told) = folder.run(&["verify", "certificate", "--keys", "keys", "--revoked", "revoked.txt"]);
    assert_eq!((status, told.as_str()), (2, "berth: revoked.txt line 2: is no certificate id: 1 to 24 of A-Z 0-9\n"));
    let (status, told, _) = folder.run(&["verify", "certificate", "--keys", "keys"]);
    assert_eq!(
        (status, told.as_str()),
        (1, "refused: malformed\nit is no certificate, or is damaged: begins as none does\n")
    );
    fs::write(folder.path("trusted.json"), "{}").unwrap();
    let (status, _, told) = folder.run(&["verify", "certificate", "--keys", "trusted.json"]);
    assert!(status == 2 && told.contains("is no list of keys"), "{told}");
}
