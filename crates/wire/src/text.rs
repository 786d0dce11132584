//! Text that strangers chose, on its way to people.

/// Whether a character may do something to a terminal, or to text around it, beyond being shown: a control
/// character (C0, DEL, C1), a mark or override of the direction of text (Unicode's `Bidi_Control`), or an
/// end of a line or paragraph. All of them are in the basic plane, so four hexadecimal digits name each.
#[must_use]
pub const fn steers(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_character_steers_and_what_is_only_shown_does_not() {
        let all = '\0'..=char::MAX;
        assert!(all.clone().filter(|c| c.is_control()).all(steers));
        assert!(all.filter(|c| steers(*c)).all(|c| u32::from(c) <= 0xffff));
        assert!(
            "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}"
                .chars()
                .all(steers)
        );
        assert!(!" ~\u{a0}\u{ad}é\u{200d}\u{2027}\u{202f}\u{feff}😀".chars().any(steers));
    }
}
