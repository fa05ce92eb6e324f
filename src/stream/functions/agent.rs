//! What a user agent says of itself: browser, system, device, robot or not. Parsed by woothee; answers are kept, since agents repeat.

use super::call::{Call, Function, Gives, Takes};
use super::robots::{self, Reason};
use arrow::array::{ArrayRef, BooleanArray, StringBuilder};
use datafusion_common::Result;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Answers kept by thread; when they are this many all are let go.
const KEPT_MAX: usize = 4_096;
/// Longer agents are not kept: 4,096 are then at most 2 MiB and their answers.
const KEPT_SIZE_MAX: usize = 512;

const AGENT: (&str, Takes) = ("agent", Takes::Text);

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "bot_reason",
        takes: &[AGENT],
        optional: 0,
        gives: Gives::Text,
        meaning: "why is_bot is true: ai, preview, monitor, headless, library, crawler; NULL where it is false",
        examples: &[
            ("bot_reason('Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)')", "crawler"),
            ("bot_reason('Mozilla/5.0 (compatible; ClaudeBot/1.0; +claudebot@anthropic.com)')", "ai"),
            ("bot_reason('curl/8.5.0')", "library"),
            ("bot_reason('Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0')", "NULL"),
        ],
        compute: |call| told(call, |agent| agent.bot.map(Reason::as_str)),
    },
    Function {
        name: "is_bot",
        takes: &[AGENT],
        optional: 0,
        gives: Gives::Truth,
        meaning: "whether it names itself a robot, script or monitor; false for NULL",
        examples: &[
            ("is_bot('python-requests/2.32')", "true"),
            ("is_bot('Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0')", "false"),
            ("is_bot(NULL)", "false"),
        ],
        compute: |call| {
            let agents = call.texts(0)?;
            call.each::<BooleanArray, _>(|row| Some(agents.get(row).is_some_and(|text| known(text).bot.is_some())))
        },
    },
    Function {
        name: "ua_browser",
        takes: &[AGENT],
        optional: 0,
        gives: Gives::Text,
        meaning: "name of the browser; NULL if it is not known",
        examples: &[(
            "ua_browser('Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0')",
            "Firefox",
        )],
        compute: |call| told(call, |agent| agent.browser.as_deref()),
    },
    Function {
        name: "ua_browser_version",
        takes: &[AGENT],
        optional: 0,
        gives: Gives::Text,
        meaning: "its version, as it is written",
        examples: &[(
            "ua_browser_version('Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0')",
            "127.0",
        )],
        compute: |call| told(call, |agent| agent.version.as_deref()),
    },
    Function {
        name: "ua_device",
        takes: &[AGENT],
        optional: 0,
        gives: Gives::Text,
        meaning: "pc, smartphone, mobilephone, appliance, crawler, misc",
        examples: &[("ua_device('Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0')", "pc")],
        compute: |call| told(call, |agent| agent.device.as_deref()),
    },
    Function {
        name: "ua_os",
        takes: &[AGENT],
        optional: 0,
        gives: Gives::Text,
        meaning: "name of the operating system",
        examples: &[("ua_os('Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0')", "Linux")],
        compute: |call| told(call, |agent| agent.os.as_deref()),
    },
];

/// What is known of one agent.
#[derive(Debug, Default)]
struct Agent {
    browser: Option<String>,
    version: Option<String>,
    os: Option<String>,
    device: Option<String>,
    bot: Option<Reason>,
}

thread_local! {
    static KEPT: RefCell<HashMap<Box<str>, Rc<Agent>>> = RefCell::default();
}

fn told(call: &Call<'_>, of: impl Fn(&Agent) -> Option<&str>) -> Result<ArrayRef> {
    let agents = call.texts(0)?;
    let mut out = StringBuilder::with_capacity(call.rows(), call.rows() * 8);
    for row in 0..call.rows() {
        match agents.get(row).map(known) {
            Some(agent) => out.append_option(of(&agent)),
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn known(text: &str) -> Rc<Agent> {
    KEPT.with_borrow_mut(|kept| {
        if let Some(agent) = kept.get(text) {
            return agent.clone();
        }
        let agent = Rc::new(look(text));
        if text.len() <= KEPT_SIZE_MAX {
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
            kept.insert(text.into(), agent.clone());
        }
        agent
    })
}

fn look(text: &str) -> Agent {
    let lower = text.to_ascii_lowercase();
    let named = robots::named(&lower);
    let told = |text: &str| (text != "UNKNOWN" && !text.is_empty()).then(|| text.to_owned());
    match woothee::parser::Parser::new().parse(text) {
        None => Agent { bot: named, ..Agent::default() },
        Some(found) => Agent {
            browser: told(found.name),
            version: told(found.version),
            os: told(found.os),
            device: told(found.category),
            bot: named.or((found.category == "crawler").then_some(Reason::Crawler)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_from_robots() {
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
        let agent = known(chrome);
        assert_eq!((agent.browser.as_deref(), agent.device.as_deref(), agent.bot), (Some("Chrome"), Some("pc"), None));
        let cubot = "Mozilla/5.0 (Linux; Android 9; CUBOT_NOTE_S) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0.4844.58 Mobile Safari/537.36";
        assert_eq!(known(cubot).bot, None);
        for robot in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "curl/8.5.0",
            "python-requests/2.32",
        ] {
            assert!(known(robot).bot.is_some(), "{robot}");
        }
    }

    #[test]
    fn agents_that_are_long_or_many_are_not_kept() {
        let kept = || KEPT.with_borrow(HashMap::len);
        (0..KEPT_MAX + 1).for_each(|n| drop(known(&format!("agent {n}"))));
        assert_eq!(kept(), 1);
        known(&"x".repeat(KEPT_SIZE_MAX + 1));
        assert_eq!(kept(), 1);
    }
}
