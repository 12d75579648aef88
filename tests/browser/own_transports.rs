//! The browser's own EventSource and WebSocket, without a library that could hide the hub's behaviour.

use crate::scene::Scene;
use crate::site::Access;
use crate::wire::Plan;

/// Cuts at any byte, also within a response head.
const ANYWHERE: Plan = Plan { bytes: 1..12_000, refused: None };

#[tokio::test]
async fn eventsource_receives_every_event_once_and_in_order_across_cut_connections() {
    let mut scene = Scene::set(ANYWHERE, Access::default()).await;
    let browser = scene.open("test/eventsource.html");
    scene.gets_everything(&browser, |_, wire| wire.cuts >= 6).await;
    scene.end(browser).await;
}

#[tokio::test]
async fn websocket_resume_receives_every_event_once_and_in_order_across_cut_connections() {
    let mut scene = Scene::set(ANYWHERE, Access::default()).await;
    let browser = scene.open("test/websocket.html");
    scene.gets_everything(&browser, |_, wire| wire.cuts >= 20).await;
    scene.end(browser).await;
}
