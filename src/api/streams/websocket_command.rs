//! What a client says over a WebSocket, and what is done about it.

use std::collections::BTreeMap;
use std::pin::Pin;

use actix_web::web;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::sse::start;
use crate::api::auth::reader::Reading;
use crate::api::events::append::append;
use crate::api::events::input;
use crate::api::events::input::Publish;
use crate::api::events::receipt;
use crate::api::http::body::ContentType;
use crate::api::http::fields::Fields;
use crate::api::http::limits;
use crate::api::http::patterns::patterns;
use crate::api::problem::{Code, Problem};
use crate::api::state::Api;
use crate::api::subscriptions::pull;
use crate::domain::access::scope::Scope;
use crate::domain::event::Event;
use crate::domain::event::event_type::Pattern;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::streaming::Filter;
use crate::streaming::resume::ResumePoint;

/// What is right: one of these.
const COMMANDS: &str = "{\"subscribe\": {\"types\": [...], \"after\": \"...\"}}, {\"ack\": \"evt_...\"} or {\"publish\": \
                        {\"type\": \"...\", \"data\": ...}}";

/// What a command comes to.
#[derive(Debug)]
pub(crate) enum Done {
    /// This is told to the client.
    Answer(Value),
    /// It reads something else from now on.
    Read {
        /// What.
        filter: Filter,
        /// From where; `None`: from where it is.
        after: Option<Position>,
        /// That the place is no longer there.
        gap: Option<Event>,
    },
}

/// A command at work.
pub(crate) type Running = Pin<Box<dyn Future<Output = Done>>>;

/// Where a client's commands are taken.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) reading: Reading,
    /// The pull subscription whose events are read.
    pub(crate) subscription: Option<SubscriptionId>,
    pub(crate) api: web::Data<Api>,
}

impl Desk {
    /// Begins to do what a message says.
    pub(crate) fn run(&self, text: &str) -> Running {
        let (desk, text) = (self.clone(), text.to_owned());
        Box::pin(async move {
            match desk.obey(&text).await {
                Ok(done) => done,
                Err(problem) => Done::Answer(json!({ "error": problem.document("") })),
            }
        })
    }

    /// Tells what is read from now on.
    pub(crate) fn subscribed(types: &[Pattern], after: Position) -> Value {
        let types: Vec<&str> = types.iter().map(Pattern::as_str).collect();
        json!({ "subscribed": { "types": types, "after": after.to_string() } })
    }

    async fn obey(&self, text: &str) -> Result<Done, Problem> {
        self.reading.must_still_be_good(&self.api).await?;
        let given: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| {
            Problem::new(Code::InvalidJson, format!("expected one of {COMMANDS}: {error}"))
        })?;
        let mut given = given.into_iter();
        match (given.next(), given.next()) {
            (Some((name, value)), None) => match name.as_str() {
                "subscribe" => self.subscribe(value.get()).await,
                "ack" => self.ack(value.get()).await,
                "publish" => self.publish(value.get()).await,
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }

    async fn subscribe(&self, given: &str) -> Result<Done, Problem> {
        if self.subscription.is_some() {
            let detail =
                "the subscription itself says what is read here: PATCH its event_types, or seek";
            return Err(Problem::new(Code::Conflict, detail));
        }
        let mut fields = Fields::of(given.as_bytes())?;
        let types = patterns(&mut fields, "types").value();
        let after = fields.text("after", 64).value();
        fields.finish()?;
        let filter = self.reading.filter_of(types)?;
        let Some(after) = after else { return Ok(Done::Read { filter, after: None, gap: None }) };
        let start = start(&self.api.streams, filter, &ResumePoint::parse(&after)).await?;
        Ok(Done::Read { filter: start.filter, after: Some(start.after), gap: start.gap })
    }

    /// Without a pull subscription there is no cursor to move: the id is only checked.
    async fn ack(&self, given: &str) -> Result<Done, Problem> {
        let position = match (event_id(given)?, self.subscription) {
            (position, None) => position,
            (position, Some(id)) => {
                self.reading.caller.must_have(Scope::Subscribe)?;
                pull::move_on(&self.api, id, position).await?
            }
        };
        Ok(Done::Answer(json!({ "acked": position.to_string() })))
    }

    async fn publish(&self, given: &str) -> Result<Done, Problem> {
        self.reading.must_have_key()?;
        let caller = &self.reading.caller;
        caller.must_have(Scope::Publish)?;
        let quotas = self.api.quotas.of(&caller.tenant);
        let read = input::read(ContentType::Json, given.as_bytes(), quotas.event_bytes)?;
        let Publish::One(event) = read else {
            let detail = "publish takes one event; send several commands, or POST /v1/events";
            return Err(Problem::new(Code::ValidationFailed, detail));
        };
        caller.must_reach(event.event_type.as_str())?;
        limits::admit(&self.api, caller, quotas.events_per_s, 1)?;
        let (position, _) = append(&self.api, caller, None, vec![event.clone()]).await?;
        Ok(Done::Answer(json!({ "published": receipt(position, &event) })))
    }
}

fn event_id(given: &str) -> Result<Position, Problem> {
    let text: Option<String> = serde_json::from_str(given).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Problem::new(
            Code::ValidationFailed,
            "ack: expected an event id, as in {\"ack\": \"evt_...\"}",
        )
    })
}

fn unknown() -> Problem {
    Problem::new(Code::ValidationFailed, format!("expected one of {COMMANDS}"))
}
