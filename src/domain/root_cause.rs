//! The root cause of an error.

use std::error::Error;

/// Follows the sources of `error` and returns the last one, which names the actual cause. Returns `error` itself if it
/// has no source.
pub fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root
}
