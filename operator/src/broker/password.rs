//! RabbitMQ's password hashes: base64 of a salt of four bytes and the SHA-256 of salt and password.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// The broker's name of this algorithm.
pub const ALGORITHM: &str = "rabbit_password_hashing_sha256";
const SALT: usize = 4;

/// A hash to give to the broker, so that the password itself is never sent to the management API.
#[must_use]
pub fn hash(password: &SecretString) -> String {
    encode(rand::random(), password)
}

/// Whether a stored hash is of this password.
#[must_use]
pub fn matches(stored: &str, password: &SecretString) -> bool {
    let Ok(bytes) = BASE64_STANDARD.decode(stored) else {
        return false;
    };
    bytes
        .first_chunk::<SALT>()
        .is_some_and(|salt| encode(*salt, password) == stored)
}

fn encode(salt: [u8; SALT], password: &SecretString) -> String {
    let digest = Sha256::new()
        .chain_update(salt)
        .chain_update(password.expose_secret())
        .finalize();
    BASE64_STANDARD.encode([salt.as_slice(), &digest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_rabbitmq_documents() {
        // The worked example of https://www.rabbitmq.com/docs/passwords
        let stored = encode([0x90, 0x8D, 0xC6, 0x0A], &"test12".into());
        assert_eq!(stored, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
    }

    #[test]
    fn a_hash_matches_its_password_only() {
        let password = SecretString::from("correct horse");
        let stored = hash(&password);
        assert!(matches(&stored, &password));
        assert!(!matches(&stored, &"battery staple".into()));
        assert!(!matches("", &password) && !matches("%", &password) && !matches("AA==", &password));
    }
}
