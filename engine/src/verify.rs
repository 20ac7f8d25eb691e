//! Reads a data directory and proves the rules that its journal can show, at every prefix.
//!
//! A second reading of the rules, on plain maps: it shares no code with the inventory, with replay or with what writes
//! snapshots, so that a bug there is not repeated here. Offline: nothing here is called while serving.
//!
//! [`Ledger`] keeps books from entries; [`records`] reads what a snapshot says; [`directory`] does both for a whole data
//! directory and compares them.

pub mod directory;
pub mod ledger;
mod numbered;
pub mod records;

pub use ledger::Ledger;
pub use numbered::Numbered;

use crate::ids::Seq;

/// A rule broken at one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's id, as in RULES.md.
    pub rule: &'static str,
    /// The entry after which it no longer held.
    pub seq: Seq,
    /// What was found, with both values.
    pub detail: String,
}

/// How many times each rule was judged, whatever came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Slots looked at after an entry that took units of them or changed them.
    pub cap_1: u64,
    /// Groups of two or more taken or resolved.
    pub cap_3: u64,
    /// Claims that came to be.
    pub pty_1: u64,
    /// Holds resolved, by their numbers.
    pub hld_1: u64,
    /// Deadlines judged.
    pub hld_4: u64,
    /// Deadlines put off.
    pub hld_5: u64,
    /// Changes of state, births included.
    pub bkg_1: u64,
    /// Moves.
    pub bkg_2: u64,
    /// Walk-ins.
    pub wlk_1: u64,
    /// No-shows held against their slot's start.
    pub nsh_1: u64,
    /// Doses, each of a booking that was checked in.
    pub dos_1: u64,
    /// Entries with a key.
    pub idm_1: u64,
    /// Prefixes: one behind each entry.
    pub jnl_1: u64,
    /// Frames whose checksum, place and link were found right.
    pub jnl_4: u64,
    /// Snapshots found whole and reached by the log.
    pub snp_1: u64,
    /// Snapshots whose S0 the log goes back to.
    pub snp_2: u64,
    /// Records of a snapshot, with the log behind it, that were compared with what the whole log says.
    pub snp_3: u64,
    /// Starts whose epoch is past the one before.
    pub fnc_1: u64,
    /// Entries held against the newest time of the runs before theirs.
    pub tim_1: u64,
}

impl Judged {
    /// Each rule's id with its count.
    #[must_use]
    pub fn by_rule(&self) -> [(&'static str, u64); 19] {
        [
            ("CAP-1", self.cap_1),
            ("CAP-3", self.cap_3),
            ("PTY-1", self.pty_1),
            ("HLD-1", self.hld_1),
            ("HLD-4", self.hld_4),
            ("HLD-5", self.hld_5),
            ("BKG-1", self.bkg_1),
            ("BKG-2", self.bkg_2),
            ("WLK-1", self.wlk_1),
            ("NSH-1", self.nsh_1),
            ("DOS-1", self.dos_1),
            ("IDM-1", self.idm_1),
            ("JNL-1", self.jnl_1),
            ("JNL-4", self.jnl_4),
            ("SNP-1", self.snp_1),
            ("SNP-2", self.snp_2),
            ("SNP-3", self.snp_3),
            ("FNC-1", self.fnc_1),
            ("TIM-1", self.tim_1),
        ]
    }
}
