//! The producer between the simulator and a real RabbitMQ.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod api;
mod delivery;
mod live;
mod outage;
mod proxy;
mod support;
mod tls;
