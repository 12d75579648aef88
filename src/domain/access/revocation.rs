//! The log entry that revokes an API key on every node.

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::id::KeyId;

pub const KEY_REVOKED: &str = "hookhub.key.revoked";

/// The data of a [`KEY_REVOKED`] entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revocation {
    id: String,
    name: String,
}

impl Revocation {
    /// The data by which all nodes learn that the key is revoked. `name`: for people who read the log.
    pub fn new(id: KeyId, name: &str) -> Self {
        Self { id: id.to_string(), name: name.to_owned() }
    }

    /// The id of the revoked key. `None`: the event is not a valid [`KEY_REVOKED`] entry.
    pub fn revoked_key(event: &Event) -> Option<KeyId> {
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
    fn only_a_revocation_entry_names_a_revoked_key() {
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
        assert_eq!(Revocation::revoked_key(&entry(KEY_REVOKED)), Some(id));
        assert_eq!(Revocation::revoked_key(&entry("hookhub.key.made")), None);
    }
}
