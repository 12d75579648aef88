//! The page of `examples/phone` by each transport, through disconnects, refusals and expiring tokens.

use serde_json::json;

use crate::scene::Scene;
use crate::site::Access;
use crate::support::client::string_at;
use crate::unreliable_proxy::DisconnectPlan;

/// Disconnects after the response head.
const IN_STREAMS: DisconnectPlan = DisconnectPlan { bytes: 1_200..16_000, refused: None };
const STREAMS: Option<&str> = Some("GET /v1/stream?");
/// Tokens that expire soon, as the page knows.
const SHORT: Access = Access { ttl_s: 2, page_ttl_s: 2, from: "earliest" };

#[tokio::test]
async fn phone_page_shows_every_event_once_by_sse_across_cut_connections() {
    let mut scene = Scene::start(IN_STREAMS, Access::default()).await;
    let browser = scene.open("");
    let reports =
        scene.assert_receives_everything(&browser, |_, counts| counts.disconnects >= 6).await;
    assert!(!reports.states.iter().any(|state| state.ends_with("poll")), "{:?}", reports.states);
    scene.close(browser).await;
}

#[tokio::test]
async fn phone_page_falls_back_to_long_poll_when_streams_are_refused() {
    let plan = DisconnectPlan { bytes: 2_000..40_000, refused: STREAMS };
    let mut scene = Scene::start(plan, Access::default()).await;
    let browser = scene.open("");
    let reports = scene
        .assert_receives_everything(&browser, |_, counts| {
            counts.disconnects >= 6 && counts.refused >= 3
        })
        .await;
    let states = reports.states.iter();
    let opened: Vec<_> = states.filter(|state| state.starts_with("open")).collect();
    assert!(!opened.is_empty() && opened.iter().all(|state| *state == "open poll"), "{opened:?}");
    scene.close(browser).await;
}

/// Checks that the page gets `tokens` tokens and receives all events meanwhile.
async fn renews(path: &str, plan: DisconnectPlan, access: Access, tokens: usize) {
    let mut scene = Scene::start(plan, access).await;
    let browser = scene.open(path);
    scene.assert_receives_everything(&browser, |reports, _| reports.tokens >= tokens).await;
    scene.close(browser).await;
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
    renews("", DisconnectPlan::NO_DISCONNECTS, Access { page_ttl_s: 3_600, ..SHORT }, 3).await;
}

#[tokio::test]
async fn phone_page_continues_after_a_restart_of_the_hub() {
    let mut scene = Scene::start(DisconnectPlan::NO_DISCONNECTS, Access::default()).await;
    let browser = scene.open("");
    scene.assert_receives_everything(&browser, |_, _| true).await;
    let mut scene = scene.restart_hub().await;
    let lost = |state: &String| state.starts_with("lost");
    scene.assert_receives_everything(&browser, |reports, _| reports.states.iter().any(lost)).await;
    scene.close(browser).await;
}

#[tokio::test]
async fn phone_page_reports_an_expired_cursor_and_continues_with_the_oldest_event() {
    for way in ["sse", "poll", "ws"] {
        let scene = Scene::start(
            DisconnectPlan::NO_DISCONNECTS,
            Access { from: "evt_7ZZZZZZZZZZZZ", ..Access::default() },
        )
        .await;
        let oldest = scene.hub.publish("order.A-1001.created", json!({})).await;
        let page = scene.site.url(&format!("?way={way}"));
        let reports =
            scene.wait_for_report(&page, |reports| reports.gap && !reports.events.is_empty()).await;
        assert_eq!(reports.events, [oldest], "{way}");
        scene.stop().await;
    }
}

#[tokio::test]
async fn phone_page_shows_only_the_steps_of_its_own_order() {
    let scene = Scene::start(DisconnectPlan::NO_DISCONNECTS, Access::default()).await;
    let mut own = Vec::new();
    for step in ["created", "paid", "packed", "shipped", "delivered"] {
        scene.hub.publish(&format!("order.B-2002.{step}"), json!({})).await;
        own.push(scene.hub.publish(&format!("order.A-1001.{step}"), json!({})).await);
    }
    let reports =
        scene.wait_for_report(&scene.site.url(""), |reports| reports.response.is_some()).await;
    assert_eq!(reports.events, own);
    let page = reports.response.expect("the state of the page");
    assert_eq!(string_at(&page, "/now"), "Delivered");
    assert_eq!(string_at(&page, "/current"), "Delivered");
    assert_eq!(page.pointer("/done"), Some(&json!(5)), "{page}");
    scene.stop().await;
}
