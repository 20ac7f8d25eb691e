//! Which type of answer a client would rather have, and whether its body is of the right one.

use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{HeaderMap, Method};

use super::{Endpoint, Media};
use crate::problem::{Code, Problem};

/// Which of these types the client would rather have. Problems are told whatever it takes.
pub(crate) fn accepted(headers: &HeaderMap, gives: Media, also: Option<Media>) -> Result<Media, Problem> {
    let given = || [Some(gives), also].into_iter().flatten();
    if !headers.contains_key(ACCEPT) {
        return Ok(gives);
    }
    let ranges = || headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut best = (None, 0.0);
    for media in given() {
        let liking = ranges().map(|range| liking(range, media.essence())).fold(0.0, f32::max);
        if liking > best.1 {
            best = (Some(media), liking);
        }
    }
    best.0.ok_or_else(|| {
        let given: Vec<_> = given().map(Media::essence).collect();
        Problem::new(Code::NotAcceptable, format!("the answer is {}", given.join(" or ")))
    })
}

/// As [`accepted`], for an endpoint: FHIR's `_format` in the query goes before the header, for who cannot set one.
pub(crate) fn negotiated(headers: &HeaderMap, endpoint: &Endpoint, query: Option<&str>) -> Result<Media, Problem> {
    let asked = query.filter(|query| endpoint.gives == Media::Fhir && query.contains("_format="));
    let format = asked.and_then(|query| form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "_format"));
    let Some((_, format)) = format else { return accepted(headers, endpoint.gives, endpoint.also) };
    match &*format {
        "json" => Ok(Media::Fhir),
        // A plus sign that was not encoded is a blank.
        "application/fhir+json" | "application/fhir json" => Ok(Media::Fhir),
        "application/json" => Ok(Media::Json),
        _ => Err(Problem::new(Code::NotAcceptable, "_format: the answer is json, and nothing else")),
    }
}

/// How much a client that sends this range likes a type, from 0, not at all, to 1.
fn liking(range: &str, essence: &str) -> f32 {
    let mut parts = range.split(';').map(str::trim);
    let takes = match parts.next().unwrap_or("") {
        "" => false,
        "*/*" => true,
        range => match range.strip_suffix("/*") {
            Some(kind) => essence.split('/').next().is_some_and(|k| k.eq_ignore_ascii_case(kind)),
            None => range.eq_ignore_ascii_case(essence),
        },
    };
    let quality = parts.find_map(|p| p.strip_prefix("q=")?.trim().parse().ok()).unwrap_or(1.0);
    if takes { quality } else { 0.0 }
}

/// A body of a stated other type is refused; one of no stated type is taken for the right one.
pub(super) fn is_of_type(headers: &HeaderMap, endpoint: &Endpoint) -> Result<(), Problem> {
    if endpoint.method != Method::POST && endpoint.method != Method::PATCH {
        return Ok(());
    }
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let wanted = endpoint.takes.essence();
    let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, format!("the body must be {wanted}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accept_header_is_honoured() {
        let ask = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, value.parse().unwrap());
            accepted(&headers, Media::Json, Some(Media::Csv)).map_err(|p| p.code())
        };
        let (json, csv) = (Ok(Media::Json), Ok(Media::Csv));
        for good in ["*/*", "application/json", "text/html, application/*;q=0.5", "Application/JSON; charset=utf-8"] {
            assert_eq!(ask(good), json, "{good}");
        }
        for other in ["text/csv", "text/*", "application/json;q=0.1, text/csv", "text/csv, application/*;q=0.9"] {
            assert_eq!(ask(other), csv, "{other}");
        }
        for bad in ["text/html", "application/json;q=0", "image/*", "application/xml, text/html;q=0.9"] {
            assert_eq!(ask(bad), Err(Code::NotAcceptable), "{bad}");
        }
    }
}
