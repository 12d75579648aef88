//! Revocation of API keys: an entry in the log, and a wait until every node rejects the key.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Log, poll_until, send_repeatable};
use crate::domain::access::audit::AuditEntry;
use crate::domain::access::revocation::{KEY_REVOKED, Revocation};
use crate::domain::event::event_type::EventType;
use crate::domain::event::{Event, NewEvent};
use crate::store::StoreError;
use crate::store::keys::{Revoked, StoredKey};

/// Whether all nodes are known to reject a revoked key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationReach {
    /// Every live node rejects the key, and ends what was opened with it.
    Everywhere,
    /// The key is revoked, but a node did not confirm in time.
    Unconfirmed,
}

impl Log {
    /// Revokes a key, and waits until every node rejects it, at most `APPLY_TIMEOUT` for this node and for the others.
    /// For a key that is already revoked, only waits. `None` if the key does not exist.
    ///
    /// `token` identifies the append, so that it can be repeated. Another node confirms when it records that it has
    /// read the log entry. A node whose lease has ended need not confirm: it trusts no cached key.
    pub async fn revoke_key(
        &self,
        key: &StoredKey,
        token: Uuid,
        audit: &AuditEntry,
    ) -> Result<Option<RevocationReach>, StoreError> {
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
        self.wait_until_visible(position).await;
        let is_here = self.tail.head() >= position;
        let check = || self.store.have_others_read(self.node, position);
        let is_everywhere = poll_until(check).await && is_here;
        Ok(Some(if is_everywhere {
            RevocationReach::Everywhere
        } else {
            RevocationReach::Unconfirmed
        }))
    }
}
