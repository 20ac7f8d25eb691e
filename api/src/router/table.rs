//! The whole surface: one row for each endpoint. From it come the routing, the metrics' labels, the OpenAPI document and the
//! matrix of who may what.

use hyper::Method;

use crate::access::Role;

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    PublishRegions,
    PublishCentres,
    PublishSessions,
    AddParties,
    BulkParties,
    Invite,
    WithdrawInvitations,
    ReadFacts,
    ChangeFacts,
    Eligibility,
    ReadProgramme,
    ProgrammeHistory,
    TakeUpProgramme,
    ListRegions,
    Availability,
    Hold,
    Confirm,
    Release,
    Book,
    ReadBooking,
    ReadReference,
    Cancel,
    Move,
    CancelGroup,
    BulkBookings,
    CheckIn,
    Complete,
    NoShow,
    WalkIn,
    PartyDoses,
    ReadDose,
    CorrectDose,
    RevokeDose,
    AdverseEvent,
    UploadDoses,
    MakeBatch,
    ListBatches,
    ReadBatch,
    CorrectBatch,
    RecallBatch,
    LiftRecall,
    Receive,
    SendDoses,
    ReadTransfer,
    ReceiveTransfer,
    CancelTransfer,
    WasteDoses,
    CountStock,
    CentreStock,
    BatchDoses,
    RecallList,
    CentreWaste,
    DistrictWaste,
    DayBookings,
    PartyHistory,
    JoinWaitlist,
    ReadWaiting,
    LeaveWaitlist,
    PartyWaitlist,
    CentreWaitlist,
    DistrictWaitlist,
    MoveSessionBookings,
    CancelSessionBookings,
    CloseSession,
    OpenSession,
    ResizeSession,
    ReadSession,
    ReadCentre,
    ReadSlot,
    PartyBookings,
    Outcome,
    MakeLottery,
    ListLotteries,
    ReadLottery,
    RegisterForLottery,
    ReadLotteryRegistration,
    WithdrawFromLottery,
    DrawLottery,
    LotteryResult,
    PartyCertificates,
    ReadCertificate,
    CertificateSvg,
    CertificatePng,
    CertificatePdf,
    IssueCertificate,
    IssueCertificateSvg,
    IssueCertificatePng,
    IssueCertificatePdf,
    RevokeCertificate,
    ReleaseCertificate,
    VerifyCertificate,
    SmartHealthCardKeys,
    SmartHealthCardRevocations,
    CertificateKeys,
    EuSigners,
    DidDocuments,
    RevokedCertificates,
    AskCode,
    OpenAccount,
    ReadAccount,
    CloseAccount,
    ChangePhone,
    AddMember,
    CorrectMember,
    EraseMember,
    OfferMember,
    AcceptMember,
    RegisterPerson,
    FindPeople,
    ReadPerson,
    CorrectPerson,
    ErasePerson,
    MergePeople,
    ChangePhoneFor,
    PutIntoAccount,
    ImportPeople,
    ExportPeople,
    RevokeToken,
    FhirMetadata,
    FhirLocations,
    FhirLocation,
    FhirSchedules,
    FhirSchedule,
    FhirSlots,
    FhirSlot,
    FhirAppointments,
    FhirAppointment,
    FhirImmunizations,
    FhirImmunization,
    BulkPublish,
    PublishedLocations,
    PublishedSchedules,
    PublishedSlots,
    Export,
    ReadAdmission,
    ChangeAdmission,
    Healthz,
    Livez,
    Readyz,
    Metrics,
    Version,
    OpenApi,
    Docs,
}

/// What a body is, in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Ndjson,
    Fhir,
    FhirNdjson,
    Csv,
    Toml,
    Text,
    Html,
    Svg,
    Png,
    Pdf,
}

impl Media {
    pub(crate) fn essence(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Ndjson => "application/x-ndjson",
            Media::Fhir => "application/fhir+json",
            Media::FhirNdjson => "application/fhir+ndjson",
            Media::Csv => "text/csv",
            Media::Toml => "application/toml",
            Media::Text => "text/plain",
            Media::Html => "text/html",
            Media::Svg => "image/svg+xml",
            Media::Png => "image/png",
            Media::Pdf => "application/pdf",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Ndjson => "application/x-ndjson",
            Media::Fhir => "application/fhir+json",
            Media::FhirNdjson => "application/fhir+ndjson",
            Media::Csv => "text/csv; charset=utf-8; header=present",
            Media::Toml => "application/toml",
            Media::Text => "text/plain; version=0.0.4; charset=utf-8",
            Media::Html => "text/html; charset=utf-8",
            Media::Svg => "image/svg+xml",
            Media::Png => "image/png",
            Media::Pdf => "application/pdf",
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) route: Route,
    pub(crate) method: Method,
    /// The path, with at most two `{parameters}`; also the metrics label.
    pub(crate) template: &'static str,
    /// Who may ask; empty: everybody, without a key.
    pub(crate) roles: &'static [Role],
    pub(crate) takes: Media,
    pub(crate) gives: Media,
    /// What the answer can be instead, if the client would rather have it.
    pub(crate) also: Option<Media>,
}

impl Endpoint {
    pub(crate) fn method_name(&self) -> &'static str {
        match self.method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PATCH => "PATCH",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            _ => "OTHER",
        }
    }

    pub(crate) fn is_for_admins_only(&self) -> bool {
        self.roles == ADMIN
    }

    /// Whether it is of people's records: every request is audited, whoever asks, and may say why.
    pub(crate) fn is_of_people(&self) -> bool {
        self.template.starts_with("/v1/people")
            || self.template.starts_with("/v1/certificates/{certificate}")
            || matches!(self.template, "/v1/bulk/people" | "/v1/batches/{batch}/recall-list")
    }

    /// Probes and metrics answer whatever the load and to the last moment.
    pub(crate) fn is_probe(&self) -> bool {
        matches!(self.route, Route::Healthz | Route::Livez | Route::Readyz | Route::Metrics | Route::Version)
    }
}

const fn get(template: &'static str, roles: &'static [Role], route: Route, gives: Media) -> Endpoint {
    Endpoint { route, method: Method::GET, template, roles, takes: Media::Json, gives, also: None }
}

const fn post(template: &'static str, roles: &'static [Role], route: Route, takes: Media) -> Endpoint {
    Endpoint { route, method: Method::POST, template, roles, takes, gives: Media::Json, also: None }
}

/// What is made of what is told, and is no JSON.
const fn told(template: &'static str, roles: &'static [Role], route: Route, gives: Media) -> Endpoint {
    Endpoint { route, method: Method::POST, template, roles, takes: Media::Json, gives, also: None }
}

/// What can be had as a table, too.
const fn list(template: &'static str, roles: &'static [Role], route: Route) -> Endpoint {
    let (method, also) = (Method::GET, Some(Media::Csv));
    Endpoint { route, method, template, roles, takes: Media::Json, gives: Media::Json, also }
}

/// A resource of FHIR, or a bundle of them: plain JSON to who asks for that.
const fn fhir(template: &'static str, roles: &'static [Role], route: Route) -> Endpoint {
    let (method, also) = (Method::GET, Some(Media::Json));
    Endpoint { route, method, template, roles, takes: Media::Json, gives: Media::Fhir, also }
}

/// What is published in files, for who copies all of it.
const fn published(template: &'static str, route: Route, gives: Media, also: Media) -> Endpoint {
    let also = Some(also);
    Endpoint { route, method: Method::GET, template, roles: ANYBODY, takes: Media::Json, gives, also }
}

/// Lines in, a result for each out.
const fn stream(template: &'static str, roles: &'static [Role], route: Route, takes: Media) -> Endpoint {
    Endpoint { route, method: Method::POST, template, roles, takes, gives: Media::Ndjson, also: None }
}

const fn patch(template: &'static str, roles: &'static [Role], route: Route) -> Endpoint {
    Endpoint { route, method: Method::PATCH, template, roles, takes: Media::Json, gives: Media::Json, also: None }
}

const fn delete(template: &'static str, roles: &'static [Role], route: Route) -> Endpoint {
    Endpoint { route, method: Method::DELETE, template, roles, takes: Media::Json, gives: Media::Json, also: None }
}

const ANYBODY: &[Role] = &[];
const ADMIN: &[Role] = &[Role::Admin];
const PLATFORM: &[Role] = &[Role::Platform];
/// Who claims for parties: a citizen for its own.
const CLAIMS: &[Role] = &[Role::Platform, Role::Citizen];
/// Who books for parties in one step, and gives up or moves what is booked: an operator at its centres, for who asks for help.
const BOOKS: &[Role] = &[Role::Platform, Role::Citizen, Role::Operator];
/// Who may see a booking: a citizen its own, an operator those at its centres.
const SEES: &[Role] = &[Role::Platform, Role::Citizen, Role::Operator];
/// Who works at the door of a centre: an operator at its own.
const DOOR: &[Role] = &[Role::Operator, Role::Platform];
/// Who may say that something of a dose was wrong, and what of supply moves: an operator of those of its centre.
const DOSES: &[Role] = &[Role::Operator, Role::Admin];
/// Who asks what a party may have: a citizen for its own.
const ASKS: &[Role] = &[Role::Platform, Role::Citizen, Role::Operator];
/// Who says what is known of a party.
const KNOWS: &[Role] = &[Role::Platform, Role::Admin];
/// Who may read it: a citizen of its own.
const READS: &[Role] = &[Role::Platform, Role::Citizen, Role::Admin];
/// Whoever is in front of the screen, for its own account.
const CITIZEN: &[Role] = &[Role::Citizen];
/// Who helps people that do not help themselves: a call centre, the staff of a centre.
const HELPS: &[Role] = &[Role::Platform, Role::Operator, Role::Admin];
/// Who puts records right for others.
const RECORDS: &[Role] = &[Role::Platform, Role::Admin];
/// Everybody who has a key for anything that is posted.
const POSTS: &[Role] = &[Role::Platform, Role::Citizen, Role::Operator, Role::Admin];

/// Every endpoint. What is asked most often stands first.
pub(crate) static TABLE: &[Endpoint] = &[
    get("/v1/availability", ANYBODY, Route::Availability, Media::Json),
    post("/v1/holds", CLAIMS, Route::Hold, Media::Json),
    post("/v1/holds/{hold}/confirm", CLAIMS, Route::Confirm, Media::Json),
    post("/v1/holds/{hold}/release", CLAIMS, Route::Release, Media::Json),
    post("/v1/bookings", BOOKS, Route::Book, Media::Json),
    get("/v1/bookings/{booking}", SEES, Route::ReadBooking, Media::Json),
    post("/v1/bookings/{booking}/cancel", BOOKS, Route::Cancel, Media::Json),
    post("/v1/bookings/{booking}/move", BOOKS, Route::Move, Media::Json),
    post("/v1/bookings/cancel", BOOKS, Route::CancelGroup, Media::Json),
    post("/v1/bookings/{booking}/check-in", DOOR, Route::CheckIn, Media::Json),
    post("/v1/bookings/{booking}/complete", DOOR, Route::Complete, Media::Json),
    post("/v1/bookings/{booking}/no-show", DOOR, Route::NoShow, Media::Json),
    post("/v1/walk-ins", DOOR, Route::WalkIn, Media::Json),
    get("/v1/parties/{party}/doses", POSTS, Route::PartyDoses, Media::Json),
    get("/v1/doses/{dose}", POSTS, Route::ReadDose, Media::Json),
    post("/v1/doses/{dose}/correct", DOSES, Route::CorrectDose, Media::Json),
    post("/v1/doses/{dose}/revoke", DOSES, Route::RevokeDose, Media::Json),
    post("/v1/doses/{dose}/adverse-events", DOSES, Route::AdverseEvent, Media::Json),
    stream("/v1/bulk/doses", DOOR, Route::UploadDoses, Media::Ndjson),
    list("/v1/centres/{centre}/days/{date}/bookings", DOOR, Route::DayBookings),
    get("/v1/parties/{party}/certificates", POSTS, Route::PartyCertificates, Media::Json),
    get("/v1/certificates/{certificate}", POSTS, Route::ReadCertificate, Media::Json),
    get("/v1/certificates/{certificate}/qr.svg", POSTS, Route::CertificateSvg, Media::Svg),
    get("/v1/certificates/{certificate}/qr.png", POSTS, Route::CertificatePng, Media::Png),
    get("/v1/certificates/{certificate}/paper.pdf", POSTS, Route::CertificatePdf, Media::Pdf),
    told("/v1/certificates/{certificate}", RECORDS, Route::IssueCertificate, Media::Json),
    told("/v1/certificates/{certificate}/qr.svg", RECORDS, Route::IssueCertificateSvg, Media::Svg),
    told("/v1/certificates/{certificate}/qr.png", RECORDS, Route::IssueCertificatePng, Media::Png),
    told("/v1/certificates/{certificate}/paper.pdf", RECORDS, Route::IssueCertificatePdf, Media::Pdf),
    post("/v1/certificates/{certificate}/revoke", RECORDS, Route::RevokeCertificate, Media::Json),
    post("/v1/certificates/{certificate}/release", ADMIN, Route::ReleaseCertificate, Media::Json),
    post("/v1/certificates/verify", ANYBODY, Route::VerifyCertificate, Media::Json),
    get("/.well-known/jwks.json", ANYBODY, Route::SmartHealthCardKeys, Media::Json),
    get("/.well-known/crl/{file}", ANYBODY, Route::SmartHealthCardRevocations, Media::Json),
    get("/.well-known/certificates/keys.json", ANYBODY, Route::CertificateKeys, Media::Json),
    get("/.well-known/certificates/eu-signers.json", ANYBODY, Route::EuSigners, Media::Json),
    get("/.well-known/certificates/did-documents.json", ANYBODY, Route::DidDocuments, Media::Json),
    get("/.well-known/certificates/revoked.json", ANYBODY, Route::RevokedCertificates, Media::Json),
    get("/v1/parties/{party}/history", CLAIMS, Route::PartyHistory, Media::Json),
    post("/v1/waitlist", POSTS, Route::JoinWaitlist, Media::Json),
    get("/v1/waitlist/{entry}", POSTS, Route::ReadWaiting, Media::Json),
    delete("/v1/waitlist/{entry}", POSTS, Route::LeaveWaitlist),
    get("/v1/parties/{party}/waitlist", READS, Route::PartyWaitlist, Media::Json),
    get("/v1/centres/{centre}/waitlist", HELPS, Route::CentreWaitlist, Media::Json),
    get("/v1/districts/{district}/waitlist", RECORDS, Route::DistrictWaitlist, Media::Json),
    stream("/v1/sessions/{session}/move-bookings", ADMIN, Route::MoveSessionBookings, Media::Json),
    stream("/v1/sessions/{session}/cancel-bookings", ADMIN, Route::CancelSessionBookings, Media::Json),
    stream("/v1/bulk/bookings", PLATFORM, Route::BulkBookings, Media::Ndjson),
    get("/v1/sessions/{session}", ANYBODY, Route::ReadSession, Media::Json),
    post("/v1/sessions/{session}/close", ADMIN, Route::CloseSession, Media::Json),
    post("/v1/sessions/{session}/open", ADMIN, Route::OpenSession, Media::Json),
    post("/v1/sessions/{session}/resize", ADMIN, Route::ResizeSession, Media::Json),
    get("/v1/centres/{centre}", ANYBODY, Route::ReadCentre, Media::Json),
    get("/v1/slots/{slot}", ANYBODY, Route::ReadSlot, Media::Json),
    get("/v1/parties/{party}/bookings", CLAIMS, Route::PartyBookings, Media::Json),
    get("/v1/parties/{party}/eligibility", ASKS, Route::Eligibility, Media::Json),
    get("/v1/parties/{party}/facts", READS, Route::ReadFacts, Media::Json),
    patch("/v1/parties/{party}/facts", KNOWS, Route::ChangeFacts),
    post("/v1/invitations", KNOWS, Route::Invite, Media::Json),
    post("/v1/invitations/withdraw", KNOWS, Route::WithdrawInvitations, Media::Json),
    get("/v1/programme", ANYBODY, Route::ReadProgramme, Media::Json),
    get("/v1/booking-references/{reference}", PLATFORM, Route::ReadReference, Media::Json),
    get("/v1/outcomes/{key}", POSTS, Route::Outcome, Media::Json),
    get("/v1/regions", ANYBODY, Route::ListRegions, Media::Json),
    post("/v1/regions", ADMIN, Route::PublishRegions, Media::Ndjson),
    post("/v1/centres", ADMIN, Route::PublishCentres, Media::Ndjson),
    post("/v1/sessions", ADMIN, Route::PublishSessions, Media::Ndjson),
    post("/v1/parties", ADMIN, Route::AddParties, Media::Json),
    stream("/v1/bulk/parties", KNOWS, Route::BulkParties, Media::Ndjson),
    get("/v1/admin/programme", ADMIN, Route::ProgrammeHistory, Media::Json),
    post("/v1/admin/programme", ADMIN, Route::TakeUpProgramme, Media::Toml),
    post("/v1/batches", ADMIN, Route::MakeBatch, Media::Json),
    get("/v1/batches", DOSES, Route::ListBatches, Media::Json),
    get("/v1/batches/{batch}", DOSES, Route::ReadBatch, Media::Json),
    post("/v1/batches/{batch}/correct", ADMIN, Route::CorrectBatch, Media::Json),
    post("/v1/batches/{batch}/recall", ADMIN, Route::RecallBatch, Media::Json),
    post("/v1/batches/{batch}/lift-recall", ADMIN, Route::LiftRecall, Media::Json),
    post("/v1/receipts", DOSES, Route::Receive, Media::Json),
    post("/v1/transfers", DOSES, Route::SendDoses, Media::Json),
    get("/v1/transfers/{transfer}", DOSES, Route::ReadTransfer, Media::Json),
    post("/v1/transfers/{transfer}/receive", DOSES, Route::ReceiveTransfer, Media::Json),
    post("/v1/transfers/{transfer}/cancel", DOSES, Route::CancelTransfer, Media::Json),
    post("/v1/wastage", DOSES, Route::WasteDoses, Media::Json),
    post("/v1/stock-takes", DOSES, Route::CountStock, Media::Json),
    get("/v1/centres/{centre}/stock", DOSES, Route::CentreStock, Media::Json),
    get("/v1/batches/{batch}/doses", DOSES, Route::BatchDoses, Media::Json),
    get("/v1/batches/{batch}/recall-list", DOSES, Route::RecallList, Media::Ndjson),
    list("/v1/centres/{centre}/waste", DOSES, Route::CentreWaste),
    list("/v1/districts/{district}/waste", DOSES, Route::DistrictWaste),
    post("/v1/lotteries", ADMIN, Route::MakeLottery, Media::Json),
    get("/v1/lotteries", ANYBODY, Route::ListLotteries, Media::Json),
    get("/v1/lotteries/{lottery}", ANYBODY, Route::ReadLottery, Media::Json),
    get("/v1/lotteries/{lottery}/result", ANYBODY, Route::LotteryResult, Media::Ndjson),
    post("/v1/lotteries/{lottery}/draw", ADMIN, Route::DrawLottery, Media::Json),
    post("/v1/lotteries/{lottery}/registrations", CLAIMS, Route::RegisterForLottery, Media::Json),
    get("/v1/lotteries/{lottery}/registrations/{party}", CLAIMS, Route::ReadLotteryRegistration, Media::Json),
    delete("/v1/lotteries/{lottery}/registrations/{party}", CLAIMS, Route::WithdrawFromLottery),
    post("/v1/accounts/codes", ANYBODY, Route::AskCode, Media::Json),
    post("/v1/accounts/sessions", ANYBODY, Route::OpenAccount, Media::Json),
    get("/v1/account", CITIZEN, Route::ReadAccount, Media::Json),
    delete("/v1/account", CITIZEN, Route::CloseAccount),
    post("/v1/account/phone", CITIZEN, Route::ChangePhone, Media::Json),
    post("/v1/account/members", CITIZEN, Route::AddMember, Media::Json),
    patch("/v1/account/members/{party}", CITIZEN, Route::CorrectMember),
    delete("/v1/account/members/{party}", CITIZEN, Route::EraseMember),
    post("/v1/account/members/{party}/transfer", CITIZEN, Route::OfferMember, Media::Json),
    post("/v1/account/transfers", CITIZEN, Route::AcceptMember, Media::Json),
    post("/v1/people", HELPS, Route::RegisterPerson, Media::Json),
    post("/v1/people/find", HELPS, Route::FindPeople, Media::Json),
    get("/v1/people/{party}", HELPS, Route::ReadPerson, Media::Json),
    patch("/v1/people/{party}", RECORDS, Route::CorrectPerson),
    delete("/v1/people/{party}", RECORDS, Route::ErasePerson),
    post("/v1/people/{party}/merge", RECORDS, Route::MergePeople, Media::Json),
    post("/v1/people/{party}/account-phone", RECORDS, Route::ChangePhoneFor, Media::Json),
    post("/v1/people/{party}/transfer", RECORDS, Route::PutIntoAccount, Media::Json),
    stream("/v1/bulk/people", ADMIN, Route::ImportPeople, Media::Ndjson),
    get("/v1/bulk/people", ADMIN, Route::ExportPeople, Media::Ndjson),
    post("/v1/admin/revocations", ADMIN, Route::RevokeToken, Media::Json),
    fhir("/fhir/Slot", ANYBODY, Route::FhirSlots),
    fhir("/fhir/Slot/{slot}", ANYBODY, Route::FhirSlot),
    fhir("/fhir/Schedule", ANYBODY, Route::FhirSchedules),
    fhir("/fhir/Schedule/{schedule}", ANYBODY, Route::FhirSchedule),
    fhir("/fhir/Location", ANYBODY, Route::FhirLocations),
    fhir("/fhir/Location/{location}", ANYBODY, Route::FhirLocation),
    fhir("/fhir/Appointment", CLAIMS, Route::FhirAppointments),
    fhir("/fhir/Appointment/{appointment}", SEES, Route::FhirAppointment),
    fhir("/fhir/Immunization", POSTS, Route::FhirImmunizations),
    fhir("/fhir/Immunization/{immunization}", POSTS, Route::FhirImmunization),
    fhir("/fhir/metadata", ANYBODY, Route::FhirMetadata),
    published("/smart/$bulk-publish", Route::BulkPublish, Media::Json, Media::Fhir),
    published("/smart/locations/{state}/{part}", Route::PublishedLocations, Media::FhirNdjson, Media::Ndjson),
    published("/smart/schedules/{state}/{part}", Route::PublishedSchedules, Media::FhirNdjson, Media::Ndjson),
    published("/smart/slots/{state}/{part}", Route::PublishedSlots, Media::FhirNdjson, Media::Ndjson),
    get("/v1/export", ADMIN, Route::Export, Media::Ndjson),
    get("/v1/admin/admission", ADMIN, Route::ReadAdmission, Media::Json),
    patch("/v1/admin/admission", ADMIN, Route::ChangeAdmission),
    get("/healthz", ANYBODY, Route::Healthz, Media::Json),
    get("/livez", ANYBODY, Route::Livez, Media::Json),
    get("/readyz", ANYBODY, Route::Readyz, Media::Json),
    get("/metrics", ANYBODY, Route::Metrics, Media::Text),
    get("/version", ANYBODY, Route::Version, Media::Json),
    get("/openapi.json", ANYBODY, Route::OpenApi, Media::Json),
    get("/docs", ANYBODY, Route::Docs, Media::Html),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_of_the_table_are_the_same() {
        for (i, a) in TABLE.iter().enumerate() {
            for b in &TABLE[i + 1..] {
                assert!(a.route != b.route && (a.template, &a.method) != (b.template, &b.method), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_routes_number_is_a_place_in_a_list_of_as_many_as_there_are_rows() {
        let mut numbers: Vec<usize> = TABLE.iter().map(|row| row.route as usize).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..TABLE.len()).collect::<Vec<_>>());
    }
}
