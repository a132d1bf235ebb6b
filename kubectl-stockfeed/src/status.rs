//! What a feed says of itself: all of a namespace in a table, or one in detail. Pure.

use jiff::Timestamp;
use kube::ResourceExt as _;
use operator::{
    api::{
        StockFeed,
        status::{ConditionType, DeletionEntry, Quota, Scaling, StockFeedStatus},
    },
    labels,
};
use serde::Serialize;
use strum::IntoEnumIterator as _;

use crate::{explain::find, quota, text};

/// A feed, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    namespace: String,
    name: String,
    ready: String,
    reason: String,
    message: String,
    suspended: bool,
    paused: bool,
    conditions: Vec<Stage>,
    symbols: usize,
    partitions: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watermark: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_tick_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_messages: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scaling: Option<Scaling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<Quota>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deletion_plan: Vec<DeletionEntry>,
}

/// A condition, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stage {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
    since: Timestamp,
}

impl Summary {
    /// Of a feed.
    #[must_use]
    pub fn of(feed: &StockFeed) -> Self {
        let status = feed.status.clone().unwrap_or_default();
        let (ready, reason, message) = ready(&status);
        Self {
            namespace: feed.namespace().unwrap_or_default(),
            name: feed.name_any(),
            ready,
            reason,
            message,
            suspended: feed.spec.suspend,
            paused: labels::is_paused(feed.annotations()),
            conditions: status
                .conditions
                .iter()
                .map(|condition| Stage {
                    kind: condition.type_.clone(),
                    status: condition.status.clone(),
                    reason: condition.reason.clone(),
                    message: condition.message.clone(),
                    since: condition.last_transition_time.0,
                })
                .collect(),
            symbols: feed.spec.symbols.len(),
            partitions: status.partitions.unwrap_or(feed.spec.processing.partitions),
            replicas: status.replicas,
            backlog: status.backlog,
            watermark: status.watermark.map(|time| time.0),
            last_tick_time: status.last_tick_time.map(|time| time.0),
            missing_messages: status.missing_messages,
            quarantined: status.quarantined,
            scaling: status.scaling,
            quota: status.quota,
            deletion_plan: status.deletion_plan,
        }
    }
}

/// Whether a feed is Ready, why as a word, and why in words.
fn ready(status: &StockFeedStatus) -> (String, String, String) {
    find(status, ConditionType::Ready).map_or_else(
        || ("Unknown".to_owned(), "NotSeen".to_owned(), String::new()),
        |ready| (ready.status.clone(), ready.reason.clone(), ready.message.clone()),
    )
}

/// A line for each feed.
#[must_use]
pub fn table(feeds: &[StockFeed], everywhere: bool, now: Timestamp) -> String {
    let titles = [
        "NAMESPACE",
        "NAME",
        "READY",
        "REASON",
        "SYMBOLS",
        "INTERVAL",
        "REPLICAS",
        "BACKLOG",
        "LAG",
        "LAST TICK",
        "AGE",
    ];
    let rows: Vec<Vec<String>> = feeds
        .iter()
        .map(|feed| {
            let status = feed.status.clone().unwrap_or_default();
            let (ready, reason, _) = ready(&status);
            let interval = status
                .quota
                .as_ref()
                .and_then(|quota| quota.effective_interval.clone());
            vec![
                feed.namespace().unwrap_or_default(),
                feed.name_any(),
                ready,
                reason,
                feed.spec.symbols.len().to_string(),
                interval.unwrap_or_else(|| feed.spec.interval.clone()),
                text::or_none(status.replicas),
                text::or_none(status.backlog),
                text::ago(status.watermark.map(|time| time.0), now),
                text::ago(status.last_tick_time.map(|time| time.0), now),
                text::ago(feed.creation_timestamp().map(|time| time.0), now),
            ]
        })
        .collect();
    let skip = usize::from(!everywhere);
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row[skip..].to_vec()).collect();
    text::table(&titles[skip..], &rows)
}

/// Everything about one feed.
#[must_use]
pub fn detail(feed: &StockFeed, now: Timestamp) -> String {
    let status = feed.status.clone().unwrap_or_default();
    let (ready, reason, message) = ready(&status);
    let mut out = format!(
        "{}/{}: Ready is {ready}, {reason}\n",
        feed.namespace().unwrap_or_default(),
        feed.name_any()
    );
    if !message.is_empty() {
        out.push_str(&format!("  {message}\n"));
    }
    if labels::is_paused(feed.annotations()) {
        out.push_str("  It is paused: what follows is as it was when it was last looked at.\n");
    }
    out.push('\n');
    out.push_str(&stages(&status, now));
    out.push_str("\nData\n");
    out.push_str(&data(feed, &status, now));
    if let Some(scaling) = &status.scaling {
        out.push_str("\nScaling\n");
        out.push_str(&self::scaling(feed, scaling, now));
    }
    if status.quota.is_some() {
        out.push_str("\nQuota\n");
        out.push_str(&quota::lines(&status, now));
    }
    if !status.deletion_plan.is_empty() {
        out.push_str("\nDeletion plan\n");
        let rows: Vec<Vec<String>> = status
            .deletion_plan
            .iter()
            .map(|entry| {
                vec![
                    format!("  {}", entry.what),
                    entry.name.clone(),
                    format!("{:?}", entry.action),
                    entry.why.clone(),
                ]
            })
            .collect();
        out.push_str(&text::table(&["  WHAT", "NAME", "ACTION", "WHY"], &rows));
    }
    out
}

/// A line for each condition but Ready, in the operator's order.
fn stages(status: &StockFeedStatus, now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = ConditionType::iter()
        .filter(|kind| *kind != ConditionType::Ready)
        .filter_map(|kind| find(status, kind))
        .map(|condition| {
            vec![
                condition.type_.clone(),
                condition.status.clone(),
                condition.reason.clone(),
                text::ago(Some(condition.last_transition_time.0), now),
                condition.message.clone(),
            ]
        })
        .collect();
    text::table(&["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"], &rows)
}

/// Names and values, one a line.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("  {name:<18}{value}\n"))
        .collect()
}

fn data(feed: &StockFeed, status: &StockFeedStatus, now: Timestamp) -> String {
    let lag = |time: Option<Timestamp>| {
        time.map_or_else(
            || text::NONE.to_owned(),
            |time| format!("{} ({time})", text::ago(Some(time), now)),
        )
    };
    let partitions: Vec<String> = status
        .queues
        .iter()
        .map(|queues| format!("{} of generation {}", queues.partitions, queues.generation))
        .collect();
    let mut lines = vec![
        ("symbols", feed.spec.symbols.len().to_string()),
        (
            "partitions",
            match partitions.is_empty() {
                true => feed.spec.processing.partitions.to_string(),
                false => partitions.join(", "),
            },
        ),
        ("backlog", text::or_none(status.backlog)),
        ("watermark lag", lag(status.watermark.as_ref().map(|time| time.0))),
        (
            "last tick",
            lag(status.last_tick_time.as_ref().map(|time| time.0)),
        ),
        ("missing messages", text::or_none(status.missing_messages)),
        ("quarantined", text::or_none(status.quarantined)),
        ("schema version", text::or_none(status.schema_version)),
    ];
    if let Some(open) = &status.next_open {
        lines.push(("next open", open.0.to_string()));
    }
    pairs(&lines)
}

fn scaling(feed: &StockFeed, scaling: &Scaling, now: Timestamp) -> String {
    let replicas = &feed.spec.processing.replicas;
    let limits = match replicas.max {
        Some(max) => format!("{} to {max}", replicas.min),
        None => format!("{}, fixed", replicas.min),
    };
    let dry = if scaling.dry_run {
        " (dry run: only said)"
    } else {
        ""
    };
    let mut lines = vec![
        (
            "processors",
            format!("{} of {} wanted{dry}", scaling.replicas, scaling.wanted),
        ),
        ("limits", limits),
        (
            "decision",
            match scaling.message.is_empty() {
                true => scaling.reason.clone(),
                false => format!("{}: {}", scaling.reason, scaling.message),
            },
        ),
    ];
    // Measured only where it is decided by.
    let rate = |name, value: Option<f64>| value.map(|value| (name, format!("{value:.1} messages/s")));
    lines.extend(rate("arrive", scaling.arrival_per_second));
    lines.extend(rate("one commits", scaling.per_replica_per_second));
    lines.extend(
        scaling
            .busy_ratio
            .map(|ratio| ("busy", format!("{:.0} %", ratio * 100.0))),
    );
    if let Some(seconds) = scaling.catch_up_seconds {
        lines.push(("caught up in", text::span(seconds)));
    }
    if let Some(time) = &scaling.decided_at {
        lines.push(("last change", format!("{} ago", text::ago(Some(time.0), now))));
    }
    pairs(&lines)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;
    use crate::explain::tests::feed;

    fn now() -> Timestamp {
        "2026-11-27T12:05:00Z".parse().unwrap()
    }

    fn full() -> StockFeed {
        let mut feed = feed(&[]);
        let status = json!({
            "conditions": feed.status.as_ref().unwrap().conditions,
            "replicas": "1/1", "backlog": 7,
            "watermark": "2026-11-27T12:04:48Z", "lastTickTime": "2026-11-27T12:04:55Z",
            "quarantined": 2, "queues": [{"generation": 1, "partitions": 4}],
            "scaling": {"replicas": 1, "wanted": 2, "reason": "CatchingUp", "message": "7 wait", "busyRatio": 0.5},
            "quota": {"callsPerDay": 250, "projectedCallsPerDay": 1440, "minimumInterval": "6m", "usedToday": 12, "effectiveInterval": "7m"},
            "deletionPlan": [{"what": "Schema", "name": "markets_tech", "action": "Keep", "why": "deletionPolicy Retain"}],
        });
        feed.status = Some(serde_json::from_value(status).unwrap());
        feed
    }

    #[test]
    fn the_table_has_a_line_for_each_feed() {
        let mut unseen = feed(&[]);
        unseen.status = None;
        let text = table(&[full(), unseen], false, now());
        assert_eq!(
            text,
            "NAME   READY     REASON    SYMBOLS   INTERVAL   REPLICAS   BACKLOG   LAG   LAST TICK   AGE
tech   True      Ready     1         7m         1/1        7         12s   5s          -
tech   Unknown   NotSeen   1         60s        -          -         -     -           -
"
        );
        assert!(table(&[full()], true, now()).starts_with("NAMESPACE   NAME"));
    }

    #[test]
    fn the_detail_has_stages_data_scaling_quota_and_the_deletion_plan() {
        let text = detail(&full(), now());
        for part in [
            "markets/tech: Ready is True, Ready",
            "BrokerReady       True     AsDeclared",
            "watermark lag     12s (2026-11-27T12:04:48Z)",
            "partitions        4 of generation 1",
            "processors        1 of 2 wanted",
            "decision          CatchingUp: 7 wait",
            "used today        12",
            "Schema   markets_tech   Keep     deletionPolicy Retain",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_paused_feed_says_that_it_may_be_old() {
        let mut paused = full();
        paused
            .annotations_mut()
            .insert(labels::PAUSED.to_owned(), "true".to_owned());
        assert!(detail(&paused, now()).contains("It is paused"));
    }
}
