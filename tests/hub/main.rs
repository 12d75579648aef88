//! The hub from outside: each module is about one thing that its users rely on.

mod delivery;
mod dev_receiver;
mod durability;
mod embedded_postgres;
mod errors;
mod history;
mod keys;
mod nodes;
mod order;
mod parking;
mod publishing;
mod pulling;
mod reading;
mod receivers;
mod retries;
mod starting;
mod stopping;
mod stream_tokens;
mod subscriptions;
mod support;
