//! What regions there are: what a platform needs before it can search.

use hyper::{Response, StatusCode};
use serde::Serialize;

use super::bookings::json;
use crate::body::ResponseBody;
use crate::problem::Problem;
use crate::router::{Call, Media, respond};

/// `GET /v1/regions`
pub(crate) fn regions(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct RegionAnswer<'a> {
        id: &'a str,
        kind: String,
        name: &'a str,
        parent: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Answer<'a> {
        regions: Vec<RegionAnswer<'a>>,
    }
    let all = call.app.campaign.catalogue.regions();
    let regions = all
        .iter()
        .map(|r| RegionAnswer { id: &r.id, kind: r.kind.to_string(), name: &r.name, parent: r.parent.as_deref() })
        .collect();
    Ok(respond(StatusCode::OK, Media::Json, json(&Answer { regions })))
}
