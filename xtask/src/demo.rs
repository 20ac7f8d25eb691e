//! A live demo for tools that are not ours to try.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::shell::{target_dir, typed};

/// A demo server in a directory of its own; both go when it is dropped.
pub(crate) struct Demo {
    process: Child,
    dir: PathBuf,
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) platform: String,
}

impl Demo {
    /// `berth` must have been built; `what` it is for.
    pub(crate) fn start(what: &str) -> Result<Demo, String> {
        let dir = std::env::temp_dir().join(format!("berth-{what}-{}", std::process::id()));
        let mut command = Command::new(target_dir().join("debug/berth"));
        command.args(["demo", "--listen", "127.0.0.1:0", "--dir"]).arg(&dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().map_err(|error| format!("could not start `{}`: {error}", typed(&command)))?;
        let told = BufReader::new(process.stdout.take().ok_or("the demo has no standard output")?);
        let mut demo = Demo { process, dir, url: String::new(), admin: String::new(), platform: String::new() };
        for line in told.lines().map_while(Result::ok) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["berth", "listening", "on", url] => url.clone_into(&mut demo.url),
                ["admin", key] => key.clone_into(&mut demo.admin),
                ["platform", key] => {
                    key.clone_into(&mut demo.platform);
                    return Ok(demo);
                }
                _ => {}
            }
        }
        Err("the demo ended before it told its keys".to_owned())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Whatever fails here is left in the directory for temporary files.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
