//! From a request to the one function that answers it.
//!
//! [`TABLE`] is the whole surface. For every request, in this order: is there such a path (404) and
//! method (405 with `Allow`), does it bear a key or a token where it must (401), is there room for it (503), is the server still taking
//! requests (503), is its token signed (401) and does it carry the role (403), is it
//! within its rate (429) and audited (503), can the answer be of an accepted type (406), is the body of the right type (415), can it be as safe as was asked (503).

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use crate::access::{AccountId, Caller, NOBODY, Seen, Sight, Standing};
use crate::ack::{self, AckMode};
use crate::admission::{Class, Reading};
use crate::app::{App, Phase};
use crate::body::ResponseBody;
use crate::fhir;
use crate::gate::{Asked, Gate, Who};
use crate::problem::{Code, Problem};
use crate::routes;
use crate::search;
use crate::trace::{self, Trace};
use crate::traffic::{Door, Running, Traffic};

use self::accept::is_of_type;
pub(crate) use self::accept::negotiated;
use self::admit::{Admitted, Turned, admit};
use self::find::find;
pub(crate) use self::table::{Endpoint, Media, Route, TABLE};

mod accept;
mod admit;
mod find;
mod table;

/// A request on its way to its route.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) endpoint: &'static Endpoint,
    /// What stands at the template's parameter, as sent; of two, the first.
    pub(crate) parameter: String,
    /// What stands at the template's second parameter.
    pub(crate) parameter2: String,
    /// What the answer is to be, of what the endpoint gives.
    pub(crate) gives: Media,
    pub(crate) query: Option<String>,
    /// How safe what the answer rests on must be; the server's default until the router has read the header.
    pub(crate) ack: AckMode,
    /// Who asks, once they are through the gate; nobody where no key is needed.
    who: Who,
    /// Whose trace it belongs to.
    pub(crate) trace: Trace,
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    /// Tells its place that it waits for its body.
    pub(crate) reading: Reading,
}

impl Call {
    /// Who asks. The gate has checked that the role may; the route checks whom and where it reaches.
    pub(crate) fn caller(&self) -> &Caller {
        self.who.caller.as_deref().unwrap_or(&NOBODY)
    }

    /// The account it is for, if there is one.
    pub(crate) fn account(&self) -> Option<&AccountId> {
        self.who.account.as_ref()
    }

    /// Who asks, and what to ask again whether they still may.
    pub(crate) fn standing(&self) -> Result<(Standing, Arc<Caller>), Problem> {
        let caller = self.who.caller.clone().unwrap_or_default();
        Ok((Standing::of(&self.app.access, &self.headers, Arc::clone(&caller))?, caller))
    }

    /// What they may be shown of a booking.
    pub(crate) fn sight(&self) -> Sight {
        self.caller().sight()
    }
}

/// Answers one request. Never fails: what goes wrong is an answer too.
pub(crate) async fn answer(
    app: Arc<App>,
    traffic: Arc<Traffic>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let started = Instant::now();
    let running = traffic.request(started);
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let trace = app.traces.of(&head.headers);
    let found = find(&head.method, path).and_then(|found| {
        let answered_here = running.traffic().door == Door::Main || found.0.is_probe();
        answered_here
            .then_some(found)
            .ok_or_else(|| Problem::new(Code::NotFound, "this listener answers probes and metrics, and nothing else"))
    });
    let endpoint = found.as_ref().ok().map(|(endpoint, _)| *endpoint);
    // Probes and scrapes neither take room nor need any.
    let entered = endpoint.is_none_or(|e| !e.is_probe()).then(|| app.enter());
    let (inflight, room) = entered.map_or((None, true), |(inflight, room)| (Some(inflight), room));
    let mut gate = Gate::default();
    let kept = if room { search::kept(&app, endpoint, &head, started) } else { None };
    let mut turned = false;
    let answered = match (kept, found) {
        (Some(response), _) => Ok(response),
        (None, Err(problem)) => Err(problem),
        (None, Ok((endpoint, [parameter, parameter2]))) => {
            // Before anything is copied or read: what is refused here must cost less than what is served.
            match admit(&app, endpoint, parameter, &head.headers, (peer, started), room).await {
                Err(turned_away) => {
                    turned = true;
                    match turned_away {
                        Turned::Away(shed) => {
                            app.metrics.refused(Code::Overloaded);
                            Ok(if fhir::speaks(path) {
                                fhir::outcome::of_shed(shed, path)
                            } else {
                                shed.into_response(path)
                            })
                        }
                        Turned::Unknown(problem) => Err(problem),
                    }
                }
                Ok(admitted) => {
                    let call = Call {
                        ack: app.limits.ack,
                        who: Who::default(),
                        trace,
                        app: Arc::clone(&app),
                        endpoint,
                        parameter: parameter.to_owned(),
                        parameter2: parameter2.to_owned(),
                        gives: endpoint.gives,
                        query: head.uri.query().map(str::to_owned),
                        peer,
                        headers: head.headers,
                        body,
                        reading: Reading::default(),
                    };
                    let gated = Gated { app: &app, peer, now: started, gate: &mut gate };
                    enter(call, admitted, &running, gated).await
                }
            }
        }
    };
    let refused = answered.as_ref().err().map(Problem::code);
    let mut response = answered.unwrap_or_else(|problem| {
        app.metrics.refused(problem.code());
        if fhir::speaks(path) { fhir::outcome::of(problem, path) } else { problem.into_response(path) }
    });
    gate.tell(&mut response, refused);
    if turned && app.admission.is_strained() && !running.traffic().is_known() {
        running.traffic().leave(head.version, response.headers_mut());
    }
    if head.method == Method::HEAD {
        without_body(&mut response);
    }
    let now = Instant::now();
    let (status, took) = (response.status(), now.saturating_duration_since(started));
    // What is read by everybody and went well is told of its trace only if that was asked for: it is most of all answers.
    if trace.asked
        || !(status.is_success() || status == StatusCode::NOT_MODIFIED)
        || endpoint.is_none_or(|endpoint| endpoint.method != Method::GET)
    {
        response.headers_mut().insert(trace::HEADER, trace.header());
    }
    app.metrics.answered(endpoint, status, took);
    app.access_log.request(&head.method, endpoint, status, took, &trace);
    Ok(response.map(|body| body.of(inflight, running, now)))
}

/// What a request brings to the gate.
struct Gated<'a, 'g> {
    app: &'a App,
    peer: IpAddr,
    now: Instant,
    gate: &'g mut Gate<'a>,
}

/// Runs a request in its place.
async fn enter(
    call: Call,
    admitted: Admitted,
    running: &Running,
    gated: Gated<'_, '_>,
) -> Result<Response<ResponseBody>, Problem> {
    let Admitted { place, seen } = admitted;
    let Some((place, class)) = place else { return dispatch(call, gated, seen).await };
    let _counted = call.app.admission.running(class);
    let reading = call.reading.clone();
    let answered = place.run(&reading, dispatch(call, gated, seen)).await;
    if class <= Class::Claim && answered.as_ref().is_ok_and(|answer| answer.status().is_success()) {
        running.traffic().know();
    }
    answered
}

async fn dispatch(mut call: Call, gated: Gated<'_, '_>, seen: Option<Seen>) -> Result<Response<ResponseBody>, Problem> {
    let endpoint = call.endpoint;
    if call.app.phase() == Phase::Draining && !endpoint.is_probe() {
        return Err(Problem::new(Code::Draining, "this server is stopping: ask another, or again soon"));
    }
    // Whom a search names stands in its query; to the audit log that is no other than in a path.
    let patient = fhir::patient(endpoint, call.query.as_deref());
    let parameters = [patient.as_deref().unwrap_or(&call.parameter), call.parameter2.as_str()];
    let Gated { app, peer, now, gate } = gated;
    let (headers, trace) = (&call.headers, &call.trace);
    let asked = Asked { endpoint, parameters: &parameters, headers, trace, peer, now };
    call.who = gate.pass(app, &asked, seen).await?;
    call.gives = negotiated(&call.headers, endpoint, call.query.as_deref())?;
    is_of_type(&call.headers, endpoint)?;
    // Who needs no key is shown no claim.
    if !endpoint.roles.is_empty() {
        call.ack = ack::asked(&call.headers, &call.app)?;
        call.app.metrics.asked(call.ack);
    }
    match endpoint.route {
        Route::PublishRegions | Route::PublishCentres | Route::PublishSessions => routes::bulk::publish(call).await,
        Route::AddParties => routes::parties::add(call).await,
        Route::BulkParties => routes::bulk_parties::stream(call).await,
        Route::ReadFacts => routes::facts::read(call).await,
        Route::ChangeFacts => routes::facts::change(call).await,
        Route::Invite | Route::WithdrawInvitations => routes::invitations::change(call).await,
        Route::Eligibility => routes::facts::eligibility(call).await,
        Route::ReadProgramme => Ok(routes::programme::read(&call)),
        Route::ProgrammeHistory => Ok(routes::programme::history(&call)),
        Route::TakeUpProgramme => routes::programme::take_up(call).await,
        Route::BulkBookings => routes::bulk_bookings::stream(call).await,
        Route::CancelGroup => routes::bookings::cancel_group(call).await,
        Route::CheckIn => routes::door::check_in(call).await,
        Route::Complete => routes::doses::complete(call).await,
        Route::NoShow => routes::door::no_show(call).await,
        Route::PartyCertificates => routes::certificates::of_party(call).await,
        Route::ReadCertificate | Route::CertificateSvg | Route::CertificatePng | Route::CertificatePdf => {
            routes::certificates::read(call).await
        }
        Route::IssueCertificate
        | Route::IssueCertificateSvg
        | Route::IssueCertificatePng
        | Route::IssueCertificatePdf => routes::certificates::issue_for(call).await,
        Route::RevokeCertificate => routes::certificates::revoke(call).await,
        Route::ReleaseCertificate => routes::certificates::release(call).await,
        Route::VerifyCertificate => routes::certificates::check(call).await,
        Route::SmartHealthCardKeys => routes::certificates::jwks(call).await,
        Route::SmartHealthCardRevocations => routes::certificates::crl(call).await,
        Route::CertificateKeys => routes::certificates::keys(call).await,
        Route::EuSigners => routes::certificates::eu_signers(call).await,
        Route::DidDocuments => routes::certificates::did_documents(call).await,
        Route::RevokedCertificates => routes::certificates::revoked(call).await,
        Route::PartyDoses => routes::doses::of_party(call).await,
        Route::ReadDose => routes::doses::read(call).await,
        Route::CorrectDose => routes::doses::correct(call).await,
        Route::RevokeDose => routes::doses::revoke(call).await,
        Route::AdverseEvent => routes::doses::adverse(call).await,
        Route::UploadDoses => routes::doses::stream(call).await,
        Route::MakeBatch => routes::supply::batches::make(call).await,
        Route::ListBatches => routes::supply::batches::list(call).await,
        Route::ReadBatch => routes::supply::batches::read(call).await,
        Route::CorrectBatch => routes::supply::batches::correct(call).await,
        Route::RecallBatch | Route::LiftRecall => routes::supply::batches::recall(call).await,
        Route::Receive => routes::supply::stock::receive(call).await,
        Route::SendDoses => routes::supply::stock::send(call).await,
        Route::ReadTransfer => routes::supply::stock::read_transfer(call).await,
        Route::ReceiveTransfer => routes::supply::stock::arrive(call).await,
        Route::CancelTransfer => routes::supply::stock::cancel(call).await,
        Route::WasteDoses => routes::supply::stock::waste(call).await,
        Route::CountStock => routes::supply::stock::count(call).await,
        Route::CentreStock => routes::supply::stock::read(call).await,
        Route::BatchDoses => routes::supply::trace::doses(call).await,
        Route::RecallList => routes::supply::trace::recall_list(call).await,
        Route::CentreWaste => routes::supply::report::of_centre(call).await,
        Route::DistrictWaste => routes::supply::report::of_district(call).await,
        Route::WalkIn => routes::door::walk_in(call).await,
        Route::DayBookings => routes::listing::day(call).await,
        Route::JoinWaitlist => routes::waitlist::join(call).await,
        Route::ReadWaiting => routes::waitlist::read(call).await,
        Route::LeaveWaitlist => routes::waitlist::leave(call).await,
        Route::PartyWaitlist => routes::waitlist::of_party(call).await,
        Route::CentreWaitlist => routes::waitlist::of_centre(call).await,
        Route::DistrictWaitlist => routes::waitlist::of_district(call).await,
        Route::PartyHistory => routes::listing::history(call).await,
        Route::MoveSessionBookings => routes::session_bookings::move_all(call).await,
        Route::CancelSessionBookings => routes::session_bookings::cancel_all(call).await,
        Route::CloseSession | Route::OpenSession => routes::sessions::set_open(call).await,
        Route::ResizeSession => routes::sessions::resize(call).await,
        Route::ReadSession => routes::catalogue::session(&call),
        Route::ReadCentre => routes::catalogue::centre(&call),
        Route::ReadSlot => routes::catalogue::slot(&call),
        Route::PartyBookings => routes::parties::bookings(call).await,
        Route::ListRegions => routes::regions::regions(&call),
        Route::Availability => search::search(&call.app, call.query.as_deref(), &call.headers).await,
        Route::Hold => routes::holds::hold(call).await,
        Route::Confirm => routes::holds::confirm(call).await,
        Route::Release => routes::holds::release(call).await,
        Route::Book => routes::bookings::book(call).await,
        Route::ReadBooking => routes::bookings::read(call).await,
        Route::ReadReference => routes::bookings::read_reference(call).await,
        Route::Cancel => routes::bookings::cancel(call).await,
        Route::Move => routes::bookings::move_to(call).await,
        Route::Outcome => routes::outcomes::read(call).await,
        Route::MakeLottery => routes::lotteries::make(call).await,
        Route::ListLotteries => routes::lotteries::list(&call),
        Route::ReadLottery => routes::lotteries::read(&call),
        Route::RegisterForLottery => routes::lotteries::register(call).await,
        Route::ReadLotteryRegistration => routes::lotteries::read_registration(call).await,
        Route::WithdrawFromLottery => routes::lotteries::withdraw(call).await,
        Route::DrawLottery => routes::lotteries::draw(call).await,
        Route::LotteryResult => routes::lotteries::result(&call),
        Route::AskCode => routes::people::sessions::ask(call).await,
        Route::OpenAccount => routes::people::sessions::open(call).await,
        Route::ReadAccount => routes::people::account::read(call).await,
        Route::CloseAccount => routes::people::account::close(call).await,
        Route::AddMember => routes::people::account::add(call).await,
        Route::CorrectMember => routes::people::account::correct(call).await,
        Route::EraseMember => routes::people::account::erase(call).await,
        Route::OfferMember => routes::people::account::offer(call).await,
        Route::AcceptMember => routes::people::account::accept(call).await,
        Route::RegisterPerson => routes::people::assisted::register(call).await,
        Route::FindPeople => routes::people::assisted::find(call).await,
        Route::ReadPerson => routes::people::assisted::read(call).await,
        Route::CorrectPerson => routes::people::assisted::correct(call).await,
        Route::ErasePerson => routes::people::assisted::erase(call).await,
        Route::MergePeople => routes::people::assisted::merge(call).await,
        Route::ChangePhoneFor => routes::people::assisted::change_phone(call).await,
        Route::PutIntoAccount => routes::people::assisted::put_into(call).await,
        Route::ChangePhone => routes::people::account::change_phone(call).await,
        Route::ImportPeople => routes::people::bulk::import(call).await,
        Route::ExportPeople => routes::people::bulk::export(&call),
        Route::RevokeToken => routes::revocations::revoke(call).await,
        Route::FhirMetadata => fhir::capability::metadata(&call),
        Route::FhirLocations => fhir::locations::search(&call).await,
        Route::FhirLocation => fhir::locations::read(&call),
        Route::FhirSchedules => fhir::schedules::search(&call).await,
        Route::FhirSchedule => fhir::schedules::read(&call),
        Route::FhirSlots => fhir::slots::search(&call).await,
        Route::FhirSlot => fhir::slots::read(&call),
        Route::FhirAppointments => fhir::appointments::search(&call).await,
        Route::FhirAppointment => fhir::appointments::read(&call).await,
        Route::FhirImmunizations => fhir::immunizations::search(&call).await,
        Route::FhirImmunization => fhir::immunizations::read(&call).await,
        Route::BulkPublish => fhir::publish::manifest(&call).await,
        Route::PublishedLocations | Route::PublishedSchedules | Route::PublishedSlots => {
            fhir::publish::file(&call).await
        }
        Route::Export => Ok(routes::export::export(&call)),
        Route::ReadAdmission => Ok(routes::admission::read(&call.app)),
        Route::ChangeAdmission => routes::admission::change(call).await,
        Route::Healthz | Route::Livez => Ok(routes::operations::healthz()),
        Route::Readyz => Ok(routes::operations::readyz(&call.app).await),
        Route::Metrics => Ok(routes::operations::metrics(&call.app).await),
        Route::Version => Ok(routes::operations::version(&call.app)),
        Route::OpenApi => Ok(routes::operations::openapi(&call.app)),
        Route::Docs => Ok(routes::operations::docs(&call.app)),
    }
}

fn without_body(response: &mut Response<ResponseBody>) {
    if let ResponseBody::Whole(Some(bytes)) = response.body() {
        let length = HeaderValue::from(bytes.len());
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    *response.body_mut() = ResponseBody::Whole(None);
}

/// A good answer.
pub(crate) fn respond(status: StatusCode, media: Media, body: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::whole(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.content_type()));
    // What was true a moment ago of a slot or booking is nothing for a cache to repeat.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
