//! JSON schemas for kubeconform, made of what the API servers themselves publish: so nothing is downloaded, and a field that
//! this version of Kubernetes does not have is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

const REFERENCE: &str = "#/definitions/";

/// Writes the schemas of all kinds that there are.
pub fn write(folder: &Path, swagger: &Value, definitions: &[Value], documents: &[&Value]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let text = |document: &Value, key: &str| document[key].as_str().unwrap_or_default().to_owned();
    let kinds: BTreeSet<_> = documents
        .iter()
        .map(|document| (text(document, "apiVersion"), text(document, "kind")))
        .collect();
    for (api_version, kind) in kinds {
        let schema = of_swagger(swagger, &api_version, &kind)
            .or_else(|| of_definitions(definitions, &api_version, &kind))
            .with_context(|| format!("there is no schema of {api_version} {kind}"))?;
        let path = folder.join(file_name(&api_version, &kind));
        fs::write(&path, schema.to_string())
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// As kubeconform names it.
fn file_name(api_version: &str, kind: &str) -> String {
    let kind = kind.to_lowercase();
    match api_version.split_once('/') {
        Some((group, version)) => {
            let group = group.split('.').next().unwrap_or(group);
            format!("{kind}-{group}-{version}.json")
        }
        None => format!("{kind}-{api_version}.json"),
    }
}

/// A kind of Kubernetes, with everything that it refers to.
fn of_swagger(swagger: &Value, api_version: &str, kind: &str) -> Option<Value> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let wanted = json!({"group": group, "version": version, "kind": kind});
    let all = swagger["definitions"].as_object()?;
    let (root, _) = all.iter().find(|(_, definition)| {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.len() == 1 && kinds[0] == wanted)
    })?;
    let mut definitions = BTreeMap::new();
    let mut open = vec![root.clone()];
    while let Some(name) = open.pop() {
        if definitions.contains_key(&name) {
            continue;
        }
        let mut definition = all.get(&name)?.clone();
        strict(&name, &mut definition);
        references(&definition, &mut open);
        definitions.insert(name, definition);
    }
    Some(json!({"$ref": format!("{REFERENCE}{root}"), "definitions": definitions}))
}

/// A kind of a `CustomResourceDefinition`.
fn of_definitions(definitions: &[Value], api_version: &str, kind: &str) -> Option<Value> {
    let (group, version) = api_version.split_once('/')?;
    let ours = |definition: &&Value| {
        definition["spec"]["group"] == group && definition["spec"]["names"]["kind"] == kind
    };
    let definition = definitions.iter().find(ours)?;
    let versions = definition["spec"]["versions"].as_array()?;
    let version = versions.iter().find(|found| found["name"] == version)?;
    let mut schema = version["schema"]["openAPIV3Schema"].clone();
    let properties = schema["properties"].as_object_mut()?;
    for (name, kind) in [
        ("apiVersion", "string"),
        ("kind", "string"),
        ("metadata", "object"),
    ] {
        properties.entry(name).or_insert_with(|| json!({"type": kind}));
    }
    strict("", &mut schema);
    Some(schema)
}

/// Forbids unknown fields, and lets in what Kubernetes does although its schemas do not say so.
fn strict(name: &str, schema: &mut Value) {
    if name.ends_with(".IntOrString") || name.ends_with(".Quantity") {
        *schema = json!({"type": ["string", "number"]});
        return;
    }
    match schema {
        Value::Object(object) => {
            close(object);
            object.values_mut().for_each(|value| strict("", value));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| strict("", value)),
        _ => {}
    }
}

fn close(object: &mut Map<String, Value>) {
    let open = object.contains_key("additionalProperties")
        || object.contains_key("x-kubernetes-preserve-unknown-fields");
    // A field may itself be called `properties`: then this is no schema.
    let fields = object.get("properties").is_some_and(Value::is_object) && object.contains_key("type");
    if fields && !open {
        object.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str().and_then(|text| text.strip_prefix(REFERENCE)) {
                    Some(name) if key == "$ref" => found.push(name.to_owned()),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_as_kubeconform_looks_for_them() {
        assert_eq!(file_name("v1", "Service"), "service-v1.json");
        assert_eq!(file_name("apps/v1", "Deployment"), "deployment-apps-v1.json");
        assert_eq!(
            file_name("networking.k8s.io/v1", "NetworkPolicy"),
            "networkpolicy-networking-v1.json"
        );
    }

    #[test]
    fn a_schema_holds_what_it_refers_to_and_forbids_the_rest() -> Result<()> {
        let swagger = json!({"definitions": {
            "io.Pod": {
                "type": "object",
                "properties": {"spec": {"$ref": "#/definitions/io.Spec"}},
                "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}],
            },
            "io.Spec": {"type": "object", "properties": {
                "port": {"$ref": "#/definitions/io.IntOrString"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            }},
            "io.IntOrString": {"type": "string", "format": "int-or-string"},
            "io.Other": {"type": "object"},
        }});
        let schema = of_swagger(&swagger, "v1", "Pod").context("no schema")?;
        assert_eq!(schema["$ref"], "#/definitions/io.Pod");
        let definitions = &schema["definitions"];
        assert_eq!(definitions["io.Spec"]["additionalProperties"], false);
        assert_eq!(definitions["io.IntOrString"]["type"], json!(["string", "number"]));
        assert_eq!(
            definitions["io.Spec"]["properties"]["labels"]["additionalProperties"],
            json!({"type": "string"})
        );
        assert!(definitions.get("io.Other").is_none());
        assert!(of_swagger(&swagger, "v2", "Pod").is_none());
        Ok(())
    }

    #[test]
    fn a_custom_resource_has_the_fields_that_every_object_has() -> Result<()> {
        let definition = json!({"spec": {"group": "g.dev", "names": {"kind": "Feed"}, "versions": [
            {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"symbols": {"type": "array"}}},
            }}}},
        ]}});
        let schema = of_definitions(&[definition], "g.dev/v1", "Feed").context("no schema")?;
        assert_eq!(schema["properties"]["metadata"], json!({"type": "object"}));
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["spec"]["additionalProperties"], false);
        Ok(())
    }
}
