//! `inrush pipeline test --update`: what failing tests of a file expect becomes what came out, in the file itself. All else of it stays as it
//! is written: comments, order, spaces.

use super::check::{Became, Came, became, passes};
use super::fault::Reason;
use super::load::{self, Job};
use super::parse::NO_EXPECT;
use super::spec::{Expect, Test};
use crate::config::{Mistake, unexpanded};
use crate::json::Node;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Key, Table, Value};

/// One test that says something else now.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// Where the test stood before.
    pub line: usize,
    /// Its lines that were taken out and put in, as TOML.
    pub was: Vec<String>,
    pub now: Vec<String>,
}

/// Why a file was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("the pipeline file has {} mistakes", .0.len())]
    Mistakes(Vec<Mistake>),
    #[error("{0}")]
    Refused(String),
    #[error("cannot write {file}: {source}")]
    Write { file: String, source: io::Error },
}

/// Rewrites what failing tests of a file expect, and gives those that expect nothing what came out. Says what changed; then all its tests
/// pass. Nothing is written if nothing is to change.
///
/// # Errors
/// [`UpdateError`]; the file is as it was.
pub fn update(path: &Path) -> Result<Vec<Change>, UpdateError> {
    let text = match load::file(path) {
        Ok(job) => job.spec.text.clone(),
        Err(mistakes) => {
            let other: Vec<Mistake> = mistakes.into_iter().filter(|mistake| mistake.message != NO_EXPECT).collect();
            if !other.is_empty() {
                return Err(UpdateError::Mistakes(other));
            }
            std::fs::read_to_string(path).map_err(|error| UpdateError::Refused(format!("cannot read it: {error}")))?
        }
    };
    let (new, changes) = updated(path, &text)?;
    if !changes.is_empty() {
        replace(path, &text, &ends_as(&text, new))
            .map_err(|source| UpdateError::Write { file: path.display().to_string(), source })?;
    }
    Ok(changes)
}

/// A new text with the line ends of the old one, which the writer of TOML does not keep.
fn ends_as(old: &str, new: String) -> String {
    let is_crlf = old.contains("\r\n") && !old.replace("\r\n", "").contains('\n');
    if is_crlf { new.replace("\r\n", "\n").replace('\n', "\r\n") } else { new }
}

/// The text with its tests mended, and what was done.
fn updated(path: &Path, text: &str) -> Result<(String, Vec<Change>), UpdateError> {
    let refused = |what: String| UpdateError::Refused(what);
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| refused(error.to_string()))?;
    let lines = lines_of(text);
    let fresh = fill(&mut document).map_err(refused)?;
    let job = load::text(path, &document.to_string()).map_err(UpdateError::Mistakes)?;
    let mut changes = Vec::new();
    for (at, test) in job.spec.tests.iter().enumerate() {
        let came = became(&job, test);
        if passes(test, &came) && !fresh.contains(&at) {
            continue;
        }
        let line = lines.get(at).copied().unwrap_or(test.line);
        if let Became::Down(reason) = &came {
            return Err(refused(format!("the test at line {line} cannot be run: {reason}")));
        }
        let Some(table) = tests(&mut document).and_then(|tests| tests.get_mut(at)) else { continue };
        let was = if fresh.contains(&at) { Vec::new() } else { said(table) };
        match &came {
            Became::Rows(came) => rows(table, &job, test, came, fresh.contains(&at)),
            Became::Dead(reason, _) => dead(table, *reason),
            Became::Down(_) => {}
        }
        changes.push(Change { line, was, now: said(table) });
    }
    let new = document.to_string();
    let again = load::text(path, &new).map_err(UpdateError::Mistakes)?;
    match again.spec.tests.iter().find(|test| !passes(test, &became(&again, test))) {
        Some(test) => {
            Err(refused(format!("the test at line {} does not say the same twice: nothing was written", test.line)))
        }
        None => Ok((new, changes)),
    }
}

fn tests(document: &mut DocumentMut) -> Option<&mut ArrayOfTables> {
    document.get_mut("test").and_then(Item::as_array_of_tables_mut)
}

/// By test the line of its header.
fn lines_of(text: &str) -> Vec<usize> {
    let header = |line: &str| line.split('#').next().is_some_and(|line| line.replace(' ', "").trim() == "[[test]]");
    text.lines().enumerate().filter(|(_, line)| header(line)).map(|(at, _)| at + 1).collect()
}

/// Gives tests that expect nothing something, so that the file can be read; says which.
fn fill(document: &mut DocumentMut) -> Result<BTreeSet<usize>, String> {
    if document.get("test").is_some_and(|tests| !tests.is_array_of_tables()) {
        return Err("its tests are not written as [[test]], and are left as they are".to_owned());
    }
    let mut fresh = BTreeSet::new();
    for (at, table) in tests(document).into_iter().flat_map(|tests| tests.iter_mut()).enumerate() {
        if !table.contains_key("expect") && !table.contains_key("expect-error") {
            put(table, "expect", Value::from("filtered"));
            fresh.insert(at);
        }
    }
    Ok(fresh)
}

/// Writes rows into a test, of the columns that it named if it named any.
fn rows(table: &mut Table, job: &Job, test: &Test, came: &Came, is_fresh: bool) {
    let before: &[String] = match &test.expect {
        Expect::Rows { rows, .. } if rows.len() == came.rows.len() => rows,
        _ => &[],
    };
    let names: Vec<&str> = job.plan.output().fields().iter().map(|field| field.name().as_str()).collect();
    let rows: Vec<String> =
        came.rows.iter().enumerate().map(|(at, row)| row_text(row, before.get(at), &names)).collect();
    let text = match rows.as_slice() {
        [] => "filtered".to_owned(),
        [row] => row.clone(),
        rows => format!("[{}]", rows.join(",")),
    };
    rename(table, "expect-error", "expect");
    put(table, "expect", written(&unexpanded(&text)));
    let wants_outputs = table.contains_key("outputs") || is_fresh && job.spec.routes.len() > 1;
    if rows.is_empty() {
        table.remove("outputs");
    } else if wants_outputs {
        put(table, "outputs", Value::Array(came.outputs.iter().collect::<Array>()));
    }
}

/// A row as text: columns in their order, and of those that `before` has only these, if any of them is left.
fn row_text(row: &str, before: Option<&String>, names: &[&str]) -> String {
    let row = Node::parse(row.as_bytes()).unwrap_or(Node::Null);
    let known = before.and_then(|before| Node::parse(before.as_bytes()).ok());
    let find = |of: &Node<'_>, name: &str| of.field(name).map(Node::to_json);
    let is_wanted = |name: &&&str| known.as_ref().is_none_or(|known| find(known, name).is_some());
    let mut wanted: Vec<&&str> = names.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        wanted = names.iter().collect();
    }
    let column = |name: &&str| {
        let value = find(&row, name).unwrap_or_else(|| "null".to_owned());
        format!("{}:{value}", Json::from(*name))
    };
    format!("{{{}}}", wanted.into_iter().map(column).collect::<Vec<_>>().join(","))
}

fn dead(table: &mut Table, reason: Reason) {
    rename(table, "expect", "expect-error");
    put(table, "expect-error", Value::from(reason.as_str()));
    table.remove("outputs");
}

/// Text in the quotes that leave it readable.
fn written(text: &str) -> Value {
    let is_plain = !text.chars().any(char::is_control);
    let quoted = match text {
        "filtered" => None,
        _ if is_plain && !text.contains('\'') => Some(format!("'{text}'")),
        _ if is_plain && !text.contains("'''") && !text.ends_with('\'') => Some(format!("'''{text}'''")),
        _ => None,
    };
    quoted.and_then(|quoted| quoted.parse().ok()).unwrap_or_else(|| Value::from(text))
}

/// Sets a key's value; what stands around the old one stays.
fn put(table: &mut Table, key: &str, mut value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// Gives a key another name, in its place.
fn rename(table: &mut Table, from: &str, to: &str) {
    if !table.contains_key(from) {
        return;
    }
    let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
    for name in keys {
        let Some((key, item)) = table.remove_entry(&name) else { continue };
        if name == from {
            table.insert_formatted(&Key::new(to).with_leaf_decor(key.leaf_decor().clone()), item);
        } else if name != to {
            table.insert_formatted(&key, item);
        }
    }
}

/// The lines of a test that say what is expected.
fn said(table: &Table) -> Vec<String> {
    let line = |key: &&str| {
        let value = table.get(key).and_then(Item::as_value)?;
        let mut value = value.clone();
        value.decor_mut().clear();
        Some(format!("{key} = {value}"))
    };
    ["expect", "outputs", "expect-error"].iter().filter_map(line).collect()
}

/// Puts a text in a file's place, whole or not at all, unless somebody has changed what it was made of.
fn replace(path: &Path, old: &str, text: &str) -> io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let new = folder.join(format!(".inrush-update-{}-{:08x}", std::process::id(), fastrand::u32(..)));
    let write = || {
        let mut file = std::fs::File::options().write(true).create_new(true).open(&new)?;
        file.set_permissions(std::fs::metadata(&path)?.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if std::fs::read(&path)? != old.as_bytes() {
            return Err(io::Error::other("it was changed while its tests ran; run it again"));
        }
        std::fs::rename(&new, &path)
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# On top.
from   = "topic:t"
where  = "n > 0"
select = "n, 10 / (n - 3) as m, s"
to     = { parquet = "t" }   # the folder

[columns]
n = "int64"
s = "string"

# It is right.
[[test]]
given  = { value = '{"n":1}' }
expect = '{"m":-5}'

[[test]] # says less
given    = { value = '{"n":4,"s":"it''s"}' }
expect   = '{"m":1}'       # was so once

[[test]]
expect = "filtered"
given  = { value = '{"n":3}' }

[[test]]
given = { value = '{"n":0}' }
# Why it dies.
expect-error = "not-json"

# Nothing is expected.
[[test]]
given = { value = '{"n":13}' }
"#;

    fn text() -> String {
        TEXT.replace("it''s", "its")
    }

    #[test]
    fn failing_tests_say_what_came_out_and_all_else_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, text()).unwrap();
        let changes = update(&file).unwrap();
        let lines: Vec<usize> = changes.iter().map(|change| change.line).collect();
        assert_eq!(lines, [16, 20, 24, 30]);
        assert_eq!(changes[0].was, ["expect = '{\"m\":1}'"]);
        assert_eq!(changes[0].now, ["expect = '{\"m\":10}'"]);
        let wanted = text()
            .replace("expect   = '{\"m\":1}'", "expect   = '{\"m\":10}'")
            .replace("expect = \"filtered\"\ngiven", "expect-error = \"expression\"\ngiven")
            .replace("expect-error = \"not-json\"", "expect = \"filtered\"")
            + "expect = '{\"n\":13,\"m\":1,\"s\":null}'\n";
        assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted);
        assert_eq!(update(&file).unwrap(), []);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted);
        assert!(crate::stream::test(&file).unwrap().iter().all(|test| test.passed));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn line_ends_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, text().replace('\n', "\r\n")).unwrap();
        assert_eq!(update(&file).unwrap().len(), 4);
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(written.contains("expect   = '{\"m\":10}'"), "{written}");
        assert_eq!(written.matches('\n').count(), written.matches("\r\n").count(), "{written:?}");
    }

    #[test]
    fn an_edit_that_was_saved_meanwhile_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, "edited").unwrap();
        assert!(replace(&file, "as it was", "new").unwrap_err().to_string().contains("run it again"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "edited");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_file_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let broken = text().replace("n > 0", "nn > 0");
        std::fs::write(&file, &broken).unwrap();
        let Err(UpdateError::Mistakes(mistakes)) = update(&file) else { panic!("it is broken") };
        assert!(mistakes.len() == 1 && mistakes[0].line == 3, "{mistakes:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), broken);
    }

    #[test]
    fn several_rows_and_outputs_and_quotes_are_written_so_that_they_can_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let text = "from = \"topic:t\"\nformat = \"ndjson\"\n[columns]\nn = \"int64\"\ns = \"string\"\n[[step]]\nselect = \"n, s\"\n[[route]]\nwhere = \"n > 1\"\nto = { topic = \"a\" }\n[[route]]\notherwise = true\nto = { topic = \"b\" }\n[[test]]\ngiven = { value = \"{\\\"n\\\":1,\\\"s\\\":\\\"it's\\\"}\\n{\\\"n\\\":2}\" }\n[[test]]\ngiven = { value = '{\"n\":3}' }\nexpect = '{\"n\":3}'\noutputs = [\"topic b\"]\n";
        std::fs::write(&file, text).unwrap();
        let changes = update(&file).unwrap();
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0].now[1], "outputs = [\"topic a\", \"topic b\"]");
        assert_eq!(changes[1].now, ["expect = '{\"n\":3}'", "outputs = [\"topic a\"]"]);
        assert!(crate::stream::test(&file).unwrap().iter().all(|test| test.passed));
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(written.contains(r#"expect = '''[{"n":2,"s":null},{"n":1,"s":"it's"}]'''"#), "{written}");
    }
}
