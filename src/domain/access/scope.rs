//! Scopes, the permissions of API keys.

use std::fmt;

/// A permission of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    pub const ALL: [Self; 5] =
        [Self::Publish, Self::Subscribe, Self::Read, Self::Stream, Self::Admin];

    /// Returns the scope's name in JSON and SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Read => "read",
            Self::Stream => "stream",
            Self::Admin => "admin",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
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

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// Returns every scope except admin. A new key gets them if its request names no scopes.
    pub fn all_except_admin() -> Self {
        Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect()
    }

    /// Whether a key with these scopes has the permission `scope`. The scope admin includes every permission.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
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
        for scope in Scope::ALL {
            assert_eq!(Scope::from_name(scope.name()), Some(scope));
            let only: Scopes = [scope].into_iter().collect();
            assert_eq!(only.iter().collect::<Vec<_>>(), [scope]);
            for other in Scope::ALL {
                assert_eq!(only.allow(other), scope == other || scope == Scope::Admin);
            }
        }
        assert_eq!(Scope::from_name("everything"), None);
    }

    #[test]
    fn all_lists_every_scope() {
        // A new scope does not compile here until it has a place.
        let next = |scope| match scope {
            Scope::Publish => Some(Scope::Subscribe),
            Scope::Subscribe => Some(Scope::Read),
            Scope::Read => Some(Scope::Stream),
            Scope::Stream => Some(Scope::Admin),
            Scope::Admin => None,
        };
        let every = std::iter::successors(Some(Scope::Publish), |scope| next(*scope));
        assert!(every.eq(Scope::ALL));
    }

    #[test]
    fn a_set_is_displayed_by_its_names() {
        assert_eq!(Scopes::all_except_admin().to_string(), "publish, subscribe, read, stream");
        assert_eq!([].into_iter().collect::<Scopes>().to_string(), "none");
    }
}
