//! A hub, the proxy in front of it, the server of the pages, a browser, and a publisher that keeps pace with the browser.

use std::net::TcpListener;
use std::time::Duration;

use hookhub::config::Settings;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::chromium::Chromium;
use crate::site::{Access, PageReports, Site};
use crate::support::hub::TestHub;
use crate::unreliable_proxy::{Counts, DisconnectPlan, UnreliableProxy};

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
    pub(crate) proxy: UnreliableProxy,
    origin: String,
    published: Vec<String>,
}

impl Scene {
    pub(crate) async fn start(plan: DisconnectPlan, access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let hub = TestHub::start_with(|settings| adapt(settings, origin.clone())).await;
        let proxy = UnreliableProxy::to(hub.address(), plan).await;
        let site = Site::start(listener, hub.clone(), proxy.address, access);
        Self { hub, site, proxy, origin, published: Vec::new() }
    }

    async fn publish(&mut self) -> String {
        self.published.extend(self.hub.publish_many("order.A-1001.moved", BATCH).await);
        self.published.last().cloned().unwrap_or_default()
    }

    pub(crate) fn open(&self, path: &str) -> Chromium {
        Chromium::open(&self.site.url(path))
    }

    /// Publishes a batch when the page has all events before it or when the proxy has disconnected, until the condition
    /// holds. The page must then have received every event once, in order.
    pub(crate) async fn assert_receives_everything(
        &mut self,
        browser: &Chromium,
        is_enough: impl Fn(&PageReports, &Counts) -> bool,
    ) -> PageReports {
        let (mut reports, mut counts) = (self.site.reports(), self.proxy.counts());
        let publishing = timeout(DEADLINE, async {
            while self.published.len() < EVENTS
                || !is_enough(&reports.borrow(), &counts.borrow_and_update())
            {
                let last = self.publish().await;
                tokio::select! {
                    () = wait_for_event(&mut reports, &last) => {}
                    changed = counts.changed() => changed.expect("the proxy runs"),
                }
            }
            let last = self.publish().await;
            wait_for_event(&mut reports, &last).await;
        });
        let in_time = publishing.await.is_ok();
        let (reports, counts) = (reports.borrow().clone(), counts.borrow().clone());
        let (received, expected) = (&reports.events, &self.published);
        let same = received
            .iter()
            .zip(expected)
            .take_while(|(received, expected)| received == expected)
            .count();
        let summary = format!("{counts:?}, {:?}, {} tokens", reports.states, reports.tokens);
        assert_eq!(reports.faults, [""; 0], "{summary}");
        assert!(
            received == expected,
            "after {same} events {:?} arrived instead of {:?}; {} of {}; {summary}; {}",
            received.get(same),
            expected.get(same),
            received.len(),
            expected.len(),
            browser.output()
        );
        assert!(in_time, "all events arrived, but the condition does not hold: {summary}");
        reports
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
    pub(crate) async fn wait_for_report(
        &self,
        url: &str,
        expected: impl Fn(&PageReports) -> bool,
    ) -> PageReports {
        let browser = Chromium::open(url);
        let mut reports = self.site.reports();
        let in_time =
            timeout(DEADLINE, reports.wait_for(|reports| expected(reports))).await.is_ok();
        let reports = reports.borrow().clone();
        assert!(in_time, "{reports:?} {}", browser.output());
        assert_eq!(reports.faults, [""; 0]);
        browser.close().await;
        reports
    }

    pub(crate) async fn close(self, browser: Chromium) {
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
async fn wait_for_event(reports: &mut watch::Receiver<PageReports>, id: &str) {
    let is_reported = |reports: &PageReports| {
        reports.events.iter().any(|event| event == id) || !reports.faults.is_empty()
    };
    reports.wait_for(is_reported).await.map(|_| ()).expect("the site runs");
}
