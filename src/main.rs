//! The binary: hands the arguments to [`inrush::cli`] and its exit code to the system.

/// Batches are made on one thread and freed on another; the system allocator pays for that with a lock, this one does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    without_huge_pages();
    inrush::cli::run()
}

/// A huge page is zeroed as a whole by whoever touches it first: a thread that serves a thousand clients stands still for 3 to 10 ms.
fn without_huge_pages() {
    // SAFETY: it takes numbers only. An older kernel that does not know it goes on as before.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}
