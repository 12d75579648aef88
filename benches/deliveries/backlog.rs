//! What events parked for dead receivers cost the healthy: two hubs, one with a backlog, and the same loads on both in
//! turn.

use super::figure::{Bar, Figure};
use super::publish::Load;
use super::rounds::Rounds;
use super::sink::Sink;
use super::stage::Stage;
use super::{BoxError, Options, eprint_progress};

/// Subscriptions that are paused, and as many of receivers where nobody listens: each event is parked for all.
const DEAD_OF_A_KIND: usize = 10;
/// Where nobody listens.
const REFUSES: &str = "http://127.0.0.1:1/";
/// Events of the backlog in a request, and requests under way at once.
const BATCH: (usize, usize) = (1_000, 4);
/// Bytes of data in each of them.
const PARKED_BYTES: usize = 64;
const HEALTHY: &str = "bench.healthy";

/// Fewer than of the costs: each takes two long floods.
pub(super) fn rounds(options: &Options) -> usize {
    options.rounds.div_ceil(2)
}

/// Floods in turn a hub without and one with a backlog.
pub(super) async fn measure(options: &Options, sink: &mut Sink) -> Result<Vec<Figure>, BoxError> {
    let (mut without, mut with) = (Stage::set().await?, Stage::set().await?);
    without.subscribe(HEALTHY, &sink.url("/without")).await?;
    with.subscribe(HEALTHY, &sink.url("/with")).await?;
    let parked_per_second = park(options, &mut with, sink).await?;
    eprint_progress("backlog: parked");

    let (mut beside, mut alone, mut times) =
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
        let healthy_alone = without.play(sink, load.clone(), 1).await?.per_second();
        let healthy = with.play(sink, load, 1).await?.per_second();
        beside.note(healthy);
        alone.note(healthy_alone);
        times.note(healthy / healthy_alone);
        eprint_progress(&format!("backlog: round {round}"));
    }
    let (memory_without, memory_with) = (without.resident_mib()?, with.resident_mib()?);
    without.clear().await?;
    with.clear().await?;

    Ok(vec![
        Figure::count("events parked, each for 20 dead", options.parked),
        Figure::once("  published, 1,000 in a request", parked_per_second, "/s"),
        Figure::of("healthy deliveries beside them", &beside, "/s")
            .beside(alone.middle(), "without a backlog")
            .held_to_each(Bar::LeastTimes(0.8), &times),
        Figure::once("memory of the hub with them", memory_with, "MiB")
            .beside(memory_without, "without a backlog")
            .held_to(Bar::MostAbove(50.0)),
    ])
}

/// Publishes the backlog; says how many events a second.
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
