//! What is held about the text of the project: everything that a compiler does not check and a reader relies on.
//!
//! Each rule is a function from the files to the faults it found; all faults are told at once, each with file and line.
//! The files are those that git knows or would add, so what is built or ignored is never read.

mod source;

mod manifests;

mod code;

mod rules;

mod docs;

use std::fmt;
use std::fs;
use std::process::{Command, ExitCode};

use crate::shell::{Show, root, run};

use source::Source;

/// Something that is not as it must be.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    path: String,
    /// From 1; 0 when the fault is of the whole file.
    line: usize,
    sentence: String,
}

impl Fault {
    fn new(source: &Source, line: usize, sentence: impl Into<String>) -> Fault {
        Fault { path: source.path.clone(), line, sentence: sentence.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.sentence),
            line => write!(f, "{}:{line}: {}", self.path, self.sentence),
        }
    }
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    if !args.is_empty() {
        return crate::usage("`cargo xtask tidy` takes no arguments");
    }
    match check() {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(told) => {
            eprintln!("{told}");
            ExitCode::FAILURE
        }
    }
}

/// Holds every rule against the checkout. Says how much was read, or all the faults.
pub(crate) fn check() -> Result<String, String> {
    let files = files_of_the_checkout()?;
    let faults = faults(&files);
    if faults.is_empty() {
        return Ok(format!("tidy: {} files, no fault", files.len()));
    }
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Err(format!("{}\ntidy: {} to put right", lines.join("\n"), faults.len()))
}

fn faults(files: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    manifests::check(files, &mut faults);
    code::check(files, &mut faults);
    rules::check(files, &mut faults);
    docs::check(files, &mut faults);
    faults.sort();
    faults
}

fn files_of_the_checkout() -> Result<Vec<Source>, String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let listed = run(&mut git, Show::Kept)?;
    if !listed.ok() {
        return Err(format!("tidy reads the files that git lists, and git said: {}", listed.text.trim()));
    }
    let mut files = Vec::new();
    for path in listed.text.split('\0').filter(|path| !path.is_empty()) {
        // A file that is listed but deleted, or that is no text, has nothing to hold.
        if let Ok(text) = fs::read_to_string(root().join(path)) {
            files.push(Source::new(path, text));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_tidy() {
        if let Err(told) = check() {
            panic!("{told}");
        }
    }

    #[test]
    fn a_fault_says_where() {
        let source = Source::new("engine/src/lib.rs", String::new());
        assert_eq!(Fault::new(&source, 3, "is wrong").to_string(), "engine/src/lib.rs:3: is wrong");
        assert_eq!(Fault::new(&source, 0, "is wrong").to_string(), "engine/src/lib.rs: is wrong");
    }
}

/// What the tests of the rules share.
#[cfg(test)]
mod bench {
    use super::{Fault, Source};

    /// Files made from `(path, text)`.
    pub(super) fn files(files: &[(&str, &str)]) -> Vec<Source> {
        files.iter().map(|(path, text)| Source::new(path, (*text).to_owned())).collect()
    }

    /// The faults of one rule over such files, as text.
    pub(super) fn told(check: fn(&[Source], &mut Vec<Fault>), of: &[(&str, &str)]) -> Vec<String> {
        let mut faults = Vec::new();
        check(&files(of), &mut faults);
        faults.sort();
        faults.iter().map(ToString::to_string).collect()
    }
}
