//! The floor, in its own process: a bare reqwest loop that POSTs bodies of the same size to the same sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::BoxError;
use super::processes::own_cpu_us;
use super::publish::Load;

/// The cost of a bare POST.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bare {
    /// CPU time of the client per POST.
    pub(super) cpu_us: f64,
    /// POSTs per second.
    pub(super) per_second: f64,
}

/// Runs the POSTs and prints the result.
pub(super) async fn run(port: u16, load: &Load) -> Result<(), BoxError> {
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let url = reqwest::Url::parse(&format!("http://127.0.0.1:{port}/floor"))?;
    let body = bytes::Bytes::from(format!(r#"{{"floor":"{}"}}"#, "x".repeat(load.size)));
    let left = Arc::new(AtomicUsize::new(load.events));
    let (cpu, started) = (own_cpu_us(), Instant::now());
    let mut loops = JoinSet::new();
    for _ in 0..load.concurrency {
        let (client, url) = (client.clone(), url.clone());
        let (body, left) = (body.clone(), Arc::clone(&left));
        loops.spawn(async move {
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                let request = client.post(url.clone()).header("content-type", "application/json");
                request.body(body.clone()).send().await?.bytes().await?;
            }
            Ok::<(), reqwest::Error>(())
        });
    }
    loops.join_all().await.into_iter().collect::<Result<(), _>>()?;
    let posts = super::to_f64(load.events);
    let bare = Bare {
        cpu_us: (own_cpu_us() - cpu) / posts,
        per_second: posts / started.elapsed().as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&bare)?);
    Ok(())
}
