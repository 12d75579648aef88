//! The topology: the event types, and the webhook subscriptions with the behavior of their receivers.

use hookhub::domain::signing::secret::Secret;

/// The types of all events of a run.
pub(crate) const EVENT_TYPES: [&str; 6] =
    ["chaos.a", "chaos.b", "chaos.c", "chaos.d", "chaos.e", "chaos.f"];
/// Pattern that matches all of [`EVENT_TYPES`].
pub(crate) const ALL_TYPES: &str = "chaos.*";

/// How a receiver responds to a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// Responds 204 at once.
    Healthy,
    /// Responds after 0.8 s, or byte by byte, within the timeout.
    Slow,
    /// Reads the request and never responds.
    Hang,
    /// Responds byte by byte, beyond the timeout.
    Trickle,
    /// Resets the connection, before or within its response.
    Reset,
    /// Responds with an endless body.
    Endless,
    /// Responds with truncated, invalid or interim HTTP; sometimes with unusual but valid HTTP.
    Malformed,
    /// Responds 500 or 503.
    Reject,
}

impl Behavior {
    pub(crate) const ALL: [Self; 8] = [
        Self::Healthy,
        Self::Slow,
        Self::Hang,
        Self::Trickle,
        Self::Reset,
        Self::Endless,
        Self::Malformed,
        Self::Reject,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Hang => "hang",
            Self::Trickle => "trickle",
            Self::Reset => "reset",
            Self::Endless => "endless",
            Self::Malformed => "malformed",
            Self::Reject => "reject",
        }
    }
}

/// How a receiver behaves over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BehaviorPlan {
    AlwaysHealthy,
    /// Healthy, with repeated periods of this behavior.
    Periods(Behavior),
    /// Healthy, with short periods of random behaviors.
    Flapping,
}

/// A webhook subscription and its receiver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Webhook {
    /// Label in the report.
    pub(crate) name: &'static str,
    /// Event type pattern of the subscription.
    pub(crate) pattern: &'static str,
    /// Whether the subscription asks for ordered delivery.
    pub(crate) ordered: bool,
    pub(crate) plan: BehaviorPlan,
}

const fn webhook(
    name: &'static str,
    pattern: &'static str,
    ordered: bool,
    plan: BehaviorPlan,
) -> Webhook {
    Webhook { name, pattern, ordered, plan }
}

/// All webhook subscriptions. The ordered ones match fewer types, because the hub sends them one POST at a time.
pub(crate) const WEBHOOKS: &[Webhook] = &[
    webhook("healthy", ALL_TYPES, false, BehaviorPlan::AlwaysHealthy),
    webhook("healthy, ordered", ALL_TYPES, true, BehaviorPlan::AlwaysHealthy),
    webhook("healthy, one type, ord.", EVENT_TYPES[0], true, BehaviorPlan::AlwaysHealthy),
    webhook("slow", EVENT_TYPES[0], false, BehaviorPlan::Periods(Behavior::Slow)),
    webhook("slow, ordered", EVENT_TYPES[1], true, BehaviorPlan::Periods(Behavior::Slow)),
    webhook("hang", ALL_TYPES, false, BehaviorPlan::Periods(Behavior::Hang)),
    webhook("hang, ordered", EVENT_TYPES[2], true, BehaviorPlan::Periods(Behavior::Hang)),
    webhook("trickle", EVENT_TYPES[3], false, BehaviorPlan::Periods(Behavior::Trickle)),
    webhook("trickle, ordered", EVENT_TYPES[3], true, BehaviorPlan::Periods(Behavior::Trickle)),
    webhook("reset", ALL_TYPES, false, BehaviorPlan::Periods(Behavior::Reset)),
    webhook("reset, ordered", EVENT_TYPES[4], true, BehaviorPlan::Periods(Behavior::Reset)),
    webhook("endless", EVENT_TYPES[4], false, BehaviorPlan::Periods(Behavior::Endless)),
    webhook("endless, ordered", EVENT_TYPES[5], true, BehaviorPlan::Periods(Behavior::Endless)),
    webhook("malformed", ALL_TYPES, false, BehaviorPlan::Periods(Behavior::Malformed)),
    webhook("malformed, ordered", EVENT_TYPES[0], true, BehaviorPlan::Periods(Behavior::Malformed)),
    webhook("reject", ALL_TYPES, false, BehaviorPlan::Periods(Behavior::Reject)),
    webhook("reject, ordered", EVENT_TYPES[1], true, BehaviorPlan::Periods(Behavior::Reject)),
    webhook("flapping", EVENT_TYPES[2], false, BehaviorPlan::Flapping),
    webhook("flapping, ordered", EVENT_TYPES[3], true, BehaviorPlan::Flapping),
];

/// Index of the webhook of the hub with the full disk; one beyond [`WEBHOOKS`].
pub(crate) const FULL_DISK_WEBHOOK: usize = WEBHOOKS.len();

/// The signing secret of a webhook, derived from its index so that both processes know it.
pub(crate) fn secret(webhook: usize) -> Secret {
    let mut bytes = [b'#'; 32];
    for (byte, part) in bytes.iter_mut().zip(webhook.to_le_bytes()) {
        *byte = part;
    }
    Secret::from_random(bytes)
}
