//! Files good and bad, and every fault of a bad one.

use super::*;

const INDIA: &str = include_str!("../../../programmes/india-2021.toml");

#[test]
fn the_shipped_programmes_are_valid() {
    let france = include_str!("../../../programmes/france-2021.toml");
    let cards = include_str!("../../../programmes/identity-enrolment.toml");
    for (text, zone) in [(INDIA, "Asia/Kolkata"), (france, "Europe/Paris"), (cards, "Africa/Nairobi")] {
        let file = ProgrammeFile::parse(text).unwrap();
        assert_eq!(file.validate(), Ok(()));
        assert_eq!(file.time_zone, zone);
    }
    for health in ["dose", "vaccin", "health professional", "patient", "jab"] {
        let words: String = cards.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(!words.to_lowercase().contains(health), "{health}");
    }
}

#[test]
fn every_fault_is_named_at_once() {
    let text = INDIA
        .replace("Asia/Kolkata", "Asia/Atlantis")
        .replace("hold_seconds = 300", "hold_seconds = 3")
        .replace("group_claims_max = 4", "group_claims_max = 17")
        .replace("id = \"covaxin\"", "id = \"covishield\"")
        .replace("no_show_grace_minutes = 30", "no_show_grace_minutes = 1441")
        .replace("holds_live_max = 2", "holds_live_max = 101")
        .replace("holds_expired_per_hour_max = 5", "holds_expired_per_hour_max = 101")
        .replace("gap_days_min = 28", "gap_days_min = 3651")
        .replace("dose = 2", "dose = 9");
    let faults = ProgrammeFile::parse(&text).unwrap().validate().unwrap_err();
    let keys: Vec<_> = faults.iter().map(|f| f.key.as_str()).collect();
    let expected = [
        "time_zone",
        "hold_seconds",
        "group_claims_max",
        "no_show_grace_minutes",
        "holds_live_max",
        "holds_expired_per_hour_max",
        "products[0].gap_days_min",
        "products[1].id",
        "products[1].gap_days_min",
        "pools[1].dose",
        "age_bands[5].products[0]",
    ];
    assert_eq!(keys, expected);
}

/// Every list and every kind of fault that a file of today can have.
#[test]
fn the_faults_of_dates_lists_and_names_are_named_too() {
    let text = r#"
name = "P"
names = { fr = "", de = "D", en = "P" }
languages = ["en", "fr", "EN", "fr"]
time_zone = "Europe/Paris"
hold_seconds = 60
group_claims_max = 1
booking_horizon_days = 10
booking_cutoff_minutes = 0
cancel_cutoff_minutes = 0
members_per_account_max = 0
walk_in_share_percent = 101
products = [
  { id = "a", name = "A", doses = 3, gap_days_min = 9, gap_days_max = 8, schedule = [{ dose = 1 }, { dose = 2, gap_days_max = 3 }, { dose = 3 }, { dose = 3 }] },
  { id = "b", name = "B" },
]
pools = [
  { id = "x", name = "X", cohorts = ["c", "c", "nobody"], spills_to = "y", spill_minutes_before = 40321 },
  { id = "y", name = "Y", spills_to = "x" },
  { id = "z", name = "Z", spills_to = "x", spill_minutes_before = 0 },
  { id = "w", name = "W", spill_minutes_before = 0 },
  { id = "v", name = "V", spills_to = "nothing", spill_minutes_before = 0 },
]
cohorts = [{ id = "c", name = "C", opens = 1969-12-31 }, { id = "c", name = "C" }]
age_bands = [
  { from = 2021-05-02, until = 2021-05-01, books_from = 2021-05-03, age_min = 151, age_max = 3, products = ["q"], doses = [4], cohorts = ["q"] },
]
mixes = [{ after = "a", product = "a", doses = [1] }, { after = "q", product = "b", gap_days_min = 9, gap_days_max = 8 }]
changes = [
  { from = 2021-05-02 },
  { from = 2021-05-02, note = "", booking_horizon_days = 0, no_show_grace_minutes = 1441, products = [{ id = "q", dose = 1 }, { id = "a", gap_days_max = 1 }] },
]
documents = [{ id = "d", name = "D", pattern = "[0-9", example = "1" }, { id = "e", name = "E", pattern = "[0-9]", example = "12" }]
certificate = { issuer = "", uri = "http://x.example", country = "fr" }
"#;
    let faults = ProgrammeFile::parse(text).unwrap().validate().unwrap_err();
    let keys: Vec<_> = faults.iter().map(|f| f.key.as_str()).collect();
    let expected = [
        "names.de",
        "names.en",
        "names.fr",
        "languages[2]",
        "languages[3]",
        "members_per_account_max",
        "walk_in_share_percent",
        "walk_in_share_percent",
        "products[0].gap_days_max",
        "products[0].schedule[0].dose",
        "products[0].schedule[0].gap_days_max",
        "products[0].schedule[1].gap_days_max",
        "products[0].schedule[2].gap_days_max",
        "products[0].schedule[3].dose",
        "products[0].schedule[3].gap_days_max",
        "pools[0].cohorts[1]",
        "pools[0].cohorts[2]",
        "pools[0].spills_to",
        "pools[0].spill_minutes_before",
        "pools[1].spills_to",
        "pools[1].spill_minutes_before",
        "pools[3].spills_to",
        "pools[4].spills_to",
        "cohorts[0].opens",
        "cohorts[1].id",
        "age_bands[0].until",
        "age_bands[0].books_from",
        "age_bands[0].age_min",
        "age_bands[0].age_max",
        "age_bands[0].products[0]",
        "age_bands[0].cohorts[0]",
        "age_bands[0].doses[0]",
        "mixes[0].product",
        "mixes[0].doses[0]",
        "mixes[1].after",
        "mixes[1].gap_days_max",
        "changes[0]",
        "changes[1].from",
        "changes[1].note",
        "changes[1].booking_horizon_days",
        "changes[1].no_show_grace_minutes",
        "changes[1].products[0].id",
        "changes[1].products[0]",
        "changes[1].products[0].dose",
        "changes[1].products[1].gap_days_max",
        "documents[0].pattern",
        "documents[1].example",
        "certificate.issuer",
        "certificate.uri",
        "certificate.country",
    ];
    assert_eq!(keys, expected);
    assert!(faults.iter().all(|fault| !fault.reason.contains('\n')), "one line each");
}

#[test]
fn a_date_is_a_date_and_stands_without_quotes() {
    for (wrong, told) in [
        ("opens = \"2021-01-16\"", "line"),
        ("opens = 2021-01-16T00:00:00", "must be a date as 2021-05-13"),
        ("opens = 16:00:00", "must be a date as 2021-05-13"),
    ] {
        let text = INDIA.replace("opens = 2021-01-16 ", wrong);
        let error = ProgrammeFile::parse(&text).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains("(line "), "{wrong}: {error}");
    }
    let offset = INDIA.replace("books_from = 2021-04-28T16:00:00", "books_from = 2021-04-28T16:00:00Z");
    let error = ProgrammeFile::parse(&offset).unwrap_err().to_string();
    assert!(error.contains("a time on the clocks there"), "{error}");
    let door = INDIA.replacen("walk_in = true", "walk_in = \"never\"", 1);
    assert!(ProgrammeFile::parse(&door).unwrap_err().to_string().contains("expected true, false or \"only\""));
}

/// A file from before there were dates, cohorts and languages means what it meant.
#[test]
fn every_key_of_later_has_a_default() {
    let text = r#"
name = "P"
time_zone = "Asia/Kolkata"
hold_seconds = 300
group_claims_max = 4
booking_horizon_days = 28
booking_cutoff_minutes = 0
cancel_cutoff_minutes = 60
products = [{ id = "a", name = "A", doses = 2 }]
pools = [{ id = "x", name = "X", dose = 1 }]
"#;
    let file = ProgrammeFile::parse(text).unwrap();
    assert_eq!(file.validate(), Ok(()));
    assert!(file.doses_in_order && !file.same_product && file.unknown_age == UnknownAge::Allow);
    assert_eq!((file.members_per_account_max, file.walk_in_share_percent), (4, 0));
    assert!(file.age_bands.is_empty() && file.cohorts.is_empty() && file.changes.is_empty());
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    let text = format!("overbook_percent = 10\n{INDIA}");
    let error = ProgrammeFile::parse(&text).unwrap_err().to_string();
    assert!(error.starts_with("overbook_percent: unknown field `overbook_percent`"), "{error}");
    assert!(error.ends_with("(line 1, column 1)") && !error.contains('\n'), "one line: {error}");
}

/// Whoever writes a file from a note on paper makes more than one mistake of this kind.
#[test]
fn every_fault_of_shape_is_named_at_once() {
    let text = r#"
name = 7
overbook_percent = 10
time_zone = "Europe/Paris"
hold_seconds = "60"
group_claims_max = 1
booking_horizon_days = 70000
booking_cutoff_minutes = 0
languages = ["en", 3, "fr"]
unknown_age = "perhaps"
same_product = "yes"
products = [{ id = "a", name = "A", dozes = 2 }, { name = "B", doses = 1, steps = 2 }, 5]
cohorts = [{ id = "c", name = "C", opens = "2021-01-01" }]
changes = [{ note = "n", products = [{ gap_days_min = -1 }] }]
certificate = { issuer = "I", uri = "https://x.example" }

[[pools]]
id = "x"
name = "X"
walk_in = "never"
names = { fr = 1 }

[[mixes]]
after = "a"
"#;
    let Err(ProgrammeFileError::Values(faults)) = ProgrammeFile::parse(text) else { panic!("it is read") };
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    let expected = [
        "cancel_cutoff_minutes",
        "name",
        "overbook_percent",
        "hold_seconds",
        "booking_horizon_days",
        "languages[1]",
        "unknown_age",
        "same_product",
        "products[0].dozes",
        "products[1].doses",
        "products[1].id",
        "products[2]",
        "cohorts[0].opens",
        "changes[0].from",
        "changes[0].products[0].id",
        "changes[0].products[0].gap_days_min",
        "certificate.country",
        "pools[0].walk_in",
        "pools[0].names.fr",
        "mixes[0].product",
    ];
    assert_eq!(keys, expected, "{faults:#?}");
    assert_eq!(faults[1].reason, "invalid type: integer `7`, expected a string (line 2, column 8)");
    assert!(faults.iter().all(|fault| !fault.reason.contains('\n')), "one line each");
    let Err(ProgrammeFileError::Shape(told)) = ProgrammeFile::parse("name = \"P\"\nname = ") else {
        panic!("it is TOML")
    };
    assert!(told.starts_with("line 2, column "), "{told}");
}

/// Two words on the same thing, and a last day before the first.
#[test]
fn what_contradicts_itself_is_a_fault() {
    let text = r#"
name = "P"
time_zone = "Europe/Paris"
hold_seconds = 60
group_claims_max = 1
booking_horizon_days = 10
booking_cutoff_minutes = 0
cancel_cutoff_minutes = 0
move_cutoff_minutes = 10081
products = [{ id = "a", name = "A", doses = 3, gap_days_min = 28 }, { id = "b", name = "B", doses = 3, gap_days_min = 10 }]
pools = [{ id = "x", name = "X" }]
mixes = [
  { after = "a", product = "b", doses = [2] },
  { after = "a", product = "b", doses = [3] },
  { after = "a", product = "b", from = 2021-05-01 },
  { after = "a", product = "b" },
  { after = "b", product = "a", gap_days_max = 27 },
  { after = "a", product = "b", from = 2021-05-01, doses = [3] },
]
changes = [{ from = 2021-05-02, move_cutoff_minutes = 10081 }]
"#;
    let faults = ProgrammeFile::parse(text).unwrap().validate().unwrap_err();
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let expected = [
        "move_cutoff_minutes: must be from 0 to 10080, is 10081",
        "mixes[3]: is for products, a dose and a day that mixes[0] is for already",
        "mixes[4].gap_days_max: must not be below the product's own gap_days_min, 28, is 27",
        "mixes[5]: is for products, a dose and a day that mixes[2] is for already",
        "changes[0].move_cutoff_minutes: must be from 0 to 10080, is 10081",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_waitlist_has_its_defaults_and_its_faults() {
    let waitlist = |text: &str| ProgrammeFile::parse(&format!("{INDIA}\n[waitlist]\n{text}\n")).unwrap();
    let file = waitlist("offer_minutes = 10");
    assert_eq!(file.validate(), Ok(()));
    let found = file.waitlist.unwrap();
    assert_eq!((found.offer_minutes_on_the_day(), found.cutoff_minutes_before_end), (10, 60));
    assert_eq!((found.offers_max, found.entries_per_party_max, found.days_max), (3, 3, 31));
    assert_eq!(waitlist("offer_minutes = 120").waitlist.unwrap().offer_minutes_on_the_day(), 15);
    let file = waitlist(
        "offer_minutes = 0\noffer_minutes_on_the_day = 1441\ncutoff_minutes_before_end = 10081\noffers_max = 0\n\
         entries_per_party_max = 21\ndays_max = 366",
    );
    let faults = file.validate().unwrap_err();
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    let expected = [
        "waitlist.offer_minutes",
        "waitlist.offer_minutes_on_the_day",
        "waitlist.offer_minutes_on_the_day",
        "waitlist.cutoff_minutes_before_end",
        "waitlist.offers_max",
        "waitlist.entries_per_party_max",
        "waitlist.days_max",
    ];
    assert_eq!(keys, expected);
}
