//! Holds JSON against a schema of the OpenAPI description, strictly: a property that is not described is an error, too,
//! and so is a keyword that this checker does not know.

use serde_json::{Map, Value};

/// Says nothing about values.
const ANNOTATIONS: [&str; 1] = ["description"];

pub(crate) struct Checker<'a> {
    pub document: &'a Value,
}

impl Checker<'_> {
    /// What is wrong with `value`, with the path to it.
    pub(crate) fn check(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        self.visit(schema, value, "$", &mut wrong);
        wrong
    }

    /// What a `$ref` of the document points to; anything else is itself.
    pub(crate) fn resolve<'b>(&'b self, schema: &'b Value) -> &'b Value {
        match schema["$ref"].as_str() {
            Some(target) => {
                let pointer = target.strip_prefix('#').expect("references stay in the document");
                self.document.pointer(pointer).unwrap_or_else(|| panic!("{target} points to nothing"))
            }
            None => schema,
        }
    }

    fn visit(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let schema = self.resolve(schema);
        let keywords = schema.as_object().unwrap_or_else(|| panic!("{at}: a schema is an object"));
        if let Some(kinds) = keywords.get("type")
            && !names(kinds).iter().any(|kind| is_of(value, kind))
        {
            wrong.push(format!("{at} is no {kinds}: {value}"));
            return;
        }
        for (keyword, rule) in keywords {
            match keyword.as_str() {
                "type" | "properties" | "required" | "additionalProperties" => {}
                "enum" => {
                    if !rule.as_array().is_some_and(|allowed| allowed.contains(value)) {
                        wrong.push(format!("{at} is none of {rule}: {value}"));
                    }
                }
                "minimum" => {
                    if value.is_number() && value.as_f64() < rule.as_f64() {
                        wrong.push(format!("{at} is below {rule}: {value}"));
                    }
                }
                "minProperties" => {
                    if value.as_object().is_some_and(|value| (value.len() as u64) < rule.as_u64().unwrap()) {
                        wrong.push(format!("{at} has fewer than {rule} properties"));
                    }
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.visit(rule, item, &format!("{at}[{index}]"), wrong);
                    }
                }
                "oneOf" => self.one_of(rule, value, at, wrong),
                other if ANNOTATIONS.contains(&other) => {}
                other => panic!("{at}: the checker does not know the keyword {other}"),
            }
        }
        if let (Some(value), None) = (value.as_object(), keywords.get("oneOf")) {
            self.object(keywords, value, at, wrong);
        }
    }

    fn one_of(&self, rule: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let tries: Vec<Vec<String>> = rule.as_array().unwrap().iter().map(|one| self.check(one, value)).collect();
        if tries.iter().filter(|tried| tried.is_empty()).count() != 1 {
            wrong.push(format!("{at} is not exactly one of its kinds: {tries:?}"));
        }
    }

    fn object(&self, keywords: &Map<String, Value>, value: &Map<String, Value>, at: &str, wrong: &mut Vec<String>) {
        for name in keywords.get("required").map(names).unwrap_or_default() {
            if !value.contains_key(&name) {
                wrong.push(format!("{at} has no {name}"));
            }
        }
        for (name, value) in value {
            let at = format!("{at}.{name}");
            match (keywords.get("properties").and_then(|known| known.get(name)), keywords.get("additionalProperties")) {
                (Some(schema), _) => self.visit(schema, value, &at, wrong),
                (None, Some(Value::Bool(true))) => {}
                (None, Some(schema)) if schema.is_object() => self.visit(schema, value, &at, wrong),
                (None, _) => wrong.push(format!("{at} is not described")),
            }
        }
    }
}

fn names(value: &Value) -> Vec<String> {
    match value {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap().to_owned()).collect(),
        other => panic!("{other} is not a name or list of names"),
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("there is no type {other}"),
    }
}

#[test]
fn the_checker_finds_what_is_wrong() {
    use serde_json::json;
    let document = json!({"components": {"schemas": {"N": {"type": "integer", "minimum": 2}}}});
    let checker = Checker { document: &document };
    let schema = json!({
        "type": "object", "required": ["a"],
        "properties": {
            "a": {"$ref": "#/components/schemas/N"},
            "b": {"type": "array", "items": {"enum": ["x"]}},
            "c": {"oneOf": [{"type": "null"}, {"type": "object", "minProperties": 1,
                "additionalProperties": {"type": "string"}}]},
        },
    });
    for (value, complaint) in [
        (json!({"a": 2, "b": ["x"], "c": null}), None),
        (json!({"a": 2, "c": {"k": "v"}}), None),
        (json!({}), Some("$ has no a")),
        (json!({"a": 1}), Some("$.a is below 2")),
        (json!({"a": 2.5}), Some("$.a is no")),
        (json!({"a": 2, "b": ["y"]}), Some("$.b[0] is none of")),
        (json!({"a": 2, "c": {}}), Some("$.c is not exactly one")),
        (json!({"a": 2, "c": {"k": 1}}), Some("$.c is not exactly one")),
        (json!({"a": 2, "d": 1}), Some("$.d is not described")),
        (json!([]), Some("$ is no")),
    ] {
        let wrong = checker.check(&schema, &value);
        assert_eq!(wrong.is_empty(), complaint.is_none(), "{value}: {wrong:?}");
        if let Some(part) = complaint {
            assert!(wrong[0].contains(part), "{wrong:?}");
        }
    }
}
