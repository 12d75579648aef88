//! All processes of the torture: Postgres, the nodes, and the wires between.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex as PlainMutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Anything;
use super::clock::Clock;
use super::doors::Doors;
use super::node::{Node, Setup};
use super::postgres::Postgres;
use super::wire::{State, Wire};

/// How long all nodes may take to be ready.
pub(super) const READY: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is tortured.
pub(super) struct World {
    /// The database of all nodes.
    pub(super) postgres: Mutex<Postgres>,
    /// Each node's way there.
    pub(super) wires: Vec<Wire>,
    /// The nodes.
    pub(super) nodes: Vec<Mutex<Node>>,
    /// The ways in.
    pub(super) doors: Doors,
    /// What was not meant to happen.
    incidents: PlainMutex<Vec<String>>,
    /// How often a node has given up to start.
    given_up: AtomicUsize,
}

impl World {
    /// Starts so many nodes on a Postgres of their own, with all their files below `directory`. The last node has a
    /// clock of its own.
    pub(super) async fn start(
        binaries: &Path,
        directory: &Path,
        nodes: usize,
    ) -> Result<Self, Anything> {
        let postgres = Postgres::start(binaries, directory).await?;
        let clock = Clock::right(directory)?;
        let (mut wires, mut started, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..nodes {
            let wire = Wire::to(postgres.socket()).await?;
            let port = wire.port();
            let url = format!("postgres://postgres@127.0.0.1:{port}/hookhub?sslmode=disable");
            let node = Node::start(Setup {
                index,
                data: directory.join(format!("node-{index}")),
                log: directory.join(format!("node-{index}.log")),
                database_url: Some(url),
                clock: clock.clone().filter(|_| index + 1 == nodes),
            })?;
            addresses.push(node.address());
            wires.push(wire);
            started.push(Mutex::new(node));
        }
        let doors = Doors::new(addresses)?;
        Ok(Self {
            postgres: Mutex::new(postgres),
            wires,
            nodes: started,
            doors,
            incidents: PlainMutex::default(),
            given_up: AtomicUsize::new(0),
        })
    }

    /// Notes what was not meant to happen.
    pub(super) fn note(&self, what: String) {
        self.incidents.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// How often a node has given up to start and was started again.
    pub(super) fn given_up(&self) -> usize {
        self.given_up.load(Ordering::Relaxed)
    }

    /// What was not meant to happen.
    pub(super) async fn incidents(&self) -> Result<Vec<String>, Anything> {
        let mut incidents = self.incidents.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for node in &self.nodes {
            incidents.extend(node.lock().await.confessions()?);
        }
        Ok(incidents)
    }

    /// Starts nodes again that end by themselves, until `stop`.
    pub(super) async fn look_after(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            tokio::time::sleep(LOOK_EVERY).await;
            for (index, node) in self.nodes.iter().enumerate() {
                let ended = node.lock().await.look_after();
                match ended {
                    // With a line that says why: it was started without a database.
                    Ok(Some(status)) if status.code() == Some(1) => {
                        self.given_up.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(Some(status)) => {
                        self.note(format!("node {index} ended by itself: {status}"));
                    }
                    Ok(None) => {}
                    Err(error) => self.note(error.to_string()),
                }
            }
        }
    }

    /// Carries to and from Postgres, or not.
    pub(super) fn set_wire(&self, node: usize, state: State) {
        if let Some(wire) = self.wires.get(node) {
            wire.set(state);
        }
    }

    /// Ends everything.
    pub(super) async fn end(&self) {
        for node in &self.nodes {
            drop(node.lock().await.kill().await);
        }
        self.postgres.lock().await.end().await;
    }
}
