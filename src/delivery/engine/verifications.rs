//! Handshakes that are outstanding: whose receiver is asked next. Few at once, and of one tenant fewer, so that receivers
//! that hang neither hold up deliveries nor the handshakes of others.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::delivery::shard::shard_of;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::transition::StatusTransition;
use crate::domain::subscription::verification::FailedVerification;
use crate::domain::subscription::verification::VerificationOutcome;
use crate::domain::time::UnixMillis;

/// How many receivers are asked at once on a node, and how many of one tenant.
const MOST_AT_ONCE: (usize, usize) = (64, 8);
/// How long a receiver is asked again and again, from the first time on or from when that was wanted last.
const ASKED_FOR: Duration = Duration::from_secs(24 * 3_600);

/// A receiver to ask.
#[derive(Debug)]
pub(crate) struct VerifyReceiver {
    /// That of this subscription.
    pub(crate) subscription: Arc<Subscription>,
    /// The term in which its shard is owned.
    pub(crate) term: i64,
}

/// A receiver that was asked.
#[derive(Debug)]
pub(crate) struct VerificationResult {
    /// Which.
    pub(crate) ask: VerifyReceiver,
    /// When.
    pub(crate) at: UnixMillis,
    /// What it said.
    pub(crate) reply: VerificationOutcome,
}

/// What is to happen with a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is asked at this time.
    Waits(UnixMillis),
    /// It stands in its tenant's line.
    InLine,
    /// It is being asked.
    Runs,
    /// Nothing: it has agreed, or its time is over.
    Rests,
}

#[derive(Debug)]
struct Outstanding {
    tenant: Arc<str>,
    /// Since when it is asked; tells it from another handshake of the same subscription.
    since: UnixMillis,
    /// From when on the schedule counts.
    from: UnixMillis,
    tries: u16,
    stage: Stage,
}

/// The handshakes that are outstanding.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    outstanding: HashMap<SubscriptionId, Outstanding>,
    /// Those that wait for their time.
    due: BTreeSet<(UnixMillis, SubscriptionId)>,
    /// Those whose time has come, by tenant.
    lines: HashMap<Arc<str>, VecDeque<SubscriptionId>>,
    /// The tenants that have a line, each once.
    turns: VecDeque<Arc<str>>,
    /// How many run, by tenant.
    running: HashMap<Arc<str>, usize>,
}

impl Handshakes {
    /// Takes over since when the receiver of a tenant's subscription is asked, if it is: one that is not known yet is
    /// asked now.
    pub(crate) fn look(
        &mut self,
        id: SubscriptionId,
        tenant: &Arc<str>,
        asked_since: Option<UnixMillis>,
        now: UnixMillis,
    ) {
        if self.outstanding.get(&id).map(|known| known.since) == asked_since {
            return;
        }
        self.forget(id);
        if let Some(since) = asked_since {
            let (tenant, stage) = (Arc::clone(tenant), Stage::Rests);
            let outstanding = Outstanding { tenant, since, from: since, tries: 0, stage };
            self.outstanding.insert(id, outstanding);
            self.wait(id, now);
        }
    }

    /// It is not asked any more.
    pub(crate) fn forget(&mut self, id: SubscriptionId) {
        if let Some(Outstanding { stage: Stage::Waits(at), .. }) = self.outstanding.remove(&id) {
            self.due.remove(&(at, id));
        }
    }

    /// It is asked once more now, and by the schedule from now on, unless that is happening.
    pub(crate) fn ask_again(&mut self, id: SubscriptionId, now: UnixMillis) {
        let Some(known) = self.outstanding.get_mut(&id) else { return };
        if matches!(known.stage, Stage::Waits(_) | Stage::Rests) {
            (known.from, known.tries) = (now, 0);
            self.wait(id, now);
        }
    }

    fn wait(&mut self, id: SubscriptionId, until: UnixMillis) {
        if let Some(known) = self.outstanding.get_mut(&id) {
            if let Stage::Waits(before) = known.stage {
                self.due.remove(&(before, id));
            }
            known.stage = Stage::Waits(until);
            self.due.insert((until, id));
        }
    }

    /// Puts those in line whose time has come.
    pub(crate) fn handle_time(&mut self, now: UnixMillis) {
        while let Some((at, id)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, id));
            if let Some(known) = self.outstanding.get_mut(&id) {
                known.stage = Stage::InLine;
                let line = self.lines.entry(Arc::clone(&known.tenant)).or_default();
                if line.is_empty() {
                    self.turns.push_back(Arc::clone(&known.tenant));
                }
                line.push_back(id);
            }
        }
    }

    /// When time should be taken next.
    pub(crate) fn next_due(&self) -> Option<UnixMillis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next to ask now, if there may be one more: the tenants take turns.
    fn begin(&mut self) -> Option<SubscriptionId> {
        let (in_all, of_one) = MOST_AT_ONCE;
        for _ in 0..self.turns.len() {
            if self.running.values().sum::<usize>() >= in_all {
                return None;
            }
            let tenant = self.turns.pop_front()?;
            if self.running.get(&tenant).is_some_and(|running| *running >= of_one) {
                self.turns.push_back(tenant);
                continue;
            }
            let next = self.next_of(&tenant);
            let is_empty = self.lines.get(&tenant).is_none_or(VecDeque::is_empty);
            if is_empty {
                self.lines.remove(&tenant);
            } else {
                self.turns.push_back(Arc::clone(&tenant));
            }
            if next.is_some() {
                *self.running.entry(tenant).or_default() += 1;
                return next;
            }
        }
        None
    }

    /// The first in a tenant's line that is still to be asked.
    fn next_of(&mut self, tenant: &Arc<str>) -> Option<SubscriptionId> {
        let line = self.lines.get_mut(tenant)?;
        while let Some(id) = line.pop_front() {
            if let Some(known) = self.outstanding.get_mut(&id)
                && known.stage == Stage::InLine
            {
                known.stage = Stage::Runs;
                return Some(id);
            }
        }
        None
    }

    /// One of a tenant's has been asked.
    fn end(&mut self, tenant: &Arc<str>) {
        if let Some(running) = self.running.get_mut(tenant) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(tenant);
            }
        }
    }

    /// It did not agree: when it is asked again, if it is.
    fn refused(
        &mut self,
        id: SubscriptionId,
        schedule: &RetrySchedule,
        now: UnixMillis,
        at_least: Option<Duration>,
    ) -> Option<UnixMillis> {
        let known = self.outstanding.get_mut(&id)?;
        known.tries = known.tries.saturating_add(1);
        let next = schedule.next(known.tries, known.from, now, at_least);
        match next {
            Some(at) => self.wait(id, at),
            None => known.stage = Stage::Rests,
        }
        next
    }

    /// It is not asked again unless that is wanted.
    fn rest(&mut self, id: SubscriptionId) {
        if let Some(known) = self.outstanding.get_mut(&id) {
            if let Stage::Waits(at) = known.stage {
                self.due.remove(&(at, id));
            }
            known.stage = Stage::Rests;
        }
    }
}

impl Engine {
    /// Takes over whether a subscription's receiver is to be asked.
    pub(crate) fn look_for_handshake(&mut self, subscription: &Subscription) {
        let Subscription { id, tenant, .. } = subscription;
        self.handshakes.look(*id, tenant, subscription.verification_requested_at(), self.now);
    }

    /// The next receiver to ask now.
    pub(crate) fn poll_verification(&mut self) -> Option<VerifyReceiver> {
        while let Some(id) = self.handshakes.begin() {
            let shard = shard_of(id);
            let subscription = self.queues.get(&id).map(|queue| Arc::clone(&queue.subscription));
            let term = self.ownership.term(shard).filter(|_| self.ownership.may_begin(shard));
            match subscription.zip(term) {
                Some((subscription, term)) => return Some(VerifyReceiver { subscription, term }),
                // The shard's next owner asks.
                None => self.give_up_ask(id),
            }
        }
        None
    }

    fn give_up_ask(&mut self, id: SubscriptionId) {
        if let Some(known) = self.handshakes.outstanding.remove(&id) {
            self.handshakes.end(&known.tenant);
        }
    }

    /// Acts on what a receiver said; what comes back is to be noted.
    pub(crate) fn handle_verification(
        &mut self,
        asked: &VerificationResult,
        now: UnixMillis,
    ) -> Option<FailedVerification> {
        let VerificationResult { ask: VerifyReceiver { subscription, term }, at, reply } = asked;
        self.handshakes.end(&subscription.tenant);
        let id = subscription.id;
        let queue = self.queues.get(&id)?;
        let definition = &queue.subscription.definition;
        if !definition.has_same_verification(&subscription.definition)
            || !definition.awaits_verification()
        {
            return None;
        }
        let requested_at = definition.channel.verification()?.requested_at;
        let schedule = definition.delivery().retry_schedule(&self.schedule);
        let give_up_after = schedule.give_up_after.min(ASKED_FOR);
        let schedule = RetrySchedule { give_up_after, ..schedule };
        let (error, next_attempt_at) = match reply {
            VerificationOutcome::Verified(verified) => {
                self.bring_about(id, StatusTransition::Verified(verified.clone()));
                return None;
            }
            VerificationOutcome::Gone => {
                self.bring_about(id, StatusTransition::Gone);
                ("the receiver answered 410 Gone".to_owned(), None)
            }
            VerificationOutcome::Unverified { reason, at_least } => {
                (reason.clone(), self.handshakes.refused(id, &schedule, now, *at_least))
            }
        };
        let (term, attempted_at) = (*term, *at);
        Some(FailedVerification {
            subscription: id,
            term,
            requested_at,
            attempted_at,
            error,
            next_attempt_at,
        })
    }

    /// Has a subscription changed by what its receiver said.
    fn bring_about(&mut self, id: SubscriptionId, turn: StatusTransition) {
        self.handshakes.rest(id);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.is_changing = true;
            self.turns.push((Arc::clone(&queue.subscription), turn));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis::from_i64(seconds * 1_000)
    }

    fn one() -> SubscriptionId {
        SubscriptionId::from_stored(1)
    }

    fn look(handshakes: &mut Handshakes, number: i64, tenant: &str, since: i64) {
        let id = SubscriptionId::from_stored(number);
        handshakes.look(id, &tenant.into(), Some(at(since)), at(since));
    }

    fn begin_all(handshakes: &mut Handshakes) -> Vec<i64> {
        std::iter::from_fn(|| handshakes.begin()).map(SubscriptionId::stored).collect()
    }

    #[test]
    fn one_that_is_asked_for_is_begun_at_once_and_only_once() {
        let mut handshakes = Handshakes::default();
        look(&mut handshakes, 1, "a", 10);
        look(&mut handshakes, 1, "a", 10);
        assert_eq!(handshakes.next_due(), Some(at(10)));
        handshakes.handle_time(at(11));
        assert_eq!(begin_all(&mut handshakes), [1]);
        look(&mut handshakes, 1, "a", 10);
        handshakes.ask_again(one(), at(12));
        handshakes.handle_time(at(12));
        assert!(begin_all(&mut handshakes).is_empty(), "it runs");
    }

    #[test]
    fn those_that_are_stopped_or_changed_are_not_asked_what_they_were() {
        let mut handshakes = Handshakes::default();
        look(&mut handshakes, 1, "a", 10);
        handshakes.look(one(), &"a".into(), None, at(10));
        handshakes.handle_time(at(20));
        assert!(begin_all(&mut handshakes).is_empty());
        assert_eq!(handshakes.next_due(), None);

        look(&mut handshakes, 1, "a", 10);
        handshakes.handle_time(at(10));
        look(&mut handshakes, 1, "a", 11);
        handshakes.handle_time(at(11));
        assert_eq!(begin_all(&mut handshakes), [1], "once, though it stands in line twice");
    }

    #[test]
    fn a_receiver_is_asked_by_the_schedule_for_a_day_and_again_when_that_is_wanted() {
        let schedule = RetrySchedule { give_up_after: ASKED_FOR, ..RetrySchedule::default() };
        let mut handshakes = Handshakes::default();
        let mut now = at(0);
        look(&mut handshakes, 1, "a", 0);
        for again in 0..2 {
            let (from, mut tries) = (now, 0);
            while let Some(due) = handshakes.next_due() {
                now = now.max(due);
                handshakes.handle_time(now);
                assert_eq!(begin_all(&mut handshakes), [1]);
                handshakes.end(&"a".into());
                handshakes.refused(one(), &schedule, now, None);
                tries += 1;
            }
            assert!((11..=16).contains(&tries), "{tries} tries, {again}");
            assert!(now.since(from) <= ASKED_FOR && now.since(from) > ASKED_FOR / 2);
            now = now.after(ASKED_FOR);
            handshakes.ask_again(one(), now);
        }
    }

    #[test]
    fn receivers_that_hang_leave_room_for_those_of_other_tenants() {
        let mut handshakes = Handshakes::default();
        for number in 1..=1_000 {
            look(&mut handshakes, number, "a", 0);
        }
        handshakes.handle_time(at(0));
        assert_eq!(begin_all(&mut handshakes).len(), MOST_AT_ONCE.1);
        for number in 1_001..=2_000 {
            look(&mut handshakes, number, &format!("t{number}"), 1);
        }
        handshakes.handle_time(at(1));
        let begun = begin_all(&mut handshakes);
        assert_eq!(begun.len(), MOST_AT_ONCE.0 - MOST_AT_ONCE.1);
        assert!(begun.iter().all(|number| *number > 1_000));
    }

    proptest! {
        #[test]
        fn all_are_asked_in_the_end_and_never_too_many_at_once(tenants in prop::collection::vec(0u8..12, 1..300), order in any::<u64>()) {
            let mut handshakes = Handshakes::default();
            for (number, tenant) in (1i64..).zip(&tenants) {
                look(&mut handshakes, number, &format!("t{tenant}"), 0);
            }
            handshakes.handle_time(at(0));
            let (mut running, mut asked, mut turn) = (Vec::new(), BTreeSet::new(), order >> 1);
            while asked.len() < tenants.len() {
                for number in begin_all(&mut handshakes) {
                    prop_assert!(asked.insert(number), "twice");
                    running.push(tenants[usize::try_from(number).unwrap() - 1]);
                }
                let mut of_each: BTreeMap<u8, usize> = BTreeMap::new();
                for tenant in &running {
                    *of_each.entry(*tenant).or_default() += 1;
                }
                prop_assert!(running.len() <= MOST_AT_ONCE.0);
                prop_assert!(of_each.values().all(|count| *count <= MOST_AT_ONCE.1));
                prop_assert!(!running.is_empty(), "nothing runs, and not all were asked");
                turn = turn.rotate_left(7).wrapping_add(13);
                let done = running.swap_remove(usize::try_from(turn % 1_000).unwrap() % running.len());
                handshakes.end(&Arc::from(format!("t{done}")));
            }
        }
    }
}
