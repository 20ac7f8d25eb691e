//! The statements of a Verifiable Credential in the one order and spelling that is signed (URDNA2015), written from its fixed shape.
//!
//! The general algorithm is needed where blank nodes cannot be told apart by what is said next to them. In this shape each can, for
//! each hangs on another node or property than the rest; so its first step, the hash of what is said of a node, already is the order.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

const TYPE: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type";
const XSD: &str = "http://www.w3.org/2001/XMLSchema#";

/// A node or a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    /// As it is spelled in the statements.
    Spelled(String),
    Blank(usize),
}

/// A node without a name of its own.
#[derive(Clone, Copy)]
pub(super) struct Blank(usize);

/// Statements, in the order in which they were made.
#[derive(Default)]
pub(super) struct Statements {
    statements: Vec<(Term, String, Term)>,
    blanks: usize,
}

/// Whom a statement is of.
#[derive(Clone)]
pub(super) struct Node(Term);

impl From<Blank> for Node {
    fn from(blank: Blank) -> Node {
        Node(Term::Blank(blank.0))
    }
}

/// A node with an address.
pub(super) fn named(iri: &str) -> Node {
    Node(Term::Spelled(format!("<{iri}>")))
}

impl Statements {
    /// A node that stands nowhere yet.
    pub(super) fn blank(&mut self) -> Blank {
        self.blanks += 1;
        Blank(self.blanks - 1)
    }

    /// The node is one of these.
    pub(super) fn is_a(&mut self, node: &Node, class: &str) {
        self.node(node, TYPE, &named(class));
    }

    /// The property is another node.
    pub(super) fn node(&mut self, node: &Node, property: &str, value: &Node) {
        self.statements.push((node.0.clone(), format!("<{property}>"), value.0.clone()));
    }

    /// The property is a text.
    pub(super) fn text(&mut self, node: &Node, property: &str, text: &str) {
        self.node(node, property, &Node(Term::Spelled(quoted(text))));
    }

    /// The property is a text of another type than text.
    pub(super) fn typed(&mut self, node: &Node, property: &str, text: &str, of: &str) {
        self.node(node, property, &Node(Term::Spelled(format!("{}^^<{XSD}{of}>", quoted(text)))));
    }

    /// The SHA-256 of all statements in their order.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut order: Vec<(String, usize)> = (0..self.blanks).map(|blank| (self.of_one(blank), blank)).collect();
        order.sort_unstable();
        let mut names = vec![String::new(); self.blanks];
        for (at, (_, blank)) in order.into_iter().enumerate() {
            names[blank] = format!("_:c14n{at}");
        }
        let name = |term: &Term| match term {
            Term::Spelled(text) => text.clone(),
            Term::Blank(blank) => names[*blank].clone(),
        };
        Sha256::digest(self.spelled(|_| true, name)).into()
    }

    /// What is said of and next to one blank node, as the algorithm hashes it first: itself `_:a`, all others `_:z`.
    fn of_one(&self, blank: usize) -> String {
        let this = Term::Blank(blank);
        let name = |term: &Term| match term {
            Term::Spelled(text) => text.clone(),
            Term::Blank(other) => if *other == blank { "_:a" } else { "_:z" }.to_owned(),
        };
        let text = self.spelled(|(subject, _, object)| *subject == this || *object == this, name);
        Sha256::digest(text).iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    fn spelled(&self, which: impl Fn(&(Term, String, Term)) -> bool, name: impl Fn(&Term) -> String) -> String {
        let statements = self.statements.iter().filter(|statement| which(statement));
        let mut lines: Vec<String> = statements
            .map(|(subject, property, object)| format!("{} {property} {} .\n", name(subject), name(object)))
            .collect();
        lines.sort_unstable();
        lines.dedup();
        lines.concat()
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
