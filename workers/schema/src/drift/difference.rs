//! What differs, in words.

use std::cmp::Reverse;

use super::fact::{Fact, Key, Kind};

/// How something differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It is expected, and not there.
    Missing,
    /// It is otherwise.
    Changed {
        /// How it begins.
        found: String,
    },
    /// It is there, and not expected.
    Extra,
}

/// Something that is not as the migrations make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How it differs.
    pub how: How,
    /// As it should be; of what is extra, as it is.
    pub(super) fact: Fact,
}

impl Difference {
    pub(super) fn new(fact: &Fact, how: How) -> Self {
        Self {
            how,
            fact: fact.clone(),
        }
    }

    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.fact.kind
    }

    /// Whether rows or values are lost with it.
    #[must_use]
    pub fn loses_data(&self) -> bool {
        self.how == How::Missing && matches!(self.kind(), Kind::Table | Kind::Column)
    }

    /// Whether mending it takes as long as it takes to read a table: [`super::rebuild`] does it.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        let mut statements = self.fact.live.iter().flatten();
        self.kind() == Kind::Index
            || self.how != How::Extra && statements.any(|statement| statement.contains(" CONCURRENTLY "))
    }

    pub(super) fn key(&self) -> Key {
        self.fact.key()
    }

    /// What comes first has to be mended first.
    pub(super) fn order(&self) -> (u8, Reverse<bool>, i64) {
        let group = match self.kind() {
            Kind::Schema => 0,
            // Only an owner may do the rest.
            Kind::Owner => 1,
            Kind::RoleAttribute | Kind::Membership => 2,
            Kind::Table => 3,
            Kind::RowSecurity | Kind::Column | Kind::Default | Kind::NotNull | Kind::Option => 4,
            Kind::Constraint | Kind::Index => 5,
            // Views and functions build upon one another, in the order in which the migrations made them.
            Kind::View | Kind::Function => 6,
            Kind::Grant | Kind::DefaultPrivilege => 7,
        };
        (group, Reverse(self.how == How::Extra), self.fact.place)
    }

    /// In a few words, with "was" or "is".
    #[must_use]
    pub fn say(&self, is: &str) -> String {
        let what = self.what();
        match &self.how {
            How::Missing => format!("{what} {is} missing"),
            How::Extra => match self.kind() {
                Kind::Owner => format!("{what} {is} {}", self.fact.definition),
                _ => format!("{what} {is} not ours"),
            },
            How::Changed { found } => match self.kind() {
                Kind::View | Kind::Function | Kind::RowSecurity => format!("{what} {is} changed"),
                Kind::Grant => format!("{what} {is} {found} only"),
                _ => format!("{what} {is} {found} instead of {}", self.fact.definition),
            },
        }
    }

    fn what(&self) -> String {
        let Fact { object, part, .. } = &self.fact;
        match self.kind() {
            Kind::Schema | Kind::Table | Kind::View | Kind::Function => object.clone(),
            Kind::Owner => format!("the owner of {object}"),
            Kind::RoleAttribute => format!("{part} of {object}"),
            Kind::Membership => format!("{object}'s membership in {part}"),
            Kind::RowSecurity => format!("row security of {object}"),
            Kind::Column => format!("column {part} of {object}"),
            Kind::Default => format!("the default of column {part} of {object}"),
            Kind::NotNull => format!("NOT NULL of column {part} of {object}"),
            Kind::Constraint => format!("constraint {part} of {object}"),
            Kind::Index => format!("index {part} of {object}"),
            Kind::Option => format!("option {part} of {object}"),
            Kind::Grant => format!("the right of {part} on {object}"),
            Kind::DefaultPrivilege => format!("the right of {part}"),
        }
    }

    /// What a person can do where nothing is done by itself.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let make = self.fact.make.as_deref().unwrap_or_default();
        match (self.kind(), &self.how) {
            (Kind::Column, How::Missing) => Some(format!(
                "its values are gone: restore it from a backup, or make it anew without them: {make}"
            )),
            (Kind::Column, How::Changed { .. }) => Some("change it back with ALTER TABLE".to_owned()),
            (Kind::Table, How::Changed { found }) if found.starts_with("unlogged") => {
                Some("it would be emptied by a crash of the server: ALTER TABLE … SET LOGGED".to_owned())
            }
            (Kind::Table, How::Changed { .. }) => Some("put back a table that is as before".to_owned()),
            _ => None,
        }
    }
}
