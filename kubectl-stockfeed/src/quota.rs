//! What a feed asks of its source, and what it may. Pure.

use jiff::Timestamp;
use kube::ResourceExt as _;
use operator::api::{
    StockFeed,
    status::{ConditionType, StockFeedStatus},
};

use crate::{explain::find, remedy, status::pairs, text};

/// The figures of the quota, and what follows from them.
#[must_use]
pub fn describe(feed: &StockFeed, now: Timestamp) -> String {
    let status = feed.status.clone().unwrap_or_default();
    let (namespace, name) = (feed.namespace().unwrap_or_default(), feed.name_any());
    if status.quota.is_none() {
        return format!("{namespace}/{name} has no figures of its quota yet.\n");
    }
    let mut out = format!(
        "{namespace}/{name}: {} symbols, asked for every {}\n",
        feed.spec.symbols.len(),
        feed.spec.interval
    );
    out.push_str(&lines(&status, now));
    if let Some(condition) = find(&status, ConditionType::QuotaSufficient) {
        out.push_str(&format!("\n{}: {}\n", condition.reason, condition.message));
        if condition.status == "False" {
            let remedy = remedy::for_feed(
                ConditionType::QuotaSufficient,
                &condition.reason,
                &namespace,
                &name,
            );
            out.push_str(&format!("→ {remedy}\n"));
        }
    }
    out
}

/// The figures, one a line.
pub fn lines(status: &StockFeedStatus, now: Timestamp) -> String {
    let Some(quota) = &status.quota else {
        return String::new();
    };
    let mut lines = vec![
        (
            "allowed",
            quota.calls_per_day.map_or_else(
                || "no limit a day".to_owned(),
                |calls| format!("{calls} calls a day"),
            ),
        ),
        (
            "asked for",
            format!("{} calls a day", quota.projected_calls_per_day),
        ),
        ("used today", text::or_none(quota.used_today)),
        ("interval kept", text::or_none(quota.effective_interval.as_ref())),
        ("shortest interval", quota.minimum_interval.clone()),
    ];
    if let Some(feeds) = quota.feeds.filter(|feeds| *feeds > 1) {
        lines.push(("shared by", format!("{feeds} feeds with the same API key")));
    }
    if let Some(time) = &quota.exhausted_at {
        let left = time.0.as_second() - now.as_second();
        lines.push(("used up", format!("at {}, in {}", time.0, text::span(left))));
    }
    pairs(&lines)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::explain::tests::feed;

    #[test]
    fn what_is_too_much_is_told_with_what_to_do() {
        let mut feed = feed(&[("QuotaSufficient", "False", "PlanExceeded", "1440 calls of 250")]);
        feed.status.as_mut().unwrap().quota = serde_json::from_value(json!({
            "callsPerDay": 250, "projectedCallsPerDay": 1440, "minimumInterval": "6m", "feeds": 2,
            "exhaustedAt": "2026-11-27T14:05:00Z",
        }))
        .unwrap();
        let text = describe(&feed, "2026-11-27T12:05:00Z".parse().unwrap());
        for part in [
            "250 calls a day",
            "1440 calls a day",
            "2 feeds",
            "in 2h",
            "PlanExceeded: 1440 calls of 250",
            "→ Lengthen spec.interval",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
