//! A real browser, with its EventSource and WebSocket and the page of `examples/phone`, over a connection that is cut
//! again and again.
//!
//! `make browser` runs these tests; plain `cargo test` does not, because they need Chromium.

mod chromium;
mod origins;
mod own_transports;
mod phone_page;
mod scene;
mod site;
mod support;
mod unreliable_proxy;
