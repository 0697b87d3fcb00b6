//! `WriteService`.

use async_trait::async_trait;
use cardea_permission::{TupleQuery, write::Change};
use tonic::{Request, Response, Status};

use super::{
    Asked, Grpc, answered,
    convert::{loose_query_in, query_in, relationship_in, tuple_in},
    rts::{
        DeleteRelationTuplesRequest, DeleteRelationTuplesResponse, TransactRelationTuplesRequest,
        TransactRelationTuplesResponse, relation_tuple_delta::Action,
        write_service_server::WriteService,
    },
};
use crate::{consistency::text_of, error::ApiError};

#[async_trait]
impl WriteService for Grpc {
    async fn transact_relation_tuples(
        &self,
        request: Request<TransactRelationTuplesRequest>,
    ) -> Result<Response<TransactRelationTuplesResponse>, Status> {
        let asked = Asked::of(&request, false, "")?;
        let deltas = request.into_inner().relation_tuple_deltas;
        let given = deltas.len();
        let mut changes = Vec::with_capacity(given);
        for delta in deltas {
            let tuple = delta.relation_tuple;
            changes.push(match Action::try_from(delta.action) {
                Ok(Action::Insert) => Change::Insert(relationship_in(tuple)?),
                Ok(Action::Delete) => Change::Delete(tuple_in(tuple)?),
                Ok(Action::Unspecified) | Err(_) => {
                    let why = format!("unknown action {}", delta.action);
                    return Err(ApiError::malformed(why).into());
                }
            });
        }
        let done = self.service().change_tuples(asked.tenant, changes).await;
        let snaptoken = done.map_err(ApiError::from)?;
        let snaptokens = vec![text_of(&snaptoken); given];
        Ok(answered(TransactRelationTuplesResponse { snaptokens }, &snaptoken))
    }

    async fn delete_relation_tuples(
        &self,
        request: Request<DeleteRelationTuplesRequest>,
    ) -> Result<Response<DeleteRelationTuplesResponse>, Status> {
        let asked = Asked::of(&request, false, "")?;
        let query = query_of(request.into_inner())?;
        let deleted = self.keto.delete_tuples(asked.tenant, query).await?;
        Ok(answered(DeleteRelationTuplesResponse {}, &deleted.snaptoken))
    }
}

#[expect(deprecated, reason = "older clients send it")]
fn query_of(message: DeleteRelationTuplesRequest) -> Result<TupleQuery, ApiError> {
    match (message.relation_query, message.query) {
        (Some(query), _) => query_in(query),
        (None, Some(query)) => {
            loose_query_in(query.namespace, query.object, query.relation, query.subject)
        }
        (None, None) => Err(ApiError::bad_request("A query is required; nothing was deleted.")),
    }
}
