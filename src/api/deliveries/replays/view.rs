//! The JSON of a replay.

use serde_json::{Value, json};

use crate::domain::delivery::replay::ReplayProgress;
use crate::domain::id::ReplayId;

/// Returns the JSON of a replay. `None` as its id stands for a dry run.
pub(super) fn view(id: Option<ReplayId>, progress: &ReplayProgress) -> Value {
    json!({
        "id": id.map(|id| id.to_string()),
        "status": progress.state.name(),
        "only": progress.only.name(),
        "after": progress.after.to_string(),
        "until": progress.until.to_string(),
        "count": progress.count,
        "replayed": progress.replayed,
        "cursor": progress.position.to_string(),
        "created_at": id.map(ReplayId::time),
    })
}
