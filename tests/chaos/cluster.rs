//! The cluster under test: Postgres, the nodes, and the links between them.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::BoxError;
use super::clock::FakeClock;
use super::ingress::Ingress;
use super::link::{Link, LinkState};
use super::node::{Node, NodeConfig};
use super::postgres::Postgres;

/// Time limit for all nodes to become ready.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(60);
const SUPERVISE_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct Cluster {
    pub(super) postgres: Mutex<Postgres>,
    /// Each node's link to Postgres.
    pub(super) links: Vec<Link>,
    pub(super) nodes: Vec<Mutex<Node>>,
    pub(super) ingress: Ingress,
    violations: SyncMutex<Vec<String>>,
    /// How many times a node exited because it could not start.
    failed_starts: AtomicUsize,
}

impl Cluster {
    /// Starts the nodes on one Postgres, with all files below `directory`. The last node has its own wall clock.
    pub(super) async fn start(
        binaries: &Path,
        directory: &Path,
        node_count: usize,
    ) -> Result<Self, BoxError> {
        let postgres = Postgres::start(binaries, directory).await?;
        let clock = FakeClock::new(directory)?;
        let (mut links, mut nodes, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..node_count {
            let link = Link::open(postgres.socket()).await?;
            let port = link.port();
            let url = format!("postgres://postgres@127.0.0.1:{port}/hookhub?sslmode=disable");
            let node = Node::start(NodeConfig {
                index,
                data: directory.join(format!("node-{index}")),
                log: directory.join(format!("node-{index}.log")),
                database_url: Some(url),
                clock: clock.clone().filter(|_| index + 1 == node_count),
            })?;
            addresses.push(node.address());
            links.push(link);
            nodes.push(Mutex::new(node));
        }
        let ingress = Ingress::new(addresses)?;
        Ok(Self {
            postgres: Mutex::new(postgres),
            links,
            nodes,
            ingress,
            violations: SyncMutex::default(),
            failed_starts: AtomicUsize::new(0),
        })
    }

    pub(super) fn record_violation(&self, description: String) {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(description);
    }

    pub(super) fn failed_starts(&self) -> usize {
        self.failed_starts.load(Ordering::Relaxed)
    }

    /// All recorded violations, and the errors in the nodes' logs.
    pub(super) async fn violations(&self) -> Result<Vec<String>, BoxError> {
        let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for node in &self.nodes {
            violations.extend(node.lock().await.logged_errors()?);
        }
        Ok(violations)
    }

    /// Restarts nodes that exit unexpectedly, until `stop`.
    pub(super) async fn supervise(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            tokio::time::sleep(SUPERVISE_INTERVAL).await;
            for (index, node) in self.nodes.iter().enumerate() {
                let exited = node.lock().await.restart_if_exited();
                match exited {
                    // The node was started without a database, and logged that.
                    Ok(Some(status)) if status.code() == Some(1) => {
                        self.failed_starts.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(Some(status)) => {
                        self.record_violation(format!(
                            "node {index} exited unexpectedly: {status}"
                        ));
                    }
                    Ok(None) => {}
                    Err(error) => self.record_violation(error.to_string()),
                }
            }
        }
    }

    /// Sets the state of a node's link to Postgres.
    pub(super) fn set_link(&self, node: usize, state: LinkState) {
        if let Some(link) = self.links.get(node) {
            link.set_state(state);
        }
    }

    /// Kills the nodes and stops Postgres.
    pub(super) async fn shut_down(&self) {
        for node in &self.nodes {
            drop(node.lock().await.kill().await);
        }
        self.postgres.lock().await.stop().await;
    }
}
