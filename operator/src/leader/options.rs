//! Options of the election. `rbac.md` lists them.

use std::time::Duration;

use clap::ArgAction;

use super::election::{InvalidTerms, Terms};

/// Options of the election.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Work only while a Lease is held, so that several operators may run and one works. Without it there must be one only.
    #[arg(long, env = "STOCKFEED_LEADER_ELECTION", default_value_t = true, action = ArgAction::Set)]
    pub leader_election: bool,

    /// Name of the Lease. Operators of the same name are one installation.
    #[arg(long, env = "STOCKFEED_LEASE_NAME", default_value = "stockfeed-operator")]
    pub lease_name: String,

    /// Namespace of the Lease. The operator's own when it is not given.
    #[arg(long, env = "STOCKFEED_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// What this operator is called in the Lease; a random part is added. The name of its pod is of most use to people.
    #[arg(long, env = "STOCKFEED_LEASE_IDENTITY", default_value = "operator")]
    pub lease_identity: String,

    /// Another operator takes over when the leader has not renewed for this long.
    #[arg(long, env = "STOCKFEED_LEASE_DURATION", default_value = "15s", value_parser = contract::duration::parse)]
    pub lease_duration: Duration,

    /// A leader that could not renew for this long stops. Shorter than the duration.
    #[arg(long, env = "STOCKFEED_LEASE_RENEW_DEADLINE", default_value = "10s", value_parser = contract::duration::parse)]
    pub lease_renew_deadline: Duration,

    /// How often the leader renews, and the others look.
    #[arg(long, env = "STOCKFEED_LEASE_RETRY_PERIOD", default_value = "2s", value_parser = contract::duration::parse)]
    pub lease_retry_period: Duration,
}

/// How to take part in an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidacy {
    /// Name of the Lease.
    pub name: String,
    /// Its namespace; the operator's own when there is none.
    pub namespace: Option<String>,
    /// Who this is. Nobody else's, nor that of the same pod before a restart.
    pub identity: String,
    /// How long it lasts.
    pub terms: Terms,
}

impl Options {
    /// How to take part; `None` when there is no election.
    ///
    /// # Errors
    /// When the times do not fit each other.
    pub fn candidacy(self) -> Result<Option<Candidacy>, InvalidTerms> {
        // Taken apart completely: an option that nobody reads does not compile.
        let Self {
            leader_election,
            lease_name,
            lease_namespace,
            lease_identity,
            lease_duration,
            lease_renew_deadline,
            lease_retry_period,
        } = self;
        if !leader_election {
            return Ok(None);
        }
        Ok(Some(Candidacy {
            name: lease_name,
            namespace: lease_namespace.filter(|namespace| !namespace.is_empty()),
            identity: format!("{lease_identity}_{:08x}", rand::random::<u32>()),
            terms: Terms::new(lease_duration, lease_renew_deadline, lease_retry_period)?,
        }))
    }
}
