//! Findings that stay, each with the reason why. Pure.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::findings::Finding;

/// Findings that stay for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Each the tool's name and the rule's, as in `checkov/CKV_K8S_43`.
    rules: Vec<String>,
    /// Kind and name of the objects; a `*` at the beginning of a name is any beginning.
    objects: Vec<String>,
    /// Why they stay.
    reason: String,
}

impl Exception {
    /// What it speaks of: a rule and an object each.
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules.iter().flat_map(|rule| {
            let objects = self.objects.iter();
            objects.map(|object| (rule.as_str(), object.as_str()))
        })
    }
}

/// Reads the file.
pub fn parse(text: &str) -> Result<Vec<Exception>> {
    let exceptions: Vec<Exception> =
        serde_yaml::from_str(text).context("the exceptions are no list of rules, objects and reason")?;
    for exception in &exceptions {
        let Exception {
            rules,
            objects,
            reason,
        } = exception;
        ensure!(
            !rules.is_empty() && !objects.is_empty() && reason.split_whitespace().count() > 2,
            "an exception needs rules, objects and a reason: {exception:?}"
        );
    }
    Ok(exceptions)
}

/// Findings without a reason, and reasons without a finding.
pub fn problems(exceptions: &[Exception], findings: &[Finding]) -> Vec<String> {
    let is_of = |(rule, object): (&str, &str), finding: &Finding| {
        rule == finding.rule && matches(object, &finding.object)
    };
    let pairs = || exceptions.iter().flat_map(Exception::pairs);
    let unexplained = findings
        .iter()
        .filter(|finding| !pairs().any(|pair| is_of(pair, finding)))
        .map(|finding| format!("new: {finding}"));
    let stale = pairs()
        .filter(|pair| !findings.iter().any(|finding| is_of(*pair, finding)))
        .map(|(rule, object)| format!("no longer found, remove it: {rule} of {object}"));
    unexplained.chain(stale).collect()
}

fn matches(pattern: &str, object: &str) -> bool {
    match pattern.split_once("/*") {
        Some((kind, ending)) => object
            .split_once('/')
            .is_some_and(|(found, name)| found == kind && name.ends_with(ending)),
        None => pattern == object,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
- rules: [tool/rule]
  objects: [Deployment/operator, Deployment/*-producer]
  reason: It has to be so.
";

    fn finding(rule: &str, object: &str) -> Finding {
        Finding {
            rule: rule.to_owned(),
            object: object.to_owned(),
            problem: "bad".to_owned(),
        }
    }

    #[test]
    fn a_finding_needs_a_reason_and_a_reason_a_finding() -> Result<()> {
        let exceptions = parse(FILE)?;
        let all = [
            finding("tool/rule", "Deployment/operator"),
            finding("tool/rule", "Deployment/tech-producer"),
        ];
        assert!(problems(&exceptions, &all).is_empty());

        let other = finding("tool/other", "Deployment/operator");
        let with_other = [all[0].clone(), all[1].clone(), other];
        assert_eq!(
            problems(&exceptions, &with_other),
            ["new: Deployment/operator: bad (tool/other)"]
        );

        assert_eq!(
            problems(&exceptions, &all[..1]),
            ["no longer found, remove it: tool/rule of Deployment/*-producer"]
        );
        Ok(())
    }

    #[test]
    fn a_pattern_is_of_one_kind() {
        assert!(matches("Deployment/*-producer", "Deployment/a-producer"));
        assert!(!matches("Deployment/*-producer", "StatefulSet/a-producer"));
        assert!(!matches("Deployment/*-producer", "Deployment/a-processor"));
        assert!(!matches("Deployment/a", "Deployment/ab"));
    }

    #[test]
    fn an_exception_without_a_reason_is_none() {
        assert!(parse("- {rules: [a/b], objects: [c/d], reason: ''}").is_err());
        assert!(parse("- {rules: [a/b], objects: [], reason: It has to be so.}").is_err());
        assert!(parse("- {rules: [a/b], objects: [c/d]}").is_err());
    }
}
