//! The measured transports and their targets.

use clap::ValueEnum;

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Transport {
    Sse,
    Websocket,
    /// A long poll, and the next one after its response.
    LongPoll,
}

impl Transport {
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

    /// Default duration of publishing in seconds.
    pub(super) fn usual_seconds(self) -> usize {
        if self == Self::Sse { 60 } else { 20 }
    }

    /// CPU time in microseconds in which nchan sends one event of 1 KiB to one client.
    pub(super) fn goal_us(self) -> f64 {
        match self {
            Self::Sse => 13.0,
            Self::Websocket => 11.0,
            Self::LongPoll => 28.0,
        }
    }
}
