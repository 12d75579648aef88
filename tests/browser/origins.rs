//! CORS as a browser enforces it, for a page at a configured origin and for a page at another one.

use serde_json::json;

use crate::scene::Scene;
use crate::site::Access;
use crate::support::client::string_at;
use crate::support::hub::ADMIN_KEY;
use crate::wire::Plan;

#[tokio::test]
async fn only_a_page_of_a_configured_origin_passes_the_preflight_and_publishes() {
    let scene = Scene::set(Plan::WHOLE, Access::default()).await;
    let page = format!("test/publish.html?hub=http://{}&key={ADMIN_KEY}", scene.wire.address);
    let seen = scene.reports(&scene.site.url(&page), |seen| seen.answer.is_some()).await;
    let answer = seen.answer.expect("an answer");
    assert_eq!(answer.pointer("/status"), Some(&json!(202)), "{answer}");
    assert_eq!(scene.wire.counts().borrow().preflights, 1);

    let other = |answer: &serde_json::Value| answer.get("refused").is_some();
    let elsewhere = scene.site.url_elsewhere(&page);
    scene.reports(&elsewhere, |seen| seen.answer.as_ref().is_some_and(other)).await;
    assert_eq!(scene.wire.counts().borrow().preflights, 2);
    let all = scene.hub.list_all("/v1/events").await;
    assert_eq!(
        all.iter().map(|event| string_at(event, "/id")).collect::<Vec<_>>(),
        [string_at(&answer, "/id")]
    );
    scene.stop().await;
}
