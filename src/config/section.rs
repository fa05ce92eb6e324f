//! [`Document`] and [`Section`]: TOML tables whose getters note mistakes and go on, so that one run finds them all.

use super::mistake::{Mistakes, did_you_mean};
use super::{duration, size};
use std::cell::RefCell;
use std::ops::Range;
use std::time::Duration;
use toml_edit::{Document as Toml, Item, TableLike};

/// A parsed file.
pub struct Document {
    toml: Toml<String>,
}

/// A table of a file, and which of its keys were asked for.
pub struct Section<'a> {
    table: &'a dyn TableLike,
    path: String,
    place: Option<Range<usize>>,
    mistakes: &'a Mistakes<'a>,
    asked: RefCell<Vec<&'a str>>,
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Value<T> {
    pub value: T,
    /// Bytes of the file's text.
    pub place: Option<Range<usize>>,
}

impl Document {
    /// Parses the text of `mistakes`; a syntax error is noted there.
    pub fn parse(mistakes: &Mistakes<'_>) -> Option<Document> {
        match Toml::parse(mistakes.text.to_owned()) {
            Ok(toml) => Some(Document { toml }),
            Err(error) => {
                mistakes.add(error.span(), "", error.message().to_owned());
                None
            }
        }
    }

    pub fn root<'a>(&'a self, mistakes: &'a Mistakes<'a>) -> Section<'a> {
        Section { table: self.toml.as_table(), path: String::new(), place: None, mistakes, asked: RefCell::default() }
    }
}

impl<'a> Section<'a> {
    fn section(&self, table: &'a dyn TableLike, path: String, place: Option<Range<usize>>) -> Section<'a> {
        Section { table, path, place, mistakes: self.mistakes, asked: RefCell::default() }
    }

    /// Where the mistakes of this file go.
    pub fn mistakes(&self) -> &'a Mistakes<'a> {
        self.mistakes
    }

    /// Where the table stands in the text, if it stands there.
    pub fn place(&self) -> Option<Range<usize>> {
        self.place.clone()
    }

    /// The dotted path of a key of this table.
    pub fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a mistake about a key of this table, or about the table for an empty key.
    pub fn wrong(&self, key: &str, message: impl Into<String>) {
        let place = self.table.get_key_value(key).and_then(|(_, item)| item.span()).or(self.place.clone());
        let field = if key.is_empty() { self.path.clone() } else { self.path(key) };
        self.mistakes.add(place, &field, message);
    }

    /// The raw item of a key, which is known from now on.
    pub fn item(&self, key: &'a str) -> Option<&'a Item> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.table.get(key)
    }

    /// Whether a key is there; it is known from now on.
    pub fn has(&self, key: &'a str) -> bool {
        self.item(key).is_some()
    }

    /// Which are there of some keys that rule each other out. Unless it is one, all of them are known from now on, so that a typo is told
    /// from them.
    pub fn which(&self, keys: &[&'static str]) -> Vec<&'static str> {
        let found: Vec<&str> = keys.iter().copied().filter(|key| self.table.contains_key(key)).collect();
        if found.len() != 1 {
            for key in keys {
                self.item(key);
            }
        }
        found
    }

    /// Keys in the order of the file, with their items.
    pub fn entries(&self) -> Vec<(&'a str, &'a Item)> {
        self.table.iter().collect()
    }

    pub fn string(&self, key: &'static str) -> Option<Value<String>> {
        let item = self.item(key)?;
        match item.as_str() {
            Some(text) => self.expanded(key, text).map(|value| Value { value, place: item.span() }),
            None => self.not(key, item, "text in quotes"),
        }
    }

    pub fn integer(&self, key: &'static str) -> Option<Value<i64>> {
        let item = self.item(key)?;
        match item.as_integer() {
            Some(value) => Some(Value { value, place: item.span() }),
            None => self.not(key, item, "a whole number"),
        }
    }

    pub fn boolean(&self, key: &'static str) -> Option<Value<bool>> {
        let item = self.item(key)?;
        match item.as_bool() {
            Some(value) => Some(Value { value, place: item.span() }),
            None => self.not(key, item, "true or false"),
        }
    }

    pub fn duration(&self, key: &'static str) -> Option<Value<Duration>> {
        self.read(key, duration)
    }

    pub fn size(&self, key: &'static str) -> Option<Value<u64>> {
        self.read(key, size)
    }

    /// A string that `read` understands; its error is noted.
    pub fn read<T>(&self, key: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<Value<T>> {
        let text = self.string(key)?;
        match read(&text.value) {
            Ok(value) => Some(Value { value, place: text.place }),
            Err(reason) => {
                self.wrong(key, reason);
                None
            }
        }
    }

    pub fn strings(&self, key: &'static str) -> Option<Vec<String>> {
        let item = self.item(key)?;
        let list = item
            .as_array()
            .map(|list| list.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
        match list {
            Some(Some(list)) => Some(list),
            _ => self.not(key, item, "a list of texts"),
        }
    }

    /// A table whose keys are the user's: each with its text.
    pub fn texts(&self) -> Vec<(&'a str, Value<String>)> {
        let text = |(key, item): (&'a str, &'a Item)| match item.as_str() {
            Some(text) => Some((key, Value { value: self.expanded(key, text)?, place: item.span() })),
            None => self.not(key, item, "text in quotes"),
        };
        self.table.iter().filter_map(text).collect()
    }

    pub fn table(&self, key: &'static str) -> Option<Section<'a>> {
        let item = self.item(key)?;
        match item.as_table_like() {
            Some(table) => Some(self.section(table, self.path(key), item.span())),
            None => self.not(key, item, "a table"),
        }
    }

    /// Tables written as `[[key]]` (or a list of inline tables).
    pub fn tables(&self, key: &'a str) -> Vec<Section<'a>> {
        let Some(item) = self.item(key) else { return Vec::new() };
        if let Some(tables) = item.as_array_of_tables() {
            let section = |(at, table): (usize, &'a toml_edit::Table)| {
                self.section(table as &dyn TableLike, format!("{}[{at}]", self.path(key)), table.span())
            };
            return tables.iter().enumerate().map(section).collect();
        }
        if let Some(list) = item.as_array()
            && list.iter().all(toml_edit::Value::is_inline_table)
        {
            let section = |(at, value): (usize, &'a toml_edit::Value)| {
                let table = value.as_inline_table()?;
                Some(self.section(table as &dyn TableLike, format!("{}[{at}]", self.path(key)), value.span()))
            };
            return list.iter().enumerate().filter_map(section).collect();
        }
        self.not::<()>(key, item, "tables, each under its own [[ ]] header");
        Vec::new()
    }

    /// Notes every key that nobody asked for, with the nearest one that is known.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, item) in self.table.iter() {
            if !asked.contains(&key) {
                let place = self.table.get_key_value(key).and_then(|(key, _)| key.span()).or(item.span());
                let hint = did_you_mean(key, &asked);
                self.mistakes.add(place, &self.path(key), format!("this key is not known{hint}"));
            }
        }
    }

    /// Environment variables stand as `${NAME}` inside values only, so they can never change the file's shape. `$${` is `${`.
    pub(crate) fn expanded(&self, key: &str, text: &str) -> Option<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if before.ends_with('$') {
                out.push_str(before);
                out.push('{');
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}') else {
                self.wrong(
                    key,
                    "this ${ is not closed: write ${NAME}, or $${ for the two characters themselves".to_owned(),
                );
                return None;
            };
            out.push_str(before);
            match std::env::var(name) {
                Ok(value) => out.push_str(&value),
                Err(_) => {
                    self.wrong(key, format!("the environment has no variable {name}"));
                    return None;
                }
            }
            rest = after;
        }
        out.push_str(rest);
        Some(out)
    }

    fn not<T>(&self, key: &str, item: &Item, wanted: &str) -> Option<T> {
        self.wrong(key, format!("this is of the type {}, it must be {wanted}", item.type_name()));
        None
    }
}

/// A text as a value that means it: without variables of the environment.
pub fn unexpanded(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn all_mistakes_are_found_at_once_with_their_places() {
        let text = "name = 7\nage = \"5x\"\nfrmo = 1\n[sub]\nlist = [1]\n";
        let mistakes = Mistakes::new(Path::new("a.toml"), text);
        let document = Document::parse(&mistakes).unwrap();
        let root = document.root(&mistakes);
        assert_eq!(root.string("name"), None);
        assert_eq!(root.duration("age"), None);
        assert_eq!(root.string("from"), None);
        let sub = root.table("sub").unwrap();
        assert_eq!(sub.strings("list"), None);
        sub.finish();
        root.finish();
        drop((root, sub));
        let found: Vec<String> = mistakes.into_inner().iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[0].starts_with("a.toml:1:8: name: "), "{found:#?}");
        assert!(found[2].contains("a.toml:3:1: frmo") && found[2].contains("\"from\""), "{found:#?}");
        assert!(found[3].contains("sub.list"), "{found:#?}");
    }

    #[test]
    fn variables_are_put_in_and_two_dollars_are_one() {
        let text = "a = \"x ${PATH} $${PATH} $5\"\nb = \"${NO_SUCH_VARIABLE_HERE}\"\nc = \"${PATH\"\n";
        let mistakes = Mistakes::new(Path::new("a.toml"), text);
        let document = Document::parse(&mistakes).unwrap();
        let root = document.root(&mistakes);
        let path = std::env::var("PATH").unwrap();
        assert_eq!(root.string("a").unwrap().value, format!("x {path} ${{PATH}} $5"));
        assert_eq!((root.string("b"), root.string("c")), (None, None));
        for text in ["${a} $${b} $", "$${", ""] {
            assert_eq!(root.expanded("a", &unexpanded(text)).as_deref(), Some(text));
        }
        drop(root);
        let found = mistakes.into_inner();
        assert!(found[0].to_string().contains("no variable NO_SUCH_VARIABLE_HERE"));
        assert!(found[1].to_string().starts_with("a.toml:3:5: c: this ${ is not closed"), "{}", found[1]);
    }

    #[test]
    fn a_key_that_was_looked_for_is_known_and_of_alternatives_the_one_that_is_there() {
        let text = "alpha = 1\nsedond = 2\n[sub]\none = 1\ntow = 2\n";
        let mistakes = Mistakes::new(Path::new("a.toml"), text);
        let document = Document::parse(&mistakes).unwrap();
        let (root, none) = (document.root(&mistakes), Vec::<&str>::new());
        assert!(root.has("alpha") && !root.has("second"));
        let sub = root.table("sub").unwrap();
        assert_eq!(sub.which(&["one", "two"]), ["one"]);
        assert_eq!(sub.integer("one").unwrap().value, 1);
        sub.finish();
        assert_eq!(root.which(&["fourth", "fifth"]), none);
        root.finish();
        drop((root, sub));
        let found: Vec<String> = mistakes.into_inner().iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].contains("sedond") && found[0].contains("did you mean \"second\""), "{found:#?}");
        assert!(found[1].contains("sub.tow") && found[1].ends_with("known: one"), "{found:#?}");
    }

    #[test]
    fn a_syntax_error_has_its_place() {
        let mistakes = Mistakes::new(Path::new("a.toml"), "a = 1\nb = = 2\n");
        assert!(Document::parse(&mistakes).is_none());
        assert_eq!(mistakes.into_inner()[0].line, 2);
    }
}
