//! Where a visitor came from: the site of a referer, and what kind of site that is.

use super::call::{Call, Function, Gives, Takes};
use super::sites::{Class, is_same_site, known, registrable_domain};
use super::url::host_or_itself;
use arrow::array::{ArrayRef, StringArray};
use datafusion_common::Result;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "referer_class",
        takes: &[("referer", Takes::Text), ("own", Takes::Text)],
        optional: 1,
        gives: Gives::Text,
        meaning: "search, social, email, chatbot, or other; internal if own (a URL or host of yours) has the same registrable domain; NULL for what has no host. A NULL in own is as if it were left out",
        examples: &[
            ("referer_class('https://www.google.co.uk/')", "search"),
            ("referer_class('android-app://com.google.android.gm/')", "email"),
            ("referer_class('https://www.shop.example/cart', 'shop.example')", "internal"),
            ("referer_class('https://blog.example/', 'shop.example')", "other"),
            ("referer_class(utm_source('https://shop.example/?utm_source=chatgpt.com'))", "chatbot"),
            ("referer_class('')", "NULL"),
        ],
        compute: class,
    },
    Function {
        name: "referer_name",
        takes: &[("referer", Takes::Text)],
        optional: 0,
        gives: Gives::Text,
        meaning: "name of the search engine, network, mail or chatbot; NULL for sites that are not known",
        examples: &[
            ("referer_name('https://l.facebook.com/l.php?u=x')", "Facebook"),
            ("referer_name('https://blog.example/')", "NULL"),
        ],
        compute: |call| {
            call.each_text::<StringArray, _>(|referer| known(&host_or_itself(referer)?).map(|site| site.name))
        },
    },
    Function {
        name: "registrable_domain",
        takes: &[("url", Takes::Text)],
        optional: 0,
        gives: Gives::Text,
        meaning: "of a URL or a host: the part that is registered, one label and its public suffix (private ones as github.io count); NULL for addresses, single names, suffixes, and names of apps",
        examples: &[
            ("registrable_domain('https://www.shop.co.uk/a')", "shop.co.uk"),
            ("registrable_domain('a.b.me.github.io')", "me.github.io"),
            ("registrable_domain('http://203.0.113.7/')", "NULL"),
            ("registrable_domain('android-app://com.example.shop/')", "NULL"),
        ],
        compute: |call| call.each_text::<StringArray, _>(registrable_domain),
    },
];

fn class(call: &Call<'_>) -> Result<ArrayRef> {
    let (referers, own) = (call.texts(0)?, call.texts(1)?);
    call.each::<StringArray, _>(|row| {
        let host = host_or_itself(referers.get(row)?)?;
        let is_own = own.get(row).and_then(host_or_itself_or_name).is_some_and(|own| is_same_site(&host, &own));
        if is_own {
            return Some("internal");
        }
        Some(known(&host).map_or(Class::Other, |site| site.class).as_str())
    })
}

/// What is meant to be a host may be a single name: `localhost`.
fn host_or_itself_or_name(text: &str) -> Option<std::borrow::Cow<'_, str>> {
    host_or_itself(text).or((!text.is_empty() && !text.contains('/')).then_some(text.into()))
}
