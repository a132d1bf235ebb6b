//! From the files to what Superset imports: who is who, who refers to whom, and what follows from the rest.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{Bundle, layout, query, template::Set};

/// Superset refuses a file without it.
const VERSION: &str = "1.0.0";

/// Where the files of each kind are in the archive. The folder of datasets needs one below it.
const DATASETS: &str = "datasets/feed/";
const CHARTS: &str = "charts/";

/// What the assembled files know of each other.
pub(crate) struct Known<'a> {
    identity: &'a str,
    /// The datasets' files, by name.
    datasets: BTreeMap<&'a str, &'a Value>,
    /// The charts' files, by name.
    charts: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Known<'a> {
    fn new(set: &'a Set) -> Self {
        let below = |folder: &str| {
            set.files
                .iter()
                .filter_map(|(path, file)| {
                    let name = path.strip_prefix(folder)?.strip_suffix(".yaml")?;
                    Some((name, file))
                })
                .collect()
        };
        Self {
            identity: &set.identity,
            datasets: below("datasets/"),
            charts: below(CHARTS),
        }
    }

    /// The same each time, also after all of Superset's metadata is lost.
    pub(crate) fn uuid(&self, asset: &str) -> String {
        let name = format!("{}/{asset}", self.identity);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
    }

    pub(crate) fn chart_uuid(&self, chart: &str) -> String {
        self.uuid(&format!("charts/{chart}"))
    }

    pub(crate) fn dataset_uuid(&self, dataset: &str) -> String {
        self.uuid(&format!("datasets/{dataset}"))
    }

    pub(crate) fn chart_title(&self, chart: &str) -> &Value {
        self.charts
            .get(chart)
            .map_or(&Value::Null, |file| &file["slice_name"])
    }

    /// Names of all charts. A chart's place in it is the number that it has within the files; Superset gives another.
    pub(crate) fn charts(&self) -> impl Iterator<Item = &'a str> {
        self.charts.keys().copied()
    }

    pub(crate) fn chart_number(&self, chart: &str) -> usize {
        self.charts().take_while(|name| *name != chart).count() + 1
    }

    /// Whether the chart's dataset has the column.
    pub(crate) fn has_column(&self, chart: &str, column: &str) -> bool {
        self.charts
            .get(chart)
            .and_then(|file| self.datasets.get(file["dataset"].as_str()?))
            .and_then(|dataset| dataset["columns"].as_array())
            .is_some_and(|columns| columns.iter().any(|known| known["column_name"] == column))
    }
}

pub(crate) fn assemble(set: &Set) -> Bundle {
    let known = Known::new(set);
    let mut files = BTreeMap::from([(
        "metadata.yaml".to_owned(),
        // Of a bundle; Superset wants a time and does nothing with it.
        json!({"version": VERSION, "type": "assets", "timestamp": "2026-01-01T00:00:00+00:00"}),
    )]);
    let mut database = set.files.get("database.yaml").cloned().unwrap_or_default();
    database["uuid"] = json!(known.uuid("database"));
    files.insert("databases/feed.yaml".to_owned(), database);
    for (name, file) in &known.datasets {
        files.insert(format!("{DATASETS}{name}.yaml"), dataset(&known, set, name, file));
    }
    for (name, file) in &known.charts {
        files.insert(format!("{CHARTS}{name}.yaml"), chart(&known, name, file));
    }
    if let Some(file) = set.files.get("dashboard.yaml") {
        files.insert("dashboards/feed.yaml".to_owned(), layout::dashboard(&known, file));
    }
    Bundle { files }
}

/// A file says what is its own; this is what Superset needs beside that.
fn with_defaults(defaults: Value, file: &Value) -> Value {
    let mut whole = match defaults {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    if let Value::Object(own) = file {
        whole.extend(own.clone());
    }
    Value::Object(whole)
}

fn dataset(known: &Known<'_>, set: &Set, name: &str, file: &Value) -> Value {
    let mut dataset = with_defaults(
        json!({
            "table_name": name,
            "catalog": null,
            "schema": null,
            "sql": null,
            "default_endpoint": null,
            "offset": 0,
            // Superset exports the database's where there is none.
            "cache_timeout": set.files.get("database.yaml").map(|database| &database["cache_timeout"]),
            "params": null,
            "template_params": null,
            "filter_select_enabled": true,
            "fetch_values_predicate": null,
            "extra": null,
            "always_filter_main_dttm": false,
            "normalize_columns": false,
            "uuid": known.dataset_uuid(name),
            "database_uuid": known.uuid("database"),
            "version": VERSION,
        }),
        file,
    );
    complete(
        &mut dataset["columns"],
        &json!({"is_dttm": false, "is_active": true, "groupby": true, "filterable": true,
        "expression": null, "description": null, "python_date_format": null, "advanced_data_type": null, "extra": null}),
    );
    complete(
        &mut dataset["metrics"],
        &json!({"metric_type": null, "description": null, "warning_text": null, "currency": null,
        "extra": null}),
    );
    dataset
}

fn complete(list: &mut Value, defaults: &Value) {
    for item in list.as_array_mut().into_iter().flatten() {
        *item = with_defaults(defaults.clone(), item);
    }
}

fn chart(known: &Known<'_>, name: &str, file: &Value) -> Value {
    let dataset = file["dataset"].as_str().unwrap_or_default();
    let time = known
        .datasets
        .get(dataset)
        .map_or(&Value::Null, |dataset| &dataset["main_dttm_col"]);
    let params = query::with_time_range(&file["params"], time);
    let context = query::context(&params, &file["cache_timeout"]);
    let mut chart = with_defaults(
        json!({
            "certified_by": null,
            "certification_details": null,
            "cache_timeout": null,
            "uuid": known.chart_uuid(name),
            "dataset_uuid": known.dataset_uuid(dataset),
            "version": VERSION,
        }),
        file,
    );
    chart["viz_type"] = params["viz_type"].clone();
    chart["params"] = params;
    chart["query_context"] = json!(context.to_string());
    if let Some(chart) = chart.as_object_mut() {
        chart.remove("dataset");
    }
    chart
}
