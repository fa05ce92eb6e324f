//! `secret('NAME')` in a pipeline's SQL: a key that stands in a file of its own and not in the pipeline's, nor in the checkpoint that
//! keeps the pipeline's text. Read once, when the pipeline is planned.

use crate::record::TopicName;
use bytes::Bytes;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{Expr, lit};
use std::fmt;
use std::path::{Path, PathBuf};

/// The function's name in SQL.
pub(super) const FUNCTION: &str = "secret";

/// Replaces each call of `secret` by what its file holds: `$CREDENTIALS_DIRECTORY/NAME` (systemd's `LoadCredential=`), else `secrets/NAME`
/// beside the pipeline file. A line end at the end does not count.
/// What they hold is noted.
pub(super) fn resolve(expr: Expr, pipeline: &Path, filled: &mut Vec<String>) -> Result<Expr> {
    replace(expr, |name| {
        let text = read(name, pipeline)?;
        filled.push(text.clone());
        Ok(text)
    })
}

/// Replaces each call of `secret` by a text that names it, for SQL that people read.
pub(super) fn name(expr: Expr, _: &Path, _: &mut Vec<String>) -> Result<Expr> {
    replace(expr, |name| Ok(format!("<secret {name}>")))
}

fn replace(expr: Expr, mut by: impl FnMut(&str) -> Result<String>) -> Result<Expr> {
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

/// Values that nothing shows, also not in the words of who says them back.
#[derive(Clone, Default)]
pub(super) struct Hidden(Vec<String>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Hidden {
    pub(super) fn of(mut secrets: Vec<String>) -> Hidden {
        secrets.retain(|secret| !secret.is_empty());
        // One may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Hidden(secrets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text without them.
    pub(super) fn masked(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "(secret)"))
    }

    /// The words of another side without them.
    pub(super) fn mask(&self, said: Bytes) -> Bytes {
        if self.is_empty() { said } else { Bytes::from(self.masked(&String::from_utf8_lossy(&said))) }
    }
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
        Ok(text) if !text.trim_end_matches(['\n', '\r']).is_empty() => {
            Ok(text.trim_end_matches(['\n', '\r']).to_owned())
        }
        Ok(_) => Err(format!("the secret {} is empty", path.display())),
        Err(error) => Err(format!("cannot read the secret {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use crate::stream::load;

    #[test]
    fn an_expression_that_fails_shows_no_secret() {
        use crate::clock::Clock;
        use crate::stream::offline::{Dead, Destination, Listener, run};
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(folder.path().join("secrets/key"), "Jefe-of-old\n").unwrap();
        let text = |sql: &str| {
            format!("from = \"topic:t\"\nselect = \"{sql}\"\nto = {{ topic = \"o\" }}\n[columns]\nu = \"string\"\n")
        };
        std::fs::write(&file, text("cast(u || secret('key') as int) as n")).unwrap();
        let mut told = Vec::new();
        let mut dead = |dead: Dead| told.push(dead.message.to_string());
        let mut listener = Listener { dead: &mut dead, progress: &mut |_| {} };
        let mut out = Vec::new();
        let events = &mut "{\"u\":\"x\"}\n".as_bytes();
        run(&file, &[], events, Destination::Lines(&mut out), &Clock::manual(9), &mut listener).unwrap();
        assert!(told.len() == 1 && told[0].contains("x(secret)") && !told[0].contains("Jefe"), "{told:?}");
        // What is made of constants fails when it is planned.
        let wrong = load::text(&file, &text("cast(secret('key') as int) as n")).err().unwrap()[0].to_string();
        assert!(!wrong.contains("Jefe"), "{wrong}");
    }

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
        std::fs::write(folder.path().join("secrets/key"), "Jefe\r\n").unwrap();
        assert_eq!(super::fill("{secret:key}", &file).as_deref(), Ok("Jefe"));
        assert!(super::fill("{secret:none}", &file).unwrap_err().contains("secrets/none"));
        assert!(super::fill("{secret:key", &file).is_err());
    }
}
