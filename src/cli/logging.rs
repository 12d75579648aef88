//! The log on standard error: its options and its start.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// The filter behind `info`: without reports of SQL statements, of the threads of the HTTP server, and of bytes that are
/// not HTTP.
const INFO: &str = "info,sqlx=warn,actix_server=warn,actix_http=off";

#[derive(Args)]
pub(super) struct LoggingArgs {
    /// Log level (error, warn, info, debug, trace), or a filter such as hookhub=debug. At info, libraries log less
    #[arg(long, env = "HOOKHUB_LOG", value_name = "FILTER", global = true, default_value = "info", value_parser = filter)]
    log: String,

    /// Log format
    #[arg(
        long,
        env = "HOOKHUB_LOG_FORMAT",
        value_name = "FORMAT",
        global = true,
        default_value_t,
        value_enum
    )]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Accepts a log filter such as `info` or `hookhub=debug`. The error is the text for the user.
fn filter(text: &str) -> Result<String, String> {
    let filter = EnvFilter::try_new(text).map(|_| text.to_owned());
    filter.map_err(|error| format!("{text:?} is not a log level or filter: {error}"))
}

/// Installs the logger of the process. Fails if one is installed already.
pub(super) fn start(args: &LoggingArgs) -> Result<(), String> {
    let filter = if args.log == "info" { INFO } else { &args.log };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter).map_err(|error| error.to_string())?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match args.log_format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
