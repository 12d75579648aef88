//! Settings: one typed struct, read once from the command line and the environment, checked at start.

mod clients;
mod command_line;
mod egress;
mod parse;
mod quotas;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

pub use self::clients::ClientTimeouts;
use self::clients::{ClientArgs, DEFAULT_MAX_STREAMS};
pub use self::command_line::{CommandLineError, ConfigError, parse_command_line};
use self::egress::EgressArgs;
pub use self::parse::listen_address;
use self::parse::{Seconds, SecondsList, admin_key, cors_origin, database_url, number};
use self::quotas::QuotaArgs;
use crate::domain::access::forwarded::TrustedProxies;
use crate::domain::access::quota::{Quotas, StreamLimits};
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::egress::origin::{Origin, PublicUrl};
use crate::domain::egress::policy::EgressPolicy;
use crate::domain::encryption::MasterKeys;
use crate::domain::retention::Retention;

/// The address that the hub listens on unless the operator sets another one.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_DATA_DIR: &str = "./hookhub-data";
const DEFAULT_STOP_DEADLINE: Duration = Duration::from_secs(30);
const MAX_RETENTION_DAYS: u16 = 3_650;

/// The Postgres that holds all data. `Debug` hides the URL, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A server that the operator runs.
    Url(String),
    /// A private server that the hub runs in its data directory.
    Embedded {
        /// The directory of the Postgres programs; `None` searches the usual places.
        binaries: Option<PathBuf>,
    },
}

/// The settings of `hookhub serve`; [`ServeArgs`] documents each. `Debug` shows no secrets.
#[derive(Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub database: Database,
    /// Holds the embedded Postgres, the admin key and the master key.
    pub data_dir: PathBuf,
    /// `None`: created at the first start and kept in the data directory.
    pub admin_key: Option<String>,
    pub egress: EgressPolicy,
    /// The URL at which clients and receivers reach the hub.
    pub public_url: Option<PublicUrl>,
    /// The name of this hub in CloudEvents verification requests; `None`: the host of the public URL.
    pub webhook_origin: Option<Origin>,
    /// Encrypts the secrets in the database. `None`: created at the first start and kept in the data directory.
    pub master_key: Option<MasterKeys>,
    /// The schedule of subscriptions that have none of their own.
    pub retry_schedule: RetrySchedule,
    pub retention: Retention,
    /// Each applies to the tenants that have no value of their own for it.
    pub quotas: Quotas,
    /// Origins whose pages may call the API; `*` is any.
    pub cors_origins: Vec<String>,
    pub stream_limits: StreamLimits,
    /// Counts streams too; `usize::MAX` is no limit.
    pub max_connections_per_address: usize,
    pub trusted_proxies: TrustedProxies,
    pub client_timeouts: ClientTimeouts,
    /// The time that a stop gives to running requests and deliveries.
    pub stop_deadline: Duration,
    /// The value of `PATH`, in which the programs of the embedded Postgres are searched.
    pub path: Option<OsString>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("Url(…)"),
            Self::Embedded { binaries } => {
                f.debug_struct("Embedded").field("binaries", binaries).finish()
            }
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("database", &self.database)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            database: Database::Embedded { binaries: None },
            data_dir: PathBuf::from(DEFAULT_DATA_DIR),
            admin_key: None,
            egress: EgressPolicy::default(),
            public_url: None,
            webhook_origin: None,
            master_key: None,
            retry_schedule: RetrySchedule::default(),
            retention: Retention::default(),
            quotas: Quotas::default(),
            cors_origins: Vec::new(),
            stream_limits: StreamLimits {
                per_node: DEFAULT_MAX_STREAMS,
                per_key: DEFAULT_MAX_STREAMS,
                per_address: DEFAULT_MAX_STREAMS,
            },
            max_connections_per_address: usize::MAX,
            trusted_proxies: TrustedProxies::default(),
            client_timeouts: ClientTimeouts::default(),
            stop_deadline: DEFAULT_STOP_DEADLINE,
            path: std::env::var_os("PATH"),
        }
    }
}

/// The options and environment variables of `hookhub serve`.
#[derive(Clone, Args)]
pub struct ServeArgs {
    /// Address and port to listen on
    #[arg(long, env = "HOOKHUB_LISTEN", value_name = "ADDRESS:PORT",
          default_value_t = DEFAULT_LISTEN, value_parser = listen_address)]
    listen: SocketAddr,

    /// Postgres that holds all data. Unless set, the hub runs a private one in the data directory
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = database_url)]
    database_url: Option<String>,

    /// Directory of the private Postgres, the admin key and the master key
    #[arg(long, env = "HOOKHUB_DATA_DIR", value_name = "DIRECTORY", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,

    /// Directory with the programs postgres and initdb for the private Postgres. Unless set, the usual places are searched
    #[arg(long, env = "HOOKHUB_POSTGRES_BIN", value_name = "DIRECTORY")]
    postgres_bin: Option<PathBuf>,

    /// Key with every permission. Unless set, the first start creates one, prints it once and keeps it in the data
    /// directory
    #[arg(long, env = "HOOKHUB_ADMIN_KEY", value_name = "KEY", hide_env_values = true, value_parser = admin_key)]
    admin_key: Option<String>,

    #[command(flatten)]
    egress: EgressArgs,

    /// Key that encrypts the secrets in the database: 32 bytes as hex or base64. To rotate it, give the new key, then the
    /// old one, until everything is re-encrypted. Unless set, the first start creates one and keeps it in the data
    /// directory
    #[arg(long, env = "HOOKHUB_MASTER_KEY", value_name = "KEY,…", hide_env_values = true)]
    master_key: Option<MasterKeys>,

    /// URL at which clients and receivers reach this hub, e.g. <https://hooks.example.com>
    #[arg(long, env = "HOOKHUB_PUBLIC_URL", value_name = "URL")]
    public_url: Option<PublicUrl>,

    /// DNS name that names this hub to receivers in CloudEvents verification. Unless set, the host of the public URL
    #[arg(long, env = "HOOKHUB_WEBHOOK_ORIGIN", value_name = "NAME")]
    webhook_origin: Option<Origin>,

    /// Seconds between the attempts of a delivery, separated by commas. The last one repeats
    #[arg(long, env = "HOOKHUB_RETRY_SCHEDULE_S", value_name = "SECONDS,…",
          default_value_t = SecondsList(RetrySchedule::default().steps))]
    retry_schedule_s: SecondsList,

    /// Seconds from a delivery's first attempt until the hub gives it up
    #[arg(long, env = "HOOKHUB_GIVE_UP_AFTER_S", value_name = "SECONDS",
          default_value_t = Seconds(RetrySchedule::default().give_up_after))]
    give_up_after_s: Seconds,

    /// Days that an event is kept after its own day (UTC). Events not delivered or acknowledged by then expire
    #[arg(long, env = "HOOKHUB_RETENTION_EVENTS_DAYS", value_name = "DAYS",
          default_value_t = Retention::default().events_days, value_parser = number::<u16>(1..=MAX_RETENTION_DAYS))]
    retention_events_days: u16,

    #[arg(long, env = "HOOKHUB_RETENTION_ATTEMPTS_DAYS", value_name = "DAYS",
          value_parser = number::<u16>(1..=MAX_RETENTION_DAYS), help = attempts_days_help())]
    retention_attempts_days: Option<u16>,

    #[command(flatten)]
    quotas: QuotaArgs,

    /// Origins whose pages may call the API from a browser, e.g. <https://app.example.com>; * is any. None unless set
    #[arg(long, env = "HOOKHUB_CORS_ORIGINS", value_name = "ORIGIN,…", value_delimiter = ',', value_parser = cors_origin)]
    cors_origins: Vec<String>,

    #[command(flatten)]
    clients: ClientArgs,

    /// Seconds that a stop waits for running requests and deliveries
    #[arg(long, env = "HOOKHUB_STOP_DEADLINE_S", value_name = "SECONDS", default_value_t = Seconds(DEFAULT_STOP_DEADLINE))]
    stop_deadline_s: Seconds,
}

fn attempts_days_help() -> String {
    let days = Retention::default().attempts_days;
    format!(
        "Days that the attempts at an event are kept after its day, at most as many as events. \
         Unless set, {days} or, if fewer, as many as events"
    )
}

impl Settings {
    /// Converts parsed options to settings. Fails if options contradict each other.
    pub fn from_args(args: ServeArgs) -> Result<Self, ConfigError> {
        Ok(Self {
            listen: args.listen,
            database: match args.database_url {
                Some(url) => Database::Url(url),
                None => Database::Embedded { binaries: args.postgres_bin },
            },
            data_dir: args.data_dir,
            admin_key: args.admin_key,
            egress: args.egress.egress(),
            master_key: args.master_key,
            public_url: args.public_url,
            webhook_origin: args.webhook_origin,
            retry_schedule: RetrySchedule {
                steps: args.retry_schedule_s.0,
                give_up_after: args.give_up_after_s.0,
            },
            retention: retention(args.retention_events_days, args.retention_attempts_days)?,
            quotas: args.quotas.quotas(),
            cors_origins: args.cors_origins,
            stream_limits: args.clients.stream_limits(),
            max_connections_per_address: args.clients.max_connections_per_address(),
            trusted_proxies: args.clients.trusted_proxies(),
            client_timeouts: args.clients.timeouts(),
            stop_deadline: args.stop_deadline_s.0,
            path: Self::default().path,
        })
    }
}

/// Unless set, attempts are kept for the default time or, if shorter, as long as events. Longer is an error.
fn retention(events_days: u16, attempts_days: Option<u16>) -> Result<Retention, ConfigError> {
    let default = Retention::default().attempts_days;
    let attempts_days = attempts_days.unwrap_or(default.min(events_days));
    if attempts_days > events_days {
        let detail = format!(
            "attempts cannot be kept for {attempts_days} days while events are kept for {events_days} \
             (HOOKHUB_RETENTION_EVENTS_DAYS); expected at most {events_days}"
        );
        let setting = "HOOKHUB_RETENTION_ATTEMPTS_DAYS (--retention-attempts-days)";
        return Err(ConfigError::new(setting, detail));
    }
    Ok(Retention { events_days, attempts_days })
}
