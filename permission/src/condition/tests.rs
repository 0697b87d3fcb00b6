//! Conditions by table.

use serde_json::json;

use super::*;

const NOON: Timestamp = Timestamp(1_800_014_400_000);

fn condition(expression: &str) -> Condition {
    let parameters = [
        ("now", "timestamp"),
        ("until", "timestamp"),
        ("address", "ipaddress"),
        ("plan", "string"),
        ("plans", "list<string>"),
        ("age", "int"),
        ("grace", "duration"),
        ("admin", "bool"),
    ];
    Condition {
        expression: expression.to_owned(),
        parameters: parameters.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into(),
        context: Context::new(),
    }
}

fn context(json: Json) -> Context {
    json.as_object().unwrap().clone().into_iter().collect()
}

fn missing(names: &[&str]) -> Verdict {
    Verdict::Missing(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn conditions_hold_fail_or_lack_something() {
    let given = context(json!({
        "address": "10.1.2.3", "plan": "pro", "plans": ["pro", "team"], "age": 20,
        "until": "2027-01-15T13:00:00Z", "grace": "1h30m",
    }));
    for (expression, expected) in [
        ("address.in_cidr(\"10.0.0.0/8\")", Verdict::Holds),
        ("address.in_cidr('192.168.0.0/16')", Verdict::Fails),
        ("address.in_cidr('::/0')", Verdict::Fails),
        ("address == ipaddress('10.1.2.3')", Verdict::Holds),
        ("plan in plans && !(plan in ['free'])", Verdict::Holds),
        ("plan in []", Verdict::Fails),
        ("age >= 18 && age < 21 || false", Verdict::Holds),
        ("age + 1 - 2 == 19", Verdict::Holds),
        ("-age < -19", Verdict::Holds),
        ("now < until", Verdict::Holds),
        ("now + grace > until", Verdict::Holds),
        ("until - now == duration('1h')", Verdict::Holds),
        ("now == timestamp('2027-01-15T12:00:00Z')", Verdict::Holds),
        ("now.getHours() == 12 && now.getMinutes() == 0", Verdict::Holds),
        ("now.getDayOfWeek() == 5", Verdict::Holds),
        ("plan.startsWith('p') && plan.endsWith('o') && plan.contains('r')", Verdict::Holds),
        ("size(plans) == 2 && plan.size() == 3", Verdict::Holds),
        ("age > 18 ? plan == 'pro' : admin", Verdict::Holds),
        ("plan + '!' == 'pro!'", Verdict::Holds),
        ("admin", missing(&["admin"])),
        ("!admin", missing(&["admin"])),
        ("admin || age > 18", Verdict::Holds),
        ("age > 18 || admin", Verdict::Holds),
        ("admin && age < 18", Verdict::Fails),
        ("age < 18 && admin", Verdict::Fails),
        ("admin && age > 18", missing(&["admin"])),
    ] {
        assert_eq!(condition(expression).verdict(&given, NOON), expected, "{expression}");
    }
    let nothing = Context::new();
    let both = condition("age > 18 && plan == 'pro'").verdict(&nothing, NOON);
    assert_eq!(both, missing(&["age", "plan"]));
    let overflow = condition("age + 9223372036854775807 > 0").verdict(&given, NOON);
    assert_eq!(overflow, Verdict::Failed("a number is too large".to_owned()));
    assert_eq!(
        condition("admin || age + 9223372036854775807 > 0 || true").verdict(&given, NOON),
        Verdict::Holds
    );
}

/// A socket for both kinds gives addresses of IPv4 in the clothes of IPv6.
#[test]
fn address_is_the_same_in_the_clothes_of_ipv6() {
    for (expression, expected) in [
        ("address == ipaddress('10.1.2.3')", Verdict::Holds),
        ("address != ipaddress('10.1.2.3')", Verdict::Fails),
        ("!(address in [ipaddress('10.1.2.3')])", Verdict::Fails),
        ("address == ipaddress('::ffff:10.1.2.3')", Verdict::Holds),
        ("address.in_cidr('10.0.0.0/8')", Verdict::Holds),
        ("address.in_cidr('::ffff:10.0.0.0/104')", Verdict::Holds),
        ("!address.in_cidr('::ffff:10.1.2.3/128')", Verdict::Fails),
        ("address.in_cidr('::ffff:11.0.0.0/104')", Verdict::Fails),
        ("address.in_cidr('::/0')", Verdict::Fails),
    ] {
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "::ffff:0a01:0203"] {
            let given = context(json!({ "address": address }));
            let found = condition(expression).verdict(&given, NOON);
            assert_eq!(found, expected, "{expression} of {address}");
        }
    }
    let refused = condition("address.in_cidr('::ffff:10.0.0.0/129')").compile().unwrap_err();
    assert!(refused.to_string().contains("is no network"), "{refused}");
}

#[test]
fn request_cannot_give_another_value_than_the_tuple() {
    let mut condition = condition("plan == 'pro'");
    condition.context = context(json!({"plan": "free"}));
    assert_eq!(condition.verdict(&context(json!({"plan": "pro"})), NOON), Verdict::Fails);
}

#[test]
fn value_of_another_kind_is_told_and_grants_nothing() {
    let found = condition("age > 18 || true").verdict(&context(json!({"age": "20"})), NOON);
    assert_eq!(found, Verdict::Failed("age: \"20\" is no int".to_owned()));
    for (name, value) in [
        ("address", json!("10.0.0")),
        ("until", json!("soon")),
        ("grace", json!("1 hour")),
        ("age", json!(1.5)),
        ("plans", json!(["a", 1])),
        ("admin", json!("true")),
    ] {
        let given = Context::from([(name.to_owned(), value)]);
        let found = condition("true").verdict(&given, NOON);
        assert!(matches!(found, Verdict::Failed(_)), "{name}: {found:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    for (expression, told) in [
        ("", "character 1: a value is missing"),
        ("age", "character 1: this is a int, and a bool is wanted"),
        ("age > ", "character 7: a value is missing"),
        ("strange == 1", "character 1: strange is not among the parameters"),
        ("age == plan", "character 1: a int and a string do not go together here"),
        ("age in plans", "character 1: a int and a list<string> do not go together here"),
        ("(true", "character 6: \")\" is missing"),
        ("true true", "character 6: nothing is expected here"),
        ("plan.upper() == 'A'", "character 6: there is no method upper"),
        ("plans.all(p, p == plan)", "character 7: there is no method all"),
        ("address.in_cidr('10.0.0.0')", "character 17: \"10.0.0.0\" is no network such as"),
        ("now < timestamp('tomorrow')", "character 17: \"tomorrow\" is no time of RFC 3339"),
        ("plan == 'a", "character 9: this text has no end"),
        ("plan # plan", "character 6: '#' has no place here"),
        ("true ? 1 : 'a'", "character 12: this is a string, and a int is wanted"),
        ("age > 99999999999999999999", "is no number of 64 bits"),
        ("[[1]] == [[1]]", "lists hold no lists"),
        ("admin < true", "do not go together"),
    ] {
        let refused = condition(expression).compile().unwrap_err().to_string();
        assert!(refused.contains(told), "{expression}: {refused}");
    }
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    assert!(condition(&deep).compile().unwrap_err().to_string().contains("nested"));
    let many = vec!["true"; 150].join("||");
    assert!(condition(&many).compile().unwrap_err().to_string().contains("more than 200 parts"));
    let long = format!("plan == '{}'", "x".repeat(2000));
    assert!(condition(&long).compile().unwrap_err().to_string().contains("at most 1024"));
}

#[test]
fn parameters_and_context_are_checked_with_the_tuple() {
    let mut odd = condition("true");
    odd.parameters.insert("x".to_owned(), "double".to_owned());
    assert!(odd.compile().unwrap_err().to_string().contains("\"double\" is no kind"));
    let mut odd = condition("true");
    odd.parameters.insert("in".to_owned(), "int".to_owned());
    assert!(odd.compile().unwrap_err().to_string().contains("no name of a parameter"));
    let mut odd = condition("true");
    odd.context = context(json!({"who": 1}));
    assert!(odd.compile().unwrap_err().to_string().contains("no parameter"));
    let mut odd = condition("true");
    odd.context = context(json!({"age": "old"}));
    assert!(odd.compile().unwrap_err().to_string().contains("is no int"));
    let mut odd = condition("true");
    odd.context = context(json!({"plan": "x".repeat(CONTEXT_BYTES_MAX)}));
    assert!(odd.compile().unwrap_err().to_string().contains("longer than"));
}
