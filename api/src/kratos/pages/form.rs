//! A flow's form as HTML: each node as its element, with what is wrong beside it.

use std::borrow::Cow;

use cardea_identity::ui::{
    Attributes, Container, InputAttributes, InputType, Node, NodeType, Text, TextType,
    node::{Autocomplete, Group, Trigger},
};
use maud::{Markup, html};

use super::words::Words;

/// How a form is shown.
pub(super) struct Form<'a> {
    /// The reader's words.
    pub(super) words: Words,
    /// The flow's form.
    pub(super) ui: &'a Container,
    /// The group to show beside the default one; `None`: all.
    pub(super) group: Option<Group>,
    /// What to call the field for the identifier where the schema does not say it.
    pub(super) identifier: &'a str,
    /// What to call the button of the method, in place of Kratos's words.
    pub(super) submit: Option<&'a str>,
    /// Where somebody goes who has forgotten the password.
    pub(super) forgotten: Option<&'a str>,
    /// Whose new password it is, for programs that keep passwords.
    pub(super) holder: Option<&'a str>,
    /// The fewest characters of a new password.
    pub(super) length_min: Option<usize>,
    /// Whether the first field that is wrong or empty gets the cursor.
    pub(super) focus: bool,
    /// Told apart from other forms of the page.
    pub(super) prefix: &'a str,
    /// A type of inputs that is shown elsewhere.
    pub(super) skipped: Option<InputType>,
}

impl Form<'_> {
    /// The form.
    pub(super) fn html(&self) -> Markup {
        let shown = |node: &&Node| {
            // The page loads the script once, whatever forms it has.
            let skipped = match &node.attributes {
                Attributes::Input(input) => self.skipped == Some(input.kind),
                _ => false,
            };
            node.kind != NodeType::Script
                && !skipped
                && self.group.is_none_or(|g| {
                    node.group == g || matches!(node.group, Group::Default | Group::Captcha)
                })
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
                        Attributes::Anchor(link) => a.button href=(link.href) { (self.words.text(&link.title)) },
                        Attributes::Image(image) => {
                            img.qr src=(image.src) width=(image.width) height=(image.height)
                                alt=(self.label(node));
                        }
                        Attributes::Text(text) => (self.read(node, &text.text)),
                        Attributes::Script(_) => {}
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
                let trigger = input.onload_trigger.map(Trigger::name);
                // The script fills it in.
                let needs_script = node.group == Group::Captcha && input.required;
                html! {
                    input type="hidden" name=(input.name) value=[value] data-onload-trigger=[trigger];
                    @if needs_script { noscript { p.wrong { (self.label(node)) } } }
                }
            }
            // Shown by the script that it calls, where the browser has what that needs.
            InputType::Button => {
                let trigger = input.onclick_trigger.map(Trigger::name);
                html! {
                    button.quiet type="button" name=(input.name) value=[value]
                        data-onclick-trigger=[trigger] hidden { (self.label(node)) }
                }
            }
            InputType::Submit => {
                let method = input.name == "method";
                // Beside another method, a code is the quieter one, in its own words.
                let beside = node.group == Group::Code && self.submit.is_some();
                let own = self.submit.filter(|_| method && !beside).or(own_words(&input.name));
                let label = own.map_or_else(|| self.label(node), |own| self.words.say(own));
                html! {
                    button type="submit" name=(input.name) value=[value] .quiet[!method || beside]
                        formnovalidate[!method || beside] disabled[input.disabled] { (label) }
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
        let is_wrong = !node.messages.is_empty();
        let least = self.length_min.filter(|_| input.name == "password");
        let hint = format!("{id}-hint");
        let described = match (least.is_some(), is_wrong) {
            (true, true) => Some(format!("{hint} {wrong}")),
            (true, false) => Some(hint.clone()),
            (false, true) => Some(wrong.clone()),
            (false, false) => None,
        };
        let autofocus = focus == Some(input.name.as_str());
        let is_code = matches!(input.name.as_str(), "code" | "totp_code");
        let complete = input.autocomplete.map(autocomplete).or(match input.name.as_str() {
            "identifier" => Some("username"),
            "totp_code" => Some("one-time-code"),
            "lookup_secret" => Some("off"),
            _ => None,
        });
        let label = match input.name.as_str() {
            "identifier" if !is_named(node) => self.words.say(self.identifier),
            "password" if self.holder.is_some() => self.words.say("New password"),
            _ => self.label(node),
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
                        @if !input.required { " " span.optional { (self.words.say("(optional)")) } }
                    }
                    @if let Some(url) = self.forgotten.filter(|_| input.name == "password") {
                        a.hint href=(url) { (self.words.say("Forgot password?")) }
                    }
                }
                input id=(id) name=(input.name) type=(kind(input.kind)) value=[value]
                    autocomplete=[complete] pattern=[input.pattern.as_deref()]
                    maxlength=[input.maxlength] required[input.required]
                    disabled[input.disabled] autofocus[autofocus] .code[is_code]
                    inputmode=[is_code.then_some("numeric")]
                    spellcheck="false" autocapitalize="none"
                    aria-invalid=[is_wrong.then_some("true")] aria-describedby=[described];
                @if let Some(least) = least {
                    p.rule id=(hint) {
                        (self.words.fill("At least {count} characters.", "count", &html! { (least) }))
                    }
                }
                @if is_wrong {
                    div id=(wrong) {
                        @for text in &node.messages { p.wrong { (self.words.text(text)) } }
                    }
                }
            }
        }
    }

    /// A text to be read: backup codes one below the other, anything else under its label.
    fn read(&self, node: &Node, text: &Text) -> Markup {
        let context = text.context.as_ref();
        let codes = context.and_then(|context| context.get("secrets")?.as_array());
        html! {
            @match codes {
                Some(codes) => {
                    p.lead { (self.label(node)) }
                    ul.codes {
                        @for code in codes {
                            @let used = code["context"].get("used_at").is_some();
                            li .used[used] { @if used { (self.words.say("used")) } @else { (code["text"].as_str().unwrap_or_default()) } }
                        }
                    }
                }
                None => {
                    p.hint { (own_words(node.name()).map_or_else(|| self.label(node), |own| self.words.say(own))) }
                    p { code.secret { (text.text) } }
                }
            }
        }
    }

    /// What a node is called.
    fn label<'b>(&self, node: &'b Node) -> Cow<'b, str> {
        match &node.meta.label {
            Some(label) => Cow::Owned(self.words.text(label).into_owned()),
            None => Cow::Borrowed(node.name()),
        }
    }
}

/// Whether a node is called as the identity schema calls the trait.
fn is_named(node: &Node) -> bool {
    node.meta.label.as_ref().is_some_and(|label| label.id == 1_070_002)
}

/// What concerns a form as a whole; errors are read out at once.
pub(super) fn notices(words: Words, messages: &[Text]) -> Markup {
    html! {
        @for text in messages {
            @match text.kind {
                TextType::Error => div.notice.error role="alert" { (words.text(text)) },
                TextType::Success => div.notice.success role="status" { (words.text(text)) },
                TextType::Info => div.notice role="status" { (words.text(text)) },
            }
        }
    }
}

/// What the pages say in place of Kratos's words.
fn own_words(name: &str) -> Option<&'static str> {
    match name {
        "totp_secret_key" => Some("Or type this key into the app:"),
        "totp_unlink" => Some("Remove app"),
        "lookup_secret_reveal" => Some("Show codes"),
        "lookup_secret_regenerate" => Some("Make new codes"),
        "lookup_secret_confirm" => Some("I have kept them safe"),
        "lookup_secret_disable" => Some("Remove codes"),
        _ => None,
    }
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
        InputType::Button => "button",
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
        Autocomplete::UsernameWebauthn => "username webauthn",
    }
}
