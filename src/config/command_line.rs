//! Parsing the command line and the environment, with a one-line error for every bad value.

use std::error::Error as _;
use std::ffi::OsString;

use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Parser};

/// A setting that cannot be used: one line that names the setting and says what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {detail}")]
pub struct ConfigError {
    setting: String,
    detail: String,
}

impl ConfigError {
    /// `setting`: the option or variable at fault. `detail`: what is wrong with its value.
    pub(super) fn new(setting: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { setting: setting.into(), detail: detail.into() }
    }
}

/// The reason why there is no command line to act on.
#[derive(Debug, thiserror::Error)]
pub enum CommandLineError {
    #[error(transparent)]
    Value(#[from] ConfigError),
    /// Anything else that clap reports: `--help`, `--version`, an unknown option.
    #[error(transparent)]
    Usage(clap::Error),
}

/// Parses the command line and the environment of this process. The error names an invalid value, or is clap's own.
pub fn parse_command_line<C: Parser>() -> Result<C, CommandLineError> {
    parse_from(&std::env::args_os().collect::<Vec<_>>())
}

/// `args` begins with the program's name. The error names an invalid value, or is clap's own.
pub(super) fn parse_from<C: Parser>(args: &[OsString]) -> Result<C, CommandLineError> {
    let command = without_empty_variables(C::command());
    let parsed = command.clone().try_get_matches_from(args);
    parsed.and_then(|mut matches| C::from_arg_matches_mut(&mut matches)).map_err(|error| {
        let used = args.iter().skip(1).find_map(|arg| command.find_subcommand(arg));
        let commands: Vec<_> = used.into_iter().chain([&command]).collect();
        match bad_value(&error, &commands) {
            Some(bad) => CommandLineError::Value(bad),
            None => CommandLineError::Usage(error),
        }
    })
}

/// Makes an environment variable with an empty value count as not set, except for required options.
fn without_empty_variables(command: Command) -> Command {
    let ignore = |arg: Arg| {
        let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
        if !arg.is_required_set() && arg.get_env().is_some_and(is_empty) {
            return arg.env(Resettable::<OsStr>::Reset);
        }
        arg
    };
    command.mut_args(ignore).mut_subcommands(without_empty_variables)
}

/// The one-line error for an invalid value. `None`: the error is not about the value of an option of `commands`.
///
/// Never contains a secret: the value parsers of secrets do not repeat the value, and clap's own message, which does,
/// is not used.
fn bad_value(error: &clap::Error, commands: &[&Command]) -> Option<ConfigError> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let option = text(ContextKind::InvalidArg)?.split(' ').next()?;
    let mut args = commands.iter().flat_map(|command| command.get_arguments());
    let arg = args.find(|arg| arg.get_long() == option.strip_prefix("--"))?;
    let setting = match arg.get_env() {
        Some(variable) => format!("{} ({option})", variable.display()),
        None => option.to_owned(),
    };
    let detail = match (error.source(), text(ContextKind::InvalidValue)) {
        (Some(source), _) => source.to_string(),
        (None, None | Some("")) => "a value is required".to_owned(),
        (None, Some(value)) => {
            let possible: Vec<_> =
                arg.get_possible_values().iter().map(|one| one.get_name().to_owned()).collect();
            format!("{value:?} is not one of: {}", possible.join(", "))
        }
    };
    Some(ConfigError::new(setting, detail.replace('\n', " ")))
}
