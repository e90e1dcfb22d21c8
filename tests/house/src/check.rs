//! Compares the graph with the table.

use crate::graph::{Crate, Purpose, Use};
use crate::rule::Rule;

/// Crates of others that any crate may use in its tests.
pub const TEST_TOOLS: [&str; 4] = ["proptest", "loom", "criterion", "serde_json"];

/// Every broken rule, as a text that ends with the sentence of the document.
pub fn check(rules: &[Rule], crates: &[Crate]) -> Vec<String> {
    let mut broken = Vec::new();
    for krate in crates {
        let Some(rule) = rules.iter().find(|rule| rule.is_about(&krate.place)) else {
            broken.push(format!(
                "`{}` has no row in the table \"who may use whom\" of docs/architecture.md: add one",
                krate.place
            ));
            continue;
        };
        broken.extend(krate.uses.iter().filter_map(|used| judge(rules, rule, &krate.place, used)));
    }
    for rule in rules.iter().filter(|rule| !rule.is_reserved) {
        if !crates.iter().any(|krate| rule.is_about(&krate.place)) {
            broken.push(format!("docs/architecture.md has a row for `{}`, and there is no such crate", rule.place));
        }
    }
    broken
}

fn judge(rules: &[Rule], rule: &Rule, user: &str, used: &Use) -> Option<String> {
    let how = if used.purpose == Purpose::Tests { " in its tests" } else { "" };
    let is_allowed = match &used.place {
        None => rule.others.has(&used.name) || (used.purpose == Purpose::Tests && TEST_TOOLS.contains(&&*used.name)),
        Some(place) => {
            // Looked up by directory, so that a crate cannot pass under another name.
            let Some(target) = rules.iter().find(|rule| rule.is_about(place)) else {
                return Some(format!("`{user}` uses `{place}`{how}, which docs/architecture.md does not know"));
            };
            rule.house.has(&target.name)
        }
    };
    if is_allowed {
        return None;
    }
    let name = used.place.as_ref().unwrap_or(&used.name);
    Some(format!("`{user}` uses `{name}`{how}. docs/architecture.md: \"{}\"", rule.sentence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Allowed;

    fn rule(name: &str, place: &str, house: &[&str], others: &[&str], sentence: &str) -> Rule {
        let only = |names: &[&str]| Allowed::Only(names.iter().map(|&name| name.to_owned()).collect());
        let (name, place, sentence) = (name.to_owned(), place.to_owned(), sentence.to_owned());
        Rule { name, place, house: only(house), others: only(others), sentence, is_reserved: false }
    }

    fn rules() -> Vec<Rule> {
        let everything = |name: &str, place: &str, sentence: &str| Rule {
            house: Allowed::Everything,
            others: Allowed::Everything,
            ..rule(name, place, &[], &[], sentence)
        };
        vec![
            rule("wire", "dataplane/wire", &[], &["zerocopy"], "wire knows nobody."),
            rule("frame", "dataplane/frame", &[], &["libc"], "frame knows nobody."),
            rule("gateway", "dataplane/gateway", &["wire", "frame"], &[], "Roles have no I/O."),
            rule("port", "dataplane/port", &["wire", "frame"], &["libc"], "Ports know no role."),
            everything("control", "control", "control puts all together."),
            everything("tests", "tests/*", "Tests see all."),
        ]
    }

    fn uses(name: &str, purpose: Purpose) -> Use {
        let place = rules().iter().find(|rule| rule.name == name).map(|rule| rule.place.clone());
        Use { name: name.to_owned(), place, purpose }
    }

    /// A workspace with all the crates of the rules, in which one uses one more.
    fn with(user: &str, used: &[Use]) -> Vec<Crate> {
        let places =
            ["dataplane/wire", "dataplane/frame", "dataplane/gateway", "dataplane/port", "control", "tests/sim"];
        let uses = |place: &str| if place == user { used.to_vec() } else { Vec::new() };
        places.iter().map(|&place| Crate { place: place.to_owned(), uses: uses(place), roots: Vec::new() }).collect()
    }

    #[test]
    fn what_is_allowed_passes() {
        for (user, used) in [
            ("dataplane/wire", vec![uses("zerocopy", Purpose::Build), uses("proptest", Purpose::Tests)]),
            ("dataplane/gateway", vec![uses("wire", Purpose::Build), uses("frame", Purpose::Tests)]),
            ("dataplane/port", vec![uses("frame", Purpose::Build), uses("libc", Purpose::Build)]),
            ("control", vec![uses("gateway", Purpose::Build), uses("port", Purpose::Build)]),
            ("tests/sim", vec![uses("gateway", Purpose::Build), uses("anything", Purpose::Build)]),
        ] {
            assert_eq!(check(&rules(), &with(user, &used)), Vec::<String>::new(), "{user}");
        }
    }

    #[test]
    fn every_broken_rule_is_said_with_its_sentence() {
        for (user, used, sentence) in [
            // The vocabulary uses nothing of the house.
            ("dataplane/wire", uses("frame", Purpose::Build), "wire knows nobody."),
            ("dataplane/frame", uses("wire", Purpose::Build), "frame knows nobody."),
            // Neither wing knows the other.
            ("dataplane/gateway", uses("port", Purpose::Build), "Roles have no I/O."),
            ("dataplane/port", uses("gateway", Purpose::Build), "Ports know no role."),
            // Nobody uses control, and tests are no exception.
            ("dataplane/port", uses("control", Purpose::Build), "Ports know no role."),
            ("dataplane/gateway", uses("port", Purpose::Tests), "Roles have no I/O."),
            // Crates of others: the protocol has no system calls, and test tools are for tests.
            ("dataplane/gateway", uses("libc", Purpose::Build), "Roles have no I/O."),
            ("dataplane/gateway", uses("proptest", Purpose::Build), "Roles have no I/O."),
            ("dataplane/gateway", uses("libc", Purpose::Tests), "Roles have no I/O."),
        ] {
            let broken = check(&rules(), &with(user, std::slice::from_ref(&used)));
            assert_eq!(broken.len(), 1, "{user} uses {used:?}: {broken:?}");
            assert!(broken[0].contains(user) && broken[0].contains(sentence), "{broken:?}");
        }
    }

    #[test]
    fn a_name_is_no_disguise() {
        let place = Some("dataplane/port".to_owned());
        let used = Use { name: "wire".to_owned(), place, purpose: Purpose::Build };
        assert_eq!(check(&rules(), &with("dataplane/gateway", &[used])).len(), 1);
        let place = Some("elsewhere/wire".to_owned());
        let used = Use { name: "wire".to_owned(), place, purpose: Purpose::Build };
        let broken = check(&rules(), &with("dataplane/gateway", &[used]));
        assert!(broken[0].contains("does not know"), "{broken:?}");
    }

    #[test]
    fn crates_and_rows_belong_together() {
        let mut crates = with("", &[]);
        crates.push(Crate { place: "dataplane/new".to_owned(), uses: Vec::new(), roots: Vec::new() });
        assert!(check(&rules(), &crates)[0].contains("`dataplane/new` has no row"));
        crates.truncate(4);
        let broken = check(&rules(), &crates);
        assert!(broken.len() == 2 && broken[0].contains("no such crate"), "{broken:?}");
    }
}
