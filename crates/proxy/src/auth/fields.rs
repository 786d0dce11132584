//! Fields with certain values, such as the key of an application.

use config::model;
use config::pattern;
use regex_automata::meta::Regex;

use super::{Denied, FieldName, Presented, same};

/// What fields have to be.
#[derive(Debug)]
pub(super) struct Fields(Vec<Rule>);

struct Rule {
    name: FieldName,
    values: Vec<String>,
    regex: Option<Regex>,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Fields {
    /// Compiles what the configuration says.
    ///
    /// # Errors
    /// A regular expression that is none, which the configuration does not let through.
    pub(super) fn compile(fields: &model::FieldAuth) -> Result<Self, String> {
        let rules = fields.fields.iter().map(|rule| {
            let regex = rule.regex.as_deref().map(pattern::compile).transpose()?;
            let name = FieldName::new(&rule.name);
            Ok(Rule { name, values: rule.values.clone(), regex })
        });
        rules.collect::<Result<_, String>>().map(Self)
    }

    /// Every rule has to fit, whichever line of a field the upstream may take.
    pub(super) fn check(&self, request: &Presented<'_>) -> Result<(), Denied> {
        let fit = self.0.iter().all(|rule| {
            let mut values = request.values(&rule.name).peekable();
            values.peek().is_some() && values.all(|value| rule.fits(value))
        });
        match fit {
            true => Ok(()),
            false => Err(Denied {
                status: 403,
                fields: Vec::new(),
                why: "a field that is asked for is not there, or has another value",
            }),
        }
    }
}

impl Rule {
    fn fits(&self, value: &[u8]) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(value),
            // All of them, so that the time does not tell which one it is.
            None => {
                self.values.iter().fold(false, |any, known| any | same(value, known.as_bytes()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Head, rules};
    use super::*;

    fn fields(toml: &str) -> Fields {
        let auth = rules(&format!("type = \"header\"\nfields = {toml}"));
        match &auth[..] {
            [model::Auth::Fields(fields)] => Fields::compile(fields).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn passes(fields: &Fields, lines: &str) -> bool {
        let head = Head::new("/", lines);
        let checked = fields.check(&head.presented());
        assert!(checked.as_ref().err().is_none_or(|denied| denied.status == 403));
        checked.is_ok()
    }

    #[test]
    fn all_rules_and_all_lines_have_to_fit() {
        let fields = fields(r#"{ X-Key = ["one", "two"], X-Env = { regex = "^test" } }"#);
        assert!(passes(&fields, "X-Key: two\r\nx-env: testing\r\n"));
        for lines in [
            "",
            "X-Key: one\r\n",
            "X-Env: test\r\n",
            "X-Key: three\r\nX-Env: test\r\n",
            "X-Key: on\r\nX-Env: test\r\n",
            "X-Key: one\r\nX-Env: a test\r\n",
            "X-Key: one\r\nX-Key: three\r\nX-Env: test\r\n",
            "X-Key:\r\nX-Env: test\r\n",
        ] {
            assert!(!passes(&fields, lines), "{lines:?}");
        }
    }

    #[test]
    fn known_fields_are_found_as_well() {
        let fields = fields(r#"{ Authorization = "Token abc" }"#);
        assert!(passes(&fields, "authorization: Token abc\r\n"));
        assert!(!passes(&fields, "Authorization: token abc\r\n"));
    }
}
