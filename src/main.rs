//! The command line.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use hookhub::config::{ServeArgs, Settings};
use hookhub::domain::event::event_type::Pattern;
use hookhub::domain::signing::secret::Secret;
use hookhub::hub::Hub;
use hookhub::tools::listen::{Line, ListenSettings, SILENCE, Since};
use hookhub::tools::receive::{Receiver, ReceiverSettings};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tikv_jemallocator::Jemalloc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

/// A hub makes and drops small things all the time, on all its threads.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

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
    logging: Logging,
}

/// What is logged unless said otherwise: not each statement's notices, and not what clients send that is no HTTP.
const LOG_FILTER: &str = "info,sqlx=warn,actix_server=warn,actix_http=off";

#[derive(Args)]
struct Logging {
    /// What to log: error, warn, info, debug, or a filter such as hookhub=debug [default: info, less of libraries]
    #[arg(long, env = "HOOKHUB_LOG", value_name = "FILTER", global = true)]
    log: Option<String>,

    /// How to log: text or json [default: text]
    #[arg(long, env = "HOOKHUB_LOG_FORMAT", value_name = "FORMAT", global = true)]
    log_format: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub (the default)
    Serve(Box<ServeArgs>),
    /// Run a receiver for trying things out: agrees to handshakes, prints each delivery and whether its signature is right
    Receive(ReceiveArgs),
    /// Follow a hub's events; POST each to a URL on this side, signed, and print its answer
    ///
    /// Events come over the hub's stream (Server-Sent Events), so the hub need not reach this machine. After a cut
    /// it goes on where it was: no event is left out, none comes twice. There is one POST for each event, one after
    /// the other, with 30 seconds for its answer; one that fails is printed and not tried again. The hub's own retries
    /// are for its subscriptions.
    Listen(ListenArgs),
    /// Ask a running hub on this machine whether it is ready; exit code 0 says yes
    Health {
        /// The hub's address and port [default: 127.0.0.1:8080]
        #[arg(long, env = "HOOKHUB_LISTEN", value_name = "ADDRESS:PORT")]
        listen: Option<String>,
    },
}

#[derive(Args)]
struct ReceiveArgs {
    /// Address and port to receive on
    #[arg(long, default_value = "127.0.0.1:9000", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// Signing secret of a subscription, whsec_…; may be given more than once. Without it nothing is verified
    #[arg(
        long,
        env = "HOOKHUB_RECEIVE_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        value_delimiter = ','
    )]
    secret: Vec<Secret>,

    /// Status codes to answer with, one a delivery; the last repeats
    #[arg(long, default_value = "204", value_name = "STATUS,…", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(200..=599))]
    answer: Vec<u16>,

    /// Wait so long before each answer
    #[arg(long, default_value_t = 0, value_name = "MILLISECONDS")]
    delay_ms: u64,

    /// Send Retry-After with the answers 429 and 503
    #[arg(long, value_name = "SECONDS")]
    retry_after_s: Option<u64>,
}

#[derive(Args)]
struct ListenArgs {
    /// The hub
    #[arg(long, env = "HOOKHUB_URL", default_value = "http://127.0.0.1:8080", value_name = "URL", value_parser = hub_url)]
    hub: Url,

    /// A key of the hub
    #[arg(long, env = "HOOKHUB_KEY", hide_env_values = true, value_name = "KEY", required = true)]
    key: String,

    /// Types of events, such as order.* [default: all but the hub's own]
    #[arg(long, value_name = "PATTERN,…", value_delimiter = ',')]
    types: Vec<Pattern>,

    /// Begin so long ago (90s, 15m, 1h, 2d), at an RFC 3339 time, after an event (evt_…), or with the earliest
    /// [default: with what comes]
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,

    /// Where to POST each event [default: events are only printed]
    #[arg(long, value_name = "URL", value_parser = http_url)]
    forward_to: Option<Url>,

    /// Secret to sign with, whsec_… [default: a new one, printed at the start]
    #[arg(long, env = "HOOKHUB_LISTEN_SECRET", hide_env_values = true, value_name = "SECRET")]
    secret: Option<Secret>,
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("{other} is neither http nor https")),
    }
}

/// The address of a hub: it is shown, so there is no secret in it.
fn hub_url(text: &str) -> Result<Url, String> {
    let url = http_url(text)?;
    let has_password = !url.username().is_empty() || url.password().is_some();
    if has_password || url.query().is_some() || url.fragment().is_some() {
        return Err("expected no user, password, query or fragment; the key goes in --key".into());
    }
    Ok(url)
}

#[tokio::main]
async fn main() -> ExitCode {
    let line = CommandLine::parse();
    if let Err(error) = start_logging(&line.logging) {
        return fail(&error);
    }
    let done = match line.command {
        None => serve(line.serve).await,
        Some(Command::Serve(args)) => serve(*args).await,
        Some(Command::Receive(args)) => receive(args).await,
        Some(Command::Listen(args)) => listen(args).await,
        Some(Command::Health { listen }) => health(listen).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    say(&mut std::io::stderr(), &format!("hookhub: {error}"));
    ExitCode::FAILURE
}

/// Writes a line; a closed pipe at the other end is no reason to stop.
fn say(to: &mut impl Write, line: &str) {
    drop(writeln!(to, "{line}"));
}

fn start_logging(logging: &Logging) -> Result<(), String> {
    let given = logging.log.as_deref().filter(|filter| !matches!(*filter, "" | "info"));
    let filter = tracing_subscriber::EnvFilter::try_new(given.unwrap_or(LOG_FILTER))
        .map_err(|error| format!("HOOKHUB_LOG (--log): {error}"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match logging.log_format.as_deref() {
        None | Some("" | "text") => subscriber.with_target(false).try_init(),
        Some("json") => subscriber.json().flatten_event(true).try_init(),
        Some(other) => {
            return Err(format!(
                "HOOKHUB_LOG_FORMAT (--log-format): {other:?} is neither text nor json"
            ));
        }
    };
    started.map_err(|error| error.to_string())
}

/// Streams take an open file each: as many as the system lets this process have.
fn allow_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

async fn serve(args: ServeArgs) -> Result<(), String> {
    allow_open_files();
    let settings = Settings::from_args(args).map_err(|error| error.to_string())?;
    let (mut interrupted, mut terminated) = stop_signals()?;
    let hub = tokio::select! {
        hub = Hub::start(settings) => hub.map_err(|error| error.to_string())?,
        _ = interrupted.recv() => return Err("stopped while starting".into()),
        _ = terminated.recv() => return Err("stopped while starting".into()),
    };
    let mut out = std::io::stdout();
    match hub.admin_key().file() {
        Some(file) if hub.admin_key().is_new() => {
            let key = hub.admin_key().as_str();
            say(
                &mut out,
                &format!("admin key, shown this once and kept in {}: {key}", file.display()),
            );
        }
        Some(file) => say(&mut out, &format!("the admin key is in {}", file.display())),
        None => {}
    }
    say(&mut out, &format!("listening on http://{}", hub.address()));
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    let stopped = tokio::select! {
        report = hub.stop() => report,
        // A second signal: the operator does not want to wait.
        _ = interrupted.recv() => return Err("stopped at once; deliveries that ran are made again".into()),
    };
    if stopped.deliveries_left > 0 {
        let left = stopped.deliveries_left;
        say(
            &mut out,
            &format!("{left} deliveries were still running at the deadline; they are made again"),
        );
    }
    Ok(())
}

type Signals = (tokio::signal::unix::Signal, tokio::signal::unix::Signal);

fn stop_signals() -> Result<Signals, String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    Ok((listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?))
}

async fn receive(args: ReceiveArgs) -> Result<(), String> {
    let (mut interrupted, mut terminated) = stop_signals()?;
    let settings = ReceiverSettings {
        listen: args.listen,
        secrets: args.secret,
        answers: args.answer,
        delay: Duration::from_millis(args.delay_ms),
        retry_after_s: args.retry_after_s,
    };
    let (receiver, mut deliveries) = Receiver::start(settings)
        .await
        .map_err(|error| format!("cannot receive on {} (--listen): {error}", args.listen))?;
    let mut out = std::io::stdout();
    say(&mut out, &format!("receiving on http://{}", receiver.address()));
    loop {
        tokio::select! {
            delivery = deliveries.recv() => match delivery {
                Some(delivery) => say(&mut out, &delivery.to_string()),
                None => return Ok(()),
            },
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
        }
    }
    receiver.stop().await;
    Ok(())
}

async fn listen(args: ListenArgs) -> Result<(), String> {
    let (mut interrupted, mut terminated) = stop_signals()?;
    let secret = args.secret.clone().unwrap_or_else(|| Secret::from_random(rand::random()));
    if args.secret.is_none() && args.forward_to.is_some() {
        let line = format!("signing with {} (--secret sets another)", secret.reveal());
        say(&mut std::io::stderr(), &line);
    }
    let settings = ListenSettings {
        hub: args.hub,
        key: args.key,
        types: args.types,
        since: args.since,
        forward_to: args.forward_to,
        secret,
        silence: SILENCE,
    };
    let following = hookhub::tools::listen::listen(settings, |line| match line {
        Line::Event(line) => say(&mut std::io::stdout(), &line),
        Line::Note(line) => say(&mut std::io::stderr(), &line),
    });
    tokio::select! {
        ended = following => ended.map_err(|error| error.to_string()),
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
    }
}

/// Asks `/readyz`; an unspecified listen address is asked on loopback.
async fn health(listen: Option<String>) -> Result<(), String> {
    let mut listen = hookhub::config::listen_address(listen).map_err(|error| error.to_string())?;
    if listen.ip().is_unspecified() {
        listen.set_ip(if listen.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    let asked = tokio::time::timeout(Duration::from_secs(4), async {
        let mut stream = tokio::net::TcpStream::connect(listen).await?;
        stream
            .write_all(
                format!("GET /readyz HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .await?;
        let mut answer = Vec::new();
        stream.take(4_096).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    });
    match asked.await {
        Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.1 200") => Ok(()),
        Ok(Ok(_)) => Err(format!("the hub on {listen} is not ready")),
        Ok(Err(error)) => Err(format!("no hub answers on {listen}: {error}")),
        Err(_elapsed) => Err(format!("the hub on {listen} does not answer in time")),
    }
}
