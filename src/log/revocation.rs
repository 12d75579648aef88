//! The end of a key: an entry in the log, and a wait until no node lets it in any more.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{APPLY_DEADLINE, CHANGE_TRIES, LOOK_AGAIN, Log};
use crate::domain::access::audit::AuditEntry;
use crate::domain::access::revocation::{KEY_REVOKED, Revocation};
use crate::domain::event::event_type::EventType;
use crate::domain::event::{Event, NewEvent};
use crate::domain::position::Position;
use crate::store::StoreError;
use crate::store::keys::{Revoked, StoredKey};

/// What became of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutOut {
    /// No node lets the key in, and all that was opened with it is told to end.
    Everywhere,
    /// The key is revoked, but a node did not confirm in time that it knows.
    Unconfirmed,
}

impl Log {
    /// Revokes a key, or makes sure that it is revoked everywhere; `None`: there is no such key.
    pub async fn revoke_key(
        &self,
        key: &StoredKey,
        token: Uuid,
        audit: &AuditEntry,
    ) -> Result<Option<ShutOut>, StoreError> {
        let said = Revocation::new(key.id, &key.name);
        let data =
            serde_json::to_vec(&said).map_err(|error| StoreError::Unreadable(error.to_string()))?;
        let mut tries = 0;
        let revoked = loop {
            tries += 1;
            match self.store.revoke_key(token, key, &data, audit).await {
                Err(StoreError::Unavailable(_)) if tries < CHANGE_TRIES => {}
                other => break other?,
            }
        };
        let Some(Revoked { made, position, previous }) = revoked else { return Ok(None) };
        if made {
            let entry = NewEvent {
                event_type: EventType::from_stored(KEY_REVOKED),
                about: None,
                occurred_at: None,
                data: Bytes::from(data),
            };
            let event = Event::placed(position, &key.tenant.as_str().into(), &entry);
            self.tail.offer(previous, vec![Arc::new(event)]);
            self.news.notify_one();
        }
        self.wait_until_seen(position).await;
        let seen_here = self.tail.head() >= position;
        let everywhere = self.others_have_seen(position).await && seen_here;
        Ok(Some(if everywhere { ShutOut::Everywhere } else { ShutOut::Unconfirmed }))
    }

    /// Waits until the log up to `position` holds on all other nodes, or their lease has run out; whether that came in
    /// time.
    async fn others_have_seen(&self, position: Position) -> bool {
        let looking = async {
            let (mut wait, longest) = LOOK_AGAIN;
            while !self.store.others_have_seen(self.node, position).await.unwrap_or(false) {
                tokio::time::sleep(wait).await;
                wait = longest.min(wait * 2);
            }
        };
        tokio::time::timeout(APPLY_DEADLINE, looking).await.is_ok()
    }
}
