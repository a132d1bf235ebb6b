//! Step 5: writes the status, when it changed.

use std::time::Duration;

use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use snafu::{ResultExt, Snafu};

use crate::{
    api::{
        StockFeed,
        status::{StockFeedStatus, reason},
    },
    context::{Context, Moment},
    labels::MANAGER,
    status::{ours, same_but_figures},
};

/// Quick figures alone are written at most this often.
const FIGURES_PERIOD: Duration = Duration::from_secs(30);

/// The API server refused or did not answer.
#[derive(Debug, Snafu)]
#[snafu(display("failed to write the status"))]
pub struct Error {
    #[snafu(source(from(kube::Error, Box::new)))]
    source: Box<kube::Error>,
}

/// Writes a status, unless it says nothing new. Quick figures alone are written at most every 30 s.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn update_status(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) -> Result<(), Error> {
    let previous = feed.status.as_ref().map(ours);
    if previous.as_ref() == Some(next) {
        return Ok(());
    }
    let uid = feed.uid().unwrap_or_default();
    let figures_only = previous.is_some_and(|previous| same_but_figures(&previous, next));
    let written = ctx.memory.since(&uid, Moment::FiguresWritten);
    if figures_only && written.is_some_and(|elapsed| elapsed < FIGURES_PERIOD) {
        return Ok(());
    }
    write(ctx, feed, next).await?;
    ctx.memory.mark(&uid, Moment::FiguresWritten);
    Ok(())
}

async fn write(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) -> Result<(), Error> {
    let namespace = feed.namespace().unwrap_or_default();
    let api = Api::<StockFeed>::namespaced(ctx.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": "stockfeed.dev/v1alpha1",
        "kind": "StockFeed",
        "metadata": {"name": feed.name_any()},
        "status": next,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    match api
        .patch_status(&feed.name_any(), &parameters, &Patch::Apply(patch))
        .await
    {
        Ok(_) => Ok(()),
        // Deleted meanwhile: there is nobody left to tell.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(source).context(Snafu),
    }
}

/// Whether a status would be the first to say this reason in its summary: then it is worth an Event.
#[must_use]
pub fn is_news(feed: &StockFeed, message: &str) -> bool {
    let said = feed
        .status
        .as_ref()
        .and_then(|status| crate::status::find(status, crate::api::status::ConditionType::Ready));
    said.is_none_or(|ready| ready.reason != reason::INVALID_SPEC || ready.message != message)
}
