//! `berth certificate`: keys are made, certificates issued and verified, by files alone and asking no server.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use berth_programme::certificates::fonts::Fonts;
use berth_programme::certificates::key_files::{self, NewKey};
use berth_programme::certificates::{
    CertificateId, CertificateKind, Claims, ClaimsFile, Issued, KeyRing, PublicKeys, Refused, Verified, issue, sheet,
    verify,
};
use berth_programme::file::ProgrammeFile;
use clap::{Args, Subcommand, ValueEnum};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;

use crate::cli::{read, read_programme, say, tell};

/// No certificate is longer; what is after it is not even read.
const CERTIFICATE_BYTES_MAX: u64 = 1 << 16;

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// Say whether a certificate is genuine and holds: by keys and a list of revocations in files, asking nobody.
    ///
    /// It takes what a scanner reads from the QR image or what was saved: `HC1:...`, `shc:/...`, a `.smart-health-card` file, the JSON of
    /// a Verifiable Credential, or the ZIP of its QR image. KEYS is a key set that the issuer publishes (JSON), or the directory in which
    /// its keys lie. Without a list of revocations none is asked for, and that is said.
    ///
    ///   berth certificate keys --keys keys > trusted.json
    ///   berth certificate verify certificate.txt --keys trusted.json --revoked revoked.txt
    ///
    /// Status 0: genuine, and it holds. 1: not genuine: malformed, unknown_key or bad_signature. 3: revoked. 4: expired or not_yet_valid.
    /// 2: the keys or the list cannot be read.
    #[command(verbatim_doc_comment)]
    Verify(VerifyArgs),
    /// Issue certificates from claims in a file, by the programme's rules and with its keys.
    ///
    /// CLAIMS is JSON; what it does not say the programme file does:
    ///
    ///   {"holder": {"name": "Asha Bharti", "born": "1979-12-31", "sex": "female"},
    ///    "doses": [{"product": "covishield", "number": 2, "given_on": "2021-05-20", "batch": "4120Z001",
    ///               "facility": {"name": "PHC Shivajinagar", "district": "Pune", "state": "Maharashtra"}}]}
    ///
    ///   berth certificate issue claims.json --kind eu_dcc --programme programmes/india-2021.toml --keys keys
    ///
    /// Status 0: issued. 2: it cannot be issued, and why; with --lines by the line, and nothing was printed.
    #[command(verbatim_doc_comment)]
    Issue(IssueArgs),
    /// Make a key that certificates of one kind are signed with, and enter it in keys.toml of its directory.
    ///
    /// A newer key takes over at its `--from`; what older ones signed verifies on, as long as they stand in keys.toml. For eu_dcc a
    /// certificate that is signed by the key itself is made beside it; put the one of your country's authority (CSCA) in its place.
    ///
    ///   berth certificate keygen --keys keys --kind eu_dcc --programme programmes/france-2021.toml
    ///
    /// A key that openssl made does as well: `openssl genpkey -algorithm ed25519` for w3c, `-algorithm EC -pkeyopt
    /// ec_paramgen_curve:P-256` for the others, in a file that only its owner reads. docs/certificates.md has the form of keys.toml.
    #[command(verbatim_doc_comment)]
    Keygen(KeygenArgs),
    /// Print the public keys, for those who verify.
    Keys {
        /// The directory with keys.toml.
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// In which form.
        #[arg(long, value_enum, default_value_t)]
        form: Form,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Form {
    /// All keys as a JSON Web Key Set, with the signer certificates of EU keys.
    #[default]
    Jwks,
    /// The key set of SMART Health Cards alone, as it stands at `/.well-known/jwks.json`.
    Shc,
    /// The signers of EU certificates by their kid.
    Eu,
    /// The DID documents of the keys of Verifiable Credentials.
    Did,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The certificate; `-` or nothing for standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Whom to trust: a JSON key set, or a directory with keys.toml.
    #[arg(long, value_name = "DIR|FILE")]
    keys: PathBuf,
    /// Certificates that were revoked: `revoked.json` or `crl/KID.json` as a server publishes them; or an id in each line, where what begins
    /// with # is passed over.
    #[arg(long, value_name = "FILE")]
    revoked: Option<PathBuf>,
    /// As of when. Default: now.
    #[arg(long, value_name = "INSTANT")]
    at: Option<Timestamp>,
    /// Print an object instead of words.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// What they are to say; `-` for standard input.
    claims: PathBuf,
    /// Of which kind: w3c, eu_dcc or smart_health_card.
    #[arg(long)]
    kind: CertificateKind,
    /// The programme file.
    #[arg(long, value_name = "FILE")]
    programme: PathBuf,
    /// The directory with keys.toml.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Each line has the claims of one certificate, and becomes one line.
    #[arg(long, conflicts_with = "shape")]
    lines: bool,
    /// What is printed. All but text and svg is for a file or a pipe.
    #[arg(long = "as", value_enum, default_value_t)]
    shape: Shape,
    /// The language of a paper: one of the programme's. Default: its first.
    #[arg(long, value_name = "TAG")]
    language: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// The certificate itself.
    #[default]
    Text,
    /// What its QR image holds, which for w3c is a ZIP archive.
    Payload,
    /// Its QR image as SVG.
    Svg,
    /// Its QR image as PNG, eight pixels a module.
    Png,
    /// Its paper, one page of PDF/A.
    Pdf,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The directory; made for its owner alone if there is none.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// For which certificates: w3c, eu_dcc or smart_health_card.
    #[arg(long)]
    kind: CertificateKind,
    /// What the files are called. Default: kind and day, as eu_dcc-2026-11-27.
    #[arg(long)]
    name: Option<String>,
    /// The programme file, whose issuer, country and valid_days an EU signer's certificate has. Needed for eu_dcc.
    #[arg(long, value_name = "FILE")]
    programme: Option<PathBuf>,
    /// From when on it signs. Default: now.
    #[arg(long, value_name = "INSTANT")]
    from: Option<Timestamp>,
    /// So many days it signs.
    #[arg(long, value_name = "DAYS", default_value_t = 730, value_parser = clap::value_parser!(u16).range(1..=7300))]
    days: u16,
}

pub(crate) fn run(command: &CertificateCommand) -> Result<ExitCode, String> {
    match command {
        CertificateCommand::Verify(args) => verified(args),
        CertificateCommand::Issue(args) => issued(args),
        CertificateCommand::Keygen(args) => made(args),
        CertificateCommand::Keys { keys, form } => {
            let ring = load(keys)?;
            let keys = ring.public();
            say(&match form {
                Form::Jwks => keys.to_jwks(),
                Form::Shc => keys.smart_health_card_jwks(None),
                Form::Eu => keys.eu_signers(),
                Form::Did => keys.did_documents(),
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn load(dir: &Path) -> Result<KeyRing, String> {
    key_files::load(dir).map_err(|error| error.to_string())
}

fn verified(args: &VerifyArgs) -> Result<ExitCode, String> {
    let keys = if args.keys.is_dir() {
        load(&args.keys)?.public().clone()
    } else {
        PublicKeys::from_jwks(&read(&args.keys)?).map_err(|error| format!("{}: {error}", args.keys.display()))?
    };
    let revoked = args.revoked.as_deref().map(revocations).transpose()?;
    let certificate = input(&args.file, CERTIFICATE_BYTES_MAX + 1)?;
    let now = args.at.unwrap_or_else(Timestamp::now);
    let outcome = verify(&certificate, &keys, revoked.as_ref().map_or(&(), |list| list as _), now);
    let status = match &outcome {
        Ok(_) => 0,
        Err(Refused::Malformed(_) | Refused::UnknownKey { .. } | Refused::BadSignature) => 1,
        Err(Refused::Revoked { .. }) => 3,
        Err(Refused::NotYetValid { .. } | Refused::Expired { .. }) => 4,
    };
    let text = match &outcome {
        Ok(verified) if args.json => object(verified, revoked.is_some()),
        Ok(verified) => words(verified, revoked.is_some()),
        Err(refused) if args.json => {
            json!({"valid": false, "code": refused.code(), "detail": refused.to_string()}).to_string()
        }
        Err(refused) => format!("refused: {}\n{refused}", refused.code()),
    };
    say(&text)?;
    Ok(ExitCode::from(status))
}

fn revocations(path: &Path) -> Result<HashSet<CertificateId>, String> {
    let text = read(path)?;
    if text.trim_start().starts_with('{') {
        return published(&text).ok_or_else(|| {
            format!(
                "{}: is no whole list as a server publishes it: crl/KID.json, or revoked.json whose rows are as many as its count says",
                path.display()
            )
        });
    }
    let lines = text.lines().map(str::trim).enumerate();
    let ids = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    // One that was passed over would be one that is taken.
    ids.map(|(at, line)| line.parse().map_err(|error| format!("{} line {}: {error}", path.display(), at + 1))).collect()
}

/// A list as it stands at `/.well-known/certificates/revoked.json`, or at `/.well-known/crl/{kid}.json`. A page that is not the last is no list: what is
/// missing would be taken.
fn published(text: &str) -> Option<HashSet<CertificateId>> {
    let list: serde_json::Value = serde_json::from_str(text).ok()?;
    if list.get("next").is_some_and(|next| !next.is_null()) {
        return None;
    }
    let counted = |of: &str, rows: usize| list.get(of).and_then(serde_json::Value::as_u64) == Some(rows as u64);
    if let Some(ids) = list.get("rids").filter(|ids| ids.as_array().is_some_and(|ids| counted("ctr", ids.len()))) {
        return ids.as_array()?.iter().map(|id| id.as_str()?.parse().ok()).collect();
    }
    let rows = list.get("revoked")?.as_array().filter(|rows| counted("count", rows.len()))?;
    rows.iter().map(|row| row.get("certificate")?.as_str()?.parse().ok()).collect()
}

fn words(verified: &Verified, asked: bool) -> String {
    let Verified { kind, id, key_id, issuer, issued_at, expires_at, name, born, product, dose, given_on } = verified;
    let born = born.as_ref().map_or_else(String::new, |born| format!(", born {born}"));
    let dose = dose.map_or_else(String::new, |(number, of)| format!(", dose {number} of {of}"));
    let until = expires_at.map_or_else(String::new, |at| format!(", good until {at}"));
    let list =
        if asked { "not on the list of revocations" } else { "no list of revocations was asked: --revoked FILE" };
    format!(
        "valid: {kind} {id}\n{name}{born}\n{product}{dose}, on {given_on}\nissued by {issuer} at {issued_at}{until}\nkey {key_id}\n{list}"
    )
}

fn object(verified: &Verified, asked: bool) -> String {
    let Verified { kind, id, key_id, issuer, issued_at, expires_at, name, born, product, dose, given_on } = verified;
    let (number, of) = dose.unzip();
    json!({
        "valid": true, "kind": kind, "id": id.as_str(), "key_id": key_id, "issuer": issuer, "issued_at": issued_at,
        "expires_at": expires_at, "name": name, "born": born, "product": product, "dose": number, "doses": of,
        "given_on": given_on, "revocations_asked": asked,
    })
    .to_string()
}

fn issued(args: &IssueArgs) -> Result<ExitCode, String> {
    let programme = read_programme(&args.programme)?;
    let keys = load(&args.keys)?;
    let text = String::from_utf8(input(&args.claims, u64::MAX)?)
        .map_err(|_| format!("{}: is no text", args.claims.display()))?;
    let now = Timestamp::now();
    let kinds = programme.file().certificate.as_ref().map_or(&[][..], |certificate| &certificate.kinds);
    if !kinds.contains(&args.kind) {
        return Err(format!("{}: certificate.kinds has no {}", args.programme.display(), args.kind));
    }
    let one = |text: &str| certificate(text, args.kind, programme.file(), &keys, now);
    if args.lines {
        let (mut out, mut faults) = (String::new(), Vec::new());
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match one(line) {
                Ok((_, issued)) => {
                    out.push_str(&issued.text);
                    out.push('\n');
                }
                Err(why) => faults.push(format!("{} line {}: {why}", args.claims.display(), at + 1)),
            }
        }
        if !faults.is_empty() {
            faults.iter().for_each(|fault| tell(fault));
            return Ok(ExitCode::from(2));
        }
        say(out.trim_end()).map(|()| ExitCode::SUCCESS)
    } else {
        let (claims, issued) = one(&text).map_err(|why| format!("{}: {why}", args.claims.display()))?;
        if args.shape == Shape::Text {
            return say(&issued.text).map(|()| ExitCode::SUCCESS);
        }
        let bytes = shaped(args, programme.file(), &claims, &issued)?;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&bytes).and_then(|()| stdout.flush()).map_err(|error| error.to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The bytes of a certificate in another shape than text.
fn shaped(args: &IssueArgs, file: &ProgrammeFile, claims: &Claims, issued: &Issued) -> Result<Vec<u8>, String> {
    let qr = || issued.qr().map_err(|error| error.to_string());
    Ok(match args.shape {
        Shape::Text => issued.text.clone().into_bytes(),
        Shape::Payload => issued.qr_payload(),
        Shape::Svg => qr()?.svg().into_bytes(),
        Shape::Png => qr()?.png(8),
        Shape::Pdf => {
            let languages = sheet::languages(file);
            let language = match &args.language {
                None => languages.first().copied().unwrap_or("en"),
                Some(asked) => languages
                    .iter()
                    .find(|language| *language == asked)
                    .copied()
                    .ok_or_else(|| format!("--language: papers can be had in {}", languages.join(", ")))?,
            };
            let paper = sheet::pdf(&Fonts::new(), file, claims, issued.kind, &qr()?, language);
            paper.map_err(|error| format!("the paper: {error}"))?
        }
    })
}

fn certificate(
    text: &str,
    kind: CertificateKind,
    programme: &ProgrammeFile,
    keys: &KeyRing,
    now: Timestamp,
) -> Result<(Claims, Issued), String> {
    let claims: ClaimsFile = serde_json::from_str(text).map_err(|error| {
        // A message about a value would repeat it, and it may be a name.
        let (at, told) = (format!("line {}, column {}", error.line(), error.column()), error.to_string());
        let of_a_key =
            ["missing field", "unknown field", "duplicate field"].iter().any(|start| told.starts_with(start));
        if of_a_key { told } else { format!("{at}: is no JSON, or a value of another type") }
    })?;
    let claims = claims.claims(programme, now).map_err(|fault| fault.to_string())?;
    let issued = issue(kind, &claims, keys).map_err(|error| error.to_string())?;
    Ok((claims, issued))
}

fn made(args: &KeygenArgs) -> Result<ExitCode, String> {
    let programme = args.programme.as_deref().map(read_programme).transpose()?;
    let certificate = programme.as_ref().and_then(|programme| programme.file().certificate.as_ref());
    if args.kind == CertificateKind::EuDcc && certificate.is_none() {
        return Err("a key for eu_dcc needs --programme FILE with [certificate]: its own certificate names the issuer"
            .to_owned());
    }
    let not_before = args.from.unwrap_or_else(Timestamp::now);
    let day = TimeZone::UTC.to_datetime(not_before).date();
    let free = |name: &String| !["pem", "crt"].iter().any(|end| args.keys.join(format!("{name}.{end}")).exists());
    let default = format!("{}-{day}", args.kind);
    // A second one of a day, as where the first was stolen.
    let numbered = (2..1000).map(|number| format!("{default}-{number}"));
    let default = std::iter::once(default.clone()).chain(numbered).find(free).unwrap_or(default);
    let name = args.name.as_deref().unwrap_or(&default);
    let after = |days: u16| {
        let end = TimeZone::UTC.to_datetime(not_before).checked_add(i64::from(days).days());
        end.and_then(|end| TimeZone::UTC.to_timestamp(end)).map_err(|_| "--from: is beyond the calendar".to_owned())
    };
    // What it signs on its last day is to verify as long as any other.
    let valid_days = certificate.map_or(0, |certificate| certificate.valid_days);
    let (country, issuer) =
        certificate.map_or(("", ""), |certificate| (certificate.country.as_str(), certificate.issuer.as_str()));
    let (not_after, certified_until) = (after(args.days)?, after(args.days.saturating_add(valid_days))?);
    let key = NewKey { kind: args.kind, name, not_before, not_after, certified_until, country, issuer };
    let public = key_files::make(&args.keys, &key).map_err(|error| error.to_string())?;
    say(&format!("{} {}\nsigns from {not_before} to {not_after}", public.kind, public.key_id))?;
    tell(&format!(
        "berth: keep {} safe: whoever has it issues certificates",
        args.keys.join(format!("{name}.pem")).display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// A file, or standard input.
fn input(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(max).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(max).read_to_end(&mut bytes))
    };
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes)
}
