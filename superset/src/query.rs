//! The query that belongs to a chart. Superset's page makes it from the chart's parameters each time; who asks over REST
//! (`GET /api/v1/chart/{id}/data/`) gets the one that is saved with the chart. So it is made here by the same rules.

use serde_json::{Map, Value, json};

/// What a chart shows when neither it nor its dashboard says which range: all of it.
pub(crate) const NO_FILTER: &str = "No filter";

/// Adds the filter on the range of time that a dashboard's own puts its value into. A chart without one ignores that.
pub(crate) fn with_time_range(params: &Value, time: &Value) -> Value {
    let mut params = params.clone();
    let range = json!({
        "clause": "WHERE",
        "expressionType": "SIMPLE",
        "subject": time,
        "operator": "TEMPORAL_RANGE",
        "comparator": NO_FILTER,
    });
    let mut keys = vec!["adhoc_filters"];
    if params["viz_type"] == "mixed_timeseries" {
        keys.push("adhoc_filters_b");
    }
    for key in keys {
        let mut filters = vec![range.clone()];
        filters.extend(list(&params, key));
        params[key] = json!(filters);
    }
    params
}

pub(crate) fn context(params: &Value, cache_timeout: &Value) -> Value {
    let queries = match params["viz_type"].as_str() {
        Some("big_number_total") => vec![big_number(params)],
        Some("histogram_v2") => vec![histogram(params)],
        Some("table") => vec![table(params)],
        Some("treemap_v2") => vec![treemap(params)],
        Some("mixed_timeseries") => vec![series(params), series(&second(params))],
        _ => vec![series(params)],
    };
    let mut context = json!({
        // Superset puts the dataset's number here when it imports.
        "datasource": {"id": 0, "type": "table"},
        "force": false,
        "queries": queries,
        "form_data": params,
        "result_format": "json",
        "result_type": "full",
    });
    // Without it the database's is taken, whatever the chart says.
    if !cache_timeout.is_null() {
        context["custom_cache_timeout"] = cache_timeout.clone();
    }
    context
}

/// The parameters of a mixed chart's second query, called as those of the first.
fn second(params: &Value) -> Value {
    let mut second = Map::new();
    for (key, value) in params.as_object().into_iter().flatten() {
        match key.strip_suffix("_b") {
            Some(key) => second.insert(key.to_owned(), value.clone()),
            None if params.get(format!("{key}_b")).is_some() => None,
            None => second.insert(key.clone(), value.clone()),
        };
    }
    Value::Object(second)
}

fn list(params: &Value, key: &str) -> Vec<Value> {
    params[key].as_array().cloned().unwrap_or_default()
}

/// What every query has.
fn base(params: &Value, columns: &[Value], metrics: Option<&[Value]>) -> Value {
    let filters: Vec<Value> = list(params, "adhoc_filters")
        .iter()
        .map(|filter| {
            let mut query = json!({"col": filter["subject"], "op": filter["operator"]});
            if !filter["comparator"].is_null() {
                query["val"] = filter["comparator"].clone();
            }
            query
        })
        .collect();
    let mut query = json!({
        "filters": filters,
        "extras": {"having": "", "where": ""},
        "applied_time_extras": {},
        "columns": columns,
        "annotation_layers": [],
        "series_limit": 0,
        "order_desc": true,
        "url_params": {},
        "custom_params": {},
        "custom_form_data": {},
    });
    if let Some(metrics) = metrics {
        query["metrics"] = json!(metrics);
    }
    if let Some(limit) = params.get("row_limit") {
        query["row_limit"] = limit.clone();
    }
    query
}

fn big_number(params: &Value) -> Value {
    base(params, &[], Some(&[params["metric"].clone()]))
}

fn histogram(params: &Value) -> Value {
    let groups = list(params, "groupby");
    let mut columns = vec![params["column"].clone()];
    columns.extend(groups.iter().cloned());
    // Without metrics, not with none: the latter would count equal values once.
    let mut query = base(params, &columns, None);
    query["post_processing"] = json!([{
        "operation": "histogram",
        "options": {
            "column": params["column"],
            "groupby": groups,
            "bins": params["bins"],
            "cumulative": params["cumulative"],
            "normalize": params["normalize"],
        },
    }]);
    query
}

fn treemap(params: &Value) -> Value {
    let mut query = base(
        params,
        &list(params, "groupby"),
        Some(&[params["metric"].clone()]),
    );
    query["orderby"] = json!([[params["metric"], false]]);
    query
}

fn table(params: &Value) -> Value {
    if params["query_mode"] == "raw" {
        let mut query = base(params, &list(params, "all_columns"), None);
        let order: Vec<Value> = list(params, "order_by_cols")
            .iter()
            .filter_map(|column| serde_json::from_str(column.as_str()?).ok())
            .collect();
        query["orderby"] = json!(order);
        return query;
    }
    let mut query = base(params, &list(params, "groupby"), Some(&list(params, "metrics")));
    query["orderby"] = json!([[params["timeseries_limit_metric"], params["order_desc"] == false]]);
    query
}

/// A line or bars over an axis.
fn series(params: &Value) -> Value {
    let groups = list(params, "groupby");
    let metrics = list(params, "metrics");
    let axis = &params["x_axis"];
    let grain = params.get("time_grain_sqla").filter(|grain| !grain.is_null());
    let mut base_axis = json!({
        "columnType": "BASE_AXIS",
        "sqlExpression": axis,
        "label": axis,
        "expressionType": "SQL",
    });
    if let Some(grain) = grain {
        base_axis["timeGrain"] = grain.clone();
    }
    let mut columns = vec![base_axis];
    columns.extend(groups.iter().cloned());
    let mut query = base(params, &columns, Some(&metrics));
    if let Some(grain) = grain {
        query["extras"]["time_grain_sqla"] = grain.clone();
    }
    query["series_columns"] = json!(groups);
    let order = params
        .get("timeseries_limit_metric")
        .or_else(|| metrics.first())
        .cloned()
        .unwrap_or_default();
    if let Some(limit) = params.get("limit") {
        query["series_limit"] = limit.clone();
        query["series_limit_metric"] = order.clone();
    }
    query["orderby"] = json!([[order, false]]);

    let aggregates: Map<String, Value> = metrics
        .iter()
        .filter_map(|metric| Some((metric.as_str()?.to_owned(), json!({"operator": "mean"}))))
        .collect();
    let mut processing = vec![json!({
        "operation": "pivot",
        "options": {"index": [axis], "columns": groups, "aggregates": aggregates, "drop_missing_columns": false},
    })];
    // With one metric a series is called after its group alone.
    if let ([metric], false) = (metrics.as_slice(), groups.is_empty()) {
        let mut names = Map::new();
        names.insert(metric.as_str().unwrap_or_default().to_owned(), Value::Null);
        processing
            .push(json!({"operation": "rename", "options": {"columns": names, "level": 0, "inplace": true}}));
    }
    processing.push(json!({"operation": "flatten"}));
    query["post_processing"] = json!(processing);
    query
}
