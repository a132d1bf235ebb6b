//! What is measured, apart from what is run: processor time, memory, distributions.

pub mod process;
pub mod statistics;
