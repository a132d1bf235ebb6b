//! The bearer token of a producer's API: made once, replaced every 30 days, or when somebody asks by removing its annotation or its
//! Secret. The one before stays good for a day, so that nobody is cut off.

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

use crate::labels::TOKEN_MADE;

/// How long a token is: 238 bits.
const LENGTH: usize = 40;
/// How long a token is given out.
const LIFE: Duration = Duration::from_secs(30 * 86_400);
/// How much longer it is good.
const OVERLAP: Duration = Duration::from_secs(86_400);

/// The tokens that are good.
#[derive(Clone)]
pub struct ApiToken {
    /// The one to use.
    pub token: SecretString,
    /// The one before, while it is good.
    pub previous: Option<SecretString>,
    /// When the one to use was made.
    pub made: Timestamp,
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ApiToken")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

impl ApiToken {
    /// From the Secret as it is, or new, or renewed.
    #[must_use]
    pub fn current(secret: Option<&Secret>, now: Timestamp) -> Self {
        let read = |key: &str| {
            let ByteString(bytes) = secret?.data.as_ref()?.get(key)?;
            let text = String::from_utf8(bytes.clone()).ok()?;
            (!text.is_empty()).then(|| SecretString::from(text))
        };
        let made: Option<Timestamp> =
            secret.and_then(|secret| secret.annotations().get(TOKEN_MADE)?.parse().ok());
        let age = |made: Timestamp| Duration::try_from(now.duration_since(made)).unwrap_or_default();
        match (read("token"), made) {
            (Some(token), Some(made)) if age(made) < LIFE => Self {
                token,
                previous: read("previous").filter(|_| age(made) < OVERLAP),
                made,
            },
            (previous, _) => Self {
                token: Alphanumeric.sample_string(&mut OsRng.unwrap_err(), LENGTH).into(),
                previous,
                // As it will be read back.
                made: Timestamp::from_second(now.as_second()).unwrap_or(now),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn same(one: &ApiToken, other: &ApiToken) -> bool {
        one.made == other.made && one.token.expose_secret() == other.token.expose_secret()
    }

    fn secret(token: &ApiToken) -> Secret {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, value: &SecretString| {
            data.insert(
                key.to_owned(),
                ByteString(value.expose_secret().as_bytes().to_vec()),
            );
        };
        put("token", &token.token);
        if let Some(previous) = &token.previous {
            put("previous", previous);
        }
        Secret {
            metadata: ObjectMeta {
                annotations: Some([(TOKEN_MADE.to_owned(), token.made.to_string())].into()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..Secret::default()
        }
    }

    #[test]
    fn a_token_is_kept_for_its_life_and_the_one_before_for_a_day_more() {
        let start: Timestamp = "2026-11-25T10:00:00.5Z".parse().unwrap();
        let days = |days: i64| start + jiff::SignedDuration::from_hours(24 * days);
        let first = ApiToken::current(None, start);
        assert_eq!(first.token.expose_secret().len(), LENGTH);
        assert!(first.previous.is_none());
        assert!(same(&ApiToken::current(Some(&secret(&first)), days(29)), &first));
        let second = ApiToken::current(Some(&secret(&first)), days(31));
        assert_ne!(second.token.expose_secret(), first.token.expose_secret());
        let previous = second.previous.as_ref().unwrap();
        assert_eq!(previous.expose_secret(), first.token.expose_secret());
        let later = ApiToken::current(Some(&secret(&second)), days(33));
        assert!(
            same(&later, &second) && later.previous.is_none(),
            "the old one ends"
        );
    }

    #[test]
    fn who_removes_the_annotation_gets_a_new_token_and_keeps_the_old_one_for_a_day() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let first = ApiToken::current(None, now);
        let mut asked = secret(&first);
        asked.metadata.annotations = None;
        let second = ApiToken::current(Some(&asked), now);
        assert_ne!(second.token.expose_secret(), first.token.expose_secret());
        assert_eq!(
            second.previous.unwrap().expose_secret(),
            first.token.expose_secret()
        );
        assert!(!format!("{first:?}").contains(first.token.expose_secret()));
    }
}
