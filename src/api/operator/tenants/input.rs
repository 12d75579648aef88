//! The body that defines a tenant.

use crate::api::http::fields::Field;
use crate::api::http::input::JsonBody;
use crate::api::problem::Problem;
use crate::domain::access::quota::{EVENT_BYTES_RANGE, MAX_QUOTA, OwnQuotas};
use crate::store::tenants::TenantDefinition;

const MAX_DESCRIPTION_CHARS: usize = 1_000;

/// The fields of a tenant, each present, null or missing.
pub(super) struct TenantInput {
    description: Field<String>,
    quotas: Field<[Field<u32>; 4]>,
}

impl TenantInput {
    /// Parses the body of a request that writes a tenant. 422 for invalid fields.
    pub(super) fn parse(body: &JsonBody) -> Result<Self, Problem> {
        let mut fields = body.fields()?;
        let description = fields.text("description", MAX_DESCRIPTION_CHARS);
        let quotas = fields.object("quotas", |quotas| {
            Some([
                quotas.number("events_per_s", 0..=MAX_QUOTA),
                quotas.number("subscriptions", 0..=MAX_QUOTA),
                quotas.number("streams", 0..=MAX_QUOTA),
                quotas.number("event_bytes", EVENT_BYTES_RANGE),
            ])
        });
        fields.finish()?;
        Ok(Self { description, quotas })
    }

    /// Returns `current` with the fields of the input: a missing field stays, and null restores the hub's default.
    pub(super) fn patched_onto(self, current: TenantDefinition) -> TenantDefinition {
        let own = current.quotas;
        let quotas = match self.quotas {
            Field::Absent => own,
            Field::Null => OwnQuotas::default(),
            Field::Is([events_per_s, subscriptions, streams, event_bytes]) => OwnQuotas {
                events_per_s: events_per_s.or(own.events_per_s).value(),
                subscriptions: subscriptions.or(own.subscriptions).value(),
                streams: streams.or(own.streams).value(),
                event_bytes: event_bytes.or(own.event_bytes).value(),
            },
        };
        TenantDefinition { description: self.description.or(current.description).value(), quotas }
    }
}
