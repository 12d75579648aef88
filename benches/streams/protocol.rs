//! The part of HTTP and WebSocket that the clients need: incremental parsing without memory per client.

/// Finds `~<number>:<microseconds>~`, which ends the data of each event; nothing else in a stream has a tilde.
#[derive(Debug, Default)]
pub(super) struct Tags {
    part: Part,
    number: usize,
    published_us: u64,
}

#[derive(Debug, Default, Clone, Copy)]
enum Part {
    #[default]
    Outside,
    Number,
    Time,
}

impl Tags {
    /// Parses more bytes; calls `found` with the number and publishing time of each event.
    pub(super) fn read(&mut self, bytes: &[u8], mut found: impl FnMut(usize, u64)) {
        let mut rest = bytes;
        loop {
            if matches!(self.part, Part::Outside) {
                let Some(start) = rest.iter().position(|byte| *byte == b'~') else { return };
                *self = Self { part: Part::Number, ..Self::default() };
                rest = &rest[start + 1..];
            }
            let Some((byte, after)) = rest.split_first() else { return };
            rest = after;
            match (self.part, byte) {
                (Part::Number, b'0'..=b'9') => {
                    self.number = self.number * 10 + usize::from(byte - b'0');
                }
                (Part::Number, b':') => self.part = Part::Time,
                (Part::Time, b'0'..=b'9') => {
                    self.published_us = self.published_us * 10 + u64::from(byte - b'0');
                }
                _ => {
                    found(self.number, self.published_us);
                    self.part = Part::Outside;
                }
            }
        }
    }
}

/// The unmasked frames of a server (RFC 6455, section 5.2).
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; 10],
    /// Number of header bytes received.
    have: usize,
    /// Number of payload bytes outstanding.
    left: usize,
}

/// Control frames that were received.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct ControlFrames {
    /// Pings that need a pong.
    pub(super) pings: usize,
    /// The server has closed the socket.
    pub(super) closed: bool,
}

/// The pong to a ping without a payload; masked with zeros.
pub(super) const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

impl Frames {
    /// Parses more bytes; passes the payload to `payload`.
    pub(super) fn read(&mut self, bytes: &[u8], mut payload: impl FnMut(&[u8])) -> ControlFrames {
        let (mut rest, mut control) = (bytes, ControlFrames::default());
        while let Some(byte) = rest.first() {
            if self.left > 0 {
                let (now, later) = rest.split_at(self.left.min(rest.len()));
                payload(now);
                self.left -= now.len();
                rest = later;
                continue;
            }
            self.head[self.have] = *byte;
            self.have += 1;
            rest = &rest[1..];
            if let Some(length) = self.length() {
                control.pings += usize::from(self.head[0] & 0x0f == 9);
                control.closed |= self.head[0] & 0x0f == 8;
                *self = Self { left: length, ..Self::default() };
            }
        }
        control
    }

    /// The payload's length, once the header is complete.
    fn length(&self) -> Option<usize> {
        let extended = match self.head[1] {
            _ if self.have < 2 => return None,
            126 => 2..4,
            127 => 2..10,
            short => return Some(usize::from(short)),
        };
        let digits = (self.have == extended.end).then(|| &self.head[extended])?;
        Some(digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)))
    }
}

/// A complete response: its status and, for a page of events, the next cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    /// The status line without the version.
    pub(super) status: &'a str,
    /// Empty without a cursor.
    pub(super) cursor: &'a str,
}

/// Index after a response head.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    find(bytes, b"\r\n\r\n").map(|start| start + 4)
}

/// The status in a response head.
pub(super) fn status(bytes: &[u8]) -> &str {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    std::str::from_utf8(line).unwrap_or_default().trim_start_matches("HTTP/1.1 ")
}

/// The response, if it is complete.
pub(super) fn parse_response(bytes: &[u8]) -> Option<Response<'_>> {
    const LENGTH: &[u8] = b"content-length: ";
    const CURSOR: &[u8] = b"\"next_cursor\":\"";
    let end = head_end(bytes)?;
    let of_length = |line: &&[u8]| {
        line.get(..LENGTH.len()).is_some_and(|name| name.eq_ignore_ascii_case(LENGTH))
    };
    let line = bytes[..end].split(|byte| *byte == b'\n').find(of_length);
    let length: usize = line.map_or(0, |line| digits(&line[LENGTH.len()..]));
    let body = bytes.get(end..end + length)?;
    // The cursor stands at the end of the page, after the events.
    let tail = &body[body.len().saturating_sub(100)..];
    let cursor = find(tail, CURSOR).map(|start| &tail[start + CURSOR.len()..]);
    let cursor = cursor.and_then(|rest| rest.split(|byte| *byte == b'"').next());
    let cursor = std::str::from_utf8(cursor.unwrap_or_default()).unwrap_or_default();
    Some(Response { status: status(bytes), cursor })
}

fn digits(text: &[u8]) -> usize {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}
