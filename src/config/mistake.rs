//! [`Mistake`]: one thing that is wrong in a file, with its place and what to do.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mistake {
    pub file: PathBuf,
    /// From 1; 0 = the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Dotted path of the field, if it is about one.
    pub field: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        match &self.field {
            Some(field) => write!(f, ": {field}: {}", self.message),
            None => write!(f, ": {}", self.message),
        }
    }
}

/// The mistakes of one file as they are found; readers share it.
pub struct Mistakes<'a> {
    pub file: &'a Path,
    pub text: &'a str,
    found: RefCell<Vec<Mistake>>,
}

impl<'a> Mistakes<'a> {
    pub fn new(file: &'a Path, text: &'a str) -> Mistakes<'a> {
        Mistakes { file, text, found: RefCell::default() }
    }

    /// Notes a mistake at a place (bytes of the text); `None` = the file as a whole.
    pub fn add(&self, place: Option<Range<usize>>, field: &str, message: impl Into<String>) {
        let (line, column) = place.map_or((0, 0), |place| position(self.text, place.start));
        let field = (!field.is_empty()).then(|| field.to_owned());
        self.found.borrow_mut().push(Mistake {
            file: self.file.to_owned(),
            line,
            column,
            field,
            message: message.into(),
        });
    }

    pub fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// Whether one is about a field as a whole.
    pub fn is_about(&self, field: &str) -> bool {
        self.found.borrow().iter().any(|mistake| mistake.field.as_deref() == Some(field))
    }

    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// All of them, by place.
    pub fn into_inner(self) -> Vec<Mistake> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|mistake| (mistake.line, mistake.column));
        found
    }
}

/// Line and column, from 1, of a byte of `text`; columns count characters.
pub fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// What a word is closed with that is not known.
pub(super) fn did_you_mean(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(known) => format!("; did you mean \"{known}\"?"),
        None => format!("; known: {}", known.join(", ")),
    }
}

/// The known word that is so near that it must have been meant.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // One slip of the hand goes before a word that begins alike: `form` is `from`, not `format`.
    let is_slip = |known: &str| word.len() > 2 && strsim::damerau_levenshtein(known, word) <= 1;
    let likeness = known.iter().map(|known| (is_slip(known), strsim::jaro_winkler(known, word), *known));
    let (is_slip, likeness, known) = likeness.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)))?;
    (is_slip || likeness > 0.75).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters() {
        assert_eq!(position("a = 1\nä = 2", 6), (2, 1));
        assert_eq!(position("a = 1\nä = 2", 11), (2, 5));
    }

    #[test]
    fn a_mistake_reads_as_a_compiler_would_say_it() {
        let mistakes = Mistakes::new(Path::new("p.toml"), "from = 1");
        mistakes.add(Some(7..8), "from", "it must be text");
        assert_eq!(mistakes.into_inner()[0].to_string(), "p.toml:1:8: from: it must be text");
    }
}
