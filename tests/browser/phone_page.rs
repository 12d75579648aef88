//! The page of `examples/phone` by each transport, through cuts, refusals and expiring tokens.

use serde_json::json;

use crate::scene::Scene;
use crate::site::Access;
use crate::support::client::string_at;
use crate::wire::Plan;

/// Cuts after the response head.
const IN_STREAMS: Plan = Plan { bytes: 1_200..16_000, refused: None };
const STREAMS: Option<&str> = Some("GET /v1/stream?");
/// Tokens that expire soon, as the page knows.
const SHORT: Access = Access { ttl_s: 2, page_ttl_s: 2, from: "earliest" };

#[tokio::test]
async fn phone_page_shows_every_event_once_by_sse_across_cut_connections() {
    let mut scene = Scene::set(IN_STREAMS, Access::default()).await;
    let browser = scene.open("");
    let seen = scene.gets_everything(&browser, |_, wire| wire.cuts >= 6).await;
    assert!(!seen.states.iter().any(|state| state.ends_with("poll")), "{:?}", seen.states);
    scene.end(browser).await;
}

#[tokio::test]
async fn phone_page_falls_back_to_long_poll_when_streams_are_refused() {
    let plan = Plan { bytes: 2_000..40_000, refused: STREAMS };
    let mut scene = Scene::set(plan, Access::default()).await;
    let browser = scene.open("");
    let seen = scene.gets_everything(&browser, |_, wire| wire.cuts >= 6 && wire.refused >= 3).await;
    let states = seen.states.iter();
    let opened: Vec<_> = states.filter(|state| state.starts_with("open")).collect();
    assert!(!opened.is_empty() && opened.iter().all(|state| *state == "open poll"), "{opened:?}");
    scene.end(browser).await;
}

/// Checks that the page gets `tokens` tokens and receives all events meanwhile.
async fn renews(path: &str, plan: Plan, access: Access, tokens: usize) {
    let mut scene = Scene::set(plan, access).await;
    let browser = scene.open(path);
    scene.gets_everything(&browser, |seen, _| seen.tokens >= tokens).await;
    scene.end(browser).await;
}

#[tokio::test]
async fn phone_page_renews_its_token_on_an_open_stream_and_loses_no_event() {
    renews("", IN_STREAMS, SHORT, 4).await;
}

#[tokio::test]
async fn phone_page_renews_its_token_while_polling_and_loses_no_event() {
    renews("?way=poll", IN_STREAMS, SHORT, 4).await;
}

#[tokio::test]
async fn phone_page_renews_its_token_on_an_open_websocket_and_loses_no_event() {
    renews("?way=ws", IN_STREAMS, SHORT, 4).await;
}

/// As when a phone was asleep when its token expired.
#[tokio::test]
async fn phone_page_gets_a_new_token_when_the_hub_ends_the_stream_of_an_expired_one() {
    renews("", Plan::WHOLE, Access { page_ttl_s: 3_600, ..SHORT }, 3).await;
}

#[tokio::test]
async fn phone_page_continues_after_a_restart_of_the_hub() {
    let mut scene = Scene::set(Plan::WHOLE, Access::default()).await;
    let browser = scene.open("");
    scene.gets_everything(&browser, |_, _| true).await;
    let mut scene = scene.restart_hub().await;
    let lost = |state: &String| state.starts_with("lost");
    scene.gets_everything(&browser, |seen, _| seen.states.iter().any(lost)).await;
    scene.end(browser).await;
}

#[tokio::test]
async fn phone_page_reports_an_expired_cursor_and_continues_with_the_oldest_event() {
    for way in ["sse", "poll", "ws"] {
        let scene =
            Scene::set(Plan::WHOLE, Access { from: "evt_7ZZZZZZZZZZZZ", ..Access::default() })
                .await;
        let oldest = scene.hub.publish("order.A-1001.created", json!({})).await;
        let page = scene.site.url(&format!("?way={way}"));
        let seen = scene.reports(&page, |seen| seen.gap && !seen.events.is_empty()).await;
        assert_eq!(seen.events, [oldest], "{way}");
        scene.stop().await;
    }
}

#[tokio::test]
async fn phone_page_shows_only_the_steps_of_its_own_order() {
    let scene = Scene::set(Plan::WHOLE, Access::default()).await;
    let mut own = Vec::new();
    for step in ["created", "paid", "packed", "shipped", "delivered"] {
        scene.hub.publish(&format!("order.B-2002.{step}"), json!({})).await;
        own.push(scene.hub.publish(&format!("order.A-1001.{step}"), json!({})).await);
    }
    let seen = scene.reports(&scene.site.url(""), |seen| seen.answer.is_some()).await;
    assert_eq!(seen.events, own);
    let page = seen.answer.expect("what the page shows when all is done");
    assert_eq!(string_at(&page, "/now"), "Delivered");
    assert_eq!(string_at(&page, "/current"), "Delivered");
    assert_eq!(page.pointer("/done"), Some(&json!(5)), "{page}");
    scene.stop().await;
}
