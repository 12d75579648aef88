//! What the document says is what the hub does.
