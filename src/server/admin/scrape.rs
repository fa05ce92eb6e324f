//! The lines of `/metrics` that are measured when somebody asks: the process, memory that requests hold, the pipelines' board.
//!
//! They are written here and not kept as gauges, so that a pipeline that is gone leaves no line behind.

use super::Admin;
use crate::control::{PipelineStatus, State};
use crate::metrics::{
    DAEMON_OPEN_FILES, DAEMON_RESIDENT_BYTES, INGEST_MEMORY_BYTES, INGEST_MEMORY_LIMIT_BYTES, Kind, Metric, READY,
    STORE_TOPICS, STREAM_CPU_HELD_SECONDS, STREAM_CPU_SECONDS, STREAM_LAST_CUT_AGE, STREAM_SILENCE_SECONDS,
    STREAM_STALLED, STREAM_UP,
};
use std::fmt::Write;

/// All such lines, in Prometheus's text form.
pub(super) fn text(admin: &Admin, is_ready: bool) -> String {
    let mut out = String::new();
    let (limit, free) = (admin.budget.limit(), admin.budget.free());
    one(&mut out, INGEST_MEMORY_BYTES, (limit - free.min(limit)) as f64);
    one(&mut out, INGEST_MEMORY_LIMIT_BYTES, limit as f64);
    one(&mut out, STORE_TOPICS, admin.store.topics().len() as f64);
    one(&mut out, READY, f64::from(u8::from(is_ready)));
    if let Some(bytes) = resident_bytes() {
        one(&mut out, DAEMON_RESIDENT_BYTES, bytes as f64);
    }
    if let Some(count) = open_files() {
        one(&mut out, DAEMON_OPEN_FILES, count as f64);
    }
    let mut statuses = admin.control.statuses();
    // The line of a replay that is over stays for people.
    statuses.retain(|status| !status.is_replay() || status.state != State::Stopped);
    let now_ms = admin.clock.now_ms();
    by_pipeline(&mut out, STREAM_UP, &statuses, |status| {
        f64::from(u8::from(!matches!(status.state, State::Stalled | State::Failed)))
    });
    by_pipeline(&mut out, STREAM_STALLED, &statuses, |status| f64::from(u8::from(status.state == State::Stalled)));
    let live: Vec<PipelineStatus> = statuses.iter().filter(|status| !status.is_replay()).cloned().collect();
    by_pipeline(&mut out, STREAM_LAST_CUT_AGE, &live, |status| {
        status.cut_ms.map_or(0.0, |cut_ms| now_ms.saturating_sub(cut_ms).max(0) as f64 / 1e3)
    });
    by_pipeline(&mut out, STREAM_SILENCE_SECONDS, &statuses, |status| {
        now_ms.saturating_sub(status.beat_ms).max(0) as f64 / 1e3
    });
    by_pipeline(&mut out, STREAM_CPU_SECONDS, &statuses, |status| status.cpu.seconds);
    by_pipeline(&mut out, STREAM_CPU_HELD_SECONDS, &statuses, |status| status.cpu.held_seconds);
    out
}

fn head(out: &mut String, metric: Metric) {
    let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
    let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.meaning, metric.name);
}

fn one(out: &mut String, metric: Metric, value: f64) {
    head(out, metric);
    let _ = writeln!(out, "{} {value}\n", metric.name);
}

fn by_pipeline(out: &mut String, metric: Metric, statuses: &[PipelineStatus], value: impl Fn(&PipelineStatus) -> f64) {
    if statuses.is_empty() {
        return;
    }
    head(out, metric);
    for status in statuses {
        let name = status.name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = writeln!(out, "{}{{pipeline=\"{name}\"}} {}", metric.name, value(status));
    }
    out.push('\n');
}

/// Memory that the process holds now; `None` where `/proc` says nothing.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

fn open_files() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_written_as_prometheus_reads_it() {
        let mut out = String::new();
        one(&mut out, READY, 1.0);
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("# HELP inrush_server_ready "), "{out}");
        assert_eq!(lines[1..3], ["# TYPE inrush_server_ready gauge", "inrush_server_ready 1"]);
    }

    #[test]
    fn the_process_is_measured() {
        assert!(resident_bytes().unwrap() > 1 << 20 && open_files().unwrap() > 2);
    }
}
