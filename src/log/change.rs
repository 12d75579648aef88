//! Changes of subscriptions: an entry in the log, and a wait until every node that may deliver has applied it.

use std::sync::Arc;

use tokio::time::timeout;
use uuid::Uuid;

use super::{APPLY_TIMEOUT, Log, poll_until, send_repeatable};
use crate::domain::access::audit::Actor;
use crate::domain::event::{Event, NewEvent};
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change::{self, Change, ChangeResult};
use crate::domain::time::UnixMillis;
use crate::store::StoreError;

impl Log {
    /// Commits a change with its log entry and audit entry. If it was applied, waits until delivery has applied it here
    /// and on the node that owns the subscription's shard, at most `APPLY_TIMEOUT` for each.
    ///
    /// `before`: the subscription before the change; `by`: the author.
    pub async fn change(
        &self,
        change: &Change,
        before: Option<&Subscription>,
        by: &Actor,
    ) -> Result<ChangeResult, StoreError> {
        let (token, after) = (Uuid::new_v4(), self.tail.head());
        let audit = change::audit_entry(change, before, by, token, UnixMillis::now());
        let send = || self.store.change_subscription(token, after, change, &audit);
        let changed = send_repeatable(send).await?;
        if let ChangeResult::Applied { position, previous } = &changed {
            let entry = NewEvent {
                event_type: change.entry_type.clone(),
                about: Some(change.subscription.id),
                occurred_at: None,
                data: change.entry_data.clone(),
            };
            let event = Event::at(*position, &change.subscription.tenant, &entry);
            self.tail.add_committed(*previous, vec![Arc::new(event)]);
            self.notifier_wakeup.notify_one();
            self.wait_until_visible(*position).await;
            self.wait_until_applied(*position).await;
            self.wait_until_applied_elsewhere(change.subscription.shard(), *position).await;
        }
        Ok(changed)
    }

    /// Waits until delivery on this node has read up to `position`; not at all if none runs. Warns after
    /// [`APPLY_TIMEOUT`].
    async fn wait_until_applied(&self, position: Position) {
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|up_to| up_to.is_none_or(|up_to| up_to >= position));
        if timeout(APPLY_TIMEOUT, reached).await.is_err() {
            tracing::warn!(%position, "delivery on this node has not applied a subscription change in time");
        }
    }

    /// Waits for delivery on the owner of `shard`, if that is another node. Warns after [`APPLY_TIMEOUT`].
    async fn wait_until_applied_elsewhere(&self, shard: u16, position: Position) {
        let check = || self.store.has_other_owner_applied(self.node, shard, position);
        if !poll_until(check).await {
            tracing::warn!(%position, "another node has not applied a subscription change in time");
        }
    }
}
