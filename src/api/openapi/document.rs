//! The OpenAPI document as bytes, with its entity tag.

use std::fmt;

use actix_web::http::header::EntityTag;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::join::document;

pub(crate) struct Document {
    pub(super) text: Bytes,
    pub(super) tag: EntityTag,
}

impl Document {
    pub(crate) fn new() -> Self {
        let text = Bytes::from(document().to_string());
        let digest = Sha256::digest(&text);
        let tag = URL_SAFE_NO_PAD.encode(digest);
        Self { text, tag: EntityTag::new_strong(tag) }
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes)", self.text.len())
    }
}
