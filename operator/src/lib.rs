//! The operator: turns a `StockFeed` into everything the feed needs, and keeps it true.
//!
//! One reconciliation is `dereference → validate → build → apply → update status`, one module each:
//!
//! ```text
//!  StockFeed ─► dereference ─► validate ─► build ─► apply ──────────► update_status
//!              reads Secrets   pure        pure     Kubernetes objects   writes status
//!              and workloads                        broker, database     when it changed
//! ```
//!
//! `children` and `secrets` keep what was read; `flow` tells whether data flows.
//! `broker` and `database` own what lies outside the cluster; `cleanup` takes it away again before a feed is gone.
//! `generations` decides which queues a feed has while its number of partitions changes; `rollout` and `drain` tell it when
//! the old ones are done with. `suspension` proves that a suspended feed is at rest; `lifecycle` gives it what was seen.
//! `scaling` decides how many processors there are.
//!
//! Architecture invariant: of the workers' crates this one depends on `contract` and `schema` only, and the data path
//! never passes through it: feeds go on running while the operator does not.

pub mod announce;
pub mod api;
pub mod apply;
pub mod args;
pub mod backoff;
pub mod broker;
pub mod build;
pub mod children;
pub mod cleanup;
pub mod clock;
pub mod connection;
pub mod context;
pub mod controller;
pub mod crd;
pub mod credential;
pub mod dashboards;
pub mod database;
pub mod dereference;
pub mod drain;
pub mod events;
pub mod flow;
pub mod generations;
pub mod http_client;
pub mod isolation;
pub mod kube_client;
pub mod labels;
pub mod leader;
pub mod lifecycle;
pub mod metrics;
pub mod probe;
pub mod quota;
pub mod readiness;
pub mod reconcile;
pub mod release;
pub mod resources;
pub mod rollout;
pub mod scaling;
pub mod scope;
pub mod secrets;
pub mod server;
pub mod source;
pub mod status;
pub mod suspension;
pub mod telemetry;
pub mod token;
pub mod turns;
pub mod update_status;
pub mod validate;
