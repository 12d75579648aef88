//! Settings of what each tenant may do, unless an operator allows it something else.

use clap::Args;

use super::{ConfigError, or, wrong};
use crate::domain::access::quota::{EVENT_BYTES_RANGE, MAX_QUOTA, Quotas};

/// These settings as they are given.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct QuotaArgs {
    /// Bytes of data that one event may have, unless its tenant's quota says otherwise [default: 262144]
    #[arg(long, env = "HOOKHUB_MAX_EVENT_BYTES", value_name = "BYTES")]
    max_event_bytes: Option<String>,

    /// Events that a tenant may publish per second, on each node [default: as many as come]
    #[arg(long, env = "HOOKHUB_QUOTA_EVENTS_PER_S", value_name = "COUNT")]
    quota_events_per_s: Option<String>,

    /// Subscriptions that a tenant may have [default: 10000]
    #[arg(long, env = "HOOKHUB_QUOTA_SUBSCRIPTIONS", value_name = "COUNT")]
    quota_subscriptions: Option<String>,

    /// Streams and waiting polls that a tenant may have open, on each node [default: as many as on the node]
    #[arg(long, env = "HOOKHUB_QUOTA_STREAMS", value_name = "COUNT")]
    quota_streams: Option<String>,
}

impl QuotaArgs {
    /// What each tenant may do.
    pub(super) fn quotas(self) -> Result<Quotas, ConfigError> {
        let count = |setting, text: String| match text.parse() {
            Ok(count @ 1..=MAX_QUOTA) => Ok(count),
            _ => Err(wrong(setting, format!("{text:?} is no whole number from 1 to {MAX_QUOTA}"))),
        };
        let default = Quotas::default();
        Ok(Quotas {
            events_per_s: or(self.quota_events_per_s, default.events_per_s, |text| {
                count("HOOKHUB_QUOTA_EVENTS_PER_S", text).map(Some)
            })?,
            subscriptions: or(self.quota_subscriptions, default.subscriptions, |text| {
                count("HOOKHUB_QUOTA_SUBSCRIPTIONS", text)
            })?,
            streams: or(self.quota_streams, default.streams, |text| {
                count("HOOKHUB_QUOTA_STREAMS", text).map(Some)
            })?,
            event_bytes: or(self.max_event_bytes, default.event_bytes, |text| event_bytes(&text))?,
        })
    }
}

fn event_bytes(text: &str) -> Result<u32, ConfigError> {
    text.parse().ok().filter(|bytes| EVENT_BYTES_RANGE.contains(bytes)).ok_or_else(|| {
        let (least, most) = EVENT_BYTES_RANGE.into_inner();
        let detail = format!("{text:?} is no number of bytes from {least} to {most} (4 MiB)");
        wrong("HOOKHUB_MAX_EVENT_BYTES", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_quota_is_named() {
        let text = |text: &str| Some(text.to_owned());
        for (args, named) in [
            (
                QuotaArgs { max_event_bytes: text("1"), ..QuotaArgs::default() },
                "HOOKHUB_MAX_EVENT_BYTES",
            ),
            (
                QuotaArgs { quota_events_per_s: text("0"), ..QuotaArgs::default() },
                "HOOKHUB_QUOTA_EVENTS_PER_S",
            ),
            (
                QuotaArgs { quota_subscriptions: text("1000001"), ..QuotaArgs::default() },
                "HOOKHUB_QUOTA_SUBSCRIPTIONS",
            ),
            (
                QuotaArgs { quota_streams: text("many"), ..QuotaArgs::default() },
                "HOOKHUB_QUOTA_STREAMS",
            ),
        ] {
            assert!(args.quotas().unwrap_err().to_string().starts_with(named), "{named}");
        }
    }

    #[test]
    fn what_is_given_is_in_force_and_the_rest_is_as_ever() {
        let args = QuotaArgs { quota_streams: Some("7".to_owned()), ..QuotaArgs::default() };
        assert_eq!(args.quotas().unwrap(), Quotas { streams: Some(7), ..Quotas::default() });
    }
}
