//! Certificates: of a party, in each format, as code and as paper; ended by the administration; verified by anybody.
//!
//! A certificate is signed anew each time it is asked for, under the id that it has as long as the record stays as it is: nothing of it is kept.

use std::sync::Arc;

use berth_engine::{BookingNumber, PartyId, Seq, TimestampMs};
use berth_programme::Campaign;
use berth_programme::certificates::qr::Qr;
use berth_programme::certificates::record::{NoClaims, Record};
use berth_programme::certificates::register::{NotDone, Reason, Registered, Standing, Verdict};
use berth_programme::certificates::{
    CertificateId, CertificateKind, Claims, IssueError, Issued, KeyRing, Refused, SigningKey, issue, sheet, verify,
};
use berth_programme::file::ProgrammeFile;
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_DISPOSITION, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{fingerprint, key, mark_replayed, parse, read_body, read_json, read_nothing, safe};
use crate::access::{Role, Scope};
use crate::app::App;
use crate::body::ResponseBody;
use crate::certificates::{Certificates, Signing};
use crate::gate::reason_needed;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::store;

/// The largest certificate that is looked at.
const TEXT_BYTES_MAX: usize = 64 << 10;
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

/// As [`blocking`], of what everybody may ask for.
async fn in_public<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App, &Certificates) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let desk = Arc::clone(certificates(app)?);
    in_turn(app, &desk.public, work).await
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
fn make(app: &App, desk: &Certificates, id: &CertificateId, asked: &Asked) -> Result<Made, Problem> {
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
    let people = &app.registration.as_ref().ok_or_else(nobody_registers)?.people;
    let campaign: &Campaign = &app.campaign;
    let record = Record { campaign, doses, people, register: &desk.register, cell: app.cell };
    let mut claims = record.claims(&found, campaign.engine.now()).map_err(|error| no_claims(app, id, &error))?;
    let keys = signing.keys();
    if let Some(end) = keys.active(kind, claims.issued_at).and_then(SigningKey::certified_until) {
        // No verifier takes it for longer, so neither answer nor paper says so.
        claims.expires_at = claims.expires_at.min(end);
    }
    let issued = sign(kind, &claims, &keys)?;
    Ok(Made { claims, issued })
}

fn nobody_registers() -> Problem {
    Problem::new(Code::NoCertificates, "people do not register here, so nothing is known of who a certificate is of")
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
    let party = call.app.campaign.engine.claimed(booking).map(|(claim, _)| claim.party);
    let party = super::doses::owner(&call.app, party.ok_or_else(|| unknown(id.as_str()))?)?;
    seen(call, party).await?;
    Ok((id, asked))
}

/// `GET /v1/certificates/{certificate}`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (id, asked) = ready(&call).await?;
    let answer = blocking(&call.app, move |app, desk| {
        let Made { claims, issued } = make(app, desk, &id, &asked)?;
        Ok(json!({
            "certificate": id.to_string(),
            "kind": issued.kind.name(),
            "key_id": issued.key_id,
            "issued_at": claims.issued_at.to_string(),
            "expires_at": claims.expires_at.to_string(),
            "text": issued.text,
        }))
    })
    .await?;
    Ok(private(respond(StatusCode::OK, Media::Json, answer.to_string())))
}

/// `GET /v1/certificates/{certificate}/qr.svg`
pub(crate) async fn svg(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (id, asked) = ready(&call).await?;
    let picture = blocking(&call.app, move |app, desk| Ok(drawn(&make(app, desk, &id, &asked)?.issued)?.svg())).await?;
    Ok(private(respond(StatusCode::OK, Media::Svg, picture)))
}

/// `GET /v1/certificates/{certificate}/qr.png`
pub(crate) async fn png(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (id, asked) = ready(&call).await?;
    let scale = asked.scale.unwrap_or(SCALE);
    let picture =
        blocking(&call.app, move |app, desk| Ok(drawn(&make(app, desk, &id, &asked)?.issued)?.png(scale))).await?;
    Ok(private(respond(StatusCode::OK, Media::Png, picture)))
}

/// `GET /v1/certificates/{certificate}/paper.pdf`
pub(crate) async fn pdf(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (id, asked) = ready(&call).await?;
    let name = format!("attachment; filename=\"{id}.pdf\"");
    let paper = blocking(&call.app, move |app, desk| {
        let rules = app.campaign.programme.get();
        let language = asked.language_of(rules.file())?;
        let Made { claims, issued } = make(app, desk, &id, &asked)?;
        let fonts = &desk.signing.as_ref().ok_or_else(none_here)?.fonts;
        let qr = drawn(&issued)?;
        sheet::pdf(fonts, rules.file(), &claims, issued.kind, &qr, language)
            .map_err(|error| Problem::new(Code::NotCertifiable, format!("the paper: {error}")))
    })
    .await?;
    let mut response = private(respond(StatusCode::OK, Media::Pdf, paper));
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// `POST /v1/certificates/{certificate}/revoke`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeRequest {
    reason: String,
    /// Whether the next may begin at once.
    #[serde(default = "yes")]
    replace: bool,
}

const fn yes() -> bool {
    true
}

/// `POST /v1/certificates/{certificate}/revoke`
pub(crate) async fn revoke(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let request: RevokeRequest = parse(&body)?;
    let reason = Reason::GIVEN.into_iter().find(|reason| reason.as_str() == request.reason);
    let reason = reason.ok_or_else(|| malformed("reason: must be fraud, lost or error"))?;
    let verdict = if request.replace { Verdict::Replaced } else { Verdict::Withheld };
    let print =
        fingerprint(&call).piece(call.parameter.as_bytes()).piece(request.reason.as_bytes()).number(verdict as u64);
    judged(call, verdict, reason, print.under(key)).await
}

/// `POST /v1/certificates/{certificate}/release`
pub(crate) async fn release(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    read_nothing(&mut call).await?;
    let print = fingerprint(&call).piece(call.parameter.as_bytes());
    judged(call, Verdict::Released, Reason::Error, print.under(key)).await
}

async fn judged(
    call: Call,
    verdict: Verdict,
    reason: Reason,
    idempotency: berth_engine::Idempotency,
) -> Result<Response<ResponseBody>, Problem> {
    let (id, _) = reached(&call)?;
    seen_all(&call).await?;
    let done = blocking(&call.app, {
        let id = id.clone();
        move |app, desk| {
            let now = app.campaign.engine.now();
            desk.register.judge(&id, verdict, reason, idempotency, now).map_err(|error| match error {
                NotDone::Unknown(_) => unknown(id.as_str()),
                NotDone::Ended(_) => Problem::new(Code::CertificateEnded, error.to_string()),
                NotDone::Stands(_) | NotDone::TooMany(_) => Problem::new(Code::CertificateStands, error.to_string()),
                NotDone::Refused(refusal) => problem::refused(&refusal, &app.names()),
                NotDone::Failed(failure) => problem::failed(&failure),
                NotDone::Store(error) => store::failed(&error),
            })
        }
    })
    .await?;
    safe(&call.app, call.ack, done.seq).await?;
    store::reached(&call.app, done.seq).await?;
    let stands = blocking(&call.app, move |app, desk| {
        if !desk.register.did(&done).map_err(|error| store::failed(&error))? {
            let detail = format!("the record behind certificate {id} changed meanwhile: look at what stands now");
            return Err(Problem::new(Code::CertificateEnded, detail));
        }
        let found = desk.register.of_dose(done.booking).map_err(|error| store::failed(&error))?;
        found.map(|one| told(app, &one)).ok_or_else(|| unknown(id.as_str()))
    })
    .await?;
    let mut response = respond(StatusCode::OK, Media::Json, stands.to_string());
    if done.replayed {
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// Waits until reads see all that is durable.
async fn seen_all(call: &Call) -> Result<(), Problem> {
    store::reached(&call.app, call.app.campaign.engine.durable()).await
}

/// `POST /v1/certificates/verify`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyRequest {
    certificate: Value,
}

/// `POST /v1/certificates/verify`
pub(crate) async fn check(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let body = read_body(&mut call, TEXT_BYTES_MAX).await?;
    let VerifyRequest { certificate } = parse(&body)?;
    let text = match certificate {
        Value::String(text) => text,
        object @ Value::Object(_) => object.to_string(),
        _ => return Err(malformed("certificate: must be a text, or the object of a Verifiable Credential")),
    };
    // What was ended by then is known by then.
    seen_all(&call).await?;
    let answer = in_public(&call.app, move |app, desk| {
        let signing = desk.signing.as_ref().ok_or_else(none_here)?;
        let now = at(app.campaign.engine.now());
        Ok(match verify(text.as_bytes(), signing.keys().public(), &*desk.register, now) {
            Ok(good) => json!({
                "valid": true,
                "kind": good.kind.name(),
                "certificate": good.id.to_string(),
                "key_id": good.key_id,
                "issuer": good.issuer,
                "issued_at": good.issued_at.to_string(),
                "expires_at": good.expires_at.map(|at| at.to_string()),
                "name": good.name,
                "born": good.born,
                "product": good.product,
                "dose": good.dose.map(|(number, _)| number),
                "doses": good.dose.map(|(_, of)| of),
                "given_on": good.given_on,
            }),
            Err(refused) => told_refused(&refused),
        })
    })
    .await?;
    Ok(private(respond(StatusCode::OK, Media::Json, answer.to_string())))
}

fn told_refused(refused: &Refused) -> Value {
    json!({"valid": false, "reason": refused.code(), "detail": refused.to_string()})
}

fn at(now: TimestampMs) -> jiff::Timestamp {
    i64::try_from(now.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}

/// What everybody may have, from wherever they look: keys, and what was ended.
fn public(body: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = respond(StatusCode::OK, Media::Json, body.into());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
    response
}

fn signing(app: &App) -> Result<&Signing, Problem> {
    app.signing().ok_or_else(none_here)
}

/// `GET /.well-known/jwks.json`
pub(crate) async fn jwks(call: Call) -> Result<Response<ResponseBody>, Problem> {
    signing(&call.app)?;
    seen_all(&call).await?;
    let keys = in_public(&call.app, |app, desk| {
        let count = desk.register.ended_count().map_err(|error| store::failed(&error))?;
        Ok(signing(app)?.keys().public().smart_health_card_jwks(Some(count)))
    })
    .await?;
    Ok(public(keys))
}

/// `GET /.well-known/certificates/keys.json`
pub(crate) async fn keys(call: Call) -> Result<Response<ResponseBody>, Problem> {
    Ok(public(signing(&call.app)?.keys().public().to_jwks()))
}

/// `GET /.well-known/certificates/eu-signers.json`
pub(crate) async fn eu_signers(call: Call) -> Result<Response<ResponseBody>, Problem> {
    Ok(public(signing(&call.app)?.keys().public().eu_signers()))
}

/// `GET /.well-known/certificates/did-documents.json`
pub(crate) async fn did_documents(call: Call) -> Result<Response<ResponseBody>, Problem> {
    Ok(public(signing(&call.app)?.keys().public().did_documents()))
}

/// Entries of one page of what was ended; one may hold more certificates than one, and they stay together.
const PAGE: usize = 10_000;

/// `GET /.well-known/certificates/revoked.json`
pub(crate) async fn revoked(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let mut after = Seq(0);
    for pair in call.query.as_deref().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let number = pair.strip_prefix("after=").and_then(|text| text.parse().ok());
        after = Seq(number.ok_or_else(|| malformed("there is one parameter, after, the number of an entry"))?);
    }
    seen_all(&call).await?;
    let answer = in_public(&call.app, move |app, desk| {
        let names = app.names();
        let (mut rows, mut last, mut more) = (Vec::new(), after, false);
        for row in desk.register.ended_after(after) {
            let row = row.map_err(|error| store::failed(&error))?;
            if rows.len() >= PAGE && row.seq != last {
                more = true;
                break;
            }
            last = row.seq;
            let (id, at) = (row.id.to_string(), names.time(row.at));
            rows.push(json!({"certificate": id, "at": at, "reason": row.reason.as_str()}));
        }
        let count = desk.register.ended_count().map_err(|error| store::failed(&error))?;
        let next = more.then(|| last.0.to_string());
        let complete = app.store.as_ref().is_some_and(|store| store.began().0 == 0);
        Ok(json!({"count": count, "complete": complete, "revoked": rows, "after": last.0.to_string(), "next": next}))
    })
    .await?;
    Ok(public(answer.to_string()))
}

/// `GET /.well-known/crl/{file}`: what was ended, as verifiers of SMART Health Cards read it.
pub(crate) async fn crl(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let missing = || Problem::new(Code::NotFound, "there is no such key");
    let key_id = call.parameter.strip_suffix(".json").ok_or_else(missing)?.to_owned();
    let known = signing(&call.app)?.keys();
    let known = known.public().iter().any(|key| key.kind == CertificateKind::SmartHealthCard && key.key_id == key_id);
    if !known {
        return Err(missing());
    }
    seen_all(&call).await?;
    let list =
        in_public(&call.app, move |_, desk| desk.revoked_cards(&key_id).map_err(|error| store::failed(&error))).await?;
    Ok(public(list))
}
