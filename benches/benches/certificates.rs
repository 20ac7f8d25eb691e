//! Certificates of each kind, issued and verified: on one thread, and on as many as there are cores.
//!
//! `cargo bench -p berth-benches --bench certificates`

use std::io::Write as _;
use std::time::{Duration, Instant};

use berth_programme::certificates::fonts::Fonts;
use berth_programme::certificates::key_files::{self, NewKey};
use berth_programme::certificates::sheet;
use berth_programme::certificates::{
    CertificateId, CertificateKind, Claims, ClaimsFile, Issued, KeyRing, issue, verify,
};
use berth_programme::file::ProgrammeFile;
use criterion::Criterion;
use jiff::Timestamp;

const PROGRAMME: &str = include_str!("../../programmes/india-2021.toml");
const CLAIMS: &str = r#"{
    "issued_at": "2026-11-27T10:00:00Z",
    "holder": {
        "reference": "p1.17", "name": "Asha Bharti", "born": "1979-12-31", "sex": "female", "document": "Aadhaar card xxxxxxxx1234",
        "nationality": "Indian", "district": "Pune", "state": "Maharashtra", "pincode": "411005"
    },
    "doses": [
        {"product": "covishield", "number": 1, "given_on": "2021-02-20", "batch": "4120Z001", "vaccinator": "Sooraj Singh",
         "facility": {"name": "PHC Shivajinagar", "district": "Pune", "state": "Maharashtra", "pincode": "411005"}},
        {"product": "covishield", "number": 2, "given_on": "2021-05-20", "batch": "4120Z002", "vaccinator": "Sooraj Singh",
         "facility": {"name": "PHC Shivajinagar", "district": "Pune", "state": "Maharashtra", "pincode": "411005"}}
    ]
}"#;

struct Desk {
    keys: KeyRing,
    claims: Claims,
    programme: ProgrammeFile,
    fonts: Fonts,
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("it is an instant")
}

fn desk() -> Desk {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (not_before, not_after) = (at("2026-01-01T00:00:00Z"), at("2036-01-01T00:00:00Z"));
    for kind in CertificateKind::ALL {
        let name = kind.name();
        let key =
            NewKey { kind, name, not_before, not_after, certified_until: not_after, country: "IN", issuer: "Bench" };
        key_files::make(dir.path(), &key).expect("it can be written");
    }
    // What a card needs that India's programme does not issue stands there, too.
    let programme = ProgrammeFile::parse(PROGRAMME).expect("it is shipped");
    let claims: ClaimsFile = serde_json::from_str(CLAIMS).expect("it is right");
    let claims = claims.claims(&programme, not_before).expect("it is right");
    Desk { keys: key_files::load(dir.path()).expect("it was made"), claims, programme, fonts: Fonts::new() }
}

impl Desk {
    /// One more certificate, of an id of its own.
    fn issue(&self, kind: CertificateKind, number: u64) -> Issued {
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&number.to_be_bytes());
        let claims = Claims { id: CertificateId::from_bytes(bytes), ..self.claims.clone() };
        issue(kind, &claims, &self.keys).expect("nothing is missing")
    }

    /// The same, signed, drawn and set as PDF.
    #[must_use]
    fn paper(&self, kind: CertificateKind, number: u64, language: &str) -> usize {
        let issued = self.issue(kind, number);
        let qr = issued.qr().expect("it fits");
        let pdf = sheet::pdf(&self.fonts, &self.programme, &self.claims, kind, &qr, language);
        pdf.expect("it has letters").len()
    }

    fn verify(&self, certificate: &Issued) {
        let now = self.claims.issued_at;
        verify(certificate.text.as_bytes(), self.keys.public(), &(), now).expect("it is good");
    }
}

/// How often a second so many threads do it, for so long.
fn rate(threads: usize, time: Duration, once: &(impl Fn(u64) + Sync)) -> f64 {
    let started = Instant::now();
    let done: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads as u64)
            .map(|thread| {
                scope.spawn(move || {
                    let mut done = 0;
                    while started.elapsed() < time {
                        once(thread << 40 | done);
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    done as f64 / started.elapsed().as_secs_f64()
}

fn main() {
    let desk = desk();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // `cargo bench` says --bench; as a test every bench runs once and tiny. A word behind it asks for what has it in its name alone.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let wanted = |name: &str| {
        measured && std::env::args().skip(1).find(|arg| !arg.starts_with('-')).is_none_or(|word| name.contains(&word))
    };
    if wanted("text") {
        let time = Duration::from_secs(5);
        for kind in CertificateKind::ALL {
            let one = desk.issue(kind, 0);
            let issue = |number| drop(desk.issue(kind, number));
            let verify = |_| desk.verify(&one);
            let told = writeln!(
                std::io::stdout(),
                "{kind}: issued {:.0}/s on one thread, {:.0}/s on {cores}; verified {:.0}/s on one, {:.0}/s on {cores}; {} characters",
                rate(1, time, &issue),
                rate(cores, time, &issue),
                rate(1, time, &verify),
                rate(cores, time, &verify),
                one.text.len()
            );
            told.expect("standard output takes it");
        }
    }
    for (kind, language) in CertificateKind::ALL.into_iter().flat_map(|kind| [(kind, "en"), (kind, "hi")]) {
        if wanted(&format!("paper_{kind}_{language}")) {
            let paper = |number| {
                std::hint::black_box(desk.paper(kind, number, language));
            };
            let time = Duration::from_secs(5);
            let told = writeln!(
                std::io::stdout(),
                "{kind} as PDF in {language}, signed and drawn: {:.0}/s on one thread, {:.0}/s on {cores}; {} bytes",
                rate(1, time, &paper),
                rate(cores, time, &paper),
                desk.paper(kind, 0, language)
            );
            told.expect("standard output takes it");
        }
    }
    let mut harness = Criterion::default().configure_from_args().sample_size(10);
    for kind in CertificateKind::ALL {
        let one = desk.issue(kind, 0);
        harness.bench_function(&format!("issue_{kind}"), |b| b.iter(|| desk.issue(kind, 1)));
        harness.bench_function(&format!("verify_{kind}"), |b| b.iter(|| desk.verify(&one)));
    }
    harness.final_summary();
}
