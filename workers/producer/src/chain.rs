//! An error with its causes.

use std::error::Error;

/// The error and its causes in one line. A cause whose text the line ends with already, because some libraries repeat their
/// causes in their own texts, is not said again.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
