//! Carrying out the schedule.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hookhub::domain::time::UnixMillis;
use nix::sys::signal::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Anything;
use super::check::Window;
use super::receivers::Receivers;
use super::schedule::{Fault, Stroke};
use super::wire::State;
use super::world::World;

/// Of what was taken so long before a node or its way to Postgres was lost, the result may not be on record yet: it is
/// recorded some 50 ms later, and that commit may wait for a disk and for processors that others want too.
const UNRECORDED: Duration = Duration::from_secs(3);
/// What is under way when a node is stopped is taken by its receiver within so long.
const UNDER_WAY: Duration = Duration::from_millis(1_500);
/// Until a node that has its Postgres back has recorded what came of its POSTs, or knows that it may not.
const BACK: Duration = Duration::from_secs(3);

/// The torture under way.
struct Chaos {
    world: Arc<World>,
    receivers: Arc<Receivers>,
    windows: Mutex<Vec<Window>>,
    diary: Mutex<File>,
}

/// Carries all strokes out, counted from `began`; when what is taken may be sent again because of them. What was really
/// done and when goes into the file `diary`.
pub(super) async fn run(
    strokes: &[Stroke],
    began: Instant,
    (world, receivers): (&Arc<World>, &Arc<Receivers>),
    diary: &Path,
) -> Result<Vec<Window>, Anything> {
    let chaos = Arc::new(Chaos {
        world: Arc::clone(world),
        receivers: Arc::clone(receivers),
        windows: Mutex::default(),
        diary: Mutex::new(File::create(diary)?),
    });
    let mut under_way = JoinSet::new();
    for (index, stroke) in strokes.iter().enumerate() {
        let (chaos, stroke) = (Arc::clone(&chaos), *stroke);
        under_way.spawn(async move { chaos.carry_out((index, &stroke), began).await });
    }
    for done in under_way.join_all().await {
        done?;
    }
    Ok(chaos.windows.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

impl Chaos {
    async fn carry_out(
        &self,
        (index, stroke): (usize, &Stroke),
        began: Instant,
    ) -> Result<(), Anything> {
        sleep_until(began + stroke.at).await;
        let from = UnixMillis::now();
        self.write("begins", from, stroke.fault)?;
        self.begin(stroke.fault).await?;
        sleep_until(began + stroke.end()).await;
        let near_end = UnixMillis::now();
        self.finish(stroke.fault).await?;
        let to = UnixMillis::now();
        self.write("ends  ", to, stroke.fault)?;
        let window = |from: UnixMillis, to: UnixMillis| Window { stroke: index, from, to };
        let at_first = window(from.before(UNRECORDED), from.after(UNDER_WAY));
        let windows = match stroke.fault {
            Fault::Clock(_) | Fault::Mood(..) => vec![],
            Fault::KillNode(_) => vec![at_first],
            Fault::EndNode(_) => vec![window(from.before(UNRECORDED), to.after(UNDER_WAY))],
            Fault::StopNode(_) => vec![at_first, window(near_end, to.after(UNDER_WAY))],
            Fault::CutWire(_) | Fault::StallWire(_) | Fault::KillPostgres => {
                vec![window(from.before(UNRECORDED), to.after(BACK))]
            }
        };
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).extend(windows);
        Ok(())
    }

    fn write(&self, word: &str, now: UnixMillis, fault: Fault) -> Result<(), Anything> {
        let mut diary = self.diary.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(writeln!(diary, "{now} {word} {fault}")?)
    }

    async fn begin(&self, fault: Fault) -> Result<(), Anything> {
        match fault {
            Fault::KillNode(node) => self.world.nodes[node].lock().await.kill().await?,
            Fault::EndNode(node) => self.world.nodes[node].lock().await.ask_to_end()?,
            Fault::StopNode(node) => {
                self.world.nodes[node].lock().await.signal(Signal::SIGSTOP)?;
            }
            Fault::Clock(seconds) => self.set_clock(seconds).await?,
            Fault::CutWire(node) => self.world.set_wire(node, State::Cut),
            Fault::StallWire(node) => self.world.set_wire(node, State::Stalled),
            Fault::KillPostgres => self.world.postgres.lock().await.kill().await?,
            Fault::Mood(callback, mood) => self.receivers.set_mood(callback, mood).await?,
        }
        Ok(())
    }

    async fn finish(&self, fault: Fault) -> Result<(), Anything> {
        match fault {
            Fault::KillNode(node) => self.world.nodes[node].lock().await.run()?,
            Fault::EndNode(node) => {
                let mut node = self.world.nodes[node].lock().await;
                if let Some(disorder) = node.until_ended().await {
                    self.world.note(disorder);
                }
                node.run()?;
            }
            Fault::StopNode(node) => {
                self.world.nodes[node].lock().await.signal(Signal::SIGCONT)?;
            }
            Fault::Clock(_) => self.set_clock(0).await?,
            Fault::CutWire(node) | Fault::StallWire(node) => {
                self.world.set_wire(node, State::Whole);
            }
            Fault::KillPostgres => self.world.postgres.lock().await.run().await?,
            Fault::Mood(callback, _) => {
                self.receivers.set_mood(callback, super::cast::Mood::Good).await?;
            }
        }
        Ok(())
    }

    /// Where there is no libfaketime nothing happens.
    async fn set_clock(&self, seconds: i64) -> Result<(), Anything> {
        for node in &self.world.nodes {
            if let Some(clock) = node.lock().await.clock() {
                clock.set(seconds)?;
            }
        }
        Ok(())
    }
}
