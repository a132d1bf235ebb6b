//! A dashboard's grid and its filters, from rows of charts and a list of filters.

use serde_json::{Map, Value, json};

use crate::assemble::Known;

/// Seconds after which an open dashboard asks again. What is in a cache is not older (`cache_timeout` in `database.yaml`).
const REFRESH_SECONDS: u32 = 30;
const ROOT: &str = "ROOT_ID";
const GRID: &str = "GRID_ID";
const TABS: &str = "TABS-all";

pub(crate) fn dashboard(known: &Known<'_>, file: &Value) -> Value {
    let title = &file["dashboard_title"];
    json!({
        "dashboard_title": title,
        "description": file["description"],
        "css": file.get("css").cloned().unwrap_or_else(|| json!("")),
        "slug": file["slug"],
        "certified_by": "",
        "certification_details": "",
        "published": true,
        // Its page then says that changes are made elsewhere.
        "is_managed_externally": true,
        "external_url": null,
        "uuid": known.uuid("dashboard"),
        "position": position(known, file),
        "metadata": {
            "color_scheme": "echarts5Colors",
            "refresh_frequency": REFRESH_SECONDS,
            "timed_refresh_immune_slices": [],
            "expanded_slices": {},
            "label_colors": file["label_colors"],
            "shared_label_colors": [],
            "color_scheme_domain": [],
            "cross_filters_enabled": true,
            "chart_configuration": {},
            "global_chart_configuration": {"scope": {"rootPath": [ROOT], "excluded": []}, "chartsInScope": []},
            "filter_bar_orientation": "VERTICAL",
            "native_filter_configuration": items(file, "filters").map(|item| filter(known, item)).collect::<Vec<_>>(),
        },
        "version": "1.0.0",
    })
}

fn items<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    of[key].as_array().into_iter().flatten()
}

/// A tab for each of `tabs`, or `rows` alone.
fn position(known: &Known<'_>, file: &Value) -> Value {
    let mut position = Map::new();
    position.insert("DASHBOARD_VERSION_KEY".to_owned(), json!("v2"));
    let title = &file["dashboard_title"];
    position.insert(
        "HEADER_ID".to_owned(),
        json!({"id": "HEADER_ID", "type": "HEADER", "meta": {"text": title}}),
    );
    let tabs: Vec<&Value> = items(file, "tabs").collect();
    let rows = place_rows(&mut position, known, file, "ROW", &[ROOT, GRID]);
    position.insert(
        GRID.to_owned(),
        json!({"id": GRID, "type": "GRID", "children": rows, "parents": [ROOT]}),
    );
    if tabs.is_empty() {
        position.insert(
            ROOT.to_owned(),
            json!({"id": ROOT, "type": "ROOT", "children": [GRID]}),
        );
        return Value::Object(position);
    }
    position.insert(
        ROOT.to_owned(),
        json!({"id": ROOT, "type": "ROOT", "children": [TABS]}),
    );
    let mut children = Vec::new();
    for (number, tab) in tabs.iter().enumerate() {
        let id = format!("TAB-{number}");
        let rows = place_rows(
            &mut position,
            known,
            tab,
            &format!("ROW-{number}"),
            &[ROOT, TABS, &id],
        );
        position.insert(
            id.clone(),
            json!({"id": id, "type": "TAB", "children": rows, "parents": [ROOT, TABS], "meta": {"text": tab["title"]}}),
        );
        children.push(id);
    }
    position.insert(
        TABS.to_owned(),
        json!({"id": TABS, "type": "TABS", "children": children, "parents": [ROOT], "meta": {}}),
    );
    Value::Object(position)
}

fn place_rows(
    position: &mut Map<String, Value>,
    known: &Known<'_>,
    of: &Value,
    prefix: &str,
    parents: &[&str],
) -> Vec<String> {
    let mut rows = Vec::new();
    for (number, row) in items(of, "rows").enumerate() {
        let id = format!("{prefix}-{number}");
        let mut above = parents.to_vec();
        above.push(&id);
        let mut children = Vec::new();
        for cell in items(row, "charts") {
            let name = cell["chart"].as_str().unwrap_or_default();
            let chart = format!("CHART-{name}");
            position.insert(
                chart.clone(),
                json!({
                    "id": chart,
                    "type": "CHART",
                    "children": [],
                    "parents": above,
                    "meta": {
                        "chartId": known.chart_number(name),
                        "uuid": known.chart_uuid(name),
                        "sliceName": known.chart_title(name),
                        "width": cell["width"],
                        "height": row["height"],
                    },
                }),
            );
            children.push(chart);
        }
        position.insert(
            id.clone(),
            json!({
                "id": id,
                "type": "ROW",
                "children": children,
                "parents": parents,
                "meta": {"background": "BACKGROUND_TRANSPARENT"},
            }),
        );
        rows.push(id);
    }
    rows
}

fn filter(known: &Known<'_>, file: &Value) -> Value {
    let name = file["name"].as_str().unwrap_or_default();
    let kind = file["kind"].as_str().unwrap_or_default();
    let default = &file["default"];
    let data_mask = match (kind, default.is_null()) {
        ("time", false) => {
            json!({"extraFormData": {"time_range": default}, "filterState": {"value": default}})
        }
        _ => json!({"extraFormData": {}, "filterState": {}}),
    };
    let first = file["first"] == true;
    let mut filter = json!({
        "id": format!("NATIVE_FILTER-{}", name.to_lowercase().replace(' ', "-")),
        "name": name,
        "type": "NATIVE_FILTER",
        "filterType": match kind { "time" => "filter_time", "grain" => "filter_timegrain", _ => "filter_select" },
        "targets": [{}],
        "scope": {"rootPath": [ROOT], "excluded": excluded(known, file)},
        "defaultDataMask": data_mask,
        // One that takes the first value by itself has to have one.
        "controlValues": {"enableEmptyFilter": first},
        "cascadeParentIds": [],
        "description": file.get("description").cloned().unwrap_or_else(|| json!("")),
    });
    if let Some(dataset) = file["dataset"].as_str() {
        filter["targets"][0]["datasetUuid"] = json!(known.dataset_uuid(dataset));
    }
    if kind == "select" {
        filter["targets"][0]["column"] = json!({"name": file["column"]});
        filter["controlValues"] = json!({
            "enableEmptyFilter": first,
            "defaultToFirstItem": first,
            "multiSelect": file["multiple"],
            "searchAllOptions": false,
            "inverseSelection": false,
        });
        // Its charts wait until it has a value.
        filter["requiredFirst"] = json!(first);
    }
    filter
}

/// The charts that a filter leaves alone: those that it names, those that it does not name where it lists its own, and those
/// whose dataset lacks its column.
fn excluded(known: &Known<'_>, file: &Value) -> Vec<usize> {
    let lists = |key: &str, chart: &str| items(file, key).any(|name| name == chart);
    known
        .charts()
        .filter(|chart| {
            lists("excluded", chart)
                || (file["only"].is_array() && !lists("only", chart))
                || file["column"]
                    .as_str()
                    .is_some_and(|column| !known.has_column(chart, column))
        })
        .map(|chart| known.chart_number(chart))
        .collect()
}
