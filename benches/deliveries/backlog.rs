//! The cost of events parked for dead receivers: two hubs, one with a backlog, get the same loads in turn.

use super::figure::{Bar, Figure};
use super::publish::Load;
use super::rounds::Rounds;
use super::sink::Sink;
use super::stage::Stage;
use super::{BoxError, Options, eprint_progress};

/// Number of paused subscriptions, and of subscriptions whose receiver refuses connections. Each event is parked for
/// all of them.
const DEAD_OF_A_KIND: usize = 10;
/// No server listens at this URL.
const REFUSES: &str = "http://127.0.0.1:2/";
/// Events per request of the backlog, and concurrent requests.
const BATCH: (usize, usize) = (1_000, 4);
/// Bytes of data in each parked event.
const PARKED_BYTES: usize = 64;
const HEALTHY: &str = "bench.healthy";

/// Fewer rounds than for the costs, because each takes two long floods.
pub(super) fn rounds(options: &Options) -> usize {
    options.rounds.div_ceil(2)
}

/// Floods a hub without a backlog and one with a backlog in turn.
pub(super) async fn measure(options: &Options, sink: &mut Sink) -> Result<Vec<Figure>, BoxError> {
    let (mut without, mut with) = (Stage::set().await?, Stage::set().await?);
    without.subscribe(HEALTHY, &sink.url("/without")).await?;
    with.subscribe(HEALTHY, &sink.url("/with")).await?;
    let parked_per_second = park(options, &mut with, sink).await?;
    eprint_progress("backlog: parked");

    let (mut beside, mut baseline, mut times) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 1..=rounds(options) {
        let load = Load {
            topic: HEALTHY.to_owned(),
            first: 0,
            events: options.posts,
            batch: 1,
            at_once: options.connections,
            pace: 0,
            size: options.bytes,
        };
        let healthy_baseline = without.play(sink, load.clone(), 1).await?.per_second();
        let healthy = with.play(sink, load, 1).await?.per_second();
        beside.note(healthy);
        baseline.note(healthy_baseline);
        times.note(healthy / healthy_baseline);
        eprint_progress(&format!("backlog: round {round}"));
    }
    let (memory_without, memory_with) = (without.resident_mib()?, with.resident_mib()?);
    without.clear().await?;
    with.clear().await?;

    Ok(vec![
        Figure::count("events parked, each for 20 dead", options.parked),
        Figure::once("  published, 1,000 in a request", parked_per_second, "/s"),
        Figure::of("healthy deliveries beside them", &beside, "/s")
            .beside(baseline.middle(), "without a backlog")
            .held_to_each(Bar::LeastTimes(0.8), &times),
        Figure::once("memory of the hub with them", memory_with, "MiB")
            .beside(memory_without, "without a backlog")
            .held_to(Bar::MostAbove(50.0)),
    ])
}

/// Publishes the backlog; returns events per second.
async fn park(options: &Options, stage: &mut Stage, sink: &mut Sink) -> Result<f64, BoxError> {
    for _ in 0..DEAD_OF_A_KIND {
        let paused = stage.subscribe("bench.*", REFUSES).await?;
        stage.pause(&paused).await?;
        stage.subscribe("bench.*", REFUSES).await?;
    }
    let (batch, at_once) = BATCH;
    let load = Load {
        topic: "bench.parked".to_owned(),
        first: 0,
        events: options.parked,
        batch,
        at_once,
        pace: 0,
        size: PARKED_BYTES,
    };
    let played = stage.play(sink, load, 0).await?;
    Ok(played.published.per_second() * super::to_f64(batch))
}
