//! The engine against a simulated hub: random events, responses, pauses, flushes, crashes and changes of owner. No event
//! may be lost, none delivered twice without a crash, and ordered subscriptions must see the log's order.

mod world;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use self::world::{Step, World, all_shards, schedule, step, subscription};
use super::{Engine, LoadedSubscription};
use crate::domain::delivery::shard::OwnedShard;
use crate::domain::delivery::state::DeliveryState;
use crate::domain::event::event_type::EventType;
use crate::domain::event::{Event, NewEvent};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn no_event_is_lost_and_without_a_crash_none_is_delivered_twice(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.quiesce();
        prop_assert!(world.all_arrived(), "an event is lost");
        prop_assert!(world.tables.retries.is_empty(), "retries remain");
        prop_assert!(world.tables.rows.is_empty(), "own cursors remain: {:?}", world.tables.rows);
        if world.crashes == 0 {
            prop_assert!(world.arrived.values().all(|times| *times == 1), "an event was delivered twice");
            for known in &world.subscriptions {
                prop_assert!(world.is_in_order(known), "{} is out of order", known.subscription.id);
            }
        }
    }
}

#[test]
fn hanging_receivers_leave_slots_for_others() {
    let many = |number| {
        let mut known = subscription(number, "a", false, None);
        known.subscription.definition.channel.settings_mut().delivery.max_in_flight = 64;
        known
    };
    let mut subscriptions: Vec<LoadedSubscription> = (1..=300).map(many).collect();
    subscriptions.push(subscription(301, "b", false, None));
    let owned: Vec<OwnedShard> = all_shards()
        .into_iter()
        .map(|shard| OwnedShard { shard, term: 1, cursor: Position::START })
        .collect();
    let mut engine = Engine::new(schedule());
    engine.handle_shards_acquired(&owned, subscriptions, DeliveryState::default());
    let event = |event_type: &str, number| {
        let new = NewEvent {
            event_type: EventType::from_stored(event_type),
            about: None,
            occurred_at: None,
            data: Bytes::from_static(b"1"),
        };
        Arc::new(Event::at(Position::START.advanced(number), &"t".into(), &new))
    };
    for number in 1..=100 {
        engine.handle_event(&event("a", number));
    }
    let (starts, _) = engine.poll_attempts();
    let mut of_each: HashMap<SubscriptionId, usize> = HashMap::new();
    for start in &starts {
        *of_each.entry(start.subscription.id).or_default() += 1;
    }
    let (min, max) = (of_each.values().min().unwrap(), of_each.values().max().unwrap());
    assert_eq!(of_each.len(), 300, "each subscription has its share");
    assert!(max - min <= 1, "{min} to {max}");

    engine.handle_event(&event("b", 101));
    let (starts, _) = engine.poll_attempts();
    assert_eq!(starts.len(), 1, "the receiver that does not hang gets its event");
}

/// Lets time pass in steps of 100 ms. Every receiver answers at once: 500 to the refused events, 204 to all others.
fn let_time_pass(world: &mut World, seconds: u64, refused: &BTreeSet<Position>) {
    for _ in 0..seconds * 10 {
        world.run(&Step::Time(100));
        world.run(&Step::Read);
        while let Some(start) = world.running.pop() {
            let status = if refused.contains(&start.event.position) { 500 } else { 204 };
            world.respond(&start, status);
            world.start();
        }
        world.flush(false);
    }
}

#[test]
fn refused_events_do_not_keep_a_receiver_from_getting_others() {
    let mut world = World::new();
    for _ in 0..25 {
        world.run(&Step::Publish(0));
    }
    let refused: BTreeSet<Position> = world.log.iter().map(|event| event.position).collect();
    let_time_pass(&mut world, 60, &refused);
    for _ in 0..10 {
        world.run(&Step::Publish(0));
    }
    let_time_pass(&mut world, 600, &refused);
    let (all, ordered) = (world.subscriptions.clone(), world.subscriptions[1].subscription.id);
    for known in all.iter().filter(|known| known.subscription.id != ordered) {
        let id = known.subscription.id;
        let keyed = known.subscription.definition.delivery().is_ordered();
        let delivered =
            world.log.iter().filter(|event| world.arrived.contains_key(&(id, event.position)));
        // All events have one order key, so the first refused one holds back the others.
        assert_eq!(delivered.count(), if keyed { 0 } else { 10 }, "{id}");
    }
}
