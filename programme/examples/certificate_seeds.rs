//! Writes the seeds of the fuzz target `certificate`: one of each kind, as text and as what its QR image holds.
//!
//! `certificate_seeds DIR` writes `DIR/certificate/seed-N`, and says how many.
#![expect(clippy::print_stdout, reason = "a command-line chore speaks on stdout")]

use std::error::Error;
use std::path::Path;

use berth_programme::certificates::key_files::{self, NewKey};
use berth_programme::certificates::{CertificateKind, ClaimsFile, issue};
use berth_programme::file::ProgrammeFile;
use jiff::Timestamp;

const PROGRAMME: &str = include_str!("../../programmes/india-2021.toml");
const CLAIMS: &str = r#"{
    "id": "SEED", "issued_at": "2026-11-27T10:00:00Z", "holder": {"name": "Asha Bharti", "born": "1979-12-31"},
    "doses": [{"product": "covaxin", "number": 1, "given_on": "2021-05-01", "facility": {"name": "PHC"}}]
}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("certificate_seeds DIR")?;
    let dir = Path::new(&dir).join("certificate");
    std::fs::create_dir_all(&dir)?;
    let keys = dir.with_extension("keys");
    let (now, end): (Timestamp, Timestamp) = ("2026-01-01T00:00:00Z".parse()?, "2036-01-01T00:00:00Z".parse()?);
    let mut written = 0;
    for kind in CertificateKind::ALL {
        let key = NewKey {
            kind,
            name: kind.name(),
            not_before: now,
            not_after: end,
            certified_until: end,
            country: "IN",
            issuer: "Seeds",
        };
        key_files::make(&keys, &key)?;
        let claims: ClaimsFile = serde_json::from_str(CLAIMS)?;
        let claims = claims.claims(&ProgrammeFile::parse(PROGRAMME)?, now).map_err(|fault| fault.to_string())?;
        let issued = issue(kind, &claims, &key_files::load(&keys)?)?;
        for input in [issued.text.clone().into_bytes(), issued.qr_payload()] {
            std::fs::write(dir.join(format!("seed-{written}")), input)?;
            written += 1;
        }
    }
    std::fs::remove_dir_all(&keys)?;
    println!("{written} seeds");
    Ok(())
}
