//! A file's bytes in memory for the simulated disk: what was never written is zero and takes no room, and a copy shares its pages.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE_SIZE: usize = 4096;

#[derive(Clone, Default)]
pub(super) struct Sparse {
    size: usize,
    /// By number; those that are missing are zero, and what lies past the size is zero in all.
    pages: BTreeMap<usize, Arc<[u8; PAGE_SIZE]>>,
}

impl Sparse {
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Cuts, or appends zeros.
    pub(super) fn resize(&mut self, size: usize) {
        if size < self.size {
            self.pages.split_off(&size.div_ceil(PAGE_SIZE));
            if let Some(last) = self.pages.get_mut(&(size / PAGE_SIZE)) {
                Arc::make_mut(last)[size % PAGE_SIZE..].fill(0);
            }
        }
        self.size = size;
    }

    /// Grows where the bytes reach past the end.
    pub(super) fn write(&mut self, position: usize, bytes: &[u8]) {
        self.size = self.size.max(position + bytes.len());
        let mut done = 0;
        while done < bytes.len() {
            let (number, from) = ((position + done) / PAGE_SIZE, (position + done) % PAGE_SIZE);
            let count = (PAGE_SIZE - from).min(bytes.len() - done);
            let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE_SIZE]));
            Arc::make_mut(page)[from..from + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }

    /// Fills the buffer from `position` on; returns how much of it there was.
    pub(super) fn read(&self, position: usize, buffer: &mut [u8]) -> usize {
        let whole = buffer.len().min(self.size.saturating_sub(position));
        let mut done = 0;
        while done < whole {
            let (number, from) = ((position + done) / PAGE_SIZE, (position + done) % PAGE_SIZE);
            let count = (PAGE_SIZE - from).min(whole - done);
            let target = &mut buffer[done..done + count];
            match self.pages.get(&number) {
                Some(page) => target.copy_from_slice(&page[from..from + count]),
                None => target.fill(0),
            }
            done += count;
        }
        whole
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size];
        self.read(0, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Change {
        Write(usize, Vec<u8>),
        Resize(usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let write = (0..3 * PAGE_SIZE, 1..2 * PAGE_SIZE, 1..=u8::MAX);
        prop_oneof![
            write.prop_map(|(position, size, byte)| Change::Write(position, vec![byte; size])),
            (0..4 * PAGE_SIZE).prop_map(Change::Resize),
        ]
    }

    proptest! {
        #[test]
        fn it_holds_what_a_vec_would(changes in prop::collection::vec(change(), 0..12), at in 0..5 * PAGE_SIZE) {
            let (mut sparse, mut plain) = (Sparse::default(), Vec::new());
            for change in changes {
                let before = (sparse.clone(), plain.clone());
                match change {
                    Change::Write(position, bytes) => {
                        sparse.write(position, &bytes);
                        plain.resize(plain.len().max(position + bytes.len()), 0);
                        plain[position..position + bytes.len()].copy_from_slice(&bytes);
                    }
                    Change::Resize(size) => {
                        sparse.resize(size);
                        plain.resize(size, 0);
                    }
                }
                prop_assert_eq!(before.0.to_vec(), before.1, "a copy changed with its original");
            }
            prop_assert_eq!((sparse.size(), &sparse.to_vec()), (plain.len(), &plain));
            let mut some = vec![9; PAGE_SIZE + 7];
            let count = sparse.read(at, &mut some);
            prop_assert_eq!(&some[..count], &plain[at.min(plain.len())..plain.len().min(at + some.len())]);
        }
    }

    #[test]
    fn what_was_not_written_takes_no_room() {
        let mut sparse = Sparse::default();
        sparse.resize(1 << 40);
        sparse.write(1 << 30, b"x");
        assert_eq!(sparse.pages.len(), 1);
    }
}
