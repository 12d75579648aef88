//! The flood: many publishers, a few subscriptions, one keep-alive sink on this machine; with the CPU each delivery
//! costs hub and Postgres beside a bare reqwest loop to the same sink in the same run. `--kill` ends the hub with
//! SIGKILL in the middle and counts what was lost and what came twice.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::indexing_slicing, reason = "a benchmark that is wrong may stop at once")]

#[path = "../rig/client.rs"]
mod client;
mod floor;
#[path = "../rig/hub.rs"]
mod hub;
#[path = "../rig/processes.rs"]
mod processes;
mod publish;
#[path = "../rig/self_exec.rs"]
mod self_exec;
mod sink;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;

use self::client::WithKey as _;
use self::hub::Hub;
use self::processes::Cpu;
use self::publish::Acknowledged;
use self::self_exec::SelfExec;

/// Publishes events to a hub of its own and measures what comes of it.
#[derive(Parser, Clone)]
struct Flood {
    /// Events to publish
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// Subscriptions, each for every event
    #[arg(long, default_value_t = 10)]
    subscriptions: usize,
    /// Connections that publish
    #[arg(long, default_value_t = 64)]
    publishers: usize,
    /// Bytes of data in each event
    #[arg(long, default_value_t = 1_024)]
    bytes: usize,
    /// Kill the hub with SIGKILL when half is published, and start it again
    #[arg(long)]
    kill: bool,
    /// POSTs of the bare loop
    #[arg(long, default_value_t = 200_000)]
    floor_posts: usize,
    #[arg(long, hide = true)]
    role: Option<String>,
    #[arg(long, hide = true, default_value_t = 0)]
    port: u16,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

type Anything = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Anything> {
    let flood = Flood::parse();
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_there| "a second provider")?;
    match flood.role.as_deref() {
        Some("sink") => sink::run(flood.events, flood.subscriptions).await,
        Some("floor") => floor::run(flood.port, flood.floor_posts, flood.bytes).await,
        _ => measure(flood).await,
    }
}

async fn measure(flood: Flood) -> Result<(), Anything> {
    let counts = [("--events", flood.events), ("--subscriptions", flood.subscriptions)];
    let mut sink = SelfExec::start("sink", &counts)?;
    let port: u16 = sink.next_line()?.parse()?;
    let directory = tempfile::Builder::new().prefix("hookhub-bench-").tempdir_in("/tmp")?;
    let mut hub = Hub::start(directory.path()).await?;
    for index in 0..flood.subscriptions {
        subscribe(hub.address(), &format!("http://127.0.0.1:{port}/{index}")).await?;
    }

    let before = hub.cpu()?;
    let began = Instant::now();
    let acknowledged = Arc::new(Acknowledged::new(flood.events));
    let publishing = publish::run(&flood, hub.address(), Arc::clone(&acknowledged));
    let mut spent_before_kill = Cpu::default();
    if flood.kill {
        let killing = async {
            acknowledged.wait_for(flood.events / 2).await;
            let spent = hub.cpu();
            kill_and_restart(&mut hub, directory.path()).await.and(spent)
        };
        let ((), killed) = tokio::join!(publishing, killing);
        spent_before_kill = killed?;
    } else {
        publishing.await;
    }
    let published_in = began.elapsed();
    let arrivals = settle(port, flood.subscriptions, &acknowledged).await?;
    let delivered_in = began.elapsed().saturating_sub(QUIET.min(arrivals.waited_in_vain));
    let spent = if flood.kill { spent_before_kill - before } else { hub.cpu()? - before };
    hub.stop().await?;

    report(&flood, &acknowledged, &arrivals, published_in, delivered_in);
    if !flood.kill {
        let deliveries = arrivals.posts.max(1);
        println!(
            "CPU per delivery, hub               {:>9.1} us",
            spent.hub_us / to_f64(deliveries)
        );
        println!(
            "CPU per delivery, Postgres          {:>9.1} us",
            spent.postgres_us / to_f64(deliveries)
        );
        let options = [
            ("--floor-posts", flood.floor_posts),
            ("--bytes", flood.bytes),
            ("--port", usize::from(port)),
        ];
        let bare: f64 = SelfExec::start("floor", &options)?.next_line()?.parse()?;
        let both = (spent.hub_us + spent.postgres_us) / to_f64(deliveries);
        println!("CPU per POST of a bare reqwest loop {bare:>9.1} us");
        println!("hub and Postgres to bare loop       {:>9.2} x", both / bare);
    }
    let lost = acknowledged.lost(&arrivals.counts);
    if lost > 0 {
        return Err(format!("{lost} acknowledged deliveries never arrived").into());
    }
    Ok(())
}

/// Subscribes a callback to every event.
async fn subscribe(hub: SocketAddr, callback_url: &str) -> Result<(), Anything> {
    let body = serde_json::json!({ "event_types": ["*"], "callback_url": callback_url });
    let answer = reqwest::Client::new_with_key()?
        .post(format!("http://{hub}/v1/subscriptions"))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await?;
    answer.error_for_status()?;
    Ok(())
}

/// Ends the hub with SIGKILL and starts it again on the same data.
async fn kill_and_restart(hub: &mut Hub, directory: &Path) -> Result<(), Anything> {
    hub.child.kill().await?;
    *hub = Hub::start_on(directory, hub.address()).await?;
    Ok(())
}

/// What the sink saw.
struct Arrivals {
    /// For each subscription, how often each event came.
    counts: Vec<Vec<u8>>,
    posts: usize,
    waited_in_vain: Duration,
}

/// How long nothing new must come before what is missing counts as lost.
const QUIET: Duration = Duration::from_secs(20);

/// Waits until all that was acknowledged has arrived, or nothing more does. What was not acknowledged may arrive too,
/// so that the number of arrivals alone does not tell.
async fn settle(
    port: u16,
    subscriptions: usize,
    acknowledged: &Acknowledged,
) -> Result<Arrivals, Anything> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let wanted = acknowledged.count() * subscriptions;
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        let text =
            client.get(format!("http://127.0.0.1:{port}/count")).send().await?.text().await?;
        let (pairs, posts) = text.trim().split_once(' ').ok_or("the sink's count")?;
        let (pairs, posts): (usize, usize) = (pairs.parse()?, posts.parse()?);
        if pairs > seen {
            (seen, since) = (pairs, Instant::now());
        }
        let waited_in_vain = since.elapsed();
        if pairs >= wanted || waited_in_vain > QUIET {
            let mut counts = Vec::new();
            for index in 0..subscriptions {
                let url = format!("http://127.0.0.1:{port}/arrivals/{index}");
                counts.push(client.get(url).send().await?.bytes().await?.to_vec());
            }
            if acknowledged.lost(&counts) == 0 || waited_in_vain > QUIET {
                return Ok(Arrivals { counts, posts, waited_in_vain });
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn report(
    flood: &Flood,
    acknowledged: &Acknowledged,
    arrivals: &Arrivals,
    published_in: Duration,
    delivered_in: Duration,
) {
    let events = acknowledged.count();
    let repeats: usize =
        arrivals.counts.iter().flatten().map(|count| usize::from(count.saturating_sub(1))).sum();
    let per_second = |count: usize, time: Duration| to_f64(count) / time.as_secs_f64();
    println!(
        "events acknowledged                 {events:>9} of {} by {} publishers",
        flood.events, flood.publishers
    );
    println!("events per second                   {:>9.0}", per_second(events, published_in));
    println!(
        "deliveries that arrived             {:>9} at {} subscriptions",
        arrivals.posts, flood.subscriptions
    );
    println!(
        "deliveries per second               {:>9.0}",
        per_second(arrivals.posts, delivered_in)
    );
    println!("lost                                {:>9}", acknowledged.lost(&arrivals.counts));
    println!("repeated                            {repeats:>9}");
}

/// A count for a ratio.
fn to_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
