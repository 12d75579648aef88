//! `POST /v1/subscriptions/{id}/rotate-secret`.

use std::time::Duration;

use actix_web::{HttpResponse, web};

use super::change::MAX_CHANGE_ATTEMPTS;
use super::find::find_subscription;
use super::repeat::first_view;
use crate::api::auth::context::Authorized;
use crate::api::http::idempotency;
use crate::api::http::input::JsonBody;
use crate::api::problem::{Code, Problem};
use crate::domain::signing::secret::Secret;
use crate::domain::signing::{MAX_ACTIVE_KEYS, Signing, TooManyKeys};
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change;
use crate::domain::subscription::change::{Change, ChangeResult};
use crate::domain::subscription::view::SubscriptionView;
use crate::domain::time::UnixMillis;

/// How long earlier keys still sign: one day, unless the caller asks for another time.
const DEFAULT_OVERLAP_S: u32 = 86_400;
/// One week.
const MAX_OVERLAP_S: u32 = 604_800;

/// The body of a rotation.
struct RotationInput {
    /// `None`: the hub generates a secret.
    secret: Option<Secret>,
    /// How long earlier keys still sign.
    overlap: Duration,
}

/// `POST /v1/subscriptions/{id}/rotate-secret`: the response is the only one that shows the new secret. Earlier secrets
/// sign as well until their overlap ends.
pub(super) async fn rotate(
    Authorized(context, body): Authorized<JsonBody>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let claim = idempotency::claim(&context, &body.0).await?;
    let input = RotationInput::parse(&body)?;
    for _ in 0..MAX_CHANGE_ATTEMPTS {
        // First, because the rotation that the first request made would fail the checks below.
        if let Some(first) = idempotency::first(&context, claim.as_ref()).await? {
            let first = first_view(&context, first.position).await?;
            return Ok(idempotency::replayed(&mut HttpResponse::Ok()).json(first.view));
        }
        let current = find_subscription(&context, &id).await?;
        let signing = input.rotate(current.definition.signing())?;
        let definition = current.definition.clone().signed_by(signing);
        let change = Change {
            key: claim.as_ref().map(|claim| claim.key.clone()),
            ..change::secret_rotated(Subscription { definition, ..current.clone() })
        };
        match context.api.log.change(&change, Some(&current), &context.actor()).await? {
            ChangeResult::Applied { position, .. } => {
                let changed = Subscription { changed_at: position, ..change.subscription };
                return Ok(HttpResponse::Ok().json(SubscriptionView::with_secret(&changed)));
            }
            // Another node handled the same request at the same time. The next round finds its response.
            ChangeResult::Replayed { .. } | ChangeResult::Stale | ChangeResult::QuotaExceeded => {}
        }
    }
    Err(Problem::concurrent_modification("subscription"))
}

impl RotationInput {
    /// Parses the body of a rotation. 422 for invalid fields.
    fn parse(body: &JsonBody) -> Result<Self, Problem> {
        let mut fields = body.optional_fields()?;
        let secret = fields.parsed("secret").value();
        let overlap_s = fields.number("overlap_s", 0..=MAX_OVERLAP_S).value();
        fields.finish()?;
        let overlap = Duration::from_secs(overlap_s.unwrap_or(DEFAULT_OVERLAP_S).into());
        Ok(Self { secret, overlap })
    }

    /// Returns the signing after the rotation: the new secret, and the earlier ones until their overlap ends.
    fn rotate(&self, signing: &Signing) -> Result<Signing, Problem> {
        if self.secret.as_ref() == Some(signing.secret()) {
            let detail = "is already the current secret; leave it out to get a generated one";
            return Err(Problem::invalid_field("/secret", detail));
        }
        let secret = self.secret.clone().unwrap_or_else(|| Secret::from_random(rand::random()));
        let (seed, now) = (rand::random(), UnixMillis::now());
        let rotated = signing.clone().rotated(secret, seed, self.overlap, now);
        rotated.map_err(|TooManyKeys { until }| {
            let detail = format!(
                "this subscription has {MAX_ACTIVE_KEYS} valid secrets, the limit; rotate after {until}, when one of them \
                 expires, or send overlap_s 0 to end all earlier ones now"
            );
            Problem::new(Code::TooManySecrets, detail)
        })
    }
}
