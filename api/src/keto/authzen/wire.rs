//! The bodies of the Authorization API. Members that are not known are let be, as the
//! specification wants it.

use cardea_permission::condition::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A subject or resource.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct EntityBody {
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Missing where it is searched for.
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) properties: Map<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ActionBody {
    pub(super) name: String,
}

/// What is evaluated, or what its parts are where it does not say.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct EvaluationBody {
    #[serde(default)]
    pub(super) subject: Option<EntityBody>,
    #[serde(default)]
    pub(super) action: Option<ActionBody>,
    #[serde(default)]
    pub(super) resource: Option<EntityBody>,
    /// What conditions are given.
    #[serde(default)]
    pub(super) context: Option<Context>,
}

impl EvaluationBody {
    /// What conditions are given, if only nothing.
    pub(super) fn given(&self) -> Context {
        self.context.clone().unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct EvaluationsBody {
    #[serde(flatten)]
    pub(super) defaults: EvaluationBody,
    #[serde(default)]
    pub(super) evaluations: Vec<EvaluationBody>,
    #[serde(default)]
    pub(super) options: OptionsBody,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct OptionsBody {
    #[serde(default)]
    pub(super) evaluations_semantic: Semantic,
}

/// When to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Semantic {
    #[default]
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

#[derive(Debug, Serialize)]
pub(super) struct DecisionBody {
    pub(super) decision: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) context: Option<Value>,
}

#[derive(Debug, Serialize)]
pub(super) struct DecisionsBody {
    pub(super) evaluations: Vec<DecisionBody>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SearchBody {
    #[serde(flatten)]
    pub(super) about: EvaluationBody,
    #[serde(default)]
    pub(super) page: PageBody,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct PageBody {
    #[serde(default)]
    pub(super) token: Option<String>,
    #[serde(default)]
    pub(super) limit: u32,
}

/// A page of what was found.
#[derive(Debug, Serialize)]
pub(super) struct ResultsBody<T> {
    pub(super) results: Vec<T>,
    pub(super) page: NextBody,
}

#[derive(Debug, Serialize)]
pub(super) struct NextBody {
    /// Empty on the last page.
    pub(super) next_token: String,
}

#[derive(Debug, Serialize)]
pub(super) struct FoundBody {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) id: String,
}

#[derive(Debug, Serialize)]
pub(super) struct FoundActionBody {
    pub(super) name: String,
}
