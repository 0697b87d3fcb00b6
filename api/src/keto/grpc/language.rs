//! `NamespacesService`, `SyntaxService`, `VersionService`.

use async_trait::async_trait;
use cardea_permission::opl::{Position, SourceError};
use tonic::{Request, Response, Status};

use super::{
    Asked, Grpc, answered, opl,
    rts::{
        GetVersionRequest, GetVersionResponse, ListNamespacesRequest, ListNamespacesResponse,
        Namespace, namespaces_service_server::NamespacesService,
        version_service_server::VersionService,
    },
};
use crate::{error::ApiError, keto::language::syntax_errors};

#[async_trait]
impl NamespacesService for Grpc {
    async fn list_namespaces(
        &self,
        request: Request<ListNamespacesRequest>,
    ) -> Result<Response<ListNamespacesResponse>, Status> {
        let asked = Asked::of(&request, false, "")?;
        let found = self.service().list_namespaces(asked.tenant, asked.consistency).await;
        let found = found.map_err(ApiError::from)?;
        let namespaces = found.value.into_iter().map(|name| Namespace { name }).collect();
        Ok(answered(ListNamespacesResponse { namespaces }, &found.snaptoken))
    }
}

#[async_trait]
impl VersionService for Grpc {
    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        Asked::of(&request, false, "")?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(GetVersionResponse { version }))
    }
}

#[async_trait]
impl opl::syntax_service_server::SyntaxService for Grpc {
    async fn check(
        &self,
        request: Request<opl::CheckRequest>,
    ) -> Result<Response<opl::CheckResponse>, Status> {
        Asked::of(&request, false, "")?;
        let text = String::from_utf8(request.into_inner().content);
        let text = text.map_err(|_| ApiError::bad_request("The content is not UTF-8."))?;
        let at = |at: Position| Some(opl::SourcePosition { line: at.line, column: at.column });
        let error_out = |error: &SourceError| opl::ParseError {
            message: error.message.clone(),
            start: at(error.start),
            end: at(error.end),
        };
        let parse_errors = syntax_errors(text).await?.iter().map(error_out).collect();
        Ok(Response::new(opl::CheckResponse { parse_errors }))
    }
}
