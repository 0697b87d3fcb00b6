//! `CheckService`.

use async_trait::async_trait;
use cardea_permission::{Ask, Tuple, check::BATCH_MAX};
use tonic::{Request, Response, Status};

use super::{
    Asked, Grpc, answered,
    convert::{context_in, tuple_in},
    positive,
    rts::{
        BatchCheckRequest, BatchCheckResponse, CheckRequest, CheckResponse, CheckResponseWithError,
        RelationTuple, check_service_server::CheckService,
    },
};
use crate::{consistency::text_of, error::ApiError, keto::read::batch_is_taken};

#[async_trait]
impl CheckService for Grpc {
    /// A namespace that nobody declared is `NOT_FOUND` here and a "no" in REST, as in
    /// Keto.
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let message = request.get_ref();
        let asked = Asked::of(&request, message.latest, &message.snaptoken)?;
        let depth = positive(message.max_depth);
        let mut message = request.into_inner();
        let ask = Ask { depth, context: context_in(message.context.take())? };
        let tuple = tuple_in(Some(tuple_of(message)))?;
        let found = self.service().check(asked.tenant, &tuple, ask, asked.consistency).await;
        let found = found.map_err(ApiError::from)?;
        let snaptoken = text_of(&found.snaptoken);
        Ok(answered(CheckResponse { allowed: found.value, snaptoken }, &found.snaptoken))
    }

    async fn batch_check(
        &self,
        request: Request<BatchCheckRequest>,
    ) -> Result<Response<BatchCheckResponse>, Status> {
        let message = request.get_ref();
        let asked = Asked::of(&request, message.latest, &message.snaptoken)?;
        let message = request.into_inner();
        batch_is_taken(message.tuples.len(), BATCH_MAX)?;
        let tuples = message.tuples.into_iter().map(|tuple| tuple_in(Some(tuple)));
        let tuples: Vec<Tuple> = tuples.collect::<Result<_, ApiError>>()?;
        let (depth, context) = (positive(message.max_depth), context_in(message.context)?);
        let ask = Ask { depth, context };
        let found = self.service().check_many(asked.tenant, &tuples, ask, asked.consistency);
        let found = found.await.map_err(ApiError::from)?;
        let snaptoken = text_of(&found.snaptoken);
        let results = found.value.into_iter().map(|answer| {
            let (allowed, error) = match answer {
                Ok(allowed) => (allowed, String::new()),
                Err(rejection) => (false, rejection.to_string()),
            };
            CheckResponseWithError { allowed, error, snaptoken: snaptoken.clone() }
        });
        let message = BatchCheckResponse { results: results.collect() };
        Ok(answered(message, &found.snaptoken))
    }
}

/// The tuple, or what older clients send in its place.
#[expect(deprecated, reason = "older clients send them")]
fn tuple_of(message: CheckRequest) -> RelationTuple {
    let CheckRequest { namespace, object, relation, subject, tuple, .. } = message;
    tuple.unwrap_or(RelationTuple {
        namespace,
        object,
        relation,
        subject,
        condition: None,
        expires_at: None,
    })
}
