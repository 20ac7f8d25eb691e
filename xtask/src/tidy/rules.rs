//! Every promise has a number, a sentence, a place in the code and a proof.
//!
//! `RULES.md` holds one line for each id: the id, the sentence, and the file that keeps the promise. Code and tests say
//! `// rule: CAP-1` where they keep and where they prove it. A rule without any of the three is a fault, and so is a
//! citation of a rule that has no sentence.

use std::collections::BTreeMap;

use super::Fault;
use super::source::Source;

/// The families of rules: capacity, hold, booking, walk-in, no-show, dose, idempotency, journal, snapshot, fencing,
/// admission, time, party, events, search, eligibility, people, waitlist, supply, certificate.
const FAMILIES: [&str; 21] = [
    "CAP", "HLD", "BKG", "WLK", "NSH", "WTL", "LOT", "DOS", "IDM", "JNL", "SNP", "FNC", "ADM", "TIM", "PTY", "EVT",
    "SCH", "ELG", "PPL", "SUP", "CRT",
];

/// The page of sentences.
const PAGE: &str = "RULES.md";

/// What `RULES.md` says about one id.
struct Rule<'a> {
    line: usize,
    files: Vec<&'a str>,
}

/// One `rule: ID` in a comment.
struct Site<'a> {
    source: &'a Source,
    line: usize,
}

pub(super) fn check(files: &[Source], faults: &mut Vec<Fault>) {
    let page = files.iter().find(|source| source.path == PAGE);
    let mut rules = BTreeMap::new();
    if let Some(page) = page {
        for (id, rule) in sentences(page, faults) {
            if rules.contains_key(id) {
                faults.push(Fault::new(page, rule.line, format!("{id} has two sentences")));
            }
            rules.insert(id, rule);
        }
    }
    let (code, tests) = sites(files, faults);
    for (id, sites) in code.iter().chain(&tests).filter(|(id, _)| !rules.contains_key(*id)) {
        for site in sites {
            faults.push(Fault::new(site.source, site.line, format!("{id} has no sentence in {PAGE}")));
        }
    }
    let Some(page) = page else { return };
    for (id, rule) in &rules {
        let mut fault = |sentence: String| faults.push(Fault::new(page, rule.line, sentence));
        if !tests.contains_key(id) {
            fault(format!("{id} has no proof: no test says `rule: {id}`"));
        }
        for file in rule.files.iter().filter(|file| !files.iter().any(|source| source.path == **file)) {
            fault(format!("{id} names {file}, which is not there"));
        }
        let kept_in: Vec<&str> = code.get(id).into_iter().flatten().map(|site| site.source.path.as_str()).collect();
        if kept_in.is_empty() {
            fault(format!("{id} is kept nowhere: no code says `rule: {id}`"));
        } else if !rule.files.iter().any(|file| kept_in.contains(file)) {
            fault(format!("{id} is said to be kept in another file than the code says: {}", kept_in.join(", ")));
        }
    }
}

/// The rules of the page: each line, of a table or not, whose first word is an id.
fn sentences<'a>(page: &'a Source, faults: &mut Vec<Fault>) -> Vec<(&'a str, Rule<'a>)> {
    let mut found = Vec::new();
    for (line, text) in page.lines() {
        let mut words = text.split([' ', '|', '`', '*', '\t', ',', '[', ']', '(', ')']).filter(|word| !word.is_empty());
        let Some(id) = words.next().filter(|word| is_id(word)) else {
            continue;
        };
        let (files, sentence): (Vec<&str>, Vec<&str>) =
            words.partition(|word| word.contains('/') && word.ends_with(".rs"));
        if sentence.len() < 3 {
            faults.push(Fault::new(page, line, format!("{id} has no sentence")));
        }
        if files.is_empty() {
            faults.push(Fault::new(page, line, format!("{id} names no file that keeps it")));
        }
        found.push((id, Rule { line, files }));
    }
    found
}

type Sites<'a> = BTreeMap<&'a str, Vec<Site<'a>>>;

/// Where rules are cited, in code and in tests. The chores cite none: what they say about ids is about this page.
fn sites<'a>(files: &'a [Source], faults: &mut Vec<Fault>) -> (Sites<'a>, Sites<'a>) {
    let (mut code, mut tests) = (Sites::new(), Sites::new());
    for source in files.iter().filter(|source| source.is_rust() && !source.path.starts_with("xtask/")) {
        for (line, text) in source.comment_lines() {
            for id in cited(text) {
                if !FAMILIES.contains(&&id[..3]) {
                    faults.push(Fault::new(
                        source,
                        line,
                        format!("{id} is of no known family: {}", FAMILIES.join(" ")),
                    ));
                } else if source.is_test(line) {
                    tests.entry(id).or_default().push(Site { source, line });
                } else if !source.path.starts_with("benches/") && !source.path.contains("/src/testing/") {
                    code.entry(id).or_default().push(Site { source, line });
                }
            }
        }
    }
    (code, tests)
}

/// The ids that follow `rule:` in a comment: `// rule: CAP-1, JNL-1 and why`.
fn cited(comment: &str) -> impl Iterator<Item = &str> {
    let rest = comment.split_once("// rule:").map_or("", |(_, rest)| rest);
    rest.split([' ', ',', ':', ';', '.']).filter(|word| !word.is_empty()).take_while(|word| is_id(word))
}

fn is_id(word: &str) -> bool {
    let Some((family, number)) = word.split_once('-') else {
        return false;
    };
    family.len() == 3
        && family.bytes().all(|b| b.is_ascii_uppercase())
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::bench::told;
    use super::*;

    const CODE: (&str, &str) = (
        "engine/src/a.rs",
        "//! A.\n// rule: CAP-1 never more\nfn f() {}\n#[cfg(test)]\nmod tests {\n // rule: JNL-1\n}\n",
    );
    const TEST: (&str, &str) = ("engine/tests/a.rs", "//! T.\n// rule: CAP-1, JNL-1\n");

    #[test]
    fn a_rule_with_sentence_code_and_proof_is_no_fault() {
        let table =
            "# Rules\n\n| id | sentence | file |\n|---|---|---|\n| CAP-1 | held and booked fit | `engine/src/a.rs` |\n";
        let test = ("engine/tests/a.rs", "//! T.\n// rule: CAP-1\n");
        let code = ("engine/src/a.rs", "//! A.\n// rule: CAP-1 never more\n");
        for page in [table, "CAP-1  held and booked fit   engine/src/a.rs\n"] {
            assert_eq!(told(check, &[(PAGE, page), code, test]), [""; 0]);
        }
    }

    #[test]
    fn a_citation_needs_a_sentence() {
        let told = told(check, &[(PAGE, "CAP-1 held and booked fit engine/src/a.rs"), CODE, TEST]);
        assert_eq!(
            told,
            [
                "engine/src/a.rs:6: JNL-1 has no sentence in RULES.md",
                "engine/tests/a.rs:2: JNL-1 has no sentence in RULES.md"
            ]
        );
    }

    #[test]
    fn a_sentence_needs_code_a_proof_and_a_file() {
        let page = "CAP-1 held and booked fit engine/src/gone.rs\nJNL-1 taken before, given after engine/src/a.rs\n\
                    HLD-1 a hold ends once\nHLD-1 engine/src/a.rs\nPTY-1 one claim for each engine/src/a.rs\n";
        let told = told(check, &[(PAGE, page), CODE, TEST]);
        assert_eq!(
            told,
            [
                "RULES.md:1: CAP-1 is said to be kept in another file than the code says: engine/src/a.rs",
                "RULES.md:1: CAP-1 names engine/src/gone.rs, which is not there",
                "RULES.md:2: JNL-1 is kept nowhere: no code says `rule: JNL-1`",
                "RULES.md:3: HLD-1 names no file that keeps it",
                "RULES.md:4: HLD-1 has no proof: no test says `rule: HLD-1`",
                "RULES.md:4: HLD-1 has no sentence",
                "RULES.md:4: HLD-1 has two sentences",
                "RULES.md:4: HLD-1 is kept nowhere: no code says `rule: HLD-1`",
                "RULES.md:5: PTY-1 has no proof: no test says `rule: PTY-1`",
                "RULES.md:5: PTY-1 is kept nowhere: no code says `rule: PTY-1`",
            ]
        );
    }

    #[test]
    fn a_citation_is_a_comment_of_a_known_family() {
        let told = told(
            check,
            &[(
                "api/src/a.rs",
                "//! A.\nlet x = \"// rule: CAP-1\";\n// rule: ABC-1\n// the rule: none\n// rule: CAP-2\n",
            )],
        );
        assert_eq!(
            told,
            [
                "api/src/a.rs:3: ABC-1 is of no known family: CAP HLD BKG WLK NSH WTL LOT DOS IDM JNL SNP FNC ADM TIM PTY EVT SCH ELG PPL SUP CRT",
                "api/src/a.rs:5: CAP-2 has no sentence in RULES.md",
            ]
        );
    }
}
