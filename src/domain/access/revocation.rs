//! What the log's entry says by which a key is revoked on every node.

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::id::KeyId;

/// The type of the entry.
pub const KEY_REVOKED: &str = "hookhub.key.revoked";

/// The data of the entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revocation {
    id: String,
    name: String,
}

impl Revocation {
    /// The end of a key.
    pub fn new(id: KeyId, name: &str) -> Self {
        Self { id: id.to_string(), name: name.to_owned() }
    }

    /// The key that `event` revokes, if it is such an entry.
    pub fn of(event: &Event) -> Option<KeyId> {
        if event.event_type.as_str() != KEY_REVOKED {
            return None;
        }
        serde_json::from_slice::<Self>(&event.data()).ok()?.id.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::event::NewEvent;
    use crate::domain::event::event_type::EventType;
    use crate::domain::position::Position;

    #[test]
    fn an_entry_names_the_key_it_revokes_and_others_name_none() {
        let id = KeyId::from_stored(7 << 20);
        let data = serde_json::to_vec(&Revocation::new(id, "ci")).unwrap();
        let entry = |event_type: &str| {
            let new = NewEvent {
                event_type: EventType::from_stored(event_type),
                about: None,
                occurred_at: None,
                data: Bytes::from(data.clone()),
            };
            Event::at(Position::from_stored(1), &"t".into(), &new)
        };
        assert_eq!(Revocation::of(&entry(KEY_REVOKED)), Some(id));
        assert_eq!(Revocation::of(&entry("hookhub.key.made")), None);
    }
}
