//! The account at an authority: stored once, used by every certificate of it.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use config::model::{Acme, ExternalAccount};
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use proxy::log::ErrorLog;
use tokio::sync::{Mutex, Semaphore};

use super::super::files;
use super::client::{Http, Trust};
use super::failure::Failure;
use super::store::{self, Store};

/// Orders under way at once at one authority; more wait their turn.
const ORDERS_AT_ONCE: usize = 4;

/// base64url as authorities print it: with or without `=`.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An authority and the account there.
pub(super) struct Authority {
    pub(super) directory_url: String,
    email: String,
    external: Option<ExternalAccount>,
    ca_file: Option<PathBuf>,
    trust: Trust,
    pub(super) store: Arc<Store>,
    /// Where the account is stored.
    file: PathBuf,
    account: Mutex<Option<Account>>,
    pub(super) orders: Semaphore,
}

impl Authority {
    /// The one that `acme` names.
    ///
    /// # Errors
    /// Something in `acme` is of no use: what, and what to do.
    pub(super) fn new(acme: &Acme, store: Arc<Store>) -> Result<Self, Failure> {
        let trust = trust(acme)?;
        let url = &acme.directory_url;
        let key_id = acme.external_account.as_ref().map(|external| external.key_id.as_str());
        Ok(Self {
            directory_url: url.clone(),
            email: acme.email.clone(),
            external: acme.external_account.clone(),
            ca_file: acme.ca_file.clone(),
            trust,
            file: store.account(url, &acme.email, key_id),
            store,
            account: Mutex::new(None),
            orders: Semaphore::new(ORDERS_AT_ONCE),
        })
    }

    /// Whether `acme`, with the same state directory, means this authority and account.
    pub(super) fn is_of(&self, acme: &Acme) -> bool {
        self.directory_url == acme.directory_url
            && self.email == acme.email
            && self.external == acme.external_account
            && self.ca_file == acme.ca_file
    }

    /// Host of the authority, for the log.
    pub(super) fn host(&self) -> &str {
        let rest = self.directory_url.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }

    /// The account: as used before, as stored, or a new one. Needs the lock of the store.
    pub(super) async fn account(&self, log: &ErrorLog) -> Result<Account, Failure> {
        let mut known = self.account.lock().await;
        if let Some(account) = &*known {
            return Ok(account.clone());
        }
        let account = match self.stored(log)? {
            Some(credentials) => self.restore(credentials).await?,
            None => self.create(log).await?,
        };
        Ok(known.insert(account).clone())
    }

    /// Reads the account and the authority's directory anew the next time.
    pub(super) async fn forget(&self) {
        *self.account.lock().await = None;
    }

    /// Makes a new account the next time: the authority does not know the stored one any more.
    pub(super) async fn discard(&self) -> Result<(), Failure> {
        let mut known = self.account.lock().await;
        *known = None;
        let gone = self.file.with_extension("json.unknown");
        match fs::rename(&self.file, gone) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.unwritable(&error)),
            _ => Ok(()),
        }
    }

    /// What is stored. A file that is broken is put aside, nothing else could be done by hand.
    fn stored(&self, log: &ErrorLog) -> Result<Option<AccountCredentials>, Failure> {
        let (file, advice) = (self.file.display(), "mend it, or remove it to get a new account");
        let bytes = match files::read(&self.file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::new(format!("the account's file {file}: {error}"), advice));
            }
        };
        // The library's message might repeat what it read.
        if let Ok(credentials) = serde_json::from_slice(&bytes) {
            return Ok(Some(credentials));
        }
        let aside = self.file.with_extension("json.broken");
        fs::rename(&self.file, &aside).map_err(|error| self.unwritable(&error))?;
        log.warn(format_args!(
            "acme: the account's file {file} is broken: it is {} now, and a new account is made",
            aside.display()
        ));
        Ok(None)
    }

    async fn restore(&self, credentials: AccountCredentials) -> Result<Account, Failure> {
        let restored = self.builder()?.from_credentials(credentials).await;
        restored.map_err(|error| Failure::of("directory", &error))
    }

    async fn create(&self, log: &ErrorLog) -> Result<Account, Failure> {
        let mailto = format!("mailto:{}", self.email);
        let contact: &[&str] = if self.email.is_empty() { &[] } else { &[&mailto] };
        let new =
            NewAccount { contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = self.external.as_ref().map(external_key).transpose()?;
        let created =
            self.builder()?.create(&new, self.directory_url.clone(), external.as_ref()).await;
        let (account, credentials) = created.map_err(|error| Failure::of("account", &error))?;
        let json = serde_json::to_vec(&credentials)
            .map_err(|_| Failure::new("the account cannot be written as JSON", ""))?;
        let saved = match self.file.parent() {
            Some(directory) => store::make_directory(directory),
            None => Ok(()),
        };
        saved
            .and_then(|()| store::write(&self.file, &json))
            .map_err(|error| self.unwritable(&error))?;
        log.info(format_args!(
            "acme: new account at {} for {}, kept in {}; by using it you agree to the authority's \
             terms of service",
            self.host(),
            self.email,
            self.file.display()
        ));
        Ok(account)
    }

    fn builder(&self) -> Result<instant_acme::AccountBuilder, Failure> {
        let http = Http::new(&self.trust).map_err(|error| Failure::new(error.to_string(), ""))?;
        Ok(Account::builder_with_http(Box::new(http)))
    }

    fn unwritable(&self, error: &std::io::Error) -> Failure {
        Failure::new(
            format!("the account's file {} cannot be written: {error}", self.file.display()),
            "give the user that runs Ravelin its state directory (`state_dir`)",
        )
    }
}

/// Whom `acme` trusts to be the authority, if all that it says is of use.
pub(super) fn trust(acme: &Acme) -> Result<Trust, Failure> {
    let url = &acme.directory_url;
    if !url.starts_with("https://") {
        return Err(Failure::new(
            format!("the authority's URL \"{url}\" is not https"),
            "ACME needs TLS (RFC 8555, section 6.1): write the `https://` URL in `directory_url`",
        ));
    }
    let trust = Trust::load(acme.ca_file.as_deref()).map_err(|problem| {
        let file = acme.ca_file.as_deref().unwrap_or_else(|| "".as_ref()).display();
        Failure::new(
            format!("`ca_file` {file} {problem}"),
            "it should be a PEM file with the root certificate of the authority's own server",
        )
    })?;
    if let Some(external) = &acme.external_account {
        external_key(external)?;
    }
    Ok(trust)
}

fn external_key(external: &ExternalAccount) -> Result<ExternalAccountKey, Failure> {
    let bytes = BASE64.decode(external.hmac_key.trim()).map_err(|_| {
        Failure::new(
            "the external account's `hmac_key` is not base64url",
            "copy it from the authority once more, whole",
        )
    })?;
    Ok(ExternalAccountKey::new(external.key_id.clone(), &bytes))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Directory, acme, lines, log};
    use super::*;

    #[test]
    fn certificates_share_an_account_if_authority_address_and_key_are_the_same() {
        let state = Directory::new();
        let store = Arc::new(Store::open(state.path()).unwrap());
        let one = acme(&["a.test"], state.path());
        let authority = Authority::new(&one, store).unwrap();
        assert_eq!(authority.host(), "ca.test");
        assert!(authority.is_of(&Acme { names: vec!["b.test".to_owned()], ..one.clone() }));
        assert!(!authority.is_of(&Acme { email: "other@a.test".to_owned(), ..one.clone() }));
        let url = "https://other.test/directory".to_owned();
        assert!(!authority.is_of(&Acme { directory_url: url, ..one.clone() }));
        let external =
            ExternalAccount { key_id: "kid".to_owned(), hmac_key: "c2VjcmV0".to_owned() };
        assert!(!authority.is_of(&Acme { external_account: Some(external), ..one }));
    }

    #[test]
    fn what_is_of_no_use_is_refused_without_repeating_the_secret() {
        let state = Directory::new();
        let store = Arc::new(Store::open(state.path()).unwrap());
        let one = acme(&["a.test"], state.path());
        let refused = |acme: &Acme| match Authority::new(acme, store.clone()) {
            Ok(_) => panic!("taken"),
            Err(failure) => failure.what,
        };
        let plain = Acme { directory_url: "http://ca.test/".to_owned(), ..one.clone() };
        assert!(refused(&plain).contains("is not https"));
        let external = ExternalAccount { key_id: "kid".to_owned(), hmac_key: "s3cret!".to_owned() };
        let text = refused(&Acme { external_account: Some(external), ..one.clone() });
        assert!(text.contains("not base64url") && !text.contains("s3cret"), "{text}");
        let missing = Acme { ca_file: Some(state.path().join("no.pem")), ..one };
        assert!(refused(&missing).contains("no.pem cannot be read"));
    }

    #[test]
    fn a_broken_account_is_put_aside() {
        let state = Directory::new();
        let store = Arc::new(Store::open(state.path()).unwrap());
        let authority = Authority::new(&acme(&["a.test"], state.path()), store).unwrap();
        let (log, source) = log();
        assert!(authority.stored(&log).unwrap().is_none());
        for content in ["", "{\"id\":\"https://ca.test/1\",\"key_pk", "null", "s3cret"] {
            fs::create_dir_all(authority.file.parent().unwrap()).unwrap();
            fs::write(&authority.file, content).unwrap();
            assert!(authority.stored(&log).unwrap().is_none());
            let aside = authority.file.with_extension("json.broken");
            assert_eq!(fs::read_to_string(aside).unwrap(), content);
            let told = lines(&source);
            assert!(told.len() == 1 && told[0].starts_with("warn acme: the account's file"));
            assert!(told[0].contains("is broken") && !told[0].contains("s3cret"), "{told:?}");
            assert!(authority.stored(&log).unwrap().is_none() && lines(&source).is_empty());
        }
    }

    #[test]
    fn an_external_key_may_be_padded_or_not() {
        for text in ["c2VjcmV0MQ", "c2VjcmV0MQ==", " c2VjcmV0MQ\n"] {
            let external = ExternalAccount { key_id: "kid".to_owned(), hmac_key: text.to_owned() };
            assert!(external_key(&external).is_ok(), "{text:?}");
        }
    }
}
