//! Where an entry's bytes go.

use arrayvec::ArrayVec;

/// Where an entry's bytes go: a stack buffer on the hot path, a `Vec` for a publish.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
    fn patch(&mut self, at: usize, bytes: [u8; 4]);
    fn filled(&self) -> usize;
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn patch(&mut self, at: usize, bytes: [u8; 4]) {
        self[at..at + 4].copy_from_slice(&bytes);
    }

    fn filled(&self) -> usize {
        self.len()
    }
}

impl<const N: usize> Sink for ArrayVec<u8, N> {
    fn put(&mut self, bytes: &[u8]) {
        self.try_extend_from_slice(bytes).expect("SMALL_ENTRY_BYTES_MAX covers every small entry");
    }

    fn patch(&mut self, at: usize, bytes: [u8; 4]) {
        self[at..at + 4].copy_from_slice(&bytes);
    }

    fn filled(&self) -> usize {
        self.len()
    }
}
