//! The thread that stands for a feed in its group: signs of life and commits go out whatever the brokers do that are read from.

use super::feed::{PAUSE, Shared, Watch};
use crate::kafka::{Error, Standing};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Between signs of life to a group.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// What was cut is committed after this at the latest.
const COMMIT_WAIT: Duration = Duration::from_millis(200);

pub(super) struct Keeper {
    shared: Arc<Shared>,
    topic: String,
    /// When the group last got a sign of life. A commit is none: while a group gathers its members it is taken without a word of that, and
    /// who commits all the time would never hear of it.
    heard: Instant,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, topic: &str) -> Keeper {
        Keeper { shared, topic: topic.to_owned(), heard: Instant::now() }
    }

    pub(super) fn run(mut self) {
        let _watch = Watch(self.shared.clone());
        while !self.shared.is_stopped() {
            let trouble = self.keep_membership().err().map(|error| error.to_string());
            let is_well = trouble.is_none();
            let before = std::mem::replace(&mut self.shared.state().group_trouble, trouble.clone());
            if let Some(reason) = trouble.filter(|_| before.is_none()) {
                warn!(topic = self.topic, %reason, "Kafka's group does not hear of the pipeline now");
            }
            self.shared.rest(if is_well { COMMIT_WAIT } else { PAUSE });
        }
        self.shared.leave();
    }

    /// Gives the group a sign of life, and commits what was cut.
    fn keep_membership(&mut self) -> Result<(), Error> {
        let Some(member) = &self.shared.member else { return Ok(()) };
        // While the pipeline joins the group needs no other sign.
        let Ok(mut member) = member.try_lock() else { return Ok(()) };
        let to_commit = self.shared.state().to_commit.take();
        let mut standing = Standing::Steady;
        if let Some(positions) = to_commit.filter(|positions| !positions.is_empty()) {
            standing = match member.commit(&positions) {
                Ok(standing) => standing,
                Err(error) => {
                    self.shared.state().to_commit.get_or_insert(positions);
                    return Err(error);
                }
            };
        }
        if standing == Standing::Steady && self.heard.elapsed() >= HEARTBEAT {
            standing = member.heartbeat()?;
            self.heard = Instant::now();
        }
        let mut state = self.shared.state();
        if standing != Standing::Steady && state.standing == Some(Standing::Steady) {
            info!(topic = self.topic, ?standing, "Kafka's group divides its partitions anew");
            state.standing = Some(standing);
            drop(state);
            self.shared.tell();
        }
        Ok(())
    }
}
