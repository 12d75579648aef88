//! The API keys of this hub: looked up once, cached, and rejected on every node before a revocation is answered.

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

pub(crate) use self::cache::KeyCache;
use self::cache::{LeaseResumption, LookupGeneration};
pub(crate) use self::key::{InvalidKey, Key, Operation};
use crate::domain::id::KeyId;
use crate::domain::position::Position;
use crate::store::keys::StoredKey;
use crate::store::{Store, StoreError};

/// SHA-256 of a key.
pub(crate) type Hash = [u8; 32];

/// How often a look-up is repeated because a key was revoked meanwhile.
const MAX_LOOKUPS: usize = 20;

/// The API keys that this node accepts.
#[derive(Clone)]
pub(crate) struct Keys {
    store: Store,
    cache: Arc<KeyCache>,
}

impl fmt::Debug for Keys {
    /// Writes only the name of the type, so that no log contains keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Starts the tasks that check cached keys at new leases, confirm revocations as `node`, and write last uses.
    pub(crate) fn start(
        node: Uuid,
        store: Store,
        cache: Arc<KeyCache>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        // Subscribed before the tasks first run, so that they miss nothing.
        let (revoked, resumed) = (cache.revocations(), cache.resumptions());
        let confirm = confirm_revocations(node, store.clone(), Arc::clone(&cache), revoked);
        tasks.spawn(stop.clone().run_until_cancelled_owned(confirm));
        let check = check_at_new_leases(store.clone(), Arc::clone(&cache), resumed);
        tasks.spawn(stop.clone().run_until_cancelled_owned(check));
        tasks.spawn(uses::write(store.clone(), Arc::clone(&cache), stop));
        Self { store, cache }
    }

    /// Finds a key in the cache or the database. It may be revoked or expired: the caller checks [`Key::require_valid`].
    pub(crate) async fn by_hash(&self, hash: &Hash) -> Result<Option<Arc<Key>>, StoreError> {
        let cached = || self.cache.by_hash(hash);
        self.look_up(cached, async || self.store.select_key_by_hash(hash).await, Some(hash)).await
    }

    /// Finds a key in the cache or the database. It may be revoked or expired: the caller checks [`Key::require_valid`].
    pub(crate) async fn by_id(&self, id: KeyId) -> Result<Option<Arc<Key>>, StoreError> {
        let cached = || self.cache.by_id(id);
        self.look_up(cached, async || self.store.select_key_by_id(id).await, None).await
    }

    /// Returns the key that `cached` finds, else the one that `read` finds in the database, and caches it. Repeats
    /// `read` if any key was revoked meanwhile.
    async fn look_up(
        &self,
        cached: impl Fn() -> Result<Arc<Key>, LookupGeneration>,
        read: impl AsyncFn() -> Result<Option<StoredKey>, StoreError>,
        hash: Option<&Hash>,
    ) -> Result<Option<Arc<Key>>, StoreError> {
        for _ in 0..MAX_LOOKUPS {
            let begun = match cached() {
                Ok(key) => return Ok(Some(key)),
                Err(begun) => begun,
            };
            let Some(stored) = read().await? else { return Ok(None) };
            if let Some(key) = self.cache.insert(begun, stored, hash) {
                return Ok(Some(key));
            }
        }
        Err(StoreError::Unavailable("keys are revoked faster than a key can be looked up".into()))
    }

    /// Marks `key` as revoked if the database says so. Reads nothing while the cache is trusted.
    pub(crate) async fn recheck(&self, key: &Arc<Key>) -> Result<(), StoreError> {
        if self.cache.is_trusted() || key.is_revoked() {
            return Ok(());
        }
        let Ok(id) = key.name.parse() else { return Ok(()) };
        if self.store.select_unrevoked_keys(&[KeyId::stored(id)]).await?.is_empty() {
            key.revoke();
        }
        Ok(())
    }

    /// Wakes after each revocation, when the key is already marked. The value is the newest revocation's position.
    pub(crate) fn revocations(&self) -> watch::Receiver<Position> {
        self.cache.revocations()
    }

    /// The highest position up to `read` at or below which no revoked key has an operation in progress. `read`: the
    /// position up to which this node has read the log.
    pub(crate) fn enforced_up_to(&self, read: Position) -> Position {
        self.cache.enforced_up_to(read)
    }

    /// Trusts cached keys until `until`; if they were untrusted, only after a check in the database.
    pub(crate) fn lease_runs_until(&self, until: Instant) {
        self.cache.lease_runs_until(until);
    }

    /// Makes every later look-up read the database. Called when the node stops, before it deletes its row in the table
    /// of nodes: from then on, a revocation does not wait for it.
    pub(crate) fn stop_trusting(&self) {
        self.cache.stop_trusting();
    }
}

/// Confirms, as `node`, each revocation that the node has read from the log, once no operation of the key is in
/// progress.
async fn confirm_revocations(
    node: Uuid,
    store: Store,
    cache: Arc<KeyCache>,
    mut revoked: watch::Receiver<Position>,
) {
    while revoked.changed().await.is_ok() {
        let position = *revoked.borrow_and_update();
        let enforced = cache.enforced_up_to(position);
        if enforced < position {
            confirm(node, &store, enforced).await;
            cache.operations_ended(position).await;
        }
        confirm(node, &store, position).await;
    }
}

async fn confirm(node: Uuid, store: &Store, position: Position) {
    if let Err(error) = store.update_enforced(node, position).await {
        tracing::debug!(%error, "cannot confirm a revocation; the next renewal of the lease confirms it");
    }
}

/// Checks all cached keys at each new lease.
async fn check_at_new_leases(
    store: Store,
    cache: Arc<KeyCache>,
    mut resumed: watch::Receiver<Option<LeaseResumption>>,
) {
    while resumed.changed().await.is_ok() {
        let resumption = *resumed.borrow_and_update();
        if let Some(resumption) = resumption {
            resume(&store, &cache, resumption).await;
        }
    }
}

/// Checks the cached keys in the database. After an error the cache stays untrusted until the next lease.
async fn resume(store: &Store, cache: &KeyCache, resumption: LeaseResumption) {
    let checked = cache.ids();
    let stored: Vec<i64> = checked.iter().map(|id| id.stored()).collect();
    match store.select_unrevoked_keys(&stored).await {
        Ok(unrevoked) => cache.resume(resumption, &checked, &unrevoked),
        Err(error) => {
            tracing::debug!(%error, "cannot check the cached keys; each key is looked up until the next lease");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::FutureExt as _;

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
            scopes: Scopes::all_except_admin(),
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

    fn trusted_cache() -> KeyCache {
        let cache = KeyCache::default();
        begin_lease(&cache, &[]);
        cache
    }

    fn begin_lease(cache: &KeyCache, unrevoked: &[KeyId]) {
        let until = Instant::now() + Duration::from_secs(60);
        cache.lease_runs_until(until);
        let resumption = *cache.resumptions().borrow();
        cache.resume(resumption.unwrap(), &cache.ids(), unrevoked);
    }

    fn look_up(cache: &KeyCache, number: i64) -> Arc<Key> {
        let begun = cache.by_hash(&HASH).unwrap_err();
        cache.insert(begun, stored(number), Some(&HASH)).unwrap()
    }

    #[test]
    fn a_key_is_looked_up_once_and_found_by_its_hash_and_id() {
        let cache = trusted_cache();
        let key = look_up(&cache, 1);
        assert!(Arc::ptr_eq(&cache.by_hash(&HASH).unwrap(), &key));
        assert!(Arc::ptr_eq(&cache.by_id(id(1)).unwrap(), &key));
        assert!(cache.by_hash(&[8; 32]).is_err() && cache.by_id(id(2)).is_err());
    }

    #[test]
    fn a_revocation_marks_the_key_for_its_users_and_removes_it_from_the_cache() {
        let cache = trusted_cache();
        let (key, mut revocations) = (look_up(&cache, 1), cache.revocations());
        cache.handle_entry(&revocation(2));
        assert!(!key.is_revoked() && cache.by_hash(&HASH).is_ok());
        cache.handle_entry(&revocation(1));
        assert_eq!(key.require_valid(UnixMillis::now()), Err(InvalidKey::Revoked));
        assert!(cache.by_hash(&HASH).is_err() && cache.by_id(id(1)).is_err());
        assert_eq!(*revocations.borrow_and_update(), Position::from_stored(101));
    }

    #[tokio::test]
    async fn a_revocation_is_enforced_once_the_operations_of_its_key_have_ended() {
        let cache = trusted_cache();
        let key = look_up(&cache, 1);
        let now = UnixMillis::now();
        let operations = [key.begin_operation(now).unwrap(), key.begin_operation(now).unwrap()];
        cache.handle_entry(&revocation(1));
        assert_eq!(key.begin_operation(now).unwrap_err(), InvalidKey::Revoked);
        let (before, at, after) = [100, 101, 109].map(Position::from_stored).into();
        for operation in operations {
            assert_eq!(cache.enforced_up_to(after), before);
            assert_eq!(cache.enforced_up_to(before), before);
            assert!(cache.operations_ended(at).now_or_never().is_none());
            cache.operations_ended(before).await;
            drop(operation);
        }
        cache.operations_ended(at).await;
        assert_eq!(cache.enforced_up_to(after), after);
    }

    #[tokio::test]
    async fn a_revocation_found_by_the_check_at_a_new_lease_also_waits_for_operations() {
        let cache = trusted_cache();
        let operation = look_up(&cache, 1).begin_operation(UnixMillis::now()).unwrap();
        cache.invalidate();
        begin_lease(&cache, &[]);
        cache.handle_entry(&revocation(1));
        let at = Position::from_stored(101);
        assert_eq!(cache.enforced_up_to(at), Position::START);
        assert!(cache.operations_ended(at).now_or_never().is_none());
        drop(operation);
        assert_eq!(cache.enforced_up_to(at), at);
    }

    #[test]
    fn a_key_revoked_during_its_look_up_is_not_cached() {
        let cache = trusted_cache();
        let begun = cache.by_hash(&HASH).unwrap_err();
        cache.handle_entry(&revocation(1));
        assert!(cache.insert(begun, stored(1), Some(&HASH)).is_none());
        assert!(cache.by_hash(&HASH).is_err());
    }

    #[test]
    fn the_cache_is_not_trusted_without_a_lease() {
        let cache = KeyCache::default();
        let begun = cache.by_hash(&HASH).unwrap_err();
        assert!(cache.insert(begun, stored(1), Some(&HASH)).is_some());
        assert!(cache.by_hash(&HASH).is_err());
        begin_lease(&cache, &[id(1)]);
        assert!(cache.by_hash(&HASH).is_ok());
        cache.invalidate();
        assert!(cache.by_hash(&HASH).is_err());
    }

    #[test]
    fn a_key_revoked_while_there_was_no_lease_is_rejected_at_the_next_lease() {
        let cache = trusted_cache();
        let (key, revocations) = (look_up(&cache, 1), cache.revocations());
        cache.invalidate();
        begin_lease(&cache, &[]);
        assert!(key.is_revoked() && cache.by_id(id(1)).is_err());
        assert!(revocations.has_changed().unwrap(), "its users are woken");
    }

    #[test]
    fn an_invalidation_during_the_check_of_a_new_lease_stands() {
        let cache = KeyCache::default();
        cache.lease_runs_until(Instant::now() + Duration::from_secs(60));
        let resumption = cache.resumptions().borrow().unwrap();
        cache.invalidate();
        cache.resume(resumption, &[], &[]);
        assert!(!cache.is_trusted());
        cache.stop_trusting();
        cache.lease_runs_until(Instant::now() + Duration::from_secs(60));
        assert!(!cache.is_trusted(), "a stopping node never trusts its cache again");
    }

    #[test]
    fn a_key_stored_as_revoked_is_never_cached() {
        let cache = trusted_cache();
        let begun = cache.by_hash(&HASH).unwrap_err();
        let key = cache.insert(begun, StoredKey { revoked: true, ..stored(1) }, Some(&HASH));
        assert!(key.unwrap().is_revoked());
        assert!(cache.by_hash(&HASH).is_err());
    }

    #[test]
    fn a_use_is_written_at_once_the_first_time_and_then_once_a_minute() {
        let key = look_up(&trusted_cache(), 1);
        let at = |s: i64| UnixMillis::from_i64(s * 1_000);
        assert!(!key.is_write_due(at(1_000)), "it was not used");
        key.record_use(at(1_000));
        assert!(key.is_write_due(at(1_000)));
        key.record_written(key.unwritten_use().unwrap());
        key.record_use(at(1_030));
        assert!(!key.is_write_due(at(1_059)));
        assert!(key.is_write_due(at(1_060)));
        assert_eq!(key.unwritten_use(), Some(at(1_030)));
    }
}
