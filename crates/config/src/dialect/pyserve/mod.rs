//! PyServe's YAML: documents to native trees.

use crate::decode::Context;
use crate::diagnostic::{Code, Diagnostic};
use crate::tree::Node;

/// What these documents, of all files of the dialect, mean in native TOML.
pub(crate) fn translate(context: &Context<'_>, documents: &[Node]) -> Vec<Node> {
    for document in documents {
        let message = "the configuration of PyServe is not read yet";
        context.push(Diagnostic::error(Code::UnknownDialect, document.span, message));
    }
    Vec::new()
}
