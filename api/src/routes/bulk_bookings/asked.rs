//! One line of a bulk request: what it asks, as the engine takes it.
//!
//! A line is the request it stands for: its key and its fingerprint are those of the request, so a line may be repeated as a
//! request, a request as a line, and the outcome of either is found under its key.

use std::borrow::Cow;
use std::time::Duration;

use berth_engine::{BookingNumber, By, Claim, Command, Idempotency, SlotId};
use serde::Deserialize;

use super::super::line_by_line::Stream;
use super::super::{claims_of, parse, with_claims};
use crate::access::{AccountId, account_id};
use crate::gate::{is_account, no_account};
use crate::idempotency::Fingerprint;
use crate::problem::{Code, Problem};
use crate::wire::{ClaimRequest, Object};

/// What a line asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Op {
    #[default]
    Book,
    Hold,
    Confirm,
    Release,
    Cancel,
    Move,
}

/// Text that is borrowed also where it is optional.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `{"op","key", and what the op takes}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineRequest<'a> {
    #[serde(default)]
    op: Op,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    claims: Option<Vec<Object<ClaimRequest<'a>>>>,
    ttl_seconds: Option<u32>,
    /// For whom it holds: in the place of the request's `Berth-Account`.
    #[serde(borrow)]
    account: Option<Text<'a>>,
    #[serde(borrow)]
    hold: Option<Text<'a>>,
    #[serde(borrow)]
    booking: Option<Text<'a>>,
    #[serde(borrow)]
    slot: Option<Text<'a>>,
}

/// What a line asks, checked but for the state of things.
pub(super) struct Asked {
    what: What,
    idempotency: Idempotency,
    /// The account that a hold is for, if there is one.
    account: Option<AccountId>,
}

enum What {
    Book(Vec<Claim>),
    Hold(Vec<Claim>, Duration),
    Confirm(BookingNumber),
    Release(BookingNumber),
    Cancel(BookingNumber),
    Move(BookingNumber, SlotId),
}

/// The beginnings of the fingerprints, hashed once for all lines.
pub(super) struct Prints {
    book: Fingerprint,
    hold: Fingerprint,
    confirm: Fingerprint,
    release: Fingerprint,
    cancel: Fingerprint,
    move_to: Fingerprint,
}

impl Prints {
    pub(super) fn new() -> Prints {
        let of = |template| Fingerprint::new("POST", template);
        Prints {
            book: of("/v1/bookings"),
            hold: of("/v1/holds"),
            confirm: of("/v1/holds/{hold}/confirm"),
            release: of("/v1/holds/{hold}/release"),
            cancel: of("/v1/bookings/{booking}/cancel"),
            move_to: of("/v1/bookings/{booking}/move"),
        }
    }
}

impl<'a> LineRequest<'a> {
    pub(super) fn parse(line: &'a [u8]) -> Result<LineRequest<'a>, Problem> {
        parse(line)
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_ref().map(|Text(key)| &**key)
    }

    /// Checks the line, the newest of the stream, which holds for `account` unless it names another.
    pub(super) fn check(&self, stream: &Stream, prints: &Prints, account: Option<AccountId>) -> Result<Asked, Problem> {
        let key = match stream.key_of(self.key())? {
            (own, 0) => stream.scope.key(own),
            (request, line) => stream.scope.step(request, "line", line),
        };
        self.check_members()?;
        let (app, caller) = (&*stream.app, &*stream.caller);
        let names = app.names();
        let account = match &self.account {
            Some(Text(account)) if is_account(account) => Some(account_id(account)),
            Some(_) => return Err(no_account("account")),
            None => account,
        };
        let (what, print) = match self.op {
            Op::Book => {
                let claims = claims_of(app, caller, self.claims()?)?;
                let print = with_claims(prints.book.clone(), &claims);
                (What::Book(claims), print)
            }
            Op::Hold => {
                let (ttl, asked) = super::super::holds::ttl(app, self.ttl_seconds)?;
                let claims = claims_of(app, caller, self.claims()?)?;
                let print = with_claims(prints.hold.clone().number(asked), &claims);
                (What::Hold(claims, ttl), print)
            }
            Op::Confirm => {
                let hold = names.parse_booking(needed("hold", self.hold.as_ref())?)?;
                caller.may_touch_hold(hold, app)?;
                (What::Confirm(hold), prints.confirm.clone().number(hold.0))
            }
            Op::Release => {
                let hold = names.parse_booking(needed("hold", self.hold.as_ref())?)?;
                caller.may_touch_hold(hold, app)?;
                (What::Release(hold), prints.release.clone().number(hold.0))
            }
            Op::Cancel => {
                let booking = names.parse_booking(needed("booking", self.booking.as_ref())?)?;
                caller.may_touch(booking, app)?;
                (What::Cancel(booking), prints.cancel.clone().number(booking.0))
            }
            Op::Move => {
                let booking = names.parse_booking(needed("booking", self.booking.as_ref())?)?;
                caller.may_touch(booking, app)?;
                let to = names.parse_slot(needed("slot", self.slot.as_ref())?)?;
                (What::Move(booking, to), prints.move_to.clone().number(booking.0).number(to.0.into()))
            }
        };
        let account = account.filter(|_| self.op == Op::Hold);
        Ok(Asked { what, idempotency: print.under(key), account })
    }

    fn claims(&self) -> Result<&[Object<ClaimRequest<'a>>], Problem> {
        self.claims.as_deref().ok_or_else(|| Problem::new(Code::MalformedRequest, "claims: is missing"))
    }

    /// No member that the op does not take.
    fn check_members(&self) -> Result<(), Problem> {
        let op = self.op;
        let claims = matches!(op, Op::Book | Op::Hold);
        let booking = matches!(op, Op::Cancel | Op::Move);
        for (name, stands, takes) in [
            ("claims", self.claims.is_some(), claims),
            ("ttl_seconds", self.ttl_seconds.is_some(), op == Op::Hold),
            ("account", self.account.is_some(), op == Op::Hold),
            ("hold", self.hold.is_some(), !claims && !booking),
            ("booking", self.booking.is_some(), booking),
            ("slot", self.slot.is_some(), op == Op::Move),
        ] {
            if stands && !takes {
                return Err(Problem::new(Code::MalformedRequest, format!("{name}: is not for this op")));
            }
        }
        Ok(())
    }
}

fn needed<'t>(name: &str, text: Option<&'t Text<'_>>) -> Result<&'t str, Problem> {
    text.map(|Text(text)| &**text).ok_or_else(|| Problem::new(Code::MalformedRequest, format!("{name}: is missing")))
}

impl Asked {
    pub(super) fn idempotency(&self) -> Idempotency {
        self.idempotency
    }

    pub(super) fn account(&self) -> Option<&AccountId> {
        self.account.as_ref()
    }

    pub(super) fn command(&self) -> Command<'_> {
        match &self.what {
            What::Book(claims) => Command::Book { claims },
            What::Hold(claims, ttl) => Command::Hold { claims, ttl: *ttl },
            What::Confirm(hold) => Command::Confirm { hold: *hold },
            What::Release(hold) => Command::Release { hold: *hold },
            What::Cancel(booking) => Command::Cancel { booking: *booking, by: By::Holder },
            What::Move(booking, to) => Command::Move { booking: *booking, to: *to, by: By::Holder },
        }
    }
}
