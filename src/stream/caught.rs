//! The code behind expressions is not all ours, and some of it panics at values that nobody thought of: that is an error of the rows that it
//! fails on, as any other, and no end of the pipeline.

use datafusion_common::{DataFusionError, Result as SqlResult};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHES: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread, now, becomes an error of rows, which tells of it: nobody else has to.
pub(crate) fn catches_panics() -> bool {
    CATCHES.get()
}

/// Does something with values that nobody has looked at.
///
/// # Errors
/// As `act`, or that it panicked.
pub(super) fn caught<T>(act: impl FnOnce() -> SqlResult<T>) -> SqlResult<T> {
    let before = CATCHES.replace(true);
    let done = catch_unwind(AssertUnwindSafe(act));
    CATCHES.set(before);
    done.unwrap_or_else(|panic| {
        let texts = (panic.downcast_ref::<&str>().copied(), panic.downcast_ref::<String>().map(String::as_str));
        let why = texts.0.or(texts.1).unwrap_or("it panicked");
        Err(DataFusionError::Execution(format!("no expression can be reckoned with this value: {why}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words_and_only_what_is_asked_is_caught() {
        let panicked = caught::<()>(|| panic!("attempt to {} with overflow", "subtract")).unwrap_err();
        assert!(panicked.to_string().ends_with("this value: attempt to subtract with overflow"), "{panicked}");
        assert!(!catches_panics());
        assert!(caught(|| caught::<()>(|| panic!("within")).map_err(|_| assert!(catches_panics())).or(Ok(()))).is_ok());
    }
}
