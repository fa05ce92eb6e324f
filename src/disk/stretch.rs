//! [`Stretch`]: bytes of a file that go to a socket without passing through this process (`sendfile`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// So much goes with one call: what has left the page cache meanwhile holds up the caller for no longer than this takes to read.
const CALL_SIZE_MAX: usize = 256 << 10;

/// A part of an open file, which stays open as long as this lives. Nobody has looked at its bytes.
#[derive(Clone, Debug)]
pub struct Stretch {
    file: Arc<File>,
    position: u64,
    size: usize,
}

impl Stretch {
    /// `size` bytes of `file` from `position` on, which are there, and read into the page cache when this returns.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter; the system's.
    pub(super) fn new(file: Arc<File>, position: u64, size: usize) -> io::Result<Stretch> {
        // Sent nowhere first. The system reads ahead of that in pieces of many pages, where advice to read ahead (`posix_fadvise`) brings page
        // by page, for up to seven times the CPU time (docs/decisions/0009).
        let nowhere = File::options().write(true).open("/dev/null")?;
        let stretch = Stretch { file, position, size };
        let mut left = stretch.clone();
        while !left.is_empty() {
            match left.send(nowhere.as_fd()) {
                Ok(sent) => left.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(stretch)
    }

    /// Of a file in memory that has these bytes.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn of(bytes: &[u8]) -> io::Result<Stretch> {
        // SAFETY: a plain call with a name that ends in a NUL.
        let descriptor = unsafe { libc::memfd_create(c"stretch".as_ptr(), libc::MFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let file = unsafe { File::from_raw_fd(descriptor) };
        file.write_all_at(bytes, 0)?;
        Stretch::new(Arc::new(file), 0, bytes.len())
    }

    pub fn len(&self) -> usize {
        self.size
    }

    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Passes over the first `count` bytes, or all.
    pub fn advance(&mut self, count: usize) {
        let count = count.min(self.size);
        self.position += count as u64;
        self.size -= count;
    }

    /// Gives a socket as many of the bytes as it takes now.
    ///
    /// # Errors
    /// `WouldBlock`; `UnexpectedEof` if the file was cut meanwhile; the system's.
    pub fn send(&self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut position = self.position as libc::off_t;
        let count = self.size.min(CALL_SIZE_MAX);
        // SAFETY: both descriptors are open, and `position` outlives the call.
        let sent = unsafe { libc::sendfile(socket.as_raw_fd(), self.file.as_raw_fd(), &mut position, count) };
        match usize::try_from(sent) {
            Err(_) => Err(io::Error::last_os_error()),
            Ok(0) if count > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => Ok(sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_socket_gets_the_bytes_of_its_part_and_no_others() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 / 5) as u8).collect();
        file.write_all(&bytes).unwrap();
        let file = Arc::new(file);
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reader = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        let (socket, _) = door.accept().unwrap();
        let reading = std::thread::spawn(move || {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            got
        });
        let (from, size) = (4_097, 2_500_001);
        let mut stretch = Stretch::new(file.clone(), from as u64, size).unwrap();
        while !stretch.is_empty() {
            let sent = stretch.send(socket.as_fd()).unwrap();
            assert!(sent <= CALL_SIZE_MAX);
            stretch.advance(sent);
        }
        drop(socket);
        assert!(reading.join().unwrap() == bytes[from..from + size]);
    }

    /// A file that is not in the page cache; beside the build, since a temporary folder may be nothing but memory.
    fn cold(name: &str, size: usize) -> Arc<File> {
        let path = std::env::current_exe().unwrap().with_file_name(format!("stretch.{name}.{}", std::process::id()));
        std::fs::write(&path, vec![7; size]).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        file.sync_all().unwrap();
        // SAFETY: a plain call on an open descriptor.
        assert_eq!(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) }, 0);
        file
    }

    /// Pages that a read would have to wait for. Asking brings them in.
    fn missing(file: &File, size: usize) -> usize {
        let mut byte = [0u8];
        let part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let is_missing = |at: &usize| {
            // SAFETY: the descriptor is open, and `part` names one byte that outlives the call.
            unsafe { libc::preadv2(file.as_raw_fd(), &part, 1, *at as libc::off_t, libc::RWF_NOWAIT) != 1 }
        };
        (0..size).step_by(4_096).filter(is_missing).count()
    }

    #[test]
    fn all_of_it_is_in_the_page_cache_at_once() {
        let size = 24 << 20;
        if missing(&cold("asked", size), size) == 0 {
            eprintln!("skipped: the file system of the build keeps everything in memory");
            return;
        }
        let file = cold("stretched", size);
        let _stretch = Stretch::new(file.clone(), 0, size).unwrap();
        assert_eq!(missing(&file, size), 0);
    }

    #[test]
    fn a_file_that_is_too_short_is_an_error_before_and_after_it_was_cut() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10_000).unwrap();
        let file = Arc::new(file);
        let kind = |result: io::Result<Stretch>| result.map(|stretch| stretch.len()).map_err(|error| error.kind());
        assert_eq!(kind(Stretch::new(file.clone(), 1, 10_000)), Err(io::ErrorKind::UnexpectedEof));
        let stretch = Stretch::new(file.clone(), 0, 10_000).unwrap();
        file.set_len(0).unwrap();
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let _reader = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        let (socket, _) = door.accept().unwrap();
        assert_eq!(stretch.send(socket.as_fd()).map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
    }
}
