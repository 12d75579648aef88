//! The ways of reading that are measured, and what each is measured against.

use clap::ValueEnum;

/// How clients read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Transport {
    /// Server-Sent Events.
    Sse,
    /// WebSocket.
    Websocket,
    /// A poll that waits, and the next one after its answer.
    LongPoll,
}

impl Transport {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Sse, Self::Websocket, Self::LongPoll];

    /// The name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::Websocket => "websocket",
            Self::LongPoll => "long-poll",
        }
    }

    /// The name in the hub's metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::Websocket => "websocket",
            Self::LongPoll => "long_poll",
        }
    }

    /// How long events are published unless told otherwise.
    pub(super) fn usual_seconds(self) -> usize {
        if self == Self::Sse { 60 } else { 20 }
    }

    /// Microseconds of CPU in which nchan hands one event of 1 KiB to one client.
    pub(super) fn goal_us(self) -> f64 {
        match self {
            Self::Sse => 13.0,
            Self::Websocket => 11.0,
            Self::LongPoll => 28.0,
        }
    }
}
