//! How programs that are no visitor name themselves in their user agent, and why each is taken for one.
//!
//! A list of words, written by hand: it knows who says what he is. Who poses as a browser is not found by his agent.

/// Why an agent is no visitor. The list is closed: it is what `bot_reason` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Reads for a language model, or for its user.
    Ai,
    /// Fetches a page to show its title and picture beside a link.
    Preview,
    /// Looks whether a site is up and how fast.
    Monitor,
    /// A browser without a screen, or one that is steered.
    Headless,
    /// A script or app, by its HTTP library.
    Library,
    /// Any other robot: search engines, archives, what calls itself a bot.
    Crawler,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Reason::Ai => "ai",
            Reason::Preview => "preview",
            Reason::Monitor => "monitor",
            Reason::Headless => "headless",
            Reason::Library => "library",
            Reason::Crawler => "crawler",
        }
    }
}

/// Words in lower case, the particular ones first: `gptbot` is also a bot.
const WORDS: &[(Reason, &[&str])] = &[
    (
        Reason::Ai,
        &[
            "gptbot",
            "chatgpt-user",
            "oai-searchbot",
            "claudebot",
            "claude-user",
            "claude-searchbot",
            "claude-web",
            "anthropic-ai",
            "perplexitybot",
            "perplexity-user",
            "ccbot/",
            "bytespider",
            "google-cloudvertexbot",
            "googleother",
            "googleagent-",
            "meta-externalagent",
            "meta-externalfetcher",
            "facebookbot",
            "amazonbot",
            "cohere-ai",
            "diffbot",
            "youbot",
            "mistralai-user",
            "duckassistbot",
            "ai2bot",
            "timpibot",
            "omgili",
            "img2dataset",
        ],
    ),
    (
        Reason::Preview,
        &[
            "facebookexternalhit",
            "facebookcatalog",
            "twitterbot",
            "slackbot",
            "slack-imgproxy",
            "linkedinbot",
            "telegrambot",
            "whatsapp/",
            "discordbot",
            "skypeuripreview",
            "pinterestbot",
            "redditbot",
            "vkshare",
            "embedly",
            "iframely",
            "flipboardproxy",
            "mastodon/",
            "preview",
        ],
    ),
    (
        Reason::Monitor,
        &[
            "pingdom",
            "uptimerobot",
            "uptime-kuma",
            "betteruptime",
            "better stack",
            "statuscake",
            "site24x7",
            "newrelicpinger",
            "datadog",
            "gtmetrix",
            "ptst/",
            "lighthouse",
            "checkly",
            "nagios",
            "check_http",
            "zabbix",
            "blackbox exporter",
            "prometheus/",
            "freshping",
            "hetrixtools",
            "kube-probe",
            "googlehc/",
            "elb-healthchecker",
            "monitor",
            "websitepulse",
            "page speed",
            "googlestackdrivermonitoring",
            "nodeping",
            "catchpoint",
            "panopta",
        ],
    ),
    (
        Reason::Headless,
        &[
            "headless",
            "phantomjs",
            "puppeteer",
            "playwright",
            "selenium",
            "webdriver",
            "cypress/",
            "htmlunit",
            "jsdom/",
            "slimerjs",
        ],
    ),
    (
        Reason::Library,
        &[
            "curl/",
            "libcurl",
            "wget/",
            "python-requests",
            "python-urllib",
            "python-httpx",
            "python/",
            "aiohttp",
            "httpx/",
            "scrapy",
            "deno/",
            "bun/",
            "php/",
            "jersey/",
            "lwp-",
            "go-http-client",
            "okhttp",
            "java/",
            "httpclient",
            "axios/",
            "node-fetch",
            "undici",
            "got (",
            "superagent",
            "libwww",
            "lwp::",
            "guzzlehttp",
            "symfony",
            "faraday v",
            "rest-client/",
            "httparty",
            "dart/",
            "reqwest/",
            "restsharp",
            "powershell/",
            "postmanruntime",
            "insomnia/",
            "apachebench",
            "k6/",
            "vegeta",
            "wrk/",
            "hey/0",
        ],
    ),
    (
        Reason::Crawler,
        &[
            "crawl",
            "spider",
            "slurp",
            "archiv",
            "mediapartners-google",
            "scrape",
            "scraping",
            "inspectiontool",
            "xrawler",
            "fetch",
            "checker",
            "linkcheck",
            "validator",
            "analyzer",
            "scanner",
            "harvest",
            "nutch",
            "larbin",
            "heritrix",
            "sitemap",
            "favicon",
            "screenshot",
            "snapshot",
            "feed",
            "wordpress/",
            "netcraft",
            "hubspot",
            "zgrab",
            "masscan",
            "nmap",
            "nikto",
            "sqlmap",
            "censys",
        ],
    ),
];

/// Libraries that say their name and nothing else.
const NAMES: [&str; 3] = ["node", "ruby", "php"];
/// A browser's, of which `preview` says nothing.
const TECHNOLOGY_PREVIEW: [&str; 2] = ["technology preview", "technology%20preview"];

/// Why an agent, in lower case, is no visitor by the words in it.
pub(super) fn named(lower: &str) -> Option<Reason> {
    if NAMES.contains(&lower.trim()) {
        return Some(Reason::Library);
    }
    let is_in = |word: &&str| lower.contains(word) && !(*word == "preview" && is_technology_preview(lower));
    let named = WORDS.iter().find(|(_, words)| words.iter().any(is_in)).map(|(reason, _)| *reason);
    named.or_else(|| (calls_itself_bot(lower) || gives_an_address(lower)).then_some(Reason::Crawler))
}

fn is_technology_preview(lower: &str) -> bool {
    TECHNOLOGY_PREVIEW.iter().any(|name| lower.contains(name))
}

/// `bot` anywhere, but in CUBOT, which makes telephones.
fn calls_itself_bot(lower: &str) -> bool {
    lower.match_indices("bot").any(|(at, _)| !lower[..at].ends_with("cu"))
}

/// A URL for the owner of the site behind a name, as robots give it and browsers do not, but for one that many programs were built with.
fn gives_an_address(lower: &str) -> bool {
    let name = lower.split_once("://").map(|(before, _)| before.trim_end_matches("https").trim_end_matches("http"));
    name.is_some_and(|name| !name.is_empty()) && !lower.contains("bsalsa.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_lower_case_and_name_one_reason() {
        let words: Vec<&str> = WORDS.iter().flat_map(|(_, words)| words.iter().copied()).collect();
        assert!(words.iter().all(|word| *word == word.to_lowercase()));
        let unique: std::collections::HashSet<&str> = words.iter().copied().collect();
        assert_eq!(unique.len(), words.len());
    }

    #[test]
    fn the_particular_reason_counts() {
        let of = |agent: &str| named(&agent.to_lowercase()).map(Reason::as_str);
        assert_eq!(of("Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)"), Some("ai"));
        assert_eq!(of("facebookexternalhit/1.1"), Some("preview"));
        assert_eq!(of("Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/120.0 Safari/537.36"), Some("headless"));
        assert_eq!(of("Mozilla/5.0 (compatible; UptimeRobot/2.0)"), Some("monitor"));
        assert_eq!(of("SomeRobot/1.0"), Some("crawler"));
        for library in [
            "node",
            "Ruby",
            "Deno/1.46.3",
            "Bun/1.2",
            "PHP/8.3",
            "Jersey/2.25.1 (HttpUrlConnection 17)",
            "lwp-trivial/1.35",
        ] {
            assert_eq!(of(library), Some("library"), "{library}");
        }
        assert_eq!(of("Mozilla/5.0 (compatible; Google-InspectionTool/1.0)"), Some("crawler"));
        assert_eq!(of("Safari%20Technology%20Preview/19618.1.8.1.1 CFNetwork/1490.0.4 Darwin/23.2.0"), None);
        assert_eq!(of("Trackuity (+http://trackuity.example)"), Some("crawler"));
        assert_eq!(of("Mozilla/5.0 (Linux; Android 9; CUBOT_X19) Chrome/99.0 Mobile Safari/537.36"), None);
    }
}
