//! Real `redis-server` processes: started on a free port, hurt in every way a scenario knows, and never left behind.
//!
//! The server under test is given one address and keeps it. A replica that is promoted takes that address over, as a
//! floating address would.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{CannotRun, Doing};
use crate::fault::RedisFault;
use crate::scenario::AppendFsync;
use crate::stop::Stop;

/// How long a Redis may take to answer, to load its file, or to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a slow Redis stands still, and how long it runs then.
const BEAT: (Duration, Duration) = (Duration::from_millis(90), Duration::from_millis(10));
/// One command.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The cell of the runs is the default one, and so is the prefix of its keys.
const HEAD: &str = "berth:{1}:head";
const STREAM: &str = "berth:{1}:journal";

/// One process. Dropping it kills it.
#[derive(Debug)]
struct Process {
    child: Child,
    dir: PathBuf,
    stop: Stop,
}

/// The Redis of a run: a primary, and what is to be done to heal it.
#[derive(Debug)]
pub(crate) struct RedisGround {
    root: PathBuf,
    port: u16,
    appendfsync: AppendFsync,
    stop: Stop,
    /// None while it is away.
    primary: Option<Process>,
    /// Cut off from its primary, with its own port, waiting to be promoted.
    replica: Option<(Process, u16)>,
    processes: u32,
    /// The stream's head just before Redis was last hurt.
    head_before: u64,
}

impl RedisGround {
    /// Starts a primary on a free port, its files under `root`.
    pub(crate) async fn start(root: &Path, appendfsync: AppendFsync, stop: &Stop) -> Result<Self, CannotRun> {
        let mut ground = Self {
            root: root.to_owned(),
            port: free_port()?,
            appendfsync,
            stop: stop.clone(),
            primary: None,
            replica: None,
            processes: 0,
            head_before: 0,
        };
        let dir = ground.new_dir();
        let port = ground.port;
        ground.primary = Some(ground.spawn(dir, port, None).await?);
        Ok(ground)
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// Hurts Redis; when this returns it is away.
    pub(crate) async fn hurt(&mut self, how: RedisFault, lost_tail: Duration) -> Result<(), CannotRun> {
        if how == RedisFault::FailoverLostTail {
            self.cut_off_a_replica().await?;
            tokio::time::sleep(lost_tail).await;
        }
        self.head_before = self.head().await?;
        let Some(primary) = &mut self.primary else {
            return Err(CannotRun::because("Redis is away already; faults of Redis must follow one another"));
        };
        match how {
            RedisFault::Pause => return primary.signal(Signal::STOP),
            // By turns; see `beat`.
            RedisFault::Slow => {}
            RedisFault::Stop => primary.end().await?,
            RedisFault::Kill => primary.kill(),
            RedisFault::Wipe | RedisFault::FailoverLostTail => {
                primary.kill();
                std::fs::remove_dir_all(&primary.dir).doing(|| format!("remove {}", primary.dir.display()))?;
            }
        }
        Ok(())
    }

    /// One beat of a slow Redis: it stands still, and then runs for a moment.
    pub(crate) async fn beat(&self) -> Result<(), CannotRun> {
        let Some(primary) = &self.primary else { return Ok(()) };
        primary.signal(Signal::STOP)?;
        tokio::time::sleep(BEAT.0).await;
        primary.signal(Signal::CONT)?;
        tokio::time::sleep(BEAT.1).await;
        Ok(())
    }

    /// Brings Redis back. Returns how many entries its stream has lost since it was hurt.
    pub(crate) async fn heal(&mut self, how: RedisFault) -> Result<u64, CannotRun> {
        let port = self.port;
        match (how, self.primary.take(), self.replica.take()) {
            (RedisFault::Pause | RedisFault::Slow, Some(primary), _) => {
                primary.signal(Signal::CONT)?;
                self.primary = Some(primary);
            }
            (RedisFault::FailoverLostTail, _, Some((replica, own_port))) => {
                // The kernel may need a moment to give the dead primary's port back.
                let command = format!("CONFIG SET port {port}");
                wait_until("the replica takes the primary's address", || ask::<String>(own_port, &command).is_ok())
                    .await?;
                self.primary = Some(replica);
            }
            (_, Some(gone), _) => {
                let dir = gone.dir.clone();
                drop(gone);
                self.primary = Some(self.spawn(dir, port, None).await?);
            }
            (_, None, _) => return Err(CannotRun::because("there is no Redis to be healed")),
        }
        wait_until("Redis answers", || ask::<String>(port, "PING").is_ok()).await?;
        Ok(self.head_before.saturating_sub(self.head().await?))
    }

    /// The stream's head: the number of the newest entry in it.
    pub(crate) async fn head(&self) -> Result<u64, CannotRun> {
        let port = self.port;
        let head: Option<u64> = blocking(move || ask(port, &format!("HGET {HEAD} last"))).await?;
        Ok(head.unwrap_or(0))
    }

    /// The stream as it stands: the head's `last` and `link`, and each entry's id and frame, in order.
    pub(crate) async fn stream(&self) -> Result<Stream, CannotRun> {
        let port = self.port;
        blocking(move || read_stream(port)).await
    }

    async fn cut_off_a_replica(&mut self) -> Result<(), CannotRun> {
        let (dir, own_port) = (self.new_dir(), free_port()?);
        let replica = self.spawn(dir, own_port, Some(self.port)).await?;
        wait_until("the replica has copied the primary", || {
            ask::<String>(own_port, "INFO replication").is_ok_and(|info| info.contains("master_link_status:up"))
        })
        .await?;
        blocking(move || ask::<String>(own_port, "REPLICAOF NO ONE")).await?;
        self.replica = Some((replica, own_port));
        Ok(())
    }

    fn new_dir(&mut self) -> PathBuf {
        self.processes += 1;
        self.root.join(self.processes.to_string())
    }

    async fn spawn(&self, dir: PathBuf, port: u16, replica_of: Option<u16>) -> Result<Process, CannotRun> {
        std::fs::create_dir_all(&dir).doing(|| format!("create {}", dir.display()))?;
        let log = self.root.join("redis.log");
        let log_file =
            OpenOptions::new().create(true).append(true).open(&log).doing(|| format!("open {}", log.display()))?;
        let errors = log_file.try_clone().doing(|| format!("open {}", log.display()))?;
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", if self.appendfsync == AppendFsync::Always { "always" } else { "everysec" }]);
        command.args(["--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0", "--dir"]).arg(&dir);
        if let Some(primary) = replica_of {
            command.args(["--replicaof", &format!("127.0.0.1 {primary}")]);
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
            .stdin(Stdio::null())
            .stdout(log_file)
            .stderr(errors)
            .spawn()
            .doing(|| "start redis-server (7.0 or newer must be on PATH)".into())?;
        self.stop.guard_also(child.id());
        let process = Process { child, dir, stop: self.stop.clone() };
        wait_until("redis-server is ready", || ask::<String>(port, "PING").is_ok()).await?;
        Ok(process)
    }
}

impl Process {
    fn signal(&self, signal: Signal) -> Result<(), CannotRun> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| CannotRun::because("redis-server has no process id"))?;
        kill_process(pid, signal).doing(|| "send a signal to redis-server".into())
    }

    /// Asks it to end, and waits until it has.
    async fn end(&mut self) -> Result<(), CannotRun> {
        self.signal(Signal::TERM)?;
        let began = Instant::now();
        while self.child.try_wait().doing(|| "wait for redis-server".into())?.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(CannotRun::because("redis-server did not end"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.child.id();
        self.kill();
        self.stop.forget(pid);
    }
}

/// What lies in Redis.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) last: u64,
    pub(crate) link: String,
    pub(crate) base: u64,
    pub(crate) snapshots: String,
    /// The id of each entry, and the frame in it.
    pub(crate) frames: Vec<(String, Vec<u8>)>,
}

/// The fields of a stream's entry, with their values.
type Fields = Vec<(String, Vec<u8>)>;

fn read_stream(port: u16) -> redis::RedisResult<Stream> {
    let mut connection = connect(port)?;
    let (last, link, base, snapshots): (Option<u64>, Option<String>, Option<u64>, Option<String>) =
        redis::cmd("HMGET").arg(HEAD).arg(&["last", "link", "base", "snapshots"]).query(&mut connection)?;
    let mut stream = Stream {
        last: last.unwrap_or(0),
        link: link.unwrap_or_default(),
        base: base.unwrap_or(0),
        snapshots: snapshots.unwrap_or_default(),
        frames: Vec::new(),
    };
    let mut from = "-".to_owned();
    loop {
        let page: Vec<(String, Fields)> =
            redis::cmd("XRANGE").arg(STREAM).arg(&from).arg("+").arg("COUNT").arg(500).query(&mut connection)?;
        let Some((id, _)) = page.last() else { return Ok(stream) };
        from = format!("({id}");
        stream.frames.extend(page.into_iter().map(|(id, fields)| {
            let frame = fields.into_iter().find(|(field, _)| field == "f");
            (id, frame.map(|(_, bytes)| bytes).unwrap_or_default())
        }));
    }
}

/// One command of plain words.
fn ask<T: redis::FromRedisValue>(port: u16, words: &str) -> redis::RedisResult<T> {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    for word in words {
        command.arg(word);
    }
    command.query(&mut connect(port)?)
}

fn connect(port: u16) -> redis::RedisResult<redis::Connection> {
    let connection = redis::Client::open(url(port))?.get_connection_with_timeout(TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    Ok(connection)
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}/0")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> redis::RedisResult<T> + Send + 'static,
) -> Result<T, CannotRun> {
    tokio::task::spawn_blocking(work).await.doing(|| "ask Redis".into())?.doing(|| "ask Redis".into())
}

/// Tries until it works. Each try is short, so the run's threads are not kept from their work for long.
async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), CannotRun> {
    let began = Instant::now();
    loop {
        if tokio::task::block_in_place(&mut holds) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(CannotRun::because(format!("gave up waiting until {what}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, CannotRun> {
    let what = || "find a free port".to_owned();
    Ok(TcpListener::bind("127.0.0.1:0").doing(what)?.local_addr().doing(what)?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn with_entries(entries: u64) -> (tempfile::TempDir, RedisGround) {
        let directory = tempfile::tempdir().unwrap();
        let ground = RedisGround::start(directory.path(), AppendFsync::Always, &Stop::default()).await.unwrap();
        write(&ground, 1, entries);
        (directory, ground)
    }

    fn write(ground: &RedisGround, from: u64, to: u64) {
        for seq in from..=to {
            ask::<String>(ground.port, &format!("XADD {STREAM} {seq}-0 f frame{seq}")).unwrap();
            ask::<u64>(ground.port, &format!("HSET {HEAD} last {seq}")).unwrap();
        }
    }

    const NONE: Duration = Duration::ZERO;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stopped_a_killed_and_a_paused_redis_come_back_with_what_they_had() {
        let (_directory, mut ground) = with_entries(3).await;
        let url = ground.url();
        for how in [RedisFault::Stop, RedisFault::Kill, RedisFault::Pause] {
            ground.hurt(how, NONE).await.unwrap();
            if how != RedisFault::Pause {
                assert!(ask::<String>(ground.port, "PING").is_err(), "{how:?}: it is away");
            }
            assert_eq!(ground.heal(how).await.unwrap(), 0, "{how:?}");
        }
        let stream = ground.stream().await.unwrap();
        assert_eq!((stream.last, stream.frames.len(), ground.url()), (3, 3, url));
        assert_eq!(stream.frames[2], ("3-0".to_owned(), b"frame3".to_vec()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_wiped_redis_comes_back_empty() {
        let (_directory, mut ground) = with_entries(3).await;
        ground.hurt(RedisFault::Wipe, NONE).await.unwrap();
        assert_eq!(ground.heal(RedisFault::Wipe).await.unwrap(), 3);
        assert!(ground.stream().await.unwrap().frames.is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_promoted_replica_takes_the_address_and_lacks_the_tail() {
        let (_directory, mut ground) = with_entries(3).await;
        ground.cut_off_a_replica().await.unwrap();
        write(&ground, 4, 9);
        ground.head_before = ground.head().await.unwrap();
        ground.primary.as_mut().unwrap().kill();
        assert_eq!(ground.heal(RedisFault::FailoverLostTail).await.unwrap(), 6);
        assert_eq!(ground.stream().await.unwrap().frames.len(), 3);
        write(&ground, 4, 4);
        // The whole fault once more, on what was promoted.
        ground.hurt(RedisFault::FailoverLostTail, NONE).await.unwrap();
        assert_eq!(ground.heal(RedisFault::FailoverLostTail).await.unwrap(), 0);
        assert_eq!(ground.head().await.unwrap(), 4);
    }
}
