//! What kube-score and checkov say, in one form. Pure.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

/// Below this grade kube-score warns.
const GOOD: u64 = 7;

/// One rule that one object breaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The tool's name and the rule's.
    pub rule: String,
    /// Kind and name, as in `Deployment/stockfeed-operator`.
    pub object: String,
    /// What is wrong, in the tool's words.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            object,
            problem,
        } = self;
        write!(formatter, "{object}: {problem} ({rule})")
    }
}

/// kube-score's, from its JSON of version 2.
pub fn of_kube_score(text: &str) -> Result<Vec<Finding>> {
    let objects: Vec<Value> = serde_json::from_str(text).context("kube-score printed no list")?;
    let mut findings = BTreeSet::new();
    for object in &objects {
        // Kind, group and version, namespace, name.
        let name = object["object_name"]
            .as_str()
            .context("kube-score named no object")?;
        let parts: Vec<_> = name.split('/').collect();
        let object_name = format!(
            "{}/{}",
            parts.first().copied().unwrap_or_default(),
            parts.last().copied().unwrap_or_default()
        );
        for check in object["checks"].as_array().into_iter().flatten() {
            let grade = check["grade"].as_u64().context("kube-score gave no grade")?;
            if check["skipped"] == true || grade >= GOOD {
                continue;
            }
            let id = check["check"]["id"]
                .as_str()
                .context("kube-score named no rule")?;
            let comments = check["comments"].as_array().into_iter().flatten();
            let summaries: BTreeSet<_> = comments
                .filter_map(|comment| comment["summary"].as_str())
                .collect();
            findings.insert(Finding {
                rule: format!("kube-score/{id}"),
                object: object_name.clone(),
                problem: summaries.into_iter().collect::<Vec<_>>().join(", "),
            });
        }
    }
    Ok(findings.into_iter().collect())
}

/// checkov's, from its JSON.
pub fn of_checkov(text: &str) -> Result<Vec<Finding>> {
    let report: Value = serde_json::from_str(text).context("checkov printed no JSON")?;
    let errors = report["summary"]["parsing_errors"].as_u64();
    anyhow::ensure!(errors == Some(0), "checkov could not read what it was given");
    let failed = report["results"]["failed_checks"].as_array();
    let failed = failed.context("checkov printed no results")?;
    let finding = |check: &Value| {
        let text = |key: &str| {
            check[key]
                .as_str()
                .with_context(|| format!("checkov gave no {key}"))
        };
        // Kind, namespace, name; a name may have dots.
        let resource = text("resource")?;
        let parts: Vec<_> = resource.splitn(3, '.').collect();
        Ok(Finding {
            rule: format!("checkov/{}", text("check_id")?),
            object: format!(
                "{}/{}",
                parts.first().copied().unwrap_or_default(),
                parts.last().copied().unwrap_or_default()
            ),
            problem: text("check_name")?.to_owned(),
        })
    };
    let findings: Result<BTreeSet<_>> = failed.iter().map(finding).collect();
    Ok(findings?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_kube_score_only_what_is_bad_and_not_skipped_counts_and_containers_are_one() -> Result<()> {
        let text = r#"[{"object_name": "Deployment/apps/v1/markets/tech-producer", "checks": [
            {"check": {"id": "image-tag"}, "grade": 10, "skipped": false, "comments": null},
            {"check": {"id": "probes"}, "grade": 1, "skipped": true, "comments": []},
            {"check": {"id": "limits"}, "grade": 1, "skipped": false, "comments": [{"summary": "none"}, {"summary": "none"}]}
        ]}]"#;
        let found = of_kube_score(text)?;
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["Deployment/tech-producer: none (kube-score/limits)"]);
        Ok(())
    }

    #[test]
    fn of_checkov_a_name_may_have_dots() -> Result<()> {
        let text = r#"{"summary": {"parsing_errors": 0}, "results": {"failed_checks": [
            {"check_id": "CKV_1", "check_name": "Be good", "resource": "CustomResourceDefinition.default.stockfeeds.stockfeed.dev"}
        ]}}"#;
        let found = of_checkov(text)?;
        assert_eq!(
            found[0].object,
            "CustomResourceDefinition/stockfeeds.stockfeed.dev"
        );
        assert_eq!(found[0].rule, "checkov/CKV_1");
        Ok(())
    }

    #[test]
    fn what_checkov_could_not_read_is_no_clean_result() {
        assert!(
            of_checkov(r#"{"summary": {"parsing_errors": 1}, "results": {"failed_checks": []}}"#).is_err()
        );
        assert!(of_checkov(r#"{"passed": 0, "failed": 0, "parsing_errors": 0}"#).is_err());
    }
}
