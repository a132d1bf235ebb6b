//! Of every asset: what the rest of it, Superset and the database take for granted.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn connection() -> Connection {
    Connection {
        host: "db.markets.svc".to_owned(),
        port: 5432,
        database: "market".to_owned(),
        user: "markets_tech_reader".to_owned(),
        ssl_mode: None,
        certificate_authority: None,
    }
}

fn of(namespace: &str, name: &str) -> Feed {
    Feed {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        schema: contract::names::FeedName::new(namespace, name).unwrap().schema(),
        calls_per_day: Some(250),
        connection: connection(),
    }
}

fn both() -> [Bundle; 2] {
    let feeds = [of("markets", "tech"), of("a-b", "c")];
    [feed(&feeds[0]), overview(&feeds, &connection())]
}

fn below<'a>(bundle: &'a Bundle, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    bundle
        .files
        .iter()
        .filter(move |(path, _)| path.starts_with(folder))
        .map(|(path, file)| (path.as_str(), file))
}

fn texts<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item[key].as_str())
        .collect()
}

fn dataset_of<'a>(bundle: &'a Bundle, chart: &Value) -> &'a Value {
    below(bundle, "datasets/")
        .find(|(_, dataset)| dataset["uuid"] == chart["dataset_uuid"])
        .map(|(_, dataset)| dataset)
        .expect("every chart has a dataset of its bundle")
}

fn context(chart: &Value) -> Value {
    serde_json::from_str(chart["query_context"].as_str().expect("a text")).expect("JSON")
}

#[test]
fn every_file_is_read_and_no_placeholder_is_left() {
    for bundle in both() {
        assert!(bundle.files.len() > 10);
        for (path, file) in &bundle.files {
            assert!(file.is_object(), "{path}: {file}");
            assert!(!file.to_string().contains("${"), "{path}: {file}");
            assert_eq!(file["version"], "1.0.0", "{path}");
        }
    }
}

#[test]
fn references_lead_to_assets_of_the_same_bundle() {
    for bundle in both() {
        let uuids: BTreeSet<String> = bundle.uuids().values().map(ToString::to_string).collect();
        assert_eq!(
            uuids.len(),
            bundle.files.len() - 1,
            "all but metadata.yaml have one of their own"
        );
        let known = |uuid: &Value| uuids.contains(uuid.as_str().unwrap_or_default());
        for (path, dataset) in below(&bundle, "datasets/") {
            assert!(known(&dataset["database_uuid"]), "{path}");
        }
        for (path, chart) in below(&bundle, "charts/") {
            assert!(known(&chart["dataset_uuid"]), "{path}");
        }
        for (path, dashboard) in below(&bundle, "dashboards/") {
            for filter in dashboard["metadata"]["native_filter_configuration"]
                .as_array()
                .unwrap()
            {
                let target = &filter["targets"][0]["datasetUuid"];
                assert!(
                    filter["filterType"] == "filter_time" || known(target),
                    "{path}: {filter}"
                );
            }
        }
    }
}

#[test]
fn every_chart_is_on_the_dashboard_once_and_rows_are_full() {
    for bundle in both() {
        let (_, dashboard) = below(&bundle, "dashboards/").next().unwrap();
        let position = dashboard["position"].as_object().unwrap();
        let placed: Vec<&str> = position
            .values()
            .filter(|cell| cell["type"] == "CHART")
            .map(|cell| cell["meta"]["uuid"].as_str().unwrap())
            .collect();
        let charts: BTreeSet<&str> = below(&bundle, "charts/")
            .map(|(_, chart)| chart["uuid"].as_str().unwrap())
            .collect();
        assert_eq!(placed.len(), charts.len());
        assert_eq!(placed.into_iter().collect::<BTreeSet<_>>(), charts);
        for cell in position.values() {
            for child in cell["children"].as_array().into_iter().flatten() {
                assert!(position.contains_key(child.as_str().unwrap()), "{child}");
            }
            if cell["type"] == "ROW" {
                let widths: u64 = cell["children"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|child| {
                        position[child.as_str().unwrap()]["meta"]["width"]
                            .as_u64()
                            .unwrap()
                    })
                    .sum();
                assert_eq!(widths, 12, "{cell}");
            }
        }
    }
}

#[test]
fn every_chart_says_what_it_shows_and_has_a_range_of_time() {
    for bundle in both() {
        for (path, chart) in below(&bundle, "charts/") {
            let described = |key: &str| chart[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(described("slice_name") && described("description"), "{path}");
            let time = &dataset_of(&bundle, chart)["main_dttm_col"];
            let range = json!({"col": time, "op": "TEMPORAL_RANGE", "val": "No filter"});
            for query in context(chart)["queries"].as_array().unwrap() {
                assert!(
                    query["filters"].as_array().unwrap().contains(&range),
                    "{path}: {query}"
                );
            }
        }
    }
}

/// Wherever a chart names a column or a metric, by the key of its parameters.
const COLUMNS: [&str; 5] = ["x_axis", "column", "groupby", "groupby_b", "all_columns"];
const METRICS: [&str; 4] = ["metric", "metrics", "metrics_b", "timeseries_limit_metric"];

fn named(params: &Value, keys: &[&str]) -> Vec<String> {
    keys.iter()
        .filter_map(|key| params.get(key))
        .flat_map(|value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]))
        .map(|value| value.as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn charts_use_columns_and_metrics_that_their_dataset_has() {
    for bundle in both() {
        for (path, chart) in below(&bundle, "charts/") {
            let dataset = dataset_of(&bundle, chart);
            let columns = texts(&dataset["columns"], "column_name");
            let metrics = texts(&dataset["metrics"], "metric_name");
            let params = &chart["params"];
            assert_eq!(params["viz_type"], chart["viz_type"], "{path}");
            for column in named(params, &COLUMNS) {
                assert!(columns.contains(&column.as_str()), "{path}: {column}");
            }
            for metric in named(params, &METRICS) {
                assert!(metrics.contains(&metric.as_str()), "{path}: {metric}");
            }
            for filter in params["adhoc_filters"].as_array().unwrap() {
                assert!(
                    columns.contains(&filter["subject"].as_str().unwrap()),
                    "{path}: {filter}"
                );
            }
            for format in params["conditional_formatting"].as_array().into_iter().flatten() {
                let column = format["column"].as_str().unwrap();
                assert!(
                    named(params, &["all_columns", "metrics"])
                        .iter()
                        .any(|shown| shown == column),
                    "{path}: {column}"
                );
            }
        }
    }
}

#[test]
fn the_saved_query_asks_for_what_the_chart_shows() {
    for bundle in both() {
        for (path, chart) in below(&bundle, "charts/") {
            let (params, context) = (&chart["params"], context(chart));
            assert_eq!(context["form_data"], *params, "{path}");
            assert_eq!(
                context.get("custom_cache_timeout").unwrap_or(&Value::Null),
                &chart["cache_timeout"],
                "{path}"
            );
            let queries = context["queries"].as_array().unwrap();
            let asked = |key: &str| -> BTreeSet<String> {
                let all = queries
                    .iter()
                    .flat_map(|query| query[key].as_array().cloned().unwrap_or_default());
                all.map(|item| {
                    item["label"]
                        .as_str()
                        .or(item.as_str())
                        .unwrap_or_default()
                        .to_owned()
                })
                .collect()
            };
            let shown = |keys: &[&str]| named(params, keys).into_iter().collect::<BTreeSet<_>>();
            assert_eq!(asked("columns"), shown(&COLUMNS), "{path}");
            assert_eq!(asked("metrics"), shown(&METRICS[..3]), "{path}");
            for query in queries {
                assert_eq!(
                    query["columns"][0].get("timeGrain").unwrap_or(&Value::Null),
                    params.get("time_grain_sqla").unwrap_or(&Value::Null),
                    "{path}"
                );
            }
        }
    }
}

#[test]
fn axes_have_titles() {
    for bundle in both() {
        for (path, chart) in below(&bundle, "charts/") {
            let kind = chart["viz_type"].as_str().unwrap();
            if kind.contains("timeseries") || kind == "histogram_v2" {
                for axis in ["x_axis_title", "y_axis_title"] {
                    assert!(
                        chart["params"][axis]
                            .as_str()
                            .is_some_and(|title| !title.is_empty()),
                        "{path}: {axis}"
                    );
                }
            }
        }
    }
}

/// A symbol that is not in the data of a chart must not be promised by a filter, and the present must not vanish from a range.
#[test]
fn filters_leave_out_charts_that_they_cannot_filter() {
    let bundle = feed(&of("markets", "tech"));
    let (_, dashboard) = below(&bundle, "dashboards/").next().unwrap();
    let position = dashboard["position"].as_object().unwrap();
    let excluded = |filter: &str| -> BTreeSet<String> {
        let filters = dashboard["metadata"]["native_filter_configuration"]
            .as_array()
            .unwrap();
        let filter = filters.iter().find(|item| item["name"] == filter).unwrap();
        let numbers = filter["scope"]["excluded"].as_array().unwrap();
        position
            .iter()
            .filter(|(_, cell)| numbers.contains(&cell["meta"]["chartId"]))
            .map(|(id, _)| id.trim_start_matches("CHART-").to_owned())
            .collect()
    };
    assert!(excluded("Time range").contains("freshness"));
    assert!(!excluded("Time range").contains("price_trend"));
    for chart in ["calls", "quality", "partitions", "candlesticks"] {
        assert!(excluded("Symbol").contains(chart), "{chart}");
    }
    for chart in ["price_trend", "freshness", "volume"] {
        assert!(!excluded("Symbol").contains(chart), "{chart}");
    }
    assert!(!excluded("Candles of").contains("candlesticks"));
    assert_eq!(
        excluded("Candles of").len(),
        below(&bundle, "charts/").count() - 1
    );
}

#[test]
fn a_password_is_in_no_file() {
    for bundle in both() {
        let password = "correct horse";
        assert_eq!(
            bundle.passwords(password),
            r#"{"databases/feed.yaml":"correct horse"}"#
        );
        for (path, file) in &bundle.files {
            let text = file.to_string();
            assert!(
                !text.contains(password) && !text.contains("\"password\""),
                "{path}"
            );
            assert_eq!(
                text.contains(PASSWORD_MASK),
                path.starts_with("databases/"),
                "{path}"
            );
        }
    }
}

#[test]
fn the_same_feed_gives_the_same_bytes_and_another_quota_others() {
    let feed_ = of("markets", "tech");
    let bundle = feed(&feed_);
    assert_eq!(bundle.zip().unwrap(), feed(&feed_).zip().unwrap());
    assert_eq!(bundle.digest(), feed(&feed_).digest());
    let more = feed(&Feed {
        calls_per_day: None,
        ..feed_
    });
    assert_ne!(bundle.digest(), more.digest());
    assert_eq!(bundle.uuids(), more.uuids());
    let sql = more.files["datasets/feed/calls_history.yaml"]["sql"]
        .as_str()
        .unwrap();
    assert!(sql.contains("CAST(NULL AS bigint)"), "{sql}");
}

#[test]
fn hyphens_do_not_make_two_feeds_share_anything() {
    let (one, two) = (feed(&of("a-b", "c")), feed(&of("a", "b-c")));
    let (ours, theirs) = (one.uuids(), two.uuids());
    let ours: BTreeSet<_> = ours.values().collect();
    assert!(theirs.values().all(|uuid| !ours.contains(uuid)));
    assert_ne!(one.slug(), two.slug());
    assert!(one.slug().starts_with("stockfeed-a-b-c-"), "{}", one.slug());
    assert_eq!(feed(&of("markets", "tech")).slug(), "stockfeed-markets-tech");
    // A feed that is called as the overview is.
    let all = overview(&[], &connection());
    let named_alike = [
        feed(&of("overview", "charts")),
        feed(&of("stockfeed", "overview")),
    ];
    for feed in named_alike {
        assert!(
            all.uuids()
                .values()
                .all(|uuid| !feed.uuids().values().any(|other| other == uuid))
        );
        assert_ne!(all.slug(), feed.slug());
    }
}

#[test]
fn the_overview_asks_each_feed_and_none_when_there_is_none() {
    let feeds = [of("markets", "tech"), of("a-b", "c")];
    let sql = |bundle: &Bundle| {
        bundle.files["datasets/feed/feed_health.yaml"]["sql"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let both = sql(&overview(&feeds, &connection()));
    assert_eq!(both.matches("UNION ALL").count(), 2);
    assert!(
        both.contains("'markets/tech'") && both.contains(&format!("\"{}\".feed_health", feeds[1].schema)),
        "{both}"
    );
    let none = sql(&overview(&[], &connection()));
    assert!(none.ends_with("WHERE false") && !none.contains("UNION"), "{none}");
}

/// What Superset would export after it imported the bundle.
fn exported(bundle: &Bundle) -> Bundle {
    let mut export = bundle.clone();
    for file in export.files.values_mut() {
        if let Some(position) = file["position"].as_object_mut() {
            for cell in position.values_mut() {
                if let Some(number) = cell["meta"]["chartId"].as_u64() {
                    cell["meta"]["chartId"] = json!(number + 100);
                }
            }
            for filter in file["metadata"]["native_filter_configuration"]
                .as_array_mut()
                .unwrap()
            {
                for number in filter["scope"]["excluded"].as_array_mut().unwrap() {
                    *number = json!(number.as_u64().unwrap() + 100);
                }
            }
        }
        if file["metadata"].is_object() {
            file["metadata"]["shared_label_colors"] = json!(["AAPL"]);
        }
        if let Some(context) = file["query_context"].as_str() {
            file["query_context"] = json!(context.replace("\"id\":0", "\"id\":12"));
        }
        file["added_by_superset"] = json!(true);
        // Superset does not say the one, and calls the other by another name.
        let file = file.as_object_mut().unwrap();
        file.remove("is_managed_externally");
        if let Some(value) = file.remove("allow_csv_upload") {
            file.insert("allow_file_upload".to_owned(), value);
        }
    }
    export
}

#[test]
fn what_was_imported_does_not_differ() {
    for bundle in both() {
        assert_eq!(bundle.differences(&bundle.zip().unwrap()).unwrap(), vec![]);
        assert_eq!(
            bundle.differences(&exported(&bundle).zip().unwrap()).unwrap(),
            vec![]
        );
    }
}

#[rstest]
#[case::parameter("charts/price_trend.yaml", "/params/time_grain_sqla", json!("PT1H"), "chart \"Price trend\"", "params.time_grain_sqla")]
#[case::title("charts/price_trend.yaml", "/description", json!("mine"), "chart \"Price trend\"", "description")]
#[case::query("charts/quotes.yaml", "/query_context", json!("{}"), "chart \"Quotes\"", "query_context.")]
#[case::metric("datasets/feed/tick_delays.yaml", "/metrics/1/expression", json!("1"), "dataset \"tick_delays\"", "metrics.longest.expression")]
#[case::column("datasets/feed/tick_delays.yaml", "/columns/0/is_dttm", json!(false), "dataset \"tick_delays\"", "columns.timestamp.is_dttm")]
#[case::sql("datasets/feed/calls_history.yaml", "/sql", json!("SELECT 1"), "dataset \"calls_history\"", "sql")]
#[case::address("databases/feed.yaml", "/sqlalchemy_uri", json!("postgresql://elsewhere"), "database \"markets/tech\"", "sqlalchemy_uri")]
#[case::removed_from_row("dashboards/feed.yaml", "/position/ROW-0-0/children", json!([]), "dashboard \"Market: markets/tech\"", "position.ROW-0-0.children")]
#[case::upload("databases/feed.yaml", "/allow_file_upload", json!(true), "database \"markets/tech\"", "allow_csv_upload")]
#[case::width("dashboards/feed.yaml", "/position/CHART-volume/meta/width", json!(5), "dashboard \"Market: markets/tech\"", "position.CHART-volume.meta.width")]
#[case::filter("dashboards/feed.yaml", "/metadata/native_filter_configuration/1/scope/excluded", json!([]), "dashboard \"Market: markets/tech\"", "metadata.native_filter_configuration.1.scope.excluded")]
#[case::unpublished("dashboards/feed.yaml", "/published", json!(false), "dashboard \"Market: markets/tech\"", "published")]
fn a_change_is_named(
    #[case] path: &str,
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] asset: &str,
    #[case] key: &str,
) {
    let bundle = feed(&of("markets", "tech"));
    let mut export = exported(&bundle);
    *export.files.get_mut(path).unwrap().pointer_mut(pointer).unwrap() = value;
    let differences = bundle.differences(&export.zip().unwrap()).unwrap();
    assert!(!differences.is_empty());
    for difference in &differences {
        assert_eq!(difference.asset, asset);
        assert!(difference.key.starts_with(key), "{difference:?}");
    }
}

#[test]
fn what_is_gone_is_named_and_what_was_added_is_not() {
    let bundle = feed(&of("markets", "tech"));
    let mut export = exported(&bundle);
    export.files.remove("charts/volume.yaml");
    let metrics = &mut export.files.get_mut("datasets/feed/tick_delays.yaml").unwrap()["metrics"];
    metrics
        .as_array_mut()
        .unwrap()
        .push(json!({"metric_name": "mine", "expression": "COUNT(*)"}));
    let differences = bundle.differences(&export.zip().unwrap()).unwrap();
    let gone = Difference {
        asset: "chart \"Volume\"".to_owned(),
        key: String::new(),
    };
    assert_eq!(differences, vec![gone]);
    assert!(bundle.differences(b"no archive").is_err());
}
