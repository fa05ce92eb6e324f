//! User agents that real visitors and real robots send, with how often; see `agents/NOTICE` for where they come from.
//!
//! Line of a list: weight, screen width, screen height, user agent; tab-separated. No agent needs escaping in JSON.

use std::sync::OnceLock;

const BROWSERS: &str = include_str!("agents/browsers.tsv");
const ROBOTS: &str = include_str!("agents/robots.tsv");

/// One kind of visitor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agent {
    pub text: &'static str,
    pub screen: (u32, u32),
}

/// Agents with the sums of their weights, for drawing.
pub(super) struct Agents {
    /// Sum of the weights up to and with this agent.
    until: Vec<u32>,
    agents: Vec<Agent>,
}

/// Browsers, as a site's visitors have them.
pub(super) fn browsers() -> &'static Agents {
    static AGENTS: OnceLock<Agents> = OnceLock::new();
    AGENTS.get_or_init(|| Agents::read(BROWSERS))
}

/// Search engines, previews, monitors, scripts.
pub(super) fn robots() -> &'static Agents {
    static AGENTS: OnceLock<Agents> = OnceLock::new();
    AGENTS.get_or_init(|| Agents::read(ROBOTS))
}

impl Agents {
    fn read(list: &'static str) -> Agents {
        let mut agents = Agents { until: Vec::new(), agents: Vec::new() };
        let mut sum = 0;
        for line in list.lines() {
            let fields: Vec<&'static str> = line.splitn(4, '\t').collect();
            if let [weight, width, height, text] = fields[..] {
                let number = |text: &str| text.parse::<u32>().unwrap_or(0);
                sum += number(weight);
                agents.until.push(sum);
                agents.agents.push(Agent { text, screen: (number(width), number(height)) });
            }
        }
        agents
    }

    /// One of them, as often as its weight says.
    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> Agent {
        let point = random.u32(..self.until.last().copied().unwrap_or(1).max(1));
        let at = self.until.partition_point(|until| *until <= point);
        self.agents[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_whole_and_need_no_escaping() {
        for (list, wanted) in [(BROWSERS, 400), (ROBOTS, 60)] {
            let agents = Agents::read(list);
            assert!(agents.agents.len() >= wanted && agents.agents.len() == list.lines().count());
            for agent in &agents.agents {
                assert_eq!(serde_json::to_string(agent.text).unwrap(), format!("\"{}\"", agent.text));
            }
        }
    }

    #[test]
    fn draws_follow_the_weights() {
        let agents = Agents::read("1\t0\t0\trare\n99\t0\t0\tusual");
        let mut random = fastrand::Rng::with_seed(3);
        let rare = (0..10_000).filter(|_| agents.draw(&mut random).text == "rare").count();
        assert!((50..200).contains(&rare), "{rare}");
    }
}
