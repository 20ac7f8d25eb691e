//! A page of a search, as a bundle.

use serde::Serialize;

use super::kept::Rendered;
use super::query::Params;
use super::resources::write;

/// A page in the making.
pub(super) struct Bundle<'a> {
    /// What stands before every path.
    base: &'a str,
    /// As `/fhir/Slot`.
    path: &'static str,
    entries: Vec<u8>,
    pub(super) len: usize,
}

#[derive(Serialize)]
struct Link {
    relation: &'static str,
    url: String,
}

impl<'a> Bundle<'a> {
    pub(super) fn new(base: &'a str, path: &'static str) -> Bundle<'a> {
        Bundle { base, path, entries: Vec::new(), len: 0 }
    }

    /// One more resource; `search` is what is told of how it was found, beside that it was asked for.
    pub(super) fn push(&mut self, id: &str, search: &str, resource: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut self.entries;
        out.extend_from_slice(if self.len == 0 { b"{" } else { b",{" });
        self.len += 1;
        // A path alone is no full address; without one there is none.
        if !self.base.is_empty() {
            out.extend_from_slice(format!("\"fullUrl\":\"{}{}/{id}\",", self.base, self.path).as_bytes());
        }
        out.extend_from_slice(b"\"resource\":");
        resource(out);
        out.extend_from_slice(format!(",\"search\":{{{search}\"mode\":\"match\"}}}}").as_bytes());
    }

    /// Tells of so many as a page has; `tell` says behind what the next page begins. The query of that page, if there is more.
    pub(super) fn fill<T>(
        &mut self,
        params: &Params,
        found: &mut impl Iterator<Item = T>,
        mut tell: impl FnMut(&mut Self, T) -> String,
    ) -> Option<String> {
        let mut last = None;
        for one in found.by_ref().take(params.count) {
            last = Some(tell(self, one));
        }
        // Of a page of none there is no next one.
        last.filter(|_| found.next().is_some()).map(|last| params.after(Some(&last)))
    }

    /// The page as it is kept.
    pub(super) fn rendered(self, params: &Params, total: Option<usize>, next: Option<String>) -> Rendered {
        let link = next.as_deref().map(|next| self.address(next));
        Rendered { tail: self.finish(total, &params.spelled(), next.as_deref()), next: link }
    }

    /// Where the page behind this one is.
    pub(super) fn address(&self, query: &str) -> String {
        let between = if query.is_empty() { "" } else { "?" };
        format!("{}{}{between}{query}", self.base, self.path)
    }

    /// All but its beginning, which says when it was true ([`head`]). `total`: all that match, where that is known.
    pub(super) fn finish(self, total: Option<usize>, own: &str, next: Option<&str>) -> Vec<u8> {
        let mut links = vec![Link { relation: "self", url: self.address(own) }];
        links.extend(next.map(|next| Link { relation: "next", url: self.address(next) }));
        let mut out = Vec::with_capacity(self.entries.len() + 256);
        if let Some(total) = total {
            out.extend_from_slice(format!(",\"total\":{total}").as_bytes());
        }
        out.extend_from_slice(b",\"link\":");
        write(&mut out, &links);
        // FHIR has no empty lists.
        if self.len > 0 {
            out.extend_from_slice(b",\"entry\":[");
            out.extend_from_slice(&self.entries);
            out.extend_from_slice(b"]");
        }
        out.extend_from_slice(b"}");
        out
    }
}

/// The beginning of a bundle.
pub(super) fn head(as_of: &str) -> Vec<u8> {
    format!("{{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"timestamp\":\"{as_of}\"").into_bytes()
}
