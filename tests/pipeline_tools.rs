//! What a person writes and understands a pipeline with, from outside: the commands on files, and a tap on a running daemon.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

const FILE: &str = r#"from   = "topic:t"
where  = "n > 1"   # not the first
select = "n, n + 1 as next"
to     = { topic = "out" }

[columns]
n = "int64"

[[test]]
given  = { value = '{"n":2}' }
expect = '{"next":4}'
"#;

fn inrush(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_inrush"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What it does not read is no error.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_test_that_fails_is_updated_once_and_then_passes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, FILE).unwrap();
    assert_eq!(inrush(&["pipeline", "test", path], "").status.code(), Some(1));
    let updated = inrush(&["pipeline", "test", path, "--update", "--json"], "");
    assert!(updated.status.success(), "{updated:?}");
    let told: Value = serde_json::from_slice(&updated.stdout).unwrap();
    assert_eq!(told["changes"][0]["now"][0], "expect = '{\"next\":3}'");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), FILE.replace(":4", ":3"));
    assert!(inrush(&["pipeline", "test", path], "").status.success());
    assert!(text(&inrush(&["pipeline", "test", path, "--update"], "").stdout).contains("0 tests updated"));
    std::fs::write(&file, FILE.replace("n > 1", "m > 1")).unwrap();
    assert!(!inrush(&["pipeline", "test", path, "--update"], "").status.success());
}

#[test]
fn a_file_is_explained_run_and_measured_without_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, FILE).unwrap();
    let events = folder.path().join("events");
    std::fs::write(&events, "{\"n\":1,\"x\":2}\n{\"n\":\"a\"}\n{\"n\":5}\n").unwrap();
    let events = events.to_str().unwrap();
    let told = inrush(&["pipeline", "explain", path, "--from", events], "");
    let told = text(&told.stdout);
    for wanted in ["/x ", "in 1 of 3", "where: keeps the rows", "n + 1 as next", "what fails goes to topic t-dlt"] {
        assert!(told.contains(wanted), "{wanted}:\n{told}");
    }
    let checked = inrush(&["pipeline", "check", path, "--from", events, "--json"], "");
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(checked["seen"]["unread"][0]["place"], "/x");
    let ran = inrush(&["pipeline", "run", path, "--dry"], "{\"n\":1}\n{\"n\":\"a\"}\n{\"n\":5}\n");
    assert_eq!(text(&ran.stdout), "{\"n\":5,\"next\":6}\n");
    assert!(text(&ran.stderr).contains("line 2: wrong-type in n") && text(&ran.stderr).contains("1 filtered: false"));
    let measured = inrush(&["pipeline", "bench", path, "--from", events, "--json"], "");
    let measured: Value = serde_json::from_slice(&measured.stdout).unwrap();
    assert_eq!((measured["events"].as_u64(), measured["rows"].as_u64()), (Some(3), Some(1)), "{measured}");
    assert!(measured["rounds"].as_u64().unwrap() >= 5 && measured["parts"].as_array().unwrap().len() == 4);
}

/// Killed when dropped.
struct Daemon {
    child: Child,
    http: String,
    admin: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn daemon(folder: &Path) -> Daemon {
    let (daemon, stderr) = started(folder);
    std::thread::spawn(move || stderr.lines().for_each(drop));
    daemon
}

/// A daemon that is ready, and its standard error.
fn started(folder: &Path) -> (Daemon, BufReader<ChildStderr>) {
    let shown = folder.display();
    let config = format!(
        "data = \"{shown}/data\"\nout = \"{shown}/out\"\npipelines = \"{shown}/pipelines\"\nhttp = \"127.0.0.1:0\"\nkafka = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nengine = \"std\"\nlow-disk = \"1MiB\"\n"
    );
    std::fs::write(folder.join("inrush.toml"), config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_inrush"))
        .args(["serve", "--config"])
        .arg(folder.join("inrush.toml"))
        .env("INRUSH_LOG_FORMAT", "json")
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let ready = loop {
        let line = stderr.by_ref().lines().next().expect("the daemon ended").unwrap();
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if event["fields"]["message"] == "inrush is ready" {
            break event;
        }
    };
    let address = |door: &str| ready["fields"][door].as_str().unwrap().to_owned();
    (Daemon { http: address("http"), admin: address("admin"), child }, stderr)
}

#[test]
fn a_daemon_whose_log_nobody_reads_any_more_goes_on_and_stops_as_it_should() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    std::fs::write(folder.path().join("pipelines/p.toml"), FILE).unwrap();
    let (mut daemon, stderr) = started(folder.path());
    drop(stderr);
    // All of this is logged.
    assert!(inrush(&["produce", "t", "--http", &daemon.http], "{\"n\":7}\n").status.success());
    for text in ["broken", FILE] {
        std::fs::write(folder.path().join("pipelines/p.toml"), text).unwrap();
        let reloaded = inrush(&["pipeline", "--admin", &daemon.admin, "reload"], "");
        assert_eq!(reloaded.status.success(), text == FILE, "{reloaded:?}");
    }
    let began = Instant::now();
    while !inrush(&["dlt", "--admin", &daemon.admin, "list"], "").status.success() {
        assert!(began.elapsed() < Duration::from_secs(60));
    }
    let killed = Command::new("kill").arg(daemon.child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let ended = daemon.child.wait().unwrap();
    assert!(ended.success(), "{ended:?}");
}

#[test]
fn rows_of_a_running_daemon_are_tapped_until_they_are_enough_or_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    std::fs::write(folder.path().join("pipelines/p.toml"), FILE).unwrap();
    let daemon = daemon(folder.path());
    // Its file is read beside the start.
    let began = Instant::now();
    let is_on = || text(&inrush(&["pipeline", "--admin", &daemon.admin, "status"], "").stdout).contains("no-topic");
    while !is_on() {
        assert!(began.elapsed() < Duration::from_secs(60), "the pipeline was never started");
        std::thread::sleep(Duration::from_millis(20));
    }
    let tap = |more: &[&str]| {
        let arguments = ["pipeline", "--admin", &daemon.admin, "tap", "p"];
        Command::new(env!("CARGO_BIN_EXE_inrush"))
            .args(arguments.iter().chain(more))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // Sent until they are seen: a tap shows what comes after it.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let http = daemon.http.clone();
    let sender = std::thread::spawn(move || {
        while stopped
            .recv_timeout(Duration::from_millis(50))
            .is_err_and(|why| why == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            let sent = inrush(&["produce", "t", "--http", &http], "{\"n\":1}\n{\"n\":\"x\"}\n{\"n\":7}\n");
            assert!(sent.status.success(), "{sent:?}");
        }
    });
    let rows = tap(&["--limit", "2"]).wait_with_output().unwrap();
    assert_eq!(text(&rows.stdout), "{\"n\":7,\"next\":8}\n".repeat(2), "{rows:?}");
    let before =
        tap(&["--after", "where", "--where", "n = 7", "--bad", "--limit", "3", "--json"]).wait_with_output().unwrap();
    let lines: Vec<Value> = text(&before.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["filtered"] == "false" && line["row"]["n"] == 1), "{lines:#?}");
    assert!(lines.iter().any(|line| line["dead"] == "wrong-type"), "{lines:#?}");
    assert!(lines.last().unwrap()["end"].is_string(), "{lines:#?}");
    let wrong = tap(&["--after", "9"]).wait_with_output().unwrap();
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("there is no step 9"), "{wrong:?}");
    let mut last = tap(&[]);
    let mut line = String::new();
    let mut lines = BufReader::new(last.stdout.take().unwrap());
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"n\":7,\"next\":8}\n");
    stop.send(()).unwrap();
    sender.join().unwrap();
    Command::new("kill").arg(daemon.child.id().to_string()).status().unwrap();
    let ended = last.wait_with_output().unwrap();
    assert!(ended.status.success() && text(&ended.stderr).contains("ended: the daemon stops"), "{ended:?}");
}

/// Of a command whose standard output nobody reads.
fn unread(arguments: &[&str], stdin: &str) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(env!("CARGO_BIN_EXE_inrush"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn a_command_that_nobody_reads_ends_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipelines/p.toml");
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    std::fs::write(&file, FILE).unwrap();
    let daemon = daemon(folder.path());
    let (file, http, admin) = (file.to_str().unwrap(), daemon.http.as_str(), daemon.admin.as_str());
    let began = Instant::now();
    let is_soon = || assert!(began.elapsed() < Duration::from_secs(60));
    let produce = || assert!(inrush(&["produce", "t", "--http", http], "{\"n\":7}\n").status.success());
    produce();
    while !inrush(&["dlt", "--admin", admin, "show", "t"], "").status.success() {
        is_soon();
    }
    let ends = |ended: &Output| {
        assert_eq!((ended.status.signal(), text(&ended.stderr)), (Some(libc::SIGPIPE), ""), "{ended:?}");
    };
    let commands: [&[&str]; 13] = [
        &["functions"],
        &["pipeline", "schema"],
        &["pipeline", "check", file],
        &["pipeline", "explain", file],
        &["pipeline", "test", file],
        &["pipeline", "run", file],
        &["pipeline", "--admin", admin, "status"],
        &["topic", "--http", http, "list"],
        &["consume", "t", "--http", http],
        &["dlt", "--admin", admin, "list"],
        &["dlt", "--admin", admin, "show", "t"],
        &["produce", "t", "--http", http],
        &["gen", "clicks", "--http", http, "--events", "3", "--rate", "max"],
    ];
    for command in commands {
        println!("{command:?}");
        ends(&unread(command, "{\"n\":7}\n"));
    }
    // A row comes to it first.
    std::thread::scope(|scope| {
        let tap = scope.spawn(|| unread(&["pipeline", "--admin", admin, "tap", "p"], ""));
        while !tap.is_finished() {
            is_soon();
            produce();
        }
        ends(&tap.join().unwrap());
    });
}
