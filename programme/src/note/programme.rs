//! The note of a programme: its whole text, since when, and where it came from. So replay, `berth journal dump` and `berth programme
//! history` know which rules were in force when, without any file.
//!
//! `version u8 = 3 | kind u8 = 4 | count = 1 | at | source u8 | file SHA-256 if it came by a call | text`. Added by version 3, in which
//! the other kinds are written as by version 2.

use berth_engine::TimestampMs;

use super::{NoteError, PROGRAMME, Reader, Writer};
use crate::take_up::Source;

/// The first version that has this kind.
pub(super) const SINCE_VERSION: u8 = 3;
const FILE: u8 = 1;
const CALL: u8 = 2;

/// A programme as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgrammeNote {
    pub(crate) at: TimestampMs,
    pub(crate) source: Source,
    pub(crate) text: String,
}

impl ProgrammeNote {
    pub(crate) fn new(text: &str, source: Source, at: TimestampMs) -> ProgrammeNote {
        ProgrammeNote { at, source, text: text.to_owned() }
    }
}

/// The note of a programme that is taken up.
pub(crate) fn encode_programme(note: &ProgrammeNote) -> Vec<u8> {
    let mut out = Writer(vec![SINCE_VERSION, PROGRAMME]);
    out.number(1);
    out.number(note.at.0);
    match note.source {
        Source::File => out.byte(FILE),
        Source::Call { file_sha256 } => {
            out.byte(CALL);
            out.0.extend_from_slice(&file_sha256);
        }
    }
    out.text(&note.text);
    out.0
}

impl Reader<'_> {
    pub(super) fn programme(&mut self) -> Result<ProgrammeNote, NoteError> {
        let at = TimestampMs(self.number()?);
        let source = match self.byte()? {
            FILE => Source::File,
            CALL => {
                let mut file_sha256 = [0; 32];
                for byte in &mut file_sha256 {
                    *byte = self.byte()?;
                }
                Source::Call { file_sha256 }
            }
            _ => return Err(self.malformed()),
        };
        Ok(ProgrammeNote { at, source, text: self.text()? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CatalogueNote, decode};
    use super::*;

    fn notes() -> [ProgrammeNote; 2] {
        let call = Source::Call { file_sha256: [7; 32] };
        let new = |source| ProgrammeNote::new("name = \"मुंबई\"\n", source, TimestampMs(1_796_000_000_123));
        [new(Source::File), new(call)]
    }

    #[test]
    fn a_programme_reads_back_as_written() {
        for note in notes() {
            let bytes = encode_programme(&note);
            assert_eq!(decode(&bytes), Ok(CatalogueNote::Programme(note)));
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut]).is_err(), "cut at {cut} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn no_older_version_has_one() {
        let mut bytes = encode_programme(&notes()[0]);
        bytes[0] = 2;
        assert!(matches!(decode(&bytes), Err(NoteError::Malformed(_))));
    }
}
