//! Checks answers against the schemas of the API's description: as much of JSON Schema as the description uses.

use serde_json::Value;

/// The API's description.
pub(crate) struct Description(Value);

impl Description {
    pub(crate) fn new() -> Description {
        Description(serde_json::from_str(nodes::gateway::pages::OPENAPI).unwrap())
    }

    /// The JSON schema of an answer.
    fn answer(&self, method: &str, path: &str, status: u16) -> &Value {
        let operation = &self.0["paths"][path][method];
        let response = self.follow(&operation["responses"][status.to_string()]);
        let schema = &response["content"]["application/json"]["schema"];
        assert!(!schema.is_null(), "no schema for {method} {path} {status}");
        schema
    }

    fn follow<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.0.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} leads nowhere")),
            None => value,
        }
    }

    /// # Panics
    /// If the answer is not as described.
    pub(crate) fn check(&self, method: &str, path: &str, status: u16, answer: &Value) {
        self.fits(self.answer(method, path, status), answer, &format!("{method} {path} {status}"));
    }

    /// # Panics
    /// If the value does not fit the named schema.
    pub(crate) fn check_schema(&self, name: &str, value: &Value) {
        self.fits(&self.0["components"]["schemas"][name], value, name);
    }

    /// Checks every example in the description against the schema beside it.
    pub(crate) fn check_examples(&self) -> usize {
        self.examples_within(&self.0, "#")
    }

    fn examples_within(&self, value: &Value, at: &str) -> usize {
        let mut checked = 0;
        if let Value::Object(fields) = value {
            if let (Some(schema), Some(example)) = (fields.get("schema"), fields.get("example")) {
                self.fits(schema, example, at);
                checked += 1;
            }
            let named = fields.get("schema").zip(fields.get("examples").and_then(Value::as_object));
            if let Some((schema, examples)) = named {
                examples.values().for_each(|example| self.fits(schema, &example["value"], at));
                checked += examples.len();
            }
            if let (Some(_), Some(Value::Array(examples))) = (fields.get("type"), fields.get("examples")) {
                examples.iter().for_each(|example| self.fits(value, example, at));
                checked += examples.len();
            }
            checked += fields.iter().map(|(name, v)| self.examples_within(v, &format!("{at}/{name}"))).sum::<usize>();
        } else if let Value::Array(values) = value {
            checked += values.iter().map(|v| self.examples_within(v, at)).sum::<usize>();
        }
        checked
    }

    fn fits(&self, schema: &Value, value: &Value, at: &str) {
        let schema = self.follow(schema);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.fits(part, value, at);
        }
        if !schema["type"].is_null() {
            let types: Vec<&str> = match &schema["type"] {
                Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
                one => one.as_str().into_iter().collect(),
            };
            assert!(types.iter().any(|kind| is_a(value, kind)), "{at}: {value} is not {types:?}");
        }
        if !schema["const"].is_null() {
            assert_eq!(value, &schema["const"], "{at}");
        }
        if let Some(values) = schema["enum"].as_array() {
            assert!(values.contains(value), "{at}: {value} is not one of {values:?}");
        }
        if let (Some(number), Some(least)) = (value.as_f64(), schema["minimum"].as_f64()) {
            assert!(number >= least, "{at}: {number} is below {least}");
        }
        if let (Some(number), Some(most)) = (value.as_f64(), schema["maximum"].as_f64()) {
            assert!(number <= most, "{at}: {number} is above {most}");
        }
        if let Value::Object(fields) = value {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(fields.contains_key(name), "{at}: no {name} in {value}");
            }
            for (name, field) in fields {
                let inner = &schema["properties"][name];
                let inner = if inner.is_null() { &schema["additionalProperties"] } else { inner };
                match inner {
                    Value::Bool(false) => panic!("{at}: {name} is not described"),
                    Value::Object(_) => self.fits(inner, field, &format!("{at}.{name}")),
                    _ => {}
                }
            }
        }
        if let (Value::Array(values), Value::Object(_)) = (value, &schema["items"]) {
            values.iter().for_each(|value| self.fits(&schema["items"], value, &format!("{at}[]")));
        }
    }
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("{other} is no type"),
    }
}
