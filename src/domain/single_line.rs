//! Untrusted text for one line of a terminal or a log.

use std::fmt::{self, Write as _};

const MAX_CHARACTERS: usize = 120;

/// Displays a text as one line: control characters become spaces, and a long text is cut off.
#[derive(Debug, Clone, Copy)]
pub struct SingleLine<'a>(pub &'a str);

impl fmt::Display for SingleLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(MAX_CHARACTERS) {
            f.write_char(if c.is_control() { ' ' } else { c })?;
        }
        if self.0.chars().nth(MAX_CHARACTERS).is_some() { f.write_char('…') } else { Ok(()) }
    }
}
