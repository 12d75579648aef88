//! A hub, the connection to it, the server of the pages, a browser, and a publisher that keeps pace with the browser.

use std::net::TcpListener;
use std::time::Duration;

use hookhub::config::Settings;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::chromium::Chromium;
use crate::site::{Access, Seen, Site};
use crate::support::hub::TestHub;
use crate::wire::{Counts, Plan, Wire};

/// Time limit of a test.
const DEADLINE: Duration = Duration::from_secs(60);
/// Minimum number of events that each test publishes.
const EVENTS: usize = 500;
/// Number of events per batch.
const BATCH: usize = 10;

/// Everything that a test needs.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) hub: TestHub,
    pub(crate) site: Site,
    pub(crate) wire: Wire,
    origin: String,
    published: Vec<String>,
}

impl Scene {
    pub(crate) async fn set(plan: Plan, access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let hub = TestHub::start_with(|settings| adapt(settings, origin.clone())).await;
        let wire = Wire::to(hub.address(), plan).await;
        let site = Site::start(listener, hub.clone(), wire.address, access);
        Self { hub, site, wire, origin, published: Vec::new() }
    }

    async fn publish(&mut self) -> String {
        self.published.extend(self.hub.publish_many("order.A-1001.moved", BATCH).await);
        self.published.last().cloned().unwrap_or_default()
    }

    pub(crate) fn open(&self, path: &str) -> Chromium {
        Chromium::open(&self.site.url(path))
    }

    /// Publishes a batch when the page has all events before it or when the connection was cut, until enough has
    /// happened. The page must then have received every event once, in order.
    pub(crate) async fn gets_everything(
        &mut self,
        browser: &Chromium,
        enough: impl Fn(&Seen, &Counts) -> bool,
    ) -> Seen {
        let (mut seen, mut counts) = (self.site.seen(), self.wire.counts());
        let followed = timeout(DEADLINE, async {
            while self.published.len() < EVENTS
                || !enough(&seen.borrow(), &counts.borrow_and_update())
            {
                let last = self.publish().await;
                tokio::select! {
                    () = has(&mut seen, &last) => {}
                    changed = counts.changed() => changed.expect("the wire is there"),
                }
            }
            let last = self.publish().await;
            has(&mut seen, &last).await;
        });
        let in_time = followed.await.is_ok();
        let (seen, counts) = (seen.borrow().clone(), counts.borrow().clone());
        let (got, wanted) = (&seen.events, &self.published);
        let same = got.iter().zip(wanted).take_while(|(got, wanted)| got == wanted).count();
        let summary = format!("{counts:?}, {:?}, {} tokens", seen.states, seen.tokens);
        assert_eq!(seen.wrong, [""; 0], "{summary}");
        assert!(
            got == wanted,
            "after {same} events {:?} came instead of {:?}; {} of {}; {summary}; {}",
            got.get(same),
            wanted.get(same),
            got.len(),
            wanted.len(),
            browser.said()
        );
        assert!(in_time, "everything came, but not enough happened: {summary}");
        seen
    }

    /// Stops the hub and starts it again at the same address.
    pub(crate) async fn restart_hub(self) -> Self {
        let address = self.hub.address();
        let origin = self.origin.clone();
        let database = self.hub.stop().await;
        let hub = TestHub::start_on(&database, |settings| {
            settings.listen = address;
            adapt(settings, origin);
        })
        .await;
        Self { hub, ..self }
    }

    /// Opens a page and waits for its report.
    pub(crate) async fn reports(&self, url: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let browser = Chromium::open(url);
        let mut seen = self.site.seen();
        let in_time = timeout(DEADLINE, seen.wait_for(|seen| wanted(seen))).await.is_ok();
        let seen = seen.borrow().clone();
        assert!(in_time, "{seen:?} {}", browser.said());
        assert_eq!(seen.wrong, [""; 0]);
        browser.close().await;
        seen
    }

    pub(crate) async fn wait_for_end(self, browser: Chromium) {
        browser.close().await;
        self.stop().await;
    }

    pub(crate) async fn stop(self) {
        self.site.stop().await;
        self.hub.stop().await;
    }
}

fn adapt(settings: &mut Settings, origin: String) {
    settings.cors_origins = vec![origin];
    // A shutdown spreads the ends of streams over half of this time.
    settings.stop_deadline = Duration::from_secs(2);
}

/// Waits until an event was reported, or a fault.
async fn has(seen: &mut watch::Receiver<Seen>, id: &str) {
    let there = |seen: &Seen| seen.events.iter().any(|event| event == id) || !seen.wrong.is_empty();
    seen.wait_for(there).await.map(|_| ()).expect("the site is there");
}
