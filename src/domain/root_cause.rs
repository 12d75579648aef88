//! What lies at the bottom of an error.

use std::error::Error;

/// The last cause along the chain; the error itself where there is none.
pub fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root
}
