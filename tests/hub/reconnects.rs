//! A thousand clients at once that reconnect after each event, like phones in a tunnel.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::follower::{Follower, Transport};
use crate::support::hub::TestHub;
use crate::support::waits::wait_for_connections;

const CLIENTS: usize = 1_000;
const EVENTS: usize = 12;
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Each client reads one event, drops the connection in the middle of the stream, and reconnects for the next.
async fn a_thousand_that_take_one_event_a_connection_get_all_once(transport: Transport) {
    // With a thousand connections at once on a busy machine a head may take longer than the default allows.
    let hub = TestHub::start_with(|settings| settings.client_timeouts.head = HEAD_TIMEOUT).await;
    let follow = async || {
        let mut follower = Follower::from_earliest(&hub, transport).await;
        let mut met = Vec::new();
        while met.len() < EVENTS {
            met.push(follower.next_with_reconnects().await.id);
            follower.disconnect();
        }
        met
    };
    let publish = async {
        let mut published = Vec::new();
        for n in 0..EVENTS {
            published.push(hub.publish("n", json!({ "n": n })).await);
        }
        published
    };
    let (published, met) = tokio::join!(publish, join_all((0..CLIENTS).map(|_| follow())));
    for met in met {
        assert_eq!(met, published);
    }
    wait_for_connections(&hub, 0).await;
}

#[tokio::test]
async fn a_thousand_sse_clients_that_reconnect_after_each_event_receive_every_event_once() {
    a_thousand_that_take_one_event_a_connection_get_all_once(Transport::Sse).await;
}

#[tokio::test]
async fn a_thousand_websocket_clients_that_reconnect_after_each_event_receive_every_event_once() {
    a_thousand_that_take_one_event_a_connection_get_all_once(Transport::WebSocket).await;
}
