//! The floor: a bare reqwest loop that POSTs bodies of the same size to the same sink, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::Anything;
use super::processes::own_cpu_us;

/// POSTs under way at once, as many as a subscription's share times ten.
const CONCURRENCY: usize = 160;

/// Makes the POSTs and prints the CPU microseconds each took.
pub(super) async fn run(port: u16, posts: usize, bytes: usize) -> Result<(), Anything> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(32).build()?;
    let body = bytes::Bytes::from(format!(r#"{{"floor":"{}"}}"#, "x".repeat(bytes)));
    let left = Arc::new(AtomicUsize::new(posts));
    let before = own_cpu_us();
    let mut loops = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let (client, body, left) = (client.clone(), body.clone(), Arc::clone(&left));
        loops.spawn(async move {
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                let request = client.post(format!("http://127.0.0.1:{port}/floor"));
                let answer = request
                    .header("content-type", "application/json")
                    .body(body.clone())
                    .send()
                    .await?;
                answer.bytes().await?;
            }
            Ok::<(), reqwest::Error>(())
        });
    }
    for done in loops.join_all().await {
        done?;
    }
    println!("{}", (own_cpu_us() - before) / super::to_f64(posts));
    Ok(())
}
