//! How late deliveries are at a steady pace, to a receiver alone and beside receivers that never answer.

use std::time::Duration;

use super::figure::{Bar, Figure};
use super::latencies::{Latencies, Spread};
use super::publish::Load;
use super::sink::{HANG, Sink};
use super::stage::{Played, Stage};
use super::{BoxError, Options, eprint_progress};

/// Events in a second.
const PACE: usize = 50;
/// Receivers that hang.
const HANGING: usize = 20;
/// How often they come and go.
const TURNS: usize = 2;
const TOPIC: &str = "bench.healthy";

/// Publishes alone and beside those that hang in turn; beside them for so long that POSTs to them time out.
pub(super) async fn measure(options: &Options, sink: &mut Sink) -> Result<Vec<Figure>, BoxError> {
    let mut stage = Stage::set().await?;
    stage.subscribe(TOPIC, &sink.url("/alone")).await?;
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
    let mut alone = vec![stage.play(sink, load(options.seconds), 1).await?];
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
        alone.push(stage.play(sink, load(options.seconds), 1).await?);
        eprint_progress(&format!("isolation: turn {turn}"));
    }
    stage.clear().await?;
    Ok(figures(&alone, &beside))
}

fn figures(alone: &[Played], beside: &[Played]) -> Vec<Figure> {
    let answers = spread(alone.iter().flat_map(|played| played.published.answers_us.clone()));
    let delays = |played: &[Played]| {
        spread(played.iter().flat_map(|played| played.arrived.delays_us.clone()))
    };
    let (alone, beside) = (delays(alone), delays(beside));
    vec![
        Figure::once("50 events/s: publish to arrival, median", ms(alone.p50), "ms")
            .beside(ms(answers.p50), "publish answer, median")
            .held_to(Bar::MostAbove(2.0)),
        Figure::once("50 events/s: publish to arrival, p99", ms(alone.p99), "ms")
            .beside(ms(answers.p99), "publish answer, p99"),
        Figure::once("beside 20 that hang: median", ms(beside.p50), "ms")
            .beside(ms(alone.p50), "alone"),
        Figure::once("beside 20 that hang: p99", ms(beside.p99), "ms")
            .beside(ms(alone.p99), "alone")
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
