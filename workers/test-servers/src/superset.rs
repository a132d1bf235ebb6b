//! The Superset that all tests share.

use crate::addresses::variable;

/// Where Superset is. What a test makes there it names so that no other test has it, and other tests' things are there too.
#[derive(Clone, Debug)]
pub struct TestSuperset {
    /// Its address, without a slash at the end.
    pub url: String,
    /// The password of `admin` and `stockfeed-operator`, who may do everything; of `viewer`, who has the role `StockFeed viewer`;
    /// and of `analyst`, who has `StockFeed analyst`.
    pub password: String,
}

impl TestSuperset {
    /// Waits until it is ready: it starts beside the other servers, and takes half a minute.
    ///
    /// # Errors
    /// When the environment does not say where it is, or it did not start.
    pub async fn ready() -> anyhow::Result<Self> {
        let superset = Self {
            url: variable("STOCKFEED_TEST_SUPERSET")?,
            password: variable("STOCKFEED_TEST_SUPERSET_PASSWORD")?,
        };
        crate::own::ask_once("superset").await?;
        Ok(superset)
    }
}
