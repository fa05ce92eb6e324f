//! Signals, and what systemd is told: ready, reloading, alive, stopping.

use crate::control::{Command, Control};
use crate::pulse::Pulse;
use crate::store::Store;
use sd_notify::NotifyState;
use std::io;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// A writer that waits longer for the disk counts as dead.
const WRITER_LIFE: Duration = Duration::from_secs(120);
/// Without systemd the loops are judged all the same, for the log.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The signals that the daemon listens to.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}

/// Feeds systemd's watchdog while every loop beats and no writer has waited too long for its disk. Pipelines have no say in it.
pub(super) struct Watchdog {
    pulses: Vec<Pulse>,
    store: Store,
    interval: Duration,
    is_well: bool,
}

impl Watchdog {
    pub(super) fn new(pulses: Vec<Pulse>, store: Store) -> Watchdog {
        // systemd wants a sign in each interval; half of it is what sd_watchdog_enabled(3) advises.
        let interval = sd_notify::watchdog_enabled().map_or(LOOK_INTERVAL, |interval| interval / 2);
        Watchdog { pulses, store, interval: interval.max(Duration::from_millis(100)), is_well: true }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    fn look(&mut self) {
        let why = silent(&self.pulses, self.store.health().writer_waits);
        match &why {
            None => {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
                if !self.is_well {
                    warn!("all loops are alive again");
                }
            }
            Some(why) if self.is_well => error!(%why, "the watchdog is not fed any more"),
            Some(_) => {}
        }
        self.is_well = why.is_none();
    }
}

/// What hangs, if anything does.
fn silent(pulses: &[Pulse], writer_waits: Duration) -> Option<String> {
    if writer_waits >= WRITER_LIFE {
        return Some(format!("the log writer has waited {} s for the disk", writer_waits.as_secs()));
    }
    let silent = pulses.iter().find(|pulse| !pulse.is_alive())?;
    Some(format!("{} gave no sign of life for {} s", silent.name, silent.silence().as_secs()))
}

/// Tells systemd that the daemon is ready; returns at SIGTERM or SIGINT.
pub(super) async fn until_stop(signals: &mut Signals, watchdog: &mut Watchdog, control: &Control) {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let mut tick = tokio::time::interval(watchdog.interval);
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break,
                // A task of its own: a pipeline that takes its time to swap must not starve the watchdog.
                Asked::Reload => drop(tokio::spawn(reload(control.clone()))),
            },
            _ = tick.tick() => watchdog.look(),
        }
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// Runs beside the stop: a second signal ends the process at once, and systemd hears that the stop goes on, for as long as it may.
pub(super) async fn while_stopping(mut signals: Signals, deadline: Duration, interval: Duration) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(interval);
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => {
                    // Nothing that was answered is lost: the next start recovers, as after a crash.
                    warn!("a second signal: ending at once");
                    std::process::exit(1);
                }
                Asked::Reload => {}
            },
            _ = tick.tick() => {
                if began.elapsed() < deadline {
                    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
                }
            }
        }
    }
}

async fn reload(control: Control) {
    let reloading = NotifyState::monotonic_usec_now();
    let _ = match reloading {
        Ok(now) => sd_notify::notify(&[NotifyState::Reloading, now]),
        Err(_) => sd_notify::notify(&[NotifyState::Reloading]),
    };
    match control.ask(Command::Reload { pipeline: None, drop_state: false }).await {
        Ok(answer) => {
            for (pipeline, result) in answer {
                match result {
                    Ok(done) => info!(%pipeline, %done, "reload"),
                    Err(reason) => error!(%pipeline, %reason, "reload"),
                }
            }
        }
        Err(busy) => error!(%busy, "reload"),
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pulse::SILENCE_MAX;

    #[test]
    fn a_loop_that_hangs_starves_the_watchdog_and_is_named() {
        let alive = Pulse::new("the HTTP door");
        assert_eq!(silent(std::slice::from_ref(&alive), Duration::ZERO), None);
        let hangs = Pulse::silent_for("the batcher", SILENCE_MAX * 2);
        let why = silent(&[alive, hangs], Duration::ZERO).unwrap();
        assert!(why.starts_with("the batcher"), "{why}");
    }

    #[test]
    fn a_writer_may_wait_for_its_disk_for_two_minutes() {
        assert_eq!(silent(&[], WRITER_LIFE - Duration::from_secs(1)), None);
        assert!(silent(&[], WRITER_LIFE).is_some());
    }
}
