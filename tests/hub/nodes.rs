//! Several nodes on one Postgres: whoever waits on one of them hears of what is published on another.

use serde_json::json;

use crate::support::client::{each, text};
use crate::support::hub::TestHub;
use crate::support::in_time;

#[tokio::test]
async fn a_poll_that_waits_on_one_node_gets_what_is_published_on_another() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    let mut after = text(&other.get("/v1/events?after=now").await.expect(200), "/next_cursor");
    for n in 0..30 {
        let path = format!("/v1/events?wait=20&after={after}");
        let waiting = async {
            let page = other.get(&path).await.expect(200);
            (each(&page, "/data").len(), text(&page, "/data/0/id"), text(&page, "/next_cursor"))
        };
        let publishing = one.publish("n", json!(n));
        let ((count, got, next), published) =
            in_time("the poll is answered", async { tokio::join!(waiting, publishing) }).await;
        assert_eq!((count, &got), (1, &published));
        after = next;
    }
}

#[tokio::test]
async fn a_cursor_of_one_node_is_good_on_another_at_once() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    for n in 0..20 {
        let id = one.publish("n", json!(n)).await;
        let page = other.get(&format!("/v1/events?after={id}")).await.expect(200);
        assert!(each(&page, "/data").is_empty(), "{page}");
    }
}
