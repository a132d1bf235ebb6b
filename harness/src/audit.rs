//! What the API server wrote down of the operator's calls.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// `get`, `patch`, …
    pub verb: String,
    /// The API group; empty for the core.
    pub group: String,
    /// With its subresource, as in `stockfeeds/status`.
    pub resource: String,
    /// Of what.
    pub name: String,
    /// When it was answered.
    pub at: String,
    /// The answer's code.
    pub code: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    stage: String,
    stage_timestamp: String,
    object_ref: Option<Object>,
    response_status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

impl Call {
    /// Whether it changes something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !["get", "list", "watch"].contains(&self.verb.as_str())
    }
}

/// Waits until nothing has been written for so long, but no longer than `within`. Returns whether it came to that.
///
/// # Errors
/// When the log cannot be read.
pub async fn wait_for_quiet(log: &Path, quiet: Duration, within: Duration) -> Result<bool> {
    let writes = || -> Result<usize> { Ok(calls(log)?.iter().filter(|call| call.is_write()).count()) };
    let began = Instant::now();
    let (mut last, mut since) = (writes()?, Instant::now());
    while since.elapsed() < quiet {
        if began.elapsed() > within {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = writes()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(true)
}

/// All calls so far, in the order they were answered. The renewals of a Lease are left out.
///
/// # Errors
/// When the log cannot be read.
pub fn calls(log: &Path) -> Result<Vec<Call>> {
    let text = fs::read_to_string(log).context("failed to read the audit log")?;
    let mut calls = Vec::new();
    for line in text.lines() {
        // The last line may be half written.
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            continue;
        };
        // A watch is written down when it begins and when it ends.
        if line.stage == "ResponseStarted" {
            continue;
        }
        let object = line.object_ref.unwrap_or_default();
        let resource = match object.subresource.as_str() {
            "" => object.resource,
            subresource => format!("{}/{subresource}", object.resource),
        };
        if resource == "leases" {
            continue;
        }
        calls.push(Call {
            verb: line.verb,
            group: object.api_group,
            resource,
            name: object.name,
            at: line.stage_timestamp,
            code: line
                .response_status
                .and_then(|status| status.code)
                .unwrap_or_default(),
        });
    }
    Ok(calls)
}
