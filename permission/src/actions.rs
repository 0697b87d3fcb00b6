//! Which relations and permissions a subject has on an object: each that the
//! namespace declares is checked, all as of one instant.

use cardea_storage::{Consistency, Tenant};

use crate::{
    ReadRejection, Service,
    check::check_on,
    condition::{Context, bounded},
    model::{Subject, SubjectSet, Tuple, TupleRefused},
    service::Answered,
};

impl Service {
    /// The names of the relations and permissions that a subject has on an object, in
    /// order.
    ///
    /// # Errors
    /// See [`ReadRejection`]. A limit that keeps one of the checks from an answer is an
    /// error: nobody is to take it for a "no".
    pub async fn list_actions(
        &self,
        tenant: Tenant,
        namespace: &str,
        object: &str,
        subject: &Subject,
        given: &Context,
        consistency: Consistency,
    ) -> Result<Answered<Vec<String>>, ReadRejection> {
        subject.validate()?;
        SubjectSet::new(namespace, object, "").validate()?;
        bounded(given).map_err(TupleRefused::Condition)?;
        let limits = self.limits(0);
        self.walk(tenant, &consistency, |graph| async move {
            let language = graph.language();
            if !language.has(namespace) {
                return Err(ReadRejection::UnknownNamespace(namespace.to_owned()));
            }
            let mut names: Vec<&str> = language.names(namespace).collect();
            names.sort_unstable();
            let mut found = Vec::new();
            for name in names {
                let tuple = Tuple::new(namespace, object, name, subject.clone());
                if check_on(&graph, &self.sets, &tuple, limits, given).await? {
                    found.push(name.to_owned());
                }
            }
            Ok(found)
        })
        .await
    }
}
