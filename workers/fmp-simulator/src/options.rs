//! Every option of the simulator: a flag, or an environment variable named `SIMULATOR_…`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use contract::symbol::Symbol;
use jiff::civil::Date;
use service::telemetry::LogFormat;

/// Answers as the FMP API's /stable/quote and /stable/batch-quote do, without a key to buy and without the network.
#[derive(Clone, Debug, clap::Parser)]
#[command(version, name = "fmp-simulator")]
pub struct Options {
    /// Where the API listens.
    #[arg(long, env = "SIMULATOR_LISTEN", default_value = "0.0.0.0:8090")]
    pub listen: SocketAddr,
    /// Where faults are ordered and counters are read: /control/faults, /control/state, /control/reset.
    #[arg(long, env = "SIMULATOR_CONTROL_LISTEN", default_value = "0.0.0.0:8091")]
    pub control_listen: SocketAddr,
    /// Where quotes come from.
    #[arg(long, env = "SIMULATOR_SOURCE", value_enum, default_value_t = SourceKind::RandomWalk)]
    pub source: SourceKind,
    /// Random walk: the same seed gives the same quotes at the same times.
    #[arg(long, env = "SIMULATOR_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Random walk: the symbols there are, separated by commas. None given: every symbol that is asked for.
    #[arg(long, env = "SIMULATOR_SYMBOLS", value_delimiter = ',')]
    pub symbols: Vec<Symbol>,
    /// History: a file of daily bars, CSV or gzipped CSV with the columns Ticker, Date, Open, High, Low, Close, Volume.
    /// None given: the bars of AAPL, FB, GOOG, IBM and MSFT from 2000 to 2013 that the program brings along.
    #[arg(long, env = "SIMULATOR_HISTORY", value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// History: the first day to replay.
    #[arg(long, env = "SIMULATOR_FROM", value_name = "DATE")]
    pub from: Option<Date>,
    /// History: the last day to replay.
    #[arg(long, env = "SIMULATOR_TO", value_name = "DATE")]
    pub to: Option<Date>,
    /// History: how it is replayed.
    #[arg(long, env = "SIMULATOR_REPLAY", value_enum, default_value_t = Replay::Time)]
    pub replay: Replay,
    /// History replayed by time: simulated seconds per second.
    #[arg(long, env = "SIMULATOR_SPEED", default_value_t = 60.0, value_parser = speed)]
    pub speed: f64,
    /// A file with the API keys that are accepted, one a line; read anew for each request. None given: any key is.
    #[arg(long, env = "SIMULATOR_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// The plan: its allowances, and whether batch-quote is allowed (not on basic).
    #[arg(long, env = "SIMULATOR_PLAN", value_enum, default_value_t = Plan::Ultimate)]
    pub plan: Plan,
    /// Calls a day (UTC) instead of the plan's; 0 is no limit.
    #[arg(long, env = "SIMULATOR_CALLS_PER_DAY", value_name = "NUMBER")]
    pub calls_per_day: Option<u32>,
    /// Calls in any 60 seconds instead of the plan's; 0 is no limit.
    #[arg(long, env = "SIMULATOR_CALLS_PER_MINUTE", value_name = "NUMBER")]
    pub calls_per_minute: Option<u32>,
    /// Put a Retry-After header of as many seconds on answers over the quota, for example 10s.
    #[arg(long, env = "SIMULATOR_RETRY_AFTER", value_name = "DURATION", value_parser = contract::duration::parse)]
    pub retry_after: Option<Duration>,
    /// What is logged, in tracing's filter syntax, for example `info` or `info,fmp_simulator=debug`.
    #[arg(long, env = "STOCKFEED_LOG", default_value = "info")]
    pub log: String,
    /// How logs are written.
    #[arg(long, env = "STOCKFEED_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

/// Where quotes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceKind {
    /// Seeded, at the time of day.
    RandomWalk,
    /// Daily bars, each as four quotes.
    History,
}

/// How a history is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Replay {
    /// A simulated clock runs; an answer holds the newest quotes up to its time.
    Time,
    /// Each request gives the next quote of each symbol asked for, so that none is missed. For one client.
    Step,
}

/// FMP's published plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plan {
    /// 250 calls a day, no batch-quote.
    Basic,
    /// 300 calls a minute.
    Starter,
    /// 750 calls a minute.
    Premium,
    /// 3,000 calls a minute.
    Ultimate,
}

impl Plan {
    /// Calls a day; `None` is no limit.
    #[must_use]
    pub const fn calls_per_day(self) -> Option<u32> {
        match self {
            Self::Basic => Some(250),
            Self::Starter | Self::Premium | Self::Ultimate => None,
        }
    }

    /// Calls a minute. FMP names none for Basic, where the day's are used up first.
    #[must_use]
    pub const fn calls_per_minute(self) -> Option<u32> {
        match self {
            Self::Basic => None,
            Self::Starter => Some(300),
            Self::Premium => Some(750),
            Self::Ultimate => Some(3_000),
        }
    }

    /// Whether batch-quote is part of it.
    #[must_use]
    pub const fn has_batch(self) -> bool {
        !matches!(self, Self::Basic)
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=1_000_000.0).contains(&speed) {
        Ok(speed)
    } else {
        Err("use 0.001 to 1000000".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
        let options = Options::parse_from([
            "fmp-simulator",
            "--source=history",
            "--from=2012-01-01",
            "--symbols=A,B.C",
            "--retry-after=10s",
        ]);
        assert_eq!(options.from, Some("2012-01-01".parse().unwrap()));
        assert_eq!(options.symbols.len(), 2);
        assert_eq!(options.retry_after, Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_speed_that_stands_still_is_refused() {
        for speed in ["0", "-1", "NaN", "inf", "fast"] {
            let flag = format!("--speed={speed}");
            assert!(
                Options::try_parse_from(["fmp-simulator", &flag]).is_err(),
                "{speed}"
            );
        }
    }
}
