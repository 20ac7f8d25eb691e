//! Servers as processes of their own, and the CPU time the system booked on them.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running server. Dropped, it is killed.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Of `utime` and `stime`: what Linux shows on every architecture.
const TICKS_PER_SECOND: u32 = 100;

impl Server {
    /// Starts it and waits for the line that says where it listens.
    ///
    /// # Errors
    /// It cannot be started, or says something else.
    pub fn start(command: &mut Command) -> io::Result<Server> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim().rsplit_once("http://").and_then(|(_, address)| address.parse().ok()) {
            Some(address) => Ok(Server { child, address }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(io::Error::other(format!("the server did not say where it listens: {line:?}")))
            }
        }
    }

    /// CPU time of all its threads so far.
    ///
    /// # Errors
    /// The system does not say.
    pub fn cpu(&self) -> io::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in brackets, may have anything in it; `utime` and `stime` are fields 14 and 15, `state` is 3.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ').skip(11).take(2);
        let ticks: u32 = fields.filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
        Ok(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A binary of this workspace, of the profile that this program was built in; built first, but for a test that finds one:
/// who tests the workspace has just built it.
///
/// # Errors
/// It cannot be built.
pub fn binary(name: &str) -> io::Result<PathBuf> {
    // target/PROFILE/deps/this, or target/PROFILE/this
    let this = std::env::current_exe()?;
    let find = || this.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    if cfg!(debug_assertions)
        && let Some(found) = find()
    {
        return Ok(found);
    }
    let mut build = Command::new(env!("CARGO"));
    // The whole workspace decides the features, as where it is built for anything else: nothing is built twice.
    build.args(["build", "-q", "--locked", "--workspace", "--bin", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    if !build.status()?.success() {
        return Err(io::Error::other(format!("could not build {name}")));
    }
    find().ok_or_else(|| io::Error::other(format!("{name} is not beside {}", this.display())))
}

/// `berth serve` in a directory, with more lines of configuration.
///
/// # Errors
/// It does not start; its log is in the directory.
pub fn berth(binary: &Path, home: &Path, config: &str) -> io::Result<Server> {
    let programme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../programmes/india-2021.toml");
    let text = format!(
        "listen = '127.0.0.1:0'\ndata_dir = {data:?}\nprogramme = {programme:?}\n{config}\n\
         [[keys]]\nrole = 'admin'\nname = 'a'\nsha256 = '{ADMIN_SHA256}'\n\
         [[keys]]\nrole = 'platform'\nname = 'p'\nsha256 = '{PLATFORM_SHA256}'\n",
        data = home.join("data"),
    );
    std::fs::write(home.join("berth.toml"), text)?;
    let log = std::fs::File::options().create(true).append(true).open(home.join("stderr.log"))?;
    Server::start(Command::new(binary).args(["serve", "--config"]).arg(home.join("berth.toml")).stderr(log))
}

/// The bare server that answers with these bytes.
///
/// # Errors
/// It does not start.
pub fn bare(binary: &Path, home: &Path, answer: &[u8]) -> io::Result<Server> {
    let file = home.join("answer");
    std::fs::write(&file, answer)?;
    Server::start(Command::new(binary).arg(file))
}

/// Of `admin-key`.
const ADMIN_SHA256: &str = "69a5265506c94c77b787a7d7377b7685a0eff82e33920a71e7ee22cd6154953e";
/// Of `platform-key`.
const PLATFORM_SHA256: &str = "e75390981221aacccfa975cd11ebea289217120269f33b1b4f9f67cd5af67c54";
