//! `secret('NAME')` in a pipeline's SQL: a key that stands in a file of its own and not in the pipeline's, nor in the checkpoint that
//! keeps the pipeline's text. Read once, when the pipeline is planned.

use crate::record::TopicName;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{Expr, lit};
use std::path::{Path, PathBuf};

/// The function's name in SQL.
pub(super) const FUNCTION: &str = "secret";

/// Replaces each call of `secret` by what its file holds: `$CREDENTIALS_DIRECTORY/NAME` (systemd's `LoadCredential=`), else `secrets/NAME`
/// beside the pipeline file. A newline at the end does not count.
pub(super) fn resolve(expr: Expr, pipeline: &Path) -> Result<Expr> {
    replace(expr, |name| read(name, pipeline))
}

/// Replaces each call of `secret` by a text that names it, for SQL that people read.
pub(super) fn name(expr: Expr, _: &Path) -> Result<Expr> {
    replace(expr, |name| Ok(format!("<secret {name}>")))
}

fn replace(expr: Expr, by: impl Fn(&str) -> Result<String>) -> Result<Expr> {
    let resolved = expr.transform(|expr| match &expr {
        Expr::ScalarFunction(call) if call.func.name() == FUNCTION => {
            let name = match call.args.as_slice() {
                [Expr::Literal(ScalarValue::Utf8(Some(name)), _)] => name.clone(),
                _ => return plan_err!("secret takes the name of one file, in quotes: secret('visitors')"),
            };
            Ok(Transformed::yes(lit(by(&name)?)))
        }
        _ => Ok(Transformed::no(expr)),
    })?;
    Ok(resolved.data)
}

/// Text in which `{secret:NAME}` stands for what that secret's file holds.
///
/// # Errors
/// A secret that is missing or empty; never what another one holds.
pub(super) fn fill(text: &str, pipeline: &Path) -> std::result::Result<String, String> {
    fill_noting(text, pipeline, &mut Vec::new())
}

/// The same; what it fills in is noted.
///
/// # Errors
/// As [`fill`].
pub(super) fn fill_noting(
    text: &str,
    pipeline: &Path,
    filled: &mut Vec<String>,
) -> std::result::Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{secret:") {
        let (name, after) = after.split_once('}').ok_or("a secret is written {secret:NAME}")?;
        out.push_str(before);
        let value = named(name, pipeline)?;
        out.push_str(&value);
        filled.push(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// What a secret's file holds.
///
/// # Errors
/// It is missing or empty.
pub(super) fn named(name: &str, pipeline: &Path) -> std::result::Result<String, String> {
    text_of(name, pipeline)
}

pub(super) fn read(name: &str, pipeline: &Path) -> Result<String> {
    text_of(name, pipeline).or_else(|reason| plan_err!("{reason}"))
}

/// What the file of a secret holds.
///
/// # Errors
/// For people; they name the file and nothing of what is in it.
pub(super) fn text_of(name: &str, pipeline: &Path) -> std::result::Result<String, String> {
    // A file's name as a topic's: nothing that leaves the folder.
    if TopicName::new(name).is_err() {
        return Err(format!("\"{name}\" is no name of a secret: use letters, digits, '.', '_' and '-'"));
    }
    let beside = pipeline.parent().unwrap_or(Path::new(".")).join("secrets").join(name);
    let of_systemd = std::env::var_os("CREDENTIALS_DIRECTORY").map(|folder| PathBuf::from(folder).join(name));
    let path = of_systemd.filter(|path| path.exists()).unwrap_or(beside);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim_end_matches('\n').is_empty() => Ok(text.trim_end_matches('\n').to_owned()),
        Ok(_) => Err(format!("the secret {} is empty", path.display())),
        Err(error) => Err(format!("cannot read the secret {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use crate::stream::load;

    #[test]
    fn a_secret_comes_from_its_file_and_a_missing_one_is_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let text = "from = \"topic:t\"\nselect = \"hmac_sha256(u, secret('key')) as u\"\nto = { parquet = \"t\" }\n[columns]\nu = \"string\"\n";
        let wrong = |text: &str| load::text(&file, text).err().unwrap()[0].to_string();
        let missing = wrong(text);
        assert!(missing.contains("p.toml:2:") && missing.contains("secrets/key"), "{missing}");
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(folder.path().join("secrets/key"), "Jefe\n").unwrap();
        let job = load::text(&file, text).unwrap();
        let users = arrow::array::StringArray::from(vec!["what do ya want for nothing?"]);
        let rows =
            arrow::record_batch::RecordBatch::try_new(job.plan.input().clone(), vec![std::sync::Arc::new(users)]);
        let done = job.plan.run(crate::stream::step::Rows { batch: rows.unwrap(), sources: vec![0] });
        let hashed = arrow::array::AsArray::as_string::<i32>(done.routes[0].batch.column(0)).value(0).to_owned();
        // RFC 4231, test case 2.
        assert_eq!(hashed, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert!(wrong(&text.replace("'key'", "'../key'")).contains("no name of a secret"));
        assert!(wrong(&text.replace("'key'", "u")).contains("in quotes"));
        assert_eq!(super::fill("Bearer {secret:key}!", &file).as_deref(), Ok("Bearer Jefe!"));
        assert!(super::fill("{secret:none}", &file).unwrap_err().contains("secrets/none"));
        assert!(super::fill("{secret:key", &file).is_err());
    }
}
