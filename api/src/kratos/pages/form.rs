//! A flow's form as HTML: each node as its element, with what is wrong beside it.

use cardea_identity::ui::{
    Attributes, Container, InputAttributes, InputType, Node, Text, TextType,
    node::{Autocomplete, Group},
};
use maud::{Markup, html};

/// How a form is shown.
pub(super) struct Form<'a> {
    /// The flow's form.
    pub(super) ui: &'a Container,
    /// The group to show beside the default one; `None`: all.
    pub(super) group: Option<Group>,
    /// What to call the field for the identifier.
    pub(super) identifier: &'a str,
    /// What to call the button of the method, in place of Kratos's words.
    pub(super) submit: Option<&'a str>,
    /// Where somebody goes who has forgotten the password.
    pub(super) forgotten: Option<&'a str>,
    /// Whose new password it is, for programs that keep passwords.
    pub(super) holder: Option<&'a str>,
    /// Whether the first field that is wrong or empty gets the cursor.
    pub(super) focus: bool,
    /// Told apart from other forms of the page.
    pub(super) prefix: &'a str,
}

impl Form<'_> {
    /// The form.
    pub(super) fn html(&self) -> Markup {
        let shown = |node: &&Node| {
            self.group.is_none_or(|group| node.group == group || node.group == Group::Default)
        };
        let nodes: Vec<&Node> = self.ui.nodes.iter().filter(shown).collect();
        let empty = |node: &&&Node| match &node.attributes {
            Attributes::Input(input) => {
                !matches!(input.kind, InputType::Hidden | InputType::Submit)
                    && input.required
                    && input.value.as_ref().is_none_or(|value| value.as_str() == Some(""))
            }
            _ => false,
        };
        let wrong = nodes.iter().find(|node| !node.messages.is_empty());
        let focus = wrong.or_else(|| nodes.iter().find(empty)).map(|node| node.name());
        let focus = focus.filter(|_| self.focus);
        html! {
            form method="post" action=(self.ui.action) {
                @if let Some(holder) = self.holder {
                    input.visually-hidden type="text" name="username" value=(holder)
                        autocomplete="username" tabindex="-1" aria-hidden="true" readonly;
                }
                @for node in &nodes {
                    @match &node.attributes {
                        Attributes::Input(input) => (self.input(node, input, focus)),
                        Attributes::Anchor(link) => a.button href=(link.href) { (link.title.text) },
                        Attributes::Image(image) => {
                            img src=(image.src) width=(image.width) height=(image.height) alt="";
                        }
                        Attributes::Text(text) => p { (text.text.text) },
                    }
                }
            }
        }
    }

    fn input(&self, node: &Node, input: &InputAttributes, focus: Option<&str>) -> Markup {
        let value = input
            .value
            .as_ref()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        match input.kind {
            InputType::Hidden => {
                html! { input type="hidden" name=(input.name) value=[value]; }
            }
            InputType::Submit => {
                let method = input.name == "method";
                let own = self.submit.filter(|_| method);
                let label = own.unwrap_or_else(|| label(node));
                html! {
                    button type="submit" name=(input.name) value=[value] .quiet[!method]
                        formnovalidate[!method] { (label) }
                }
            }
            _ => self.field(node, input, value, focus),
        }
    }

    fn field(
        &self,
        node: &Node,
        input: &InputAttributes,
        value: Option<String>,
        focus: Option<&str>,
    ) -> Markup {
        let id = format!("{}-{}", self.prefix, input.name);
        let wrong = format!("{id}-wrong");
        let described = (!node.messages.is_empty()).then_some(wrong.as_str());
        let autofocus = focus == Some(input.name.as_str());
        let is_code = input.name == "code";
        let complete = input.autocomplete.map(autocomplete);
        let complete = complete.or((input.name == "identifier").then_some("username"));
        let label = match input.name.as_str() {
            "identifier" => self.identifier,
            "password" if self.holder.is_some() => "New password",
            _ => label(node),
        };
        if input.kind == InputType::Checkbox {
            let checked = value.as_deref() == Some("true");
            return html! {
                div.field {
                    input type="hidden" name=(input.name) value="false";
                    input type="checkbox" id=(id) name=(input.name) value="true" checked[checked];
                    label for=(id) { (label) }
                }
            };
        }
        // Secrets are never sent back.
        let value = value.filter(|_| input.kind != InputType::Password);
        html! {
            div.field {
                div.field-head {
                    label for=(id) {
                        (label)
                        @if !input.required { " " span.optional { "(optional)" } }
                    }
                    @if let Some(url) = self.forgotten.filter(|_| input.name == "password") {
                        a.hint href=(url) { "Forgot password?" }
                    }
                }
                input id=(id) name=(input.name) type=(kind(input.kind)) value=[value]
                    autocomplete=[complete] pattern=[input.pattern.as_deref()]
                    maxlength=[input.maxlength] required[input.required]
                    disabled[input.disabled] autofocus[autofocus] .code[is_code]
                    inputmode=[is_code.then_some("numeric")]
                    spellcheck="false" autocapitalize="none"
                    aria-invalid=[described.map(|_| "true")] aria-describedby=[described];
                @if !node.messages.is_empty() {
                    div id=(wrong) {
                        @for text in &node.messages { p.wrong { (text.text) } }
                    }
                }
            }
        }
    }
}

/// What concerns a form as a whole; errors are read out at once.
pub(super) fn notices(messages: &[Text]) -> Markup {
    html! {
        @for text in messages {
            @match text.kind {
                TextType::Error => div.notice.error role="alert" { (text.text) },
                TextType::Success => div.notice.success role="status" { (text.text) },
                TextType::Info => div.notice role="status" { (text.text) },
            }
        }
    }
}

fn label(node: &Node) -> &str {
    node.meta.label.as_ref().map_or_else(|| node.name(), |label| label.text.as_str())
}

const fn kind(kind: InputType) -> &'static str {
    match kind {
        InputType::Text => "text",
        InputType::Password => "password",
        InputType::Number => "number",
        InputType::Checkbox => "checkbox",
        InputType::Hidden => "hidden",
        InputType::Email => "email",
        InputType::Tel => "tel",
        InputType::Submit => "submit",
        InputType::DatetimeLocal => "datetime-local",
        InputType::Date => "date",
        InputType::Url => "url",
    }
}

const fn autocomplete(autocomplete: Autocomplete) -> &'static str {
    match autocomplete {
        Autocomplete::Email => "email",
        Autocomplete::Tel => "tel",
        Autocomplete::Url => "url",
        Autocomplete::OneTimeCode => "one-time-code",
        Autocomplete::CurrentPassword => "current-password",
        Autocomplete::NewPassword => "new-password",
    }
}
