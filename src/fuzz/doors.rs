//! Frames and requests against the doors of a whole daemon in this process.
//!
//! Slower than a decoder alone, and the only way to meet what lies behind it: limits, stops, answers to nonsense.

use crate::daemon::{self, Options, Running};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

/// An answer that takes longer is not waited for: a fetch may wait for records as long as it likes.
const PATIENCE: Duration = Duration::from_millis(100);
/// The daemon closes after what it answered; this much of an answer is looked at.
const ANSWER_SIZE_MAX: usize = 1 << 20;

static DAEMON: LazyLock<Running> = LazyLock::new(|| {
    // SAFETY: sets a disposition that touches no memory of ours. Rust's own `main` does so too; libFuzzer's does not, and a client that is
    // gone would end the process.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let folder = std::env::temp_dir().join(format!("inrush-fuzz-{}", std::process::id()));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut options = Options::new(folder.clone());
    options.pipelines = folder.join("none");
    (options.http, options.kafka, options.admin) = (any, any, any);
    options.low_disk_bytes = Some(1 << 20);
    daemon::start(options).expect("a daemon starts in a new folder")
});

/// What follows a frame's size.
pub(super) fn kafka(bytes: &[u8]) {
    let mut frame = (bytes.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(bytes);
    exchange(DAEMON.kafka, &frame);
}

/// A request as it stands on the wire.
pub(super) fn http(bytes: &[u8]) {
    exchange(DAEMON.http, bytes);
}

/// Sends, then closes that side. Whatever comes back is right; a panic in the daemon is not, and ends this process.
fn exchange(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the daemon listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    // The daemon may close before it has read all: that is an answer too.
    if stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write)).is_err() {
        return;
    }
    let mut answer = Vec::new();
    let _ = stream.take(ANSWER_SIZE_MAX as u64).read_to_end(&mut answer);
    assert!(DAEMON.store.health().poisoned.is_none(), "a client's bytes poisoned the log");
}
