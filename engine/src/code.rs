//! Public booking codes: short enough to read over the phone, impossible to guess, never stored.
//!
//! A code is Crockford base32: two symbols for the cell, eleven for a keyed permutation of the booking
//! number, one check symbol. The permutation is an eight-round Feistel network over 56 bits with SipHash-2-4 as
//! its round function, walked until it falls below 2^55. With 30 million live bookings a guess hits one in
//! 1.2 thousand million. The key lies outside journal and stream.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::ids::{BookingNumber, CellId};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// The alphabet of check symbols: 37 of them, a prime, so that every single error and swap of neighbours shows.
const CHECK_ALPHABET: &[u8; 37] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U";
const NUMBER_SYMBOLS: u32 = 11;
const DOMAIN_BITS: u32 = 55;
const HALF_BITS: u32 = 28;
const HALF_MASK: u64 = (1 << HALF_BITS) - 1;
const ROUNDS: u64 = 8;
/// What sets a check-in code apart from all else that is hashed with the key.
const CHECK_IN: &[u8] = b"berth check-in code";
/// The same for the key behind the numbers of doses, of each half.
const DOSES: [&[u8]; 2] = [b"berth dose number, first half", b"berth dose number, second half"];
/// Symbols of a code without its dashes.
const CODE_SYMBOLS: usize = 14;

const _: () = assert!(NUMBER_SYMBOLS * 5 == DOMAIN_BITS && 2 * HALF_BITS > DOMAIN_BITS);

/// A code as it is shown: `XXXX-XXXXX-XXXXX`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BookingCode([u8; CODE_SYMBOLS]);

impl BookingCode {
    /// What it is shown as.
    #[must_use]
    pub fn to_bytes(self) -> [u8; CODE_SYMBOLS + 2] {
        let mut shown = [b'-'; CODE_SYMBOLS + 2];
        shown[..4].copy_from_slice(&self.0[..4]);
        shown[5..10].copy_from_slice(&self.0[4..9]);
        shown[11..].copy_from_slice(&self.0[9..]);
        shown
    }
}

impl fmt::Display for BookingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.to_bytes()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for BookingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A code lets its bearer act on a booking: it has no place in a debug log.
        f.write_str("BookingCode(..)")
    }
}

/// Turns booking numbers of one cell into codes and back.
#[derive(Clone)]
pub struct BookingCodes {
    cell: CellId,
    key: [u8; 16],
}

impl fmt::Debug for BookingCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BookingCodes(cell {})", self.cell)
    }
}

impl BookingCodes {
    /// Codes of `cell` under `key`. Another key gives every booking another code.
    #[must_use]
    pub fn new(cell: CellId, key: [u8; 16]) -> Self {
        Self { cell, key }
    }

    /// The public numbers of doses: those of the bookings they were given on, as codes under a key of their own. Who has read one on
    /// a certificate knows nothing of the booking's code.
    #[must_use]
    pub fn doses(&self) -> BookingCodes {
        let mut key = [0; 16];
        for (half, of) in key.chunks_exact_mut(8).zip(DOSES) {
            let mut hasher = SipHasher24::new_with_key(&self.key);
            hasher.write(of);
            half.copy_from_slice(&hasher.finish().to_le_bytes());
        }
        Self { cell: self.cell, key }
    }

    /// The key itself, from which other secrets of the cell are derived. It is shown to nobody.
    #[must_use]
    pub fn secret(&self) -> [u8; 16] {
        self.key
    }

    /// The code of a booking number.
    ///
    /// # Panics
    /// If the number is 2^55 or more: the booking table ends far below.
    #[must_use]
    pub fn encode(&self, number: BookingNumber) -> BookingCode {
        assert!(number.0 >> DOMAIN_BITS == 0, "booking number {number} has no code");
        let mut symbols = [0; CODE_SYMBOLS];
        let whole = self.whole(number);
        symbols[..CODE_SYMBOLS - 1].copy_from_slice(&body(whole));
        symbols[CODE_SYMBOLS - 1] = CHECK_ALPHABET[(whole % 37) as usize];
        BookingCode(symbols)
    }

    /// The number behind a code; `None` if it is mistyped, of another cell, or was never a code. Dashes and
    /// spaces are ignored, letters may be small, `O` reads as 0, `I` and `L` as 1.
    #[must_use]
    pub fn decode(&self, code: &str) -> Option<BookingNumber> {
        let mut symbols =
            code.bytes().filter(|byte| !matches!(byte, b'-' | b' ')).map(|byte| byte.to_ascii_uppercase());
        let mut whole = 0u128;
        for _ in 0..CODE_SYMBOLS - 1 {
            let symbol = match symbols.next()? {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            whole = whole << 5 | ALPHABET.iter().position(|known| *known == symbol)? as u128;
        }
        let check = match symbols.next()? {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        if symbols.next().is_some() || check != CHECK_ALPHABET[(whole % 37) as usize] {
            return None;
        }
        self.number(whole)
    }

    /// The code without its check symbol, which is not always a letter or a digit: for what has a check of its own.
    ///
    /// # Panics
    /// As [`encode`](Self::encode).
    #[must_use]
    pub fn encode_unchecked(&self, number: BookingNumber) -> [u8; CODE_SYMBOLS - 1] {
        assert!(number.0 >> DOMAIN_BITS == 0, "booking number {number} has no code");
        body(self.whole(number))
    }

    /// The number behind 13 symbols as [`encode_unchecked`](Self::encode_unchecked) gives them, exactly. Any 13 of this cell are some number's.
    #[must_use]
    pub fn decode_unchecked(&self, code: &str) -> Option<BookingNumber> {
        if code.len() != CODE_SYMBOLS - 1 {
            return None;
        }
        let whole = code.bytes().try_fold(0u128, |whole, byte| {
            Some(whole << 5 | ALPHABET.iter().position(|known| *known == byte)? as u128)
        })?;
        self.number(whole)
    }

    /// Cell and permuted number.
    fn whole(&self, number: BookingNumber) -> u128 {
        let mut value = self.permute(number.0);
        while value >> DOMAIN_BITS != 0 {
            value = self.permute(value);
        }
        u128::from(self.cell.0) << DOMAIN_BITS | u128::from(value)
    }

    /// Back again; `None` if it is of another cell.
    fn number(&self, whole: u128) -> Option<BookingNumber> {
        if whole >> DOMAIN_BITS != u128::from(self.cell.0) {
            return None;
        }
        let mut value = self.unpermute((whole & ((1 << DOMAIN_BITS) - 1)) as u64);
        while value >> DOMAIN_BITS != 0 {
            value = self.unpermute(value);
        }
        Some(BookingNumber(value))
    }

    /// The four digits said at the door, 0 to 9999. They follow from the number and the key as the code does, and not from the code: who
    /// has read one knows nothing of the other.
    pub(crate) fn check_in(&self, number: BookingNumber) -> u16 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        // Longer than what a round hashes, so that no round's answer is this one.
        hasher.write(CHECK_IN);
        hasher.write_u64(number.0);
        u16::try_from(hasher.finish() % 10_000).expect("below 10000")
    }

    fn permute(&self, value: u64) -> u64 {
        let (mut left, mut right) = (value >> HALF_BITS, value & HALF_MASK);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        left << HALF_BITS | right
    }

    fn unpermute(&self, value: u64) -> u64 {
        let (mut left, mut right) = (value >> HALF_BITS, value & HALF_MASK);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        left << HALF_BITS | right
    }

    fn round(&self, round: u64, half: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u64(round << 32 | half);
        hasher.finish() & HALF_MASK
    }
}

/// All symbols of a code but the last.
fn body(whole: u128) -> [u8; CODE_SYMBOLS - 1] {
    std::array::from_fn(|index| ALPHABET[((whole >> (5 * (CODE_SYMBOLS - 2 - index))) & 31) as usize])
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn codes() -> BookingCodes {
        BookingCodes::new(CellId(37), *b"0123456789abcdef")
    }

    proptest! {
        #[test]
        fn a_code_leads_back_to_its_number_however_it_is_spelt(number in 0u64..1 << DOMAIN_BITS) {
            let shown = codes().encode(BookingNumber(number)).to_string();
            prop_assert_eq!(shown.len(), 16);
            prop_assert_eq!(codes().decode(&shown), Some(BookingNumber(number)));
            let spoken = shown.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            prop_assert_eq!(codes().decode(&spoken), Some(BookingNumber(number)));
        }

        #[test]
        fn one_wrong_symbol_is_always_noticed(number in 0u64..1 << 40, at in 0usize..16, wrong in 0usize..32) {
            let shown = codes().encode(BookingNumber(number)).to_string();
            let mut bytes = shown.clone().into_bytes();
            prop_assume!(bytes[at] != b'-' && bytes[at] != ALPHABET[wrong]);
            bytes[at] = ALPHABET[wrong];
            prop_assert_eq!(codes().decode(std::str::from_utf8(&bytes).unwrap()), None);
        }

        #[test]
        fn any_text_is_a_code_or_is_not_and_never_panics(text in ".{0,24}") {
            let _ = codes().decode(&text);
        }
    }

    #[test]
    fn check_in_codes_are_spread_over_all_four_digits_and_are_the_keys() {
        let mut seen = vec![0u32; 10_000];
        for number in 0..100_000 {
            seen[usize::from(codes().check_in(BookingNumber(number)))] += 1;
        }
        // Ten each on average: of ten thousand none stays out, and none comes up much too often.
        assert!(seen.iter().all(|times| (1..40).contains(times)), "{:?}", seen.iter().max());
        let other = BookingCodes::new(CellId(37), *b"fedcba9876543210");
        let same = (0..1000).filter(|n| codes().check_in(BookingNumber(*n)) == other.check_in(BookingNumber(*n)));
        assert!(same.count() < 10);
    }

    #[test]
    fn a_dose_has_a_number_that_is_not_its_bookings_code() {
        let doses = codes().doses();
        for number in (0..1000).map(BookingNumber) {
            let shown = doses.encode(number).to_string();
            assert_eq!(doses.decode(&shown), Some(number));
            assert_ne!(codes().decode(&shown), Some(number));
        }
        assert_ne!(
            doses.encode(BookingNumber(1)),
            BookingCodes::new(CellId(37), *b"fedcba9876543210").doses().encode(BookingNumber(1))
        );
    }

    #[test]
    fn another_cell_or_key_does_not_share_codes() {
        let shown = codes().encode(BookingNumber(5)).to_string();
        assert_eq!(BookingCodes::new(CellId(36), *b"0123456789abcdef").decode(&shown), None);
        let other = BookingCodes::new(CellId(37), *b"fedcba9876543210");
        assert_ne!(other.decode(&shown), Some(BookingNumber(5)));
    }
}
