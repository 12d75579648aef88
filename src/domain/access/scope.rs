//! Scopes, the permissions of API keys.

use std::fmt;

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// A permission of an API key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    Publish,
    /// Create, read, change and delete subscriptions, with their deliveries, replays and cursors.
    Subscribe,
    /// Read events, their deliveries, and all attempts.
    Read,
    /// Open streams, create stream tokens, and list connections.
    Stream,
    /// Everything, for every tenant.
    Admin,
}

impl Scope {
    /// Returns the scope's name in JSON and SQL.
    pub fn name(self) -> &'static str {
        self.into()
    }

    fn bit(self) -> u8 {
        match self {
            Self::Publish => 1,
            Self::Subscribe => 2,
            Self::Read => 4,
            Self::Stream => 8,
            Self::Admin => 16,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// Returns every scope except admin. A new key gets them if its request names no scopes.
    pub fn all_except_admin() -> Self {
        Scope::VARIANTS.iter().copied().filter(|scope| *scope != Scope::Admin).collect()
    }

    /// Whether a key with these scopes has the permission `scope`. The scope admin includes every permission.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::VARIANTS.iter().copied().filter(move |scope| self.0 & scope.bit() != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Scope::name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_a_name_and_permits_only_itself() {
        for name in ["publish", "subscribe", "read", "stream", "admin"] {
            let scope: Scope = name.parse().unwrap();
            assert_eq!(scope.name(), name);
            let only: Scopes = [scope].into_iter().collect();
            assert_eq!(only.iter().collect::<Vec<_>>(), [scope]);
            for other in Scope::VARIANTS {
                assert_eq!(only.allow(*other), scope == *other || scope == Scope::Admin);
            }
        }
        assert!("everything".parse::<Scope>().is_err());
    }

    #[test]
    fn a_set_is_displayed_by_its_names() {
        assert_eq!(Scopes::all_except_admin().to_string(), "publish, subscribe, read, stream");
        assert_eq!([].into_iter().collect::<Scopes>().to_string(), "none");
    }
}
