//! `LookupService`: everything that is found, of one instant where this node has a
//! replica, in a stream that is sent while it is looked for.

use std::pin::Pin;

use async_trait::async_trait;
use cardea_permission::{
    Answered, ReadRejection, SubjectSet,
    reverse::{
        SubjectKind,
        flow::{Given, Taker},
    },
};
use futures::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status};

use super::{
    Asked, Grpc, answered,
    convert::{context_in, subject_in},
    permission::{
        ListActionsRequest, ListActionsResponse, ListObjectsRequest, ListObjectsResponse,
        ListSubjectsRequest, ListSubjectsResponse, lookup_service_server::LookupService,
    },
};
use crate::{consistency::text_of, error::ApiError, keto::flow::Outlet, request::StillAllowed};

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
        let allowed = request.extensions().get::<StillAllowed>().cloned();
        let ListObjectsRequest { namespace, relation, subject, context, .. } = request.into_inner();
        let (subject, context) = (subject_in(subject)?, context_in(context)?);
        let keto = self.keto.clone();
        let found = self.keto.shared().flows.begin(allowed, move |outlet| async move {
            let mut names = Outgoing { outlet, refused: None };
            let (service, fresh) = (keto.service(), asked.consistency);
            let given = service
                .give_objects(
                    asked.tenant,
                    &namespace,
                    &relation,
                    &subject,
                    &context,
                    fresh,
                    &mut names,
                )
                .await;
            names.ended(given)
        })?;
        let out = |objects, snaptoken| ListObjectsResponse { objects, snaptoken };
        streamed(found, out).await
    }

    async fn list_subjects(
        &self,
        request: Request<ListSubjectsRequest>,
    ) -> Result<Response<Self::ListSubjectsStream>, Status> {
        let message = request.get_ref();
        let asked = Asked::of(&request, message.latest, &message.snaptoken)?;
        let allowed = request.extensions().get::<StillAllowed>().cloned();
        let message = request.into_inner();
        let context = context_in(message.context)?;
        let set = SubjectSet::new(message.namespace, message.object, message.relation);
        let kind = match message.subject_namespace {
            None => SubjectKind::Ids,
            Some(namespace) => SubjectKind::Objects(namespace),
        };
        let keto = self.keto.clone();
        let found = self.keto.shared().flows.begin(allowed, move |outlet| async move {
            let mut names = Outgoing { outlet, refused: None };
            let (service, fresh) = (keto.service(), asked.consistency);
            let given =
                service.give_subjects(asked.tenant, &set, &kind, &context, fresh, &mut names).await;
            names.ended(given)
        })?;
        let out = |subjects, snaptoken| ListSubjectsResponse { subjects, snaptoken };
        streamed(found, out).await
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

/// Names on their way out.
struct Outgoing {
    outlet: Outlet<Answered<Vec<String>>>,
    /// Why no more were taken.
    refused: Option<ApiError>,
}

#[async_trait]
impl Taker for Outgoing {
    async fn take(&mut self, names: Answered<Vec<String>>) -> bool {
        self.refused = self.outlet.give(names).await.err();
        self.refused.is_none()
    }
}

impl Outgoing {
    fn ended(self, given: Result<Given, ReadRejection>) -> Result<(), ApiError> {
        given?;
        self.refused.map_or(Ok(()), Err)
    }
}

/// Names, a message for each part; the first is awaited, so that what is refused is
/// refused before anything is sent.
async fn streamed<T: Send + 'static>(
    mut found: impl Stream<Item = Result<Answered<Vec<String>>, ApiError>> + Send + Unpin + 'static,
    out: impl Fn(Vec<String>, String) -> T + Send + 'static,
) -> Result<Response<Messages<T>>, Status> {
    // At least one part is given.
    let first = found.next().await.unwrap_or_else(|| Err(ApiError::internal()))?;
    let at = first.snaptoken.clone();
    let all = stream::iter([Ok(first)]).chain(found);
    let messages: Messages<T> = Box::pin(all.map(move |part| {
        let Answered { value, snaptoken } = part?;
        Ok(out(value, text_of(&snaptoken)))
    }));
    Ok(answered(messages, &at))
}
