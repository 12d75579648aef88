//! Explain: why a subscription received an event or did not.

use serde_json::json;

use crate::support::client::{array_at, string_at};
use crate::support::hub::TestHub;
use crate::support::receiver::TestReceiver;
use crate::support::waits::wait_for_delivery;

#[tokio::test]
async fn explain_says_for_each_subscription_whether_it_matches_the_event_and_why() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let matched = hub.subscribe(&receiver.subscription_to("order.*")).await;
    let other = hub.subscribe(&receiver.subscription_to("invoice.*")).await;
    let paused = hub.subscribe(&receiver.subscription_to("*")).await;
    hub.post(&format!("/v1/subscriptions/{paused}/pause"), &json!({})).await.expect(200);
    let pulled = hub.subscribe(&json!({"event_types": ["order.paid"]})).await;
    let deleted = hub.subscribe(&receiver.subscription_to("order.*")).await;
    hub.delete(&format!("/v1/subscriptions/{deleted}")).await.expect(204);
    let event = hub.publish("order.paid", json!(1)).await;
    let later = hub.subscribe(&receiver.subscription_to("order.*")).await;
    receiver.next().await;
    wait_for_delivery(&hub, &matched, &event, "delivered").await;

    let explained = hub.list_all(&format!("/v1/events/{event}/explain")).await;
    let of =
        |id: &String| explained.iter().find(|one| string_at(one, "/subscription") == *id).unwrap();
    for (id, matches, reason) in [
        (&matched, true, "pattern_matches"),
        (&other, false, "no_pattern_matches"),
        (&paused, true, "pattern_matches"),
        (&pulled, true, "pattern_matches"),
        (&deleted, false, "deleted"),
        (&later, false, "before_the_subscription"),
    ] {
        assert_eq!(
            (&of(id)["matched"], &of(id)["reason"]),
            (&json!(matches), &json!(reason)),
            "{}",
            of(id)
        );
    }
    assert_eq!(of(&matched)["delivery"]["status"], "delivered");
    assert_eq!(array_at(&of(&matched)["delivery"], "/attempts").len(), 1);
    assert!(string_at(of(&other), "/detail").contains("invoice.*"));
    assert_eq!(
        (&of(&paused)["parked"], &of(&paused)["delivery"]["status"]),
        (&json!(true), &json!("pending"))
    );
    assert_eq!((&of(&pulled)["pulled"], &of(&pulled)["delivery"]), (&json!(true), &json!(null)));
    hub.acting_for("another")
        .get(&format!("/v1/events/{event}/explain"))
        .await
        .expect_problem(404, "not_found");
}
