//! Schemas: rules as data tables.

use serde_json::{Value, json};

use super::*;

fn preset() -> IdentitySchema {
    IdentitySchema::parse(SchemaId("default".to_owned()), preset::email()).unwrap()
}

fn schema(traits: Value) -> IdentitySchema {
    parse(traits).unwrap()
}

fn parse(traits: Value) -> Result<IdentitySchema, SchemaRefused> {
    IdentitySchema::parse(
        SchemaId("test".to_owned()),
        json!({"type": "object", "properties": {"traits": traits}}),
    )
}

#[test]
fn preset_finds_identifier_and_addresses() {
    let found =
        preset().check(&json!({"email": "Ann@Example.org", "name": {"first": "Ann"}})).unwrap();
    let address = Address { via: Channel::Email, value: "ann@example.org".to_owned() };
    assert_eq!(
        found,
        Extracted {
            password_identifiers: vec!["ann@example.org".to_owned()],
            code_addresses: vec![address.clone()],
            verifiable: vec![address.clone()],
            recovery: vec![address],
        }
    );
}

#[test]
fn preset_refuses_with_pointer_id_and_parameters() {
    let long = "x".repeat(257);
    let table = [
        (json!({}), "#/traits/email", 4_000_002, json!({"property": "email"})),
        (
            json!({"email": "no"}),
            "#/traits/email",
            4_000_003,
            json!({"min_length": 3, "actual_length": 2}),
        ),
        (json!({"email": "a@b@c"}), "#/traits/email", 4_000_040, json!({"value": "a@b@c"})),
        (
            json!({"email": 7}),
            "#/traits/email",
            4_000_026,
            json!({"allowed_types": ["string"], "actual_type": "integer"}),
        ),
        (
            json!({"email": "a@b.c", "name": {"first": long}}),
            "#/traits/name/first",
            4_000_017,
            json!({"max_length": 256, "actual_length": 257}),
        ),
        (
            json!({"email": "a@b.c", "admin": true}),
            "#/traits",
            4_000_001,
            json!({"reason": "additionalProperties \"admin\" not allowed"}),
        ),
        (
            json!([]),
            "#/traits",
            4_000_026,
            json!({"allowed_types": ["object"], "actual_type": "array"}),
        ),
    ];
    for (traits, pointer, id, context) in table {
        let violations = preset().check(&traits).unwrap_err();
        let found = violations
            .iter()
            .find(|violation| violation.text().id == id)
            .unwrap_or_else(|| panic!("{traits}: {violations:?}"));
        assert_eq!(found.pointer, pointer, "{traits}");
        assert_eq!(Value::Object(found.text().context.unwrap()), context, "{traits}");
    }
}

#[test]
fn every_rule_has_the_message_that_kratos_gives_it() {
    let table = [
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            4_000_004,
            "does not match pattern \"^a+$\"",
        ),
        (json!({"type": "integer", "minimum": 3}), json!(2), 4_000_018, "must be >= 3 but found 2"),
        (
            json!({"type": "integer", "exclusiveMinimum": 3}),
            json!(3),
            4_000_019,
            "must be > 3 but found 3",
        ),
        (json!({"type": "integer", "maximum": 3}), json!(4), 4_000_020, "must be <= 3 but found 4"),
        (
            json!({"type": "integer", "exclusiveMaximum": 3}),
            json!(3),
            4_000_021,
            "must be < 3 but found 3",
        ),
        (json!({"type": "integer", "multipleOf": 3}), json!(4), 4_000_022, "4 not multipleOf 3"),
        (
            json!({"type": "array", "maxItems": 1}),
            json!([1, 2]),
            4_000_023,
            "maximum 1 items allowed, but found 2 items",
        ),
        (
            json!({"type": "array", "minItems": 1}),
            json!([]),
            4_000_024,
            "minimum 1 items allowed, but found 0 items",
        ),
        (
            json!({"type": "array", "uniqueItems": true}),
            json!([1, 2, 1]),
            4_000_025,
            "items at index 0 and 2 are equal",
        ),
        (
            json!({"type": ["string", "null"]}),
            json!(1),
            4_000_026,
            "expected null or string, but got integer",
        ),
        (json!({"const": true}), json!(false), 4_000_029, "must be equal to constant true"),
        (
            json!({"type": "string", "format": "tel"}),
            json!("x"),
            4_000_041,
            "x is not a valid phone number",
        ),
        (json!({"enum": ["a", "b"]}), json!("c"), 4_000_001, "value must be one of \"a\", \"b\""),
    ];
    for (rule, value, id, text) in table {
        let schema = schema(json!({"type": "object", "properties": {"x": rule}}));
        let violations = schema.check(&json!({"x": value})).unwrap_err();
        assert_eq!(violations.len(), 1, "{rule}: {violations:?}");
        assert_eq!(violations[0].pointer, "#/traits/x");
        assert_eq!((violations[0].text().id, violations[0].text().text.as_str()), (id, text));
    }
}

#[test]
fn identifiers_are_found_through_references_arrays_and_branches() {
    let schema = IdentitySchema::parse(
        SchemaId("test".to_owned()),
        json!({
            "definitions": {
                "login": {
                    "type": "string",
                    "ory.sh/kratos": {"credentials": {"password": {"identifier": true}}}
                }
            },
            "properties": {"traits": {
                "type": "object",
                "properties": {
                    "names": {"type": "array", "items": {"$ref": "#/definitions/login"}},
                    "contact": {"oneOf": [
                        {"type": "object", "required": ["user"],
                         "properties": {"user": {"$ref": "#/definitions/login"}}},
                        {"type": "object", "required": ["other"],
                         "properties": {"user": {"type": "string"}, "other": {"type": "string"}}}
                    ]}
                }
            }}
        }),
    )
    .unwrap();
    let found = schema.check(&json!({"names": ["A", " a ", "b"], "contact": {"user": "C"}}));
    assert_eq!(found.unwrap().password_identifiers, ["a", "b", "c"]);
    // The second branch says nothing of identifiers; the first does not hold.
    let found = schema.check(&json!({"contact": {"other": "x"}}));
    assert_eq!(found.unwrap().password_identifiers, [""; 0]);
}

#[test]
fn fields_stand_in_the_order_of_the_schema() {
    let names: Vec<_> =
        preset().fields().iter().map(|field| (field.name.clone(), field.required)).collect();
    assert_eq!(
        names,
        [
            ("traits.email".to_owned(), true),
            ("traits.name.first".to_owned(), false),
            ("traits.name.last".to_owned(), false),
        ]
    );
}

#[test]
fn documents_that_are_no_schema_are_refused() {
    assert!(matches!(
        IdentitySchema::parse(SchemaId(String::new()), json!({})),
        Err(SchemaRefused::NoTraits)
    ));
    let network = parse(json!({"$ref": "http://127.0.0.1:9/schema.json"}));
    assert!(matches!(network, Err(SchemaRefused::Invalid(_))), "{network:?}");
    let file = parse(json!({"properties": {"x": {"$ref": "file:///etc/passwd"}}}));
    assert!(matches!(file, Err(SchemaRefused::Invalid(_))), "{file:?}");
    let typed = parse(json!({"type": "nonsense"}));
    assert!(matches!(typed, Err(SchemaRefused::Invalid(_))), "{typed:?}");
    let keyword = parse(json!({"properties": {"x": {
        "type": "string", "ory.sh/kratos": {"verification": {"via": "pigeon"}}
    }}}));
    assert!(matches!(keyword, Err(SchemaRefused::Keyword { .. })), "{keyword:?}");
    let mut deep = json!({"type": "object"});
    for _ in 0..100 {
        deep = json!({"properties": {"x": deep}});
    }
    assert!(matches!(parse(deep), Err(SchemaRefused::TooDeep)));
    let large = parse(json!({"description": "x".repeat(DOCUMENT_BYTES_MAX)}));
    assert!(matches!(large, Err(SchemaRefused::TooLarge)));
}

#[test]
fn reference_that_returns_to_itself_ends() {
    let schema = IdentitySchema::parse(
        SchemaId("test".to_owned()),
        json!({"properties": {"traits": {
            "type": "object",
            "properties": {"next": {"$ref": "#/properties/traits"}}
        }}}),
    )
    .unwrap();
    assert!(schema.check(&json!({"next": {"next": {}}})).is_ok());
}

#[test]
fn traits_beyond_the_limit_are_refused() {
    let schema = schema(json!({"type": "object"}));
    assert!(schema.check(&json!({"x": "y".repeat(TRAITS_BYTES_MAX)})).is_err());
}

#[test]
fn a_login_calls_its_identifier_as_the_one_trait_that_identifies_is_called() {
    let named = |schema: IdentitySchema| {
        schema.identifying_field().map(|field| (field.name.clone(), field.title.clone()))
    };
    let email = ("traits.email".to_owned(), Some("Email".to_owned()));
    assert_eq!(named(preset()), Some(email));
    let trait_known_by = |credentials: Value| json!({"type": "string", "title": "Handle", "ory.sh/kratos": {"credentials": credentials}});
    let by_password = trait_known_by(json!({"password": {"identifier": true}}));
    let by_nothing = trait_known_by(json!({"password": {"identifier": false}}));
    for (other, is_one) in [(by_password.clone(), false), (by_nothing, true)] {
        let both = json!({"type": "object", "properties": {"handle": by_password, "other": other}});
        assert_eq!(named(schema(both)).is_some(), is_one);
    }
}
