//! Whether a live object has everything that is wanted, and where not. Pure.

use serde_json::Value;

/// The most differences that are named.
const MAX_NAMED: usize = 4;
/// The longest value that is shown.
const MAX_VALUE: usize = 60;

/// Whether everything that is wanted is there. Fields that others set, and entries that others add to lists of objects with a key,
/// do not count: server-side apply would leave them as well. A list without one, as the rules of a policy, is a whole.
pub(super) fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (_, Value::Null) => true,
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| wanted.is_null() || live.get(key).is_some_and(|live| covers(live, wanted))),
        (Value::Array(live), Value::Array(wanted)) if wanted.iter().any(Value::is_object) => {
            let others_may_add = wanted.iter().any(has_key);
            (others_may_add || live.len() == wanted.len())
                && wanted
                    .iter()
                    .all(|wanted| live.iter().any(|live| covers(live, wanted)))
        }
        (live, wanted) => live == wanted,
    }
}

/// Whether an entry of a list has a field by which the API server tells it from others.
fn has_key(entry: &Value) -> bool {
    let keys = ["name", "uid", "mountPath", "containerPort", "topologyKey"];
    keys.iter().any(|key| entry.get(key).is_some())
}

/// Names the fields that are not as wanted, as in `spec.replicas was 5, not 1`. Values are shown where `open`: never those of a
/// Secret.
pub(super) fn differences(live: &Value, wanted: &Value, open: bool) -> String {
    let mut found = Vec::new();
    collect("", Some(live), wanted, open, &mut found);
    let more = found.len().saturating_sub(MAX_NAMED);
    found.truncate(MAX_NAMED);
    let mut text = found.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn collect(path: &str, live: Option<&Value>, wanted: &Value, open: bool, found: &mut Vec<String>) {
    let Some(live) = live else {
        found.push(format!("{path} was missing"));
        return;
    };
    if covers(live, wanted) {
        return;
    }
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            for (key, wanted) in wanted.iter().filter(|(_, wanted)| !wanted.is_null()) {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                collect(&path, live.get(key), wanted, open, found);
            }
        }
        (Value::Array(live), Value::Array(wanted)) if wanted.iter().any(Value::is_object) => {
            let missing = wanted
                .iter()
                .enumerate()
                .filter(|(_, wanted)| !live.iter().any(|live| covers(live, wanted)));
            for (place, wanted) in missing {
                let name = wanted.get("name").and_then(Value::as_str);
                let same = live
                    .iter()
                    .find(|live| name.is_some() && live.get("name").and_then(Value::as_str) == name);
                let place = name.map_or_else(|| place.to_string(), str::to_owned);
                collect(&format!("{path}[{place}]"), same, wanted, open, found);
            }
            if live.len() > wanted.len() && !wanted.iter().any(has_key) {
                found.push(format!("{path} had more entries"));
            }
        }
        (live, wanted) => {
            let (live, wanted) = (live.to_string(), wanted.to_string());
            match open && live.len().max(wanted.len()) <= MAX_VALUE {
                true => found.push(format!("{path} was {live}, not {wanted}")),
                false => found.push(format!("{path} was different")),
            }
        }
    }
}
