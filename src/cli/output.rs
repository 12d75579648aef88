//! Lines on standard output and standard error.

use std::io::Write;

/// Writes a line. A closed pipe is no reason to stop.
pub(super) fn print_line(to: &mut impl Write, line: &str) {
    drop(writeln!(to, "{line}"));
}
