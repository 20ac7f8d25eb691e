//! Running other programs: where the checkout and its target folder are, cargo with and without a cfg of ours, and one
//! runner that shows or keeps a program's output and puts a limit on its time.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The longest any one program may run. A cold build of every dependency on two cores takes about ten minutes.
const PROGRAM_LIMIT: Duration = Duration::from_secs(25 * 60);

/// How long a program told to stop may take, and how long its output is awaited once it has ended.
const GRACE: Duration = Duration::from_secs(5);

/// Whether a program's output is also shown as it comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Shown line by line, and kept.
    Live,
    /// Kept only; for programs that are expected to fail loudly.
    Kept,
}

/// What a program did.
pub(crate) struct Ended {
    /// Its exit status; `None` when a signal ended it or the limit ran out.
    pub(crate) code: Option<i32>,
    /// Standard output and standard error, line by line as they came.
    pub(crate) text: String,
}

impl Ended {
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// `exit status 1`, or what ended it instead.
    pub(crate) fn status(&self) -> String {
        match self.code {
            Some(code) => format!("exit status {code}"),
            None => "no exit status (a signal, or the time limit)".to_owned(),
        }
    }
}

/// The root of the checkout: the folder above this crate.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Cargo at the root of the checkout, without what the cargo that started us left in the environment (a build script that
/// watches such a variable would be built again each time).
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command.env_remove("RUSTC_WORKSPACE_WRAPPER").current_dir(root());
    command
}

/// Cargo that compiles *our* crates with these cfgs and leaves every other crate as it is.
///
/// A cfg in `RUSTFLAGS` would build all dependencies again, and some of them (crossbeam, for one) change under `cfg(loom)`.
/// So a script stands in for rustc for workspace members only. Cargo asks it for `--print cfg` as well, so
/// `[target.'cfg(loom)'.dependencies]` resolves, and hashes its path into what it builds, so that several live in one target
/// folder. The path, not the content: hence a name made from the cfgs.
pub(crate) fn cargo_with(cfgs: &[&str]) -> Result<Command, String> {
    let mut command = cargo();
    if !cfgs.is_empty() {
        command.env("RUSTC_WORKSPACE_WRAPPER", wrapper(&target_dir().join("wrappers"), cfgs)?);
    }
    Ok(command)
}

/// Runs a program to its end, keeping what it prints.
pub(crate) fn run(command: &mut Command, show: Show) -> Result<Ended, String> {
    run_within(command, show, PROGRAM_LIMIT)
}

/// A command that must do what it is for.
pub(crate) fn done(command: &mut Command) -> Result<(), String> {
    println!("$ {}", typed(command));
    let ended = run(command, Show::Live)?;
    if ended.ok() { Ok(()) } else { Err(format!("`{}` ended with {}", typed(command), ended.status())) }
}

/// The program as a person would type it.
pub(crate) fn typed(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// The first folder of `PATH` that holds this program.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

/// Whether we may do what only root may.
pub(crate) fn is_root() -> bool {
    run(Command::new("id").arg("-u"), Show::Kept).is_ok_and(|ended| ended.text.trim() == "0")
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

fn wrapper(dir: &Path, cfgs: &[&str]) -> Result<PathBuf, String> {
    let name: String = cfgs.join("+").chars().filter(|c| c.is_ascii_alphanumeric() || "_+=".contains(*c)).collect();
    let flags: String = cfgs.iter().map(|cfg| format!(" --cfg '{cfg}'")).collect();
    let script = format!("#!/bin/sh\nrustc=\"$1\"\nshift\nexec \"$rustc\" \"$@\"{flags}\n");
    let path = dir.join(name);
    // Left alone when it is right: cargo asks rustc for everything again when a wrapper is newer than its notes.
    if fs::read_to_string(&path).is_ok_and(|there| there == script) && is_executable(&path) {
        return Ok(path);
    }
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(&path, script))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .map_err(|error| format!("could not write {}: {error}", path.display()))?;
    Ok(path)
}

fn run_within(command: &mut Command, show: Show, limit: Duration) -> Result<Ended, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("could not start `{}`: {error}", typed(command)))?;
    let (sender, lines) = channel();
    if let Some(stdout) = child.stdout.take() {
        send_lines(stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        send_lines(stderr, sender);
    }
    let text = collect(&mut child, &lines, show, limit)?;
    let status = child.wait().map_err(|error| format!("could not wait for `{}`: {error}", typed(command)))?;
    Ok(Ended { code: status.code(), text })
}

/// Takes lines until both streams are closed. A program that has ended is not awaited for long: a server it left behind may
/// keep the streams open.
fn collect(child: &mut Child, lines: &Receiver<String>, show: Show, limit: Duration) -> Result<String, String> {
    let mut text = String::new();
    let started = Instant::now();
    let mut ended_at = None;
    let mut told_to_stop = false;
    loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                if show == Show::Live {
                    print!("{line}");
                }
                text.push_str(&line);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(text),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if ended_at.is_none() && child.try_wait().map_err(|error| error.to_string())?.is_some() {
            ended_at = Some(Instant::now());
        }
        if ended_at.is_some_and(|at| at.elapsed() > GRACE) {
            return Ok(text);
        }
        if ended_at.is_none() && started.elapsed() > limit {
            if !told_to_stop {
                told_to_stop = true;
                text.push_str(&format!("xtask: stopped after {} s\n", limit.as_secs()));
                // A polite signal first: nextest and the surge harness pass it on to what they started.
                let _ = Command::new("kill").arg(child.id().to_string()).status();
            } else if started.elapsed() > limit + GRACE {
                child.kill().map_err(|error| format!("could not end the program: {error}"))?;
            }
        }
    }
}

fn send_lines(stream: impl Read + Send + 'static, to: Sender<String>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Ended {
        run_within(Command::new("sh").args(["-c", script]), Show::Kept, limit).unwrap()
    }

    #[test]
    fn both_streams_and_the_status_are_kept() {
        let ended = sh("echo out; echo err >&2; exit 3", GRACE);
        assert!(ended.text.contains("out\n") && ended.text.contains("err\n"), "{}", ended.text);
        assert_eq!((ended.code, ended.ok()), (Some(3), false));
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped() {
        let ended = sh("exec sleep 60", Duration::from_millis(200));
        assert_eq!(ended.code, None);
        assert!(ended.text.contains("xtask: stopped after"), "{}", ended.text);
    }

    #[test]
    fn a_missing_program_is_one_sentence() {
        let error = run(&mut Command::new("no-such-program"), Show::Kept).err().unwrap();
        assert!(error.starts_with("could not start `no-such-program`: "), "{error}");
    }

    #[test]
    fn a_wrapper_passes_the_cfgs_and_is_named_after_them() {
        let dir = std::env::temp_dir().join(format!("xtask-wrapper-{}", std::process::id()));
        let path = wrapper(&dir, &["shuttle", "berth_fault=\"give_before_append\""]).unwrap();
        assert_eq!(path.file_name().unwrap(), "shuttle+berth_fault=give_before_append");
        let ended = run(Command::new(&path).args(["echo", "a b"]), Show::Kept).unwrap();
        assert_eq!(ended.text, "a b --cfg shuttle --cfg berth_fault=\"give_before_append\"\n");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("/somewhere/cargo");
        assert_eq!(typed(command.args(["test", "-p", "berth-engine", "a b"])), "cargo test -p berth-engine 'a b'");
    }
}
