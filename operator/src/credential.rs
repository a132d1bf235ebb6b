//! The passwords that the operator makes for a feed: made once, kept as long as their Secret is, and renewed when somebody asks by an
//! annotation of the feed, or when they are old enough. Pure, but for the dice.
//!
//! Renewing loses nothing: connections that stand go on with the old password, and the workers are replaced one after the other
//! because their Secret changed, each with what the one before it had acknowledged.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt as _;
use rand::{
    TryRngCore as _,
    distr::{Alphanumeric, SampleString as _},
    rngs::OsRng,
};
use secrecy::SecretString;

use crate::labels::{PASSWORD_MADE, ROTATION};

/// How long generated passwords are: 190 bits.
const LENGTH: usize = 32;

/// A password of ours.
#[derive(Clone)]
pub struct Credential {
    /// The password.
    pub password: SecretString,
    /// When it was made, as far as is known.
    pub made: Timestamp,
    /// What the annotation that asked for it said.
    pub rotation: Option<String>,
    /// Whether it takes the place of another one now, as it was asked or is time.
    pub renewed: bool,
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credential")
            .field("made", &self.made)
            .field("rotation", &self.rotation)
            .field("renewed", &self.renewed)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// From the Secret as it is, or new, or renewed. `asked` is the feed's annotation; `after`: how old a password may become.
    #[must_use]
    pub fn current(
        secret: Option<&Secret>,
        asked: Option<&str>,
        after: Option<Duration>,
        now: Timestamp,
    ) -> Self {
        let existing = secret.and_then(|secret| {
            let ByteString(bytes) = secret.data.as_ref()?.get("password")?;
            let text = String::from_utf8(bytes.clone()).ok()?;
            (!text.is_empty()).then(|| SecretString::from(text))
        });
        let annotation = |key: &str| secret.and_then(|secret| secret.annotations().get(key));
        // As it will be read back. One of an earlier release does not say, and is as old as this look at it.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let made = annotation(PASSWORD_MADE)
            .and_then(|text| text.parse().ok())
            .unwrap_or(now);
        let recorded = annotation(ROTATION).cloned();
        let age = Duration::try_from(now.duration_since(made)).unwrap_or_default();
        let is_asked = asked.is_some() && asked != recorded.as_deref();
        let is_old = after.is_some_and(|after| age >= after);
        match existing {
            Some(password) if !is_asked && !is_old => Self {
                password,
                made,
                rotation: recorded,
                renewed: false,
            },
            existing => Self {
                password: Alphanumeric.sample_string(&mut OsRng.unwrap_err(), LENGTH).into(),
                made: now,
                rotation: asked.map(str::to_owned).or(recorded),
                renewed: existing.is_some(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    const DAY: u64 = 86_400;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + day * 86_400).unwrap()
    }

    /// A Secret whose password was made on day 0, if it says so.
    fn secret(made: bool, rotation: Option<&str>) -> Secret {
        let mut annotations = serde_json::Map::new();
        if made {
            annotations.insert(PASSWORD_MADE.to_owned(), json!(at(0).to_string()));
        }
        if let Some(rotation) = rotation {
            annotations.insert(ROTATION.to_owned(), json!(rotation));
        }
        // "old" in base64.
        serde_json::from_value(
            json!({"metadata": {"annotations": annotations}, "data": {"password": "b2xk"}}),
        )
        .unwrap()
    }

    #[rstest]
    #[case::kept(secret(true, None), None, None, 100, false)]
    #[case::young(secret(true, None), None, Some(30), 29, false)]
    #[case::old(secret(true, None), None, Some(30), 30, true)]
    #[case::of_an_earlier_release(secret(false, None), None, Some(30), 100, false)]
    #[case::asked(secret(true, None), Some("a"), None, 1, true)]
    #[case::asked_and_done(secret(true, Some("a")), Some("a"), None, 1, false)]
    #[case::asked_again(secret(true, Some("a")), Some("b"), None, 1, true)]
    #[case::no_longer_asked(secret(true, Some("a")), None, None, 1, false)]
    fn a_password_is_renewed_when_it_is_asked_or_old(
        #[case] secret: Secret,
        #[case] asked: Option<&str>,
        #[case] after_days: Option<u64>,
        #[case] day: i64,
        #[case] renewed: bool,
    ) {
        let after = after_days.map(|days| Duration::from_secs(days * DAY));
        let credential = Credential::current(Some(&secret), asked, after, at(day));
        assert_eq!(credential.renewed, renewed);
        assert_eq!(credential.password.expose_secret() == "old", !renewed);
        if let (true, Some(asked)) = (renewed, asked) {
            assert_eq!(credential.rotation.as_deref(), Some(asked));
            assert_eq!(credential.made, at(day));
        }
    }

    #[test]
    fn a_first_password_takes_no_other_ones_place() {
        let first = Credential::current(None, Some("a"), None, at(0));
        assert!(!first.renewed && first.rotation.as_deref() == Some("a"));
        assert_eq!(first.password.expose_secret().len(), LENGTH);
        let second = Credential::current(None, None, None, at(0));
        assert_ne!(first.password.expose_secret(), second.password.expose_secret());
    }
}
