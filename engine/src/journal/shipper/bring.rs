//! Snapshots brought to Redis, the stream begun anew behind one, and trimmed behind the older of two.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::upload::Upload;
use super::{Ended, Shipper};
use crate::ids::Seq;
use crate::journal::snapshot::{self, SnapshotError};
use crate::journal::stream::{SNAPSHOTS_KEPT, Whole};
use crate::journal::tail::Cursor;

impl Shipper {
    /// The stream is to begin anew behind the newest snapshot that is whole here, because the log no longer reaches back to
    /// the head. Its pieces go first; what is in Redis stays until they are all there.
    pub(super) fn begin_install(&mut self, start: Seq) -> Result<(), Ended> {
        self.installing = true;
        let fits = |upload: &Upload| upload.s0() >= start;
        if self.upload.as_ref().is_some_and(fits) {
            return self.resume_upload();
        }
        if self.open_newest(start)? {
            return Ok(());
        }
        self.look_again();
        Err(Ended::Lost(format!(
            "the log begins behind entry {start}, and no snapshot here that can be read reaches that"
        )))
    }

    /// A file that could not be read, but is not known to be damaged, may be readable the next time.
    pub(super) fn look_again(&mut self) {
        let passed = self.passed_over.len();
        self.passed_over.retain(|(_, damaged)| *damaged);
        if self.passed_over.len() < passed {
            self.nothing_between = Default::default();
        }
    }

    /// Begins with the newest snapshot here that can be read, of those at `from` and later; false if there is none.
    fn open_newest(&mut self, from: Seq) -> Result<bool, Ended> {
        let found = snapshot::list(&*self.storage).map_err(|error| Ended::Lost(error.to_string()))?;
        for s0 in found.into_iter().filter(|s0| *s0 >= from) {
            if self.passed_over.iter().any(|(passed, _)| *passed == s0) {
                continue;
            }
            // Before its file is looked for: whoever trims then finds that it is read.
            self.shared.snapshot_read.store(s0.0, Relaxed);
            match Upload::begin(&*self.storage, self.cell, s0) {
                Ok(upload) => {
                    self.upload = Some(upload);
                    return Ok(true);
                }
                Err(error) => self.pass_over(s0, &error),
            }
        }
        Ok(false)
    }

    /// What cannot be read is told, and an older one brought in its place.
    fn pass_over(&mut self, s0: Seq, error: &SnapshotError) {
        self.upload = None;
        self.passed_over.push((s0, !matches!(error, SnapshotError::Io(_))));
        self.shared.passed_over(s0, error);
    }

    /// Goes on with the snapshot that was on its way when the connection was lost, if its pieces are still there.
    pub(super) fn resume_upload(&mut self) -> Result<(), Ended> {
        let Some(upload) = &self.upload else { return Ok(()) };
        if !upload.fits(self.stream.pieces(upload.s0())?) {
            self.upload = None;
        }
        Ok(())
    }

    /// Sends one piece; what is to be kept, once all are there.
    fn send_piece(&mut self) -> Result<Option<Whole>, Ended> {
        let Some(upload) = &mut self.upload else { return Ok(None) };
        let s0 = upload.s0();
        if let Some((number, bytes)) = upload.held() {
            self.stream.put_piece(self.epoch, s0, number, bytes)?;
            if let Err(error) = upload.sent() {
                self.pass_over(s0, &error);
            }
        }
        Ok(self.upload.as_ref().and_then(Upload::whole))
    }

    pub(super) fn install(&mut self) -> Result<(), Ended> {
        if self.upload.is_none() {
            // Its pieces were lost on the way.
            self.installing = false;
            return Ok(());
        }
        let Some(whole) = self.send_piece()? else { return Ok(()) };
        let (_, link) = Cursor::after(Arc::clone(&self.storage), whole.s0)?.place();
        self.upload = None;
        self.stream.install(self.epoch, whole.s0, link, Some(whole))?;
        self.shared.installs.fetch_add(1, Relaxed);
        // Its place is found anew, with nothing that was known before.
        self.installing = false;
        Ok(())
    }

    /// Brings the newest snapshot to Redis, a piece at a turn, and trims the stream behind the one before it. False if
    /// there is nothing to do.
    // rule: FNC-4
    pub(super) fn upload(&mut self) -> Result<bool, Ended> {
        if self.upload.is_none() {
            let (newest, known) = (self.newest_here(), self.newest_there());
            if !self.has_newer() {
                return self.trim();
            }
            if !self.open_newest(known.next())? {
                self.nothing_between = (known, newest);
                return self.trim();
            }
        }
        let Some(whole) = self.send_piece()? else { return Ok(true) };
        if self.place.as_ref().is_none_or(|place| place.last < whole.s1) {
            // Of use only to who has the stream up to S1, which is being shipped.
            return Ok(false);
        }
        self.upload = None;
        self.stream.keep(self.epoch, whole)?;
        self.kept.retain(|kept| kept.s0 != whole.s0);
        self.kept.insert(0, whole);
        self.kept.truncate(SNAPSHOTS_KEPT);
        self.shared.snapshot_there.store(whole.s0.0, Relaxed);
        Ok(true)
    }

    fn newest_here(&self) -> Seq {
        Seq(self.shared.snapshot_here.load(Relaxed))
    }

    fn newest_there(&self) -> Seq {
        self.kept.first().map_or(Seq(0), |whole| whole.s0)
    }

    /// Whether there may be one here that Redis has not.
    fn has_newer(&self) -> bool {
        let (newest, known) = (self.newest_here(), self.newest_there());
        newest > known && self.nothing_between != (known, newest)
    }

    /// Whether [`Shipper::upload`] would call.
    pub(super) fn has_to_bring(&self) -> bool {
        let to_trim = self.place.as_ref().is_some_and(|place| self.older_there() > place.base);
        self.upload.is_some() || self.has_newer() || to_trim
    }

    /// The older of the snapshots that are kept in Redis; 0 while there are not two.
    fn older_there(&self) -> Seq {
        self.kept.get(SNAPSHOTS_KEPT - 1).map_or(Seq(0), |whole| whole.s0)
    }

    /// Trims the stream behind the older of the snapshots kept beside it.
    fn trim(&mut self) -> Result<bool, Ended> {
        let older = self.older_there();
        let Some(place) = &mut self.place else { return Ok(false) };
        if older <= place.base {
            return Ok(false);
        }
        self.stream.trim(self.epoch, older)?;
        place.base = older;
        Ok(true)
    }
}
