//! What the installation decides about the network of a feed's pods.

use std::{collections::BTreeMap, fmt, str::FromStr};

use clap::ValueEnum;
use snafu::{OptionExt as _, Snafu, ensure};

/// The label that Kubernetes puts on every namespace: its name.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Who may speak with a feed's pods, and with whom they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// The operator's own pods: it asks producers and processors how they are.
    pub operator: Operator,
    /// Labels of the dashboard's pods, which are in the operator's namespace; it asks the same. `None`: there is none.
    pub dashboard: Option<Labels>,
    /// Who else may use the workers' ports.
    pub clients: NetworkClients,
    /// Where names are resolved.
    pub name_servers: NameServers,
}

/// The operator's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Their namespace; `None`: it is not known, and pods with the labels are let in from everywhere.
    pub namespace: Option<String>,
    /// Their labels.
    pub labels: Labels,
}

/// Who may use the workers' ports, beside the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NetworkClients {
    /// Pods of the feed's namespace.
    #[value(name = "SameNamespace")]
    SameNamespace,
    /// Everybody.
    #[value(name = "Any")]
    Any,
    /// Nobody.
    #[value(name = "None")]
    None,
}

/// Where names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameServers {
    /// By whoever listens on the port of DNS: for a cache on the node, or a cluster whose name servers are no pods.
    Any,
    /// By these pods.
    Pods {
        /// Their namespace.
        namespace: String,
        /// Their labels.
        labels: Labels,
    },
}

/// Labels as they are written in options: `key=value`, separated by commas; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(pub BTreeMap<String, String>);

/// Not labels.
#[derive(Debug, PartialEq, Eq, Snafu)]
#[snafu(display("{text:?} is not of the form key=value[,key=value]"))]
pub struct InvalidLabels {
    text: String,
}

/// Not name servers.
#[derive(Debug, PartialEq, Eq, Snafu)]
#[snafu(display("{text:?} is neither Any nor of the form namespace/key=value[,key=value]"))]
pub struct InvalidNameServers {
    text: String,
}

impl FromStr for Labels {
    type Err = InvalidLabels;

    fn from_str(text: &str) -> Result<Self, InvalidLabels> {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
        };
        let pairs = text.split(',').map(pair).collect::<Option<BTreeMap<_, _>>>();
        pairs.map(Self).context(InvalidLabelsSnafu { text })
    }
}

impl FromStr for NameServers {
    type Err = InvalidNameServers;

    fn from_str(text: &str) -> Result<Self, InvalidNameServers> {
        if text == "Any" {
            return Ok(Self::Any);
        }
        // A key of a label may have a slash too, a namespace has none.
        let (namespace, labels) = text.split_once('/').context(InvalidNameServersSnafu { text })?;
        ensure!(!namespace.is_empty(), InvalidNameServersSnafu { text });
        let labels = labels
            .parse()
            .map_err(|_| InvalidNameServersSnafu { text }.build())?;
        Ok(Self::Pods {
            namespace: namespace.to_owned(),
            labels,
        })
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> = self
            .0
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        formatter.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::usual("kube-system/k8s-app=kube-dns", Some(("kube-system", "k8s-app=kube-dns")))]
    #[case::a_key_with_a_slash("openshift-dns/dns.operator.openshift.io/daemonset-dns=default", Some(("openshift-dns", "dns.operator.openshift.io/daemonset-dns=default")))]
    #[case::two_labels("dns/b=2,a=1", Some(("dns", "a=1,b=2")))]
    #[case::no_namespace("k8s-app=kube-dns", None)]
    #[case::empty_namespace("/k8s-app=kube-dns", None)]
    #[case::no_label("kube-system/", None)]
    #[case::no_value("kube-system/k8s-app", None)]
    #[case::no_key("kube-system/=x", None)]
    #[case::a_comma_too_many("kube-system/a=1,", None)]
    fn name_servers(#[case] text: &str, #[case] expected: Option<(&str, &str)>) {
        let parsed = text.parse::<NameServers>().ok();
        let parts = parsed.as_ref().map(|servers| match servers {
            NameServers::Pods { namespace, labels } => (namespace.as_str(), labels.to_string()),
            NameServers::Any => ("", String::new()),
        });
        let expected = expected.map(|(namespace, labels)| (namespace, labels.to_owned()));
        assert_eq!(parts, expected);
    }

    #[test]
    fn any_is_a_word_of_its_own() {
        assert_eq!("Any".parse(), Ok(NameServers::Any));
        let error = "any".parse::<NameServers>().unwrap_err();
        assert!(error.to_string().contains("neither Any nor"), "{error}");
    }
}
