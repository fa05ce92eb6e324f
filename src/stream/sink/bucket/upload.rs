//! One object on its way into a bucket: bytes become parts of an upload, which nobody sees until it is complete.

use super::super::super::life::waiting_for;
use super::job::{Beat, Job};
use super::{Address, Objects, Upload};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

/// Bytes of a part but the last. Stores take 5 MiB at the least, and some want all but the last to be of one size.
const PART_SIZE: usize = 8 << 20;
/// Parts of one upload: what stores take.
const PARTS_MAX: usize = 10_000;
/// Parts of one file that are on their way at a time; one more waits.
const FLYING_MAX: usize = 2;

/// An object being written.
pub(in crate::stream) struct ObjectFile {
    objects: Arc<dyn Objects>,
    at: Address,
    key: String,
    beat: Beat,
    /// Begun with the first part.
    id: Option<String>,
    buffer: Vec<u8>,
    flying: VecDeque<Job<io::Result<String>>>,
    parts: Vec<String>,
    size: u64,
    crc: u32,
}

/// An object all of whose parts are in the store, and that is not there yet.
pub(in crate::stream) struct Sealed {
    pub(in crate::stream) key: String,
    pub(in crate::stream) upload: Upload,
    pub(in crate::stream) size: u64,
    pub(in crate::stream) crc: u32,
}

impl ObjectFile {
    /// Asks the store nothing yet.
    pub(in crate::stream) fn create(objects: Arc<dyn Objects>, at: Address, key: String, beat: Beat) -> ObjectFile {
        let (buffer, flying, parts) = (Vec::new(), VecDeque::new(), Vec::new());
        ObjectFile { objects, at, key, beat, id: None, buffer, flying, parts, size: 0, crc: 0 }
    }

    /// Where it is written, for people.
    pub(in crate::stream) fn bucket(&self) -> String {
        self.at.to_string()
    }

    /// Bytes so far.
    pub(in crate::stream) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes in memory: a part that is not full, and those on their way.
    pub(in crate::stream) fn memory_size(&self) -> usize {
        self.buffer.capacity() + self.flying.iter().filter(|part| !part.is_done()).count() * PART_SIZE
    }

    /// Sends what is left. All parts are durable when the job is done.
    ///
    /// # Errors
    /// The system's; the job's are the store's, and it has ended the upload then as far as it could.
    pub(in crate::stream) fn seal(self) -> io::Result<Job<io::Result<Sealed>>> {
        Job::start(move || {
            let (objects, key, id) = (self.objects.clone(), self.key.clone(), self.id.clone());
            let mut begun = id;
            let sealed = self.send_rest(&mut begun);
            if let (Err(_), Some(id)) = (&sealed, &begun) {
                // A start ends it, if this does not.
                let _ = objects.abort(&key, id);
            }
            sealed
        })
    }

    fn send_rest(mut self, begun: &mut Option<String>) -> io::Result<Sealed> {
        let id = match begun {
            Some(id) => id.clone(),
            None => begun.insert(self.objects.begin(&self.key)?).clone(),
        };
        while let Some(job) = self.flying.pop_front() {
            self.parts.push(job.join(&|| {})??);
        }
        if !self.buffer.is_empty() {
            let last = self.objects.part(&self.key, &id, self.parts.len(), Bytes::from(self.buffer))?;
            self.parts.push(last);
        }
        let upload = Upload { at: self.at, id, parts: self.parts };
        Ok(Sealed { key: self.key, upload, size: self.size, crc: self.crc })
    }

    /// Ends the upload, beside this thread and without a word: a start ends it, if this does not.
    pub(in crate::stream) fn discard(&mut self) {
        let Some(id) = self.id.take() else { return };
        let (objects, key) = (self.objects.clone(), self.key.clone());
        let flying = std::mem::take(&mut self.flying);
        let _ = Job::start(move || {
            for job in flying {
                let _ = job.join(&|| {});
            }
            let _ = objects.abort(&key, &id);
        });
    }

    fn send_part(&mut self) -> io::Result<()> {
        let number = self.parts.len() + self.flying.len();
        // The last one is for the footer.
        if number + 1 >= PARTS_MAX {
            let limit = PARTS_MAX as u64 * PART_SIZE as u64;
            return Err(io::Error::other(format!("an object has at most {limit} bytes: lower the size in roll")));
        }
        let id = match &self.id {
            Some(id) => id.clone(),
            None => {
                let (objects, key) = (self.objects.clone(), self.key.clone());
                let begun = Job::start(move || objects.begin(&key))?;
                let id = waiting_for(|| self.at.to_string(), || begun.join(&*self.beat))??;
                self.id.insert(id).clone()
            }
        };
        while self.flying.len() >= FLYING_MAX {
            let Some(job) = self.flying.pop_front() else { break };
            self.parts.push(waiting_for(|| self.at.to_string(), || job.join(&*self.beat))??);
        }
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        let (objects, key) = (self.objects.clone(), self.key.clone());
        self.flying.push_back(Job::start(move || objects.part(&key, &id, number, bytes))?);
        Ok(())
    }
}

impl Write for ObjectFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PART_SIZE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..count]);
        self.size += count as u64;
        if self.buffer.len() == PART_SIZE {
            self.send_part()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::twin::{Asked, Trouble, Twin};
    use super::*;

    fn file(twin: &Arc<Twin>) -> ObjectFile {
        let at = Address {
            bucket: "b".to_owned(),
            endpoint: None,
            region: None,
            path_style: None,
            credentials: None,
            pipeline: "p.toml".into(),
        };
        ObjectFile::create(twin.clone(), at, "k".to_owned(), Arc::new(|| {}))
    }

    #[test]
    fn bytes_become_parts_of_one_size_and_memory_is_bounded() {
        let (_, twin) = Twin::new();
        let mut file = file(&twin);
        let bytes: Vec<u8> = (0..1u32 << 20).map(|at| (at % 251) as u8).collect();
        for _ in 0..37 {
            file.write_all(&bytes).unwrap();
            assert!(file.memory_size() <= (FLYING_MAX + 2) * PART_SIZE, "{}", file.memory_size());
        }
        let sealed = file.seal().unwrap().join(&|| {}).unwrap().unwrap();
        assert_eq!((sealed.size, sealed.upload.parts.len(), twin.part_max()), (37 << 20, 5, PART_SIZE));
        assert!(twin.objects().is_empty(), "nobody sees it yet");
        assert!(twin.complete("k", &sealed.upload.id, &sealed.upload.parts).unwrap());
        assert_eq!(twin.sum("k").unwrap(), (sealed.size, sealed.crc));
    }

    #[test]
    fn a_part_that_has_landed_is_no_memory() {
        let (_, twin) = Twin::new();
        let mut file = file(&twin);
        file.write_all(&vec![7; PART_SIZE]).unwrap();
        let began = std::time::Instant::now();
        while file.memory_size() > 0 {
            assert!(began.elapsed().as_secs() < 20, "{} bytes are held", file.memory_size());
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        file.discard();
    }

    #[test]
    fn what_fails_or_is_thrown_away_leaves_no_upload() {
        let (_, twin) = Twin::new();
        let mut small = file(&twin);
        small.write_all(b"abc").unwrap();
        twin.plan(Asked::Part, 1, Trouble::Refused);
        assert!(small.seal().unwrap().join(&|| {}).unwrap().is_err());
        assert!(twin.open().is_empty());
        let mut large = file(&twin);
        large.write_all(&vec![7; PART_SIZE + 1]).unwrap();
        assert_eq!(twin.open().len(), 1);
        large.discard();
        let began = std::time::Instant::now();
        while !twin.open().is_empty() {
            assert!(began.elapsed().as_secs() < 20);
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    }
}
