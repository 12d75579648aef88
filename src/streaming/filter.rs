//! The selection of events that a stream client reads.

use std::sync::Arc;

use crate::domain::event::Event;
use crate::domain::event::event_type::Pattern;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::TEST_EVENT;
use crate::domain::subscription::version::{Version, matches_event};

/// The events of one tenant that a client reads.
#[derive(Debug)]
pub(crate) struct Filter {
    pub tenant: Arc<str>,
    pub source: Source,
}

#[derive(Debug)]
pub(crate) enum Source {
    Types(Arc<[Pattern]>),
    Subscription {
        id: SubscriptionId,
        /// The subscription's patterns over time, oldest first.
        versions: Vec<Version>,
        /// Up to here events may have been delivered while the subscription was a webhook. Delivered events are
        /// skipped.
        delivered_up_to: Position,
        /// Restricts the events to these types and test events; `None`: all.
        within: Option<Arc<[Pattern]>>,
    },
}

/// Clients with equal keys share a group. Their events differ only by [`Source::Subscription`]'s `within`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum GroupKey {
    Types(Arc<str>, Arc<[Pattern]>),
    Subscription(SubscriptionId),
}

impl Filter {
    /// A pull subscription also selects the test events about it, whatever its patterns.
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

    /// The event types to which the reader's API key is limited. `None`: no limit, or a stream by event types.
    pub(super) fn allowed_types(&self) -> Option<Arc<[Pattern]>> {
        match &self.source {
            Source::Types(_) => None,
            Source::Subscription { within, .. } => within.clone(),
        }
    }

    /// Returns the patterns that select new events: for a subscription, its newest version.
    pub(crate) fn patterns(&self) -> Arc<[Pattern]> {
        match &self.source {
            Source::Types(patterns) => Arc::clone(patterns),
            Source::Subscription { versions, .. } => {
                versions.last().map(|version| Arc::clone(&version.event_types)).unwrap_or_default()
            }
        }
    }

    /// `None` for a stream by event types.
    pub(crate) fn subscription_id(&self) -> Option<SubscriptionId> {
        match &self.source {
            Source::Types(_) => None,
            Source::Subscription { id, .. } => Some(*id),
        }
    }

    /// Clients with the same tenant and patterns, or the same pull subscription, share a group.
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
