//! Answers as the FMP API's `/stable/quote` and `/stable/batch-quote` do, from a random walk or from a bar history.
//!
//! ```text
//!  :8090  /stable/quote  /stable/batch-quote ──► key ──► fault? ──► quota ──► plan ──► market ──► JSON, Date
//!  :8091  /control/faults  /control/state  /control/reset      (its own port, so that no Service need show it)
//! ```
//!
//! The header `Date` of every answer is the *simulated* time, and a promise: no quote older than it will follow.
//!
//! Architecture invariant: [`market`] and everything below it is pure. Time is an argument, and nothing there knows HTTP.

pub mod api;
pub mod bars;
pub mod control;
pub mod fault;
pub mod history;
pub mod listing;
pub mod market;
pub mod message;
pub mod options;
pub mod quota;
pub mod quote;
pub mod replay;
pub mod state;
pub mod walk;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{fault::Fault, options::Options, state::Report, state::State};

/// How long requests under way may take once the simulator shuts down. A `slow` fault may last longer than anyone waits.
const DRAIN: Duration = Duration::from_secs(3);

/// A simulator that is running. Dropping it ends it.
#[derive(Debug)]
pub struct Simulator {
    api: SocketAddr,
    control: SocketAddr,
    state: Arc<State>,
    servers: JoinSet<anyhow::Result<()>>,
    token: CancellationToken,
}

/// Starts a simulator that serves until the token is cancelled.
///
/// # Errors
/// When the history or the key file cannot be read, or an address cannot be bound.
pub async fn start(options: Options, token: CancellationToken) -> anyhow::Result<Simulator> {
    let api_listener = service::http::bind(options.listen).await?;
    let control_listener = service::http::bind(options.control_listen).await?;
    let api = api_listener
        .local_addr()
        .context("failed to read the API's address")?;
    let control = control_listener
        .local_addr()
        .context("failed to read the control address")?;
    let state = Arc::new(State::new(options, service::clock::now())?);
    let mut servers = JoinSet::new();
    let router = api::router(Arc::clone(&state));
    servers.spawn(service::http::serve(api_listener, router, token.clone()));
    let router = control::router(Arc::clone(&state));
    servers.spawn(service::http::serve(control_listener, router, token.clone()));
    info!(%api, %control, "Simulating the FMP API at http://{api}/stable, control at http://{control}/control");
    Ok(Simulator {
        api,
        control,
        state,
        servers,
        token,
    })
}

impl Simulator {
    /// The URL that `/quote` and `/batch-quote` are appended to.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/stable", self.api)
    }

    /// The URL that `/faults`, `/state` and `/reset` are appended to.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}/control", self.control)
    }

    /// What `POST /control/faults` does.
    pub fn inject(&self, fault: Fault) {
        self.state.inject(fault);
    }

    /// What `DELETE /control/faults` does.
    pub fn clear_faults(&self) {
        self.state.clear_faults();
    }

    /// What `GET /control/state` answers.
    #[must_use]
    pub fn report(&self) -> Report {
        self.state.report(service::clock::now())
    }

    /// Waits until the token is cancelled and the requests under way are answered, or a server fails.
    ///
    /// # Errors
    /// When a server fails.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        loop {
            let drained = async {
                self.token.cancelled().await;
                tokio::time::sleep(DRAIN).await;
            };
            tokio::select! {
                ended = self.servers.join_next() => match ended {
                    Some(result) => result.context("a server panicked")??,
                    None => return Ok(()),
                },
                () = drained => return Ok(()),
            }
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // The tasks themselves are aborted by the `JoinSet`.
        self.token.cancel();
    }
}
