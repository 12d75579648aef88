//! The browser's own EventSource and WebSocket, without a library that could hide the hub's behaviour.

use crate::scene::Scene;
use crate::site::Access;
use crate::unreliable_proxy::DisconnectPlan;

/// Disconnects at any byte, also within a response head.
const ANYWHERE: DisconnectPlan = DisconnectPlan { bytes: 1..12_000, refused: None };

#[tokio::test]
async fn eventsource_receives_every_event_once_and_in_order_across_cut_connections() {
    let mut scene = Scene::start(ANYWHERE, Access::default()).await;
    let browser = scene.open("test/eventsource.html");
    scene.assert_receives_everything(&browser, |_, counts| counts.disconnects >= 6).await;
    scene.close(browser).await;
}

#[tokio::test]
async fn websocket_resume_receives_every_event_once_and_in_order_across_cut_connections() {
    let mut scene = Scene::start(ANYWHERE, Access::default()).await;
    let browser = scene.open("test/websocket.html");
    scene.assert_receives_everything(&browser, |_, counts| counts.disconnects >= 20).await;
    scene.close(browser).await;
}
