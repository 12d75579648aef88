//! Tests of all settings as an operator gives them: on a command line.

use std::ffi::OsString;

use clap::builder::{OsStr, Resettable};
use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use super::command_line::parse_from;
use super::*;
use crate::domain::access::forwarded::ProxyHeader;
use crate::domain::access::networks::Networks;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    serve: ServeArgs,
}

fn settings(options: &[&str]) -> Result<Settings, String> {
    let args = std::iter::once("hookhub").chain(options.iter().copied()).map(OsString::from);
    let line: CommandLine =
        parse_from(&args.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    Settings::from_args(line.serve).map_err(|error| error.to_string())
}

#[test]
fn a_bad_value_gives_one_line_that_names_the_setting_and_hides_secrets() {
    for (option, bad, variable) in [
        ("--listen", "8080", "HOOKHUB_LISTEN"),
        ("--database-url", "mysql://u:planted@h/d", "DATABASE_URL"),
        ("--admin-key", "planted", "HOOKHUB_ADMIN_KEY"),
        ("--master-key", "planted", "HOOKHUB_MASTER_KEY"),
        ("--retry-schedule-s", "5,,30", "HOOKHUB_RETRY_SCHEDULE_S"),
        ("--give-up-after-s", "0", "HOOKHUB_GIVE_UP_AFTER_S"),
        ("--retention-events-days", "0", "HOOKHUB_RETENTION_EVENTS_DAYS"),
        ("--retention-attempts-days", "31", "HOOKHUB_RETENTION_ATTEMPTS_DAYS"),
        ("--stop-deadline-s", "soon", "HOOKHUB_STOP_DEADLINE_S"),
        ("--public-url", "https://u:planted@h/", "HOOKHUB_PUBLIC_URL"),
        ("--webhook-origin", "https://h", "HOOKHUB_WEBHOOK_ORIGIN"),
        ("--cors-origins", "https://a.example/path", "HOOKHUB_CORS_ORIGINS"),
        ("--allow-targets", "10.0.0.0/99", "HOOKHUB_ALLOW_TARGETS"),
        ("--allow-targets", "a.example", "HOOKHUB_ALLOW_TARGETS"),
        ("--deny-targets", "https://a.example", "HOOKHUB_DENY_TARGETS"),
        ("--only-targets", "a.example,*", "HOOKHUB_ONLY_TARGETS"),
        ("--allow-ports", "22,ssh", "HOOKHUB_ALLOW_PORTS"),
        ("--only-ports", "0", "HOOKHUB_ONLY_PORTS"),
        ("--https-only", "yes", "HOOKHUB_HTTPS_ONLY"),
        ("--egress-proxy", "https://u:planted@proxy:3128", "HOOKHUB_EGRESS_PROXY"),
        ("--max-event-bytes", "1", "HOOKHUB_MAX_EVENT_BYTES"),
        ("--quota-events-per-s", "0", "HOOKHUB_QUOTA_EVENTS_PER_S"),
        ("--quota-subscriptions", "1000001", "HOOKHUB_QUOTA_SUBSCRIPTIONS"),
        ("--quota-streams", "many", "HOOKHUB_QUOTA_STREAMS"),
        ("--max-streams", "0", "HOOKHUB_MAX_STREAMS"),
        ("--max-streams-per-key", "-1", "HOOKHUB_MAX_STREAMS_PER_KEY"),
        ("--max-streams-per-address", "all", "HOOKHUB_MAX_STREAMS_PER_ADDRESS"),
        ("--max-connections-per-address", "0", "HOOKHUB_MAX_CONNECTIONS_PER_ADDRESS"),
        ("--trusted-proxies", "10.0.0.0/8,lb", "HOOKHUB_TRUSTED_PROXIES"),
        ("--proxy-header", "x-real-ip", "HOOKHUB_PROXY_HEADER"),
        ("--head-deadline-s", "0", "HOOKHUB_HEAD_DEADLINE_S"),
        ("--body-deadline-s", "1.5", "HOOKHUB_BODY_DEADLINE_S"),
        ("--idle-deadline-s", "-", "HOOKHUB_IDLE_DEADLINE_S"),
    ] {
        let line = settings(&[&format!("{option}={bad}")]).unwrap_err();
        let named = format!("{variable} ({option}): ");
        let detail = line.strip_prefix(&named).unwrap_or_else(|| panic!("{line}"));
        assert!(detail.len() > 20 && !line.contains('\n') && !line.contains("planted"), "{line}");
    }
}

#[test]
fn debug_output_of_settings_shows_no_secrets() {
    let settings = settings(&[
        "--database-url=postgres://u:planted@h/d",
        "--admin-key=planted-as-admin-key",
        &format!("--master-key={}", "ab".repeat(32)),
    ]);
    let shown = format!("{:?}", settings.unwrap());
    assert!(!shown.contains("planted") && !shown.contains("abab"), "{shown}");
}

/// The settings of an empty command line in an empty environment.
fn settings_without_options() -> Settings {
    let command = CommandLine::command().mut_args(|arg| arg.env(Resettable::<OsStr>::Reset));
    let mut matches = command.get_matches_from(["hookhub"]);
    let line = CommandLine::from_arg_matches_mut(&mut matches).unwrap();
    Settings::from_args(line.serve).unwrap()
}

#[test]
fn the_database_is_the_embedded_postgres_unless_a_url_is_set() {
    assert_eq!(settings_without_options().database, Database::Embedded { binaries: None });
    let url = "postgres://u:p@h/d";
    let parsed = settings(&["--database-url", url]).unwrap();
    assert_eq!(parsed.database, Database::Url(url.to_owned()));
}

#[test]
fn options_that_are_not_given_take_the_default_of_settings() {
    let (parsed, default) = (settings_without_options(), Settings::default());
    assert_eq!(parsed.database, default.database);
    assert_eq!(parsed.listen, default.listen);
    assert_eq!(parsed.data_dir, default.data_dir);
    assert_eq!(parsed.retry_schedule, default.retry_schedule);
    assert_eq!(parsed.retention, default.retention);
    assert_eq!(parsed.quotas, default.quotas);
    assert_eq!(parsed.stream_limits, default.stream_limits);
    assert_eq!(parsed.max_connections_per_address, default.max_connections_per_address);
    assert_eq!(parsed.trusted_proxies, default.trusted_proxies);
    assert_eq!(parsed.client_timeouts, default.client_timeouts);
    assert_eq!(parsed.stop_deadline, default.stop_deadline);
    assert!(parsed.cors_origins.is_empty() && !parsed.egress.targets.https_only);
}

#[test]
fn attempts_expire_with_their_events_unless_a_longer_time_is_set_for_both() {
    let kept = settings(&["--retention-events-days=7"]).unwrap().retention;
    assert_eq!(kept, Retention { events_days: 7, attempts_days: 7 });
}

#[test]
fn lists_are_separated_by_commas() {
    let settings = settings(&[
        "--retry-schedule-s=1, 20",
        "--cors-origins=https://a.example, https://b.example:8443",
    ])
    .unwrap();
    assert_eq!(settings.retry_schedule.steps, [1, 20].map(Duration::from_secs));
    assert_eq!(settings.cors_origins, ["https://a.example", "https://b.example:8443"]);
}

#[test]
fn https_only_is_a_switch_that_also_takes_a_value() {
    let https_only = |options: &[&str]| settings(options).unwrap().egress.targets.https_only;
    assert!(https_only(&["--https-only"]) && https_only(&["--https-only", "true"]));
    assert!(!https_only(&["--https-only", "false"]));
}

#[test]
fn stream_limits_per_key_and_address_default_to_the_limit_of_the_node() {
    let limits = settings(&["--max-streams=7", "--max-streams-per-key=3"]).unwrap().stream_limits;
    assert_eq!(limits, StreamLimits { per_node: 7, per_key: 3, per_address: 7 });
}

#[test]
fn quotas_and_timeouts_that_are_set_leave_the_others_at_their_default() {
    let settings = settings(&["--quota-streams=7", "--head-deadline-s=3"]).unwrap();
    assert_eq!(settings.quotas, Quotas { streams: Some(7), ..Quotas::default() });
    let timeouts = ClientTimeouts { head: Duration::from_secs(3), ..ClientTimeouts::default() };
    assert_eq!(settings.client_timeouts, timeouts);
}

#[test]
fn proxies_are_trusted_only_in_the_given_networks_and_header() {
    let settings = settings(&["--trusted-proxies=10.0.0.0/8", "--proxy-header=Forwarded"]).unwrap();
    let networks = Networks::parse("10.0.0.0/8").unwrap();
    let expected = TrustedProxies { networks, header: ProxyHeader::Forwarded };
    assert_eq!(settings.trusted_proxies, expected);
}
