//! From a path and a method to a row of the table: a tree of the templates' segments, made of the table once.

use std::sync::LazyLock;

use hyper::Method;

use super::table::{Endpoint, TABLE};
use crate::problem::{Code, Problem};

/// What follows after some segments of a path.
#[derive(Default)]
struct Node {
    literals: Vec<(&'static str, Node)>,
    parameter: Option<Box<Node>>,
    /// Whose template ends here.
    rows: Vec<&'static Endpoint>,
}

static TREE: LazyLock<Node> = LazyLock::new(|| {
    let mut root = Node::default();
    for row in TABLE {
        let end = row.template.split('/').skip(1).fold(&mut root, Node::child);
        end.rows.push(row);
    }
    root
});

/// The texts at a template's parameters.
type Parameters<'p> = [&'p str; 2];

impl Node {
    /// The node behind this segment of a template, made if it is not there.
    fn child(&mut self, segment: &'static str) -> &mut Node {
        if segment.starts_with('{') {
            return self.parameter.get_or_insert_default();
        }
        let at = self.literals.iter().position(|(literal, _)| *literal == segment).unwrap_or_else(|| {
            self.literals.push((segment, Node::default()));
            self.literals.len() - 1
        });
        &mut self.literals[at].1
    }

    /// Shows every end whose template the rest of a path is of, until `see` has seen enough; what is written out comes
    /// before what takes anything. `rest` begins behind a slash; `None`: there is no more.
    fn ends<'p>(
        &'static self,
        rest: Option<&'p str>,
        parameters: Parameters<'p>,
        count: usize,
        see: &mut impl FnMut(&'static Node, Parameters<'p>, usize) -> bool,
    ) -> bool {
        let Some(rest) = rest else { return !self.rows.is_empty() && see(self, parameters, count) };
        let (segment, rest) = rest.split_once('/').map_or((rest, None), |(segment, rest)| (segment, Some(rest)));
        let literal = self.literals.iter().find(|(literal, _)| is_literal(literal, segment));
        if literal.is_some_and(|(_, node)| node.ends(rest, parameters, count, see)) {
            return true;
        }
        let Some(node) = self.parameter.as_deref().filter(|_| !segment.is_empty()) else { return false };
        let mut parameters = parameters;
        let Some(place) = parameters.get_mut(count) else { return false };
        *place = segment;
        node.ends(rest, parameters, count + 1, see)
    }
}

/// Whether a segment of a path is this one of a template. A dollar sign is one of the few characters of a template that clients may
/// encode.
fn is_literal(literal: &str, segment: &str) -> bool {
    literal == segment || literal.strip_prefix('$').is_some_and(|rest| segment.strip_prefix("%24") == Some(rest))
}

/// The endpoint of a path and method, with what stands at the template's parameters.
pub(super) fn find<'p>(method: &Method, path: &'p str) -> Result<(&'static Endpoint, Parameters<'p>), Problem> {
    // HEAD is GET without the body.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut found = None;
    let mut others: Vec<&'static Endpoint> = Vec::new();
    if let Some(rest) = path.strip_prefix('/') {
        TREE.ends(Some(rest), [""; 2], 0, &mut |node, parameters, count| {
            found = node.rows.iter().find(|row| row.method == method).map(|row| (*row, parameters));
            others.extend(&node.rows);
            // A path that stands in the table as it is, and would also pass for a parameter, takes what its own rows take.
            found.is_some() || count == 0
        });
    }
    if let Some(found) = found {
        return Ok(found);
    }
    if others.is_empty() {
        return Err(Problem::new(Code::NotFound, "there is no such path, see docs/http-api.md"));
    }
    let names = |row: &Endpoint| if row.method == Method::GET { "GET, HEAD" } else { row.method_name() };
    let allowed = others.into_iter().map(names).collect::<Vec<_>>().join(", ");
    Err(Problem::new(Code::MethodNotAllowed, format!("this path takes {allowed}")).allowing(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Route;

    /// Row by row, as one reads the table.
    fn matches<'p>(template: &str, path: &'p str) -> Option<Parameters<'p>> {
        let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        let mut found = [""; 2];
        let mut places = found.iter_mut();
        for (wanted, is) in template.iter().zip(&path) {
            if wanted.starts_with('{') && !is.is_empty() {
                *places.next()? = is;
            } else if wanted != is {
                return None;
            }
        }
        (template.len() == path.len()).then_some(found)
    }

    #[test]
    fn a_path_and_method_find_their_route() {
        let route = |method, path| find(&method, path).map(|(e, _)| e.route).map_err(|p| p.code());
        assert_eq!(route(Method::GET, "/v1/regions"), Ok(Route::ListRegions));
        assert_eq!(route(Method::POST, "/v1/regions"), Ok(Route::PublishRegions));
        assert_eq!(route(Method::HEAD, "/healthz"), Ok(Route::Healthz));
        for path in ["/smart/$bulk-publish", "/smart/%24bulk-publish"] {
            assert_eq!(route(Method::GET, path), Ok(Route::BulkPublish), "{path}");
        }
        assert_eq!(route(Method::DELETE, "/v1/regions"), Err(Code::MethodNotAllowed));
        for nowhere in ["/v1", "", "/", "*", "v1/regions", "/v1/regions/", "//v1/regions", "/v1/holds//confirm"] {
            assert_eq!(route(Method::GET, nowhere), Err(Code::NotFound), "{nowhere:?}");
        }
    }

    #[test]
    fn parameters_are_what_stands_in_their_place() {
        let of = |method, path: &'static str| find(&method, path).ok().map(|(_, parameters)| parameters);
        assert_eq!(of(Method::POST, "/v1/holds/AB-1/confirm"), Some(["AB-1", ""]));
        assert_eq!(of(Method::GET, "/v1/centres/c1/days/2026-11-24/bookings"), Some(["c1", "2026-11-24"]));
        assert_eq!(of(Method::POST, "/v1/bookings/cancel"), Some(["", ""]), "written out");
        assert_eq!(of(Method::GET, "/v1/bookings/cancel"), None, "no booking has that code");
    }

    #[test]
    fn a_path_says_which_methods_it_takes() {
        let said = |path| format!("{:?}", find(&Method::DELETE, path).unwrap_err());
        assert!(said("/v1/bookings/cancel").contains("takes POST\""), "{}", said("/v1/bookings/cancel"));
        assert!(said("/v1/bookings/x").contains("takes GET, HEAD\""), "{}", said("/v1/bookings/x"));
        assert!(said("/v1/admin/admission").contains("takes GET, HEAD, PATCH\""), "{}", said("/v1/admin/admission"));
    }

    /// Every path of up to seven of the table's segments, and some that are in no row, against the table read row by row.
    #[test]
    fn the_tree_finds_what_the_table_says() {
        let mut segments: Vec<&str> = TABLE.iter().flat_map(|row| row.template.split('/').skip(1)).collect();
        segments.extend(["", "x"]);
        segments.sort_unstable();
        segments.dedup();
        let mut tried = 0;
        for row in TABLE {
            let parts: Vec<&str> = row.template.split('/').collect();
            // Each row's own path with any one segment in any one place, taken out, or put behind.
            let mut paths = vec![row.template.to_owned(), format!("{}/", row.template), row.template[1..].to_owned()];
            for at in 1..parts.len() {
                for segment in &segments {
                    let mut changed = parts.clone();
                    changed[at] = segment;
                    paths.push(changed.join("/"));
                    changed.insert(at, "x");
                    paths.push(changed.join("/"));
                }
                let mut shorter = parts.clone();
                shorter.remove(at);
                paths.push(shorter.join("/"));
            }
            for path in &paths {
                // What stands there as it is comes before what takes anything.
                let written_out = TABLE.iter().any(|row| row.template == path);
                for method in [Method::GET, Method::POST, Method::PATCH] {
                    let wanted = TABLE.iter().find_map(|row| {
                        let may = row.method == method && (!written_out || row.template == path);
                        matches(row.template, path).filter(|_| may).map(|found| (row.route, found))
                    });
                    let found = find(&method, path).ok().map(|(row, parameters)| (row.route, parameters));
                    assert_eq!(found, wanted, "{method} {path}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 10_000, "{tried}");
    }
}
