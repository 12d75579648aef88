//! The root cause of an error.

use std::error::Error;

/// The last source of `error`, which names the actual cause; `error` itself if it has none.
pub fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root
}
