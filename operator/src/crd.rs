//! Renders the `CustomResourceDefinition` from the types of `api`.

use kube::CustomResourceExt as _;
use snafu::{ResultExt, Snafu};

use crate::api::StockFeed;

/// What the committed file begins with.
const HEADER: &str = "\
# The custom resource StockFeed. Generated from operator/src/api.rs; do not edit. To regenerate:
#   cargo run -p operator --bin crdgen > crds/stockfeeds.yaml
";

/// The definition could not be written as YAML.
#[derive(Debug, Snafu)]
#[snafu(display("failed to render the CustomResourceDefinition"))]
pub struct Error {
    source: serde_yaml::Error,
}

/// The file's text.
///
/// # Errors
/// When the definition cannot be written as YAML.
pub fn render() -> Result<String, Error> {
    let yaml = serde_yaml::to_string(&StockFeed::crd()).context(Snafu)?;
    Ok(format!("{HEADER}{yaml}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_definition_is_the_generated_one() {
        let committed = include_str!("../../crds/stockfeeds.yaml");
        assert!(
            committed == super::render().unwrap(),
            "crds/stockfeeds.yaml is out of date: cargo run -p operator --bin crdgen > crds/stockfeeds.yaml"
        );
    }

    #[test]
    fn the_definition_stays_small() {
        // `kubectl apply` keeps a copy in an annotation, which may have 262,144 bytes.
        assert!(super::render().unwrap().len() < 80_000);
    }
}
