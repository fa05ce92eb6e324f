//! What a user agent says of itself: browser, system, device, robot or not. Parsed by woothee; answers are kept, since agents repeat.

use super::udf::{Body, udf};
use datafusion_expr::ScalarUDF;
use std::cell::RefCell;
use std::collections::HashMap;

/// Answers kept by thread; when they are this many all are let go.
const KEPT_MAX: usize = 4_096;

/// Words that scripts, monitors and libraries name themselves with and that woothee does not know as crawlers.
const ROBOT_WORDS: [&str; 26] = [
    "bot",
    "crawl",
    "spider",
    "slurp",
    "curl/",
    "wget/",
    "python-requests",
    "python-urllib",
    "aiohttp",
    "go-http-client",
    "okhttp",
    "java/",
    "libwww",
    "httpclient",
    "headlesschrome",
    "phantomjs",
    "puppeteer",
    "playwright",
    "lighthouse",
    "pingdom",
    "uptimerobot",
    "statuscake",
    "facebookexternalhit",
    "preview",
    "scrapy",
    "axios/",
];

/// What is known of one agent.
#[derive(Clone, Debug, Default)]
struct Agent {
    browser: Option<String>,
    version: Option<String>,
    os: Option<String>,
    device: Option<String>,
    is_bot: bool,
}

thread_local! {
    static KEPT: RefCell<HashMap<String, Agent>> = RefCell::default();
}

fn known(text: &str) -> Agent {
    KEPT.with_borrow_mut(|kept| {
        if let Some(agent) = kept.get(text) {
            return agent.clone();
        }
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        let agent = look(text);
        kept.insert(text.to_owned(), agent.clone());
        agent
    })
}

fn look(text: &str) -> Agent {
    let lower = text.to_ascii_lowercase();
    let names_itself = ROBOT_WORDS.iter().any(|word| lower.contains(word));
    let told = |text: &str| (text != "UNKNOWN" && !text.is_empty()).then(|| text.to_owned());
    match woothee::parser::Parser::new().parse(text) {
        None => Agent { is_bot: names_itself, ..Agent::default() },
        Some(found) => Agent {
            browser: told(found.name),
            version: told(found.version),
            os: told(found.os),
            device: told(found.category),
            is_bot: names_itself || found.category == "crawler",
        },
    }
}

pub(super) fn is_bot(name: &'static str) -> ScalarUDF {
    udf(name, Body::Truth(|text| text.is_some_and(|text| known(text).is_bot)))
}

pub(super) fn browser(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(|text| known(text).browser))
}

pub(super) fn browser_version(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(|text| known(text).version))
}

pub(super) fn os(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(|text| known(text).os))
}

pub(super) fn device(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(|text| known(text).device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_from_robots() {
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
        let agent = known(chrome);
        assert_eq!(
            (agent.browser.as_deref(), agent.device.as_deref(), agent.is_bot),
            (Some("Chrome"), Some("pc"), false)
        );
        for robot in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "curl/8.5.0",
            "python-requests/2.32",
        ] {
            assert!(known(robot).is_bot, "{robot}");
        }
    }
}
