//! Settings: one typed struct, read once from the command line and the environment, checked at start.

mod clients;
mod egress;
mod quotas;

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use self::clients::ClientArgs;
pub use self::clients::Patience;
use self::egress::EgressArgs;
use self::quotas::QuotaArgs;
use crate::domain::access::forwarded::TrustedProxies;
use crate::domain::access::quota::ConnectionLimits;
use crate::domain::access::quota::Quotas;
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::egress::origin::{Origin, PublicUrl};
use crate::domain::egress::policy::EgressPolicy;
use crate::domain::encryption::{InvalidMasterKeys, MasterKeys};
use crate::domain::retention::Retention;

/// Where the hub keeps everything. `Debug` does not show the URL, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A Postgres that is there.
    Url(String),
    /// A private one that the hub runs itself, in the data directory.
    Embedded {
        /// Where its programs are, if not in the usual places.
        binaries: Option<PathBuf>,
    },
}

/// What `hookhub serve` goes by. `Debug` shows nothing secret.
#[derive(Clone)]
pub struct Settings {
    /// Where HTTP is answered.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub database: Database,
    /// For the embedded Postgres, the admin key and the master key.
    pub data_dir: PathBuf,
    /// The admin key; without it one is made at the first start and kept in the data directory.
    pub admin_key: Option<String>,
    /// Where callbacks may go, and by which proxy.
    pub egress: EgressPolicy,
    /// Where the hub is reached from outside.
    pub public_url: Option<PublicUrl>,
    /// By which name it asks receivers for their consent; without it by the public URL's host.
    pub webhook_origin: Option<Origin>,
    /// What seals the secrets in the database; without it one is made at the first start and kept in the data directory.
    pub master_key: Option<MasterKeys>,
    /// When failed deliveries are tried again, unless the subscription says otherwise.
    pub retry_schedule: RetrySchedule,
    /// How long events and attempts are kept.
    pub retention: Retention,
    /// What each tenant may do, unless an operator allows it something else.
    pub quotas: Quotas,
    /// Origins whose pages may call the API; `*` is any.
    pub cors_origins: Vec<String>,
    /// How many streams and waiting polls may be open.
    pub max_streams: ConnectionLimits,
    /// How many connections may be open from one address, streams among them.
    pub max_connections_per_address: usize,
    /// Whose word about where a request comes from is believed.
    pub trusted_proxies: TrustedProxies,
    /// How long clients may take.
    pub patience: Patience,
    /// How long a stop waits for requests and deliveries that run.
    pub stop_deadline: Duration,
    /// Where programs are looked for.
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
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            database: Database::Embedded { binaries: None },
            data_dir: PathBuf::from("./hookhub-data"),
            admin_key: None,
            egress: EgressPolicy::default(),
            public_url: None,
            webhook_origin: None,
            master_key: None,
            retry_schedule: RetrySchedule::default(),
            retention: Retention::default(),
            quotas: Quotas::default(),
            cors_origins: Vec::new(),
            max_streams: ConnectionLimits { in_all: 16_384, per_key: 16_384, per_address: 16_384 },
            max_connections_per_address: usize::MAX,
            trusted_proxies: TrustedProxies::default(),
            patience: Patience::default(),
            stop_deadline: Duration::from_secs(30),
            path: std::env::var_os("PATH"),
        }
    }
}

/// A setting that cannot be used: one line that names it and says what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {detail}")]
pub struct ConfigError {
    setting: &'static str,
    detail: String,
}

/// The settings as they are given; texts, so that what is wrong with one can be said in one line.
#[derive(Clone, Default, Args)]
pub struct ServeArgs {
    /// Address and port to answer HTTP on [default: 127.0.0.1:8080]
    #[arg(long, env = "HOOKHUB_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<String>,

    /// Postgres to keep everything in; without it the hub runs a private one in the data directory
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,

    /// Directory of the private Postgres, the admin key and the master key [default: ./hookhub-data]
    #[arg(long, env = "HOOKHUB_DATA_DIR", value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,

    /// Directory with the programs `postgres` and `initdb` for the private Postgres
    #[arg(long, env = "HOOKHUB_POSTGRES_BIN", value_name = "DIRECTORY")]
    postgres_bin: Option<PathBuf>,

    /// Key that may do everything; without it one is made at the first start, printed once, and kept in the data
    /// directory
    #[arg(long, env = "HOOKHUB_ADMIN_KEY", value_name = "KEY", hide_env_values = true)]
    admin_key: Option<String>,

    #[command(flatten)]
    egress: EgressArgs,
    /// Key that seals the secrets in the database: 32 bytes as hex or base64. To change it: the new one, then the former
    /// one, until everything is sealed anew. Without it one is made at the first start and kept in the data directory
    #[arg(long, env = "HOOKHUB_MASTER_KEY", value_name = "KEY,…", hide_env_values = true)]
    master_key: Option<String>,

    /// URL at which clients and receivers reach this hub, e.g. <https://hooks.example.com> [default: none]
    #[arg(long, env = "HOOKHUB_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,

    /// DNS name by which receivers are asked for their consent in CloudEvents handshakes
    /// [default: the public URL's host]
    #[arg(long, env = "HOOKHUB_WEBHOOK_ORIGIN", value_name = "NAME")]
    webhook_origin: Option<String>,

    /// Seconds between attempts; the last one repeats [default: 5,30,120,600,1800,3600,7200,14400]
    #[arg(long, env = "HOOKHUB_RETRY_SCHEDULE_S", value_name = "SECONDS,…")]
    retry_schedule_s: Option<String>,

    /// Seconds after its first attempt until a delivery is given up [default: 259200, three days]
    #[arg(long, env = "HOOKHUB_GIVE_UP_AFTER_S", value_name = "SECONDS")]
    give_up_after_s: Option<String>,

    /// Days that an event is kept, after its own (UTC); what is not delivered or acked until then is gone [default: 30]
    #[arg(long, env = "HOOKHUB_RETENTION_EVENTS_DAYS", value_name = "DAYS")]
    retention_events_days: Option<String>,

    /// Days that the attempts at an event are kept, after its own; at most as many as events are [default: 14]
    #[arg(long, env = "HOOKHUB_RETENTION_ATTEMPTS_DAYS", value_name = "DAYS")]
    retention_attempts_days: Option<String>,

    #[command(flatten)]
    quotas: QuotaArgs,

    /// Origins whose pages may call the API from a browser, e.g. <https://app.example.com>; * is any
    /// [default: none]
    #[arg(long, env = "HOOKHUB_CORS_ORIGINS", value_name = "ORIGIN,…")]
    cors_origins: Option<String>,

    #[command(flatten)]
    clients: ClientArgs,

    /// Seconds that a stop waits for requests and deliveries that run [default: 30]
    #[arg(long, env = "HOOKHUB_STOP_DEADLINE_S", value_name = "SECONDS")]
    stop_deadline_s: Option<String>,
}

impl Settings {
    /// Checks what was given and fills in the rest.
    pub fn from_args(args: ServeArgs) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            listen: listen_address(args.listen)?,
            database: database(args.database_url, args.postgres_bin)?,
            data_dir: args.data_dir.unwrap_or(default.data_dir),
            admin_key: args.admin_key.filter(|key| !key.is_empty()).map(admin_key).transpose()?,
            egress: args.egress.read()?,
            master_key: or(args.master_key, None, |text| master_keys(&text).map(Some))?,
            public_url: read("HOOKHUB_PUBLIC_URL (--public-url)", args.public_url)?,
            webhook_origin: read("HOOKHUB_WEBHOOK_ORIGIN (--webhook-origin)", args.webhook_origin)?,
            retry_schedule: RetrySchedule {
                steps: or(args.retry_schedule_s, default.retry_schedule.steps, |text| {
                    steps(&text)
                })?,
                give_up_after: or(
                    args.give_up_after_s,
                    default.retry_schedule.give_up_after,
                    |text| seconds("HOOKHUB_GIVE_UP_AFTER_S", &text),
                )?,
            },
            retention: retention(args.retention_events_days, args.retention_attempts_days)?,
            quotas: args.quotas.quotas()?,
            cors_origins: or(args.cors_origins, default.cors_origins, |text| cors_origins(&text))?,
            max_streams: args.clients.max_streams()?,
            max_connections_per_address: args.clients.max_connections_per_address()?,
            trusted_proxies: args.clients.trusted_proxies()?,
            patience: args.clients.patience()?,
            stop_deadline: or(args.stop_deadline_s, default.stop_deadline, |text| {
                seconds("HOOKHUB_STOP_DEADLINE_S", &text)
            })?,
            path: default.path,
        })
    }
}

/// What was given, read; the default where nothing was, or an empty text.
pub(crate) fn or<T>(
    given: Option<String>,
    default: T,
    read: impl FnOnce(String) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    given.filter(|text| !text.is_empty()).map_or(Ok(default), read)
}

fn read<T: FromStr<Err: Display>>(
    setting: &'static str,
    given: Option<String>,
) -> Result<Option<T>, ConfigError> {
    let text = given.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(|error: T::Err| wrong(setting, error.to_string())))
        .transpose()
}

/// The error of a setting.
pub(crate) fn wrong(setting: &'static str, detail: impl Into<String>) -> ConfigError {
    ConfigError { setting, detail: detail.into() }
}

/// The address to answer on, or its default.
pub fn listen_address(given: Option<String>) -> Result<SocketAddr, ConfigError> {
    or(given, Settings::default().listen, |text| listen(&text))
}

fn listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let detail =
        || format!("{text:?} is no address and port; expected e.g. 127.0.0.1:8080 or [::1]:8080");
    text.parse().map_err(|_bad| wrong("HOOKHUB_LISTEN (--listen)", detail()))
}

fn database(url: Option<String>, binaries: Option<PathBuf>) -> Result<Database, ConfigError> {
    match url.filter(|url| !url.is_empty()) {
        None => Ok(Database::Embedded { binaries }),
        Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            Ok(Database::Url(url))
        }
        // The URL itself may hold a password.
        Some(_) => Err(wrong(
            "DATABASE_URL (--database-url)",
            "expected postgres://user:password@host/database",
        )),
    }
}

fn admin_key(key: String) -> Result<String, ConfigError> {
    let usable = key.len() >= 16 && key.bytes().all(|byte| byte.is_ascii_graphic());
    let detail = "expected at least 16 visible ASCII characters without spaces, e.g. from: openssl rand -hex 32";
    if usable { Ok(key) } else { Err(wrong("HOOKHUB_ADMIN_KEY (--admin-key)", detail)) }
}

fn master_keys(text: &str) -> Result<MasterKeys, ConfigError> {
    text.parse().map_err(|bad: InvalidMasterKeys| {
        wrong("HOOKHUB_MASTER_KEY (--master-key)", bad.to_string())
    })
}

fn steps(text: &str) -> Result<Vec<Duration>, ConfigError> {
    text.split(',').map(|step| seconds("HOOKHUB_RETRY_SCHEDULE_S", step.trim())).collect()
}

fn seconds(setting: &'static str, text: &str) -> Result<Duration, ConfigError> {
    match text.parse() {
        Ok(seconds @ 1..=31_536_000) => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong(
            setting,
            format!("{text:?} is no whole number of seconds from 1 to 31536000 (a year)"),
        )),
    }
}

fn retention(events: Option<String>, attempts: Option<String>) -> Result<Retention, ConfigError> {
    const ATTEMPTS: &str = "HOOKHUB_RETENTION_ATTEMPTS_DAYS";
    let days = |setting, text: String| match text.parse() {
        Ok(days @ 1..=3_650) => Ok(days),
        _ => Err(wrong(setting, format!("{text:?} is no whole number of days from 1 to 3650"))),
    };
    let default = Retention::default();
    let events_days =
        or(events, default.events_days, |text| days("HOOKHUB_RETENTION_EVENTS_DAYS", text))?;
    let attempts_days =
        or(attempts, default.attempts_days.min(events_days), |text| days(ATTEMPTS, text))?;
    if attempts_days > events_days {
        let detail = format!(
            "attempts cannot be kept for {attempts_days} days when events are for {events_days} \
             (HOOKHUB_RETENTION_EVENTS_DAYS): without its event an attempt can neither be looked up nor repeated"
        );
        return Err(wrong(ATTEMPTS, detail));
    }
    Ok(Retention { events_days, attempts_days })
}

fn cors_origins(text: &str) -> Result<Vec<String>, ConfigError> {
    let origin = |part: &str| {
        let url = url::Url::parse(part).ok();
        let same = url.is_some_and(|url| url.origin().ascii_serialization() == part);
        if part == "*" || same && !part.contains('*') {
            return Ok(part.to_owned());
        }
        let detail = format!(
            "{part:?} is no origin; expected e.g. https://app.example.com, without a path, or *"
        );
        Err(wrong("HOOKHUB_CORS_ORIGINS (--cors-origins)", detail))
    };
    text.split(',').map(|part| origin(part.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(args: ServeArgs) -> String {
        Settings::from_args(args).unwrap_err().to_string()
    }

    #[test]
    fn a_bad_setting_is_named_in_one_line() {
        let text = |text: &str| Some(text.to_owned());
        for (args, named) in [
            (ServeArgs { listen: text("8080"), ..ServeArgs::default() }, "HOOKHUB_LISTEN"),
            (
                ServeArgs { database_url: text("mysql://u:planted@h/d"), ..ServeArgs::default() },
                "DATABASE_URL",
            ),
            (ServeArgs { admin_key: text("short"), ..ServeArgs::default() }, "HOOKHUB_ADMIN_KEY"),
            (
                ServeArgs { master_key: text("planted"), ..ServeArgs::default() },
                "HOOKHUB_MASTER_KEY",
            ),
            (
                ServeArgs { retry_schedule_s: text("5,,30"), ..ServeArgs::default() },
                "HOOKHUB_RETRY_SCHEDULE_S",
            ),
            (
                ServeArgs { give_up_after_s: text("0"), ..ServeArgs::default() },
                "HOOKHUB_GIVE_UP_AFTER_S",
            ),
            (
                ServeArgs { retention_events_days: text("0"), ..ServeArgs::default() },
                "HOOKHUB_RETENTION_EVENTS_DAYS",
            ),
            (
                ServeArgs {
                    retention_events_days: text("7"),
                    retention_attempts_days: text("8"),
                    ..ServeArgs::default()
                },
                "HOOKHUB_RETENTION_ATTEMPTS_DAYS",
            ),
            (
                ServeArgs { stop_deadline_s: text("soon"), ..ServeArgs::default() },
                "HOOKHUB_STOP_DEADLINE_S",
            ),
            (
                ServeArgs { public_url: text("https://u:planted@h/"), ..ServeArgs::default() },
                "HOOKHUB_PUBLIC_URL",
            ),
            (
                ServeArgs { webhook_origin: text("https://h"), ..ServeArgs::default() },
                "HOOKHUB_WEBHOOK_ORIGIN",
            ),
        ] {
            let line = refused(args);
            assert!(
                line.starts_with(named) && !line.contains('\n') && !line.contains("planted"),
                "{line}"
            );
        }
    }

    #[test]
    fn settings_are_shown_without_what_is_secret_in_them() {
        let settings = Settings::from_args(ServeArgs {
            database_url: Some("postgres://u:planted@h/d".to_owned()),
            admin_key: Some("planted-as-admin-key".to_owned()),
            master_key: Some("ab".repeat(32)),
            ..ServeArgs::default()
        });
        let shown = format!("{:?}", settings.unwrap());
        assert!(!shown.contains("planted") && !shown.contains("abab"), "{shown}");
    }

    #[test]
    fn attempts_are_not_kept_longer_than_events_unless_that_is_asked_for() {
        let args =
            ServeArgs { retention_events_days: Some("7".to_owned()), ..ServeArgs::default() };
        let kept = Settings::from_args(args).unwrap().retention;
        assert_eq!(kept, Retention { events_days: 7, attempts_days: 7 });
    }

    #[test]
    fn what_is_not_given_or_empty_is_the_default() {
        let settings =
            Settings::from_args(ServeArgs { listen: Some(String::new()), ..ServeArgs::default() })
                .unwrap();
        assert_eq!(settings.listen, Settings::default().listen);
        assert_eq!(settings.database, Database::Embedded { binaries: None });
        assert_eq!(settings.retry_schedule, RetrySchedule::default());
    }
}
