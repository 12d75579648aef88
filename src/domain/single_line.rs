//! Text of strangers, made fit for a terminal.

use std::fmt::{self, Write as _};

/// How many characters are shown.
const SHOWN: usize = 120;

/// Shows a text as one line, not too long, with nothing in it that a terminal would obey.
#[derive(Debug, Clone, Copy)]
pub struct SingleLine<'a>(pub &'a str);

impl fmt::Display for SingleLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(SHOWN) {
            f.write_char(if c.is_control() { ' ' } else { c })?;
        }
        if self.0.chars().nth(SHOWN).is_some() { f.write_char('…') } else { Ok(()) }
    }
}
