//! Runs the operator as a process against a real API server, broker and database, without nodes: what it declares is there, and no
//! pod ever starts. For the benchmark of the operator, and for tests of what needs many feeds.

mod api_server;
mod audit;
mod feeds;
mod operator_process;
mod stand;

pub use api_server::ApiServer;
pub use audit::{Call, calls, wait_for_quiet};
pub use feeds::{create, feed};
pub use operator_process::{OperatorProcess, Usage};
pub use stand::{NAMESPACE, Stand};
