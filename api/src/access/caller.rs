//! Who asks, once the router knows: a role, a name, and whom and where that reaches.
//!
//! A scope answers with the code that hides most. Another's party or booking is unknown, in the very words of one that
//! does not exist: whether somebody booked is nobody else's business. A centre is public, so another's centre is forbidden.

use berth_engine::{BookingNumber, Claim, PartyId, Refusal, SlotId};
use berth_programme::Catalogue;
use sha2::{Digest, Sha256};

use super::{AccountId, Members, Role};
use crate::app::App;
use crate::problem::{self, Code, Problem};
use crate::wire::Names;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// What they may ask.
    pub(crate) role: Role,
    /// The key's name, or `account:` and the token's account. Role and name scope idempotency keys, and stand in the audit log.
    pub(crate) name: String,
    /// Whom and where it reaches.
    pub(crate) scope: Scope,
    /// A citizen's account, or else the key's role and name, by a digest: what it is charged under.
    id: AccountId,
}

/// Whom and where a caller's role reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everybody, everywhere.
    Everything,
    /// These parties, ascending. Possibly none.
    Parties(Vec<PartyId>),
    /// Whoever is in this account when it asks.
    Account(Members),
    /// These centres and those of these districts, each ascending.
    Centres { centres: Vec<String>, districts: Vec<String> },
}

/// How much of a booking an answer may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// All of it, the four digits that its holder says at the door too.
    Holder,
    /// All but those: whoever works at the door is told them by the person.
    Door,
}

/// Who comes without a key, to a route that needs none.
pub(crate) static NOBODY: Caller =
    Caller { role: Role::Public, name: String::new(), scope: Scope::Parties(Vec::new()), id: [0; 16] };

/// Before the account in the name of who comes with a token.
const OF_ACCOUNT: &str = "account:";

/// What an account is charged under, whether it comes with a token or a platform names it.
pub(crate) fn account_id(account: &str) -> AccountId {
    id_of(OF_ACCOUNT, account)
}

fn id_of(kind: &str, name: &str) -> AccountId {
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(name).finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    first
}

impl Default for Caller {
    /// Nobody.
    fn default() -> Caller {
        NOBODY.clone()
    }
}

impl Caller {
    /// How much of a booking they may be shown.
    pub(crate) fn sight(&self) -> Sight {
        match self.role {
            Role::Platform | Role::Citizen => Sight::Holder,
            Role::Operator | Role::Admin | Role::Public => Sight::Door,
        }
    }

    /// Who comes with a key of this name.
    pub(crate) fn of_key(role: Role, name: &str, scope: Scope) -> Caller {
        Caller { role, name: name.to_owned(), scope, id: id_of(role.as_str(), name) }
    }

    /// Who comes with a token of this account.
    pub(crate) fn of_account(role: Role, account: &str, scope: Scope) -> Caller {
        // No key's name has a colon, so an account can never pass for a key of its role.
        Caller { role, name: format!("{OF_ACCOUNT}{account}"), scope, id: account_id(account) }
    }

    /// Whether it came with a token: then its name is an account's.
    pub(crate) fn is_account(&self) -> bool {
        self.name.starts_with(OF_ACCOUNT)
    }

    /// What it is charged under.
    pub(crate) fn id(&self) -> &AccountId {
        &self.id
    }

    /// Whether they may hold, book and read for this party; if not, it is unknown to them.
    pub(crate) fn may_act_for(&self, party: PartyId, names: &Names<'_>) -> Result<(), Problem> {
        match &self.scope {
            Scope::Everything => Ok(()),
            Scope::Parties(own) if own.binary_search(&party).is_ok() => Ok(()),
            Scope::Account(members) if members.has(party) => Ok(()),
            // An operator meets parties through the bookings of its centres, never by number.
            Scope::Parties(_) | Scope::Account(_) | Scope::Centres { .. } => {
                Err(problem::refused(&Refusal::UnknownParty { party }, names))
            }
        }
    }

    /// Whether they may hold and book as these claims say: for their own parties, or, of those who help at a centre, for whoever asks
    /// them, at their own centres.
    pub(crate) fn may_claim(&self, claims: &[Claim], app: &App) -> Result<(), Problem> {
        let names = app.names();
        let Scope::Centres { .. } = &self.scope else {
            return claims.iter().try_for_each(|claim| self.may_act_for(claim.party, &names));
        };
        claims.iter().try_for_each(|claim| self.may_use_slot(claim.slot, app))
    }

    /// Whether a booking may come to this slot by them: those who work at centres, at their own.
    pub(crate) fn may_use_slot(&self, slot: SlotId, app: &App) -> Result<(), Problem> {
        let catalogue = &app.campaign.catalogue;
        match (&self.scope, catalogue.slot(slot)) {
            (Scope::Centres { .. }, Some(place)) => self.may_work_at(&place.session.centre, catalogue),
            (Scope::Centres { .. }, None) => Err(problem::refused(&Refusal::UnknownSlot { slot }, &app.names())),
            _ => Ok(()),
        }
    }

    /// Whether they may work at this centre.
    pub(crate) fn may_work_at(&self, centre: &str, catalogue: &Catalogue) -> Result<(), Problem> {
        if self.works_at(centre, catalogue) {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, format!("the key does not reach centre {centre}")))
    }

    /// Whether they may see and change this hold or booking; if not, it is unknown to them.
    pub(crate) fn may_touch(&self, booking: BookingNumber, app: &App) -> Result<(), Problem> {
        // What does not exist is left for who acts on it to say: it says the same.
        if self.scope == Scope::Everything || self.touches(booking, app) != Some(false) {
            return Ok(());
        }
        Err(problem::refused(&Refusal::UnknownBooking { booking }, &app.names()))
    }

    /// Whether they may act on the whole hold of this number, every booking that it would become; if not, it is unknown
    /// to them.
    pub(crate) fn may_touch_hold(&self, hold: BookingNumber, app: &App) -> Result<(), Problem> {
        if self.scope == Scope::Everything {
            return Ok(());
        }
        let group = app.campaign.engine.booking(hold).map_or(0..0, |view| {
            let first = view.hold.0;
            first..first + u64::from(view.group_len)
        });
        if group.map(BookingNumber).all(|booking| self.touches(booking, app) != Some(false)) {
            return Ok(());
        }
        Err(problem::refused(&Refusal::UnknownBooking { booking: hold }, &app.names()))
    }

    /// `None` if there is no such booking.
    fn touches(&self, booking: BookingNumber, app: &App) -> Option<bool> {
        let (claim, _) = app.campaign.engine.claimed(booking)?;
        Some(match &self.scope {
            Scope::Everything => true,
            Scope::Parties(own) => own.binary_search(&claim.party).is_ok(),
            Scope::Account(members) => members.has(claim.party),
            Scope::Centres { .. } => self.works_at_slot(claim.slot, &app.campaign.catalogue),
        })
    }

    /// Whether this slot is at a centre they may work at.
    pub(crate) fn works_at_slot(&self, slot: SlotId, catalogue: &Catalogue) -> bool {
        self.scope == Scope::Everything
            || catalogue.slot(slot).is_some_and(|place| self.works_at(&place.session.centre, catalogue))
    }

    fn works_at(&self, centre: &str, catalogue: &Catalogue) -> bool {
        match &self.scope {
            Scope::Everything => true,
            Scope::Parties(_) | Scope::Account(_) => false,
            Scope::Centres { centres, districts } => {
                has(centres, centre)
                    || !districts.is_empty() && catalogue.centre(centre).is_some_and(|c| has(districts, &c.district))
            }
        }
    }
}

fn has(sorted: &[String], name: &str) -> bool {
    sorted.binary_search_by(|own| own.as_str().cmp(name)).is_ok()
}

#[cfg(test)]
pub(super) mod tests {
    use berth_engine::{Command, Dose, Outcome, PartyFacts, Request};
    use berth_programme::BulkKind;

    use super::*;

    fn caller(role: Role, scope: Scope) -> Caller {
        Caller::of_key(role, "test", scope)
    }

    fn citizen(parties: &[u32]) -> Caller {
        caller(Role::Citizen, Scope::Parties(parties.iter().copied().map(PartyId).collect()))
    }

    fn operator(centres: &[&str], districts: &[&str]) -> Caller {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        caller(Role::Operator, Scope::Centres { centres: owned(centres), districts: owned(districts) })
    }

    fn submit(app: &App, command: Command<'_>) -> Outcome {
        let engine = &app.campaign.engine;
        engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap().result.unwrap()
    }

    /// Parties 0 to 3, and a hold of parties 0 and 1 at centre c1 of district 395.
    pub(crate) fn held(app: &App) -> BookingNumber {
        let campaign = &app.campaign;
        let now = campaign.engine.now();
        let publish = |kind, line: String| campaign.publisher.publish(kind, line.as_bytes(), None, now).unwrap();
        let day = campaign.programme.calendar().date(now).tomorrow().unwrap();
        publish(
            BulkKind::Regions,
            "{\"id\":\"27\",\"kind\":\"state\",\"name\":\"M\"}\n\
             {\"id\":\"395\",\"kind\":\"district\",\"name\":\"Mumbai\",\"parent\":\"27\"}"
                .to_owned(),
        );
        publish(
            BulkKind::Centres,
            "{\"id\":\"c1\",\"name\":\"One\",\"district\":\"395\",\"pincode\":\"400001\"}".to_owned(),
        );
        publish(
            BulkKind::Sessions,
            format!(
                "{{\"id\":\"s\",\"centre\":\"c1\",\"date\":\"{day}\",\"product\":\"covishield\",\"windows\":\
                 [{{\"start\":\"09:00\",\"end\":\"10:00\",\"pools\":{{\"dose1\":4}}}}]}}"
            ),
        );
        submit(app, Command::AddParties { count: 4, facts: PartyFacts { birth_year: 1980, ..PartyFacts::default() } });
        let mut slot = SlotId(0);
        campaign.engine.for_each_slot(&mut |found, _, _| slot = found);
        let claim = |party| Claim { party: PartyId(party), slot, dose: Dose(1) };
        let ttl = std::time::Duration::from_secs(60);
        let Outcome::Held { claims, .. } = submit(app, Command::Hold { claims: &[claim(0), claim(1)], ttl }) else {
            panic!("it is held");
        };
        claims[0].number
    }

    #[test]
    fn a_caller_reaches_its_own_and_what_is_not_its_own_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let app = App::for_test(dir.path());
        let hold = held(&app);
        let second = BookingNumber(hold.0 + 1);
        let touches = |caller: &Caller, booking| caller.may_touch(booking, &app).map_err(|p| p.code());
        let all = |caller: &Caller, booking| caller.may_touch_hold(booking, &app).map_err(|p| p.code());
        let unknown = Err(Code::UnknownBooking);

        let both = citizen(&[0, 1]);
        assert_eq!((touches(&both, hold), touches(&both, second), all(&both, hold)), (Ok(()), Ok(()), Ok(())));
        let one = citizen(&[0, 2]);
        assert_eq!((touches(&one, hold), touches(&one, second), all(&one, hold)), (Ok(()), unknown, unknown));
        let other = citizen(&[]);
        assert_eq!((touches(&other, hold), all(&other, hold), all(&other, second)), (unknown, unknown, unknown));
        for at in [operator(&["c1"], &[]), operator(&["a", "c0"], &["395"])] {
            assert_eq!((touches(&at, hold), all(&at, hold)), (Ok(()), Ok(())));
            assert!(at.may_work_at("c1", &app.campaign.catalogue).is_ok());
        }
        let elsewhere = operator(&["c0", "c2"], &["396"]);
        assert_eq!((touches(&elsewhere, hold), all(&elsewhere, hold)), (unknown, unknown));
        let forbidden = elsewhere.may_work_at("c1", &app.campaign.catalogue).unwrap_err();
        assert_eq!(forbidden.code(), Code::Forbidden);
        assert!(both.may_work_at("c1", &app.campaign.catalogue).is_err());

        let names = app.names();
        let acts = |caller: &Caller, party| caller.may_act_for(PartyId(party), &names).map_err(|p| p.code());
        assert_eq!((acts(&one, 2), acts(&one, 1)), (Ok(()), Err(Code::UnknownParty)));
        assert_eq!(acts(&operator(&["c1"], &[]), 0), Err(Code::UnknownParty));
        let platform = caller(Role::Platform, Scope::Everything);
        assert_eq!((acts(&platform, 99), touches(&platform, hold), all(&platform, hold)), (Ok(()), Ok(()), Ok(())));
        app.campaign.engine.close().unwrap();
    }

    #[test]
    fn what_is_not_ones_own_is_told_in_the_words_of_what_does_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let app = App::for_test(dir.path());
        let hold = held(&app);
        let not_own = citizen(&[3]).may_touch(hold, &app).unwrap_err();
        let not_there = problem::refused(&Refusal::UnknownBooking { booking: hold }, &app.names());
        assert_eq!(format!("{not_own:?}"), format!("{not_there:?}"));
        // Whoever acts on it finds that it does not exist.
        assert!(citizen(&[3]).may_touch(BookingNumber(hold.0 + 999), &app).is_ok());
        app.campaign.engine.close().unwrap();
    }
}
