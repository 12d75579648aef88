//! `hookhub listen`: follows a hub's events and forwards them to a local URL.

use clap::Args;
use hookhub::domain::event::event_type::Pattern;
use hookhub::domain::signing::secret::Secret;
use hookhub::tools::listen::{HUB_TIMEOUT, ListenSettings, Output, StartPoint};
use url::Url;

use super::output::print_line;
use super::stop_signals::StopSignals;

#[derive(Args)]
pub(super) struct ListenArgs {
    /// URL of the hub
    #[arg(long, env = "HOOKHUB_URL", default_value = "http://127.0.0.1:8080", value_name = "URL", value_parser = hub_url)]
    hub: Url,

    /// Key of the hub, with the scopes read and stream
    #[arg(long, env = "HOOKHUB_KEY", hide_env_values = true, value_name = "KEY", required = true)]
    key: String,

    /// Event types to follow, such as order.*. All but the hub's own unless set
    #[arg(long, value_name = "PATTERN,…", value_delimiter = ',')]
    types: Vec<Pattern>,

    /// Start point: a time ago (90s, 15m, 1h, 2d), an RFC 3339 time, after an event (evt_…), or earliest. Only new events
    /// unless set
    #[arg(long, value_name = "WHEN")]
    since: Option<StartPoint>,

    /// URL to POST each event to. Events are only printed unless set
    #[arg(long, value_name = "URL", value_parser = http_url)]
    forward_to: Option<Url>,

    /// Secret to sign with, whsec_…. Unless set, a new one is created and printed at the start
    #[arg(long, env = "HOOKHUB_LISTEN_SECRET", hide_env_values = true, value_name = "SECRET")]
    secret: Option<Secret>,
}

/// Parses an absolute URL with the scheme http or https. The error is the text for the user.
fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("{other} is neither http nor https")),
    }
}

/// As [`http_url`], without user, password, query and fragment: the URL is printed.
fn hub_url(text: &str) -> Result<Url, String> {
    let url = http_url(text)?;
    let has_password = !url.username().is_empty() || url.password().is_some();
    if has_password || url.query().is_some() || url.fragment().is_some() {
        return Err("expected no user, password, query or fragment; the key goes in --key".into());
    }
    Ok(url)
}

/// Prints each event, and forwards it if `--forward-to` is set, until SIGINT or SIGTERM. Fails if the hub refuses a
/// request.
pub(super) async fn run(args: ListenArgs) -> Result<(), String> {
    let mut signals = StopSignals::listen()?;
    let secret = args.secret.clone().unwrap_or_else(|| Secret::from_random(rand::random()));
    if args.secret.is_none() && args.forward_to.is_some() {
        let line = format!("signing with {} (--secret sets another)", secret.reveal());
        print_line(&mut std::io::stderr(), &line);
    }
    let settings = ListenSettings {
        hub: args.hub,
        key: args.key,
        types: args.types,
        since: args.since,
        forward_to: args.forward_to,
        secret,
        hub_timeout: HUB_TIMEOUT,
    };
    let listening = hookhub::tools::listen::listen(settings, |output| match output {
        Output::Event(line) => print_line(&mut std::io::stdout(), &line),
        Output::Status(line) => print_line(&mut std::io::stderr(), &line),
    });
    tokio::select! {
        ended = listening => ended.map_err(|error| error.to_string()),
        () = signals.recv() => Ok(()),
    }
}
