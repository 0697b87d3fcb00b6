//! What an operator may change of the pages' looks.

use std::str::FromStr;

/// A colour, by its red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

/// How the pages look.
#[derive(Debug, Clone)]
pub struct Theme {
    /// The name of what people sign in to.
    pub name: String,
    /// A picture in place of the name.
    pub logo_url: Option<String>,
    /// The colour of buttons.
    pub accent: Colour,
    /// Rules after the pages' own.
    pub css: String,
}

impl Default for Theme {
    /// Cardea, in ink.
    fn default() -> Self {
        Self {
            name: "Cardea".to_owned(),
            logo_url: None,
            accent: Colour([0x3b, 0x4f, 0xd8]),
            css: String::new(),
        }
    }
}

impl FromStr for Colour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix('#').filter(|digits| {
            digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
        let digits = digits.ok_or_else(|| {
            format!("expected a colour of six hexadecimal digits such as #3b4fd8, found \"{text}\"")
        })?;
        let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_default();
        Ok(Self([part(0), part(2), part(4)]))
    }
}

impl Colour {
    /// As style sheets write it.
    pub(super) fn css(self) -> String {
        let [red, green, blue] = self.0;
        format!("#{red:02x}{green:02x}{blue:02x}")
    }

    /// The same for a dark page: light enough to stand out from it.
    pub(super) fn lightened(self) -> Self {
        let mut colour = self;
        // What WCAG asks of controls, against the dark card.
        while colour.contrast(Self([0x15, 0x17, 0x1b])) < 3.0 {
            colour = Self(colour.0.map(|part| part.saturating_add((255 - part).div_ceil(12))));
        }
        colour
    }

    /// The colour of a text on it that is read best.
    pub(super) fn text(self) -> &'static str {
        let (white, black) = (Self([255; 3]), Self([0; 3]));
        if self.contrast(white) >= self.contrast(black) { "#ffffff" } else { "#000000" }
    }

    /// WCAG's contrast ratio.
    fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// WCAG's relative luminance.
    fn luminance(self) -> f64 {
        let linear = self.0.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_read_strictly() {
        assert_eq!("#3B4fd8".parse(), Ok(Colour([0x3b, 0x4f, 0xd8])));
        for text in ["", "3b4fd8", "#3b4fd", "#3b4fdg", "red", "#fff;}", "#+1+2+3"] {
            assert!(text.parse::<Colour>().is_err(), "{text}");
        }
    }

    /// WCAG 2.2, 1.4.3 and 1.4.11: whatever colour an operator chooses, what stands on
    /// it can be read, and it stands out from a dark page.
    #[test]
    fn every_accent_can_be_read() {
        for accent in ["#000000", "#ffffff", "#3b4fd8", "#ff0000", "#00ff00", "#ffcc00", "#777777"]
        {
            let accent: Colour = accent.parse().unwrap();
            for shown in [accent, accent.lightened()] {
                let text: Colour = shown.text().parse().unwrap();
                assert!(shown.contrast(text) >= 4.5, "{shown:?} {text:?}");
            }
            assert!(accent.lightened().contrast(Colour([0x15, 0x17, 0x1b])) >= 3.0, "{accent:?}");
        }
    }
}
