//! Sites that send visitors elsewhere, and what they are: the table behind `referer_class` and `referer_name`.
//!
//! Written by hand; what it does not know is `other`. A row's hosts stand for their subdomains too, and the longest one that fits
//! counts: `mail.google.com` is e-mail, `google.com` a search engine. `google.*` is that name under every public suffix.

use super::url::host_of_site;
use psl::{List, Psl, Type};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// What a site is to the one that it sends visitors to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Search,
    Social,
    Email,
    Chatbot,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) name: &'static str,
    pub(super) class: Class,
}

use Class::{Chatbot, Email, Other, Search, Social};

const SITES: &[(&str, Class, &[&str])] = &[
    // -- search engines
    ("360 Search", Search, &["so.com"]),
    ("AOL", Search, &["search.aol.com", "aol.com"]),
    ("Ask", Search, &["ask.com"]),
    ("Baidu", Search, &["baidu.com"]),
    ("Bing", Search, &["bing.com", "cn.bing.com"]),
    ("Brave Search", Search, &["search.brave.com"]),
    ("Coc Coc", Search, &["coccoc.com"]),
    ("Daum", Search, &["search.daum.net"]),
    ("Dogpile", Search, &["dogpile.com"]),
    ("DuckDuckGo", Search, &["duckduckgo.com", "com.duckduckgo.mobile.android"]),
    ("Ecosia", Search, &["ecosia.org"]),
    ("Google", Search, &["google.*", "com.google.android.googlequicksearchbox", "syndicatedsearch.goog"]),
    ("Kagi", Search, &["kagi.com"]),
    ("Lilo", Search, &["search.lilo.org"]),
    ("Marginalia", Search, &["search.marginalia.nu"]),
    ("MetaGer", Search, &["metager.org", "metager.de"]),
    ("Mojeek", Search, &["mojeek.com"]),
    ("Naver", Search, &["search.naver.com", "naver.com"]),
    ("Petal Search", Search, &["petalsearch.com"]),
    ("Presearch", Search, &["presearch.com", "presearch.org"]),
    ("Qwant", Search, &["qwant.com"]),
    ("Rambler", Search, &["rambler.ru"]),
    ("Seznam", Search, &["search.seznam.cz", "seznam.cz"]),
    ("Sogou", Search, &["sogou.com"]),
    ("Startpage", Search, &["startpage.com"]),
    ("Swisscows", Search, &["swisscows.com"]),
    ("Yahoo", Search, &["yahoo.*"]),
    ("Yandex", Search, &["yandex.*", "ya.ru"]),
    // -- networks and forums
    ("Bluesky", Social, &["bsky.app", "go.bsky.app"]),
    ("Dev.to", Social, &["dev.to"]),
    ("Discord", Social, &["discord.com", "discordapp.com"]),
    ("Facebook", Social, &["facebook.com", "fb.com", "fb.me", "com.facebook.katana"]),
    ("Flipboard", Social, &["flipboard.com"]),
    ("GitHub", Social, &["github.com"]),
    ("Hacker News", Social, &["news.ycombinator.com"]),
    ("Instagram", Social, &["instagram.com", "com.instagram.android"]),
    ("KakaoTalk", Social, &["kakao.com"]),
    ("Lemmy", Social, &["lemmy.world", "lemmy.ml"]),
    ("LINE", Social, &["line.me", "jp.naver.line.android"]),
    ("LinkedIn", Social, &["linkedin.com", "lnkd.in", "com.linkedin.android"]),
    ("Lobsters", Social, &["lobste.rs"]),
    ("Mastodon", Social, &["mastodon.social", "mastodon.online", "mstdn.social", "fosstodon.org"]),
    ("Medium", Social, &["medium.com"]),
    ("Messenger", Social, &["messenger.com", "com.facebook.orca"]),
    ("Odnoklassniki", Social, &["ok.ru"]),
    ("Pinterest", Social, &["pinterest.*", "pin.it", "com.pinterest"]),
    ("Product Hunt", Social, &["producthunt.com"]),
    ("Quora", Social, &["quora.com"]),
    ("Reddit", Social, &["reddit.com", "redd.it", "com.reddit.frontpage"]),
    ("Slack", Social, &["slack.com", "com.slack"]),
    ("Snapchat", Social, &["snapchat.com", "com.snapchat.android"]),
    ("Stack Overflow", Social, &["stackoverflow.com"]),
    ("Substack", Social, &["substack.com"]),
    ("Telegram", Social, &["t.me", "telegram.org", "telegram.me", "org.telegram.messenger"]),
    ("Threads", Social, &["threads.net", "threads.com"]),
    ("TikTok", Social, &["tiktok.com", "com.zhiliaoapp.musically"]),
    ("Tumblr", Social, &["tumblr.com"]),
    ("Twitch", Social, &["twitch.tv"]),
    ("Vimeo", Social, &["vimeo.com"]),
    ("VK", Social, &["vk.com", "vk.ru", "vkontakte.ru"]),
    ("WeChat", Social, &["weixin.qq.com", "wechat.com"]),
    ("Weibo", Social, &["weibo.com", "weibo.cn"]),
    ("WhatsApp", Social, &["whatsapp.com", "wa.me", "com.whatsapp"]),
    ("X", Social, &["x.com", "twitter.com", "t.co", "com.twitter.android"]),
    ("Xing", Social, &["xing.com"]),
    ("YouTube", Social, &["youtube.com", "youtu.be", "com.google.android.youtube"]),
    ("Zhihu", Social, &["zhihu.com"]),
    // -- mail in the browser
    ("AOL Mail", Email, &["mail.aol.com"]),
    ("Daum Mail", Email, &["mail.daum.net"]),
    ("Fastmail", Email, &["fastmail.com"]),
    ("Gmail", Email, &["mail.google.com", "inbox.google.com", "com.google.android.gm"]),
    ("GMX", Email, &["gmx.net", "gmx.com", "gmx.de", "gmx.at", "gmx.ch"]),
    ("iCloud Mail", Email, &["www.icloud.com", "icloud.com"]),
    ("Mail.ru", Email, &["e.mail.ru", "mail.ru"]),
    ("mailbox.org", Email, &["mailbox.org"]),
    ("Naver Mail", Email, &["mail.naver.com"]),
    ("Orange Mail", Email, &["mail.orange.fr", "webmail.orange.fr"]),
    ("Outlook", Email, &["outlook.live.com", "outlook.office.com", "outlook.office365.com", "mail.live.com"]),
    ("Proton Mail", Email, &["mail.proton.me", "mail.protonmail.com"]),
    ("QQ Mail", Email, &["mail.qq.com"]),
    ("Seznam Email", Email, &["email.seznam.cz"]),
    ("T-Online", Email, &["email.t-online.de"]),
    ("Tuta", Email, &["app.tuta.com", "mail.tutanota.com"]),
    ("WEB.DE", Email, &["web.de"]),
    ("Yahoo Mail", Email, &["mail.yahoo.com", "mail.yahoo.co.jp", "com.yahoo.mobile.client.android.mail"]),
    ("Yandex Mail", Email, &["mail.yandex.ru", "mail.yandex.com"]),
    ("Zoho Mail", Email, &["mail.zoho.com", "mail.zoho.eu"]),
    // -- assistants that answer with links
    ("ChatGPT", Chatbot, &["chatgpt.com", "chat.openai.com", "com.openai.chatgpt"]),
    ("Claude", Chatbot, &["claude.ai"]),
    ("Copilot", Chatbot, &["copilot.microsoft.com", "copilot.cloud.microsoft", "m365.cloud.microsoft"]),
    ("DeepSeek", Chatbot, &["chat.deepseek.com"]),
    ("Doubao", Chatbot, &["doubao.com"]),
    ("Duck.ai", Chatbot, &["duck.ai"]),
    ("Gemini", Chatbot, &["gemini.google.com", "bard.google.com", "com.google.android.apps.bard"]),
    ("Grok", Chatbot, &["grok.com", "grok.x.ai"]),
    ("Kimi", Chatbot, &["kimi.com", "kimi.moonshot.cn"]),
    ("Le Chat", Chatbot, &["chat.mistral.ai"]),
    ("Meta AI", Chatbot, &["meta.ai"]),
    ("NotebookLM", Chatbot, &["notebooklm.google.com"]),
    ("Perplexity", Chatbot, &["perplexity.ai", "ai.perplexity.app.android"]),
    ("Phind", Chatbot, &["phind.com"]),
    ("Poe", Chatbot, &["poe.com"]),
    ("Qwen", Chatbot, &["chat.qwen.ai"]),
    ("You.com", Chatbot, &["you.com"]),
    // -- parts of those above that are something else
    ("Google", Other, &["accounts.google.com", "docs.google.com", "drive.google.com", "sites.google.com"]),
    ("Google", Other, &["classroom.google.com", "calendar.google.com", "meet.google.com", "groups.google.com"]),
    ("Google Ads", Other, &["ads.google.com", "googleadservices.com", "doubleclick.net", "googlesyndication.com"]),
    ("Yahoo", Other, &["finance.yahoo.com", "news.yahoo.com", "sports.yahoo.com"]),
];

/// The table by host, and by name before any public suffix.
struct Known {
    hosts: HashMap<&'static str, Site>,
    brands: HashMap<&'static str, Site>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let (mut hosts, mut brands) = (HashMap::new(), HashMap::new());
    for (name, class, places) in SITES {
        for place in *places {
            let site = Site { name, class: *class };
            match place.strip_suffix(".*") {
                Some(brand) => brands.insert(brand, site),
                None => hosts.insert(*place, site),
            };
        }
    }
    Known { hosts, brands }
});

impl Class {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Search => "search",
            Social => "social",
            Email => "email",
            Chatbot => "chatbot",
            Other => "other",
        }
    }
}

/// The site that a host in lower case belongs to, if the table has it.
pub(super) fn known(host: &str) -> Option<Site> {
    let mut rest = host;
    loop {
        if let Some(site) = KNOWN.hosts.get(rest) {
            return Some(*site);
        }
        let Some((_, shorter)) = rest.split_once('.') else { break };
        rest = shorter;
    }
    // Under a suffix that somebody rents out (google.github.io) a name says nothing of its owner.
    let domain = List.domain(host.as_bytes()).filter(|domain| domain.suffix().typ() == Some(Type::Icann))?;
    let brand = std::str::from_utf8(domain.as_bytes()).ok()?.split('.').next()?;
    KNOWN.brands.get(brand).copied()
}

/// The registrable domain of a host in lower case: the public suffix and one label. NULL for addresses, suffixes, and single names.
pub(super) fn registrable(host: &str) -> Option<&str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_address = host.contains(':') || last.bytes().all(|byte| byte.is_ascii_digit());
    if is_address || host.split('.').any(str::is_empty) {
        return None;
    }
    std::str::from_utf8(List.domain(host.as_bytes())?.as_bytes()).ok()
}

/// [`registrable`] of a URL or a host; NULL for an app's name.
pub(super) fn registrable_domain(text: &str) -> Option<Cow<'_, str>> {
    match host_of_site(text)? {
        Cow::Borrowed(host) => registrable(host).map(Cow::Borrowed),
        Cow::Owned(host) => registrable(&host).map(|domain| Cow::Owned(domain.to_owned())),
    }
}

/// Whether two hosts are of one site: the same host, or the same registrable domain.
pub(super) fn is_same_site(a: &str, b: &str) -> bool {
    a == b || registrable(a).is_some_and(|domain| Some(domain) == registrable(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_each_host_once_and_in_lower_case() {
        let places: Vec<&str> = SITES.iter().flat_map(|(_, _, places)| places.iter().copied()).collect();
        let unique: std::collections::HashSet<&&str> = places.iter().collect();
        assert_eq!(unique.len(), places.len());
        assert!(places.iter().all(|place| *place == place.to_ascii_lowercase() && place.contains('.')), "{places:?}");
    }

    #[test]
    fn the_longest_host_that_fits_counts() {
        let of = |host: &str| known(host).map(|site| (site.name, site.class));
        assert_eq!(of("www.google.co.uk"), Some(("Google", Search)));
        assert_eq!(of("mail.google.com"), Some(("Gmail", Email)));
        assert_eq!(of("gemini.google.com"), Some(("Gemini", Chatbot)));
        assert_eq!(of("docs.google.com"), Some(("Google", Other)));
        assert_eq!(of("l.facebook.com"), Some(("Facebook", Social)));
        assert_eq!((of("google.github.io"), of("notgoogle.com"), of("com"), of("")), (None, None, None, None));
    }

    #[test]
    fn a_registrable_domain_is_a_suffix_and_one_label() {
        let of = |text: &str| registrable_domain(text).map(Cow::into_owned);
        assert_eq!(of("https://a.b.Shop.co.uk:8443/x").as_deref(), Some("shop.co.uk"));
        assert_eq!(of("me.github.io").as_deref(), Some("me.github.io"));
        assert_eq!(of("a.shop.example\\evil.test/x").as_deref(), Some("shop.example"));
        assert_eq!(of("www.shop.example.").as_deref(), Some("shop.example"));
        assert_eq!(of("www.xn--e1afmkfd.xn--p1ai").as_deref(), Some("xn--e1afmkfd.xn--p1ai"));
        for none in ["co.uk", "localhost", "http://203.0.113.7/", "http://[2001:db8::1]/", "a..example", "..", "."] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
