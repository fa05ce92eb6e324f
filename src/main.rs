//! The binary: hands the arguments to [`inrush::cli`] and its exit code to the system.

/// Batches are made on one thread and freed on another; the system allocator pays for that with a lock, this one does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    inrush::work::without_huge_pages();
    inrush::cli::run()
}
