//! A dashboard with everything that it needs, as Superset imports it.

use std::{
    collections::BTreeMap,
    io::{Cursor, Write as _},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zip::{ZipWriter, write::SimpleFileOptions};

/// What Superset shows, and takes, in place of a password.
pub const PASSWORD_MASK: &str = "XXXXXXXXXX";

/// The one folder that everything in the archive is in.
const ROOT: &str = "stockfeed";

/// Assets of Superset: a database with datasets, charts and a dashboard on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// Path in the archive, below its one folder, to content.
    pub files: BTreeMap<String, Value>,
}

impl Bundle {
    /// The archive for `POST /api/v1/assets/import/`, form field `bundle`. The same assets give the same bytes.
    ///
    /// # Errors
    /// When an archive of more than 4 GiB is needed.
    pub fn zip(&self) -> std::io::Result<Vec<u8>> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        // The default has a time where the crate was compiled with a clock.
        let options = SimpleFileOptions::default().last_modified_time(zip::DateTime::default());
        for (path, content) in &self.files {
            archive.start_file(format!("{ROOT}/{path}"), options)?;
            // JSON is YAML.
            archive.write_all(content.to_string().as_bytes())?;
        }
        Ok(archive.finish()?.into_inner())
    }

    /// The form field `passwords` of the import: the database's, by its file. Only a database that Superset does not know yet needs it,
    /// or one whose password is another now.
    #[must_use]
    pub fn passwords(&self, password: &str) -> String {
        let passwords: BTreeMap<&str, &str> = self
            .files
            .keys()
            .filter(|path| path.starts_with("databases/"))
            .map(|path| (path.as_str(), password))
            .collect();
        json!(passwords).to_string()
    }

    /// A SHA-256 of all of it, in hex: another one, and something is to be imported.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut whole = String::new();
        for (path, content) in &self.files {
            whole.push_str(path);
            whole.push('\n');
            whole.push_str(&content.to_string());
            whole.push('\n');
        }
        sha256(&whole)
    }

    /// The UUID of each asset, by its path: `databases/…`, `datasets/…`, `charts/…`, `dashboards/…`.
    #[must_use]
    pub fn uuids(&self) -> BTreeMap<&str, Uuid> {
        self.files
            .iter()
            .filter_map(|(path, content)| Some((path.as_str(), content["uuid"].as_str()?.parse().ok()?)))
            .collect()
    }

    /// The UUIDs of one kind: `databases`, `datasets`, `charts` or `dashboards`.
    #[must_use]
    pub fn uuids_of(&self, kind: &str) -> Vec<Uuid> {
        self.uuids()
            .into_iter()
            .filter(|(path, _)| path.split('/').next() == Some(kind))
            .map(|(_, uuid)| uuid)
            .collect()
    }

    /// The last part of the dashboard's path.
    #[must_use]
    pub fn slug(&self) -> &str {
        self.dashboard()["slug"].as_str().unwrap_or_default()
    }

    /// The dashboard's title.
    #[must_use]
    pub fn title(&self) -> &str {
        self.dashboard()["dashboard_title"].as_str().unwrap_or_default()
    }

    fn dashboard(&self) -> &Value {
        self.files
            .iter()
            .find(|(path, _)| path.starts_with("dashboards/"))
            .map_or(&Value::Null, |(_, content)| content)
    }
}

pub(crate) fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
