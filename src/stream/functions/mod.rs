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
        "keyed pseudonym, hex; the secret is best secret('NAME')",
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
    function(
        crate::stream::secrets::FUNCTION,
        "(name) → text",
        "what the file NAME holds, under $CREDENTIALS_DIRECTORY or in secrets/ beside the pipeline file; read when the pipeline starts",
        text::secret,
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BinaryArray, StringArray, new_null_array};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Field};
    use datafusion_expr::{ColumnarValue, ScalarFunctionArgs};

    const TEXTS: [DataType; 3] = [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View];
    const BINARIES: [DataType; 3] = [DataType::Binary, DataType::LargeBinary, DataType::BinaryView];

    fn call(function: &ScalarUDF, arguments: Vec<ArrayRef>) -> datafusion_common::Result<ArrayRef> {
        let kinds: Vec<DataType> = arguments.iter().map(|array| array.data_type().clone()).collect();
        let rows = arguments[0].len();
        let field = |kind: &DataType| Arc::new(Field::new("x", kind.clone(), true));
        let returned = function.inner().return_type(&kinds)?;
        let arguments = ScalarFunctionArgs {
            args: arguments.into_iter().map(ColumnarValue::Array).collect(),
            arg_fields: kinds.iter().map(field).collect(),
            number_rows: rows,
            return_field: field(&returned),
            config_options: Arc::default(),
        };
        function.invoke_with_args(arguments)?.into_array(rows)
    }

    fn is_of_bytes(function: &Function) -> bool {
        function.signature.starts_with("(binary)")
    }

    #[test]
    fn every_function_takes_every_form_of_its_input_and_null_gives_null() {
        for function in ALL {
            let udf = (function.make)(function.name);
            let count = function.signature.split(')').next().unwrap_or_default().split(',').count();
            let odd = ["", "?", "%", "https://", "//[", "a=%zz&b", "{", "😀", "::ffff:1.2.3.4"];
            let input: ArrayRef = match is_of_bytes(function) {
                true => Arc::new(BinaryArray::from_iter(odd.iter().map(|text| Some(text.as_bytes())).chain([None]))),
                false => Arc::new(StringArray::from_iter(odd.iter().map(Some).chain([None]))),
            };
            let mut answers = Vec::new();
            for kind in if is_of_bytes(function) { BINARIES } else { TEXTS } {
                let input = cast(&input, &kind).unwrap();
                let answer = call(&udf, vec![input.clone(); count]).unwrap();
                let nulls = call(&udf, vec![new_null_array(&kind, 2); count]).unwrap();
                let is_null = nulls.null_count() == 2;
                assert_eq!(is_null, function.name != "is_bot", "{} of NULL", function.name);
                assert_eq!(answer.is_null(odd.len()), is_null, "{} of NULL among others", function.name);
                answers.push(answer);
            }
            assert!(
                answers.windows(2).all(|pair| pair[0].as_ref() == pair[1].as_ref()),
                "{} differs by form",
                function.name
            );
            let untyped = call(&udf, vec![new_null_array(&DataType::Null, 2); count]).unwrap();
            assert_eq!(untyped.null_count() == 2, function.name != "is_bot", "{} of an untyped NULL", function.name);
        }
    }

    #[test]
    fn the_documentation_lists_every_function_and_every_reason() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PIPELINES.md");
        let page = std::fs::read_to_string(page).unwrap();
        for Function { name, signature, meaning, .. } in ALL {
            let line = format!("| `{name}{signature}` | {meaning} |");
            assert!(page.contains(&line), "docs/PIPELINES.md lacks {line}");
        }
        for reason in crate::stream::fault::Reason::ALL {
            let line = format!("| `{}` | {} |", reason.as_str(), reason.step());
            assert!(page.contains(&line), "docs/PIPELINES.md lacks {line}");
        }
    }

    #[test]
    fn what_a_function_cannot_read_it_says_by_name() {
        let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1]));
        for function in ALL {
            let udf = (function.make)(function.name);
            let count = function.signature.split(')').next().unwrap_or_default().split(',').count();
            let error = call(&udf, vec![numbers.clone(); count]).unwrap_err().to_string();
            let wanted = if is_of_bytes(function) { "binary" } else { "text" };
            assert!(error.contains(&format!("{} takes {wanted}, not Int64", function.name)), "{error}");
        }
    }
}
