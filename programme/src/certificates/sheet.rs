//! The paper of a certificate in a language of the programme: what it says, under the words of that language.

use super::fonts::Fonts;
use super::paper::{Field, NoPaper, Paper};
use super::qr::Qr;
use super::words::{Words, english, words};
use super::{CertificateKind, Claims, DoseClaim};
use crate::file::ProgrammeFile;

/// The languages that papers of a programme can be had in, its own order: those that there are words for. Its first is the default; where
/// there are words for none, English.
#[must_use]
pub fn languages(file: &ProgrammeFile) -> Vec<&str> {
    let known: Vec<&str> =
        file.languages.iter().map(String::as_str).filter(|language| words(language).is_some()).collect();
    if known.is_empty() { vec![english().language] } else { known }
}

/// What a format is called on paper.
#[must_use]
pub fn title(kind: CertificateKind) -> &'static str {
    match kind {
        CertificateKind::W3c => "W3C Verifiable Credential",
        CertificateKind::EuDcc => "EU Digital COVID Certificate",
        CertificateKind::SmartHealthCard => "SMART Health Card",
    }
}

/// The PDF of a certificate whose code this is. `language` is one of [`languages`].
///
/// # Errors
/// A letter of it cannot be set, or it does not fit a page.
pub fn pdf(
    fonts: &Fonts,
    file: &ProgrammeFile,
    claims: &Claims,
    kind: CertificateKind,
    qr: &Qr,
    language: &str,
) -> Result<Vec<u8>, NoPaper> {
    let own = words(language).unwrap_or(english());
    let both = (own.language != english().language).then_some(english());
    let field = |of: fn(&Words) -> &'static str, value: String| Field { label: of(own), english: both.map(of), value };
    let holder = &claims.holder;
    let mut fields =
        vec![field(|words| words.name, holder.name.clone()), field(|words| words.born, String::from(holder.born))];
    fields.extend(holder.sex.clone().map(|sex| field(|words| words.sex, sex)));
    fields.extend(holder.document.clone().map(|document| field(|words| words.document, document)));
    let issuer = file.certificate.as_ref().and_then(|file| in_language(&file.names, language));
    fields.push(field(|words| words.issuer, issuer.unwrap_or(&claims.issuer.name).to_owned()));
    fields.push(field(|words| words.number, claims.id.to_string()));
    // Days as the clocks there have them, as those of the doses.
    let zone = jiff::tz::TimeZone::get(&file.time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let day = |at: jiff::Timestamp| at.to_zoned_datetime(zone.clone()).date();
    let issued = day(claims.issued_at);
    fields.push(field(|words| words.issued, issued.to_string()));
    fields.push(field(|words| words.valid_until, day(claims.expires_at).to_string()));
    let row = |dose: &DoseClaim| {
        let product = file.products.iter().find(|product| product.id == dose.product.id);
        let name = product.and_then(|product| in_language(&product.names, language)).unwrap_or(&dose.product.name);
        let place = [Some(&dose.facility.name), dose.facility.district.as_ref(), dose.facility.state.as_ref()];
        vec![
            format!("{}/{}", dose.number, dose.of),
            dose.given_on.to_string(),
            name.to_owned(),
            dose.product.manufacturer.clone().unwrap_or_default(),
            dose.batch.clone().unwrap_or_default(),
            place.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", "),
        ]
    };
    let columns: [fn(&Words) -> &'static str; 6] = [
        |words| words.dose,
        |words| words.date,
        |words| words.vaccine,
        |words| words.manufacturer,
        |words| words.batch,
        |words| words.facility,
    ];
    let month_or_day = |number: i8| u8::try_from(number).unwrap_or(1);
    Paper {
        language: own.language,
        programme: in_language(&file.names, language).unwrap_or(&file.name),
        title: field(|words| words.title, own.title.to_owned()),
        fields,
        doses_title: field(|words| words.doses, own.doses.to_owned()),
        columns: columns.into_iter().map(|of| field(of, String::new())).collect(),
        doses: claims.doses.iter().map(row).collect(),
        qr,
        kind: title(kind),
        check: field(|words| words.check, own.check.to_owned()),
        issued: (
            u16::try_from(issued.year()).unwrap_or(1970),
            month_or_day(issued.month()),
            month_or_day(issued.day()),
        ),
    }
    .pdf(fonts)
}

fn in_language<'f>(names: &'f crate::file::Names, language: &str) -> Option<&'f str> {
    names.get(language).map(String::as_str)
}
