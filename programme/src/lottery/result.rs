//! The file that a lottery leaves: everything that settled it, and what came of each. Lines of JSON, so that a nation's list is read a
//! line at a time; and how it is verified, with nothing else at hand.

use serde::{Deserialize, Serialize};

use super::draw::{
    Came, DrawnSlot, FULL, Passed, Preference, Registration, Units, commitment, digest, hex, in_order_of_parties,
    order, unhex,
};

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ResultLine {
    /// The first.
    Lottery {
        /// Its id.
        id: String,
        /// SHA-256 of the seed, told when it was made.
        commitment: String,
        /// Of the registrations, told when registration ended.
        digest: String,
        /// Told now.
        seed: String,
        /// What was drawn for, in the order in which a preference's slots are tried.
        slots: Vec<DrawnSlot>,
    },
    /// One for each registration, in the order in which they came.
    Registration {
        /// From 1 on.
        place: u64,
        /// By number alone.
        party: String,
        /// The best first.
        preferences: Vec<Preference>,
        /// What was passed over, and why.
        passed: Vec<Passed>,
        /// What was offered.
        #[serde(skip_serializing_if = "Option::is_none")]
        given: Option<String>,
    },
    /// The last: without it the file was cut.
    End {
        /// How many registrations.
        registrations: u64,
        /// How many were offered something.
        given: u64,
    },
}

/// What a file says of itself, once it was found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The lottery.
    pub id: String,
    /// To be compared with what was told when it was made.
    pub commitment: String,
    /// To be compared with what was told when registration ended.
    pub digest: String,
    /// How many registrations.
    pub registrations: u64,
    /// How many were offered something.
    pub given: u64,
    /// Slots passed over though a unit was left, by reason: what the programme said to them cannot be seen from outside.
    pub refused: u64,
}

/// Reads a file again from its beginning: commitment, digest, order and what each got.
///
/// # Errors
/// Where it differs, in one sentence.
// rule: LOT-1 whoever has the file finds the same
pub fn verify(text: &str) -> Result<Verified, String> {
    let mut lines = text.lines().zip(1u64..).map(|(line, number)| {
        let read = serde_json::from_str::<ResultLine>(line);
        read.map(|line| (line, number)).map_err(|error| format!("line {number}: is no line of a result: {error}"))
    });
    let first = lines.next().ok_or("the file is empty")??.0;
    let ResultLine::Lottery { id, commitment: told_commitment, digest: told_digest, seed, slots } = first else {
        return Err("line 1: is not the lottery's own".to_owned());
    };
    let seed = unhex(&seed).ok_or("line 1: seed: is not 64 hexadecimal digits")?;
    let found = hex(&commitment(&seed));
    if found != told_commitment {
        return Err(format!("line 1: the seed is not what was committed to: its SHA-256 is {found}"));
    }
    let (mut came, mut end) = (Vec::new(), None);
    for line in lines {
        match line? {
            (ResultLine::Registration { place, party, preferences, passed, given }, number) if end.is_none() => {
                if place != number - 1 {
                    return Err(format!("line {number}: place {place} stands where {} should", number - 1));
                }
                came.push((Registration { party, preferences }, Came { passed, given }));
            }
            (ResultLine::End { registrations, given }, _) if end.is_none() => end = Some((registrations, given)),
            (_, number) => return Err(format!("line {number}: does not belong there")),
        }
    }
    let (registrations, given) = end.ok_or("the last line is missing: the file was cut")?;
    let found = (came.len() as u64, came.iter().filter(|(_, came)| came.given.is_some()).count() as u64);
    if found != (registrations, given) {
        return Err(format!("the last line counts {registrations} and {given}, there are {} and {}", found.0, found.1));
    }
    let mut list: Vec<_> = came.iter().map(|(registration, _)| registration.clone()).collect();
    in_order_of_parties(&mut list);
    if let Some(twice) = list.windows(2).find(|pair| pair[0].party == pair[1].party) {
        return Err(format!("party {} stands twice", twice[0].party));
    }
    let found = digest(&id, &list);
    if hex(&found) != told_digest {
        return Err(format!("the registrations are not those that were closed: their digest is {}", hex(&found)));
    }
    let mut refused = 0;
    let mut units = Units::new(&slots);
    for ((should, (is, said)), number) in order(&seed, &found, &list).into_iter().zip(&came).zip(2u64..) {
        if should != is {
            return Err(format!("line {number}: {} stands where {} should", is.party, should.party));
        }
        let again = units.turn(is, |slot| {
            if said.given.as_ref() == Some(&slot.slot) {
                return Ok(());
            }
            let passed = said.passed.iter().find(|passed| passed.slot == slot.slot && passed.why != FULL);
            refused += u64::from(passed.is_some());
            Err(passed.map_or_else(|| "for no reason".to_owned(), |passed| passed.why.clone()))
        });
        if again != *said {
            let differs = again.passed.iter().zip(&said.passed).find(|(a, b)| a != b);
            let what = match differs {
                Some((again, said)) => {
                    format!("slot {} was {}, the file says {} {}", again.slot, again.why, said.slot, said.why)
                }
                None => match again.passed.get(said.passed.len()) {
                    Some(passed) => format!("slot {} was passed over {}", passed.slot, passed.why),
                    None => "it did not get what it should".to_owned(),
                },
            };
            return Err(format!("line {number}: party {}: {what}", is.party));
        }
    }
    Ok(Verified { id, commitment: told_commitment, digest: told_digest, registrations, given, refused })
}
