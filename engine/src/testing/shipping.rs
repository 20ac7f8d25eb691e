//! A log shipped from beginning to end by hand, for benches.

use std::path::Path;
use std::sync::Arc;

use crate::ids::{Epoch, Seq};
use crate::journal::ShipperStats;
use crate::journal::directory::{OpenError, open_existing};
use crate::journal::reader::read_directory;
use crate::journal::shipper::{ShipTurn, Shipper};
use crate::journal::storage::{Disk, Storage};
use crate::journal::stream::{Shipment, Stream};
use crate::journal::watermark::Watermark;

/// The frames of the log in a directory that no server owns.
///
/// # Errors
/// It is no data directory, or damaged.
pub fn frames(dir: &Path) -> Result<Vec<Shipment>, OpenError> {
    let (directory, cell) = open_existing(dir)?;
    let mut frames = Vec::new();
    read_directory(&*directory.storage, cell, Seq(0), &mut |frame| {
        frames.push(Shipment { header: frame.header, link: frame.link, bytes: frame.bytes.to_vec() });
        Ok(())
    })?;
    Ok(frames)
}

/// A log that was read to its end and is to be shipped.
#[derive(Debug)]
pub struct Shippable {
    shipper: Shipper,
}

impl Shippable {
    /// The log of the directory up to entry `last`, as an owner with this epoch. Nothing is shipped yet.
    ///
    /// # Errors
    /// It is no data directory.
    pub fn new(dir: &Path, last: Seq, epoch: Epoch, stream: Box<dyn Stream>) -> Result<Self, OpenError> {
        let (_, cell) = open_existing(dir)?;
        let storage: Arc<dyn Storage> = Arc::new(Disk::new(dir, false));
        let shipper = Shipper::new(stream, storage, cell, epoch, Arc::new(Watermark::new(last)));
        Ok(Self { shipper })
    }

    /// Ships all of it.
    ///
    /// # Panics
    /// If anything fails on the way.
    pub fn ship(&mut self) -> ShipperStats {
        loop {
            match self.shipper.turn() {
                ShipTurn::Shipped => {}
                ShipTurn::Idle => return self.shipper.shared().stats(),
                ShipTurn::Lost(_) | ShipTurn::Stopped => {
                    panic!("shipping failed: {:?}", self.shipper.shared().stats().last_error)
                }
            }
        }
    }
}
