//! The commands of a WebSocket client: subscribe, ack and publish.

use std::collections::BTreeMap;
use std::pin::Pin;

use actix_web::web;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::resume::start;
use crate::api::auth::read_access::ReadAccess;
use crate::api::events::publish::{append, receipt};
use crate::api::events::publish_input::{self, Publish};
use crate::api::http::body::ContentType;
use crate::api::http::completion::run_to_completion;
use crate::api::http::fields::{Fields, patterns};
use crate::api::http::rate_limit;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::Api;
use crate::api::subscriptions::pull_cursor::acknowledge_up_to;
use crate::domain::access::scope::Scope;
use crate::domain::event::Event;
use crate::domain::event::event_type::Pattern;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::streaming::Filter;
use crate::streaming::resume::ResumePoint;

/// The valid commands, for error messages.
const COMMANDS: &str = "{\"subscribe\": {\"types\": [...], \"after\": \"...\"}}, {\"ack\": \"evt_...\"} or {\"publish\": \
                        {\"type\": \"...\", \"data\": ...}}";

/// The outcome of a command.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A message to the client.
    Reply(Value),
    /// The reader continues with another filter.
    Read {
        filter: Filter,
        /// `None`: the reader stays at its position.
        after: Option<Position>,
        /// The gap event, if events after the requested point have expired.
        gap: Option<Event>,
    },
}

/// A command in progress.
pub(super) type RunningCommand = Pin<Box<dyn Future<Output = Outcome>>>;

#[derive(Clone)]
pub(crate) struct Commands {
    pub(crate) access: ReadAccess,
    /// The pull subscription that the client reads; `None` for a stream by event types.
    pub(crate) subscription: Option<SubscriptionId>,
    pub(crate) api: web::Data<Api>,
}

/// The reply to `subscribe`. The stream continues after the position `after`.
pub(super) fn subscribed(types: &[Pattern], after: Position) -> Value {
    let types: Vec<&str> = types.iter().map(Pattern::as_str).collect();
    json!({ "subscribed": { "types": types, "after": after.to_string() } })
}

impl Commands {
    /// Starts the command in a message of the client. It runs to its end even if the connection closes. The future never
    /// fails: a problem becomes an error reply.
    pub(super) fn run(&self, text: &str) -> RunningCommand {
        let (commands, text) = (self.clone(), text.to_owned());
        Box::pin(run_to_completion(async move {
            match commands.execute(&text).await {
                Ok(outcome) => outcome,
                Err(problem) => Outcome::Reply(json!({ "error": problem.document("") })),
            }
        }))
    }

    /// Runs `subscribe`, `ack` or `publish`, unless the key was revoked or has expired.
    async fn execute(&self, text: &str) -> ApiResult<Outcome> {
        let _operation = self.access.begin_operation(&self.api).await?;
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| {
            Problem::new(Code::InvalidJson, format!("expected one of {COMMANDS}: {error}"))
        })?;
        let mut members = members.into_iter();
        match (members.next(), members.next()) {
            (Some((name, value)), None) => match name.as_str() {
                "subscribe" => self.subscribe(value.get()).await,
                "ack" => self.ack(value.get()).await,
                "publish" => self.publish(value.get()).await,
                _ => Err(unknown_command()),
            },
            _ => Err(unknown_command()),
        }
    }

    /// Continues the stream with the patterns in `argument`, and from another point if it names one. 409 on a pull
    /// subscription.
    async fn subscribe(&self, argument: &str) -> ApiResult<Outcome> {
        if self.subscription.is_some() {
            let detail =
                "a pull subscription decides its own events; PATCH its event_types, or seek";
            return Err(Problem::new(Code::Conflict, detail));
        }
        let mut fields = Fields::parse(argument.as_bytes())?;
        let types = patterns(&mut fields, "types").value();
        let after = fields.text("after", 64).value();
        fields.finish()?;
        let filter = self.access.filter_of(types)?;
        let Some(after) = after else {
            return Ok(Outcome::Read { filter, after: None, gap: None });
        };
        let start = start(&self.api.streams, filter, &ResumePoint::parse(&after)).await?;
        Ok(Outcome::Read { filter: start.filter, after: Some(start.after), gap: start.gap })
    }

    /// Acknowledges a pull subscription up to an event id, and replies with the cursor. On other streams the id is only
    /// checked.
    async fn ack(&self, argument: &str) -> ApiResult<Outcome> {
        let position = match (event_id(argument)?, self.subscription) {
            (position, None) => position,
            (position, Some(id)) => {
                self.access.caller.require_scope(Scope::Subscribe)?;
                acknowledge_up_to(&self.api, id, position).await?
            }
        };
        Ok(Outcome::Reply(json!({ "acked": position.to_string() })))
    }

    /// Runs the command `publish`: appends the one event in `argument`, and replies once it is durable.
    async fn publish(&self, argument: &str) -> ApiResult<Outcome> {
        self.access.require_key()?;
        let caller = &self.access.caller;
        caller.require_scope(Scope::Publish)?;
        let quotas = self.api.quotas.quotas_of(&caller.tenant);
        let publish =
            publish_input::parse(ContentType::Json, argument.as_bytes(), quotas.event_bytes)?;
        let Publish::One(event) = publish else {
            let detail = "publish takes one event; send one command for each, or POST /v1/events";
            return Err(Problem::new(Code::ValidationFailed, detail));
        };
        caller.require_event_type(event.event_type.as_str())?;
        rate_limit::admit(&self.api, caller, quotas.events_per_s, 1)?;
        let appended = append(&self.api, caller, None, vec![event.clone()]).await?;
        Ok(Outcome::Reply(json!({ "published": receipt(appended.first, &event) })))
    }
}

/// Parses the argument of `ack`, a JSON string with an event id. 422 for another value.
fn event_id(argument: &str) -> ApiResult<Position> {
    let text: Option<String> = serde_json::from_str(argument).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Problem::new(
            Code::ValidationFailed,
            "ack: expected an event id, as in {\"ack\": \"evt_...\"}",
        )
    })
}

fn unknown_command() -> Problem {
    Problem::new(Code::ValidationFailed, format!("expected one of {COMMANDS}"))
}
