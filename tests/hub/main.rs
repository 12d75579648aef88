//! The hub from outside: each module is about one thing that its users rely on.

mod connections;
mod delivery;
mod dev_receiver;
mod durability;
mod embedded_postgres;
mod errors;
mod following;
mod history;
mod keys;
mod long_poll;
mod nodes;
mod order;
mod parking;
mod publishing;
mod pulling;
mod reading;
mod receivers;
mod retries;
mod server_sent_events;
mod starting;
mod stopping;
mod stream_tokens;
mod subscriptions;
mod support;
mod websocket;
