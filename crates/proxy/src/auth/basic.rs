//! Name and password (RFC 7617).

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use config::model;
use config::password::PasswordHash;
use memchr::memchr;

use super::hashing::Hashing;
use super::htpasswd::{UserFile, Users};
use super::memory::{Password, digest};
use super::passwords::{self, PASSWORD_MAX};
use super::{Denied, FieldName, Memory, One, Presented, Sources, Verified, credentials, quoted};

/// Longest credentials in base64, in bytes: a name and a password.
const CREDENTIALS_MAX: usize = 2048;

/// With padding or without: some clients leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Users and how they are asked for their names and passwords.
#[derive(Debug)]
pub(super) struct Basic {
    /// Those of the configuration.
    users: Arc<Users>,
    file: Option<Arc<UserFile>>,
    challenge: Vec<u8>,
    /// "Name: " of the field that tells the upstream the user.
    told: Option<Vec<u8>>,
    authorization: FieldName,
    hashing: &'static Hashing,
}

/// What a client sent.
struct Credentials<'a> {
    user: &'a [u8],
    password: &'a [u8],
}

impl Basic {
    /// Compiles what the configuration says, and reads the file.
    ///
    /// # Errors
    /// The file cannot be used; the text names it.
    pub(super) fn compile(basic: &model::BasicAuth, sources: &mut Sources) -> Result<Self, String> {
        let file = match &basic.file {
            None => None,
            Some(path) => Some(sources.user_file(path)?),
        };
        let realm = quoted(&basic.realm);
        Ok(Self {
            users: sources.listed(&basic.users),
            file,
            challenge: format!("WWW-Authenticate: Basic realm={realm}, charset=\"UTF-8\"\r\n")
                .into(),
            told: basic.user_header.as_ref().map(|name| format!("{name}: ").into_bytes()),
            authorization: FieldName::new("Authorization"),
            hashing: Hashing::of_process()?,
        })
    }

    /// Checks name and password of a request.
    pub(super) async fn check(
        &self,
        request: &Presented<'_>,
        memory: &Memory,
    ) -> Result<Rc<Verified>, Denied> {
        let decoded = self.decoded(request)?;
        let sent = self.read(decoded.as_deref())?;
        match self.is_right(&sent, memory).await? {
            true => Ok(Rc::new(self.proved(&sent))),
            false => Err(self.ask("the name or the password is wrong")),
        }
    }

    /// Whether a request brings a name and a password, right or wrong.
    ///
    /// # Errors
    /// It does not, or not so that they can be read.
    pub(super) fn look(&self, request: &Presented<'_>) -> Result<(), Denied> {
        let decoded = self.decoded(request)?;
        self.read(decoded.as_deref()).map(|_| ())
    }

    /// The credentials as they were before they were encoded; `None` if they were not.
    fn decoded(&self, request: &Presented<'_>) -> Result<Option<Vec<u8>>, Denied> {
        let sent = match request.one(&self.authorization) {
            One::This(sent) => sent,
            One::Nothing => return Err(self.ask("no name and password")),
            One::Several => {
                let why = "there is more than one Authorization field";
                return Err(Denied { status: 400, fields: Vec::new(), why });
            }
        };
        let encoded =
            credentials(b"Basic", sent).filter(|encoded| encoded.len() <= CREDENTIALS_MAX);
        Ok(encoded.and_then(|encoded| BASE64.decode(encoded).ok()))
    }

    fn read<'d>(&self, decoded: Option<&'d [u8]>) -> Result<Credentials<'d>, Denied> {
        let sent = decoded.and_then(Credentials::parse);
        sent.ok_or_else(|| self.ask("no name and password that can be read"))
    }

    async fn is_right(&self, sent: &Credentials<'_>, memory: &Memory) -> Result<bool, Denied> {
        let (hash, exists, number) = self.hash_for(sent.user);
        // Nobody could be let in.
        let Some(hash) = hash else { return Ok(false) };
        if !hash.is_slow() {
            return Ok(passwords::matches(&hash, sent.password) & exists);
        }
        if sent.password.len() > PASSWORD_MAX {
            return Ok(false);
        }
        let numbers = [self.users.number, number].map(u64::to_le_bytes);
        let key = digest(&[numbers.as_flattened(), sent.user, sent.password]);
        let key = key.map_err(Denied::unavailable)?;
        loop {
            match memory.password(&key) {
                Password::Known(right) => return Ok(right),
                Password::UnderWay(notify) => notify.notified().await,
                Password::Unknown => break,
            }
        }
        let under_way = memory.begin(key);
        let Some(answer) = self.hashing.submit(&hash, sent.password) else {
            return Err(Denied::unavailable("too many passwords wait to be checked"));
        };
        let Ok(right) = answer.await else {
            return Err(Denied::unavailable("the password could not be checked"));
        };
        let right = right & exists;
        under_way.found(right);
        Ok(right)
    }

    /// The hash to compute for this name, whether the name exists, and the number of the file's users.
    /// For a name that does not exist the costliest is computed.
    fn hash_for(&self, user: &[u8]) -> (Option<Arc<PasswordHash>>, bool, u64) {
        let in_file = self.file.as_ref().map(|file| file.users());
        let number = in_file.as_ref().map_or(0, |users| users.number);
        let found = self.users.get(user).or_else(|| in_file.as_ref()?.get(user));
        if let Some(hash) = found {
            return (Some(Arc::clone(hash)), true, number);
        }
        let of_file = in_file.as_ref().and_then(|users| users.costliest());
        let costliest = self.users.costliest().into_iter().chain(of_file);
        (costliest.max_by_key(|hash| hash.cost()).cloned(), false, number)
    }

    fn proved(&self, sent: &Credentials<'_>) -> Verified {
        let mut lines = Vec::new();
        if let Some(name) = &self.told {
            // A user's name has no control characters, or it would not be one.
            lines = [name.as_slice(), sent.user, b"\r\n"].concat();
        }
        Verified { user: Some(sent.user.into()), lines }
    }

    fn ask(&self, why: &'static str) -> Denied {
        Denied { status: 401, fields: self.challenge.clone(), why }
    }
}

impl<'a> Credentials<'a> {
    /// The name ends at the first colon; neither part has control characters (RFC 7617 §2).
    fn parse(decoded: &'a [u8]) -> Option<Self> {
        let (user, password) = decoded.split_at_checked(memchr(b':', decoded)?)?;
        let password = password.get(1..)?;
        let control = decoded.iter().any(u8::is_ascii_control);
        (!control && !user.is_empty()).then_some(Self { user, password })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use base64::engine::general_purpose::STANDARD;

    use super::super::testing::{Head, rules, wait};
    use super::*;

    fn basic(toml: &str) -> Basic {
        let auth = rules(&format!("type = \"basic\"\n{toml}"));
        match &auth[..] {
            [model::Auth::Basic(basic)] => Basic::compile(basic, &mut Sources::default()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn authorization(user: &str, password: &str) -> String {
        format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
    }

    fn check(basic: &Basic, lines: &str) -> Result<Rc<Verified>, Denied> {
        let head = Head::new("/", lines);
        wait(basic.check(&head.presented(), &Memory::default()))
    }

    fn status(basic: &Basic, lines: &str) -> u16 {
        check(basic, lines).map_or_else(|denied| denied.status, |_| 200)
    }

    #[test]
    fn rfc7617_2_the_name_ends_at_the_first_colon() {
        let basic = basic(r#"users = { Aladdin = "plain:open:sesame", "é" = "plain:ü" }"#);
        assert_eq!(status(&basic, &authorization("Aladdin", "open:sesame")), 200);
        assert_eq!(status(&basic, &authorization("é", "ü")), 200);
        let proved = check(&basic, &authorization("Aladdin", "open:sesame")).unwrap();
        assert_eq!(proved.user.as_deref(), Some(&b"Aladdin"[..]));
        assert!(proved.lines.is_empty());
    }

    #[test]
    fn rfc7617_2_1_who_is_not_let_in_is_asked() {
        let basic = basic("realm = 'a \"b\" \\ c'\nusers = { a = \"plain:b\" }");
        let denied = check(&basic, "").unwrap_err();
        assert_eq!(denied.status, 401);
        assert_eq!(
            String::from_utf8(denied.fields).unwrap(),
            "WWW-Authenticate: Basic realm=\"a \\\"b\\\" \\\\ c\", charset=\"UTF-8\"\r\n"
        );
        for lines in [
            "Authorization: Basic\r\n".to_owned(),
            "Authorization: Basic \r\n".to_owned(),
            "Authorization: Basic !!!\r\n".to_owned(),
            "Authorization: Bearer abc\r\n".to_owned(),
            format!("Authorization: Basic {}\r\n", STANDARD.encode("a")),
            format!("Authorization: Basic {}\r\n", STANDARD.encode("a:b\n")),
            format!("Authorization: Basic {}\r\n", STANDARD.encode("a:b\0c")),
            format!(
                "Authorization: Basic {}\r\n",
                STANDARD.encode([b"\xff:", &[b'b'][..]].concat())
            ),
            format!("Authorization: Basic {}\r\n", "YTpi".repeat(1000)),
            authorization("", "b"),
            authorization("a", ""),
            authorization("A", "b"),
            authorization("a", "B"),
            authorization("b", "b"),
        ] {
            assert_eq!(status(&basic, &lines), 401, "{lines}");
        }
        // The scheme has no case.
        assert_eq!(status(&basic, "authorization: bASIC   YTpi  \r\n"), 200);
    }

    #[test]
    fn padding_may_be_left_out() {
        let basic = basic("users = { aa = \"plain:b\" }");
        assert_eq!(status(&basic, "Authorization: Basic YWE6Yg==\r\n"), 200);
        assert_eq!(status(&basic, "Authorization: Basic YWE6Yg\r\n"), 200);
    }

    #[test]
    fn two_authorizations_are_none() {
        let basic = basic("users = { a = \"plain:b\" }");
        let lines = authorization("a", "b");
        assert_eq!(status(&basic, &(lines.clone() + &lines)), 400);
        assert_eq!(status(&basic, &(lines + "authorization: Bearer x\r\n")), 400);
    }

    #[test]
    fn the_upstream_is_told_the_name() {
        let basic = basic("user_header = \"X-User\"\nusers = { a = \"plain:b\" }");
        let proved = check(&basic, &authorization("a", "b")).unwrap();
        assert_eq!(proved.lines, b"X-User: a\r\n");
    }

    /// A user whose password takes some milliseconds.
    fn slow() -> Basic {
        let hash = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        basic(&format!("users = {{ a = \"{hash}\" }}"))
    }

    #[test]
    fn a_password_is_hashed_once() {
        let basic = slow();
        let memory = Memory::default();
        let right = Head::new("/", &authorization("a", "Hello world!"));
        let wrong = Head::new("/", &authorization("a", "hello world!"));
        let unknown = Head::new("/", &authorization("b", "Hello world!"));
        let hashing = Box::leak(Box::new(Hashing::start(1, 8).unwrap()));
        let basic = Basic { hashing, ..basic };
        for _ in 0..3 {
            assert!(wait(basic.check(&right.presented(), &memory)).is_ok());
            assert_eq!(wait(basic.check(&wrong.presented(), &memory)).unwrap_err().status, 401);
            assert_eq!(wait(basic.check(&unknown.presented(), &memory)).unwrap_err().status, 401);
        }
        // For the name that does not exist as well.
        assert_eq!(hashing.done(), 3);
    }

    #[test]
    fn requests_with_one_password_wait_for_one_hash() {
        let hashing = Box::leak(Box::new(Hashing::start(1, 1).unwrap()));
        let basic = Basic { hashing, ..slow() };
        let memory = Memory::default();
        let head = Head::new("/", &authorization("a", "Hello world!"));
        let presented = head.presented();
        let checks = wait(async {
            let mut checks: Vec<_> =
                (0..20).map(|_| Box::pin(basic.check(&presented, &memory))).collect();
            let mut results = Vec::new();
            // All begin before the first ends.
            std::future::poll_fn(|context| {
                checks.retain_mut(|check| match check.as_mut().poll(context) {
                    std::task::Poll::Ready(result) => {
                        results.push(result.is_ok());
                        false
                    }
                    std::task::Poll::Pending => true,
                });
                match checks.is_empty() {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                }
            })
            .await;
            results
        });
        assert_eq!(checks, [true; 20]);
        assert_eq!(hashing.done(), 1);
    }

    #[test]
    fn too_many_that_wait_are_told_to_come_again() {
        // Nobody hashes anything, and two may wait.
        let hashing = Box::leak(Box::new(Hashing::start(0, 0).unwrap()));
        let basic = Basic { hashing, ..slow() };
        let began = Instant::now();
        let denied = check(&basic, &authorization("a", "Hello world!")).unwrap_err();
        assert_eq!(denied.status, 503);
        assert_eq!(denied.fields, b"Retry-After: 1\r\n");
        assert!(began.elapsed().as_secs() < 5);
    }

    #[test]
    fn changed_users_are_in_force_at_once() {
        let path = std::env::temp_dir().join(format!("ravelin-htpasswd-{}", std::process::id()));
        let hash = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        std::fs::write(&path, format!("a:{hash}\n")).unwrap();
        let auth = rules(&format!("type = \"basic\"\nfile = '{}'", path.display()));
        let [model::Auth::Basic(model)] = &auth[..] else { panic!("{auth:?}") };
        let mut sources = Sources::default();
        let basic = Basic::compile(model, &mut sources).unwrap();
        let again = Basic::compile(model, &mut sources).unwrap();
        assert!(Arc::ptr_eq(basic.file.as_ref().unwrap(), again.file.as_ref().unwrap()));
        let memory = Memory::default();
        let head = Head::new("/", &authorization("a", "Hello world!"));
        assert!(wait(basic.check(&head.presented(), &memory)).is_ok());
        // A mistake changes nothing.
        std::fs::write(&path, "a:nothing\n").unwrap();
        let why = sources.users[0].reload().unwrap_err();
        assert!(why.contains(", line 1: ") && why.contains("ravelin-htpasswd"), "{why}");
        assert!(wait(basic.check(&head.presented(), &memory)).is_ok());
        // Although the right password was remembered.
        std::fs::write(&path, format!("b:{hash}\n")).unwrap();
        assert_eq!(sources.users[0].reload(), Ok(1));
        assert_eq!(wait(basic.check(&head.presented(), &memory)).unwrap_err().status, 401);
        std::fs::remove_file(&path).unwrap();
    }
}
