//! Whether whoever was let in may still: a request that goes on for long asks again, for the price of a lookup.

use std::sync::Arc;

use berth_engine::TimestampMs;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::secret::KeyHash;
use super::{Access, Caller, Seen, Waits};
use crate::problem::{Code, Problem};

/// A credential that was good.
pub(crate) struct Standing {
    digest: KeyHash,
    dotted: bool,
    /// The credential alone: a token that is no longer kept is verified anew.
    bearer: HeaderMap,
    caller: Arc<Caller>,
}

impl Standing {
    /// Of a request with these headers that this caller made.
    pub(crate) fn of(access: &Access, headers: &HeaderMap, caller: Arc<Caller>) -> Result<Standing, Problem> {
        let (digest, dotted) = access.borne(headers)?;
        let mut bearer = HeaderMap::new();
        if let Some(value) = headers.get(AUTHORIZATION) {
            let mut value = value.clone();
            value.set_sensitive(true);
            bearer.insert(AUTHORIZATION, value);
        }
        Ok(Standing { digest, dotted, bearer, caller })
    }

    /// Says why not, once it is revoked, past its end, or another's.
    pub(crate) async fn check(&self, access: &Access, now: TimestampMs) -> Result<(), Problem> {
        let caller = match access.seen(&self.digest, self.dotted, now)? {
            Seen::Known(caller) => caller,
            Seen::Token => access.verify(&self.bearer, now, || Waits::ItsTurn).await?,
        };
        if Arc::ptr_eq(&caller, &self.caller) || caller == self.caller {
            return Ok(());
        }
        Err(Problem::new(Code::InvalidKey, "the key is not what it was when the request began"))
    }
}
