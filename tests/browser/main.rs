//! A real browser, its own EventSource and WebSocket and the page of `examples/phone`, on a wire that keeps being cut.
//!
//! `make browser` runs these; plain `cargo test` does not, as they need Chromium.

mod chromium;
mod origins;
mod own_transports;
mod phone_page;
mod scene;
mod site;
mod support;
mod wire;
