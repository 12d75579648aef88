//! Which events a client reads.

use std::sync::Arc;

use crate::domain::event::Event;
use crate::domain::event::event_type::Pattern;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::TEST_EVENT;
use crate::domain::subscription::version::{Version, matches_event};

/// Which events a client reads.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Whose.
    pub tenant: Arc<str>,
    /// Which of them.
    pub source: Source,
}

/// Which of a tenant's events.
#[derive(Debug)]
pub(crate) enum Source {
    /// Those of types that one of these patterns matches.
    Types(Arc<[Pattern]>),
    /// Those that are for a subscription.
    Subscription {
        /// Its id.
        id: SubscriptionId,
        /// Its patterns over time, oldest first.
        versions: Vec<Version>,
        /// Up to here it had a callback; what that took is not read again.
        delivered_up_to: Position,
        /// Of them only events of types that one of these patterns matches, and test events; `None`: all.
        within: Option<Arc<[Pattern]>>,
    },
}

/// What clients that read the same have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum GroupKey {
    /// A tenant's events of these types.
    Types(Arc<str>, Arc<[Pattern]>),
    /// The events for a subscription.
    Subscription(SubscriptionId),
}

impl Filter {
    /// Whether the client reads `event`.
    pub(crate) fn matches_event(&self, event: &Event) -> bool {
        match &self.source {
            Source::Types(patterns) => {
                *event.tenant == *self.tenant && matches(patterns, event.event_type.as_str())
            }
            Source::Subscription { id, versions, within, .. } => {
                let event_type = event.event_type.as_str();
                let is_within = |patterns: &Arc<[Pattern]>| {
                    event_type == TEST_EVENT || matches(patterns, event_type)
                };
                matches_event(event, *id, &self.tenant, versions)
                    && within.as_ref().is_none_or(is_within)
            }
        }
    }

    /// What bounds the events of a subscription.
    pub(super) fn within(&self) -> Option<Arc<[Pattern]>> {
        match &self.source {
            Source::Types(_) => None,
            Source::Subscription { within, .. } => within.clone(),
        }
    }

    /// The patterns in force at the head of the log.
    pub(crate) fn patterns(&self) -> Arc<[Pattern]> {
        match &self.source {
            Source::Types(patterns) => Arc::clone(patterns),
            Source::Subscription { versions, .. } => versions
                .last()
                .map_or_else(|| [].into(), |version| Arc::clone(&version.event_types)),
        }
    }

    /// The subscription whose events these are.
    pub(crate) fn subscription(&self) -> Option<SubscriptionId> {
        match &self.source {
            Source::Types(_) => None,
            Source::Subscription { id, .. } => Some(*id),
        }
    }

    pub(super) fn group_key(&self) -> GroupKey {
        match &self.source {
            Source::Types(patterns) => {
                GroupKey::Types(Arc::clone(&self.tenant), Arc::clone(patterns))
            }
            Source::Subscription { id, .. } => GroupKey::Subscription(*id),
        }
    }
}

fn matches(patterns: &[Pattern], event_type: &str) -> bool {
    patterns.iter().any(|one| one.matches(event_type))
}
