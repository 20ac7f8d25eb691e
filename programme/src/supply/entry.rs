//! What stands of the ledger in the journal: a `Recorded` entry's bytes, a version and JSON. An entry says all that it changes, so that it
//! is understood without those before it.
//!
//! Who did it stands in the audit log, and not here: the journal says nothing of people in the open.

use berth_engine::{ProductId, Seq};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::lot::Effect;

/// The kind of `Recorded` entries that are of supply.
pub const RECORDED_SUPPLY: u8 = 6;

const VERSION: u8 = 1;

/// The most doses of a batch, and of anything said of one: a slip of the keyboard is none.
pub const DOSES_MAX: u64 = 1_000_000_000;

/// A batch as its maker has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSpec {
    /// Its number, as it stands on the vial.
    pub id: String,
    /// What it is of: the number of a product of the programme.
    pub product: u8,
    /// Doses.
    pub quantity: u64,
    /// The last day on which it may be given.
    pub expires: Date,
    /// Who made it, for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manufacturer: String,
    /// Doses of a vial, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doses_per_vial: Option<u16>,
}

impl BatchSpec {
    /// What it is of.
    #[must_use]
    pub fn product(&self) -> ProductId {
        ProductId(self.product)
    }
}

/// What is put right of a batch: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// What it is of.
    pub product: Option<ProductId>,
    /// Doses.
    pub quantity: Option<u64>,
    /// The last day on which it may be given.
    pub expires: Option<Date>,
    /// Who made it; empty: nobody says.
    pub manufacturer: Option<String>,
    /// Doses of a vial.
    pub doses_per_vial: Option<u16>,
}

impl Amendment {
    /// The batch as it is with it.
    pub(super) fn of(self, before: BatchSpec) -> BatchSpec {
        let Amendment { product, quantity, expires, manufacturer, doses_per_vial } = self;
        BatchSpec {
            id: before.id,
            product: product.map_or(before.product, |product| product.0),
            quantity: quantity.unwrap_or(before.quantity),
            expires: expires.unwrap_or(before.expires),
            manufacturer: manufacturer.unwrap_or(before.manufacturer),
            doses_per_vial: doses_per_vial.or(before.doses_per_vial),
        }
    }
}

/// Why doses are wasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waste {
    /// A vial broke.
    Broken,
    /// Past its last day.
    Expired,
    /// Opened, and not used up in time.
    OpenedUnused,
    /// Too warm, or frozen.
    ColdChain,
    /// Sent, and not there when the rest was.
    LostInTransit,
    /// Its batch was recalled.
    Recalled,
    /// Anything else.
    Other,
}

impl Waste {
    /// Every reason, in the order of their counters.
    pub const ALL: [Waste; 7] = [
        Waste::Broken,
        Waste::Expired,
        Waste::OpenedUnused,
        Waste::ColdChain,
        Waste::LostInTransit,
        Waste::Recalled,
        Waste::Other,
    ];

    /// The name used on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Waste::Broken => "broken",
            Waste::Expired => "expired",
            Waste::OpenedUnused => "opened_unused",
            Waste::ColdChain => "cold_chain",
            Waste::LostInTransit => "lost_in_transit",
            Waste::Recalled => "recalled",
            Waste::Other => "other",
        }
    }

    /// The reason of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Waste> {
        Waste::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// Doses of a batch on their way from one centre to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// What.
    pub batch: String,
    /// Whence.
    pub from: String,
    /// Where to.
    pub to: String,
    /// How many were sent.
    pub quantity: u64,
}

/// What an entry of the ledger says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Said {
    Batch {
        batch: BatchSpec,
    },
    /// As it is from now on.
    Amended {
        batch: BatchSpec,
        reason: String,
    },
    Received {
        batch: String,
        centre: String,
        quantity: u64,
        note: String,
    },
    Sent {
        sending: Sending,
    },
    Arrived {
        transfer: u64,
        sending: Sending,
        arrived: u64,
    },
    Cancelled {
        transfer: u64,
        sending: Sending,
    },
    Wasted {
        batch: String,
        centre: String,
        quantity: u64,
        reason: Waste,
    },
    Counted {
        batch: String,
        centre: String,
        before: u64,
        uncovered: u64,
        counted: u64,
        reason: String,
    },
    Recalled {
        batch: String,
        reason: String,
    },
    Lifted {
        batch: String,
        reason: String,
    },
}

impl Said {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, self).expect("it has only string keys, and memory takes it");
        bytes
    }

    /// `None`: nothing that any Berth wrote, or a newer one did.
    pub(super) fn read(bytes: &[u8]) -> Option<Said> {
        let (&VERSION, json) = bytes.split_first()? else { return None };
        serde_json::from_slice(json).ok()
    }

    /// What it changes of which stock: batch, centre, and what.
    pub(super) fn effects(&self) -> Vec<(&str, &str, Effect)> {
        match self {
            Said::Batch { .. } | Said::Amended { .. } | Said::Recalled { .. } | Said::Lifted { .. } => Vec::new(),
            Said::Received { batch, centre, quantity, .. } => vec![(batch, centre, Effect::Received(*quantity))],
            Said::Sent { sending: Sending { batch, from, quantity, .. } } => {
                vec![(batch, from, Effect::Sent(*quantity))]
            }
            Said::Arrived { sending: Sending { batch, from, to, quantity }, arrived, .. } => {
                let lost = quantity.saturating_sub(*arrived);
                let mut effects: Vec<(&str, &str, Effect)> =
                    vec![(batch, from, Effect::Delivered(*quantity)), (batch, to, Effect::Arrived(*quantity))];
                if lost > 0 {
                    effects.push((batch, to, Effect::Wasted(lost, Waste::LostInTransit)));
                }
                effects
            }
            Said::Cancelled { sending: Sending { batch, from, quantity, .. }, .. } => {
                vec![(batch, from, Effect::Back(*quantity))]
            }
            Said::Wasted { batch, centre, quantity, reason } => {
                vec![(batch, centre, Effect::Wasted(*quantity, *reason))]
            }
            Said::Counted { batch, centre, before, uncovered, counted, .. } => {
                // What is counted is there now: what had been given without cover was there, too.
                let effect = match counted.checked_sub(*before) {
                    Some(more) => Effect::Found(more + uncovered),
                    None => Effect::Missing(before - counted),
                };
                vec![(batch, centre, effect)]
            }
        }
    }

    /// Whether it goes into the journal also where the disk has no room: a recall stops doses that are given on.
    pub(super) fn is_urgent(&self) -> bool {
        matches!(self, Said::Recalled { .. })
    }

    /// The transfer that it ends.
    pub(super) fn ends(&self) -> Option<Seq> {
        match self {
            Said::Arrived { transfer, .. } | Said::Cancelled { transfer, .. } => Some(Seq(*transfer)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_reads_back_and_a_newer_version_does_not() {
        let batch = BatchSpec {
            id: "4120Z001".to_owned(),
            product: 1,
            quantity: 1000,
            expires: jiff::civil::date(2026, 12, 31),
            manufacturer: String::new(),
            doses_per_vial: Some(10),
        };
        let sending = Sending { batch: "B".to_owned(), from: "c1".to_owned(), to: "c2".to_owned(), quantity: 10 };
        let arrived = Said::Arrived { transfer: 7, sending: sending.clone(), arrived: 8 };
        let amended = Said::Amended { batch: batch.clone(), reason: "typo".to_owned() };
        for said in [Said::Batch { batch }, amended, Said::Sent { sending }, arrived.clone()] {
            let mut bytes = said.bytes();
            assert_eq!(Said::read(&bytes), Some(said));
            bytes[0] = VERSION + 1;
            assert_eq!(Said::read(&bytes), None);
        }
        let lost = Effect::Wasted(2, Waste::LostInTransit);
        assert_eq!(
            arrived.effects(),
            [("B", "c1", Effect::Delivered(10)), ("B", "c2", Effect::Arrived(10)), ("B", "c2", lost)]
        );
        assert!(Waste::ALL.iter().all(|reason| Waste::of(reason.as_str()) == Some(*reason)));
    }
}
