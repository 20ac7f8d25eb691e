//! The frames of the journal, read by the harness's own reader: from the segments on the disk, and from Redis's stream.
//!
//! The format is the one the journal's documentation gives: a header of 48 bytes, the payload, zeros to a multiple of 8.
//! What is kept of a frame is enough to tell whether two are the same: its place, and the checksum of all its bytes.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::redis::Stream;
use crate::error::{CannotRun, Doing};

const HEADER_BYTES: usize = 48;
const FIELD_BYTES: usize = 32;
const SEGMENT_HEADER_BYTES: usize = 64;

/// One frame.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct FrameLine {
    /// The stream entry's id; empty for a frame of the log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) id: String,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) epoch: u32,
    /// The checksum of the frame before, and its own, as 16 hex digits.
    pub(crate) previous: String,
    pub(crate) link: String,
    pub(crate) bytes: usize,
    /// Whether header and payload have the checksums they name.
    pub(crate) sound: bool,
}

/// What Redis held at the end of a run and what the log held, for the auditor.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Witness {
    /// The entry up to which the server said that Redis had everything, if it ever said so after the drive.
    pub(crate) caught_up_seq: Option<u64>,
    /// What the head says.
    pub(crate) last: u64,
    pub(crate) link: String,
    /// The stream was trimmed up to this entry, behind one of these snapshots (`s0/s1/pieces/bytes`) in Redis.
    #[serde(default)]
    pub(crate) base: u64,
    #[serde(default)]
    pub(crate) snapshots: String,
    pub(crate) stream: Vec<FrameLine>,
    pub(crate) log: Vec<FrameLine>,
}

impl Witness {
    /// Writes it as NDJSON: the head, then the frames of the stream, then those of the log.
    pub(crate) fn write(&self, path: &Path) -> Result<(), CannotRun> {
        let what = || format!("write {}", path.display());
        let mut out = BufWriter::new(std::fs::File::create(path).doing(what)?);
        let head = Self { stream: Vec::new(), log: Vec::new(), ..self.clone() };
        serde_json::to_writer(&mut out, &head).doing(what)?;
        for (of, frames) in [("stream", &self.stream), ("log", &self.log)] {
            for frame in frames {
                writeln!(out).doing(what)?;
                serde_json::to_writer(&mut out, &(of, frame)).doing(what)?;
            }
        }
        out.write_all(b"\n").and_then(|()| out.flush()).doing(what)
    }

    /// Reads it back; none where a run had no Redis.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, CannotRun> {
        if !path.exists() {
            return Ok(None);
        }
        let what = || format!("read {}", path.display());
        let mut witness: Option<Self> = None;
        for line in BufReader::new(std::fs::File::open(path).doing(what)?).lines() {
            let line = line.doing(what)?;
            match &mut witness {
                None => witness = Some(serde_json::from_str(&line).doing(what)?),
                Some(witness) => {
                    let (of, frame): (String, FrameLine) = serde_json::from_str(&line).doing(what)?;
                    if of == "stream" { witness.stream.push(frame) } else { witness.log.push(frame) }
                }
            }
        }
        Ok(witness)
    }
}

/// The frames of a data directory that no server owns, in order.
pub(crate) fn log_frames(data_dir: &Path) -> Result<Vec<FrameLine>, CannotRun> {
    let dir = data_dir.join("journal");
    let what = || format!("read {}", dir.display());
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(&dir).doing(what)? {
        let path = entry.doing(what)?.path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            segments.push(path);
        }
    }
    // Ten digits, so the order of the names is that of the numbers.
    segments.sort();
    let mut frames = Vec::new();
    for path in segments {
        let bytes = std::fs::read(&path).doing(|| format!("read {}", path.display()))?;
        let mut rest = bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or_default();
        // A segment ends where no frame begins: the rest is zeros, or a last frame that was torn and cut.
        while let Some((frame, len)) = frame(rest) {
            frames.push(frame);
            rest = rest.get(len..).unwrap_or_default();
        }
    }
    Ok(frames)
}

/// The frames in a stream's entries. One that cannot be read at all is kept as unsound.
pub(crate) fn stream_frames(stream: &Stream) -> Vec<FrameLine> {
    let read = |(id, bytes): &(String, Vec<u8>)| {
        let (mut line, len) = frame(bytes).unwrap_or_default();
        line.sound &= len == bytes.len();
        FrameLine { id: id.clone(), ..line }
    };
    stream.frames.iter().map(read).collect()
}

/// The frame at the front of `bytes`, and its length with its padding.
fn frame(bytes: &[u8]) -> Option<(FrameLine, usize)> {
    let header = bytes.get(..HEADER_BYTES)?;
    let u32_at = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let u64_at = |at: usize| header.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    if header.get(..4)? != b"BRTF" {
        return None;
    }
    let (count, payload_bytes, first, link) = (u32_at(4)?, usize::try_from(u32_at(8)?).ok()?, u64_at(16)?, u64_at(40)?);
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(payload_bytes)?)?;
    let len = (HEADER_BYTES + payload_bytes).next_multiple_of(8);
    let fields = header.get(..FIELD_BYTES)?;
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    digest.update(fields);
    digest.update(payload);
    let padding = bytes.get(HEADER_BYTES + payload_bytes..len)?;
    let line = FrameLine {
        id: String::new(),
        first,
        last: first.checked_add(u64::from(count))?.checked_sub(1)?,
        epoch: u32_at(12)?,
        previous: format!("{:016x}", u64_at(24)?),
        link: format!("{link:016x}"),
        bytes: len,
        sound: count > 0
            && crc_fast::crc64_nvme(fields) == u64_at(32)?
            && digest.finalize() == link
            && padding.iter().all(|&byte| byte == 0),
    };
    Some((line, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(first: u64, count: u32, previous: u64, payload: &[u8]) -> Vec<u8> {
        let mut frame = b"BRTF".to_vec();
        frame.extend(count.to_le_bytes());
        frame.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        frame.extend(3_u32.to_le_bytes());
        frame.extend(first.to_le_bytes());
        frame.extend(previous.to_le_bytes());
        let check = crc_fast::crc64_nvme(&frame);
        let mut whole = frame.clone();
        whole.extend(payload);
        let link = crc_fast::crc64_nvme(&whole);
        frame.extend(check.to_le_bytes());
        frame.extend(link.to_le_bytes());
        frame.extend(payload);
        frame.resize(frame.len().next_multiple_of(8), 0);
        frame
    }

    #[test]
    fn frames_of_segments_and_of_a_stream_are_read_alike() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("journal")).unwrap();
        let (one, two) = (bytes(1, 2, 0, b"abc"), bytes(3, 1, 7, b"defgh"));
        for (index, frame) in [(1, &one), (2, &two)] {
            let segment = [&[0; SEGMENT_HEADER_BYTES][..], frame, &[0; 100]].concat();
            std::fs::write(directory.path().join(format!("journal/{index:010}.seg")), segment).unwrap();
        }
        let log = log_frames(directory.path()).unwrap();
        assert_eq!(log.iter().map(|frame| (frame.first, frame.last)).collect::<Vec<_>>(), [(1, 2), (3, 3)]);
        assert!(log.iter().all(|frame| frame.sound && frame.epoch == 3));
        assert_eq!(log[1].previous, "0000000000000007");
        let stream = Stream { frames: vec![("2-0".into(), one), ("3-0".into(), two)], ..Stream::default() };
        let stream = stream_frames(&stream);
        assert_eq!(stream[0], FrameLine { id: "2-0".into(), ..log[0].clone() });
        let witness =
            Witness { caught_up_seq: Some(3), last: 3, link: log[1].link.clone(), stream, log, ..Witness::default() };
        let path = directory.path().join("redis.ndjson");
        witness.write(&path).unwrap();
        assert_eq!(Witness::read(&path).unwrap(), Some(witness));
    }

    #[test]
    fn a_frame_with_a_flipped_bit_or_a_byte_too_many_is_unsound() {
        let whole = bytes(1, 2, 0, b"abcde");
        for at in 4..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            assert!(frame(&bad).is_none_or(|(line, _)| !line.sound), "byte {at}");
        }
        let long = Stream { frames: vec![("2-0".into(), [&whole[..], &[0]].concat())], ..Stream::default() };
        assert!(!stream_frames(&long)[0].sound);
    }
}
