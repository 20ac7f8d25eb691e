//! What stands of the waitlist in the journal: a `Recorded` entry's bytes, and the note of an offer.
//!
//! ```text
//! u8  version          1
//! u8  what             1 joined, 2 ended
//! joined: u32 party, u8 dose, u8 product (0: any), u16 first day, u16 last day, u8 scope (1 centre, 2 district), its id
//! ended:  u64 the joining entry, u8 why
//! offer's note: u8 3, u64 the joining entry
//! ```
//! Numbers are little-endian, days are days since 1970-01-01. A waiting entry is named by the number of its joining entry.

use std::sync::Arc;

use berth_engine::{Dose, PartyId, ProductId, Seq};

/// The kind of `Recorded` entries that are of the waitlist, and the first byte of its offers' notes.
pub const RECORDED_WAITLIST: u8 = 3;

const VERSION: u8 = 1;
const JOINED: u8 = 1;
const ENDED: u8 = 2;
const CENTRE: u8 = 1;
const DISTRICT: u8 = 2;

/// Where somebody would come to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One centre.
    Centre(Arc<str>),
    /// Any centre of a district.
    District(Arc<str>),
}

impl Scope {
    /// The id of the centre or district.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        match self {
            Scope::Centre(id) | Scope::District(id) => id,
        }
    }
}

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Who.
    pub party: PartyId,
    /// Where.
    pub scope: Scope,
    /// The first day on which they would come, in days since 1970-01-01.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// Which dose.
    pub dose: Dose,
    /// What of; 0: whatever there is.
    pub product: ProductId,
}

/// Why an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Why {
    /// Taken back.
    Left = 1,
    /// Too many offers were let pass or declined.
    Missed = 2,
    /// The party has a booking for the dose, or has had it.
    Served = 3,
    /// Its last day is over.
    Past = 4,
    /// The party's record was erased, or merged into another.
    Gone = 5,
}

impl Why {
    const ALL: [Why; 5] = [Why::Left, Why::Missed, Why::Served, Why::Past, Why::Gone];

    /// The name used on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Why::Left => "left",
            Why::Missed => "missed",
            Why::Served => "served",
            Why::Past => "past",
            Why::Gone => "gone",
        }
    }

    pub(super) fn of(byte: u8) -> Option<Why> {
        Why::ALL.into_iter().find(|why| *why as u8 == byte)
    }
}

/// What a `Recorded` entry of the waitlist says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Joined(Wish),
    Ended { entry: Seq, why: Why },
}

impl Said {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Said::Joined(wish) => [&[VERSION, JOINED][..], &wish.bytes()].concat(),
            Said::Ended { entry, why } => [&[VERSION, ENDED][..], &entry.0.to_le_bytes(), &[*why as u8]].concat(),
        }
    }

    /// `None`: nothing of this version.
    pub(super) fn read(bytes: &[u8]) -> Option<Said> {
        match bytes {
            [VERSION, JOINED, wish @ ..] => Wish::read(wish).map(Said::Joined),
            [VERSION, ENDED, rest @ ..] => {
                let (entry, rest) = rest.split_first_chunk::<8>()?;
                let [why] = rest else { return None };
                Some(Said::Ended { entry: Seq(u64::from_le_bytes(*entry)), why: Why::of(*why)? })
            }
            _ => None,
        }
    }
}

impl Wish {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Wish { party, scope, first, last, dose, product } = self;
        let mut bytes = party.0.to_le_bytes().to_vec();
        bytes.extend([dose.0, product.0]);
        bytes.extend(first.to_le_bytes());
        bytes.extend(last.to_le_bytes());
        bytes.push(if matches!(scope, Scope::Centre(_)) { CENTRE } else { DISTRICT });
        bytes.extend(scope.id().as_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Wish> {
        let (head, id) = bytes.split_first_chunk::<11>()?;
        let [p0, p1, p2, p3, dose, product, f0, f1, l0, l1, scope] = *head;
        let id: Arc<str> = Arc::from(std::str::from_utf8(id).ok()?);
        let scope = match scope {
            CENTRE => Scope::Centre(id),
            DISTRICT => Scope::District(id),
            _ => return None,
        };
        let (first, last) = (u16::from_le_bytes([f0, f1]), u16::from_le_bytes([l0, l1]));
        let party = PartyId(u32::from_le_bytes([p0, p1, p2, p3]));
        Some(Wish { party, scope, first, last, dose: Dose(dose), product: ProductId(product) })
    }
}

/// The note of an offer for this entry.
pub(super) fn offer_note(entry: Seq) -> [u8; 9] {
    let mut note = [RECORDED_WAITLIST; 9];
    note[1..].copy_from_slice(&entry.0.to_le_bytes());
    note
}

/// The entry that an offer is for; `None` if it is not of the waitlist.
pub(super) fn offered_for(note: &[u8]) -> Option<Seq> {
    let (kind, entry) = note.split_first()?;
    (*kind == RECORDED_WAITLIST).then_some(())?;
    Some(Seq(u64::from_le_bytes(entry.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_reads_back_and_nothing_else_does() {
        let wish = Wish {
            party: PartyId(70_000),
            scope: Scope::District(Arc::from("395")),
            first: 20_781,
            last: 20_790,
            dose: Dose(2),
            product: ProductId(0),
        };
        let centre = Wish { scope: Scope::Centre(Arc::from("c1")), ..wish.clone() };
        let ended = Why::ALL.map(|why| Said::Ended { entry: Seq(300), why });
        for said in [Said::Joined(wish), Said::Joined(centre)].into_iter().chain(ended) {
            let bytes = said.bytes();
            assert_eq!(Said::read(&bytes), Some(said.clone()));
            for (at, byte) in [(0, 2), (1, 3)] {
                let mut changed = bytes.clone();
                changed[at] = byte;
                assert_eq!(Said::read(&changed), None);
            }
            assert_eq!(Said::read(&bytes[..9]), None, "{said:?} cut");
        }
        assert_eq!(offered_for(&offer_note(Seq(9))), Some(Seq(9)));
        for other in [&[][..], &[RECORDED_WAITLIST], &[2, 9, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(offered_for(other), None);
        }
    }
}
