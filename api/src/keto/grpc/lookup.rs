//! `LookupService`: everything that is found, of one instant, in a stream.

use std::pin::Pin;

use async_trait::async_trait;
use cardea_permission::{Answered, SubjectSet, reverse::SubjectKind};
use futures::{Stream, stream};
use tonic::{Request, Response, Status};

use super::{
    Asked, Grpc, NAMES_AT_ONCE, answered,
    convert::{context_in, subject_in},
    permission::{
        ListActionsRequest, ListActionsResponse, ListObjectsRequest, ListObjectsResponse,
        ListSubjectsRequest, ListSubjectsResponse, lookup_service_server::LookupService,
    },
};
use crate::{consistency::text_of, error::ApiError};

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl LookupService for Grpc {
    type ListObjectsStream = Messages<ListObjectsResponse>;
    type ListSubjectsStream = Messages<ListSubjectsResponse>;

    async fn list_objects(
        &self,
        request: Request<ListObjectsRequest>,
    ) -> Result<Response<Self::ListObjectsStream>, Status> {
        let message = request.get_ref();
        let asked = Asked::of(&request, message.latest, &message.snaptoken)?;
        let message = request.into_inner();
        let (subject, context) = (subject_in(message.subject)?, context_in(message.context)?);
        let (namespace, relation) = (&message.namespace, &message.relation);
        let found = self
            .service()
            .all_objects(asked.tenant, namespace, relation, &subject, &context, asked.consistency)
            .await
            .map_err(ApiError::from)?;
        let out = |objects, snaptoken| ListObjectsResponse { objects, snaptoken };
        Ok(streamed(found, out))
    }

    async fn list_subjects(
        &self,
        request: Request<ListSubjectsRequest>,
    ) -> Result<Response<Self::ListSubjectsStream>, Status> {
        let message = request.get_ref();
        let asked = Asked::of(&request, message.latest, &message.snaptoken)?;
        let message = request.into_inner();
        let context = context_in(message.context)?;
        let set = SubjectSet::new(message.namespace, message.object, message.relation);
        let kind = match message.subject_namespace {
            None => SubjectKind::Ids,
            Some(namespace) => SubjectKind::Objects(namespace),
        };
        let found = self
            .service()
            .all_subjects(asked.tenant, &set, &kind, &context, asked.consistency)
            .await
            .map_err(ApiError::from)?;
        let out = |subjects, snaptoken| ListSubjectsResponse { subjects, snaptoken };
        Ok(streamed(found, out))
    }

    async fn list_actions(
        &self,
        request: Request<ListActionsRequest>,
    ) -> Result<Response<ListActionsResponse>, Status> {
        let message = request.get_ref();
        let asked = Asked::of(&request, message.latest, &message.snaptoken)?;
        let message = request.into_inner();
        let (subject, context) = (subject_in(message.subject)?, context_in(message.context)?);
        let (namespace, object) = (&message.namespace, &message.object);
        let found = self
            .service()
            .list_actions(asked.tenant, namespace, object, &subject, &context, asked.consistency)
            .await
            .map_err(ApiError::from)?;
        let snaptoken = text_of(&found.snaptoken);
        let message = ListActionsResponse { actions: found.value, snaptoken };
        Ok(answered(message, &found.snaptoken))
    }
}

/// Names in messages of a bounded size; one without any if there are none.
fn streamed<T: Send + 'static>(
    found: Answered<Vec<String>>,
    out: impl Fn(Vec<String>, String) -> T + Send + 'static,
) -> Response<Messages<T>> {
    let token = text_of(&found.snaptoken);
    let left = Some(found.value.into_iter());
    let messages = stream::unfold((left, true), move |(left, first)| {
        let next = left.and_then(|mut left| {
            let names: Vec<String> = left.by_ref().take(NAMES_AT_ONCE).collect();
            let message = (first || !names.is_empty()).then(|| Ok(out(names, token.clone())));
            message.map(|message| (message, (Some(left), false)))
        });
        std::future::ready(next)
    });
    let messages: Messages<T> = Box::pin(messages);
    answered(messages, &found.snaptoken)
}
