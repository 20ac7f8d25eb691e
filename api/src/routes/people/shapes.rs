//! People on the wire.

use berth_engine::PartyId;
use berth_programme::people::{Said, View};
use serde::{Deserialize, Deserializer, Serialize};

use crate::wire::Names;

/// A person as somebody says it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PersonSaid {
    #[serde(deserialize_with = "said")]
    name: Field<String>,
    #[serde(deserialize_with = "said")]
    born: Field<String>,
    #[serde(deserialize_with = "said")]
    sex: Field<String>,
    #[serde(deserialize_with = "said")]
    phone: Field<String>,
    #[serde(deserialize_with = "said")]
    document: Field<DocumentSaid>,
    #[serde(deserialize_with = "said")]
    language: Field<String>,
    #[serde(deserialize_with = "said")]
    region: Field<String>,
}

/// Not said, `null`, or a value.
#[derive(Default)]
enum Field<T> {
    #[default]
    Unsaid,
    Null,
    Value(T),
}

fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(input: D) -> Result<Field<T>, D::Error> {
    Option::deserialize(input).map(|value| value.map_or(Field::Null, Field::Value))
}

impl<T> Field<T> {
    /// The value, or the name of what is to be taken off.
    fn or_gone(self, name: &'static str, gone: &mut Vec<&'static str>) -> Option<T> {
        match self {
            Field::Value(value) => Some(value),
            Field::Unsaid => None,
            Field::Null => {
                gone.push(name);
                None
            }
        }
    }
}

/// A document as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentSaid {
    pub(super) kind: String,
    pub(super) number: String,
}

impl From<PersonSaid> for Said {
    fn from(said: PersonSaid) -> Said {
        let PersonSaid { name, born, sex, phone, document, language, region } = said;
        let mut gone = Vec::new();
        let document = document.or_gone("document", &mut gone).map(|document| (document.kind, document.number));
        Said {
            name: name.or_gone("name", &mut gone),
            born: born.or_gone("born", &mut gone),
            sex: sex.or_gone("sex", &mut gone),
            phone: phone.or_gone("phone", &mut gone),
            document,
            language: language.or_gone("language", &mut gone),
            region: region.or_gone("region", &mut gone),
            gone,
        }
    }
}

/// A person as they are shown.
#[derive(Serialize)]
pub(super) struct PersonAnswer {
    pub(super) party: String,
    /// Whether what could be used to find or be somebody is hidden.
    masked: bool,
    name: String,
    born: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    in_account: bool,
}

#[derive(Serialize)]
struct DocumentAnswer {
    kind: String,
    number: String,
}

/// How much of a person is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The first letters of the name, the year, the last digits.
    Masked,
    /// All but the document's number: to whose account it is.
    Own,
    /// All.
    All,
}

impl PersonAnswer {
    pub(super) fn of(names: &Names<'_>, view: View, shown: Shown) -> PersonAnswer {
        let View { party, account, person, account_phone } = view;
        let masked = shown == Shown::Masked;
        let name = if masked { person.masked_name() } else { person.name.clone() };
        let born = if masked { person.born.year().to_string() } else { person.born.into() };
        let phone = |phone: &berth_programme::people::Phone| match shown {
            Shown::Masked => phone.masked(),
            Shown::Own | Shown::All => phone.as_str().to_owned(),
        };
        let document = person.document.as_ref().map(|document| DocumentAnswer {
            kind: document.kind.clone(),
            number: if shown == Shown::All { document.number.clone() } else { document.masked() },
        });
        PersonAnswer {
            party: names.party(party),
            masked,
            name,
            born,
            sex: person.sex,
            phone: person.phone.as_ref().map(phone),
            account_phone: account_phone.as_ref().filter(|_| shown != Shown::Own).map(phone),
            document,
            language: person.language,
            region: person.region,
            in_account: account.is_some(),
        }
    }
}

/// A person who was registered, changed, moved or erased.
#[derive(Serialize)]
pub(super) struct PartyAnswer {
    pub(super) party: String,
}

impl PartyAnswer {
    pub(super) fn of(names: &Names<'_>, party: PartyId) -> PartyAnswer {
        PartyAnswer { party: names.party(party) }
    }
}
