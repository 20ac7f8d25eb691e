//! What is deployed: the files of docs/deploy and the container's, held against the binary and the repository.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use crate::client::{exchange, request};
use crate::redis::free_port;
use crate::server::{Server, berth};

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Everything that stands between `before` and `after`, in order.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Vec<&'t str> {
    text.split(before).skip(1).map(|rest| rest.split(after).next().unwrap()).collect()
}

/// Names of variables that the server would read.
fn variables(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("BERTH_")).collect()
}

/// The value of a member of a flow mapping, or of a line.
fn value<'t>(text: &'t str, name: &str) -> &'t str {
    let found = text.split(&format!("{name}: ")).nth(1).unwrap_or_else(|| panic!("{name} in {text}"));
    found.split([',', '}', '\n']).next().unwrap().trim().trim_matches('"')
}

/// The words of a JSON array behind this word of the Containerfile.
fn words(container: &str, name: &str) -> Vec<String> {
    let line = container.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
    serde_json::from_str(line.trim()).unwrap()
}

/// What the binary says to a command line: it must have understood it.
fn understood(arguments: &[String]) -> String {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = berth(&arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("Usage:") && said.starts_with("berth: "), "{arguments:?}: {said}");
    said
}

#[test]
fn the_manifest_for_kubernetes_agrees_with_itself_and_with_the_server() {
    let manifest = file("docs/deploy/kubernetes.yaml");
    for (number, line) in manifest.lines().enumerate() {
        let depth = line.len() - line.trim_start().len();
        assert!(!line.contains('\t') && depth % 2 == 0, "line {}: {line}", number + 1);
        let count = |c| line.matches(c).count();
        assert_eq!((count('{'), count('[')), (count('}'), count(']')), "line {}: {line}", number + 1);
    }
    let documents: Vec<&str> = manifest.split("\n---\n").collect();
    let kinds: Vec<&str> = documents.iter().map(|document| value(document, "\nkind")).collect();
    assert_eq!(kinds, ["Service", "StatefulSet"]);
    let [service, set] = documents[..] else { panic!("two documents") };
    // Who is selected is who is labelled, and nobody else is.
    let labels: BTreeSet<&str> = between(&manifest, "{app: ", "}").into_iter().collect();
    assert_eq!(labels, BTreeSet::from(["berth"]));
    assert_eq!(value(set, "serviceName"), value(service, "  name"));
    assert_eq!(value(set, "replicas"), "1", "two owners of one directory would fence each other");

    // Ports have names, and what is named is there.
    let ports = between(set, "containerPort: ", "}");
    let named: Vec<&str> =
        set.lines().filter(|line| line.contains("containerPort: ")).map(|line| value(line, "{name")).collect();
    assert_eq!(named, ["http", "probes"]);
    assert_eq!(value(service, "targetPort"), "http");
    assert_eq!(value(set, "prometheus.io/port"), ports[1]);
    let container = file("Containerfile");
    let listens = |name: &str| between(&container, &format!("{name}=0.0.0.0:"), " ")[0];
    assert_eq!([listens("BERTH_LISTEN"), listens("BERTH_HTTP__PROBES_LISTEN")], ports[..]);
    let exposed = container.lines().find_map(|line| line.strip_prefix("EXPOSE ")).unwrap();
    assert_eq!(exposed.split(' ').collect::<Vec<_>>(), ports);

    // Each probe asks what the listener for probes answers.
    let probes_at = format!("127.0.0.1:{}", free_port());
    let server = Server::start_with(&format!("http.probes_listen = '{probes_at}'"));
    let mut probes = 0;
    for line in set.lines().filter(|line| line.contains("httpGet")) {
        assert_eq!(value(line, "port"), "probes", "{line}");
        let get = request("GET", value(line, "path"), &[("connection", "close")], b"");
        assert_eq!(exchange(probes_at.parse().unwrap(), &get).status, 200, "{line}");
        probes += 1;
    }
    assert_eq!(probes, 3);
    let health = words(&container, "CMD");
    assert_eq!(health[0], "curl");
    let (at, path) = health.last().unwrap().strip_prefix("http://127.0.0.1:").unwrap().split_once('/').unwrap();
    assert_eq!(at, ports[1]);
    let get = request("GET", &format!("/{path}"), &[("connection", "close")], b"");
    assert_eq!(exchange(probes_at.parse().unwrap(), &get).status, 200);
    drop(server);

    // Who is told to stop has time to: notice, drain and some more.
    let seconds = |text: &str| text.parse::<u64>().unwrap();
    let notice = seconds(value(set, "BERTH_HTTP__DRAIN_NOTICE_MS, value")) / 1000;
    assert!(seconds(value(set, "terminationGracePeriodSeconds")) >= notice + 60);
    let readiness = set.lines().find(|line| line.contains("readinessProbe")).unwrap();
    assert!(notice > seconds(value(readiness, "periodSeconds")), "nobody new is sent before the drain");
    // Every volume that is mounted is there.
    for line in set.lines().filter(|line| line.contains("mountPath")) {
        let name = value(line, "{name");
        let there = set.contains(&format!("- name: {name}\n")) || set.contains(&format!("metadata: {{name: {name}}}"));
        assert!(there, "{line}");
    }
    // They run as the user that the image has.
    for user in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert!(container.contains(&format!("--uid {} ", value(set, user))), "{user}");
    }
}

#[test]
fn the_container_file_names_what_there_is() {
    let container = file("Containerfile");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let stages = container.lines().filter(|line| line.starts_with("FROM ")).count();
    assert_eq!(stages, 2);
    for copy in container.lines().filter_map(|line| line.strip_prefix("COPY --from=build /src/")) {
        let from = copy.split(' ').next().unwrap();
        assert!(from == "target/release/berth" || root.join(from).exists(), "{copy}");
    }
    // What is built is what is copied, by a version that the workspace takes.
    assert!(container.contains("cargo build --release --locked -p berth-api --bin berth"));
    let rust = between(&container, "library/rust:", "-")[0];
    assert!(file("Cargo.toml").contains(&format!("rust-version = \"{rust}\"")), "{rust}");
    let ignored = file(".containerignore");
    for needed in ["api", "engine", "programme", "programmes", "Cargo.toml", "Cargo.lock"] {
        assert!(
            root.join(needed).exists() && !ignored.lines().any(|line| line.trim_matches('/') == needed),
            "{needed}"
        );
    }
    let entry = words(&container, "ENTRYPOINT");
    assert!(container.contains(&format!("COPY --from=build /src/target/release/berth {}\n", entry[0])));
}

#[test]
fn the_command_lines_and_variables_of_what_is_deployed_are_the_binarys() {
    let (container, unit, manifest) =
        (file("Containerfile"), file("docs/deploy/berth.service"), file("docs/deploy/kubernetes.yaml"));
    let command = container.lines().rev().find_map(|line| line.strip_prefix("CMD ")).unwrap();
    let mut lines: Vec<Vec<String>> = vec![serde_json::from_str(command).unwrap()];
    for name in ["ExecStartPre=", "ExecStart="] {
        let line = unit.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let words = line.strip_prefix("/usr/local/bin/berth ").expect("where the image has it, too");
        lines.push(words.split(' ').map(str::to_owned).collect());
    }
    let nowhere = tempfile::tempdir().unwrap();
    let missing = nowhere.path().join("berth.toml").display().to_string();
    for line in &mut lines {
        let place = line.iter_mut().find(|word| *word == "/etc/berth/berth.toml").expect("its configuration is named");
        // Where Berth is installed, the file is there.
        place.clone_from(&missing);
        assert!(understood(line).contains(&missing), "{line:?}");
    }
    // Every variable is one that the server reads: those of a table that names none are faults.
    let home = crate::server::Home::new("");
    let config = home.path("berth.toml");
    let names: BTreeSet<&str> = [&container, &unit, &manifest].into_iter().flat_map(|text| variables(text)).collect();
    assert!(names.len() >= 5, "{names:?}");
    let mut check = berth(&["check", "--config", config.to_str().unwrap()]);
    for name in &names {
        let value = match *name {
            "BERTH_DATA_DIR" => "/var/lib/berth/data",
            "BERTH_LOG__FORMAT" => "json",
            "BERTH_LISTEN" => "0.0.0.0:8080",
            "BERTH_HTTP__PROBES_LISTEN" => "0.0.0.0:9090",
            _ => "6000",
        };
        check.env(name, value);
    }
    let output = check.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    for name in &names {
        assert!(said.contains(&format!("# {name}\n")), "{name} in {said}");
    }
}
