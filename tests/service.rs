//! The daemon as systemd sees it: ready, alive while its loops turn, reloading, stopping.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon and the socket that it tells its state on.
struct Service {
    child: Child,
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start() -> Service {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_inrush"))
            .args(["serve", "--http", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--data")
            .arg(folder.path().join("data"))
            .arg("--pipelines")
            .arg(folder.path().join("pipelines"))
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "400000")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Service { child, socket, _folder: folder }
    }

    /// Reads what the daemon tells until it tells `wanted`; gives all of it.
    fn hear(&self, wanted: &str) -> Vec<String> {
        let began = Instant::now();
        let mut heard = Vec::new();
        let mut buffer = [0; 1_024];
        while began.elapsed() < PATIENCE {
            let size = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}, {heard:?}"));
            heard.push(String::from_utf8_lossy(&buffer[..size]).into_owned());
            if heard.iter().any(|said| said.contains(wanted)) {
                return heard;
            }
        }
        panic!("no {wanted} among {heard:?}");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

#[test]
fn systemd_hears_ready_alive_reloading_and_stopping() {
    let mut service = Service::start();
    let before = service.hear("READY=1");
    assert!(before.iter().all(|said| !said.contains("WATCHDOG=1")), "{before:?}");
    service.hear("WATCHDOG=1");
    service.hear("WATCHDOG=1");
    service.signal("-HUP");
    service.hear("RELOADING=1");
    service.hear("READY=1");
    service.signal("-TERM");
    service.hear("STOPPING=1");
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
}
