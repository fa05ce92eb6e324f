//! TOML text to values with their place: all mistakes gathered, each with file, line, column, field and "did you mean".
//!
//! Reads no file itself. CONTRACT STUB beyond [`Mistake`].

use std::fmt;
use std::path::PathBuf;

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
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
