//! The cast: the types that are published, and who receives them in what temper.

use hookhub::domain::signing::secret::Secret;

/// The types of all events of a run.
pub(crate) const TYPES: [&str; 6] =
    ["torture.a", "torture.b", "torture.c", "torture.d", "torture.e", "torture.f"];
/// All of them.
pub(crate) const EVERYTHING: &str = "torture.*";

/// How a receiver takes what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers 204 at once.
    Good,
    /// Answers after most of a second, or in drops that end in time.
    Slow,
    /// Takes the request and never says anything.
    Hang,
    /// Answers in drops without an end.
    Drip,
    /// Resets the connection, before or within its answer.
    Reset,
    /// Answers a body without an end.
    Flood,
    /// Answers what is not whole, or no HTTP, or not final; and also what is odd and yet an answer.
    Lie,
    /// Answers errors.
    Refuse,
}

impl Mood {
    /// Each once.
    pub(crate) const ALL: [Self; 8] = [
        Self::Good,
        Self::Slow,
        Self::Hang,
        Self::Drip,
        Self::Reset,
        Self::Flood,
        Self::Lie,
        Self::Refuse,
    ];

    /// In a word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Slow => "slow",
            Self::Hang => "hang",
            Self::Drip => "drip",
            Self::Reset => "reset",
            Self::Flood => "flood",
            Self::Lie => "lie",
            Self::Refuse => "refuse",
        }
    }
}

/// What a receiver is like over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Temper {
    /// Always good.
    Good,
    /// Good, and for some time in this mood, again and again.
    Now(Mood),
    /// One mood after the other.
    Flapping,
}

/// A subscription with a callback.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Callback {
    /// For people.
    pub(crate) name: &'static str,
    /// The types it wants.
    pub(crate) pattern: &'static str,
    /// Whether it wants them in order.
    pub(crate) ordered: bool,
    /// What its receiver is like.
    pub(crate) temper: Temper,
}

const fn callback(
    name: &'static str,
    pattern: &'static str,
    ordered: bool,
    temper: Temper,
) -> Callback {
    Callback { name, pattern, ordered, temper }
}

/// All subscriptions with callbacks. What is ordered gets fewer types: it makes one POST at a time.
pub(crate) const CALLBACKS: &[Callback] = &[
    callback("good", EVERYTHING, false, Temper::Good),
    callback("good, ordered", EVERYTHING, true, Temper::Good),
    callback("good, one type, ordered", TYPES[0], true, Temper::Good),
    callback("slow", TYPES[0], false, Temper::Now(Mood::Slow)),
    callback("slow, ordered", TYPES[1], true, Temper::Now(Mood::Slow)),
    callback("hang", EVERYTHING, false, Temper::Now(Mood::Hang)),
    callback("hang, ordered", TYPES[2], true, Temper::Now(Mood::Hang)),
    callback("drip", TYPES[3], false, Temper::Now(Mood::Drip)),
    callback("drip, ordered", TYPES[3], true, Temper::Now(Mood::Drip)),
    callback("reset", EVERYTHING, false, Temper::Now(Mood::Reset)),
    callback("reset, ordered", TYPES[4], true, Temper::Now(Mood::Reset)),
    callback("flood", TYPES[4], false, Temper::Now(Mood::Flood)),
    callback("flood, ordered", TYPES[5], true, Temper::Now(Mood::Flood)),
    callback("lie", EVERYTHING, false, Temper::Now(Mood::Lie)),
    callback("lie, ordered", TYPES[0], true, Temper::Now(Mood::Lie)),
    callback("refuse", EVERYTHING, false, Temper::Now(Mood::Refuse)),
    callback("refuse, ordered", TYPES[1], true, Temper::Now(Mood::Refuse)),
    callback("flapping", TYPES[2], false, Temper::Flapping),
    callback("flapping, ordered", TYPES[3], true, Temper::Flapping),
];

/// The callback of the hub whose disk is full for a while.
pub(crate) const DISK: usize = CALLBACKS.len();

/// What the deliveries to a callback are signed with: known to both sides without being told.
pub(crate) fn secret(callback: usize) -> Secret {
    let mut bytes = [b'#'; 32];
    for (byte, part) in bytes.iter_mut().zip(callback.to_le_bytes()) {
        *byte = part;
    }
    Secret::from_random(bytes)
}
