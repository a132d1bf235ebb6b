//! The files in `assets`, and what is put in place of their placeholders.

use std::collections::BTreeMap;

use rust_embed::RustEmbed;
use serde_json::{Value, json};

use crate::{Connection, Feed, SLUG_PREFIX, Values, connection, slug};

/// Superset's name for the database of the overview. No feed's is called so: theirs have a slash.
pub const OVERVIEW_DATABASE: &str = "StockFeed";

#[derive(RustEmbed)]
#[folder = "assets"]
struct Files;

/// The files of one dashboard, with everything in place, by their path below the set's folder.
pub(crate) struct Set {
    /// What UUIDs are made of, before the asset's own name.
    pub identity: String,
    pub files: BTreeMap<String, Value>,
}

impl Set {
    pub(crate) fn feed(feed: &Feed) -> Self {
        let name = format!("{}/{}", feed.namespace, feed.name);
        let mut values = database(&name, &feed.connection);
        let quota = feed.calls_per_day.map_or_else(
            || "no limit is set".to_owned(),
            |calls| format!("of {calls} a day"),
        );
        values.extend([
            ("feed", json!(name)),
            ("slug", json!(slug(&feed.namespace, &feed.name))),
            ("schema", json!(feed.schema)),
            ("quoted_schema", json!(quoted(&feed.schema))),
            ("calls_per_day", json!(calls_per_day(feed))),
            ("quota", json!(quota)),
        ]);
        Self {
            identity: format!("stockfeed.dev/{}/{}", feed.namespace, feed.name),
            files: files("feed/", &values),
        }
    }

    pub(crate) fn overview(feeds: &[Feed], connection: &Connection) -> Self {
        let mut values = database(OVERVIEW_DATABASE, connection);
        values.insert("slug", json!(format!("{SLUG_PREFIX}overview")));
        let mut files = files("overview/", &values);
        for file in files.values_mut() {
            union(file, feeds);
        }
        Self {
            // A namespace is never empty, so no feed has these.
            identity: "stockfeed.dev//overview".to_owned(),
            files,
        }
    }
}

fn database(name: &str, of: &Connection) -> Values {
    Values::from([
        ("database_name", json!(name)),
        ("sqlalchemy_uri", json!(connection::uri(of))),
        ("connect_args", connection::arguments(of)),
    ])
}

fn files(folder: &str, values: &Values) -> BTreeMap<String, Value> {
    let shared = std::iter::once("database.yaml".to_owned());
    let own = Files::iter()
        .filter(|path| path.starts_with(folder))
        .map(|path| path.into_owned());
    shared
        .chain(own)
        .map(|path| {
            let file = Files::get(&path).map(|file| file.data).unwrap_or_default();
            // Our own files, in this very program, all of them read by a test.
            let mut file: Value =
                serde_yaml::from_slice(&file).unwrap_or_else(|error| json!(error.to_string()));
            fill(&mut file, values);
            (path.strip_prefix(folder).unwrap_or(&path).to_owned(), file)
        })
        .collect()
}

/// Puts values in place of their placeholders: `${name}` alone becomes the value, of whatever type; within a text its text.
pub(crate) fn fill(into: &mut Value, values: &Values) {
    match into {
        Value::String(text) => {
            if let Some(value) = name_alone(text).and_then(|name| values.get(name)) {
                *into = value.clone();
                return;
            }
            if text.contains("${") {
                *text = filled(text, values);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| fill(item, values)),
        Value::Object(map) => map.values_mut().for_each(|item| fill(item, values)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn name_alone(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    (!name.contains('}')).then_some(name)
}

/// From left to right, once: what is put in is not looked at again.
fn filled(text: &str, values: &Values) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        filled.push_str(before);
        match after
            .split_once('}')
            .and_then(|(name, end)| Some((values.get(name)?, end)))
        {
            Some((Value::String(value), end)) => {
                filled.push_str(value);
                rest = end;
            }
            Some((value, end)) => {
                filled.push_str(&value.to_string());
                rest = end;
            }
            None => {
                filled.push_str("${");
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// A dataset of the overview says `select`, the query of one feed, and `empty`, one of the same columns without a row: they become
/// one query over all feeds.
fn union(file: &mut Value, feeds: &[Feed]) {
    let Some(file) = file.as_object_mut() else { return };
    let (Some(Value::String(select)), Some(Value::String(empty))) =
        (file.remove("select"), file.remove("empty"))
    else {
        return;
    };
    let parts = feeds.iter().map(|feed| {
        let name = format!("{}/{}", feed.namespace, feed.name);
        let values = Values::from([
            ("feed", json!(literal(&name))),
            ("quoted_schema", json!(quoted(&feed.schema))),
            ("calls_per_day", json!(calls_per_day(feed))),
        ]);
        filled(&select, &values)
    });
    let sql: Vec<String> = std::iter::once(empty).chain(parts).collect();
    file.insert("sql".to_owned(), json!(sql.join("\nUNION ALL\n")));
}

/// As SQL: a number, or NULL.
fn calls_per_day(feed: &Feed) -> String {
    feed.calls_per_day
        .map_or_else(|| "NULL".to_owned(), |calls| calls.to_string())
}

/// An identifier of SQL.
fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text of SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_a_value_and_never_structure() {
        let values = Values::from([
            ("name", json!("a: {b}\n- ${number}")),
            ("number", json!(7)),
            ("map", json!({"x": null})),
        ]);
        let mut file = json!({"alone": "${map}", "number": "${number}", "within": "<${name}> ${number} ${unknown} ${", "list": ["${name}"]});
        fill(&mut file, &values);
        assert_eq!(
            file,
            json!({
                "alone": {"x": null},
                "number": 7,
                "within": "<a: {b}\n- ${number}> 7 ${unknown} ${",
                "list": ["a: {b}\n- ${number}"],
            })
        );
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal("o'clock"), "'o''clock'");
    }
}
