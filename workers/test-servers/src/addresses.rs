//! Where a pair of servers is.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// What says where a pair of servers is, by the names of the environment variables that say it of the shared pair.
#[derive(Clone, Debug)]
pub struct Addresses(Source);

#[derive(Clone, Debug)]
enum Source {
    Environment,
    Given(BTreeMap<String, String>),
}

impl Addresses {
    /// Of the pair that all tests share.
    #[must_use]
    pub const fn shared() -> Self {
        Self(Source::Environment)
    }

    pub(crate) const fn given(values: BTreeMap<String, String>) -> Self {
        Self(Source::Given(values))
    }

    pub(crate) fn value(&self, name: &str) -> anyhow::Result<String> {
        match &self.0 {
            Source::Environment => variable(name),
            Source::Given(values) => values
                .get(name)
                .cloned()
                .with_context(|| format!("the servers did not say {name}")),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where the servers are"
)]
pub(crate) fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| {
        format!("{name} is not set: run `cargo xtask servers` and export what it prints, or run `cargo xtask test`")
    })
}
