//! One life of the cell, from a start to a crash: the engine and its parts, each of which may be stopped in the middle.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::history::Deed;
use super::redis::Line;
use super::stage::Actor;
use crate::command::Submitted;
use crate::engine::Engine;
use crate::error::Failure;
use crate::ids::{Idempotency, Seq};
use crate::journal::reserve::Reserve;
use crate::journal::shipper::{ShipTurn, Shipper};
use crate::journal::watermark::{Ack, Ticket};
use crate::journal::writer::{Turn, Writer};
use crate::snapshot::{SnapshotReport, TakeError, Taken};
use crate::units::TimestampMs;

/// What the simulator asked, and all it needs to judge the answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) deed: Deed,
    pub(super) idempotency: Option<Idempotency>,
    pub(super) now: TimestampMs,
    /// The disk had room for what settles a claim only.
    pub(super) settling: bool,
    /// A batch with a place on the disk had no room for it.
    pub(super) no_room: bool,
}

pub(super) type Answer = Result<Submitted, Failure>;

/// Where a snapshot stands.
pub(super) enum Shot {
    None,
    Scanning(Actor<Result<Option<Taken>, TakeError>>),
    Taken(Taken),
    Publishing(Actor<Result<SnapshotReport, TakeError>>),
}

/// The writer, or the thread that has it.
pub(super) enum Pen {
    Here(Writer),
    Writing(Actor<(Writer, Turn)>),
    /// It failed, or was closed.
    Gone,
}

/// The shipper, or the thread that has it.
pub(super) enum Ship {
    /// A cell without Redis.
    None,
    Here(Box<Shipper>),
    Shipping(Actor<(Box<Shipper>, ShipTurn)>),
}

pub(super) struct Life {
    pub(super) engine: Arc<Engine>,
    pub(super) pen: Pen,
    pub(super) reserve: Arc<Reserve>,
    pub(super) making: Option<Actor<io::Result<bool>>>,
    pub(super) shot: Shot,
    pub(super) ship: Ship,
    /// The shipper's connection.
    pub(super) line: Arc<Line>,
    /// A second caller that stopped between two steps of its command.
    pub(super) caller: Option<(Actor<Answer>, Asked)>,
    /// Clients that wait.
    pub(super) waiting: Vec<(Ticket, Ack, Seq)>,
}

impl Life {
    /// Ends everything that stopped in the middle. The disk is off and the connection cut: whatever they still try fails.
    pub(super) fn end(self) -> Result<(), String> {
        let Life { engine, pen, reserve, making, shot, ship, line, caller, waiting } = self;
        line.cut.store(true, Relaxed);
        drop(waiting);
        let told = |panic: Box<dyn std::any::Any + Send>| super::told(&*panic);
        if let Some((caller, _)) = caller {
            drop(caller.finish().map_err(told)?);
        }
        match pen {
            Pen::Here(writer) => drop(writer),
            Pen::Writing(writing) => drop(writing.finish().map_err(told)?),
            Pen::Gone => {}
        }
        if let Some(making) = making {
            drop(making.finish().map_err(told)?);
        }
        match ship {
            Ship::None => {}
            Ship::Here(shipper) => drop(shipper),
            Ship::Shipping(shipping) => drop(shipping.finish().map_err(told)?),
        }
        match shot {
            Shot::None => {}
            Shot::Scanning(scanning) => drop(scanning.finish().map_err(told)?),
            Shot::Taken(taken) => drop(taken),
            Shot::Publishing(publishing) => drop(publishing.finish().map_err(told)?),
        }
        drop(reserve);
        drop(engine);
        Ok(())
    }
}
