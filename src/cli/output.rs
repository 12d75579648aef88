//! Lines on standard output and standard error.

use std::io::Write;

/// A write error, such as a closed pipe, is ignored.
pub(super) fn print_line(to: &mut impl Write, line: &str) {
    drop(writeln!(to, "{line}"));
}
