//! `WatchService`.

use std::pin::Pin;

use async_trait::async_trait;
use cardea_permission::{TupleQuery, watch::TupleChange};
use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::{
    Asked, Grpc,
    convert::{query_in, relationship_out, tuple_out},
    permission::{
        RelationTupleChange, WatchRequest, WatchResponse, relation_tuple_change::Action,
        watch_service_server::WatchService,
    },
};
use crate::{
    consistency::{given_snaptoken, text_of},
    keto::watch::Event,
    request::StillAllowed,
};

#[async_trait]
impl WatchService for Grpc {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let asked = Asked::of(&request, false, "")?;
        let allowed = request.extensions().get::<StillAllowed>().cloned();
        let message = request.into_inner();
        let query = message.relation_query.map(query_in).transpose()?;
        let token = Some(message.snaptoken).filter(|token| !token.is_empty());
        let token = token.map(|token| given_snaptoken(&token)).transpose()?;
        let filter: TupleQuery = query.unwrap_or_default();
        let follow = self.keto.follow(asked.tenant, filter, token, allowed).await?;
        let events = follow.map(|event| event.map(event_out).map_err(Status::from));
        Ok(Response::new(Box::pin(events)))
    }
}

fn event_out(event: Event) -> WatchResponse {
    WatchResponse {
        changes: event.changes.iter().map(change_out).collect(),
        snaptoken: text_of(&event.snaptoken),
    }
}

fn change_out(change: &TupleChange) -> RelationTupleChange {
    let (action, tuple) = match change {
        TupleChange::Inserted(inserted) => (Action::Insert, relationship_out(inserted)),
        TupleChange::Deleted(tuple) => (Action::Delete, tuple_out(tuple)),
    };
    let expires_at = tuple.expires_at;
    RelationTupleChange { action: action.into(), relation_tuple: Some(tuple), expires_at }
}
