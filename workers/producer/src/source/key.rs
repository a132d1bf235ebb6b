//! The API key: read from its file, sent in a header, shown nowhere.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use service::credentials;
use snafu::{ResultExt as _, ensure};

use super::{ReadKeySnafu, SourceError, UnusableKeySnafu};

/// What is shown instead of a key.
const HIDDEN: &str = "[the API key]";

/// An API key that can be sent.
#[derive(Clone, Debug)]
pub struct Key {
    secret: SecretString,
    header: HeaderValue,
}

/// The file with the key. Kubernetes replaces it when the Secret changes.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    key: Option<Key>,
    number: u64,
}

impl Key {
    /// A key.
    ///
    /// # Errors
    /// When it has characters that no header can hold, or nothing but blanks.
    pub fn new(secret: SecretString) -> Result<Self, SourceError> {
        ensure!(!secret.expose_secret().trim().is_empty(), UnusableKeySnafu);
        let mut header =
            HeaderValue::from_str(secret.expose_secret()).map_err(|_| SourceError::UnusableKey)?;
        header.set_sensitive(true);
        Ok(Self { secret, header })
    }

    /// As a header's value, which is marked as a secret.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Whether a text repeats the key.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        text.contains(self.token())
    }

    /// The text without the key.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        text.replace(self.token(), HIDDEN)
    }

    /// What is secret of it: the key without the scheme that may stand before it, as in `Bearer …`. Never empty.
    fn token(&self) -> &str {
        let whole = self.secret.expose_secret().trim();
        whole.rsplit_once(' ').map_or(whole, |(_, token)| token)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.secret.expose_secret() == other.secret.expose_secret()
    }
}

impl KeyFile {
    /// A file that is not read yet: that it is missing is a state, not a reason to end.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            known: Mutex::default(),
        }
    }

    /// The key that is known, or what the file holds.
    ///
    /// # Errors
    /// When no key is known, and the file cannot be read or holds what cannot be sent.
    pub fn key(&self) -> Result<Key, SourceError> {
        let mut known = self.lock();
        match &known.key {
            Some(key) => Ok(key.clone()),
            None => Ok(known.learn(read(&self.path)?)),
        }
    }

    /// Takes over another key that the file may hold by now. A file that cannot be read, because it is being replaced, leaves
    /// the key that is known.
    pub fn refresh(&self) {
        if let Ok(key) = read(&self.path) {
            self.lock().learn(key);
        }
    }

    /// The key of the file, if it is another one than the one that was refused.
    ///
    /// # Errors
    /// When the file cannot be read or holds what cannot be sent.
    pub fn other_than(&self, refused: &Key) -> Result<Option<Key>, SourceError> {
        let key = self.lock().learn(read(&self.path)?);
        Ok(Some(key).filter(|key| key != refused))
    }

    /// The number of the key that is known: 0 for none, then 1, and one more for each other key.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.lock().number
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn learn(&mut self, key: Key) -> Key {
        if self.key.as_ref() != Some(&key) {
            self.number += 1;
            self.key = Some(key.clone());
        }
        key
    }
}

fn read(path: &Path) -> Result<Key, SourceError> {
    Key::new(credentials::secret_file(path).context(ReadKeySnafu)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn neither_the_key_nor_its_token_is_shown() {
        let key = Key::new("Bearer s3cret".into()).unwrap();
        assert_eq!(
            key.redact("no \"Bearer s3cret\", no s3cret"),
            "no \"Bearer [the API key]\", no [the API key]"
        );
        assert!(key.is_in("xs3cretx") && !key.is_in("Bearer"));
        assert!(!format!("{key:?}").contains("s3cret"));
    }

    #[test]
    fn each_other_key_has_a_number_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("apiKey");
        let file = KeyFile::new(path.clone());
        file.refresh();
        assert_eq!(file.number(), 0);
        assert!(matches!(file.key(), Err(SourceError::ReadKey { .. })));
        fs::write(&path, "one\n").unwrap();
        let one = file.key().unwrap();
        assert_eq!((file.number(), file.other_than(&one).unwrap()), (1, None));
        fs::write(&path, "two").unwrap();
        assert_eq!(file.key().unwrap(), one, "not looked at yet");
        file.refresh();
        assert_eq!((file.number(), file.key().unwrap() == one), (2, false));
        fs::remove_file(&path).unwrap();
        file.refresh();
        assert_eq!(file.number(), 2);
        assert!(file.key().is_ok(), "it is being replaced");
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_unusable() {
        for text in ["two\nlines", "a\0", "\u{7f}", " "] {
            assert!(
                matches!(Key::new(text.into()), Err(SourceError::UnusableKey)),
                "{text:?}"
            );
        }
    }
}
