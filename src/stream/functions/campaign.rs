//! What a link says of the campaign that it belongs to: the five utm parameters, and the ids that advertising networks add to a click.

use super::call::{Function, Gives, Takes};
use super::url::{decoded, parameters};
use arrow::array::StringArray;
use std::borrow::Cow;

/// Parameters that hold a click's id, as the networks document them: Google (the first four), Microsoft, Meta, TikTok, X, LinkedIn,
/// Pinterest, Reddit, Snapchat, Yandex, Quora, Taboola, Impact, CJ, Awin, Yahoo.
const CLICK_IDS: [&str; 19] = [
    "gclid",
    "gbraid",
    "wbraid",
    "dclid",
    "msclkid",
    "fbclid",
    "ttclid",
    "twclid",
    "li_fat_id",
    "epik",
    "rdt_cid",
    "sccid",
    "yclid",
    "qclid",
    "tblci",
    "irclickid",
    "cjevent",
    "awc",
    "vmcid",
];

const URL: (&str, Takes) = ("url", Takes::Text);

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "click_id",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "the id that an advertising network gave the click: value of the first parameter that click_id_kind knows",
        examples: &[
            ("click_id('https://shop.example/?utm_source=google&gclid=Cj0KCQ')", "Cj0KCQ"),
            ("click_id('https://shop.example/')", "NULL"),
        ],
        compute: |call| call.each_text::<StringArray, _>(|url| click(url).map(|(_, value)| decoded(value))),
    },
    Function {
        name: "click_id_kind",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "name of that parameter: gclid, gbraid, wbraid, dclid, msclkid, fbclid, ttclid, twclid, li_fat_id, epik, rdt_cid, sccid, yclid, qclid, tblci, irclickid, cjevent, awc, vmcid",
        examples: &[
            ("click_id_kind('https://shop.example/?FBCLID=IwAR0')", "fbclid"),
            ("click_id_kind('https://shop.example/?gclid=')", "NULL"),
        ],
        compute: |call| call.each_text::<StringArray, _>(|url| click(url).map(|(kind, _)| kind)),
    },
    Function {
        name: "utm_campaign",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "name of the campaign, as utm_source gives it",
        examples: &[("utm_campaign('https://shop.example/?utm_campaign=spring+sale')", "spring sale")],
        compute: |call| call.each_text::<StringArray, _>(|url| utm(url, "utm_campaign")),
    },
    Function {
        name: "utm_content",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "which of several links or pictures, as utm_source gives it",
        examples: &[("utm_content('https://shop.example/?utm_content=logo')", "logo")],
        compute: |call| call.each_text::<StringArray, _>(|url| utm(url, "utm_content")),
    },
    Function {
        name: "utm_medium",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "email, cpc, social, …, as utm_source gives it",
        examples: &[("utm_medium('https://shop.example/?utm_medium=email')", "email")],
        compute: |call| call.each_text::<StringArray, _>(|url| utm(url, "utm_medium")),
    },
    Function {
        name: "utm_source",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "who sent the visitor: value of the parameter utm_source, decoded; its name counts in upper and lower case, the first that is not empty",
        examples: &[
            ("utm_source('https://shop.example/?UTM_Source=news%20letter&x=1')", "news letter"),
            ("utm_source('https://shop.example/?utm_source=')", "NULL"),
        ],
        compute: |call| call.each_text::<StringArray, _>(|url| utm(url, "utm_source")),
    },
    Function {
        name: "utm_term",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "words that were searched or bought, as utm_source gives it",
        examples: &[("utm_term('https://shop.example/?utm_term=red+shoes')", "red shoes")],
        compute: |call| call.each_text::<StringArray, _>(|url| utm(url, "utm_term")),
    },
];

fn utm<'a>(url: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut values = parameters(url).filter(|(key, _)| decoded(key).eq_ignore_ascii_case(name));
    values.find(|(_, value)| !value.is_empty()).map(|(_, value)| decoded(value))
}

/// The first parameter that holds a click's id and is not empty: its kind, and its value as it is written.
fn click(url: &str) -> Option<(&'static str, &str)> {
    let known = |key: &str| CLICK_IDS.iter().find(|name| name.eq_ignore_ascii_case(key)).copied();
    parameters(url).filter(|(_, value)| !value.is_empty()).find_map(|(key, value)| Some((known(&decoded(key))?, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_click_ids_is_that_of_the_documentation() {
        let kind = FUNCTIONS.iter().find(|function| function.name == "click_id_kind").unwrap();
        assert!(kind.meaning.ends_with(&CLICK_IDS.join(", ")));
    }

    #[test]
    fn the_first_id_counts_and_empty_ones_do_not() {
        let url = "/?gclid=&ScCid=s1&ttclid=t1#?fbclid=f1";
        assert_eq!(click(url), Some(("sccid", "s1")));
        assert_eq!(click("/?%67clid=g1"), Some(("gclid", "g1")));
        assert_eq!(utm("/?utm_term=&utm_term=b", "utm_term").as_deref(), Some("b"));
        assert_eq!((click("/#fbclid=1"), click("")), (None, None));
    }
}
