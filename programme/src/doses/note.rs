//! What is noted of a dose in the journal, as bytes: what was given, corrections, revocations, adverse events.
//!
//! The first byte says which; of an entry whose note begins otherwise this knows nothing. Texts are short words of a small alphabet, never
//! sentences: the journal is copied to Redis and to backups, so nothing about a person may be written into it in clear.

use berth_engine::{BookingNumber, NOTE_BYTES_MAX, ProductId, TimestampMs};

/// The longest batch number, and case number of an adverse event.
pub const BATCH_LEN_MAX: usize = 32;
/// The longest name of a place on the body, and of a reason or event.
pub const WORD_LEN_MAX: usize = 24;
/// The longest staff number.
pub const STAFF_LEN_MAX: usize = 40;
/// The longest name of who writes a dose down; what is longer is cut.
pub const AUTHOR_LEN_MAX: usize = 72;

pub(super) const GIVEN: u8 = 1;
pub(super) const CORRECTED: u8 = 2;
pub(super) const REVOKED: u8 = 3;
const ADVERSE: u8 = 4;

/// What a batch number looks like, for the reason of a fault.
pub const BATCH_RULE: &str = "must be 1 to 32 of A-Z a-z 0-9 . _ / -";
/// What a place on the body, a reason or an event looks like.
pub const WORD_RULE: &str = "must be 1 to 24 of a-z 0-9 _";
/// What a staff number looks like: a number, and never a name.
pub const STAFF_RULE: &str = "must be 1 to 40 of A-Z a-z 0-9 . _ -";

/// Whether `text` can be a batch number, or the number of a case.
#[must_use]
pub fn is_batch(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-');
    (1..=BATCH_LEN_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether `text` can be a place on the body, a reason or an event.
#[must_use]
pub fn is_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=WORD_LEN_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether `text` can be a staff number.
#[must_use]
pub fn is_staff(text: &str) -> bool {
    text.len() <= STAFF_LEN_MAX && crate::names::is_name(text)
}

/// What was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// When.
    pub given_at: TimestampMs,
    /// What.
    pub product: ProductId,
    /// Of which batch; empty where nobody said.
    pub batch: String,
    /// Where on the body.
    pub site: String,
    /// By whom: a staff number.
    pub vaccinator: String,
}

/// What of it was wrong, and is now this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correction {
    /// When it was given.
    pub given_at: Option<TimestampMs>,
    /// What was given.
    pub product: Option<ProductId>,
    /// Of which batch.
    pub batch: Option<String>,
    /// Where on the body.
    pub site: Option<String>,
    /// By whom.
    pub vaccinator: Option<String>,
}

impl Correction {
    /// Whether it corrects nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Correction::default()
    }

    /// The details once it is made.
    pub fn apply(&self, details: &mut Details) {
        let Correction { given_at, product, batch, site, vaccinator } = self.clone();
        details.given_at = given_at.unwrap_or(details.given_at);
        details.product = product.unwrap_or(details.product);
        for (to, from) in
            [(&mut details.batch, batch), (&mut details.site, site), (&mut details.vaccinator, vaccinator)]
        {
            if let Some(from) = from {
                *to = from;
            }
        }
    }
}

/// How bad an adverse event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Severity {
    /// It passed by itself.
    Minor = 0,
    /// It needed a doctor.
    Severe = 1,
    /// It was, or threatened to be, of lasting harm.
    Serious = 2,
}

impl Severity {
    /// Every one.
    pub const ALL: [Severity; 3] = [Severity::Minor, Severity::Severe, Severity::Serious];

    /// As it is spelled in requests and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Minor => "minor",
            Severity::Severe => "severe",
            Severity::Serious => "serious",
        }
    }
}

/// Something that happened to a person after a dose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdverseEvent {
    /// What, in a word.
    pub event: String,
    /// How bad.
    pub severity: Severity,
    /// When it began.
    pub began_at: TimestampMs,
    /// The number under which the health service follows it up; empty where there is none yet.
    pub case: String,
}

/// What an entry says of a dose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoseNote {
    /// It was given. The entry itself names the booking.
    Given {
        /// What.
        details: Details,
        /// Who wrote it down.
        author: String,
    },
    /// Something of it was wrong.
    Corrected {
        /// The booking it was given on.
        booking: BookingNumber,
        /// What is right.
        correction: Correction,
        /// Why, in a word.
        reason: String,
        /// Who says so.
        author: String,
    },
    /// It was never given.
    Revoked {
        /// The booking it was recorded on.
        booking: BookingNumber,
        /// Why, in a word.
        reason: String,
        /// Who says so.
        author: String,
    },
    /// Something happened after it.
    Adverse {
        /// The booking it was given on.
        booking: BookingNumber,
        /// What.
        event: AdverseEvent,
        /// Who says so.
        author: String,
    },
}

impl DoseNote {
    /// The bytes, at most [`NOTE_BYTES_MAX`] of them if every text keeps to its rule; an author's name is cut to fit.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(NOTE_BYTES_MAX);
        match self {
            DoseNote::Given { details, author } => {
                out.push(GIVEN);
                out.extend_from_slice(&details.given_at.0.to_le_bytes());
                out.push(details.product.0);
                [&details.batch, &details.site, &details.vaccinator].iter().for_each(|text| put(&mut out, text));
                put_author(&mut out, author);
            }
            DoseNote::Corrected { booking, correction, reason, author } => {
                let Correction { given_at, product, batch, site, vaccinator } = correction;
                let texts = [batch, site, vaccinator];
                let there = [given_at.is_some(), product.is_some()].into_iter().chain(texts.map(Option::is_some));
                let bits = there.zip(0u8..).fold(0, |bits, (there, bit)| bits | u8::from(there) << bit);
                out.push(CORRECTED);
                out.extend_from_slice(&booking.0.to_le_bytes());
                out.push(bits);
                if let Some(given_at) = given_at {
                    out.extend_from_slice(&given_at.0.to_le_bytes());
                }
                out.extend(product.map(|product| product.0));
                texts.into_iter().flatten().for_each(|text| put(&mut out, text));
                put(&mut out, reason);
                put_author(&mut out, author);
            }
            DoseNote::Revoked { booking, reason, author } => {
                out.push(REVOKED);
                out.extend_from_slice(&booking.0.to_le_bytes());
                put(&mut out, reason);
                put_author(&mut out, author);
            }
            DoseNote::Adverse { booking, event, author } => {
                out.push(ADVERSE);
                out.extend_from_slice(&booking.0.to_le_bytes());
                out.push(event.severity as u8);
                out.extend_from_slice(&event.began_at.0.to_le_bytes());
                put(&mut out, &event.event);
                put(&mut out, &event.case);
                put_author(&mut out, author);
            }
        }
        out
    }

    /// What the bytes say; `None` if they are not about a dose.
    ///
    /// # Errors
    /// They begin as if they were, and are cut or something else.
    pub fn decode(bytes: &[u8]) -> Result<Option<DoseNote>, BadNote> {
        let mut input = Input(bytes);
        let note = match bytes.first() {
            Some(&GIVEN) => {
                input.byte()?;
                let (given_at, product) = (TimestampMs(input.number()?), ProductId(input.byte()?));
                let (batch, site, vaccinator) = (input.text()?, input.text()?, input.text()?);
                DoseNote::Given {
                    details: Details { given_at, product, batch, site, vaccinator },
                    author: input.text()?,
                }
            }
            Some(&CORRECTED) => {
                input.byte()?;
                let (booking, bits) = (BookingNumber(input.number()?), input.byte()?);
                let has = |bit: u8| bits >> bit & 1 == 1;
                if bits >> 5 != 0 {
                    return Err(BadNote);
                }
                let correction = Correction {
                    given_at: has(0).then(|| input.number()).transpose()?.map(TimestampMs),
                    product: has(1).then(|| input.byte()).transpose()?.map(ProductId),
                    batch: has(2).then(|| input.text()).transpose()?,
                    site: has(3).then(|| input.text()).transpose()?,
                    vaccinator: has(4).then(|| input.text()).transpose()?,
                };
                DoseNote::Corrected { booking, correction, reason: input.text()?, author: input.text()? }
            }
            Some(&REVOKED) => {
                input.byte()?;
                let booking = BookingNumber(input.number()?);
                DoseNote::Revoked { booking, reason: input.text()?, author: input.text()? }
            }
            Some(&ADVERSE) => {
                input.byte()?;
                let (booking, severity) = (BookingNumber(input.number()?), input.byte()?);
                let severity = Severity::ALL.get(usize::from(severity)).copied().ok_or(BadNote)?;
                let began_at = TimestampMs(input.number()?);
                let event = AdverseEvent { event: input.text()?, severity, began_at, case: input.text()? };
                DoseNote::Adverse { booking, event, author: input.text()? }
            }
            _ => return Ok(None),
        };
        if input.0.is_empty() { Ok(Some(note)) } else { Err(BadNote) }
    }
}

/// Bytes that begin as a note about a dose and are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a note about a dose is cut, or is something else")]
pub struct BadNote;

fn put(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("every rule of a text is far below a byte"));
    out.extend_from_slice(text.as_bytes());
}

fn put_author(out: &mut Vec<u8>, author: &str) {
    let mut end = author.len().min(AUTHOR_LEN_MAX);
    while !author.is_char_boundary(end) {
        end -= 1;
    }
    put(out, &author[..end]);
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, BadNote> {
        let (byte, rest) = self.0.split_first().ok_or(BadNote)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u64, BadNote> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(BadNote)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    fn text(&mut self) -> Result<String, BadNote> {
        let len = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(len).ok_or(BadNote)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| BadNote)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn details() -> impl Strategy<Value = Details> {
        ("[A-Z0-9./_-]{0,32}", "[a-z_]{0,24}", "[A-Za-z0-9.]{0,40}", any::<u64>(), any::<u8>()).prop_map(
            |(batch, site, vaccinator, at, product)| Details {
                given_at: TimestampMs(at),
                product: ProductId(product),
                batch,
                site,
                vaccinator,
            },
        )
    }

    fn notes() -> impl Strategy<Value = DoseNote> {
        let texts = || ("[a-z_0-9]{1,24}", "[ -~]{0,72}", any::<u64>().prop_map(BookingNumber));
        let bits = prop::array::uniform5(any::<bool>());
        prop_oneof![
            (details(), "[ -~]{0,72}").prop_map(|(details, author)| DoseNote::Given { details, author }),
            (details(), bits, texts()).prop_map(|(of, has, (reason, author, booking))| {
                let correction = Correction {
                    given_at: has[0].then_some(of.given_at),
                    product: has[1].then_some(of.product),
                    batch: has[2].then_some(of.batch),
                    site: has[3].then_some(of.site),
                    vaccinator: has[4].then_some(of.vaccinator),
                };
                DoseNote::Corrected { booking, correction, reason, author }
            }),
            texts().prop_map(|(reason, author, booking)| DoseNote::Revoked { booking, reason, author }),
            (texts(), 0usize..3, any::<u64>(), "[A-Z0-9]{0,32}").prop_map(|((event, author, booking), n, at, case)| {
                let event = AdverseEvent { event, severity: Severity::ALL[n], began_at: TimestampMs(at), case };
                DoseNote::Adverse { booking, event, author }
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_note_reads_back_as_it_was_and_fits_an_entry(note in notes()) {
            let bytes = note.encode();
            prop_assert!(bytes.len() <= NOTE_BYTES_MAX);
            prop_assert_eq!(DoseNote::decode(&bytes), Ok(Some(note)));
        }

        #[test]
        fn bytes_of_nobody_are_a_note_that_would_be_written_so_or_none(bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0u8..6) {
            let bytes = [&[kind][..], &bytes].concat();
            if let Ok(Some(note)) = DoseNote::decode(&bytes) {
                // But for an author that would have been cut.
                let again = note.encode();
                prop_assert!(again == bytes || again.len() < bytes.len());
            }
        }
    }

    #[test]
    fn a_long_author_is_cut_between_two_characters() {
        let author = "ä".repeat(100);
        let note = DoseNote::Revoked { booking: BookingNumber(1), reason: "typo".to_owned(), author };
        let Ok(Some(DoseNote::Revoked { author, .. })) = DoseNote::decode(&note.encode()) else { panic!("not read") };
        assert_eq!(author, "ä".repeat(36));
        assert_eq!(DoseNote::decode(b""), Ok(None));
        assert_eq!(DoseNote::decode(&[99, 1, 2]), Ok(None));
    }

    #[test]
    fn words_are_words_and_no_sentences() {
        assert!(is_batch("4120Z001") && is_batch("AB/12-3") && is_word("left_arm") && is_staff("nurse-17"));
        for bad in ["", "a b", "A. Person, 12 Some Street", &"x".repeat(41), "ä"] {
            assert!(!is_batch(bad) && !is_word(bad) && !is_staff(bad), "{bad:?}");
        }
    }
}
