//! Which pages of other origins may call a listener, out of Kratos's configuration. Kratos
//! takes patterns, and all origins unless told otherwise; here each is listed whole.

use serde_json::Value;

use super::config::{Left, at, quoted};
use crate::config::web_origin::WebOrigin;

const PUBLIC: &str = "serve.public.cors";
const ADMIN: &str = "serve.admin.cors";

/// What a configuration says of them.
#[derive(Debug, Default)]
pub(super) struct Translated {
    /// Our `public.cors_origins`, as it is written.
    pub(super) origins: Option<String>,
    pub(super) taken: Vec<String>,
    pub(super) left: Vec<Left>,
}

/// Translates what a configuration says of them.
pub(super) fn translate(kratos: &Value) -> Translated {
    let mut done = Translated { taken: vec![PUBLIC.into(), ADMIN.into()], ..Translated::default() };
    let enabled = |listener| at(kratos, listener).filter(|cors| cors["enabled"] == true);
    if enabled(ADMIN).is_some() {
        done.left.push(Left::new(ADMIN, "the admin listener answers no page"));
    }
    let Some(cors) = enabled(PUBLIC) else { return done };
    let path = format!("{PUBLIC}.allowed_origins");
    let mut origins = Vec::new();
    match cors["allowed_origins"].as_array() {
        Some(listed) => {
            for origin in listed {
                let text = origin.as_str().unwrap_or_default();
                match text.parse::<WebOrigin>() {
                    Ok(origin) => origins.push(quoted(&origin.to_string())),
                    Err(why) => done.left.push(Left::new(&path, why)),
                }
            }
        }
        None => {
            done.left.push(Left::new(&path, "Kratos takes all; list each in public.cors_origins"))
        }
    }
    if cors["allow_credentials"] == false {
        let why = "calls of the origins that are listed come with cookies";
        done.left.push(Left::new(&format!("{PUBLIC}.allow_credentials"), why));
    }
    for settled in ["allowed_methods", "allowed_headers", "exposed_headers", "max_age"] {
        if cors.get(settled).is_some_and(|value| !value.is_null()) {
            let why = "it is what the operations need, whatever the origin";
            done.left.push(Left::new(&format!("{PUBLIC}.{settled}"), why));
        }
    }
    done.origins = (!origins.is_empty()).then(|| format!("[{}]", origins.join(", ")));
    done
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(cors: &Value) -> (Option<String>, Vec<String>) {
        let done = translate(&json!({"serve": {"public": {"cors": cors}}}));
        (done.origins, done.left.into_iter().map(|left| left.setting).collect())
    }

    #[test]
    fn whole_origins_are_carried_and_patterns_are_named() {
        let listed = ["https://app.example.org", "https://*.example.org", "*", "http://a.example"];
        let (origins, left) = of(&json!({"enabled": true, "allowed_origins": listed}));
        assert_eq!(origins.as_deref(), Some(r#"["https://app.example.org"]"#));
        assert_eq!(left, vec![format!("{PUBLIC}.allowed_origins"); 3]);
    }

    #[test]
    fn what_is_off_opens_nothing_and_what_takes_all_opens_nothing_either() {
        let origins = json!({"allowed_origins": ["https://app.example.org"]});
        assert_eq!(of(&origins), (None, vec![]));
        assert_eq!(
            of(&json!({"enabled": false, "allowed_origins": ["https://a.example"]})).0,
            None
        );
        let (origins, left) = of(&json!({"enabled": true, "allow_credentials": false}));
        assert_eq!(origins, None);
        assert_eq!(
            left,
            [format!("{PUBLIC}.allowed_origins"), format!("{PUBLIC}.allow_credentials")]
        );
    }

    #[test]
    fn admin_listener_answers_no_page() {
        let kratos = json!({"serve": {"admin": {"cors": {"enabled": true,
            "allowed_origins": ["https://app.example.org"]}}}});
        let done = translate(&kratos);
        assert_eq!((done.origins, done.left[0].setting.as_str()), (None, ADMIN));
    }
}
