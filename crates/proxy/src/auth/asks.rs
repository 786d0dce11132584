//! What a request would be asked to prove, without a password being hashed or anything remembered.

use super::{Auth, Denied, Memory, Presented, Step, Verified};

/// One thing that is asked for, and what would be said to the request.
#[derive(Debug)]
pub struct Asks {
    /// What is asked for.
    pub what: &'static str,
    /// What would be said.
    pub says: Said,
}

/// What would be said to a request.
#[derive(Debug)]
pub enum Said {
    /// It proves enough.
    Proved(Verified),
    /// It does not.
    Denied(Denied),
    /// It brings something that is not looked at here.
    Unknown,
}

impl Auth {
    /// What a request would be asked for, in order, up to the first that it does not have.
    pub fn asks(&self, request: &Presented<'_>) -> Vec<Asks> {
        let mut asked = Vec::new();
        for one in &self.steps {
            let (what, says) = match &one.step {
                Step::Basic(basic) => {
                    // Nobody learns by asking whether a password is right.
                    let says = match basic.look(request) {
                        Ok(()) => Said::Unknown,
                        Err(denied) => Said::Denied(denied),
                    };
                    ("name and password", says)
                }
                Step::Jwt(jwt) => ("a token", said(jwt.check(request, &Memory::default()))),
                Step::Fields(fields) => {
                    let checked = fields.check(request).map(|()| Verified::default());
                    ("fields", said(checked.map(Into::into)))
                }
            };
            let denied = matches!(says, Said::Denied(_));
            asked.push(Asks { what, says });
            if denied {
                break;
            }
        }
        asked
    }
}

fn said(result: Result<std::rc::Rc<Verified>, Denied>) -> Said {
    match result {
        Ok(verified) => Said::Proved((*verified).clone()),
        Err(denied) => Said::Denied(denied),
    }
}
