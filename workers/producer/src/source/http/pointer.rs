//! JSON pointers (RFC 6901) into raw JSON, so that numbers keep their digits. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use anyhow::ensure;
use serde_json::value::RawValue;

/// A JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    segments: Vec<String>,
}

impl Pointer {
    /// Reads a pointer; `field` is where it is configured.
    ///
    /// # Errors
    /// When it is neither empty nor begins with a slash, or a tilde is not followed by 0 or 1.
    pub fn new(field: &str, text: &str) -> anyhow::Result<Self> {
        let pointer = |segments| Self {
            text: text.to_owned(),
            segments,
        };
        if text.is_empty() {
            return Ok(pointer(Vec::new()));
        }
        ensure!(
            text.starts_with('/'),
            "{field} must be a JSON pointer, which begins with a slash: /{text}"
        );
        let escapes = text.split('~').skip(1);
        ensure!(
            escapes.into_iter().all(|rest| rest.starts_with(['0', '1'])),
            "{field} has a tilde that is not written as ~0 (nor a slash, as ~1)"
        );
        let segments = text.split('/').skip(1);
        Ok(pointer(
            segments
                .map(|segment| segment.replace("~1", "/").replace("~0", "~"))
                .collect(),
        ))
    }

    /// The pointer as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The value that it points to, be it null; `None` where there is none.
    ///
    /// # Errors
    /// When the JSON is none on the way.
    pub fn find<'a>(&self, json: &'a RawValue) -> serde_json::Result<Option<&'a RawValue>> {
        let mut value = json;
        for segment in &self.segments {
            match child(value, segment)? {
                Some(child) => value = child,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }
}

fn child<'a>(value: &'a RawValue, segment: &str) -> serde_json::Result<Option<&'a RawValue>> {
    let text = value.get();
    if text.starts_with('{') {
        // Of fields with the same name the last one counts, as it does for most readers.
        let fields: BTreeMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(text)?;
        return Ok(fields.get(segment).copied());
    }
    if text.starts_with('[') {
        let entries: Vec<&'a RawValue> = serde_json::from_str(text)?;
        return Ok(index(segment).and_then(|index| entries.get(index).copied()));
    }
    Ok(None)
}

/// An index as the RFC wants it: digits without leading zeros.
fn index(segment: &str) -> Option<usize> {
    let plain = segment.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = segment.len() > 1 && segment.starts_with('0');
    segment.parse().ok().filter(|_| plain && !leading_zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, pointer: &str) -> Option<String> {
        let json: &RawValue = serde_json::from_str(json).unwrap();
        let pointer = Pointer::new("source.http.price", pointer).unwrap();
        let found = pointer.find(json).unwrap();
        found.map(|value| value.get().to_owned())
    }

    #[test]
    fn the_examples_of_the_rfc() {
        let json =
            r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        for (pointer, expected) in [
            ("", json),
            ("/foo", r#"["bar","baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            (r"/i\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(find(json, pointer).as_deref(), Some(expected), "{pointer}");
        }
    }

    #[test]
    fn what_is_not_there_is_none() {
        let json = r#"{"a":[1,{"b":null}],"1":2,"~1":3}"#;
        for pointer in [
            "/b", "/a/2", "/a/-", "/a/01", "/a/+1", "/a/x", "/a/0/0", "/a/1/b/c", "/1/0", "/a/", "//",
        ] {
            assert_eq!(find(json, pointer), None, "{pointer}");
        }
        assert_eq!(find(json, "/a/1/b").as_deref(), Some("null"));
        assert_eq!(find(json, "/~01").as_deref(), Some("3"), "~01 is ~1 and no slash");
    }

    #[test]
    fn digits_are_kept_and_names_unescaped() {
        let json = r#"[ {"pr\u0069ce" : 1.2345678901234567890123 , "price2": 1e-3} ]"#;
        assert_eq!(
            find(json, "/0/price").as_deref(),
            Some("1.2345678901234567890123")
        );
        assert_eq!(find(json, "/0/price2").as_deref(), Some("1e-3"));
        assert_eq!(find(r#"{"a":1,"a":2}"#, "/a").as_deref(), Some("2"));
    }

    #[test]
    fn a_pointer_must_be_one() {
        for text in ["price", "data/price", "/a~", "/a~2b", "$.price"] {
            let error = Pointer::new("source.http.price", text).unwrap_err().to_string();
            assert!(error.contains("source.http.price"), "{error}");
        }
    }
}
