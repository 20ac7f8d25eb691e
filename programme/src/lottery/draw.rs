//! The draw as a function: who comes in which order, and what each gets. Nothing here knows of a journal, a clock or a number that is not
//! published, so whoever has the published file can do it again.
//!
//! - **The commitment** is SHA-256 of the seed, told when the lottery is made.
//! - **The digest** is SHA-256 of the list of registrations in one form, told when registration ends.
//! - **The order** is by HMAC-SHA-256 of digest and party under the seed, the smallest first. Neither is known to who settles the other.
//! - **Each in turn** gets the first slot of its preferences that has a unit left and that the programme lets it have.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Preferences of one registration.
pub const PREFERENCES_MAX: usize = 5;
/// Why a slot was passed over whose units had all gone.
pub const FULL: &str = "full";

/// What somebody would like to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preference {
    /// A session.
    Session(String),
    /// Whatever a centre has on a day.
    CentreDay(String, Date),
}

/// `session:ID` or `centre:ID@DATE`: no id has a blank, a colon or an at sign.
impl fmt::Display for Preference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Preference::Session(id) => write!(f, "session:{id}"),
            Preference::CentreDay(centre, date) => write!(f, "centre:{centre}@{date}"),
        }
    }
}

impl FromStr for Preference {
    type Err = String;

    fn from_str(text: &str) -> Result<Preference, String> {
        let wrong = || "must be as session:s-1 or centre:c-1@2026-12-01".to_owned();
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        match kind {
            "session" if crate::names::is_name(rest) => Ok(Preference::Session(rest.to_owned())),
            "centre" => {
                let (centre, date) = rest.split_once('@').ok_or_else(wrong)?;
                let date = (date.len() == 10).then(|| date.parse().ok()).flatten().ok_or_else(wrong)?;
                crate::names::is_name(centre).then(|| Preference::CentreDay(centre.to_owned(), date)).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl Serialize for Preference {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Preference {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Preference, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who takes part, by the name of the party alone, and what they would like to have, best first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// As `p1.18`.
    pub party: String,
    /// 1 to [`PREFERENCES_MAX`].
    pub preferences: Vec<Preference>,
}

/// A slot that is drawn for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrawnSlot {
    /// As `s1.42`.
    pub slot: String,
    /// Its session.
    pub session: String,
    /// Its centre.
    pub centre: String,
    /// The day.
    pub date: Date,
    /// Units free when the draw began.
    pub units: u32,
}

impl DrawnSlot {
    pub(super) fn is_of(&self, preference: &Preference) -> bool {
        match preference {
            Preference::Session(id) => *id == self.session,
            Preference::CentreDay(centre, date) => *centre == self.centre && *date == self.date,
        }
    }
}

/// A slot that a registration did not get, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passed {
    /// The slot.
    pub slot: String,
    /// [`FULL`], or the rule or code of the refusal.
    pub why: String,
}

/// What came of a registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Came {
    /// What was tried before, in the order of the preferences.
    pub passed: Vec<Passed>,
    /// The slot that was offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
}

/// Registrations in the order of their numbers, each party once.
pub fn in_order_of_parties(registrations: &mut [Registration]) {
    // Numbers of one cell: the shorter is the smaller.
    registrations.sort_by(|a, b| (a.party.len(), &a.party).cmp(&(b.party.len(), &b.party)));
}

/// The commitment to a seed.
#[must_use]
pub fn commitment(seed: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(seed).into()
}

/// The digest of the registrations of a lottery, which are in the order of their parties.
#[must_use]
pub fn digest(lottery: &str, registrations: &[Registration]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(format!("berth lottery 1 {lottery}\n"));
    let mut line = String::new();
    for Registration { party, preferences } in registrations {
        line.clone_from(party);
        for preference in preferences {
            // Writing to a string does not fail.
            let _ = write!(line, " {preference}");
        }
        line.push('\n');
        hasher.update(&line);
    }
    hasher.finalize().into()
}

/// By what a party's place in the order is found.
#[must_use]
pub fn order_key(seed: &[u8; 32], digest: &[u8; 32], party: &str) -> [u8; 32] {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, seed);
    let mut context = ring::hmac::Context::with_key(&key);
    context.update(digest);
    context.update(party.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// The registrations in the order in which they come.
// rule: LOT-1 seed and list settle it, and both were told before
#[must_use]
pub fn order<'r>(seed: &[u8; 32], digest: &[u8; 32], registrations: &'r [Registration]) -> Vec<&'r Registration> {
    let keyed = registrations.iter().map(|registration| (order_key(seed, digest, &registration.party), registration));
    let mut keyed: Vec<_> = keyed.collect();
    keyed.sort_by(|(a, one), (b, other)| (a, &one.party).cmp(&(b, &other.party)));
    keyed.into_iter().map(|(_, registration)| registration).collect()
}

/// The units of a draw while they are given away.
#[derive(Clone, Debug)]
pub struct Units<'s> {
    slots: &'s [DrawnSlot],
    left: Vec<u32>,
}

impl<'s> Units<'s> {
    /// All of them.
    #[must_use]
    pub fn new(slots: &'s [DrawnSlot]) -> Units<'s> {
        Units { slots, left: slots.iter().map(|slot| slot.units).collect() }
    }

    /// One was given before: false if there is none.
    pub fn take(&mut self, slot: &str) -> bool {
        let at = self.slots.iter().position(|known| known.slot == slot);
        let left = at.and_then(|at| self.left.get_mut(at)).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }

    /// One registration's turn: the first slot of its preferences that has a unit left and that `offer` does not refuse.
    pub fn turn(
        &mut self,
        registration: &Registration,
        mut offer: impl FnMut(&DrawnSlot) -> Result<(), String>,
    ) -> Came {
        let mut came = Came::default();
        let mut seen = vec![false; self.slots.len()];
        for preference in &registration.preferences {
            for (at, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.is_of(preference)) {
                if std::mem::replace(&mut seen[at], true) {
                    continue;
                }
                let told = if self.left[at] == 0 { Err(FULL.to_owned()) } else { offer(slot) };
                match told {
                    Ok(()) => {
                        self.left[at] -= 1;
                        came.given = Some(slot.slot.clone());
                        return came;
                    }
                    Err(why) => came.passed.push(Passed { slot: slot.slot.clone(), why }),
                }
            }
        }
        came
    }
}

/// 64 small hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of 64 hexadecimal digits.
#[must_use]
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}
