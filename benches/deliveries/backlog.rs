//! The cost of events parked for dead receivers: a hub with a backlog and one without get the same loads in turn.

use super::figure::{Figure, Target};
use super::publish::Load;
use super::rounds::Rounds;
use super::sink::Sink;
use super::test_hub::TestHub;
use super::{BoxError, Options, eprint_progress};

/// Number of paused subscriptions, and of subscriptions whose receiver refuses connections. Each event is parked for
/// all of them.
const DEAD_PER_KIND: usize = 10;
/// The callback of the dead receivers. No server listens on this port.
const DEAD_URL: &str = "http://127.0.0.1:2/";
/// Events per request while the backlog is published.
const PARKED_BATCH: usize = 1_000;
/// Concurrent requests while the backlog is published.
const PARKED_CONCURRENCY: usize = 4;
/// Bytes of data in each parked event.
const PARKED_BYTES: usize = 64;
const HEALTHY: &str = "bench.healthy";

/// Fewer rounds than for the costs, because each takes two long floods.
pub(super) fn rounds(options: &Options) -> usize {
    options.rounds.div_ceil(2)
}

/// Sends the same flood to a hub without a backlog and to one with a backlog, in turn.
pub(super) async fn measure(options: &Options, sink: &mut Sink) -> Result<Vec<Figure>, BoxError> {
    let (mut empty_hub, mut full_hub) = (TestHub::start().await?, TestHub::start().await?);
    empty_hub.subscribe(HEALTHY, &sink.url("/without")).await?;
    full_hub.subscribe(HEALTHY, &sink.url("/with")).await?;
    let parked_per_second = park(options, &mut full_hub, sink).await?;
    eprint_progress("backlog: parked");

    let (mut with_backlog, mut baseline, mut ratio) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 1..=rounds(options) {
        let load = Load {
            event_type: HEALTHY.to_owned(),
            first: 0,
            events: options.posts,
            batch: 1,
            concurrency: options.connections,
            rate: 0,
            size: options.bytes,
        };
        let healthy_baseline = empty_hub.run(sink, load.clone(), 1).await?.per_second();
        let healthy = full_hub.run(sink, load, 1).await?.per_second();
        with_backlog.record(healthy);
        baseline.record(healthy_baseline);
        ratio.record(healthy / healthy_baseline);
        eprint_progress(&format!("backlog: round {round}"));
    }
    let (memory_without, memory_with) = (empty_hub.resident_mib()?, full_hub.resident_mib()?);
    empty_hub.stop().await?;
    full_hub.stop().await?;

    Ok(vec![
        Figure::count("events parked for 20 dead receivers", options.parked),
        Figure::once("  published, 1,000 per request", parked_per_second, "/s"),
        Figure::of("deliveries to a healthy receiver", &with_backlog, "/s")
            .with_floor(baseline.median(), "without a backlog")
            .with_target_for(Target::MinTimesFloor(0.8), &ratio),
        Figure::once("memory of the hub with a backlog", memory_with, "MiB")
            .with_floor(memory_without, "without a backlog")
            .with_target(Target::MaxAboveFloor(50.0)),
    ])
}

/// Publishes the backlog; returns events per second.
async fn park(options: &Options, hub: &mut TestHub, sink: &mut Sink) -> Result<f64, BoxError> {
    for _ in 0..DEAD_PER_KIND {
        let paused = hub.subscribe("bench.*", DEAD_URL).await?;
        hub.pause(&paused).await?;
        hub.subscribe("bench.*", DEAD_URL).await?;
    }
    let load = Load {
        event_type: "bench.parked".to_owned(),
        first: 0,
        events: options.parked,
        batch: PARKED_BATCH,
        concurrency: PARKED_CONCURRENCY,
        rate: 0,
        size: PARKED_BYTES,
    };
    let result = hub.run(sink, load, 0).await?;
    Ok(result.published.per_second() * super::to_f64(PARKED_BATCH))
}
