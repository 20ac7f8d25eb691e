//! What the server stands on, made for one run and gone after it: a Redis, a small filesystem.
//!
//! Everything here is the run's own: processes it started itself (ended by their ids), files under its report directory.
//! Dropping it, or a second Ctrl-C, leaves nothing behind.

mod disk;
mod frames;
mod redis;

use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

pub(crate) use disk::{SmallDisk, unmount};
pub(crate) use frames::{FrameLine, Witness, log_frames, stream_frames};
pub(crate) use redis::RedisGround;

use crate::error::{CannotRun, Doing};
use crate::fault::DiskFault;
use crate::scenario::Scenario;
use crate::stop::Stop;

/// The ground of one run. Tasks of several faults share it; each part is hurt by one at a time.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) redis: Option<Mutex<RedisGround>>,
    pub(crate) disk: Option<Mutex<SmallDisk>>,
    /// Where the server is to keep its data.
    pub(crate) data_dir: PathBuf,
    /// Where it reads how much longer each sync is to take, if the scenario has a slow disk.
    pub(crate) slow_disk: Option<PathBuf>,
}

impl Ground {
    /// Makes what the scenario asks for, under `directory`.
    pub(crate) async fn raise(scenario: &Scenario, directory: &Path, stop: &Stop) -> Result<Self, CannotRun> {
        let disk = match &scenario.disk {
            Some(disk) => Some(SmallDisk::mount(&directory.join("disk"), disk.mib, stop)?),
            None => None,
        };
        let redis = match &scenario.redis {
            Some(redis) => Some(RedisGround::start(&directory.join("redis"), redis.appendfsync, stop).await?),
            None => None,
        };
        let data_dir = disk.as_ref().map_or_else(|| directory.join("data"), |disk| disk.root().join("data"));
        let slow = scenario.faults.iter().any(|fault| fault.disk == Some(DiskFault::Slow));
        let slow_disk = slow.then(|| directory.join("slow-disk"));
        let ground = Self { redis: redis.map(Mutex::new), disk: disk.map(Mutex::new), data_dir, slow_disk };
        ground.slow_syncs(0)?;
        Ok(ground)
    }

    /// From now on each sync takes so much longer.
    pub(crate) fn slow_syncs(&self, ms: u32) -> Result<(), CannotRun> {
        let Some(path) = &self.slow_disk else { return Ok(()) };
        std::fs::write(path, ms.to_string()).doing(|| format!("write {}", path.display()))
    }

    /// The URL for the server, if there is a Redis.
    pub(crate) async fn redis_url(&self) -> Option<String> {
        match &self.redis {
            Some(redis) => Some(redis.lock().await.url()),
            None => None,
        }
    }
}
