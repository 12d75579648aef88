//! The cost of an event and of a delivery, compared with a bare POST.

use super::figure::{Bar, Figure};
use super::floor::Bare;
use super::machine::busy_percent;
use super::publish::{Load, Published};
use super::rounds::Rounds;
use super::sink::Sink;
use super::stage::{Played, Stage, post_bare, publish};
use super::tally::Arrived;
use super::{BoxError, Options, eprint_progress, to_f64};

/// Number of subscriptions that match an event in the fan-out load.
const FAN_OUT: usize = 10;
/// Default concurrency of a subscription; the bare loop uses the same.
const AT_ONCE: usize = 16;

const BARE_16: &str = "reqwest loop, 16 at once";
const BARE_160: &str = "reqwest loop, 160 at once";

/// Results of all rounds.
#[derive(Default)]
struct Costs {
    busy: Rounds,
    bare_server: BareServer,
    publish_only: Loaded,
    bare_16: BareLoop,
    fan_out_1: Loaded,
    bare_160: BareLoop,
    fan_out_10: Loaded,
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
struct Loaded {
    cpu_us: Rounds,
    /// Ratio to the floor of the same round.
    times: Rounds,
    postgres_us: Rounds,
    wal_bytes: Rounds,
    per_second: Rounds,
}

/// Measures a floor and the hub in turn, round by round.
pub(super) async fn measure(options: &Options, sink: &mut Sink) -> Result<Vec<Figure>, BoxError> {
    let mut stage = Stage::set().await?;
    stage.subscribe("bench.one", &sink.url("/one")).await?;
    for receiver in 0..FAN_OUT {
        stage.subscribe("bench.ten", &sink.url(&format!("/ten/{receiver}"))).await?;
    }
    let mut costs = Costs::default();
    for round in 1..=options.rounds {
        costs.busy.note(busy_percent().await?);
        costs.play(options, &mut stage, sink).await?;
        eprint_progress(&format!("costs: round {round}"));
    }
    stage.clear().await?;
    Ok(costs.into_figures())
}

impl Costs {
    async fn play(
        &mut self,
        options: &Options,
        stage: &mut Stage,
        sink: &mut Sink,
    ) -> Result<(), BoxError> {
        let load = |topic: &str, events, at_once| Load {
            topic: topic.to_owned(),
            first: 0,
            events,
            batch: 1,
            at_once,
            pace: 0,
            size: options.bytes,
        };
        let (posts, at_once) = (options.posts, options.connections);
        sink.settle(0).await?;
        let published = publish(sink.port(), &load("bench.nobody", posts, at_once))?;
        let floor_us = self.bare_server.note(&published, &sink.settle(0).await?);
        let played = stage.play(sink, load("bench.nobody", posts, at_once), 0).await?;
        self.publish_only.note(&played, posts, played.published.per_second(), floor_us);

        for (fan_out, topic, bare, loaded) in [
            (1, "bench.one", &mut self.bare_16, &mut self.fan_out_1),
            (FAN_OUT, "bench.ten", &mut self.bare_160, &mut self.fan_out_10),
        ] {
            // The machine may be twice as fast a minute later: half of the floor is measured before, half after.
            let half = load(topic, posts.div_ceil(2), AT_ONCE * fan_out);
            let before = post_bare(sink.port(), &half)?;
            let events = posts / fan_out;
            let played = stage.play(sink, load(topic, events, at_once), fan_out).await?;
            let floor_us = bare.note(&before, &post_bare(sink.port(), &half)?);
            loaded.note(&played, events * fan_out, played.per_second(), floor_us);
        }
        Ok(())
    }

    fn into_figures(self) -> Vec<Figure> {
        let event_bytes = self.publish_only.wal_bytes.middle();
        let (none, one, ten) = (&self.publish_only, &self.fan_out_1, &self.fan_out_10);
        vec![
            Figure::of("machine busy before each round", &self.busy, "%"),
            Figure::of("publish only: CPU per event", &none.cpu_us, "us")
                .beside(self.bare_server.cpu_us.middle(), "server that only counts")
                .held_to(Bar::Most(50.0)),
            Figure::of("  of it Postgres", &none.postgres_us, "us"),
            Figure::of("publish only: WAL per event", &none.wal_bytes, "B"),
            Figure::of("publish only: events", &none.per_second, "/s")
                .beside(self.bare_server.per_second.middle(), "server that only counts"),
            Figure::of("fan-out 1: CPU per delivery", &one.cpu_us, "us")
                .beside(self.bare_16.cpu_us.middle(), BARE_16)
                .held_to_each(Bar::MostTimes(2.5), &one.times),
            Figure::of("  of it Postgres", &one.postgres_us, "us"),
            Figure::of("fan-out 1: WAL per delivery", &one.wal_bytes, "B")
                .beside(event_bytes, "only the event"),
            Figure::of("fan-out 1: deliveries", &one.per_second, "/s")
                .beside(self.bare_16.per_second.middle(), BARE_16),
            Figure::of("fan-out 10: CPU per delivery", &ten.cpu_us, "us")
                .beside(self.bare_160.cpu_us.middle(), BARE_160)
                .held_to_each(Bar::MostTimes(1.6), &ten.times),
            Figure::of("  of it Postgres", &ten.postgres_us, "us"),
            Figure::of("fan-out 10: WAL per delivery", &ten.wal_bytes, "B")
                .beside(event_bytes / to_f64(FAN_OUT), "a tenth of the event")
                .held_to(Bar::Most(550.0)),
            Figure::of("fan-out 10: deliveries", &ten.per_second, "/s")
                .beside(self.bare_160.per_second.middle(), BARE_160),
        ]
    }
}

impl BareServer {
    /// Adds a round; returns the CPU time per event.
    fn note(&mut self, published: &Published, arrived: &Arrived) -> f64 {
        let cpu_us = arrived.cpu_us / to_f64(published.answers_us.len());
        self.cpu_us.note(cpu_us);
        self.per_second.note(published.per_second());
        cpu_us
    }
}

impl BareLoop {
    /// Adds a round in two halves; returns the CPU time per POST.
    fn note(&mut self, before: &Bare, after: &Bare) -> f64 {
        let cpu_us = f64::midpoint(before.cpu_us, after.cpu_us);
        self.cpu_us.note(cpu_us);
        self.per_second.note(f64::midpoint(before.per_second, after.per_second));
        cpu_us
    }
}

impl Loaded {
    /// Adds a round with `each` events or deliveries.
    fn note(&mut self, played: &Played, each: usize, per_second: f64, floor_us: f64) {
        let each = to_f64(each);
        let cpu_us = (played.cpu.hub_us + played.cpu.postgres_us) / each;
        self.cpu_us.note(cpu_us);
        self.times.note(cpu_us / floor_us);
        self.postgres_us.note(played.cpu.postgres_us / each);
        self.wal_bytes.note(played.wal_bytes / each);
        self.per_second.note(per_second);
    }
}
