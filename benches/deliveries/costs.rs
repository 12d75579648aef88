//! What an event and a delivery cost, beside what a POST costs that does nothing else.

use super::figure::{Bar, Figure};
use super::floor::Bare;
use super::machine::busy_percent;
use super::publish::{Load, Published};
use super::rounds::Rounds;
use super::sink::Sink;
use super::stage::{Played, Stage, post_bare, publish};
use super::tally::Arrived;
use super::{Anything, Options, eprint_progress, to_f64};

/// POSTs of the bare loop under way at once.
const BARE_AT_ONCE: usize = 32;
/// How many subscriptions an event is for, where it is for several.
const FAN_OUT: usize = 10;

const BARE: &str = "bare loop";

/// What the rounds have come to.
#[derive(Default)]
struct Costs {
    busy: Rounds,
    bare: BareLoop,
    bare_server: BareServer,
    publish_only: Loaded,
    fan_out_1: Loaded,
    fan_out_10: Loaded,
}

/// The loop that only POSTs.
#[derive(Default)]
struct BareLoop {
    cpu_us: Rounds,
    per_second: Rounds,
}

/// The same publishers at a server that only counts.
#[derive(Default)]
struct BareServer {
    cpu_us: Rounds,
    per_second: Rounds,
}

/// A hub under a load.
#[derive(Default)]
struct Loaded {
    cpu_us: Rounds,
    postgres_us: Rounds,
    wal_bytes: Rounds,
    per_second: Rounds,
}

/// Measures a floor and what stands on it in turn, round by round.
pub(super) async fn measure(options: &Options, sink: &mut Sink) -> Result<Vec<Figure>, Anything> {
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
    ) -> Result<(), Anything> {
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
        self.bare.note(&post_bare(sink.port(), &load("", posts, BARE_AT_ONCE))?);

        sink.settle(0).await?;
        let published = publish(sink.port(), &load("bench.nobody", posts, at_once))?;
        self.bare_server.note(&published, &sink.settle(0).await?);

        let played = stage.play(sink, load("bench.nobody", posts, at_once), 0).await?;
        self.publish_only.note(&played, posts, played.published.per_second());
        let played = stage.play(sink, load("bench.one", posts, at_once), 1).await?;
        self.fan_out_1.note(&played, posts, played.per_second());
        let played = stage.play(sink, load("bench.ten", posts / FAN_OUT, at_once), FAN_OUT).await?;
        self.fan_out_10.note(&played, posts / FAN_OUT * FAN_OUT, played.per_second());
        Ok(())
    }

    fn into_figures(self) -> Vec<Figure> {
        let bare_us = self.bare.cpu_us.middle();
        let bare_rate = self.bare.per_second.middle();
        let event_bytes = self.publish_only.wal_bytes.middle();
        let (none, one, ten) = (&self.publish_only, &self.fan_out_1, &self.fan_out_10);
        vec![
            Figure::of("machine busy before each round", &self.busy, "%"),
            Figure::of("bare reqwest loop: CPU per POST", &self.bare.cpu_us, "us"),
            Figure::of("bare reqwest loop: POSTs", &self.bare.per_second, "/s"),
            Figure::of("publish only: CPU per event", &none.cpu_us, "us")
                .beside(self.bare_server.cpu_us.middle(), "bare server")
                .held_to(Bar::Most(50.0)),
            Figure::of("publish only: of it Postgres", &none.postgres_us, "us"),
            Figure::of("publish only: WAL per event", &none.wal_bytes, "B"),
            Figure::of("publish only: events", &none.per_second, "/s")
                .beside(self.bare_server.per_second.middle(), "bare server"),
            Figure::of("fan-out 1: CPU per delivery", &one.cpu_us, "us")
                .beside(bare_us, BARE)
                .held_to(Bar::MostTimes(2.5)),
            Figure::of("fan-out 1: of it Postgres", &one.postgres_us, "us"),
            Figure::of("fan-out 1: WAL per delivery", &one.wal_bytes, "B")
                .beside(event_bytes, "the event alone"),
            Figure::of("fan-out 1: deliveries", &one.per_second, "/s").beside(bare_rate, BARE),
            Figure::of("fan-out 10: CPU per delivery", &ten.cpu_us, "us")
                .beside(bare_us, BARE)
                .held_to(Bar::MostTimes(1.6)),
            Figure::of("fan-out 10: of it Postgres", &ten.postgres_us, "us"),
            Figure::of("fan-out 10: WAL per delivery", &ten.wal_bytes, "B")
                .beside(event_bytes / to_f64(FAN_OUT), "a tenth of the event")
                .held_to(Bar::Most(550.0)),
            Figure::of("fan-out 10: deliveries", &ten.per_second, "/s").beside(bare_rate, BARE),
        ]
    }
}

impl BareLoop {
    fn note(&mut self, bare: &Bare) {
        self.cpu_us.note(bare.cpu_us);
        self.per_second.note(bare.per_second);
    }
}

impl BareServer {
    fn note(&mut self, published: &Published, arrived: &Arrived) {
        self.cpu_us.note(arrived.cpu_us / to_f64(published.answers_us.len()));
        self.per_second.note(published.per_second());
    }
}

impl Loaded {
    /// A round: what it took for each of so many.
    fn note(&mut self, played: &Played, each: usize, per_second: f64) {
        let each = to_f64(each);
        self.cpu_us.note((played.cpu.hub_us + played.cpu.postgres_us) / each);
        self.postgres_us.note(played.cpu.postgres_us / each);
        self.wal_bytes.note(played.wal_bytes / each);
        self.per_second.note(per_second);
    }
}
