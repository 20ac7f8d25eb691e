//! What is left to read of an entry, field by field. Never panics, whatever the bytes.

use super::entry::Claims;
use crate::command::{By, Claim, GROUP_CLAIMS_MAX, Given, NumberedClaim, PartyFacts, Places};
use crate::ids::{BookingNumber, Dose, PartyId, ProductId, SlotId};
use crate::units::Units;

/// Bytes that are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside the entry.
    #[error("the entry ends early")]
    Short,
    /// There are more bytes than the entry needs.
    #[error("{0} bytes too many in the entry")]
    TrailingBytes(usize),
    /// A kind this version does not know.
    #[error("unknown entry kind {0}")]
    UnknownKind(u8),
    /// A field out of its range.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
}

/// What is left to read.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u48(&mut self) -> Result<u64, DecodeError> {
        let low: [u8; 6] = self.array()?;
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&low);
        Ok(u64::from_le_bytes(bytes))
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(super) fn u128(&mut self) -> Result<u128, DecodeError> {
        self.array().map(u128::from_le_bytes)
    }

    pub(super) fn units(&mut self) -> Result<Units, DecodeError> {
        Units::new(self.u32()?).ok_or(DecodeError::OutOfRange("capacity"))
    }

    #[inline]
    pub(super) fn booking(&mut self) -> Result<BookingNumber, DecodeError> {
        self.u64().map(BookingNumber)
    }

    #[inline]
    pub(super) fn group_len(&mut self) -> Result<u8, DecodeError> {
        let len = self.u8()?;
        if (1..=GROUP_CLAIMS_MAX).contains(&usize::from(len)) { Ok(len) } else { Err(DecodeError::OutOfRange("group")) }
    }

    /// Bytes behind one that says how many.
    pub(super) fn note(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    pub(super) fn facts(&mut self) -> Result<PartyFacts, DecodeError> {
        Ok(PartyFacts {
            birth_year: self.u16()?,
            cohorts: self.u32()?,
            doses: self.u8()?,
            product: ProductId(self.u8()?),
            last_dose_day: self.u16()?,
        })
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    #[inline]
    pub(super) fn claim(&mut self) -> Result<Claim, DecodeError> {
        Ok(Claim { party: PartyId(self.u32()?), slot: SlotId(self.u32()?), dose: Dose(self.u8()?) })
    }

    pub(super) fn claims(&mut self) -> Result<Claims, DecodeError> {
        let len = self.group_len()?;
        (0..len).map(|_| self.claim()).collect()
    }

    pub(super) fn numbered(&mut self) -> Result<NumberedClaim, DecodeError> {
        Ok(NumberedClaim { number: self.booking()?, claim: self.claim()? })
    }

    pub(super) fn places(&mut self) -> Result<Places, DecodeError> {
        Places::new(self.u16()?).ok_or(DecodeError::OutOfRange("places"))
    }

    pub(super) fn by(&mut self) -> Result<By, DecodeError> {
        match self.u8()? {
            0 => Ok(By::Holder),
            1 => Ok(By::Administration),
            _ => Err(DecodeError::OutOfRange("by")),
        }
    }

    #[inline]
    pub(super) fn given(&mut self) -> Result<Given, DecodeError> {
        Ok(Given { doses: self.u8()?, product: ProductId(self.u8()?), day: self.u16()? })
    }
}
