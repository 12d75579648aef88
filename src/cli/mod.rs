//! The command line and its subcommands.

mod health;
mod listen;
mod logging;
mod output;
mod receive;
mod serve;
mod stop_signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hookhub::config::{CommandLineError, ServeArgs, parse_command_line};

use self::health::HealthArgs;
use self::listen::ListenArgs;
use self::logging::LoggingArgs;
use self::output::print_line;
use self::receive::ReceiveArgs;

/// A self-hosted webhook subscription hub: publish an event once, and every subscriber gets it, signed and with
/// retries.
#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: ServeArgs,

    #[command(flatten)]
    logging: LoggingArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub (the default)
    Serve(Box<ServeArgs>),
    /// Run a test receiver: it answers verification requests, prints each delivery and checks its signature
    Receive(ReceiveArgs),
    /// Follow a hub's events and POST each, signed, to a local URL
    ///
    /// Events arrive over the hub's stream (Server-Sent Events), so the hub need not reach this machine. After a
    /// disconnect the stream resumes where it ended: no event is repeated, and none is lost unless it expires. Events are
    /// sent one at a time, with 30 seconds for each answer. A failed POST is printed and not retried; only the hub's
    /// subscriptions retry.
    Listen(ListenArgs),
    /// Check whether the hub on this machine is ready; exit code 0 means ready
    Health(HealthArgs),
}

/// Parses the command line, runs its subcommand (`serve` if none is named), and returns the exit code of the process.
pub(crate) async fn run() -> ExitCode {
    let line: CommandLine = match parse_command_line() {
        Ok(line) => line,
        Err(CommandLineError::Value(error)) => return fail(&error.to_string()),
        Err(CommandLineError::Usage(error)) => {
            drop(error.print());
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    if let Err(error) = logging::start(&line.logging) {
        return fail(&error);
    }
    let result = match line.command {
        None => serve::run(line.serve).await,
        Some(Command::Serve(args)) => serve::run(*args).await,
        Some(Command::Receive(args)) => receive::run(args).await,
        Some(Command::Listen(args)) => listen::run(args).await,
        Some(Command::Health(args)) => health::run(args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Prints an error to standard error and returns the exit code of a failed command.
fn fail(error: &str) -> ExitCode {
    print_line(&mut std::io::stderr(), &format!("hookhub: {error}"));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    const PAGE: &str = include_str!("../../docs/configuration.md");

    fn arguments(command: &clap::Command) -> Vec<clap::Arg> {
        let own = command.get_arguments().filter(|arg| arg.get_env().is_some()).cloned();
        own.chain(command.get_subcommands().flat_map(arguments)).collect()
    }

    #[test]
    fn the_configuration_page_names_every_setting_with_its_option_and_default() {
        for arg in arguments(&CommandLine::command()) {
            let variable = arg.get_env().unwrap().to_str().unwrap().to_owned();
            let option = format!("`--{}`", arg.get_long().unwrap());
            let default = arg.get_default_values().first();
            let default = default
                .map_or_else(String::new, |text| format!("| `{}` |", text.to_str().unwrap()));
            let is_row = |line: &str| {
                line.starts_with(&format!("| `{variable}` | {option} |")) && line.contains(&default)
            };
            assert!(PAGE.lines().any(is_row), "no row for {variable} | {option} {default}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
