//! A captcha that needs no third party: proof of work.
//!
//! A flow asks for a number; SHA-256 of its own id, a full stop and the number in decimal
//! must begin with so many zero bits. A browser finds one while its user types, and checking
//! one costs a single hash. It makes signing up or asking for codes by the million dear, and
//! stops nobody who means one account: it stands before what is limited anyway. Nothing is
//! kept of it, for a flow's id is drawn at random and its answer is good for it alone. Who
//! has a session, or has been sent a code, is not asked again.

use sha2::{Digest as _, Sha256};

use super::{Flow, FlowRejection, FlowState, Purpose};
use crate::{
    Service,
    model::{Client, FlowId, Scope},
    table::FlowRecord,
    ui::{Container, Text, forms},
};

/// Digits of a number that is looked at.
const DIGITS_MAX: usize = 15;

/// Which flows ask for work, and for how much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProofOfWork {
    /// Those that ask; none of them by default.
    pub flows: Vec<Purpose>,
    /// Zero bits at the beginning: each doubles the work.
    pub bits: u32,
}

impl ProofOfWork {
    /// Whether an answer is one to this flow.
    fn is_done(&self, flow: FlowId, answer: &str) -> bool {
        let is_number = (1..=DIGITS_MAX).contains(&answer.len())
            && answer.bytes().all(|byte| byte.is_ascii_digit());
        let digest = Sha256::digest(format!("{flow}.{answer}"));
        let mut zeros = 0;
        for byte in digest {
            zeros += byte.leading_zeros();
            if byte != 0 {
                break;
            }
        }
        is_number && zeros >= self.bits
    }
}

impl Service {
    /// The form that says so, if a submission does not bring the work that its flow asks for.
    pub(in crate::flow) async fn lacking_work(
        &self,
        scope: Scope,
        (purpose, id): (Purpose, FlowId),
        client: &Client,
    ) -> Result<Option<Flow>, FlowRejection> {
        if !self.settings.proof_of_work.flows.contains(&purpose) {
            return Ok(None);
        }
        let record = self.open_flow(scope, purpose, id).await?;
        let answer = client.proof_of_work.as_deref().unwrap_or_default();
        if !self.asks_for_work(purpose, &record) || self.settings.proof_of_work.is_done(id, answer)
        {
            return Ok(None);
        }
        let mut flow = self.show_flow(id, &record);
        flow.ui.messages.push(Text::captcha_failed());
        Ok(Some(flow))
    }

    /// Asks for work in a form, where its flow does.
    pub(in crate::flow) fn ask_for_work(
        &self,
        ui: &mut Container,
        purpose: Purpose,
        (id, record): (FlowId, &FlowRecord),
    ) {
        if self.asks_for_work(purpose, record) {
            forms::ask_for_work(ui, &id.to_string(), self.settings.proof_of_work.bits);
            let scripted = ui.nodes.iter().any(|node| node.kind == crate::ui::NodeType::Script);
            if !scripted {
                ui.nodes.push(forms::script(&self.key_script()));
            }
        }
    }

    fn asks_for_work(&self, purpose: Purpose, record: &FlowRecord) -> bool {
        self.settings.proof_of_work.flows.contains(&purpose)
            && record.subject.is_empty()
            && FlowState::of(purpose, record) == FlowState::ChooseMethod
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Settings,
        flow::{
            BeginCode, BeginLogin, BeginRegistration, CodeOutcome, CodeRejection, CodeSubmission,
            LoginRejection, LoginSubmission, RegistrationRejection, RegistrationSubmission,
        },
        testing::{PASSWORD, World, client, secret, settings, traits},
    };

    /// An answer, found as a browser does.
    fn solve(flow: FlowId, bits: u32) -> String {
        let wanted = ProofOfWork { bits, ..ProofOfWork::default() };
        let mut numbers = (0_u32..).map(|number| number.to_string());
        numbers.find(|number| wanted.is_done(flow, number)).unwrap()
    }

    fn world(flows: &[Purpose]) -> World {
        let proof_of_work = ProofOfWork { flows: flows.to_vec(), bits: 8 };
        let settings = Settings { recovery: true, verification: true, ..settings() };
        World::with(Settings { proof_of_work, ..settings })
    }

    fn by(answer: Option<String>) -> Client {
        Client { proof_of_work: answer, ..client("192.0.2.1") }
    }

    fn ids(flow: &Flow) -> Vec<u32> {
        flow.ui.messages.iter().map(|text| text.id).collect()
    }

    #[test]
    fn only_a_number_with_the_zeros_in_front_is_an_answer() {
        let flow = FlowId(uuid::Uuid::from_u128(7));
        let wanted = ProofOfWork { bits: 8, ..ProofOfWork::default() };
        let answer = solve(flow, 8);
        assert!(wanted.is_done(flow, &answer));
        assert!(!wanted.is_done(FlowId(uuid::Uuid::from_u128(8)), &answer), "of another flow");
        for wrong in ["", "x", "-1", &format!(" {answer}"), &format!("{answer} "), &"1".repeat(16)]
        {
            assert!(!wanted.is_done(flow, wrong), "{wrong}");
        }
        assert!(!ProofOfWork { bits: 256, ..wanted }.is_done(flow, &answer));
    }

    #[tokio::test]
    async fn who_brings_no_work_signs_nobody_up() {
        let world = world(&[Purpose::Registration]);
        let (service, scope) = (&world.service, world.scope);
        let begin = || service.begin_registration(scope, BeginRegistration::default());
        let submission = || RegistrationSubmission {
            method: "password".to_owned(),
            traits: traits("ann@example.org"),
            password: Some(secret(PASSWORD)),
            ..RegistrationSubmission::default()
        };
        let flow = begin().await.unwrap();
        let names: Vec<_> = flow.ui.nodes.iter().map(crate::ui::Node::name).collect();
        assert!(names.contains(&"captcha_challenge") && names.contains(&"captcha_proof"));
        let other = begin().await.unwrap();
        for answer in [None, Some("0".to_owned()), Some(solve(other.id, 8))] {
            let client = by(answer);
            let refused = service.submit_registration(scope, flow.id, submission(), &client).await;
            let Err(RegistrationRejection::Invalid(told)) = refused else { panic!("{refused:?}") };
            assert_eq!(ids(&told), [4_000_038]);
        }
        let client = by(Some(solve(flow.id, 8)));
        service.submit_registration(scope, flow.id, submission(), &client).await.unwrap();
        // Others do not ask.
        world.log_in("ann@example.org", PASSWORD).await.unwrap();
    }

    /// A flow in whose place another one stands was worked for; the other one was not.
    #[tokio::test]
    async fn flow_that_replaces_one_that_is_over_asks_anew() {
        let world = world(&[Purpose::Recovery, Purpose::Verification]);
        let (service, scope) = (&world.service, world.scope);
        for purpose in [Purpose::Recovery, Purpose::Verification] {
            let flow = service.begin_code(scope, purpose, BeginCode::default()).await.unwrap();
            let send = || CodeSubmission {
                email: Some("nobody@example.org".to_owned()),
                ..CodeSubmission::default()
            };
            let client = by(Some(solve(flow.id, 8)));
            service.submit_code(scope, (purpose, flow.id), send(), &client).await.unwrap();
            world.clock.advance(std::time::Duration::from_secs(3600));
            let over = service.submit_code(scope, (purpose, flow.id), send(), &by(None)).await;
            let Err(CodeRejection::Flow(FlowRejection::Expired { replacement, .. })) = over else {
                panic!("{over:?}")
            };
            let next = replacement.unwrap();
            assert!(next.ui.find("captcha_proof").is_some());
            let refused = service.submit_code(scope, (purpose, next.id), send(), &by(None)).await;
            let Err(CodeRejection::Invalid(told)) = refused else { panic!("{refused:?}") };
            assert_eq!(ids(&told), [4_000_038]);
        }
    }

    #[tokio::test]
    async fn login_and_recovery_ask_where_they_are_to_and_not_for_a_code_that_was_sent() {
        let world = world(&[Purpose::Login, Purpose::Recovery]);
        let (service, scope) = (&world.service, world.scope);
        let login = service.begin_login(scope, BeginLogin::default()).await.unwrap();
        let submission = LoginSubmission {
            method: "password".to_owned(),
            identifier: Some("nobody@example.org".to_owned()),
            password: Some(secret(PASSWORD)),
            ..LoginSubmission::default()
        };
        let refused = service.submit_login(scope, login.id, submission.clone(), &by(None)).await;
        let Err(LoginRejection::Invalid(told)) = refused else { panic!("{refused:?}") };
        assert_eq!(ids(&told), [4_000_038]);
        let client = by(Some(solve(login.id, 8)));
        let refused = service.submit_login(scope, login.id, submission, &client).await;
        let Err(LoginRejection::Invalid(told)) = refused else { panic!("{refused:?}") };
        assert_eq!(ids(&told), [4_000_006]);

        let purpose = Purpose::Recovery;
        let flow = service.begin_code(scope, purpose, BeginCode::default()).await.unwrap();
        let send = || CodeSubmission {
            method: "code".to_owned(),
            email: Some("nobody@example.org".to_owned()),
            ..CodeSubmission::default()
        };
        let refused = service.submit_code(scope, (purpose, flow.id), send(), &by(None)).await;
        let Err(CodeRejection::Invalid(told)) = refused else { panic!("{refused:?}") };
        assert_eq!(ids(&told), [4_000_038]);
        let client = by(Some(solve(flow.id, 8)));
        let sent = service.submit_code(scope, (purpose, flow.id), send(), &client).await.unwrap();
        let CodeOutcome::Sent(sent) = sent else { panic!("{sent:?}") };
        assert!(sent.ui.find("captcha_proof").is_none());
        let code = CodeSubmission {
            method: "code".to_owned(),
            code: Some(secret("000000")),
            ..CodeSubmission::default()
        };
        let wrong = service.submit_code(scope, (purpose, flow.id), code, &by(None)).await;
        let Err(CodeRejection::Invalid(told)) = wrong else { panic!("{wrong:?}") };
        assert!(!ids(&told).contains(&4_000_038));
    }
}
