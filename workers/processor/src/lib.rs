//! The stream processor: partition queues in, ticks and candles out, exactly once.
//!
//! One task a partition queue. Each collects a batch, decodes it ([`decode`]), lets the [`engine`] say what it does to
//! ticks, candles and the watermark, commits that in one transaction ([`store`]), and acknowledges after the commit
//! ([`consumer`]). While one batch commits, the next is received and decoded.
//!
//! Architecture invariant: nothing is acknowledged that is not committed, and every commit names the version of the
//! partition that it began from, so that of two processors that believe a partition to be theirs only one writes.

pub mod api;
pub mod board;
pub mod consumer;
pub mod decode;
mod fault;
pub mod metrics;
pub mod run;
pub mod store;
