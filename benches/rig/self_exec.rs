//! Runs this program again, in another role.

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::BoxError;

/// This program in another role; dropping the value ends the process.
pub(crate) struct SelfExec {
    child: Child,
    _lifeline: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl SelfExec {
    pub(crate) fn start(role: &str, options: &[(&str, &dyn Display)]) -> Result<Self, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role]).stdin(Stdio::piped()).stdout(Stdio::piped());
        for (name, value) in options {
            command.args([name, value.to_string().as_str()]);
        }
        let mut child = command.spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Self { _lifeline: child.stdin.take(), child, output })
    }

    /// Waits for the next line of its output.
    pub(crate) fn next_line(&mut self) -> Result<String, BoxError> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err("a process of the benchmark ended without its figures".into()),
            _ => Ok(line.trim().to_owned()),
        }
    }
}

impl Drop for SelfExec {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
