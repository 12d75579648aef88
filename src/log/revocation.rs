//! Revocation of API keys: an entry in the log, and a wait until every node enforces it.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Log, poll_until, send_repeatable};
use crate::domain::access::audit::AuditEntry;
use crate::domain::access::revocation::{KEY_REVOKED, Revocation};
use crate::domain::event::event_type::EventType;
use crate::domain::event::{Event, NewEvent};
use crate::domain::position::Position;
use crate::store::StoreError;
use crate::store::keys::{Revoked, StoredKey};

/// Whether all nodes are known to reject a revoked key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationReach {
    /// Every live node rejects the key, ends what was opened with it, and has completed the operations in progress.
    Everywhere,
    /// The key is revoked, but a node did not confirm in time.
    Unconfirmed,
}

impl Log {
    /// Revokes a key, and returns the position of the entry that says so; for a key that is already revoked, of the
    /// first. `None` if the key does not exist. `token` identifies the append, so that it can be repeated.
    ///
    /// Nodes may accept the key until [`Self::wait_until_enforced`] returns.
    pub async fn revoke_key(
        &self,
        key: &StoredKey,
        token: Uuid,
        audit: &AuditEntry,
    ) -> Result<Option<Position>, StoreError> {
        let data = serde_json::to_vec(&Revocation::new(key.id, &key.name))
            .map_err(|error| StoreError::Unreadable(error.to_string()))?;
        let send = || self.store.revoke_key(token, key, &data, audit);
        let revoked = send_repeatable(send).await?;
        let Some(Revoked { is_new, position, previous }) = revoked else { return Ok(None) };
        if is_new {
            let entry = NewEvent {
                event_type: EventType::from_stored(KEY_REVOKED),
                about: None,
                occurred_at: None,
                data: Bytes::from(data),
            };
            let event = Event::at(position, &key.tenant.as_str().into(), &entry);
            self.tail.add_committed(previous, vec![Arc::new(event)]);
            self.notifier_wakeup.notify_one();
        }
        Ok(Some(position))
    }

    /// Waits until every node enforces the revocation at `position`: it has read the entry, and no operation of the key
    /// is in progress. The caller must hold no operation of the key, or the wait ends as [`RevocationReach::Unconfirmed`].
    /// A node whose lease has ended need not confirm: it trusts no cached key.
    pub async fn wait_until_enforced(&self, position: Position) -> RevocationReach {
        self.wait_until_visible(position).await;
        let is_here = self.tail.head() >= position;
        if poll_until(|| self.store.have_all_enforced(position)).await && is_here {
            RevocationReach::Everywhere
        } else {
            RevocationReach::Unconfirmed
        }
    }
}
