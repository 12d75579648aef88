//! Outstanding verifications, and the order in which they run: few at a time on a node, and fewer of one tenant, so
//! that hanging receivers hold back neither deliveries nor other tenants' verifications.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::scheduler::pop_first_if;
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::id::SubscriptionId;
use crate::domain::time::UnixMillis;

/// How many verifications run at a time on a node.
const MAX_RUNNING: usize = 64;
/// How many verifications of one tenant run at a time on a node.
const MAX_RUNNING_OF_TENANT: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next attempt starts at this time.
    Waiting(UnixMillis),
    /// The next attempt waits behind others of its tenant.
    Queued,
    Running,
    /// No attempt follows, unless one is requested: the receiver is verified or gone, or the schedule has ended.
    Resting,
}

#[derive(Debug)]
struct Outstanding {
    tenant: Arc<str>,
    /// Identifies the verification among those of its subscription.
    requested_at: UnixMillis,
    /// The start of the retry schedule.
    since: UnixMillis,
    attempts: u16,
    stage: Stage,
}

/// The outstanding verifications of the owned shards. Tenants take turns.
#[derive(Debug, Default)]
pub(super) struct VerificationQueue {
    outstanding: HashMap<SubscriptionId, Outstanding>,
    /// The verifications in [`Stage::Waiting`].
    waiting: BTreeSet<(UnixMillis, SubscriptionId)>,
    /// By tenant: the verifications in [`Stage::Queued`], and others that have left it.
    queued: HashMap<Arc<str>, VecDeque<SubscriptionId>>,
    /// The tenants in `queued`, each once.
    tenants: VecDeque<Arc<str>>,
    /// By tenant.
    running: HashMap<Arc<str>, usize>,
}

impl VerificationQueue {
    /// Schedules a new verification for `now`; a known one stays unchanged. `requested_at` identifies the verification;
    /// `None` removes it.
    pub(super) fn update(
        &mut self,
        id: SubscriptionId,
        tenant: &Arc<str>,
        requested_at: Option<UnixMillis>,
        now: UnixMillis,
    ) {
        if self.outstanding.get(&id).map(|known| known.requested_at) == requested_at {
            return;
        }
        self.remove(id);
        if let Some(requested_at) = requested_at {
            let (tenant, since, stage) = (Arc::clone(tenant), requested_at, Stage::Resting);
            let outstanding = Outstanding { tenant, requested_at, since, attempts: 0, stage };
            self.outstanding.insert(id, outstanding);
            self.wait(id, now);
        }
    }

    /// A running attempt continues.
    pub(super) fn remove(&mut self, id: SubscriptionId) {
        if let Some(Outstanding { stage: Stage::Waiting(at), .. }) = self.outstanding.remove(&id) {
            self.waiting.remove(&(at, id));
        }
    }

    /// Schedules an attempt for `now`, with a new retry schedule, unless one is queued or runs.
    pub(super) fn restart(&mut self, id: SubscriptionId, now: UnixMillis) {
        let Some(known) = self.outstanding.get_mut(&id) else { return };
        if matches!(known.stage, Stage::Waiting(_) | Stage::Resting) {
            (known.since, known.attempts) = (now, 0);
            self.wait(id, now);
        }
    }

    fn wait(&mut self, id: SubscriptionId, until: UnixMillis) {
        self.rest(id);
        if let Some(known) = self.outstanding.get_mut(&id) {
            known.stage = Stage::Waiting(until);
            self.waiting.insert((until, id));
        }
    }

    /// Queues the verifications whose time has come.
    pub(super) fn handle_time(&mut self, now: UnixMillis) {
        while let Some((_, id)) = pop_first_if(&mut self.waiting, |(at, _)| *at <= now) {
            if let Some(known) = self.outstanding.get_mut(&id) {
                known.stage = Stage::Queued;
                let queued = self.queued.entry(Arc::clone(&known.tenant)).or_default();
                if queued.is_empty() {
                    self.tenants.push_back(Arc::clone(&known.tenant));
                }
                queued.push_back(id);
            }
        }
    }

    /// When the next attempt is due. `None`: no attempt is scheduled.
    pub(super) fn next_timeout(&self) -> Option<UnixMillis> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Starts the next verification. `None`: none is queued, or the limits of the node and of the tenants allow no
    /// more.
    pub(super) fn start(&mut self) -> Option<SubscriptionId> {
        for _ in 0..self.tenants.len() {
            if self.running.values().sum::<usize>() >= MAX_RUNNING {
                return None;
            }
            let tenant = self.tenants.pop_front()?;
            if self.running.get(&tenant).is_some_and(|running| *running >= MAX_RUNNING_OF_TENANT) {
                self.tenants.push_back(tenant);
                continue;
            }
            let next = self.start_for_tenant(&tenant);
            let is_empty = self.queued.get(&tenant).is_none_or(VecDeque::is_empty);
            if is_empty {
                self.queued.remove(&tenant);
            } else {
                self.tenants.push_back(Arc::clone(&tenant));
            }
            if next.is_some() {
                *self.running.entry(tenant).or_default() += 1;
                return next;
            }
        }
        None
    }

    /// Also drops entries whose verification is no longer queued.
    fn start_for_tenant(&mut self, tenant: &Arc<str>) -> Option<SubscriptionId> {
        let queued = self.queued.get_mut(tenant)?;
        while let Some(id) = queued.pop_front() {
            if let Some(known) = self.outstanding.get_mut(&id)
                && known.stage == Stage::Queued
            {
                known.stage = Stage::Running;
                return Some(id);
            }
        }
        None
    }

    /// Counts a verification of the tenant as no longer running. Must be called once for each result.
    pub(super) fn end(&mut self, tenant: &Arc<str>) {
        if let Some(running) = self.running.get_mut(tenant) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(tenant);
            }
        }
    }

    /// Forgets a verification that [`Self::start`] returned but this node cannot make. The shard's next owner makes it.
    pub(super) fn abandon(&mut self, id: SubscriptionId) {
        if let Some(known) = self.outstanding.remove(&id) {
            self.end(&known.tenant);
        }
    }

    /// Schedules the next attempt, `at_least` after `now`. `None`: the schedule has ended, or none is outstanding.
    pub(super) fn retry(
        &mut self,
        id: SubscriptionId,
        schedule: &RetrySchedule,
        now: UnixMillis,
        at_least: Option<Duration>,
    ) -> Option<UnixMillis> {
        let known = self.outstanding.get_mut(&id)?;
        known.attempts = known.attempts.saturating_add(1);
        let next = schedule.next(known.attempts, known.since, now, at_least);
        match next {
            Some(at) => self.wait(id, at),
            None => known.stage = Stage::Resting,
        }
        next
    }

    /// The verification stays outstanding, but no attempt starts until [`Self::restart`].
    pub(super) fn rest(&mut self, id: SubscriptionId) {
        if let Some(known) = self.outstanding.get_mut(&id) {
            if let Stage::Waiting(at) = known.stage {
                self.waiting.remove(&(at, id));
            }
            known.stage = Stage::Resting;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MAX_TIME: Duration = Duration::from_secs(24 * 3_600);

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis::from_i64(seconds * 1_000)
    }

    fn one() -> SubscriptionId {
        SubscriptionId::from_stored(1)
    }

    fn request(queue: &mut VerificationQueue, number: i64, tenant: &str, requested_at: i64) {
        let id = SubscriptionId::from_stored(number);
        queue.update(id, &tenant.into(), Some(at(requested_at)), at(requested_at));
    }

    fn start_all(queue: &mut VerificationQueue) -> Vec<i64> {
        std::iter::from_fn(|| queue.start()).map(SubscriptionId::stored).collect()
    }

    #[test]
    fn a_requested_verification_starts_at_once_and_only_once() {
        let mut queue = VerificationQueue::default();
        request(&mut queue, 1, "a", 10);
        request(&mut queue, 1, "a", 10);
        assert_eq!(queue.next_timeout(), Some(at(10)));
        queue.handle_time(at(11));
        assert_eq!(start_all(&mut queue), [1]);
        request(&mut queue, 1, "a", 10);
        queue.restart(one(), at(12));
        queue.handle_time(at(12));
        assert!(start_all(&mut queue).is_empty(), "it runs");
    }

    #[test]
    fn a_verification_that_is_no_longer_required_does_not_start() {
        let mut queue = VerificationQueue::default();
        request(&mut queue, 1, "a", 10);
        queue.update(one(), &"a".into(), None, at(10));
        queue.handle_time(at(20));
        assert!(start_all(&mut queue).is_empty());
        assert_eq!(queue.next_timeout(), None);

        request(&mut queue, 1, "a", 10);
        queue.handle_time(at(10));
        request(&mut queue, 1, "a", 11);
        queue.handle_time(at(11));
        assert_eq!(start_all(&mut queue), [1], "once, though it stands in line twice");
    }

    #[test]
    fn attempts_follow_the_schedule_for_a_day_and_again_after_a_restart() {
        let schedule = RetrySchedule { give_up_after: MAX_TIME, ..RetrySchedule::default() };
        let mut queue = VerificationQueue::default();
        let mut now = at(0);
        request(&mut queue, 1, "a", 0);
        for again in 0..2 {
            let (from, mut attempts) = (now, 0);
            while let Some(due) = queue.next_timeout() {
                now = now.max(due);
                queue.handle_time(now);
                assert_eq!(start_all(&mut queue), [1]);
                queue.end(&"a".into());
                queue.retry(one(), &schedule, now, None);
                attempts += 1;
            }
            assert!((11..=16).contains(&attempts), "{attempts} attempts, {again}");
            assert!(now.since(from) <= MAX_TIME && now.since(from) > MAX_TIME / 2);
            now = now.after(MAX_TIME);
            queue.restart(one(), now);
        }
    }

    #[test]
    fn hanging_receivers_leave_slots_for_other_tenants() {
        let mut queue = VerificationQueue::default();
        for number in 1..=1_000 {
            request(&mut queue, number, "a", 0);
        }
        queue.handle_time(at(0));
        assert_eq!(start_all(&mut queue).len(), MAX_RUNNING_OF_TENANT);
        for number in 1_001..=2_000 {
            request(&mut queue, number, &format!("t{number}"), 1);
        }
        queue.handle_time(at(1));
        let started = start_all(&mut queue);
        assert_eq!(started.len(), MAX_RUNNING - MAX_RUNNING_OF_TENANT);
        assert!(started.iter().all(|number| *number > 1_000));
    }

    proptest! {
        #[test]
        fn all_verifications_start_in_the_end_and_never_too_many_at_a_time(tenants in prop::collection::vec(0u8..12, 1..300), order in any::<u64>()) {
            let mut queue = VerificationQueue::default();
            for (number, tenant) in (1i64..).zip(&tenants) {
                request(&mut queue, number, &format!("t{tenant}"), 0);
            }
            queue.handle_time(at(0));
            let (mut running, mut started, mut random) = (Vec::new(), BTreeSet::new(), order >> 1);
            while started.len() < tenants.len() {
                for number in start_all(&mut queue) {
                    prop_assert!(started.insert(number), "twice");
                    running.push(tenants[usize::try_from(number).unwrap() - 1]);
                }
                let mut of_each: BTreeMap<u8, usize> = BTreeMap::new();
                for tenant in &running {
                    *of_each.entry(*tenant).or_default() += 1;
                }
                prop_assert!(running.len() <= MAX_RUNNING);
                prop_assert!(of_each.values().all(|count| *count <= MAX_RUNNING_OF_TENANT));
                prop_assert!(!running.is_empty(), "nothing runs, and not all were started");
                random = random.rotate_left(7).wrapping_add(13);
                let done = running.swap_remove(usize::try_from(random % 1_000).unwrap() % running.len());
                queue.end(&Arc::from(format!("t{done}")));
            }
        }
    }
}
