//! [`Buffer`]: memory that O_DIRECT takes. The only place of this room that handles raw memory, besides the ring.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// Start and capacity of a buffer, and with O_DIRECT position and size of a write, are multiples of this.
pub const ALIGNMENT: usize = 4096;

/// Growable bytes whose start and capacity are multiples of [`ALIGNMENT`].
pub struct Buffer {
    start: NonNull<u8>,
    capacity: usize,
    size: usize,
}

// SAFETY: a Buffer owns its memory alone, as a Vec<u8> does; nothing in it is tied to a thread.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// An empty buffer with room for `capacity` bytes, rounded up. Zero allocates nothing.
    pub fn with_capacity(capacity: usize) -> Buffer {
        let mut buffer = Buffer { start: NonNull::dangling(), capacity: 0, size: 0 };
        if capacity > 0 {
            buffer.grow_to(capacity);
        }
        buffer
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `size` bytes from `start` are initialised (extend and pad write before they raise it); dangling only if size is 0.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes it the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }

    pub fn len(&self) -> usize {
        self.size
    }

    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn clear(&mut self) {
        self.size = 0;
    }

    /// Makes room for `capacity` bytes in all; keeps what it holds.
    pub fn reserve(&mut self, capacity: usize) {
        if capacity > self.capacity {
            self.grow_to(capacity);
        }
    }

    /// Appends a copy of `bytes`, growing by doubling.
    pub fn extend(&mut self, bytes: &[u8]) {
        let size = self.size + bytes.len();
        if size > self.capacity {
            self.grow_to(size.max(self.capacity * 2));
        }
        // SAFETY: capacity holds `size` bytes from `start`, and `bytes` cannot overlap memory that this buffer owns mutably.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(self.size), bytes.len()) };
        self.size = size;
    }

    /// Appends what one call reads of a file from `position` on, `count` bytes at most; 0 at its end.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn read_from(&mut self, file: &File, position: u64, count: usize) -> io::Result<usize> {
        self.reserve(self.size + count);
        // SAFETY: the descriptor is open, and capacity holds `count` bytes from `size` on, which this buffer owns mutably.
        let read = unsafe {
            libc::pread(file.as_raw_fd(), self.start.as_ptr().add(self.size).cast(), count, position as libc::off_t)
        };
        let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        // The kernel filled so many.
        self.size += read;
        Ok(read)
    }

    /// Appends zeros up to the capacity.
    pub fn fill_with_zeros(&mut self) {
        // SAFETY: capacity holds the bytes from `size` on.
        unsafe { self.start.as_ptr().add(self.size).write_bytes(0, self.capacity - self.size) };
        self.size = self.capacity;
    }

    /// Appends zeros up to the next multiple of [`ALIGNMENT`].
    pub fn pad(&mut self) {
        let size = self.size.next_multiple_of(ALIGNMENT);
        if size > self.capacity {
            self.grow_to(size);
        }
        // SAFETY: capacity holds `size` bytes from `start`.
        unsafe { self.start.as_ptr().add(self.size).write_bytes(0, size - self.size) };
        self.size = size;
    }

    fn grow_to(&mut self, capacity: usize) {
        let layout = layout(capacity);
        // SAFETY: the layout's size is not 0, since capacity is not.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: the old memory holds `size` initialised bytes, the new one more; they are distinct allocations.
        unsafe { std::ptr::copy_nonoverlapping(self.start.as_ptr(), start.as_ptr(), self.size) };
        self.free();
        self.start = start;
        self.capacity = layout.size();
    }

    fn free(&mut self) {
        if self.capacity > 0 {
            // SAFETY: `start` was allocated by grow_to with exactly this layout and is freed once: capacity is set anew or the buffer dropped.
            unsafe { dealloc(self.start.as_ptr(), layout(self.capacity)) };
        }
    }
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity.next_multiple_of(ALIGNMENT), ALIGNMENT)
        .expect("a buffer is a few dozen MiB at most, far under isize::MAX")
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.free();
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.size, self.capacity)
    }
}

// SAFETY: the memory is on the heap and does not move when the Buffer does; `bytes_init` bytes from the start are initialised.
unsafe impl tokio_uring::buf::IoBuf for Buffer {
    fn stable_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.size
    }

    fn bytes_total(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_and_padding_are_aligned_while_it_grows() {
        let mut buffer = Buffer::with_capacity(10);
        let mut expected = Vec::new();
        for round in 0..100u8 {
            buffer.extend(&[round; 777]);
            expected.extend_from_slice(&[round; 777]);
            assert_eq!(buffer.as_slice().as_ptr() as usize % ALIGNMENT, 0);
        }
        buffer.pad();
        assert_eq!(buffer.len() % ALIGNMENT, 0);
        assert_eq!(&buffer.as_slice()[..expected.len()], expected);
        assert!(buffer.as_slice()[expected.len()..].iter().all(|byte| *byte == 0));
    }
}
