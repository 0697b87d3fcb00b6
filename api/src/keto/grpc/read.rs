//! `ReadService`.

use async_trait::async_trait;
use cardea_permission::{TupleQuery, list::PageRequest};
use prost_types::FieldMask;
use tonic::{Request, Response, Status};

use super::{
    Asked, Grpc, answered,
    convert::{loose_query_in, query_in, relationship_out},
    positive,
    rts::{
        ListRelationTuplesRequest, ListRelationTuplesResponse, RelationTuple,
        read_service_server::ReadService, subject::Ref,
    },
};
use crate::error::ApiError;

#[async_trait]
impl ReadService for Grpc {
    async fn list_relation_tuples(
        &self,
        request: Request<ListRelationTuplesRequest>,
    ) -> Result<Response<ListRelationTuplesResponse>, Status> {
        let asked = Asked::of(&request, false, &request.get_ref().snaptoken)?;
        let mut message = request.into_inner();
        let mask = message.expand_mask.take().map(Mask::read).transpose()?;
        let token = Some(std::mem::take(&mut message.page_token));
        let page = PageRequest { size: positive(message.page_size), token };
        let query = query_of(message)?;
        let found = self.service().list_tuples(asked.tenant, &query, &page, asked.consistency);
        let found = found.await.map_err(ApiError::from)?;
        let tuples = found.value.items.iter().map(|found| {
            let tuple = relationship_out(found);
            match &mask {
                Some(mask) => mask.apply(tuple),
                None => tuple,
            }
        });
        let message = ListRelationTuplesResponse {
            relation_tuples: tuples.collect(),
            next_page_token: found.value.next.unwrap_or_default(),
        };
        Ok(answered(message, &found.snaptoken))
    }
}

#[expect(deprecated, reason = "older clients send it")]
fn query_of(message: ListRelationTuplesRequest) -> Result<TupleQuery, ApiError> {
    match (message.relation_query, message.query) {
        (Some(query), _) => query_in(query),
        (None, Some(query)) => {
            loose_query_in(query.namespace, query.object, query.relation, query.subject)
        }
        (None, None) => Err(ApiError::bad_request("A query is required; it may be empty.")),
    }
}

/// Which parts of tuples are filled in. What narrows them always is.
#[derive(Debug, Default)]
struct Mask {
    namespace: bool,
    object: bool,
    relation: bool,
    id: bool,
    set: [bool; 3],
}

impl Mask {
    fn read(mask: FieldMask) -> Result<Self, ApiError> {
        let mut read = Self::default();
        for path in &mask.paths {
            match path.as_str() {
                "namespace" => read.namespace = true,
                "object" => read.object = true,
                "relation" => read.relation = true,
                "subject" => (read.id, read.set) = (true, [true; 3]),
                "subject.id" => read.id = true,
                "subject.namespace" => read.set[0] = true,
                "subject.object" => read.set[1] = true,
                "subject.relation" => read.set[2] = true,
                _ => {
                    let why = format!("expand_mask names {path:?}, which no relation tuple has.");
                    return Err(ApiError::bad_request(why));
                }
            }
        }
        Ok(read)
    }

    fn apply(&self, mut tuple: RelationTuple) -> RelationTuple {
        let keep = |keep: bool, text: &mut String| {
            if !keep {
                text.clear();
            }
        };
        keep(self.namespace, &mut tuple.namespace);
        keep(self.object, &mut tuple.object);
        keep(self.relation, &mut tuple.relation);
        tuple.subject = tuple.subject.filter(|subject| match &subject.r#ref {
            Some(Ref::Id(_)) => self.id,
            Some(Ref::Set(_)) => self.set.contains(&true),
            None => false,
        });
        if let Some(Ref::Set(set)) = tuple.subject.as_mut().and_then(|s| s.r#ref.as_mut()) {
            keep(self.set[0], &mut set.namespace);
            keep(self.set[1], &mut set.object);
            keep(self.set[2], &mut set.relation);
        }
        tuple
    }
}
