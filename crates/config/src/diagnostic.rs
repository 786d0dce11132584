//! What is wrong with a configuration, where, and what to write instead.
//!
//! Readers and decoders push [`Diagnostic`]s into one `Diagnostics` and go on, so that an operator
//! sees every mistake at once. How they look on a terminal or for a tool is `render`'s part.

use std::cell::RefCell;

use crate::lint::Rule;
use crate::source::Span;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the configuration can be used in spite of it.
    pub severity: Severity,
    /// What kind of finding it is.
    pub code: Code,
    /// One sentence without a full stop.
    pub message: String,
    /// The place it is about; `None` when it is about no place in particular.
    pub span: Option<Span>,
    /// What is said below the caret; may be empty.
    pub label: String,
    /// Other places that belong to it.
    pub labels: Vec<Label>,
    /// What to do, one sentence each.
    pub help: Vec<String>,
    /// A replacement that would put it right.
    pub suggestion: Option<Suggestion>,
}

/// A remark on a second place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// The remark.
    pub message: String,
}

/// Text to put in the place of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// What to replace.
    pub span: Span,
    /// With what.
    pub replacement: String,
    /// Why, as a sentence or question.
    pub message: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is used, but perhaps not as its author thinks.
    Warning,
    /// It is used as its author thinks, and something about that is worth knowing.
    Note,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// The kinds of findings. The names are stable, for tools.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
            /// What a rule of the linter says; its name is the rule's code.
            Lint(Rule),
        }
        impl Code {
            /// Every code but those of the linter, its name and its meaning.
            pub const ALL: &'static [(Code, &'static str, &'static str)] =
                &[$((Code::$name, $text, concat!($($doc),+)),)+];
        }
    };
}

codes! {
    /// The file is not valid TOML or YAML.
    Syntax = "syntax",
    /// A key or table is written twice.
    DuplicateKey = "duplicate-key",
    /// No such key in this table.
    UnknownKey = "unknown-key",
    /// A required key is missing.
    MissingKey = "missing-key",
    /// A value has the wrong type.
    WrongType = "wrong-type",
    /// A value has the right type but cannot be used.
    BadValue = "bad-value",
    /// A field name or value that HTTP does not allow, or that Ravelin must manage itself.
    BadField = "bad-field",
    /// Two keys contradict each other.
    Conflict = "conflict",
    /// A route names an upstream that has no entry.
    UnknownUpstream = "unknown-upstream",
    /// Two sites answer to one host name at one listener.
    DuplicateHost = "duplicate-host",
    /// More than one default site for one listener.
    SeveralDefaults = "several-defaults",
    /// A safeguard is turned off.
    Unsafe = "unsafe",
    /// The key is accepted, but its function is not built yet.
    NotInEffect = "not-in-effect",
    /// The line has no effect, neither in Ravelin nor in the system it is written for.
    Ignored = "ignored",
    /// Ravelin does something else here than the system the line is written for.
    Changed = "changed",
    /// Something is configured and never used.
    Unused = "unused",
    /// A file or directory that a key names does not exist.
    MissingFile = "missing-file",
    /// A certificate or its key that a key names cannot be used, or is odd.
    BadCertificate = "bad-certificate",
    /// A request does not come to what a test of the configuration expects.
    FailedTest = "failed-test",
    /// The file's format is not one that Ravelin reads.
    UnknownDialect = "unknown-dialect",
}

impl Code {
    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        if let Code::Lint(rule) = self {
            return rule.code();
        }
        Code::ALL.iter().find(|(code, ..)| *code == self).map_or("", |(_, name, _)| name)
    }
}

impl Diagnostic {
    /// An error at a place.
    pub(crate) fn error(code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            span: Some(span),
            label: String::new(),
            labels: Vec::new(),
            help: Vec::new(),
            suggestion: None,
        }
    }

    /// A warning at a place.
    pub(crate) fn warning(code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, span, message) }
    }

    /// A remark on a place.
    pub(crate) fn note(code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Note, ..Diagnostic::error(code, span, message) }
    }

    /// Says something below the caret.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// Points at a second place.
    pub(crate) fn also(mut self, span: Span, message: impl Into<String>) -> Diagnostic {
        self.labels.push(Label { span, message: message.into() });
        self
    }

    /// Says what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help.push(help.into());
        self
    }

    /// Offers a replacement.
    pub(crate) fn suggest(
        mut self,
        span: Span,
        replacement: impl Into<String>,
        message: impl Into<String>,
    ) -> Diagnostic {
        let (replacement, message) = (replacement.into(), message.into());
        self.suggestion = Some(Suggestion { span, replacement, message });
        self
    }
}

/// Most findings kept of one configuration; a file with more is some other kind of file.
const DIAGNOSTICS_MAX: usize = 500;

/// Collects findings. Shared by reference, so that decoding several values at once is no quarrel.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    found: RefCell<Vec<Diagnostic>>,
}

impl Diagnostics {
    /// Adds one; beyond [`DIAGNOSTICS_MAX`] only errors that follow warnings alone are still kept.
    pub(crate) fn push(&self, diagnostic: Diagnostic) {
        let mut found = self.found.borrow_mut();
        if found.len() < DIAGNOSTICS_MAX {
            found.push(diagnostic);
        } else if let Some(last) = found.last_mut()
            && diagnostic.severity == Severity::Error
        {
            *last = diagnostic;
        }
    }

    /// Whether another error would be lost in the crowd.
    pub(crate) fn is_full(&self) -> bool {
        let found = self.found.borrow();
        found.len() >= DIAGNOSTICS_MAX
            && found.last().is_some_and(|last| last.severity == Severity::Error)
    }

    /// All of them, by place.
    pub(crate) fn into_sorted(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|diagnostic| (diagnostic.span, diagnostic.severity));
        // What a dialect writes once may be native several times.
        found.dedup();
        found
    }
}
