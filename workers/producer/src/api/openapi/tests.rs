use std::collections::BTreeSet;

use super::*;

fn operations(description: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = description["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(|(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

#[test]
fn the_description_says_what_it_is_of() {
    let description = description();
    assert_eq!(description["openapi"], "3.1.0");
    assert_eq!(description["info"]["title"], "StockFeed producer");
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(description["info"]["license"]["identifier"], "Apache-2.0");
    assert_eq!(description["info"]["contact"], Value::Null);
    let bearer = &description["components"]["securitySchemes"]["bearer"];
    assert_eq!(
        (&bearer["type"], &bearer["scheme"]),
        (&json!("http"), &json!("bearer"))
    );
}

#[test]
fn all_operations_are_described_and_those_with_data_need_the_token() {
    let description = description();
    let operations = operations(&description);
    let names: Vec<_> = operations
        .iter()
        .map(|(path, method, operation)| (*path, *method, operation["security"] != Value::Null))
        .collect();
    assert_eq!(
        names,
        [
            ("/", "get", false),
            ("/fetch-data", "post", true),
            ("/fetch-data/{id}", "get", true),
            ("/health", "get", false),
            ("/metrics", "get", false),
            ("/openapi.json", "get", false),
            ("/quota", "get", true),
            ("/ready", "get", false),
            ("/symbols", "get", true),
        ]
    );
    let ids: BTreeSet<&str> = operations
        .iter()
        .map(|(_, _, operation)| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), operations.len(), "each has a name of its own");
}

#[test]
fn every_status_has_a_schema_and_an_example() {
    let description = description();
    for (path, method, operation) in operations(&description) {
        assert!(
            operation["summary"].is_string() && operation["tags"].is_array(),
            "{method} {path}"
        );
        for (status, response) in operation["responses"].as_object().unwrap() {
            let place = format!("{method} {path} {status}");
            let content = response["content"].as_object().unwrap();
            assert_eq!(content.len(), 1, "{place}");
            for (media_type, content) in content {
                let problem = status.starts_with(['4', '5']) && path != "/ready";
                assert_eq!(media_type == problem::MEDIA_TYPE, problem, "{place}");
                assert!(content["schema"].is_object(), "{place}");
                assert!(
                    content["example"] != Value::Null || content["examples"].is_object(),
                    "{place}"
                );
            }
        }
    }
}

#[test]
fn what_an_order_may_answer_is_described() {
    let description = description();
    let responses = &description["paths"]["/fetch-data"]["post"]["responses"];
    let statuses: Vec<_> = responses
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        statuses,
        [
            "200", "202", "400", "401", "408", "413", "415", "422", "429", "502", "503"
        ]
    );
    let unavailable = &responses["503"]["content"][problem::MEDIA_TYPE]["examples"];
    let reasons: Vec<_> = unavailable
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        reasons,
        [
            "Busy",
            "QuotaUnknown",
            "ShuttingDown",
            "SpoolFull",
            "TokenUnreadable"
        ]
    );
    assert!(responses["429"]["headers"]["Retry-After"].is_object());
    assert!(responses["202"]["headers"]["Location"].is_object());
    assert_eq!(responses["202"]["links"]["outcome"]["operationId"], "getFetch");
    let parameters = &description["paths"]["/fetch-data"]["post"]["parameters"];
    assert_eq!(
        (&parameters[0]["name"], &parameters[0]["required"]),
        (&json!("wait"), &json!(false))
    );
}
