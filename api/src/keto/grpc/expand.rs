//! `ExpandService`.

use async_trait::async_trait;
use cardea_permission::{
    Subject,
    expand::{Tree, TreeKind},
};
use tonic::{Request, Response, Status};

use super::{
    Asked, Grpc, answered,
    convert::{condition_out, subject_in, subject_out, time_out},
    positive,
    rts::{
        ExpandRequest, ExpandResponse, NodeType, RelationTuple, SubjectTree,
        expand_service_server::ExpandService,
    },
};
use crate::error::ApiError;

#[async_trait]
impl ExpandService for Grpc {
    /// A subject id is a leaf of its own.
    async fn expand(
        &self,
        request: Request<ExpandRequest>,
    ) -> Result<Response<ExpandResponse>, Status> {
        let asked = Asked::of(&request, false, &request.get_ref().snaptoken)?;
        let message = request.into_inner();
        let set = match subject_in(message.subject)? {
            Subject::Set(set) => set,
            Subject::Id(id) => {
                let leaf = Tree {
                    kind: TreeKind::Leaf,
                    subject: Subject::Id(id),
                    children: Vec::new(),
                    expires_at: None,
                    condition: None,
                };
                return Ok(Response::new(ExpandResponse { tree: Some(tree_out(&leaf)) }));
            }
        };
        let depth = positive(message.max_depth);
        let found = self.service().expand(asked.tenant, &set, depth, asked.consistency).await;
        let found = found.map_err(ApiError::from)?;
        let tree = found.value.as_ref().map(tree_out);
        Ok(answered(ExpandResponse { tree }, &found.snaptoken))
    }
}

/// Recursive, as deep as trees are made. What has one child, and is whoever that is,
/// is a union of it: Keto has no other name for it here.
#[expect(deprecated, reason = "older clients read it")]
fn tree_out(tree: &Tree) -> SubjectTree {
    let kind = match tree.kind {
        TreeKind::Union | TreeKind::TupleToSubjectSet | TreeKind::ComputedSubjectSet => {
            NodeType::Union
        }
        TreeKind::Intersection => NodeType::Intersection,
        TreeKind::Not => NodeType::Exclusion,
        TreeKind::Leaf => NodeType::Leaf,
    };
    let subject = subject_out(&tree.subject);
    SubjectTree {
        node_type: kind.into(),
        subject: Some(subject.clone()),
        tuple: Some(RelationTuple {
            subject: Some(subject),
            condition: tree.condition.as_ref().map(condition_out),
            expires_at: tree.expires_at.map(time_out),
            ..RelationTuple::default()
        }),
        children: tree.children.iter().map(tree_out).collect(),
    }
}
