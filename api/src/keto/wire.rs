//! The bodies of Keto's API.

use std::collections::BTreeMap;

use cardea_identity::time::rfc3339;
use cardea_permission::{
    Condition, Context, Relationship, Subject, SubjectSet, Tuple,
    expand::{Tree, TreeKind},
    explain::{Explanation, Says, Step},
    opl::SourceError,
};
use serde::{Deserialize, Serialize};

/// `subjectSet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectSetBody {
    /// The namespace.
    pub namespace: String,
    /// The object.
    pub object: String,
    /// The relation.
    pub relation: String,
}

/// `relationship`, and everything that looks like it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationshipBody {
    /// The namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The object.
    #[serde(default)]
    pub object: Option<String>,
    /// The relation.
    #[serde(default)]
    pub relation: Option<String>,
    /// The subject, if it is an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_id: Option<String>,
    /// The subject, if it is a subject set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_set: Option<SubjectSetBody>,
    /// Dropped by Keto long ago; told when it is used.
    #[serde(default, skip_serializing)]
    pub subject: Option<serde_json::Value>,
    /// When the tuple ceases to be there (RFC 3339); not in Keto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Where alone the tuple is there; not in Keto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<ConditionBody>,
    /// What a check gives to conditions; not in Keto.
    #[serde(default, skip_serializing)]
    pub context: Option<Context>,
}

/// A condition on a tuple.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionBody {
    /// What must be true.
    pub expression: String,
    /// The kinds of the names in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Values that are fixed with the tuple.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: Context,
}

impl From<ConditionBody> for Condition {
    fn from(body: ConditionBody) -> Self {
        let ConditionBody { expression, parameters, context } = body;
        Self { expression, parameters, context }
    }
}

impl From<&Condition> for ConditionBody {
    fn from(condition: &Condition) -> Self {
        let Condition { expression, parameters, context } = condition.clone();
        Self { expression, parameters, context }
    }
}

impl From<SubjectSetBody> for SubjectSet {
    fn from(body: SubjectSetBody) -> Self {
        Self { namespace: body.namespace, object: body.object, relation: body.relation }
    }
}

impl From<&SubjectSet> for SubjectSetBody {
    fn from(set: &SubjectSet) -> Self {
        Self {
            namespace: set.namespace.clone(),
            object: set.object.clone(),
            relation: set.relation.clone(),
        }
    }
}

impl From<&Tuple> for RelationshipBody {
    fn from(tuple: &Tuple) -> Self {
        Self {
            namespace: Some(tuple.namespace.clone()),
            object: Some(tuple.object.clone()),
            relation: Some(tuple.relation.clone()),
            ..Self::of_subject(&tuple.subject)
        }
    }
}

impl From<&Relationship> for RelationshipBody {
    fn from(relationship: &Relationship) -> Self {
        Self {
            expires_at: relationship.expires_at.map(rfc3339),
            condition: relationship.condition.as_ref().map(ConditionBody::from),
            ..Self::from(&relationship.tuple)
        }
    }
}

impl RelationshipBody {
    /// With nothing but a subject.
    fn of_subject(subject: &Subject) -> Self {
        match subject {
            Subject::Id(id) => Self { subject_id: Some(id.clone()), ..Self::default() },
            Subject::Set(set) => Self { subject_set: Some(set.into()), ..Self::default() },
        }
    }
}

/// `relationshipPatch`.
#[derive(Debug, Clone, Deserialize)]
pub struct PatchBody {
    /// `insert` or `delete`.
    pub action: String,
    /// What is inserted or deleted.
    pub relation_tuple: Option<RelationshipBody>,
}

/// A change that was made.
#[derive(Debug, Clone, Serialize)]
pub struct ChangeBody {
    /// `insert` or `delete`.
    pub action: &'static str,
    /// What was inserted or deleted.
    pub relation_tuple: RelationshipBody,
}

/// What one transaction changed.
#[derive(Debug, Clone, Serialize)]
pub struct ChangesBody {
    /// The changes.
    pub changes: Vec<ChangeBody>,
}

/// `relationships`.
#[derive(Debug, Clone, Serialize)]
pub struct RelationshipsBody {
    /// The tuples.
    pub relation_tuples: Vec<RelationshipBody>,
    /// Empty on the last page.
    pub next_page_token: String,
}

/// `checkPermissionResult`.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CheckBody {
    /// Whether it is allowed.
    pub allowed: bool,
}

/// `batchCheckPermissionBody`.
#[derive(Debug, Clone, Deserialize)]
pub struct BatchBody {
    /// What is checked.
    #[serde(default)]
    pub tuples: Vec<RelationshipBody>,
    /// What all checks give to conditions; not in Keto.
    #[serde(default)]
    pub context: Context,
}

/// `checkPermissionResultWithError`.
#[derive(Debug, Clone, Serialize)]
pub struct BatchItem {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why it was not found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `batchCheckPermissionResult`.
#[derive(Debug, Clone, Serialize)]
pub struct BatchResult {
    /// In the order of what was asked.
    pub results: Vec<BatchItem>,
}

/// An answer with its reasons.
#[derive(Debug, Clone, Serialize)]
pub struct ExplanationBody {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The proof; empty if it is not.
    pub steps: Vec<StepBody>,
}

/// A step of a proof; what it rests on follows, one deeper.
#[derive(Debug, Clone, Serialize)]
pub struct StepBody {
    /// How far it is indented.
    pub depth: u32,
    /// `tuple`, `permission`, `excluded`, `subject`, or `told`: what was proved before.
    pub kind: &'static str,
    /// The tuple that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuple: Option<RelationshipBody>,
    /// The permission that holds, what does not hold, the object that is the subject, or
    /// what was proved before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_set: Option<SubjectSetBody>,
}

impl From<&Explanation> for ExplanationBody {
    fn from(explanation: &Explanation) -> Self {
        let step = |step: &Step| {
            let (kind, tuple, set) = match &step.says {
                Says::Tuple(tuple) => ("tuple", Some(tuple.into()), None),
                Says::Permission(set) => ("permission", None, Some(set.into())),
                Says::Excluded(set) => ("excluded", None, Some(set.into())),
                Says::Subject(set) => ("subject", None, Some(set.into())),
                Says::Told(set) => ("told", None, Some(set.into())),
            };
            StepBody { depth: step.depth, kind, tuple, subject_set: set }
        };
        Self { allowed: explanation.allowed, steps: explanation.steps.iter().map(step).collect() }
    }
}

/// `expandedPermissionTree`.
#[derive(Debug, Clone, Serialize)]
pub struct TreeBody {
    /// What the node is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its subject; the other parts are empty.
    pub tuple: TreeTuple,
    /// When the tuple that leads here ceases to be there; not in Keto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Where alone the tuple that leads here is there; not in Keto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<ConditionBody>,
    /// What is beneath.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<TreeBody>,
}

/// The tuple of a tree's node.
#[derive(Debug, Clone, Serialize)]
pub struct TreeTuple {
    namespace: &'static str,
    object: &'static str,
    relation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_set: Option<SubjectSetBody>,
}

impl From<&Tree> for TreeBody {
    /// Recursive, as deep as trees are made.
    fn from(tree: &Tree) -> Self {
        let RelationshipBody { subject_id, subject_set, .. } =
            RelationshipBody::of_subject(&tree.subject);
        Self {
            kind: match tree.kind {
                TreeKind::Union => "union",
                TreeKind::Intersection => "intersection",
                TreeKind::Not => "not",
                TreeKind::Leaf => "leaf",
                TreeKind::TupleToSubjectSet => "tuple_to_subject_set",
                TreeKind::ComputedSubjectSet => "computed_subject_set",
            },
            tuple: TreeTuple { namespace: "", object: "", relation: "", subject_id, subject_set },
            expires_at: tree.expires_at.map(rfc3339),
            condition: tree.condition.as_ref().map(ConditionBody::from),
            children: tree.children.iter().map(Self::from).collect(),
        }
    }
}

/// `namespace`.
#[derive(Debug, Clone, Serialize)]
pub struct NamespaceBody {
    /// Its name.
    pub name: String,
}

/// `relationshipNamespaces`.
#[derive(Debug, Clone, Serialize)]
pub struct NamespacesBody {
    /// In order.
    pub namespaces: Vec<NamespaceBody>,
}

/// `SourcePosition`; the capital letter is Keto's.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PositionBody {
    /// From 1.
    #[serde(rename = "Line")]
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// `ParseError`.
#[derive(Debug, Clone, Serialize)]
pub struct ParseErrorBody {
    /// What is wrong.
    pub message: String,
    /// Where it begins.
    pub start: PositionBody,
    /// Where it ends.
    pub end: PositionBody,
    /// The file, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl From<&SourceError> for ParseErrorBody {
    fn from(error: &SourceError) -> Self {
        let at =
            |p: cardea_permission::opl::Position| PositionBody { line: p.line, column: p.column };
        let (start, end) = (at(error.start), at(error.end));
        Self { message: error.message.clone(), start, end, file: None }
    }
}

/// `checkOplSyntaxResult`.
#[derive(Debug, Clone, Serialize)]
pub struct SyntaxBody {
    /// What is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ParseErrorBody>,
}

/// A file of a language.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileBody {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The language in force.
#[derive(Debug, Clone, Serialize)]
pub struct LanguageBody {
    /// 0 if there never was any.
    pub version: u64,
    /// Its files.
    pub files: Vec<FileBody>,
    /// When it was put in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// A language to be put in force.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLanguageBody {
    /// Its files.
    pub files: Vec<FileBody>,
    /// The version that it is to follow.
    #[serde(default)]
    pub follows: Option<u64>,
    /// Whether tuples may be stranded.
    #[serde(default)]
    pub force: bool,
}

/// A version that is in force now.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct VersionBody {
    /// Its number.
    pub version: u64,
}

/// A page of objects.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectsBody {
    /// In order.
    pub objects: Vec<String>,
    /// Empty on the last page. Each page is of an instant of its own.
    pub next_page_token: String,
}

/// A page of subject ids.
#[derive(Debug, Clone, Serialize)]
pub struct SubjectsBody {
    /// In order.
    pub subject_ids: Vec<String>,
    /// Empty on the last page. Each page is of an instant of its own.
    pub next_page_token: String,
}
