//! Delivery delay at a steady rate to a healthy receiver: without other receivers, and with receivers that never respond.

use std::time::Duration;

use super::figure::{Figure, Target};
use super::latencies::{Latencies, Spread};
use super::publish::Load;
use super::sink::{HANG_PATH, Sink};
use super::test_hub::{LoadResult, TestHub};
use super::{BoxError, Options, eprint_progress};

/// Events per second.
const RATE: usize = 50;
/// Number of receivers that hang.
const HANGING_RECEIVERS: usize = 20;
/// Number of phases with hanging receivers.
const PHASES: usize = 2;
const EVENT_TYPE: &str = "bench.healthy";

/// Publishes in turn with only the healthy receiver and with hanging ones as well. The phase with hanging receivers
/// takes longer than the timeout of their POSTs.
pub(super) async fn measure(options: &Options, sink: &mut Sink) -> Result<Vec<Figure>, BoxError> {
    let mut hub = TestHub::start().await?;
    hub.subscribe(EVENT_TYPE, &sink.url("/healthy")).await?;
    let load = |seconds: usize| Load {
        event_type: EVENT_TYPE.to_owned(),
        first: 0,
        events: seconds * RATE,
        batch: 1,
        concurrency: 1,
        rate: RATE,
        size: options.bytes,
    };
    // The first publishes of a new hub meet cold caches.
    hub.run(sink, load(2), 1).await?;
    let mut baseline = vec![hub.run(sink, load(options.seconds), 1).await?];
    let mut with_hanging = Vec::new();
    for phase in 1..=PHASES {
        let mut hanging = Vec::new();
        for _ in 0..HANGING_RECEIVERS {
            hanging.push(hub.subscribe(EVENT_TYPE, &sink.url(HANG_PATH)).await?);
        }
        with_hanging.push(hub.run(sink, load(options.seconds * 2), 1).await?);
        for subscription in hanging {
            hub.delete(&subscription).await?;
        }
        baseline.push(hub.run(sink, load(options.seconds), 1).await?);
        eprint_progress(&format!("isolation: phase {phase}"));
    }
    hub.stop().await?;
    Ok(figures(&baseline, &with_hanging))
}

fn figures(baseline: &[LoadResult], with_hanging: &[LoadResult]) -> Vec<Figure> {
    let responses =
        spread(baseline.iter().flat_map(|result| result.published.response_times_us.clone()));
    let delays = |results: &[LoadResult]| {
        spread(results.iter().flat_map(|result| result.arrived.delays_us.clone()))
    };
    let (baseline, with_hanging) = (delays(baseline), delays(with_hanging));
    vec![
        Figure::once("50 events/s: publish to arrival, median", ms(baseline.p50), "ms")
            .with_floor(ms(responses.p50), "publish response, median")
            .with_target(Target::MaxAboveFloor(2.0)),
        Figure::once("50 events/s: publish to arrival, p99", ms(baseline.p99), "ms")
            .with_floor(ms(responses.p99), "publish response, p99"),
        Figure::once("with 20 hanging receivers: median", ms(with_hanging.p50), "ms")
            .with_floor(ms(baseline.p50), "baseline"),
        Figure::once("with 20 hanging receivers: p99", ms(with_hanging.p99), "ms")
            .with_floor(ms(baseline.p99), "baseline")
            .with_target(Target::MaxTimesFloor(2.0)),
    ]
}

fn spread(us: impl Iterator<Item = u32>) -> Spread {
    let mut latencies = Latencies::default();
    us.for_each(|us| latencies.record(u64::from(us)));
    latencies.into_spread()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
