//! The FMP simulator's program: arguments, logging, signals; the rest is the library.

use clap::Parser as _;
use fmp_simulator::options::Options;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    service::telemetry::init(&options.log, options.log_format, None)?;
    let token = service::shutdown::token()?;
    fmp_simulator::start(options, token).await?.wait().await
}
