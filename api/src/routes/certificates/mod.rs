//! Certificates: of a party, in each format, as code and as paper; of who is on record here, or as a platform that keeps people itself tells it.
//!
//! A certificate is signed anew each time it is asked for, under the id that it has as long as the record stays as it is: nothing of it is kept.

mod judged;
mod public;

use std::sync::Arc;

use berth_engine::{BookingNumber, PartyId};
use berth_programme::Campaign;
use berth_programme::certificates::qr::Qr;
use berth_programme::certificates::record::{NoClaims, Record};
use berth_programme::certificates::register::{Registered, Standing};
use berth_programme::certificates::{
    CertificateId, CertificateKind, Claims, Holder, HolderFile, IssueError, Issued, KeyRing, SigningKey, issue, sheet,
};
use berth_programme::file::ProgrammeFile;
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_DISPOSITION, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub(crate) use self::judged::{release, revoke};
pub(crate) use self::public::{check, crl, did_documents, eu_signers, jwks, keys, revoked};
use super::people::today;
use super::{parse, read_json, safe};
use crate::access::{Role, Scope};
use crate::app::App;
use crate::body::ResponseBody;
use crate::certificates::Certificates;
use crate::gate::reason_needed;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, Route, respond};
use crate::store;
use crate::wire::Object;

/// Pixels of a module, where the request does not say, and at most.
const SCALE: u8 = 8;
const SCALE_MAX: u8 = 32;

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Code::MalformedRequest, detail)
}

fn certificates(app: &App) -> Result<&Arc<Certificates>, Problem> {
    app.certificates.as_ref().ok_or_else(store::unavailable)
}

fn none_here() -> Problem {
    Problem::new(
        Code::NoCertificates,
        "this server has no keys for certificates: see [certificates] in its configuration",
    )
}

fn unknown(id: &str) -> Problem {
    Problem::new(Code::UnknownCertificate, format!("there is no certificate {id}")).with("certificate", id)
}

fn no_claims(app: &App, id: &CertificateId, error: &NoClaims) -> Problem {
    match error {
        NoClaims::NotIssued => Problem::new(Code::NoCertificates, "the programme issues no certificates"),
        NoClaims::Ended | NoClaims::NoDose => {
            Problem::new(Code::CertificateEnded, format!("certificate {id} was ended, and no other begins"))
        }
        NoClaims::Nobody(party) => {
            let detail = format!("nothing is on record of who party {} is", app.names().party(*party));
            Problem::new(Code::NobodyOnRecord, detail)
        }
        NoClaims::Gap(_) => {
            tracing::error!(%error, "a certificate cannot be made");
            store::unavailable()
        }
        NoClaims::Store(error) => store::failed(error),
    }
}

/// Does something that may block, on a thread where that is welcome, when it is its turn.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App, &Certificates) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let desk = Arc::clone(certificates(app)?);
    in_turn(app, &desk.permits, work).await
}

async fn in_turn<T: Send + 'static>(
    app: &Arc<App>,
    permits: &Arc<Semaphore>,
    work: impl FnOnce(&App, &Certificates) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (desk, app) = (Arc::clone(certificates(app)?), Arc::clone(app));
    // Nobody closes them. The permit goes with the work, which goes on when whoever asked is gone.
    let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| store::unavailable())?;
    let work = move || {
        let _permit = permit;
        work(&app, &desk)
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| store::unavailable())?
}

/// Waits until reads see all that is on record of a party.
async fn seen(call: &Call, party: PartyId) -> Result<(), Problem> {
    let app = &call.app;
    let unknown = || problem::refused(&berth_engine::Refusal::UnknownParty { party }, &app.names());
    let view = app.campaign.engine.party_bookings(party).ok_or_else(unknown)?;
    // Records of people are entries of their own, behind those of the party.
    let seq = app.campaign.engine.durable().max(view.seq);
    safe(app, call.ack, seq).await?;
    store::reached(app, seq).await
}

/// `GET /v1/parties/{party}/certificates`
pub(crate) async fn of_party(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let party = super::doses::owner(&call.app, call.app.names().parse_party(&call.parameter)?)?;
    super::doses::may_read(&call, party)?;
    seen(&call, party).await?;
    let (found, kinds) = blocking(&call.app, move |app, desk| {
        let found = desk.register.of_party(party).map_err(|error| store::failed(&error))?;
        let rules = app.campaign.programme.get();
        let kinds = rules.file().certificate.as_ref().map_or_else(Vec::new, |file| file.kinds.clone());
        Ok((found, kinds))
    })
    .await?;
    let rows: Vec<Value> = found.iter().map(|one| told(&call.app, one)).collect();
    let names = call.app.names();
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    let answer = json!({"party": names.party(party), "kinds": kinds, "certificates": rows});
    Ok(respond(StatusCode::OK, Media::Json, answer.to_string()))
}

/// What is told of a certificate that says nothing of the person.
fn told(app: &App, one: &Registered) -> Value {
    let names = app.names();
    let stands = one.standing == Standing::Valid;
    let register = app.certificates.as_ref().map(|desk| &desk.register);
    let id = register.filter(|_| stands).map(|register| register.id(one.booking, one.version).to_string());
    json!({
        "certificate": id,
        "dose_record": names.dose(one.booking),
        "dose": app.campaign.engine.claimed(one.booking).map(|(claim, _)| claim.dose.0),
        "version": one.version,
        "state": match one.standing {
            Standing::Valid => "valid",
            Standing::NoDose => "dose_revoked",
            Standing::Withheld => "withheld",
        },
        "since": names.time(one.since),
    })
}

/// A certificate in the path, which the caller reaches.
fn reached(call: &Call) -> Result<(CertificateId, BookingNumber), Problem> {
    let app = &call.app;
    let id: CertificateId = call.parameter.parse().map_err(|_| unknown(&call.parameter))?;
    let (booking, _) = certificates(app)?.register.dose(&id).ok_or_else(|| unknown(&call.parameter))?;
    let caller = call.caller();
    let (claim, _) = app.campaign.engine.claimed(booking).ok_or_else(|| unknown(&call.parameter))?;
    let reaches = match caller.scope {
        Scope::Everything | Scope::Centres { .. } => caller.may_touch(booking, app),
        Scope::Parties(_) | Scope::Account(_) => {
            caller.may_act_for(super::doses::owner(app, claim.party)?, &app.names())
        }
    };
    reaches.map_err(|_| unknown(&call.parameter))?;
    Ok((id, booking))
}

/// What a request for a certificate says behind its path.
#[derive(Clone, Debug, Default)]
struct Asked {
    kind: Option<CertificateKind>,
    language: Option<String>,
    scale: Option<u8>,
}

impl Asked {
    fn parse(query: Option<&str>) -> Result<Asked, Problem> {
        let mut asked = Asked::default();
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let twice = || malformed(format!("{name}: stands twice"));
            match name {
                "kind" => {
                    let kind = value.parse().map_err(malformed)?;
                    asked.kind.replace(kind).map_or(Ok(()), |_| Err(twice()))?;
                }
                "language" => asked.language.replace(value.to_owned()).map_or(Ok(()), |_| Err(twice()))?,
                "scale" => {
                    let scale = value.parse().ok().filter(|scale| (1..=SCALE_MAX).contains(scale));
                    let scale = scale.ok_or_else(|| malformed(format!("scale: must be 1 to {SCALE_MAX}")))?;
                    asked.scale.replace(scale).map_or(Ok(()), |_| Err(twice()))?;
                }
                _ => return Err(malformed(format!("there is no parameter {name}; there are kind, language, scale"))),
            }
        }
        Ok(asked)
    }

    /// The kind that was asked for, or the programme's first.
    fn kind_of(&self, file: &ProgrammeFile) -> Result<CertificateKind, Problem> {
        let kinds = file.certificate.as_ref().map_or(&[][..], |certificate| &certificate.kinds);
        let first = kinds.first().copied();
        let first = first.ok_or_else(|| Problem::new(Code::NoCertificates, "the programme issues no certificates"))?;
        let kind = self.kind.unwrap_or(first);
        if kinds.contains(&kind) {
            return Ok(kind);
        }
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        Err(malformed(format!("kind: the programme issues {}, and not {kind}", names.join(", "))))
    }

    fn language_of<'f>(&self, file: &'f ProgrammeFile) -> Result<&'f str, Problem> {
        let languages = sheet::languages(file);
        let first = languages.first().copied().unwrap_or("en");
        let Some(asked) = &self.language else { return Ok(first) };
        let found = languages.iter().find(|language| language.eq_ignore_ascii_case(asked)).copied();
        found.ok_or_else(|| malformed(format!("language: papers can be had in {}", languages.join(", "))))
    }
}

/// A certificate that was just signed.
struct Made {
    claims: Claims,
    issued: Issued,
}

/// Signs it, if it stands.
fn make(
    app: &App,
    desk: &Certificates,
    id: &CertificateId,
    asked: &Asked,
    told: Option<Holder>,
) -> Result<Made, Problem> {
    let rules = app.campaign.programme.get();
    let kind = asked.kind_of(rules.file())?;
    let signing = desk.signing.as_ref().ok_or_else(none_here)?;
    let (booking, version) = desk.register.dose(id).ok_or_else(|| unknown(id.as_str()))?;
    let found = desk.register.of_dose(booking).map_err(|error| store::failed(&error))?;
    let found = found.ok_or_else(|| unknown(id.as_str()))?;
    if found.version != version || found.standing != Standing::Valid {
        return Err(ended(app, desk, id, &found));
    }
    let doses = app.doses.as_ref().ok_or_else(store::unavailable)?;
    let campaign: &Campaign = &app.campaign;
    let (record, now) = (Record { campaign, doses, register: &desk.register, cell: app.cell }, campaign.engine.now());
    let claims = match told {
        Some(holder) => record.claims_of(&found, holder, now),
        None => record.claims(&found, &app.registration.as_ref().ok_or_else(nobody_registers)?.people, now),
    };
    let mut claims = claims.map_err(|error| no_claims(app, id, &error))?;
    let keys = signing.keys();
    if let Some(end) = keys.active(kind, claims.issued_at).and_then(SigningKey::certified_until) {
        // No verifier takes it for longer, so neither answer nor paper says so.
        claims.expires_at = claims.expires_at.min(end);
    }
    let issued = sign(kind, &claims, &keys)?;
    Ok(Made { claims, issued })
}

fn nobody_registers() -> Problem {
    Problem::new(
        Code::NoCertificates,
        "people do not register here, so nothing is known of who a certificate is of: POST to this path says it",
    )
}

fn ended(app: &App, desk: &Certificates, id: &CertificateId, found: &Registered) -> Problem {
    let detail = format!("certificate {id} was ended: the record behind it has changed, or it was revoked");
    let problem = Problem::new(Code::CertificateEnded, detail);
    match found.standing {
        Standing::Valid => problem.with("certificate", desk.register.id(found.booking, found.version).to_string()),
        Standing::NoDose | Standing::Withheld => problem.with("dose_record", app.names().dose(found.booking)),
    }
}

fn sign(kind: CertificateKind, claims: &Claims, keys: &KeyRing) -> Result<Issued, Problem> {
    issue(kind, claims, keys).map_err(|error| {
        let code = match error {
            IssueError::NoKey { .. } | IssueError::Signing { .. } => {
                tracing::error!(%error, "a certificate cannot be signed");
                return Problem::new(Code::NoCertificates, error.to_string());
            }
            IssueError::Missing { .. } | IssueError::Unfit { .. } | IssueError::TooLong { .. } => Code::NotCertifiable,
        };
        Problem::new(code, error.to_string())
    })
}

fn drawn(issued: &Issued) -> Result<Qr, Problem> {
    issued.qr().map_err(|error| Problem::new(Code::NotCertifiable, error.to_string()))
}

/// Nothing of a person is kept on the way.
fn private(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    response
}

/// What a certificate says is shown to who acts for the person; to who helps them, with a reason that stands in the audit log.
async fn ready(call: &Call) -> Result<(CertificateId, Asked), Problem> {
    if call.caller().role != Role::Citizen {
        reason_needed(&call.headers)?;
    }
    let asked = Asked::parse(call.query.as_deref())?;
    let (id, booking) = reached(call)?;
    seen_of(call, &id, booking).await?;
    Ok((id, asked))
}

/// Waits until reads see all that is on record of whose dose it is.
async fn seen_of(call: &Call, id: &CertificateId, booking: BookingNumber) -> Result<(), Problem> {
    let party = call.app.campaign.engine.claimed(booking).map(|(claim, _)| claim.party);
    let party = super::doses::owner(&call.app, party.ok_or_else(|| unknown(id.as_str()))?)?;
    seen(call, party).await
}

/// What is made of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    Svg,
    Png,
    Paper,
}

impl Shape {
    fn of(route: Route) -> Shape {
        match route {
            Route::CertificateSvg | Route::IssueCertificateSvg => Shape::Svg,
            Route::CertificatePng | Route::IssueCertificatePng => Shape::Png,
            Route::CertificatePdf | Route::IssueCertificatePdf => Shape::Paper,
            _ => Shape::Text,
        }
    }
}

/// `GET /v1/certificates/{certificate}`, `.../qr.svg`, `.../qr.png`, `.../paper.pdf`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (id, asked) = ready(&call).await?;
    shaped(&call, id, asked, None).await
}

/// `POST /v1/certificates/{certificate}` and the same behind it: of who is not on record here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssueRequest {
    holder: Object<HolderFile>,
}

/// `POST /v1/certificates/{certificate}`, `.../qr.svg`, `.../qr.png`, `.../paper.pdf`
pub(crate) async fn issue_for(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let asked = Asked::parse(call.query.as_deref())?;
    let body = read_json(&mut call).await?;
    let IssueRequest { holder: Object(holder) } = parse(&body).map_err(|problem| silent(problem.code(), &body))?;
    let holder = holder.holder(today(&call.app)).map_err(|fault| malformed(fault.to_string()))?;
    let (id, booking) = reached(&call)?;
    if call.app.registration.is_some() {
        let detail = "people register here: who a certificate is of is on record, and GET has it";
        return Err(Problem::new(Code::HolderOnRecord, detail));
    }
    seen_of(&call, &id, booking).await?;
    shaped(&call, id, asked, Some(holder)).await
}

/// What is wrong with a body that says who somebody is, without a word of it.
fn silent(code: Code, body: &[u8]) -> Problem {
    let Err(error) = serde_json::from_slice::<Object<IssueRequest>>(body) else { return malformed("the body") };
    let (told, at) = (error.to_string(), format!("line {}, column {}", error.line(), error.column()));
    let of_a_key = ["missing field", "unknown field", "duplicate field"].iter().any(|start| told.starts_with(start));
    let what = if of_a_key { told } else { format!("{at}: is no JSON, or a value of another type") };
    Problem::new(code, format!("the body: {what}"))
}

/// Signs it and makes of it what the path asks for. `told`: who it is of, where that is not on record here. Nothing of it is kept.
async fn shaped(
    call: &Call,
    id: CertificateId,
    asked: Asked,
    told: Option<Holder>,
) -> Result<Response<ResponseBody>, Problem> {
    let shape = Shape::of(call.endpoint.route);
    let name = format!("attachment; filename=\"{id}.pdf\"");
    let body = blocking(&call.app, move |app, desk| {
        let rules = app.campaign.programme.get();
        let language = asked.language_of(rules.file())?;
        let Made { claims, issued } = make(app, desk, &id, &asked, told)?;
        Ok(match shape {
            Shape::Text => Bytes::from(
                json!({
                    "certificate": id.to_string(),
                    "kind": issued.kind.name(),
                    "key_id": issued.key_id,
                    "issued_at": claims.issued_at.to_string(),
                    "expires_at": claims.expires_at.to_string(),
                    "text": issued.text,
                })
                .to_string(),
            ),
            Shape::Svg => Bytes::from(drawn(&issued)?.svg()),
            Shape::Png => Bytes::from(drawn(&issued)?.png(asked.scale.unwrap_or(SCALE))),
            Shape::Paper => {
                let fonts = &desk.signing.as_ref().ok_or_else(none_here)?.fonts;
                let paper = sheet::pdf(fonts, rules.file(), &claims, issued.kind, &drawn(&issued)?, language);
                Bytes::from(paper.map_err(|error| Problem::new(Code::NotCertifiable, format!("the paper: {error}")))?)
            }
        })
    })
    .await?;
    let mut response = private(respond(StatusCode::OK, call.endpoint.gives, body));
    if shape == Shape::Paper
        && let Ok(name) = HeaderValue::from_str(&name)
    {
        response.headers_mut().insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
