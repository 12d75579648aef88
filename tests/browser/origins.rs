//! CORS as a browser enforces it, for a page at a configured origin and for a page at another one.

use serde_json::json;

use crate::scene::Scene;
use crate::site::Access;
use crate::support::client::string_at;
use crate::support::hub::ADMIN_KEY;
use crate::unreliable_proxy::DisconnectPlan;

#[tokio::test]
async fn only_a_page_of_a_configured_origin_passes_the_preflight_and_publishes() {
    let scene = Scene::start(DisconnectPlan::NO_DISCONNECTS, Access::default()).await;
    let page = format!("test/publish.html?hub=http://{}&key={ADMIN_KEY}", scene.proxy.address);
    let reports =
        scene.wait_for_report(&scene.site.url(&page), |reports| reports.response.is_some()).await;
    let response = reports.response.expect("a response");
    assert_eq!(response.pointer("/status"), Some(&json!(202)), "{response}");
    assert_eq!(scene.proxy.counts().borrow().preflights, 1);

    let other = |response: &serde_json::Value| response.get("refused").is_some();
    let other_origin = scene.site.url_of_other_origin(&page);
    scene
        .wait_for_report(&other_origin, |reports| reports.response.as_ref().is_some_and(other))
        .await;
    assert_eq!(scene.proxy.counts().borrow().preflights, 2);
    let all = scene.hub.list_all("/v1/events").await;
    assert_eq!(
        all.iter().map(|event| string_at(event, "/id")).collect::<Vec<_>>(),
        [string_at(&response, "/id")]
    );
    scene.stop().await;
}
