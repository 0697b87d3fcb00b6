//! Signing up by password. Without a permit to hash it ends before anything is read.

use serde_json::Value;

use super::{
    Earned, Newcomer, Opened, Registered, RegistrationRejection, RegistrationSubmission, Sender,
};
use crate::{
    Service,
    password::Standing,
    schema::{Extracted, Violation},
    session::issue::Factor,
    ui::forms,
};

impl Service {
    pub(super) async fn register_by_password(
        &self,
        sender: Sender<'_>,
        submission: RegistrationSubmission,
    ) -> Result<Registered, RegistrationRejection> {
        let permit = self.passwords.admit()?;
        let mut opened = self.open_registration(sender).await?;
        let RegistrationSubmission { traits, password, .. } = submission;
        let traits = match traits {
            Value::Null => Value::Object(serde_json::Map::new()),
            traits => traits,
        };
        let password = password.filter(|password| !password.expose().is_empty());
        let typed = password.as_ref().map(|password| password.expose().as_str());
        let Some(found) = self.read_form(&mut opened, &traits, typed).await else {
            return Err(RegistrationRejection::Invalid(Box::new(opened.flow)));
        };
        let Some(password) = password else {
            return Err(RegistrationRejection::Invalid(Box::new(opened.flow)));
        };
        let source = self.registration_source(sender).await?;
        let hash = self.passwords.hash(&permit, password, self.store.entropy().as_ref()).await?;
        let earned = Earned { hash: Some(hash), ..Earned::by(Factor::PASSWORD) };
        let newcomer = Newcomer { traits, found, source, ..Newcomer::default() };
        self.finish_registration(sender, opened, newcomer, earned).await
    }

    /// What the traits give; `None` if the form is told what is wrong with them or with
    /// the password.
    async fn read_form(
        &self,
        opened: &mut Opened,
        traits: &Value,
        password: Option<&str>,
    ) -> Option<Extracted> {
        opened.flow.active = Some("password".to_owned());
        let found = Self::read_traits(opened, traits);
        let flow = &mut opened.flow;
        let Some(password) = password else {
            let missing = Violation::required("#", "password");
            forms::say_violations(&mut flow.ui, &[missing]);
            return None;
        };
        let identifiers = found.as_ref().map_or(&[][..], |f| &f.password_identifiers);
        if let Err(violation) = self.judge_password(password, identifiers, Standing::Alone).await {
            flow.ui.say("password", violation.text());
            return None;
        }
        found
    }
}
