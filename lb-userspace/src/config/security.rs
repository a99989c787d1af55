//! Who may begin flows: network security policies.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use serde_spanned::Spanned;

use super::{
    raw::{Named, unique},
    section::{Report, Section, Span},
    value,
};

/// `[[network_security_policy]]`: who may begin flows. The longest prefix that a client is in
/// decides; a client in none may unless `allow` names somebody.
#[derive(Clone, PartialEq, Debug)]
pub struct NetworkSecurityPolicy {
    /// Unique.
    pub name: String,
    /// Who may.
    pub allow: Vec<IpNet>,
    /// Who may not.
    pub deny: Vec<IpNet>,
}

impl NetworkSecurityPolicy {
    /// The longest prefix that a client is in, and whether it is among those allowed.
    pub fn rule(&self, client: IpAddr) -> Option<(IpNet, bool)> {
        let allowed = self.allow.iter().map(|prefix| (*prefix, true));
        let all = allowed.chain(self.deny.iter().map(|prefix| (*prefix, false)));
        let holding = all.filter(|(prefix, _)| prefix.contains(&client));
        holding.max_by_key(|(prefix, _)| prefix.prefix_len())
    }

    /// Whether a client in no prefix may begin flows.
    pub fn allows_others(&self) -> bool {
        self.allow.is_empty()
    }

    /// Whether a client may begin flows.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.rule(client).map_or(self.allows_others(), |(_, allowed)| allowed)
    }
}

/// `[[network_security_policy]]` as it is written.
#[derive(Debug)]
pub(super) struct RawSecurity {
    pub name: Option<Spanned<String>>,
    pub allow: Vec<Spanned<IpNet>>,
    pub deny: Vec<Spanned<IpNet>>,
}

impl Named for RawSecurity {
    fn name(&self) -> Option<&Spanned<String>> {
        self.name.as_ref()
    }
}

pub(super) fn read(mut section: Section<'_>) -> RawSecurity {
    let name = section.required("name", "\"internal\"", value::name);
    let allow = section.list("allow", value::prefix);
    unique(&allow, "allow", section.report());
    let deny = section.list("deny", value::prefix);
    unique(&deny, "deny", section.report());
    if section.is_empty("allow") && section.is_empty("deny") {
        let message = "[[network_security_policy]] has neither `allow` nor `deny`";
        let problem = section.report().at(section.place.clone(), message);
        section.report().add(problem.with_help("such as allow = [\"10.0.0.0/8\"]"));
    }
    section.finish();
    RawSecurity { name, allow, deny }
}

/// Nobody may both be allowed and denied by the same prefix.
pub(super) fn check(policy: &RawSecurity, report: &Report) {
    let allowed: HashMap<IpNet, Span> =
        policy.allow.iter().map(|prefix| (*prefix.get_ref(), prefix.span())).collect();
    for denied in &policy.deny {
        if let Some(place) = allowed.get(denied.get_ref()) {
            let message = format!("{} is both allowed and denied", denied.get_ref());
            let problem = report.at(denied.span(), message);
            let problem = problem.with_related(place.clone(), "allowed here");
            report
                .add(problem.with_help("remove one; of prefixes that differ, the longer decides"));
        }
    }
}

pub(super) fn build(raw: RawSecurity) -> Option<NetworkSecurityPolicy> {
    let prefixes = |list: Vec<Spanned<IpNet>>| list.into_iter().map(Spanned::into_inner).collect();
    Some(NetworkSecurityPolicy {
        name: raw.name?.into_inner(),
        allow: prefixes(raw.allow),
        deny: prefixes(raw.deny),
    })
}
