//! `"…" % values`: Python's old formatting, as Jsonnet has it.

use super::{
    Failed,
    machine::{Machine, Val, wrong},
    operators::whole,
    shape::show_number,
};

/// The widest field and the longest fraction.
const WIDTH_MAX: usize = 1000;

#[derive(Debug, Default)]
struct Directive {
    name: Option<String>,
    alternate: bool,
    zero: bool,
    left: bool,
    blank: bool,
    sign: bool,
    width: usize,
    precision: Option<usize>,
    kind: char,
}

impl Machine {
    /// A text filled with values: an array's in order, an object's by name, else one.
    pub(super) fn format(&mut self, text: &Val, values: &Val) -> Result<Val, Failed> {
        let Val::Text(text) = text else { return wrong("std.format fills a string") };
        let mut out = String::new();
        let mut chars = text.chars().peekable();
        let mut at = 0;
        while let Some(c) = chars.next() {
            self.step()?;
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut directive = Directive::default();
            if chars.next_if_eq(&'(').is_some() {
                directive.name = Some(chars.by_ref().take_while(|c| *c != ')').collect());
            }
            while let Some(flag) = chars.next_if(|c| "#0- +".contains(*c)) {
                match flag {
                    '#' => directive.alternate = true,
                    '0' => directive.zero = true,
                    '-' => directive.left = true,
                    ' ' => directive.blank = true,
                    _ => directive.sign = true,
                }
            }
            directive.width = match chars.next_if_eq(&'*') {
                Some(_) => self.size(values, &mut at)?,
                None => digits(&mut chars)?.unwrap_or(0),
            };
            if chars.next_if_eq(&'.').is_some() {
                directive.precision = Some(match chars.next_if_eq(&'*') {
                    Some(_) => self.size(values, &mut at)?,
                    None => digits(&mut chars)?.unwrap_or(0),
                });
            }
            while chars.next_if(|c| "hlL".contains(*c)).is_some() {}
            let Some(kind) = chars.next() else { return wrong("a format has no end") };
            directive.kind = kind;
            if kind == '%' {
                out.push('%');
                continue;
            }
            let value = self.value_for(&directive, values, &mut at)?;
            let shown = self.fill(&directive, &value)?;
            self.spend(shown.len())?;
            out.push_str(&shown);
        }
        if let Val::Array(items) = values
            && at < items.len()
        {
            return wrong("a format is given more values than it names");
        }
        self.text(&out)
    }

    fn size(&mut self, values: &Val, at: &mut usize) -> Result<usize, Failed> {
        match self.value_for(&Directive::default(), values, at)? {
            Val::Number(number) => match usize::try_from(whole(number)?) {
                Ok(size) if size <= WIDTH_MAX => Ok(size),
                _ => wrong("a width is out of bounds"),
            },
            other => wrong(format!("a width is a number, not {}", other.kind())),
        }
    }

    fn value_for(
        &mut self,
        directive: &Directive,
        values: &Val,
        at: &mut usize,
    ) -> Result<Val, Failed> {
        if let Some(name) = &directive.name {
            let Val::Object(object) = values else { return wrong("a named value is an object's") };
            return self.field(*object, &name.as_str().into());
        }
        *at += 1;
        match values {
            Val::Array(items) => match items.get(*at - 1) {
                Some(item) => self.force(*item),
                None => wrong("a format is given fewer values than it names"),
            },
            Val::Object(_) => wrong("an object's values are named in a format"),
            other if *at == 1 => Ok(other.clone()),
            _ => wrong("a format is given fewer values than it names"),
        }
    }

    fn fill(&mut self, directive: &Directive, value: &Val) -> Result<String, Failed> {
        let precision = directive.precision;
        let number = |value: &Val| match value {
            Val::Number(number) => Ok(*number),
            other => wrong(format!("%{} is of numbers, not {}", directive.kind, other.kind())),
        };
        let (digits, is_number) = match directive.kind {
            's' => {
                let shown = self.show(value)?;
                let most = precision.unwrap_or(usize::MAX);
                (shown.chars().take(most).collect(), false)
            }
            'c' => match value {
                Val::Text(text) if text.chars().count() == 1 => (text.to_string(), false),
                Val::Number(code) => {
                    let code = u32::try_from(whole(*code)?).ok().and_then(char::from_u32);
                    match code {
                        Some(c) => (c.to_string(), false),
                        None => return wrong("%c is of characters"),
                    }
                }
                _ => return wrong("%c is of characters"),
            },
            'd' | 'i' | 'u' => {
                let shown = format!("{}", number(value)?.abs().floor());
                (pad_left(&shown, precision.unwrap_or(0)), true)
            }
            'o' | 'x' | 'X' => {
                let bits = whole(number(value)?.abs().floor())?;
                let (mark, shown) = match directive.kind {
                    'o' => ("0", format!("{bits:o}")),
                    'x' => ("0x", format!("{bits:x}")),
                    _ => ("0X", format!("{bits:X}")),
                };
                let mark = if directive.alternate { mark } else { "" };
                (format!("{mark}{}", pad_left(&shown, precision.unwrap_or(0))), true)
            }
            'f' | 'F' => (format!("{:.*}", precision.unwrap_or(6), number(value)?.abs()), true),
            'e' | 'E' => {
                let shown = exponential(number(value)?.abs(), precision.unwrap_or(6));
                let shown = if directive.kind == 'E' { shown.to_uppercase() } else { shown };
                (shown, true)
            }
            'g' | 'G' => (show_number(number(value)?.abs()), true),
            other => return wrong(format!("the format %{other} is not understood")),
        };
        let sign = match (is_number, value) {
            (true, Val::Number(n)) if *n < 0.0 => "-",
            (true, _) if directive.sign => "+",
            (true, _) if directive.blank => " ",
            _ => "",
        };
        let length = sign.len() + digits.chars().count();
        let missing = directive.width.saturating_sub(length);
        Ok(match (directive.left, directive.zero && is_number) {
            (true, _) => format!("{sign}{digits}{}", " ".repeat(missing)),
            (false, true) => format!("{sign}{}{digits}", "0".repeat(missing)),
            (false, false) => format!("{}{sign}{digits}", " ".repeat(missing)),
        })
    }
}

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, Failed> {
    let mut found = None;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        let digit = digit.to_digit(10).unwrap_or(0) as usize;
        let number = found.unwrap_or(0) * 10 + digit;
        if number > WIDTH_MAX {
            return wrong("a width is out of bounds");
        }
        found = Some(number);
    }
    Ok(found)
}

fn pad_left(digits: &str, least: usize) -> String {
    format!("{}{digits}", "0".repeat(least.saturating_sub(digits.len())))
}

/// With two digits of exponent at least, as C has it.
fn exponential(number: f64, precision: usize) -> String {
    let shown = format!("{number:.precision$e}");
    match shown.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{}", pad_left(digits, 2))
        }
        None => shown,
    }
}
