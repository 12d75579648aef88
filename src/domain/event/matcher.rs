//! An index from event types to subscriptions. A look-up costs no more if more subscriptions do not match.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::event_type::{Pattern, RESERVED};

/// A node of a tenant's prefix tree: a sequence of segments with which patterns begin.
#[derive(Debug)]
struct Node<K> {
    /// By the name of the next segment.
    children: HashMap<Box<str>, Self>,
    /// The next segment is `*`, and others follow.
    any_segment: Option<Box<Self>>,
    /// The subscriptions whose pattern ends with this node.
    ends_here: Vec<K>,
    /// The subscriptions whose pattern ends with `*` after this node.
    any_rest: Vec<K>,
}

/// The current patterns of each subscription, by tenant and segment.
#[derive(Debug)]
pub struct Matcher<K> {
    tenants: HashMap<Arc<str>, Node<K>>,
    patterns: HashMap<K, (Arc<str>, Arc<[Pattern]>)>,
}

impl<K> Default for Matcher<K> {
    fn default() -> Self {
        Self { tenants: HashMap::new(), patterns: HashMap::new() }
    }
}

impl<K> Default for Node<K> {
    fn default() -> Self {
        Self {
            children: HashMap::new(),
            any_segment: None,
            ends_here: Vec::new(),
            any_rest: Vec::new(),
        }
    }
}

impl<K: Copy + Ord + Hash> Matcher<K> {
    /// Adds a subscription, or replaces its patterns.
    pub fn set(&mut self, id: K, tenant: &Arc<str>, patterns: &Arc<[Pattern]>) {
        self.remove(id);
        let root = self.tenants.entry(Arc::clone(tenant)).or_default();
        for pattern in patterns.iter() {
            let list = root.list_for(pattern);
            if !list.contains(&id) {
                list.push(id);
            }
        }
        self.patterns.insert(id, (Arc::clone(tenant), Arc::clone(patterns)));
    }

    pub fn remove(&mut self, id: K) {
        let Some((tenant, patterns)) = self.patterns.remove(&id) else { return };
        let Some(root) = self.tenants.get_mut(&tenant) else { return };
        for pattern in patterns.iter() {
            let segments: Vec<&str> = pattern.as_str().split('.').collect();
            root.remove(&segments, id);
        }
        if root.is_empty() {
            self.tenants.remove(&tenant);
        }
    }

    /// The subscriptions with a pattern for the event type, sorted and each once.
    pub fn matches(&self, tenant: &str, event_type: &str) -> Vec<K> {
        let mut found = Vec::new();
        if let Some(root) = self.tenants.get(tenant) {
            let segments: Vec<&str> = event_type.split('.').collect();
            root.find(&segments, segments.first() != Some(&RESERVED), &mut found);
            found.sort_unstable();
            found.dedup();
        }
        found
    }
}

impl<K: Copy + Ord + Hash> Node<K> {
    /// The subscriptions with this pattern. Adds the missing nodes on the path to it.
    fn list_for(&mut self, pattern: &Pattern) -> &mut Vec<K> {
        let mut node = self;
        let mut segments = pattern.as_str().split('.').peekable();
        while let Some(segment) = segments.next() {
            if segment == "*" && segments.peek().is_none() {
                return &mut node.any_rest;
            }
            node = match segment {
                "*" => node.any_segment.get_or_insert_default(),
                name => node.children.entry(name.into()).or_default(),
            };
        }
        &mut node.ends_here
    }

    /// Removes `id` at the pattern, and then every node that became empty.
    fn remove(&mut self, pattern: &[&str], id: K) {
        match pattern {
            [] => self.ends_here.retain(|one| *one != id),
            ["*"] => self.any_rest.retain(|one| *one != id),
            ["*", rest @ ..] => {
                if let Some(node) = &mut self.any_segment {
                    node.remove(rest, id);
                    if node.is_empty() {
                        self.any_segment = None;
                    }
                }
            }
            [name, rest @ ..] => {
                if let Some(node) = self.children.get_mut(*name) {
                    node.remove(rest, id);
                    if node.is_empty() {
                        self.children.remove(*name);
                    }
                }
            }
        }
    }

    /// Adds to `found` each subscription with a pattern for `segments`, possibly several times. `wildcards`: whether
    /// `*` may match the first segment; false at the start of one of the hub's own types.
    fn find(&self, segments: &[&str], wildcards: bool, found: &mut Vec<K>) {
        let [first, rest @ ..] = segments else {
            found.extend(&self.ends_here);
            return;
        };
        if wildcards {
            found.extend(&self.any_rest);
            if let Some(node) = &self.any_segment {
                node.find(rest, true, found);
            }
        }
        if let Some(node) = self.children.get(*first) {
            node.find(rest, true, found);
        }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.any_segment.is_none()
            && self.ends_here.is_empty()
            && self.any_rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::id::SubscriptionId;

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![Just("a".into()), Just("b".into()), Just("hookhub".into())]
    }

    fn text(star: bool) -> impl Strategy<Value = String> {
        let one = if star {
            prop_oneof![segment(), Just("*".to_owned())].boxed()
        } else {
            segment().boxed()
        };
        prop::collection::vec(one, 1..5).prop_map(|segments| segments.join("."))
    }

    proptest! {
        #[test]
        fn the_index_finds_exactly_the_subscriptions_whose_patterns_match(
            patterns in prop::collection::vec(prop::collection::vec(text(true), 1..4), 1..12),
            removed in prop::collection::vec(any::<bool>(), 12),
            event_type in text(false),
        ) {
            let tenant: Arc<str> = "t".into();
            let mut matcher = Matcher::default();
            let mut expected = Vec::new();
            for ((patterns, removed), id) in patterns.iter().zip(&removed).zip(1..) {
                let id = SubscriptionId::from_stored(id);
                let patterns: Arc<[Pattern]> = patterns.iter().map(|text| text.parse().unwrap()).collect();
                matcher.set(id, &tenant, &["first.*".parse().unwrap()].into());
                matcher.set(id, &tenant, &patterns);
                if *removed {
                    matcher.remove(id);
                } else if patterns.iter().any(|pattern| pattern.matches(&event_type)) {
                    expected.push(id);
                }
            }
            prop_assert_eq!(matcher.matches("t", &event_type), expected);
            prop_assert!(matcher.matches("u", &event_type).is_empty());
        }
    }

    #[test]
    fn a_removed_subscription_leaves_no_nodes() {
        let mut matcher = Matcher::default();
        let id = SubscriptionId::from_stored(1);
        matcher.set(id, &"t".into(), &["a.*.c".parse().unwrap(), "*".parse().unwrap()].into());
        matcher.remove(id);
        assert!(matcher.tenants.is_empty() && matcher.patterns.is_empty());
    }
}
