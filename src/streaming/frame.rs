//! An event in its wire formats, each encoded once and shared by all clients of a thread.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::domain::event::Event;
use crate::domain::position::Position;

/// The largest payload length that fits in a frame's second byte (RFC 6455, section 5.2).
const MAX_SHORT_LENGTH: usize = 125;
/// FIN and the opcode of a text frame.
const TEXT_FRAME: u8 = 0x81;

/// An event with its encodings.
#[derive(Debug)]
pub(crate) struct Frame {
    event: Arc<Event>,
    sse: OnceCell<Bytes>,
    sse_named: OnceCell<Bytes>,
    websocket: OnceCell<Bytes>,
}

impl Frame {
    pub(super) fn new(event: Arc<Event>) -> Self {
        let (sse, sse_named, websocket) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { event, sse, sse_named, websocket }
    }

    pub(crate) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    pub(crate) fn position(&self) -> Position {
        self.event.position
    }

    /// The length of the event's JSON. Each encoding is a little longer.
    pub(super) fn bytes(&self) -> usize {
        self.event.body.len()
    }

    /// WHATWG HTML, 9.2.5. `named`: whether to include the event type in an `event:` line.
    pub(crate) fn sse(&self, named: bool) -> Bytes {
        let made = if named { &self.sse_named } else { &self.sse };
        made.get_or_init(|| {
            let event = &self.event;
            let mut head = format!("id: {}\n", event.position);
            if named {
                head.push_str("event: ");
                head.push_str(event.event_type.as_str());
                head.push('\n');
            }
            head.push_str("data: ");
            [head.as_bytes(), &event.body, b"\n\n"].concat().into()
        })
        .clone()
    }

    /// An unmasked text frame, as servers send it (RFC 6455, section 5).
    pub(crate) fn websocket(&self) -> Bytes {
        self.websocket.get_or_init(|| text_frame(&self.event.body)).clone()
    }
}

/// One unmasked frame without fragments.
fn text_frame(text: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(text.len() + 10);
    frame.put_u8(TEXT_FRAME);
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(short), _) if text.len() <= MAX_SHORT_LENGTH => frame.put_u8(short),
        (_, Ok(medium)) => {
            frame.put_u8(126);
            frame.put_u16(medium);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(u64::try_from(text.len()).unwrap_or(u64::MAX));
        }
    }
    frame.put_slice(text);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::NewEvent;

    fn frame() -> Frame {
        let new = NewEvent {
            event_type: "order.paid".parse().unwrap(),
            about: None,
            occurred_at: None,
            data: Bytes::from_static(b"1"),
        };
        Frame::new(Arc::new(Event::at(Position::from_stored(1), &"t".into(), &new)))
    }

    #[test]
    fn a_server_sent_event_has_id_and_data_and_if_named_the_event_type() {
        let (frame, body) = (frame(), frame().event.body.clone());
        let body = std::str::from_utf8(&body).unwrap();
        assert_eq!(frame.sse(false), format!("id: evt_0000000000001\ndata: {body}\n\n"));
        assert_eq!(
            frame.sse(true),
            format!("id: evt_0000000000001\nevent: order.paid\ndata: {body}\n\n")
        );
    }

    #[test]
    fn a_text_frame_encodes_its_length_in_the_shortest_form() {
        for (length, head) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xff, 0xff]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let text = vec![b'x'; length];
            assert_eq!(text_frame(&text), [head, text].concat());
        }
    }
}
