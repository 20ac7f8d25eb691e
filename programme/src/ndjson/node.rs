//! JSON as it stands in the line, duplicate keys included.
//!
//! `serde_json::Value` keeps the last of two equal keys; a pool named twice would silently lose a capacity.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// One JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool,
    Integer(i64),
    /// A number with a fraction or exponent, or beyond 63 bits: what only degrees may be.
    OtherNumber(f64),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// What it is, for the reason of a fault.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Node::Null => "null",
            Node::Bool => "true or false",
            Node::Integer(_) => "a number",
            Node::OtherNumber(_) => "a number that is not whole or far too large",
            Node::Text(_) => "a string",
            Node::List(_) => "an array",
            Node::Object(_) => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Bool)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        // Beyond 63 bits it is no number of degrees either.
        Ok(i64::try_from(value).map_or(Node::OtherNumber(f64::INFINITY), Node::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::OtherNumber(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Node::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::Node;

    #[test]
    fn duplicate_keys_survive() {
        let node: Node = serde_json::from_str(r#"{"a":1,"a":-2,"b":[null,true,1.5,"x"]}"#).unwrap();
        let Node::Object(entries) = node else { panic!("an object") };
        assert_eq!(entries[0], ("a".to_owned(), Node::Integer(1)));
        assert_eq!(entries[1], ("a".to_owned(), Node::Integer(-2)));
        let list = [Node::Null, Node::Bool, Node::OtherNumber(1.5), Node::Text("x".to_owned())];
        assert_eq!(entries[2].1, Node::List(list.into()));
    }
}
