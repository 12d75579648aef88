//! Which API keys open this hub: looked up once, remembered, and shut out on every node before the answer to their
//! revocation.

pub(crate) mod cache;
mod key;
mod uses;

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub(crate) use self::cache::Known;
use self::cache::{Resumed, Round};
pub(crate) use self::key::{Key, Standing};
use crate::domain::id::KeyId;
use crate::domain::position::Position;
use crate::store::keys::StoredKey;
use crate::store::{Store, StoreError};

/// SHA-256 of a key.
pub(crate) type Hash = [u8; 32];

/// How often a look-up begins anew because a key was revoked meanwhile.
const LOOKS: usize = 20;

/// The keys that open this hub.
#[derive(Clone)]
pub(crate) struct Keys {
    store: Store,
    known: Arc<Known>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Keeps what `known` remembers right, for `node`, until `stop`.
    pub(crate) fn start(
        node: Uuid,
        store: Store,
        known: Arc<Known>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (revoked, resumed) = (known.revocations(), known.resumptions());
        let follow = follow((node, store.clone()), Arc::clone(&known), revoked, resumed);
        let until = stop.clone();
        tasks.spawn(async move { until.run_until_cancelled(follow).await });
        tasks.spawn(uses::write(store.clone(), Arc::clone(&known), stop));
        Self { store, known }
    }

    /// The key with that hash; what it may do, if it is in force, it says itself.
    pub(crate) async fn by_hash(&self, hash: &Hash) -> Result<Option<Arc<Key>>, StoreError> {
        let remembered = || self.known.by_hash(hash);
        self.look_up(remembered, async || self.store.select_key_by_hash(hash).await, Some(hash))
            .await
    }

    /// The same with that id.
    pub(crate) async fn by_id(&self, id: KeyId) -> Result<Option<Arc<Key>>, StoreError> {
        let remembered = || self.known.by_id(id);
        self.look_up(remembered, async || self.store.select_key_by_id(id).await, None).await
    }

    async fn look_up(
        &self,
        remembered: impl Fn() -> Result<Arc<Key>, Round>,
        read: impl AsyncFn() -> Result<Option<StoredKey>, StoreError>,
        hash: Option<&Hash>,
    ) -> Result<Option<Arc<Key>>, StoreError> {
        for _ in 0..LOOKS {
            let begun = match remembered() {
                Ok(key) => return Ok(Some(key)),
                Err(begun) => begun,
            };
            let Some(stored) = read().await? else { return Ok(None) };
            if let Some(key) = self.known.remember(begun, stored, hash) {
                return Ok(Some(key));
            }
        }
        Err(StoreError::Unavailable("keys are being revoked faster than one is looked up".into()))
    }

    /// Makes sure that a key let in before tells rightly whether it still is: where this node has no lease, it may not
    /// have heard of its revocation.
    pub(crate) async fn look_again(&self, key: &Arc<Key>) -> Result<(), StoreError> {
        if self.known.is_believed() || key.is_revoked() {
            return Ok(());
        }
        let Ok(id) = key.name.parse() else { return Ok(()) };
        if self.store.select_unrevoked_keys(&[KeyId::stored(id)]).await?.is_empty() {
            key.revoke();
        }
        Ok(())
    }

    /// Changes with each revocation, after the key tells so itself.
    pub(crate) fn revocations(&self) -> watch::Receiver<Position> {
        self.known.revocations()
    }

    /// Told by whoever renews this node's lease: it is believed until then.
    pub(crate) fn lease_runs_until(&self, until: Instant) {
        self.known.lease_runs_until(until);
    }

    /// Told before this node is taken off the list of those that are waited for.
    pub(crate) fn retire(&self) {
        self.known.retire();
    }
}

/// Says to the others that this node has shut a key out, and looks at all keys again after a time without a lease.
async fn follow(
    (node, store): (Uuid, Store),
    known: Arc<Known>,
    mut revoked: watch::Receiver<Position>,
    mut resumed: watch::Receiver<Option<Resumed>>,
) {
    loop {
        tokio::select! {
            Ok(()) = revoked.changed() => {
                let position = *revoked.borrow_and_update();
                if let Err(error) = store.update_seen(node, position).await {
                    tracing::debug!(%error, "a revocation is not confirmed; the next renewal of the lease does it");
                }
            }
            Ok(()) = resumed.changed() => {
                let resumption = *resumed.borrow_and_update();
                if let Some(resumption) = resumption {
                    resume(&store, &known, resumption).await;
                }
            }
            else => return,
        }
    }
}

async fn resume(store: &Store, known: &Known, resumption: Resumed) {
    let looked_at = known.ids();
    let stored: Vec<i64> = looked_at.iter().map(|id| id.stored()).collect();
    match store.select_unrevoked_keys(&stored).await {
        Ok(in_force) => known.resume(resumption, &looked_at, &in_force),
        Err(error) => tracing::debug!(%error, "keys are looked up one by one until the next lease"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::domain::access::revocation::{KEY_REVOKED, Revocation};
    use crate::domain::access::scope::Scopes;
    use crate::domain::event::event_type::EventType;
    use crate::domain::event::{Event, NewEvent};
    use crate::domain::time::UnixMillis;
    use crate::log::LogObserver as _;

    const HASH: Hash = [7; 32];

    fn id(number: i64) -> KeyId {
        KeyId::from_stored(number)
    }

    fn stored(number: i64) -> StoredKey {
        StoredKey {
            id: id(number),
            tenant: "t".into(),
            name: "ci".into(),
            scopes: Scopes::of_a_tenant(),
            event_types: None,
            created_at: UnixMillis::EPOCH,
            expires_at: None,
            last_used_at: None,
            revoked: false,
        }
    }

    fn revocation(number: i64) -> Event {
        let data = serde_json::to_vec(&Revocation::new(id(number), "ci")).unwrap();
        let new = NewEvent {
            event_type: EventType::from_stored(KEY_REVOKED),
            about: None,
            occurred_at: None,
            data: Bytes::from(data),
        };
        Event::at(Position::from_stored(100 + number), &"t".into(), &new)
    }

    /// With a lease.
    fn believing() -> Known {
        let known = Known::default();
        begin_lease(&known, &[]);
        known
    }

    fn begin_lease(known: &Known, in_force: &[KeyId]) {
        let until = Instant::now() + Duration::from_secs(60);
        known.lease_runs_until(until);
        let resumption = *known.resumptions().borrow();
        known.resume(resumption.unwrap(), &known.ids(), in_force);
    }

    fn let_in(known: &Known, number: i64) -> Arc<Key> {
        let begun = known.by_hash(&HASH).unwrap_err();
        known.remember(begun, stored(number), Some(&HASH)).unwrap()
    }

    #[test]
    fn a_key_is_looked_up_once_and_found_by_its_hash_and_id() {
        let known = believing();
        let key = let_in(&known, 1);
        assert!(Arc::ptr_eq(&known.by_hash(&HASH).unwrap(), &key));
        assert!(Arc::ptr_eq(&known.by_id(id(1)).unwrap(), &key));
        assert!(known.by_hash(&[8; 32]).is_err() && known.by_id(id(2)).is_err());
    }

    #[test]
    fn a_revoked_key_tells_all_who_hold_it_and_is_forgotten() {
        let known = believing();
        let (key, mut revocations) = (let_in(&known, 1), known.revocations());
        known.handle_entry(&revocation(2));
        assert!(!key.is_revoked() && known.by_hash(&HASH).is_ok());
        known.handle_entry(&revocation(1));
        assert_eq!(key.standing(UnixMillis::now()), Standing::Revoked);
        assert!(known.by_hash(&HASH).is_err() && known.by_id(id(1)).is_err());
        assert_eq!(*revocations.borrow_and_update(), Position::from_stored(101));
    }

    #[test]
    fn a_key_that_is_revoked_while_it_is_looked_up_is_not_let_in() {
        let known = believing();
        let begun = known.by_hash(&HASH).unwrap_err();
        known.handle_entry(&revocation(1));
        assert!(known.remember(begun, stored(1), Some(&HASH)).is_none());
        assert!(known.by_hash(&HASH).is_err());
    }

    #[test]
    fn nothing_is_believed_without_a_lease() {
        let known = Known::default();
        let begun = known.by_hash(&HASH).unwrap_err();
        assert!(known.remember(begun, stored(1), Some(&HASH)).is_some());
        assert!(known.by_hash(&HASH).is_err());
        begin_lease(&known, &[id(1)]);
        assert!(known.by_hash(&HASH).is_ok());
        known.doubt();
        assert!(known.by_hash(&HASH).is_err());
    }

    #[test]
    fn what_was_revoked_in_a_time_without_a_lease_is_shut_out_at_its_end() {
        let known = believing();
        let (key, revocations) = (let_in(&known, 1), known.revocations());
        known.doubt();
        begin_lease(&known, &[]);
        assert!(key.is_revoked() && known.by_id(id(1)).is_err());
        assert!(revocations.has_changed().unwrap(), "those who hold it are told");
    }

    #[test]
    fn a_doubt_that_comes_while_all_are_looked_at_stands() {
        let known = Known::default();
        known.lease_runs_until(Instant::now() + Duration::from_secs(60));
        let resumption = known.resumptions().borrow().unwrap();
        known.doubt();
        known.resume(resumption, &[], &[]);
        assert!(!known.is_believed());
        known.retire();
        known.lease_runs_until(Instant::now() + Duration::from_secs(60));
        assert!(!known.is_believed(), "a retired node believes nothing for good");
    }

    #[test]
    fn a_key_that_is_revoked_on_record_is_never_remembered() {
        let known = believing();
        let begun = known.by_hash(&HASH).unwrap_err();
        let key = known.remember(begun, StoredKey { revoked: true, ..stored(1) }, Some(&HASH));
        assert!(key.unwrap().is_revoked());
        assert!(known.by_hash(&HASH).is_err());
    }

    #[test]
    fn a_use_is_written_at_once_the_first_time_and_then_once_a_minute() {
        let key = let_in(&believing(), 1);
        let at = |s: i64| UnixMillis::from_i64(s * 1_000);
        assert!(!key.is_due(at(1_000)), "it was not used");
        key.note_use(at(1_000));
        assert!(key.is_due(at(1_000)));
        key.note_written(key.unwritten().unwrap());
        key.note_use(at(1_030));
        assert!(!key.is_due(at(1_059)));
        assert!(key.is_due(at(1_060)));
        assert_eq!(key.unwritten(), Some(at(1_030)));
    }
}
