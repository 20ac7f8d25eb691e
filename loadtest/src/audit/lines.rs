//! Files of lines, read in blocks: parsed by several threads, handed on in their order, never whole in memory.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::error::{CannotRun, Doing};

/// Some megabytes, and only a few blocks at a time: what a file takes while it is read does not grow with it.
const BLOCK_BYTES: usize = 2 << 20;

struct Block {
    /// The number of its first line.
    first: usize,
    bytes: Vec<u8>,
}

/// Parses each line that is not empty, and hands the results on in the file's order. An error names the line.
pub(crate) fn read_lines<T: Send>(
    path: &Path,
    parse: impl Fn(&str) -> Result<T, String> + Sync,
    mut each: impl FnMut(T) -> Result<(), String>,
) -> Result<(), CannotRun> {
    let file = File::open(path).doing(|| format!("open {}", path.display()))?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let parse = &parse;
    std::thread::scope(|scope| {
        let (mut inlets, mut outlets) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (inlet, blocks) = sync_channel::<Block>(1);
            let (done, outlet) = sync_channel(1);
            scope.spawn(move || work(path, &blocks, parse, &done));
            inlets.push(inlet);
            outlets.push(outlet);
        }
        let reader = scope.spawn(move || read_blocks(file, &inlets));
        for outlet in outlets.iter().cycle() {
            // Who has no more has nothing for any round after it.
            let Ok(parsed) = outlet.recv() else { break };
            for value in parsed? {
                each(value).doing(|| format!("read {}", path.display()))?;
            }
        }
        let read = reader.join().map_err(|_| CannotRun::because(format!("reading {} panicked", path.display())))?;
        read.doing(|| format!("read {}", path.display()))
    })
}

/// Deals the blocks out in turn.
fn read_blocks(mut file: File, inlets: &[SyncSender<Block>]) -> std::io::Result<()> {
    let mut left = Vec::new();
    let mut first = 1;
    for inlet in inlets.iter().cycle() {
        let mut bytes = std::mem::take(&mut left);
        let mut ended = false;
        // A line longer than a block makes the block longer.
        let end = loop {
            let had = bytes.len();
            let read = file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut bytes)?;
            if read == 0 {
                ended = true;
                break bytes.len();
            }
            if let Some(newline) = bytes[had..].iter().rposition(|byte| *byte == b'\n') {
                break had + newline + 1;
            }
        };
        left.extend_from_slice(&bytes[end..]);
        bytes.truncate(end);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        // Whoever listened has found a fault and told of it.
        if !bytes.is_empty() && inlet.send(Block { first, bytes }).is_err() {
            return Ok(());
        }
        first += lines;
        if ended {
            return Ok(());
        }
    }
    Ok(())
}

fn work<T>(
    path: &Path,
    blocks: &Receiver<Block>,
    parse: impl Fn(&str) -> Result<T, String>,
    done: &SyncSender<Result<Vec<T>, CannotRun>>,
) {
    for block in blocks {
        let parsed = parse_block(path, &block, &parse);
        if done.send(parsed).is_err() {
            return;
        }
    }
}

fn parse_block<T>(path: &Path, block: &Block, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, CannotRun> {
    let text = std::str::from_utf8(&block.bytes).doing(|| format!("read {}", path.display()))?;
    let lines = (block.first..).zip(text.split('\n')).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| parse(line).doing(|| format!("read line {number} of {}", path.display()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<u64>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        std::fs::write(&path, text).unwrap();
        let mut seen = Vec::new();
        let parse = |line: &str| line.parse::<u64>().map_err(|error| error.to_string());
        let add = |value| {
            seen.push(value);
            Ok(())
        };
        read_lines(&path, parse, add).map_err(|error| error.to_string())?;
        Ok(seen)
    }

    #[test]
    fn lines_of_many_blocks_come_in_their_order() {
        let text: String = (0..700_000).map(|number| format!("{number}\n")).collect();
        assert!(text.len() > 2 * BLOCK_BYTES);
        assert_eq!(read(&text).unwrap(), (0..700_000).collect::<Vec<u64>>());
        assert_eq!(read("1\n\n2").unwrap(), [1, 2]);
        assert_eq!(read("").unwrap(), [0; 0]);
    }

    #[test]
    fn an_error_names_its_line() {
        let text: String =
            (0..700_000).map(|number| if number == 600_000 { "no\n".into() } else { format!("{number}\n") }).collect();
        assert!(read(&text).unwrap_err().contains("read line 600001 of"));
    }

    #[test]
    fn a_line_longer_than_a_block_is_one_line() {
        let long = "0".repeat(BLOCK_BYTES * 2 + 5) + "7";
        assert_eq!(read(&format!("1\n{long}\n2\n")).unwrap(), [1, 7, 2]);
    }
}
