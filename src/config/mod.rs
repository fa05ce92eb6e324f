//! TOML text to values with their place: all mistakes gathered, each with file, line, column, field and "did you mean".
//!
//! Reads no file itself: rooms hand it text and make their own options from its tables.

mod mistake;
mod section;
mod units;

pub use mistake::{Mistake, Mistakes, nearest, position};
pub use section::{Document, Section, Value, unexpanded};
pub use units::{duration, size};
