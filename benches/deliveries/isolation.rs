//! Delivery delay at a steady rate: to a healthy receiver by itself, and beside receivers that never respond.

use std::time::Duration;

use super::figure::{Bar, Figure};
use super::latencies::{Latencies, Spread};
use super::publish::Load;
use super::sink::{HANG, Sink};
use super::stage::{Played, Stage};
use super::{BoxError, Options, eprint_progress};

/// Events per second.
const PACE: usize = 50;
/// Number of receivers that hang.
const HANGING: usize = 20;
/// Number of phases with hanging receivers.
const TURNS: usize = 2;
const TOPIC: &str = "bench.healthy";

/// Publishes in turn with only the healthy receiver and beside hanging ones; the latter phase is long enough for their
/// POSTs to time out.
pub(super) async fn measure(options: &Options, sink: &mut Sink) -> Result<Vec<Figure>, BoxError> {
    let mut stage = Stage::set().await?;
    stage.subscribe(TOPIC, &sink.url("/healthy")).await?;
    let load = |seconds: usize| Load {
        topic: TOPIC.to_owned(),
        first: 0,
        events: seconds * PACE,
        batch: 1,
        at_once: 1,
        pace: PACE,
        size: options.bytes,
    };
    // The first publishes of a new hub meet cold caches.
    stage.play(sink, load(2), 1).await?;
    let mut baseline = vec![stage.play(sink, load(options.seconds), 1).await?];
    let mut beside = Vec::new();
    for turn in 1..=TURNS {
        let mut hanging = Vec::new();
        for _ in 0..HANGING {
            hanging.push(stage.subscribe(TOPIC, &sink.url(HANG)).await?);
        }
        beside.push(stage.play(sink, load(options.seconds * 2), 1).await?);
        for subscription in hanging {
            stage.delete(&subscription).await?;
        }
        baseline.push(stage.play(sink, load(options.seconds), 1).await?);
        eprint_progress(&format!("isolation: turn {turn}"));
    }
    stage.clear().await?;
    Ok(figures(&baseline, &beside))
}

fn figures(baseline: &[Played], beside: &[Played]) -> Vec<Figure> {
    let answers = spread(baseline.iter().flat_map(|played| played.published.answers_us.clone()));
    let delays = |played: &[Played]| {
        spread(played.iter().flat_map(|played| played.arrived.delays_us.clone()))
    };
    let (baseline, beside) = (delays(baseline), delays(beside));
    vec![
        Figure::once("50 events/s: publish to arrival, median", ms(baseline.p50), "ms")
            .beside(ms(answers.p50), "publish answer, median")
            .held_to(Bar::MostAbove(2.0)),
        Figure::once("50 events/s: publish to arrival, p99", ms(baseline.p99), "ms")
            .beside(ms(answers.p99), "publish answer, p99"),
        Figure::once("beside 20 that hang: median", ms(beside.p50), "ms")
            .beside(ms(baseline.p50), "baseline"),
        Figure::once("beside 20 that hang: p99", ms(beside.p99), "ms")
            .beside(ms(baseline.p99), "baseline")
            .held_to(Bar::MostTimes(2.0)),
    ]
}

fn spread(us: impl Iterator<Item = u32>) -> Spread {
    let mut latencies = Latencies::default();
    us.for_each(|us| latencies.note(u64::from(us)));
    latencies.into_spread()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
