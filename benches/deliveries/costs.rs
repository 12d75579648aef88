//! The cost of an event and of a delivery, compared with a bare POST.

use super::figure::{Figure, Target};
use super::floor::Bare;
use super::machine::busy_percent;
use super::publish::{Load, Published};
use super::rounds::Rounds;
use super::sink::Sink;
use super::tally::Arrived;
use super::test_hub::{LoadResult, TestHub, post_bare, publish};
use super::{BoxError, Options, eprint_progress, to_f64};

/// Number of subscriptions that match an event in the fan-out load.
const FAN_OUT: usize = 10;
/// Default concurrency of a subscription; the bare loop uses the same.
const CONCURRENCY: usize = 16;

const BARE_16: &str = "reqwest loop, 16 concurrent";
const BARE_160: &str = "reqwest loop, 160 concurrent";

/// Results of all rounds.
#[derive(Default)]
struct Costs {
    busy: Rounds,
    bare_server: BareServer,
    publish_only: HubCosts,
    bare_16: BareLoop,
    fan_out_1: HubCosts,
    bare_160: BareLoop,
    fan_out_10: HubCosts,
}

/// The same publishers against a server that only counts.
#[derive(Default)]
struct BareServer {
    cpu_us: Rounds,
    per_second: Rounds,
}

/// The loop that only POSTs.
#[derive(Default)]
struct BareLoop {
    cpu_us: Rounds,
    per_second: Rounds,
}

/// A hub under load.
#[derive(Default)]
struct HubCosts {
    cpu_us: Rounds,
    /// Ratio to the floor of the same round.
    ratio: Rounds,
    postgres_us: Rounds,
    wal_bytes: Rounds,
    per_second: Rounds,
}

/// Measures a floor and the hub in turn, round by round.
pub(super) async fn measure(options: &Options, sink: &mut Sink) -> Result<Vec<Figure>, BoxError> {
    let mut hub = TestHub::start().await?;
    hub.subscribe("bench.one", &sink.url("/one")).await?;
    for receiver in 0..FAN_OUT {
        hub.subscribe("bench.ten", &sink.url(&format!("/ten/{receiver}"))).await?;
    }
    let mut costs = Costs::default();
    for round in 1..=options.rounds {
        costs.busy.record(busy_percent().await?);
        costs.run(options, &mut hub, sink).await?;
        eprint_progress(&format!("costs: round {round}"));
    }
    hub.stop().await?;
    Ok(costs.into_figures())
}

impl Costs {
    async fn run(
        &mut self,
        options: &Options,
        hub: &mut TestHub,
        sink: &mut Sink,
    ) -> Result<(), BoxError> {
        let load = |event_type: &str, events, concurrency| Load {
            event_type: event_type.to_owned(),
            first: 0,
            events,
            batch: 1,
            concurrency,
            rate: 0,
            size: options.bytes,
        };
        let (posts, concurrency) = (options.posts, options.connections);
        sink.wait_for_deliveries(0).await?;
        let published = publish(sink.port(), &load("bench.nobody", posts, concurrency))?;
        let floor_us = self.bare_server.record(&published, &sink.wait_for_deliveries(0).await?);
        let result = hub.run(sink, load("bench.nobody", posts, concurrency), 0).await?;
        self.publish_only.record(&result, posts, result.published.per_second(), floor_us);

        for (fan_out, event_type, bare, costs) in [
            (1, "bench.one", &mut self.bare_16, &mut self.fan_out_1),
            (FAN_OUT, "bench.ten", &mut self.bare_160, &mut self.fan_out_10),
        ] {
            // The machine may be twice as fast a minute later: half of the floor is measured before, half after.
            let half = load(event_type, posts.div_ceil(2), CONCURRENCY * fan_out);
            let before = post_bare(sink.port(), &half)?;
            let events = posts / fan_out;
            let result = hub.run(sink, load(event_type, events, concurrency), fan_out).await?;
            let floor_us = bare.record(&before, &post_bare(sink.port(), &half)?);
            costs.record(&result, events * fan_out, result.per_second(), floor_us);
        }
        Ok(())
    }

    fn into_figures(self) -> Vec<Figure> {
        let event_bytes = self.publish_only.wal_bytes.median();
        let (none, one, ten) = (&self.publish_only, &self.fan_out_1, &self.fan_out_10);
        vec![
            Figure::of("machine busy before each round", &self.busy, "%"),
            Figure::of("publish only: CPU per event", &none.cpu_us, "us")
                .with_floor(self.bare_server.cpu_us.median(), "server that only counts")
                .with_target(Target::Max(50.0)),
            Figure::of("  of it Postgres", &none.postgres_us, "us"),
            Figure::of("publish only: WAL per event", &none.wal_bytes, "B"),
            Figure::of("publish only: events", &none.per_second, "/s")
                .with_floor(self.bare_server.per_second.median(), "server that only counts"),
            Figure::of("fan-out 1: CPU per delivery", &one.cpu_us, "us")
                .with_floor(self.bare_16.cpu_us.median(), BARE_16)
                .with_target_for(Target::MaxTimesFloor(2.5), &one.ratio),
            Figure::of("  of it Postgres", &one.postgres_us, "us"),
            Figure::of("fan-out 1: WAL per delivery", &one.wal_bytes, "B")
                .with_floor(event_bytes, "only the event"),
            Figure::of("fan-out 1: deliveries", &one.per_second, "/s")
                .with_floor(self.bare_16.per_second.median(), BARE_16),
            Figure::of("fan-out 10: CPU per delivery", &ten.cpu_us, "us")
                .with_floor(self.bare_160.cpu_us.median(), BARE_160)
                .with_target_for(Target::MaxTimesFloor(1.6), &ten.ratio),
            Figure::of("  of it Postgres", &ten.postgres_us, "us"),
            Figure::of("fan-out 10: WAL per delivery", &ten.wal_bytes, "B")
                .with_floor(event_bytes / to_f64(FAN_OUT), "a tenth of the event")
                .with_target(Target::Max(550.0)),
            Figure::of("fan-out 10: deliveries", &ten.per_second, "/s")
                .with_floor(self.bare_160.per_second.median(), BARE_160),
        ]
    }
}

impl BareServer {
    /// Adds a round; returns the CPU time per event.
    fn record(&mut self, published: &Published, arrived: &Arrived) -> f64 {
        let cpu_us = arrived.cpu_us / to_f64(published.response_times_us.len());
        self.cpu_us.record(cpu_us);
        self.per_second.record(published.per_second());
        cpu_us
    }
}

impl BareLoop {
    /// Adds a round in two halves; returns the CPU time per POST.
    fn record(&mut self, before: &Bare, after: &Bare) -> f64 {
        let cpu_us = f64::midpoint(before.cpu_us, after.cpu_us);
        self.cpu_us.record(cpu_us);
        self.per_second.record(f64::midpoint(before.per_second, after.per_second));
        cpu_us
    }
}

impl HubCosts {
    /// Adds a round with `count` events or deliveries.
    fn record(&mut self, result: &LoadResult, count: usize, per_second: f64, floor_us: f64) {
        let count = to_f64(count);
        let cpu_us = (result.cpu.hub_us + result.cpu.postgres_us) / count;
        self.cpu_us.record(cpu_us);
        self.ratio.record(cpu_us / floor_us);
        self.postgres_us.record(result.cpu.postgres_us / count);
        self.wal_bytes.record(result.wal_bytes / count);
        self.per_second.record(per_second);
    }
}
