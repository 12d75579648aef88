//! A hub in the test's own process.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use hookhub::config::{Database as DatabaseSetting, Settings};
use hookhub::domain::delivery::retry_schedule::RetrySchedule;
use hookhub::domain::egress::policy::EgressPolicy;
use hookhub::domain::egress::policy::{AllowedTargets, Targets};
use hookhub::hub::Hub;
use tempfile::TempDir;

use super::client::Client;
use super::database::Database;

/// The admin key of every hub under test.
pub(crate) const ADMIN_KEY: &str = "admin-key-of-the-hubs-under-test-0123456789";

/// The master key of every hub under test.
pub(crate) const MASTER_KEY: &str =
    "6d61737465722d6b65792d6f662d7468652d687562732d756e6465722d746573";

/// A hub on its own database, and an admin's client for it.
#[derive(Debug)]
pub(crate) struct TestHub {
    hub: Hub,
    client: Client,
    pub(crate) database: Database,
    /// Dropping it removes the directory.
    _data_dir: TempDir,
}

impl TestHub {
    /// Starts a hub that may call this machine and retries after 50 ms, for an hour.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(adapt: impl FnOnce(&mut Settings)) -> Self {
        Self::start_on(&Database::create().await, adapt).await
    }

    pub(crate) async fn start_on(database: &Database, adapt: impl FnOnce(&mut Settings)) -> Self {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        let mut settings = Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            database: DatabaseSetting::Url(database.url().to_owned()),
            data_dir: data_dir.path().to_owned(),
            admin_key: Some(ADMIN_KEY.to_owned()),
            egress: EgressPolicy {
                targets: Targets {
                    allow: AllowedTargets::parse("127.0.0.0/8").expect("a network"),
                    ..Targets::default()
                },
                proxy: None,
            },
            master_key: Some(MASTER_KEY.parse().expect("a master key")),
            retry_schedule: every(Duration::from_millis(50)),
            ..Settings::default()
        };
        adapt(&mut settings);
        let hub = Hub::start(settings).await.expect("the hub starts");
        let client = Client::new(hub.address(), ADMIN_KEY);
        Self { hub, client, database: database.clone(), _data_dir: data_dir }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.hub.address()
    }

    /// Stops the hub gracefully and returns its database.
    pub(crate) async fn stop(self) -> Database {
        self.hub.stop().await;
        self.database
    }
}

impl Deref for TestHub {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// A retry schedule with one delay, for an hour.
pub(crate) fn every(step: Duration) -> RetrySchedule {
    RetrySchedule { steps: vec![step], give_up_after: Duration::from_secs(3_600) }
}
