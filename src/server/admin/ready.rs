//! What makes `/readyz` red, judged from the store's health and the pipelines' board; pure, so that every rule is a test.

use crate::clock::Millis;
use crate::control::{PipelineStatus, State};
use crate::pulse::Pulse;
use crate::store::Health;
use std::time::Duration;

/// A writer that waits longer than this for the disk turns `/readyz` red.
pub const WRITER_PATIENCE: Duration = Duration::from_secs(10);
/// A pipeline without a beat for this long is named.
pub const BEAT_PATIENCE_MS: Millis = 60_000;
/// Windows that wait for one partition for so long are named.
pub const WINDOW_PATIENCE_S: u64 = 60;

/// The answer of `/readyz`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    pub is_ready: bool,
    /// What makes it red.
    pub reasons: Vec<String>,
    /// What a person should look at, though events are taken in.
    pub warnings: Vec<String>,
}

/// Judges. `groups` is why consumer groups are not served. A pipeline in trouble is named and does not turn the daemon red unless it is stalled or silent: ingest goes on without it.
pub fn readiness(
    health: &Health,
    groups: Option<&str>,
    pulses: &[Pulse],
    pipelines: &[PipelineStatus],
    now_ms: Millis,
) -> Readiness {
    let mut reasons = Vec::new();
    let mut warnings = Vec::new();
    if let Some(cause) = &health.poisoned {
        reasons.push(format!("the data folder takes no writes any more: {cause}"));
    }
    if let Some(free) = health.low_disk {
        reasons.push(format!("the disk is nearly full: {} MiB free", free >> 20));
    }
    if health.writer_waits > WRITER_PATIENCE {
        reasons.push(format!("the log writer has waited {} s for the disk", health.writer_waits.as_secs()));
    }
    for pulse in pulses.iter().filter(|pulse| !pulse.is_alive()) {
        reasons.push(format!("{} gave no sign of life for {} s", pulse.name, pulse.silence().as_secs()));
    }
    for (topic, partition, reason) in &health.read_only {
        reasons.push(format!("{topic}/{partition} is read-only: {reason}"));
    }
    if let Some(why) = groups {
        reasons.push(format!(
            "consumer groups are not served, they cannot be read: {why}; stop the daemon and see inrush log verify"
        ));
    }
    for pipeline in pipelines {
        let why = pipeline.reason.as_deref().unwrap_or("no reason given");
        match pipeline.state {
            State::Stalled => reasons.push(format!("pipeline {} is stalled: {why}", pipeline.name)),
            State::Failed => reasons.push(format!("pipeline {} failed: {why}", pipeline.name)),
            State::NoTopic => warnings.push(format!("pipeline {} waits for {}", pipeline.name, pipeline.source)),
            State::Paused => warnings.push(format!(
                "pipeline {} is paused, {} records behind; inrush pipeline resume {0} lets it go on",
                pipeline.name, pipeline.lag_records
            )),
            State::Starting | State::Running | State::Stopped => {}
        }
        // Where nothing comes, a mark moves the time after 30 s: longer is no rest, and somebody should look.
        let waits = pipeline.windows_wait_for.iter().filter(|wait| wait.seconds >= WINDOW_PATIENCE_S);
        warnings.extend(waits.map(|wait| format!("pipeline {}: {wait}", pipeline.name)));
        warnings.extend(pipeline.warnings.iter().map(|warning| format!("pipeline {}: {warning}", pipeline.name)));
        let is_meant_to_beat = !matches!(pipeline.state, State::Stopped | State::Failed);
        if is_meant_to_beat && now_ms.saturating_sub(pipeline.beat_ms) > BEAT_PATIENCE_MS {
            reasons.push(format!(
                "pipeline {} gave no sign of life for {} s",
                pipeline.name,
                (now_ms - pipeline.beat_ms) / 1000
            ));
        }
    }
    Readiness { is_ready: reasons.is_empty(), reasons, warnings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{CpuStatus, WindowWait};
    use std::collections::BTreeMap;

    fn pipeline(state: State, beat_ms: Millis) -> PipelineStatus {
        PipelineStatus {
            name: "clicks".to_owned(),
            file: "clicks.toml".to_owned(),
            state,
            reason: Some("sink answers EIO".to_owned()),
            warnings: Vec::new(),
            source: "topic:clicks".to_owned(),
            outputs: vec!["parquet clicks".to_owned()],
            positions: BTreeMap::new(),
            committed: BTreeMap::new(),
            lag_records: 0,
            lag_seconds: 0.0,
            records_read: 0,
            rows_written: 0,
            filtered: 0,
            dead_letters: 0,
            retries: 0,
            stalls: 0,
            cpu: CpuStatus::default(),
            windows_wait_for: Vec::new(),
            beat_ms,
            cut_ms: None,
        }
    }

    #[test]
    fn a_daemon_with_nothing_wrong_is_ready() {
        assert!(readiness(&Health::default(), None, &[], &[pipeline(State::Running, 1_000)], 2_000).is_ready);
    }

    #[test]
    fn groups_that_cannot_be_read_turn_it_red() {
        let found = readiness(&Health::default(), Some("a damaged batch"), &[], &[], 0);
        assert!(!found.is_ready && found.reasons[0].contains("a damaged batch"), "{found:?}");
    }

    #[test]
    fn a_silent_pipeline_is_named() {
        let found = readiness(&Health::default(), None, &[], &[pipeline(State::Running, 0)], BEAT_PATIENCE_MS + 1);
        assert!(!found.is_ready && found.reasons[0].contains("clicks"), "{found:?}");
    }

    #[test]
    fn a_warning_of_a_running_pipeline_is_shown_and_turns_nothing_red() {
        let running = PipelineStatus { warnings: vec!["3 records left".to_owned()], ..pipeline(State::Running, 1_000) };
        let found = readiness(&Health::default(), None, &[], &[running], 2_000);
        assert!(found.is_ready && found.warnings[0].contains("clicks: 3 records left"), "{found:?}");
    }

    #[test]
    fn a_pipeline_that_waits_for_its_topic_is_no_alarm() {
        let found = readiness(&Health::default(), None, &[], &[pipeline(State::NoTopic, 0)], 1_000);
        assert!(found.is_ready && found.warnings.len() == 1, "{found:?}");
    }

    #[test]
    fn a_paused_pipeline_is_told_and_is_no_alarm() {
        let paused = PipelineStatus { lag_records: 7, ..pipeline(State::Paused, 1_000) };
        let found = readiness(&Health::default(), None, &[], &[paused], 2_000);
        assert!(found.is_ready && found.warnings[0].contains("clicks is paused, 7 records behind"), "{found:?}");
    }

    #[test]
    fn a_partition_that_windows_wait_for_is_named_once_it_takes_longer_than_a_mark() {
        for (seconds, count) in [(WINDOW_PATIENCE_S - 1, 0), (WINDOW_PATIENCE_S, 1)] {
            let wait = WindowWait { partition: 3, time: Some("2026-01-02T03:04:05Z".to_owned()), seconds };
            let running = PipelineStatus { windows_wait_for: vec![wait], ..pipeline(State::Running, 1_000) };
            let found = readiness(&Health::default(), None, &[], &[running], 2_000);
            assert!(found.is_ready && found.warnings.len() == count, "{found:?}");
            let is_named =
                |told: &String| told.contains("clicks: windows wait for partition 3 (its time is 2026-01-02");
            assert!(found.warnings.iter().all(is_named), "{found:?}");
        }
    }

    #[test]
    fn each_trouble_of_the_log_turns_it_red() {
        let troubles = [
            Health { poisoned: Some("EIO".to_owned()), ..Health::default() },
            Health { low_disk: Some(1 << 20), ..Health::default() },
            Health { writer_waits: WRITER_PATIENCE + Duration::from_millis(1), ..Health::default() },
        ];
        for trouble in troubles {
            assert!(!readiness(&trouble, None, &[], &[], 0).is_ready, "{trouble:?}");
        }
    }

    #[test]
    fn a_door_that_hangs_is_named() {
        let pulses = [Pulse::new("the HTTP door"), Pulse::silent_for("the batcher", crate::pulse::SILENCE_MAX * 2)];
        let found = readiness(&Health::default(), None, &pulses, &[], 0);
        assert!(!found.is_ready && found.reasons.len() == 1 && found.reasons[0].contains("the batcher"), "{found:?}");
    }
}
