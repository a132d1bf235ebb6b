//! What Superset has, compared with what it should have.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _},
};

use serde_json::{Value, json};
use snafu::{ResultExt as _, Snafu};
use zip::ZipArchive;

use crate::Bundle;

/// How something in Superset is not as rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is, for people: `chart "Price trend"`.
    pub asset: String,
    /// The key that differs, as a path; empty: the whole is missing.
    pub key: String,
}

/// Why an export cannot be compared.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum UnreadableExport {
    /// It is not an archive.
    #[snafu(display("failed to read the archive that Superset exported"))]
    Archive {
        /// Why.
        source: zip::result::ZipError,
    },
    /// A file of it cannot be read.
    #[snafu(display("failed to read file {path} of the archive that Superset exported"))]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file of it is not YAML.
    #[snafu(display("failed to parse file {path} of the archive that Superset exported"))]
    Parse {
        /// Which.
        path: String,
        /// Why.
        source: serde_yaml::Error,
    },
}

/// What one of a list is known by. Whatever else is in the list is Superset's or somebody's own.
const NAMED_BY: [&str; 2] = ["column_name", "metric_name"];

/// What Superset takes and does not export.
const UNSAID: [&str; 2] = ["is_managed_externally", "external_url"];

impl Bundle {
    /// Compares with what `GET /api/v1/dashboard/export/` answers for the dashboard. Each key that we set has to be there with our
    /// value; what Superset adds, and columns and metrics that somebody added, is left out of account.
    ///
    /// # Errors
    /// When it is not an archive of YAML.
    pub fn differences(&self, export: &[u8]) -> Result<Vec<Difference>, UnreadableExport> {
        let actual = by_uuid(export)?;
        let mut differences = Vec::new();
        for (path, ours) in &self.files {
            let Some(uuid) = ours["uuid"].as_str() else {
                continue;
            };
            let asset = describe(path, ours);
            match actual.get(uuid) {
                None => differences.push(Difference {
                    asset,
                    key: String::new(),
                }),
                Some(theirs) => {
                    let mut keys = Vec::new();
                    compare(&normal(ours), Some(&normal(theirs)), "", &mut keys);
                    differences.extend(keys.into_iter().map(|key| Difference {
                        asset: asset.clone(),
                        key,
                    }));
                }
            }
        }
        Ok(differences)
    }
}

fn by_uuid(export: &[u8]) -> Result<BTreeMap<String, Value>, UnreadableExport> {
    let mut archive = ZipArchive::new(Cursor::new(export)).context(ArchiveSnafu)?;
    let mut found = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).context(ArchiveSnafu)?;
        let path = file.name().to_owned();
        if !path.ends_with(".yaml") {
            continue;
        }
        let mut text = String::new();
        file.read_to_string(&mut text)
            .context(FileSnafu { path: &path })?;
        let content: Value = serde_yaml::from_str(&text).context(ParseSnafu { path })?;
        if let Some(uuid) = content["uuid"].as_str() {
            found.insert(uuid.to_owned(), content);
        }
    }
    Ok(found)
}

fn describe(path: &str, file: &Value) -> String {
    let name = ["slice_name", "dashboard_title", "table_name", "database_name"]
        .into_iter()
        .find_map(|key| file[key].as_str())
        .unwrap_or(path);
    let kind = path.split('/').next().unwrap_or(path).trim_end_matches('s');
    format!("{kind} {name:?}")
}

/// With what means the same written the same: Superset numbers charts and datasets itself, keeps some JSON as text, and calls a key by one name
/// when it takes it and by another when it gives it.
fn normal(file: &Value) -> Value {
    let mut file = file.clone();
    if let Some(file) = file.as_object_mut() {
        for key in UNSAID {
            file.remove(key);
        }
        if let Some(value) = file.remove("allow_file_upload") {
            file.insert("allow_csv_upload".to_owned(), value);
        }
    }
    if let Some(context) = file["query_context"]
        .as_str()
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
    {
        file["query_context"] = context;
        file["query_context"]["datasource"]["id"] = Value::Null;
        file["query_context"]["form_data"]["datasource"] = Value::Null;
    }
    // Superset's page writes these when somebody who may opens the dashboard.
    if let Some(metadata) = file["metadata"].as_object_mut() {
        metadata.remove("shared_label_colors");
        metadata.remove("color_scheme_domain");
    }
    let Some(position) = file["position"].as_object_mut() else {
        return file;
    };
    let mut uuids = BTreeMap::new();
    for cell in position.values_mut() {
        let number = cell["meta"]["chartId"].as_u64();
        if let (Some(number), Some(uuid)) = (number, cell["meta"]["uuid"].as_str()) {
            uuids.insert(number, uuid.to_owned());
            cell["meta"]["chartId"] = Value::Null;
        }
    }
    let filters = file["metadata"]["native_filter_configuration"].as_array_mut();
    for filter in filters.into_iter().flatten() {
        let excluded = filter["scope"]["excluded"].as_array().into_iter().flatten();
        // One that the dashboard does not have is no chart of ours.
        let mut excluded: Vec<&String> = excluded
            .filter_map(|number| uuids.get(&number.as_u64()?))
            .collect();
        excluded.sort();
        filter["scope"]["excluded"] = json!(excluded);
    }
    file
}

fn compare(ours: &Value, theirs: Option<&Value>, path: &str, differing: &mut Vec<String>) {
    let theirs = theirs.unwrap_or(&Value::Null);
    let same = match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, value) in ours {
                compare(value, theirs.get(key), &join(path, key), differing);
            }
            return;
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            if let Some(name) = NAMED_BY
                .into_iter()
                .find(|name| ours.iter().all(|item| item.get(name).is_some()) && !ours.is_empty())
            {
                for item in ours {
                    let same = theirs.iter().find(|their| their.get(name) == item.get(name));
                    compare(
                        item,
                        same,
                        &join(path, item[name].as_str().unwrap_or_default()),
                        differing,
                    );
                }
                return;
            }
            if ours.len() == theirs.len() {
                for (index, (our, their)) in ours.iter().zip(theirs).enumerate() {
                    compare(our, Some(their), &join(path, &index.to_string()), differing);
                }
                return;
            }
            false
        }
        (Value::Number(ours), Value::Number(theirs)) => ours.as_f64() == theirs.as_f64(),
        (ours, theirs) => ours == theirs,
    };
    if !same {
        differing.push(path.to_owned());
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
