//! What a person does about a reason.

use operator::api::status::{ConditionType, reason};

/// What to do about a reason of a condition. `{name}` and `{namespace}` stand for the feed's. `None`: the word is not known, which
/// happens when the operator is newer than this program.
#[must_use]
pub fn remedy(kind: ConditionType, reason: &str) -> Option<&'static str> {
    stage(kind, reason)
        .or_else(|| operator_says(reason))
        .or_else(|| producer_says(reason))
}

/// Where the same word means something else at another stage.
fn stage(kind: ConditionType, reason: &str) -> Option<&'static str> {
    use ConditionType::{
        BrokerReady, DashboardsReady, ProcessorReady, ProducerReady, SchemaReady, SourceReady,
    };
    let text = match (kind, reason) {
        (BrokerReady, reason::UNREACHABLE) => {
            "See whether RabbitMQ runs, and whether its management API can be reached at the host and managementPort of the broker's connection Secret. The feed goes on by itself when it answers."
        }
        (SchemaReady, reason::UNREACHABLE) => {
            "See whether PostgreSQL runs, and whether it can be reached at the host and port of the database's connection Secret. The feed goes on by itself when it answers."
        }
        (SourceReady, reason::UNREACHABLE) => {
            "See whether spec.source names the right URL, and whether pods of namespace {namespace} may reach it (firewalls, proxies, NetworkPolicies)."
        }
        (BrokerReady, reason::AUTHENTICATION_FAILED) => {
            "Correct username and password in the broker's connection Secret: they are an administrator's of RabbitMQ."
        }
        (SchemaReady, reason::AUTHENTICATION_FAILED) => {
            "Correct username and password in the database's connection Secret: they are of a role that may create schemas and roles."
        }
        (BrokerReady, reason::PERMISSION_DENIED) => {
            "Give the user of the broker's connection Secret the tag administrator, and all permissions on the virtual host."
        }
        (SchemaReady, reason::PERMISSION_DENIED) => {
            "Give the role of the database's connection Secret CREATE on the database, and CREATEROLE."
        }
        (SourceReady, reason::SECRET_NOT_FOUND) => {
            "Create the Secret with the API key in namespace {namespace}: kubectl create secret generic SECRET -n {namespace} --from-file=apiKey=FILE. spec.source says how it is called."
        }
        (SourceReady, reason::KEY_NOT_FOUND) => {
            "Put the API key under the key that spec.source names in apiKeySecretRef.key, or name the key that is there."
        }
        (ProducerReady, reason::NOT_CONNECTED) => {
            "See whether the producer's pod can reach RabbitMQ (NetworkPolicies): kubectl logs -n {namespace} deploy/{name}-producer. What it fetches waits on its spool meanwhile."
        }
        (DashboardsReady, reason::AUTHENTICATION_FAILED) => {
            "Correct operatorUsername and operatorPassword in the Secret of the operator's --superset-secret, or the account in Superset. The feed itself works."
        }
        (DashboardsReady, reason::PERMISSION_DENIED) => {
            "Give the operator's account in Superset the role Admin: it makes connections, dashboards and roles. The feed itself works."
        }
        (ProcessorReady, reason::PROGRESS_DEADLINE_EXCEEDED) => {
            "See why the processors' pods do not become ready: kubectl describe pods -n {namespace} -l app.kubernetes.io/instance={name},app.kubernetes.io/component=processor"
        }
        (ProducerReady, reason::PROGRESS_DEADLINE_EXCEEDED) => {
            "See why the producer's pod does not become ready: kubectl describe pods -n {namespace} -l app.kubernetes.io/instance={name},app.kubernetes.io/component=producer"
        }
        _ => return None,
    };
    Some(text)
}

/// The operator's words.
fn operator_says(reason: &str) -> Option<&'static str> {
    let text = match reason {
        reason::READY
        | reason::AS_DECLARED
        | reason::AVAILABLE
        | reason::ANSWERING
        | reason::SETTLED
        | reason::NO_GAPS
        | reason::WITHIN_PLAN
        | reason::IMPORTED
        | reason::NOT_SUSPENDED => "Nothing: this is as it should be.",
        reason::MARKET_CLOSED => {
            "Nothing: polling begins when the exchange opens. To poll at all times, set spec.marketHours to Always."
        }
        reason::CALLS_USED_UP => {
            "Wait for midnight in New York, or lengthen spec.interval, take symbols out, or get a larger plan. kubectl stockfeed quota {name} -n {namespace} has the numbers."
        }
        reason::PENDING => {
            "Wait a minute. If it stays so, see what the operator says: kubectl logs -n stockfeed-system deploy/stockfeed-operator"
        }
        reason::PROGRESSING => {
            "Wait: pods are starting. In a rollout that is stuck the reason changes after five minutes."
        }
        reason::PROGRESS_DEADLINE_EXCEEDED => {
            "See why the pods do not become ready: kubectl describe pods -n {namespace} -l app.kubernetes.io/instance={name}"
        }
        reason::WAITING => "Nothing here: it goes on by itself when what it waits for is there.",
        reason::PRODUCER_UNREACHABLE => {
            "See whether the producer runs, and whether the operator may reach its port 8000 (NetworkPolicies): kubectl logs -n {namespace} deploy/{name}-producer"
        }
        reason::DRAINED | reason::SUSPENDED => {
            "Nothing, if it is meant to rest. To poll again: kubectl stockfeed resume {name} -n {namespace}"
        }
        reason::DRAINING => {
            "Wait until the processors have stored what is queued. If the number does not fall, see kubectl logs -n {namespace} deploy/{name}-processor"
        }
        reason::DELETING => {
            "Wait: kubectl stockfeed status {name} -n {namespace} shows what is still to go. A broker or database that is gone is given up after ten minutes."
        }
        reason::INVALID_SPEC => {
            "Correct the field that the message names: kubectl edit sf {name} -n {namespace}. Until then the workers run by the last valid spec."
        }
        reason::APPLY_FAILED => {
            "Do what the message says: a quota, an admission policy or a missing right of the operator refuses an object. The operator tries again by itself."
        }
        reason::NAME_TAKEN => {
            "Rename or delete the object that the message names, or give the feed another name: it belongs to something else, and is not touched."
        }
        reason::NOT_CONFIGURED => {
            "Name a connection Secret in spec.broker or spec.database, or install the operator with one (the chart's broker.existingSecret and database.existingSecret)."
        }
        reason::SECRET_NOT_FOUND => "Create the Secret that the message names, or name another.",
        reason::KEY_NOT_FOUND => "Add the key that the message names to that Secret.",
        reason::SECRET_INVALID => "Correct the key of the Secret that the message names.",
        reason::AUTHENTICATION_FAILED => "Correct username and password in the connection Secret.",
        reason::TLS_FAILED => {
            "Correct ca.crt, or tls.crt with tls.key, in the Secret that the message points to; docs/security.md has a table of messages."
        }
        reason::PERMISSION_DENIED => {
            "Give the user of the connection Secret the rights that the message names."
        }
        reason::UNREACHABLE => {
            "See whether the server runs and can be reached from the cluster. The feed goes on by itself when it answers."
        }
        reason::FAILED => {
            "See what the server's own log says about the error in the message. The operator tries again by itself."
        }
        reason::QUEUE_ARGUMENTS_DIFFER => {
            "Nothing: the queues are drained and replaced by new ones, without losing a message. See who declared them otherwise."
        }
        reason::DEAD_LETTER_QUEUE_DIFFERS => {
            "Delete the queue that the message names when it is empty; the operator declares it anew as it should be."
        }
        reason::NO_CONSUMER => {
            "Wait a minute: a processor takes the queue over. If it stays so, kubectl logs -n {namespace} deploy/{name}-processor, then kubectl stockfeed restart {name} -n {namespace} --processor"
        }
        reason::NOT_PROGRESSING => {
            "See what holds commits up: locks and load in PostgreSQL, its disk, and kubectl logs -n {namespace} deploy/{name}-processor"
        }
        reason::NOT_CONNECTED => "See whether RabbitMQ can be reached from the feed's pods.",
        reason::PAUSED => "To have it looked after again: kubectl stockfeed unpause {name} -n {namespace}",
        reason::EXCHANGE_DIFFERS => {
            "Delete the exchange that the message names; the operator declares it anew as it should be, with all bindings."
        }
        reason::VHOST_NOT_FOUND => {
            "Create the virtual host, or name another under vhost in the broker's connection Secret."
        }
        reason::DATABASE_NOT_FOUND => {
            "Create the database, or name another under dbname in the database's connection Secret."
        }
        reason::MIGRATION_FAILED => {
            "Mend what the message names in the feed's schema; nothing of the failed step stays, and it is tried again by itself."
        }
        reason::SCHEMA_TOO_NEW => {
            "Upgrade the operator to the version that migrated this schema, or a later one. It never takes a schema back."
        }
        reason::SCHEMA_DRIFTED => {
            "Put back what the message names, as the database's administrator: what it says to do, or a backup. Everything else goes on meanwhile."
        }
        reason::SCHEMA_LOCKED => {
            "Nothing, if an index is being built. Otherwise see who holds a lock: SELECT pid, query FROM pg_stat_activity WHERE state <> 'idle' ORDER BY xact_start"
        }
        reason::ROLLING_OUT => {
            "Wait: the workers' new images are good when data flows on them; otherwise the last good ones are put back by themselves."
        }
        reason::ROLLED_BACK => {
            "Name an image that works in spec.template or in the operator's installation. To have the same one tried again: kubectl annotate sf {name} -n {namespace} --overwrite stockfeed.dev/retry-rollout=$(date +%s)"
        }
        reason::REPARTITIONING => {
            "Nothing: the old queues are drained first. If that takes long, see the processors: kubectl stockfeed status {name} -n {namespace}"
        }
        reason::MESSAGES_MISSING => {
            "See which: kubectl stockfeed psql {name} -n {namespace} -- -c 'SELECT * FROM gaps'. Somebody purged or deleted a queue, or the broker lost its disk."
        }
        reason::PLAN_EXCEEDED => {
            "Lengthen spec.interval, take symbols out, or get a larger plan. kubectl stockfeed quota {name} -n {namespace} has the numbers."
        }
        reason::NOT_ENABLED => {
            "Nothing, if the feed is to have no dashboards. Otherwise set spec.dashboards.enabled to true."
        }
        reason::SUPERSET_UNREACHABLE => {
            "See whether Superset runs: kubectl get pods -n stockfeed-system -l app.kubernetes.io/component=superset. The feed itself works, and its dashboards come by themselves."
        }
        reason::IMPORT_FAILED => {
            "See why in Superset's log, which says more than its answer: kubectl logs -n stockfeed-system deploy/stockfeed-superset. The feed itself works."
        }
        reason::DRIFTED => {
            "Undo the change in Superset, or set spec.dashboards.driftPolicy to Heal: then what the operator made is put back. Make charts of your own beside them."
        }
        reason::CONNECTION_FAILED => {
            "See whether Superset's pod can reach the feed's PostgreSQL (NetworkPolicies), and whether that asks for a client certificate, which Superset has none of. The feed itself works."
        }
        _ => return None,
    };
    Some(text)
}

/// The producer's words for what is wrong with a source.
fn producer_says(reason: &str) -> Option<&'static str> {
    let text = match reason {
        "KeyUnreadable" => "Correct the API key in its Secret: it has line ends or blanks in it.",
        "InvalidKey" => {
            "Put a valid API key into the Secret that spec.source names. The producer takes it up by itself."
        }
        "PaymentRequired" | "Forbidden" => {
            "Ask only for what the plan of the API key includes, or get a larger plan; spec.source.fmp.plan has to name it."
        }
        "RateLimited" | "OverBudget" => {
            "Wait, or lengthen spec.interval: the source allows no more calls now. See who else uses the API key."
        }
        "ServerError" | "Timeout" | "CutOff" | "UnexpectedStatus" | "ErrorMessage" => {
            "Wait: the source itself has trouble, and is asked again at every interval. See its status page if it lasts."
        }
        "TooLarge" | "WrongContentType" | "Malformed" => {
            "See whether spec.source names the right URL: what answers there is not the source, or a proxy before it."
        }
        "CallsNotCounted" => {
            "See whether PostgreSQL can be reached from the producer: no call is made that cannot be counted."
        }
        _ => return None,
    };
    Some(text)
}

/// What to do, with the feed's names; of a word that is not known, where to look.
#[must_use]
pub fn for_feed(kind: ConditionType, reason: &str, namespace: &str, name: &str) -> String {
    let text = remedy(kind, reason).unwrap_or(
        "See what the operator says: kubectl logs -n stockfeed-system deploy/stockfeed-operator. This reason is newer than this program.",
    );
    text.replace("{name}", name).replace("{namespace}", namespace)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use strum::IntoEnumIterator as _;

    use super::*;

    /// The words after `pub const NAME: &str =` in the operator's source: whoever adds one has to say what to do about it.
    fn reasons() -> Vec<&'static str> {
        let source = include_str!("../../operator/src/api/status.rs");
        let (_, module) = source.split_once("pub mod reason").unwrap();
        let lines = module
            .lines()
            .filter(|line| line.trim().starts_with("pub const "));
        let word = |line: &'static str| line.split('"').nth(1).unwrap();
        lines.map(word).collect()
    }

    #[test]
    fn every_reason_of_the_operator_has_a_remedy() {
        let reasons = reasons();
        assert!(reasons.len() >= 40, "{reasons:?}");
        for reason in reasons {
            assert!(operator_says(reason).is_some(), "{reason} has no remedy");
        }
    }

    #[test]
    fn every_reason_of_a_source_has_a_remedy() {
        let source = include_str!("../../workers/producer/src/source.rs");
        let (_, words) = source.split_once("pub enum Reason {").unwrap();
        let (words, _) = words.split_once("\n}").unwrap();
        let words: Vec<_> = words
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .map(|line| line.trim_end_matches(','))
            .collect();
        assert!(words.len() >= 10, "{words:?}");
        for word in words {
            assert!(
                remedy(ConditionType::SourceReady, word).is_some(),
                "{word} has no remedy"
            );
        }
    }

    #[test]
    fn remedies_name_the_feed() {
        for kind in ConditionType::iter() {
            for reason in reasons() {
                let text = for_feed(kind, reason, "markets", "tech");
                assert!(
                    !text.contains('{') && !text.is_empty(),
                    "{kind:?} {reason}: {text}"
                );
            }
        }
    }

    #[rstest]
    #[case(ConditionType::BrokerReady, "RabbitMQ")]
    #[case(ConditionType::SchemaReady, "PostgreSQL")]
    #[case(ConditionType::SourceReady, "spec.source")]
    fn what_cannot_be_reached_depends_on_the_stage(#[case] kind: ConditionType, #[case] word: &str) {
        assert!(for_feed(kind, reason::UNREACHABLE, "n", "f").contains(word));
    }

    #[test]
    fn an_unknown_word_leads_to_the_operator() {
        assert_eq!(remedy(ConditionType::Ready, "Sunspots"), None);
        assert!(for_feed(ConditionType::Ready, "Sunspots", "n", "f").contains("operator"));
    }
}
