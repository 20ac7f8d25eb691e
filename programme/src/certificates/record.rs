//! What a certificate says, gathered from the record: the dose, who they are, where it was given, and what the programme says of all three.

use berth_engine::{BookingNumber, CellId, PartyId, TimestampMs};
use jiff::{SignedDuration, Timestamp};

use super::register::{Register, Registered, Standing};
use super::{Claims, Disease, DoseClaim, Facility, Holder, Issuer, ProductClaim};
use crate::campaign::Campaign;
use crate::catalogue::RegionKind;
use crate::doses::{DoseRecord, Doses};
use crate::file::{CertificateFile, ProgrammeFile};
use crate::people::{People, PeopleError, Person};
use crate::store::StoreError;

/// Where the record lies.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Catalogue, programme, bookings.
    pub campaign: &'a Campaign,
    /// What was given.
    pub doses: &'a Doses,
    /// Which certificates there are.
    pub register: &'a Register,
    /// Whose numbers these are.
    pub cell: CellId,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoClaims {
    /// The programme issues none.
    #[error("the programme issues no certificates")]
    NotIssued,
    /// The dose was revoked, or its certificate is withheld.
    #[error("the certificate was ended, and no other begins")]
    Ended,
    /// Nothing is kept of who they are, any more or ever.
    #[error("nothing is on record of who party {0} is")]
    Nobody(PartyId),
    /// The dose is not on record.
    #[error("the dose is not on record")]
    NoDose,
    /// What the record names is not there.
    #[error("the record is not whole: {0}")]
    Gap(&'static str),
    /// The store cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Record<'_> {
    /// What the certificate of a dose says now, of who is on record here.
    ///
    /// # Errors
    /// There is none, or what it says is not on record.
    pub fn claims(&self, one: &Registered, people: &People, now: TimestampMs) -> Result<Claims, NoClaims> {
        let party = self.doses.owner(one.of)?;
        let rules = self.campaign.programme.get();
        if one.standing != Standing::Valid {
            return Err(NoClaims::Ended);
        }
        match people.view(party) {
            Ok(view) => self.claims_of(one, self.holder(rules.file(), party, &view.person), now),
            Err(PeopleError::Store(error)) => Err(error.into()),
            Err(_) => Err(NoClaims::Nobody(party)),
        }
    }

    /// What the certificate of a dose says now, of who somebody else says they are. A holder without a reference gets the party's.
    ///
    /// # Errors
    /// As [`Record::claims`].
    pub fn claims_of(&self, one: &Registered, mut holder: Holder, now: TimestampMs) -> Result<Claims, NoClaims> {
        if one.standing != Standing::Valid {
            return Err(NoClaims::Ended);
        }
        let rules = self.campaign.programme.get();
        let file = rules.file();
        let certificate = file.certificate.as_ref().filter(|certificate| !certificate.kinds.is_empty());
        let certificate = certificate.ok_or(NoClaims::NotIssued)?;
        let party = self.doses.owner(one.of)?;
        if holder.reference.is_empty() {
            holder.reference = self.reference(party);
        }
        let issued_at = whole_second(now)?;
        let days = SignedDuration::from_hours(24 * i64::from(certificate.valid_days));
        Ok(Claims {
            id: self.register.id(one.booking, one.version),
            issued_at,
            expires_at: issued_at.checked_add(days).map_err(|_| NoClaims::Gap("the end of its time"))?,
            issuer: Issuer::from(certificate),
            disease: Disease::from(certificate),
            holder,
            doses: self.doses_up_to(one.booking, party, certificate)?,
        })
    }

    fn holder(&self, file: &ProgrammeFile, party: PartyId, person: &Person) -> Holder {
        let region = |kind| person.region.as_ref().and_then(|id| self.campaign.catalogue.region(kind, id));
        let district = region(RegionKind::District);
        let state = match &district {
            Some(district) => {
                district.parent.as_ref().and_then(|id| self.campaign.catalogue.region(RegionKind::State, id))
            }
            None => region(RegionKind::State),
        };
        let document = person.document.as_ref().map(|document| {
            let kind = file.documents.iter().find(|kind| kind.id == document.kind);
            format!("{} {}", kind.map_or(document.kind.as_str(), |kind| &kind.name), document.masked())
        });
        Holder {
            reference: self.reference(party),
            name: person.name.clone(),
            born: person.born,
            sex: person.sex.clone(),
            document,
            nationality: None,
            district: district.map(|region| region.name.to_string()),
            state: state.map(|region| region.name.to_string()),
            pincode: None,
        }
    }

    fn reference(&self, party: PartyId) -> String {
        format!("p{}.{party}", self.cell)
    }

    /// This dose and those before it, the oldest first.
    fn doses_up_to(
        &self,
        booking: BookingNumber,
        party: PartyId,
        certificate: &CertificateFile,
    ) -> Result<Vec<DoseClaim>, NoClaims> {
        let records = self.doses.records(party)?;
        let (rules, calendar) = (self.campaign.programme.get(), self.campaign.programme.calendar());
        let mut standing: Vec<&DoseRecord> = records.iter().filter(|record| record.valid).collect();
        standing.sort_by_key(|record| (calendar.day(record.details.given_at), record.seq));
        let last = standing.iter().position(|record| record.booking == booking).ok_or(NoClaims::NoDose)?;
        let claims = standing.iter().map(|record| self.campaign.engine.claimed(record.booking).map(|(claim, _)| claim));
        let claims = claims.collect::<Option<Vec<_>>>().ok_or(NoClaims::Gap("the booking of a dose"))?;
        let numbers = numbers(claims.iter().map(|claim| claim.dose.0).collect());
        let up_to = standing.get(..=last).unwrap_or_default();
        up_to
            .iter()
            .zip(claims)
            .zip(numbers)
            .map(|((record, claim), number)| {
                let product = rules.product(record.details.product).ok_or(NoClaims::Gap("the product of a dose"))?;
                Ok(DoseClaim {
                    number,
                    of: product.doses.max(number),
                    given_on: calendar.date(record.details.given_at),
                    product: ProductClaim::from(product),
                    batch: Some(record.details.batch.clone()).filter(|batch| !batch.is_empty()),
                    facility: self.facility(claim.slot, certificate)?,
                    // A staff number says nothing to whoever reads it elsewhere.
                    vaccinator: None,
                })
            })
            .collect()
    }

    fn facility(&self, slot: berth_engine::SlotId, certificate: &CertificateFile) -> Result<Facility, NoClaims> {
        let catalogue = &self.campaign.catalogue;
        let gap = || NoClaims::Gap("the centre of a dose");
        let place = catalogue.slot(slot).ok_or_else(gap)?;
        let centre = catalogue.centre(&place.session.centre).ok_or_else(gap)?;
        let district = catalogue.region(RegionKind::District, &centre.district);
        let state = district.as_ref().and_then(|district| district.parent.as_ref());
        let state = state.and_then(|id| catalogue.region(RegionKind::State, id));
        Ok(Facility {
            name: centre.name.to_string(),
            district: district.map(|region| region.name.to_string()),
            state: state.map(|region| region.name.to_string()),
            pincode: Some(centre.pincode.to_string()).filter(|pincode| !pincode.is_empty()),
            country: certificate.country.clone(),
        })
    }
}

/// Which dose of the course each is, where these are the numbers under which they were booked, in the order in which they were given: those numbers in their
/// own order, and none twice, for two records that went together may both have a first dose. Of the record alone: what the engine knows may be ahead of it.
fn numbers(mut booked: Vec<u8>) -> Vec<u8> {
    booked.sort_unstable();
    let mut before = 0u8;
    for number in &mut booked {
        *number = before.saturating_add(1).max(*number);
        before = *number;
    }
    booked
}

/// Formats know whole seconds.
fn whole_second(at: TimestampMs) -> Result<Timestamp, NoClaims> {
    let seconds = i64::try_from(at.0 / 1000).map_err(|_| NoClaims::Gap("the time"))?;
    Timestamp::from_second(seconds).map_err(|_| NoClaims::Gap("the time"))
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn doses_are_numbered_as_they_were_given_and_none_twice() {
        for (booked, numbered) in [
            (vec![1, 2], vec![1, 2]),
            // Written down in another order than they were given.
            (vec![2, 1], vec![1, 2]),
            // The first was given elsewhere.
            (vec![2], vec![2]),
            // Of two records.
            (vec![1, 1], vec![1, 2]),
            (vec![2, 1, 1], vec![1, 2, 3]),
            (vec![3, 1, 3], vec![1, 3, 4]),
            (vec![], vec![]),
        ] {
            assert_eq!(numbers(booked.clone()), numbered, "{booked:?}");
        }
    }
}
