//! The server's process: found or built, started, killed, restarted on the same port, drained, and never left behind.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::console;
use crate::drive::ServerSeat;
use crate::error::{CannotRun, Doing};
use crate::fault::Kill;
use crate::share::CpuShare;
use crate::stop::Stop;

/// How a server is started, the same each time but for the port and the rehearsal flag.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) programme: PathBuf,
    /// A configuration file, where the scenario asks for what no flag says.
    pub(crate) config: Option<PathBuf>,
    /// Redis, where there is one.
    pub(crate) redis: Option<String>,
    pub(crate) admin_key_sha256: String,
    pub(crate) platform_key_sha256: String,
    /// After a kill live holds have so long, so that all have run out when the run has settled.
    pub(crate) hold_grace_seconds: u32,
    /// Where the server's standard error goes.
    pub(crate) log: PathBuf,
    pub(crate) start_within: Duration,
    /// Where it reads how slow its disk is, if it has a slow one.
    pub(crate) slow_disk: Option<PathBuf>,
    /// How far back the wall clock is when it starts next.
    pub(crate) clock_back: Duration,
    /// The share of a CPU that it has, while that is held.
    pub(crate) share: Option<Arc<CpuShare>>,
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    launch: Launch,
    child: Child,
    /// `127.0.0.1:PORT`, kept across restarts.
    address: String,
    stop: Stop,
    /// How long each start took until the server was ready.
    pub(crate) starts: Vec<Duration>,
}

/// How long a drained server may take to leave, and an export or a verification to finish.
const DRAIN_MAX: Duration = Duration::from_secs(60);
const TOOL_MAX: Duration = Duration::from_secs(300);

impl Server {
    /// Starts a server on a free port.
    pub(crate) async fn start(launch: Launch, next: Option<Kill>, stop: Stop) -> Result<Self, CannotRun> {
        let began = std::time::Instant::now();
        let (child, address) = spawn(&launch, "127.0.0.1:0", next, &stop).await?;
        Ok(Self { launch, child, address, stop, starts: vec![began.elapsed()] })
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks the server to drain and waits until it has left.
    pub(crate) async fn drain(mut self) -> Result<(), CannotRun> {
        if let Some(status) = self.child.try_wait().doing(|| "look at the server".into())? {
            return Err(self.left_by_itself(status));
        }
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).doing(|| "send SIGTERM to the server".into())?;
        }
        let status = match tokio::time::timeout(DRAIN_MAX, self.child.wait()).await {
            Ok(status) => status.doing(|| "wait for the server".into())?,
            Err(_) => {
                return Err(CannotRun::because(format!("the server did not drain within {} s", DRAIN_MAX.as_secs())));
            }
        };
        self.stop.guard(None);
        if status.success() { Ok(()) } else { Err(self.left_by_itself(status)) }
    }

    /// Whether the server ended without being asked to.
    pub(crate) fn gone(&mut self) -> Option<CannotRun> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(self.left_by_itself(status))
    }

    fn left_by_itself(&self, status: ExitStatus) -> CannotRun {
        CannotRun::because(format!("the server ended with {status}; {}", last_words(&self.launch.log)))
    }
}

impl ServerSeat for Server {
    async fn kill(&mut self) -> Result<(), CannotRun> {
        if let Some(gone) = self.gone() {
            return Err(gone);
        }
        self.child.kill().await.doing(|| "kill the server".into())?;
        self.stop.guard(None);
        Ok(())
    }

    fn set_clock_back(&mut self, back: Duration) {
        self.launch.clock_back = back;
    }

    async fn restart(&mut self, next: Option<Kill>) -> Result<(), CannotRun> {
        let began = std::time::Instant::now();
        let (child, address) = spawn(&self.launch, &self.address, next, &self.stop).await?;
        self.child = child;
        self.address = address;
        self.starts.push(began.elapsed());
        Ok(())
    }
}

async fn spawn(launch: &Launch, listen: &str, next: Option<Kill>, stop: &Stop) -> Result<(Child, String), CannotRun> {
    let log = append_to(&launch.log)?;
    let mut command = Command::new(&launch.program);
    command
        .arg("serve")
        .args(["--listen", listen, "--data-dir"])
        .arg(&launch.data_dir)
        .arg("--programme")
        .arg(&launch.programme)
        .args(["--admin-key-sha256", &launch.admin_key_sha256])
        .args(["--platform-key-sha256", &launch.platform_key_sha256])
        .args(["--hold-grace-seconds", &launch.hold_grace_seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // A group of its own: Ctrl-C at a terminal is for this program, which then ends the server in order.
        .process_group(0)
        .kill_on_drop(true);
    if let Some(config) = &launch.config {
        command.arg("--config").arg(config);
    }
    if let Some(file) = &launch.slow_disk {
        command.arg("--slow-disk-rehearsal").arg(file);
    }
    if !launch.clock_back.is_zero() {
        command.args(["--clock-back-rehearsal", &launch.clock_back.as_secs().to_string()]);
    }
    if let Some(url) = &launch.redis {
        command.args(["--redis", url]);
    }
    if next == Some(Kill::PowerCut) {
        command.arg("--power-cut-rehearsal");
    }
    let mut child = command.spawn().doing(|| format!("start {}", launch.program.display()))?;
    stop.guard(child.id());
    if let (Some(share), Some(pid)) = (&launch.share, child.id()) {
        share.take(pid)?;
    }
    let Some(stdout) = child.stdout.take() else {
        return Err(CannotRun::because("the server's standard output could not be read"));
    };
    let mut lines = BufReader::new(stdout).lines();
    let ready = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(url) = line.trim().strip_prefix("berth listening on http://") {
                return Some(url.trim_end_matches('/').to_owned());
            }
        }
        None
    };
    match tokio::time::timeout(launch.start_within, ready).await {
        Ok(Some(address)) => {
            // A full pipe would stop the server, so what it says further is read and dropped.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            Ok((child, address))
        }
        Ok(None) => {
            let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
            let words = last_words(&launch.log);
            Err(CannotRun::because(format!("the server ended with {status} before it was ready; {words}")))
        }
        Err(_) => Err(CannotRun::because(format!(
            "the server was not ready within {} s; {}",
            launch.start_within.as_secs(),
            last_words(&launch.log)
        ))),
    }
}

fn append_to(path: &Path) -> Result<File, CannotRun> {
    OpenOptions::new().create(true).append(true).open(path).doing(|| format!("open the server log {}", path.display()))
}

/// The last line of the server's log, for an error that would otherwise only point at a file.
fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("it said: {line}"),
        None => "it said nothing".into(),
    }
}

/// Runs the server's program as a tool (`export`, `verify`) with its output into a file. Returns its exit code.
pub(crate) async fn run_tool(
    program: &Path,
    arguments: &[&str],
    data_dir: &Path,
    output: &Path,
) -> Result<i32, CannotRun> {
    let what = || format!("run {} {}", program.display(), arguments.join(" "));
    let file = File::create(output).doing(|| format!("create {}", output.display()))?;
    let mut command = Command::new(program);
    let (first, rest) = arguments.split_first().ok_or_else(|| CannotRun::because("a tool needs a name"))?;
    command.arg(first).arg("--data-dir").arg(data_dir).args(rest);
    let child =
        command.stdin(Stdio::null()).stdout(file).stderr(Stdio::piped()).kill_on_drop(true).spawn().doing(what)?;
    let output = tokio::time::timeout(TOOL_MAX, child.wait_with_output())
        .await
        .map_err(|_| CannotRun::because(format!("{} took longer than {} s", what(), TOOL_MAX.as_secs())))?
        .doing(what)?;
    match output.status.code() {
        // `verify` answers 1 when it found something; what it found is in its output.
        Some(code @ (0 | 1)) => Ok(code),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(CannotRun::because(format!("could not {}: it ended with {}: {said}", what(), output.status)))
        }
    }
}

/// Where the server's program is: what the caller named, what the environment names, or built beside this one.
pub(crate) async fn find_server(named: Option<PathBuf>) -> Result<PathBuf, CannotRun> {
    if let Some(path) = named.or_else(|| std::env::var_os("BERTH_SERVER").map(PathBuf::from)) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(CannotRun::because(format!("there is no server at {}", path.display())))
        };
    }
    let own = std::env::current_exe().doing(|| "find this program's own path".into())?;
    let sibling = own.with_file_name(format!("berth{}", std::env::consts::EXE_SUFFIX));
    if let Some(cargo) = std::env::var_os("CARGO") {
        build(Path::new(&cargo)).await?;
    }
    if sibling.is_file() {
        Ok(sibling)
    } else {
        Err(CannotRun::because(format!(
            "there is no server: name one with --server or BERTH_SERVER, or put it at {}",
            sibling.display()
        )))
    }
}

async fn build(cargo: &Path) -> Result<(), CannotRun> {
    let mut command = Command::new(cargo);
    command.args(["build", "-p", "berth-api", "--bin", "berth"]);
    // The server is built as this harness was, so that it lands beside it.
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    console::step("building the server");
    let status = command.kill_on_drop(true).status().await.doing(|| "run cargo".into())?;
    if status.success() {
        Ok(())
    } else {
        Err(CannotRun::because("the server could not be built; cargo said why above"))
    }
}
