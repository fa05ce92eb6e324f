//! The functions that pipelines have beside SQL's own: parts of URLs, user agents, addresses, hashes, JSON, pictures.
//!
//! Each takes text of any Arrow form; a NULL gives NULL unless its line says otherwise. One list names them all.

mod agent;
mod net;
mod picture;
mod text;
mod udf;

use datafusion_expr::ScalarUDF;
use std::sync::Arc;

/// A function as `docs/PIPELINES.md` lists it.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    pub name: &'static str,
    pub signature: &'static str,
    pub meaning: &'static str,
    make: fn(&'static str) -> ScalarUDF,
}

const fn function(
    name: &'static str,
    signature: &'static str,
    meaning: &'static str,
    make: fn(&'static str) -> ScalarUDF,
) -> Function {
    Function { name, signature, meaning, make }
}

/// Every function, by name.
pub const ALL: &[Function] = &[
    function("byte_size", "(binary) → int", "how many bytes it has", picture::byte_size),
    function(
        "hmac_sha256",
        "(text, secret) → text",
        "keyed pseudonym, hex; give the secret as '${NAME}' from the environment",
        text::hmac_sha256,
    ),
    function("image_height", "(binary) → int", "height in pixels of a JPEG, PNG, GIF or WebP", picture::height),
    function("image_type", "(binary) → text", "jpeg, png, gif, webp; NULL for anything else", picture::kind),
    function("image_width", "(binary) → int", "width in pixels", picture::width),
    function(
        "ip_mask",
        "(address) → text",
        "the address without its last 8 bits (IPv4) or last 80 (IPv6); NULL for what is no address",
        net::ip_mask,
    ),
    function(
        "is_bot",
        "(user agent) → bool",
        "whether it names itself a robot, script or monitor; false for NULL",
        agent::is_bot,
    ),
    function(
        "json_get",
        "(json, path) → text",
        "the value at 'a.b' or '/a/b': text as it is, the rest as JSON",
        text::json_get,
    ),
    function("sha256", "(text) → text", "SHA-256, hex", text::sha256),
    function("ua_browser", "(user agent) → text", "name of the browser", agent::browser),
    function("ua_browser_version", "(user agent) → text", "its version", agent::browser_version),
    function(
        "ua_device",
        "(user agent) → text",
        "pc, smartphone, mobilephone, appliance, crawler, misc",
        agent::device,
    ),
    function("ua_os", "(user agent) → text", "name of the operating system", agent::os),
    function("url_fragment", "(url) → text", "what follows '#'", net::url_fragment),
    function("url_host", "(url) → text", "host, in lower case, without port and user", net::url_host),
    function("url_path", "(url) → text", "path, '/' if there is none", net::url_path),
    function(
        "url_query",
        "(url, name) → text",
        "value of a query parameter, decoded; NULL if it is not there",
        net::url_query,
    ),
    function("url_scheme", "(url) → text", "scheme, in lower case", net::url_scheme),
];

/// All of them, for the planner.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    ALL.iter().map(|function| Arc::new((function.make)(function.name))).collect()
}
