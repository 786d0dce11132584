use std::path::PathBuf;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use serde_json::json;

use super::super::testing::{Head, rules};
use super::*;

/// RFC 7515 appendix A: the claims of the examples, and the key of A.1.
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const A1_KEY: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
/// When those tokens expire, in milliseconds since 1970.
const A_EXPIRES: u64 = 1_300_819_380_000;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn compile(keys: &str) -> Result<Jwt, String> {
    let auth = rules(&format!("type = \"jwt\"\n{keys}"));
    match &auth[..] {
        [model::Auth::Jwt(jwt)] => Jwt::compile(jwt, &mut Sources::default()),
        other => panic!("{other:?}"),
    }
}

fn jwt(keys: &str) -> Jwt {
    compile(keys).unwrap_or_else(|why| panic!("{keys}: {why}"))
}

/// With a shared secret and these keys.
fn hs256(keys: &str) -> Jwt {
    jwt(&format!("algorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n{keys}"))
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn by_secret(secret: &str) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

/// A token with these claims, signed as it should be.
fn signed(claims: &Value) -> String {
    token(&json!({"alg": "HS256"}), claims, by_secret(SECRET))
}

fn verify(jwt: &Jwt, token: &str, now: u64) -> Result<Rc<Verified>, Fault> {
    jwt.verify(token.as_bytes(), &Memory::default(), now)
}

fn reason(jwt: &Jwt, token: &str, now: u64) -> &'static str {
    match verify(jwt, token, now) {
        Ok(_) => "",
        Err(Fault::Invalid(why) | Fault::Malformed(why)) => why,
        Err(Fault::Insufficient) => "insufficient",
        Err(Fault::NoKeys) => "no keys",
        Err(Fault::Missing) => "missing",
    }
}

/// A file that goes with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("ravelin-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// With a key set of these keys.
fn with_jwks(name: &str, algorithms: &str, keys: &[Value]) -> Result<Jwt, String> {
    let file = File::new(name, json!({ "keys": keys }).to_string());
    compile(&format!("algorithms = {algorithms}\njwks_file = '{}'", file.0.display()))
}

#[test]
fn rfc7515_a_1_hmac() {
    let key = json!({"kty": "oct", "k": A1_KEY});
    let jwt = with_jwks("a1", "[\"HS256\"]", &[key]).unwrap();
    let token = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    assert_eq!(reason(&jwt, &token, A_EXPIRES - 1), "");
    // A clock may be a minute late.
    assert_eq!(reason(&jwt, &token, A_EXPIRES + 59_999), "");
    assert_eq!(reason(&jwt, &token, A_EXPIRES + 60_000), "the token has expired");
    // Not a bit may differ.
    assert_ne!(reason(&jwt, &token.replace(".dBj", ".dBk"), 0), "");
    assert_ne!(reason(&jwt, &token.replace("eyJpc", "eyJqc"), 0), "");
}

#[test]
fn rfc7515_a_2_rsa() {
    let key = json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
    let jwt = with_jwks("a2", "[\"RS256\"]", &[key]).unwrap();
    let token = format!(
        "eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    assert_eq!(reason(&jwt, &token, A_EXPIRES - 1), "");
}

#[test]
fn rfc7515_a_3_ecdsa() {
    let key = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let jwt = with_jwks("a3", "[\"ES256\"]", &[key]).unwrap();
    let token = format!(
        "eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    assert_eq!(reason(&jwt, &token, A_EXPIRES - 1), "");
}

#[test]
fn rfc8037_a_4_ed25519() {
    let key =
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let jwt = with_jwks("ed", "[\"EdDSA\"]", &[key]).unwrap();
    let signature =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let keys = jwt.keys.keys();
    let keys = keys.as_ref().unwrap();
    let mut found = keys.candidates(None, JwtAlgorithm::EdDsa);
    assert!(found.next().unwrap().signed(JwtAlgorithm::EdDsa, message, &signature));
}

#[test]
fn every_algorithm_takes_its_own_signatures_and_no_others() {
    let random = SystemRandom::new();
    let now = 1_000_000;
    let claims = json!({"exp": 2000});
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    // SEQUENCE of the modulus and the exponent 65537 (RFC 8017 appendix A.1.1).
    let modulus = &rsa.public_key().as_ref()[9..265];
    let rsa_key = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"});
    let by_rsa = |how: &'static dyn sig::RsaEncoding, message: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(how, &random, message, &mut signature).unwrap();
        signature
    };
    let curve = |how: &'static sig::EcdsaSigningAlgorithm, name: &str| {
        let pair = EcdsaKeyPair::generate(how).unwrap();
        let point = pair.public_key().as_ref()[1..].to_vec();
        let (x, y) = point.split_at(point.len() / 2);
        let key = json!({"kty": "EC", "crv": name, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)});
        (key, pair)
    };
    let (p256_key, p256) = curve(&sig::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
    let (p384_key, p384) = curve(&sig::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384");
    let (p521_key, p521) = curve(&sig::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521");
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_key =
        json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(ed.public_key())});
    let secret_key = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)});
    let by_hmac = |how: hmac::Algorithm, message: &[u8]| {
        hmac::sign(&hmac::Key::new(how, SECRET.as_bytes()), message).as_ref().to_vec()
    };
    let by_curve = |pair: &EcdsaKeyPair, message: &[u8]| {
        pair.sign(&random, message).unwrap().as_ref().to_vec()
    };
    type Sign<'a> = Box<dyn Fn(&[u8]) -> Vec<u8> + 'a>;
    let signers: Vec<(&str, Sign<'_>)> = vec![
        ("HS256", Box::new(|m: &[u8]| by_hmac(hmac::HMAC_SHA256, m))),
        ("HS384", Box::new(|m: &[u8]| by_hmac(hmac::HMAC_SHA384, m))),
        ("HS512", Box::new(|m: &[u8]| by_hmac(hmac::HMAC_SHA512, m))),
        ("RS256", Box::new(|m: &[u8]| by_rsa(&sig::RSA_PKCS1_SHA256, m))),
        ("RS384", Box::new(|m: &[u8]| by_rsa(&sig::RSA_PKCS1_SHA384, m))),
        ("RS512", Box::new(|m: &[u8]| by_rsa(&sig::RSA_PKCS1_SHA512, m))),
        ("PS256", Box::new(|m: &[u8]| by_rsa(&sig::RSA_PSS_SHA256, m))),
        ("PS384", Box::new(|m: &[u8]| by_rsa(&sig::RSA_PSS_SHA384, m))),
        ("PS512", Box::new(|m: &[u8]| by_rsa(&sig::RSA_PSS_SHA512, m))),
        ("ES256", Box::new(|m: &[u8]| by_curve(&p256, m))),
        ("ES384", Box::new(|m: &[u8]| by_curve(&p384, m))),
        ("ES512", Box::new(|m: &[u8]| by_curve(&p521, m))),
        ("EdDSA", Box::new(|m: &[u8]| ed.sign(m).as_ref().to_vec())),
    ];
    let keys = [secret_key, rsa_key, p256_key, p384_key, p521_key, ed_key];
    let names: Vec<&str> = signers.iter().map(|(name, _)| *name).collect();
    let all = with_jwks("all", &json!(names).to_string(), &keys).unwrap();
    for (name, sign) in &signers {
        let good = token(&json!({"alg": name}), &claims, sign);
        assert_eq!(reason(&all, &good, now), "", "{name}");
        // Whatever else the token says of itself, its signature is not right for that.
        for other in names.iter().filter(|other| *other != name) {
            let lies = token(&json!({"alg": other}), &claims, sign);
            assert_eq!(reason(&all, &lies, now), "the signature of the token is wrong");
        }
        // Where the algorithm is not allowed the key does not matter.
        let other = if *name == "RS256" { "ES256" } else { "RS256" };
        let one = with_jwks(name, &json!([other]).to_string(), &keys).unwrap();
        assert_eq!(reason(&one, &good, now), "the algorithm of the token is not allowed");
    }
}

#[test]
fn cve_2015_9235_a_public_key_is_no_secret() {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
        aws_lc_rs::encoding::AsDer::as_der(rsa.public_key()).unwrap();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(der.as_ref())
    );
    let file = File::new("confusion.pem", &pem);
    let jwt = jwt(&format!("algorithms = [\"RS256\"]\npublic_key_file = '{}'", file.0.display()));
    let claims = json!({"exp": 2000});
    for secret in [pem.as_bytes(), pem.trim().as_bytes(), der.as_ref()] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let sign = |message: &[u8]| hmac::sign(&key, message).as_ref().to_vec();
        for algorithm in ["HS256", "RS256"] {
            let token = token(&json!({"alg": algorithm}), &claims, sign);
            assert_ne!(reason(&jwt, &token, 0), "", "{algorithm}");
        }
    }
    // Signed as it should be it is taken.
    let sign = |message: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&sig::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    };
    assert_eq!(reason(&jwt, &token(&json!({"alg": "RS256", "kid": "any"}), &claims, sign), 0), "");
}

#[test]
fn cve_2020_28042_a_token_without_signature_is_none() {
    let jwt = hs256("");
    let claims = json!({"exp": 2000});
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "NONE"}),
        json!({"alg": ""}),
        json!({}),
        json!({"alg": null}),
        json!({"alg": ["HS256"]}),
        json!({"alg": "hs256"}),
        json!({"alg": "HS256"}),
    ] {
        for signature in ["", "AA"] {
            let token = format!("{}.{}.{signature}", part(&header), part(&claims));
            assert_ne!(reason(&jwt, &token, 0), "", "{token}");
        }
        let token = format!("{}.{}", part(&header), part(&claims));
        assert_eq!(reason(&jwt, &token, 0), "this is no signed token");
    }
    let other = token(&json!({"alg": "HS256"}), &claims, by_secret(&SECRET.to_uppercase()));
    assert_eq!(reason(&jwt, &other, 0), "the signature of the token is wrong");
}

#[test]
fn cve_2022_21449_a_signature_of_zeros_is_wrong() {
    let pair = EcdsaKeyPair::generate(&sig::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(32);
    let key = json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)});
    let jwt = with_jwks("zeros", "[\"ES256\"]", &[key]).unwrap();
    for length in [0, 63, 64, 65, 72] {
        let token = token(&json!({"alg": "ES256"}), &json!({"exp": 2000}), |_| vec![0; length]);
        assert_eq!(reason(&jwt, &token, 0), "the signature of the token is wrong");
    }
}

#[test]
fn rfc7515_4_1_11_critical_extensions_are_not_known() {
    let jwt = hs256("");
    for header in [
        json!({"alg": "HS256", "crit": ["exp"], "exp": 1}),
        json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
        json!({"alg": "HS256", "crit": []}),
    ] {
        let token = token(&header, &json!({"exp": 2000}), by_secret(SECRET));
        assert_eq!(reason(&jwt, &token, 0), "the token has critical extensions that are not known");
    }
}

#[test]
fn keys_in_a_token_are_not_looked_at() {
    let jwt = hs256("");
    let own = "x".repeat(64);
    let jwk = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(&own)});
    let header = json!({"alg": "HS256", "jwk": jwk, "jku": "https://evil.example/", "x5u": "https://evil.example/"});
    let token = token(&header, &json!({"exp": 2000}), by_secret(&own));
    assert_eq!(reason(&jwt, &token, 0), "the signature of the token is wrong");
}

#[test]
fn a_token_has_one_form_only() {
    let jwt = hs256("");
    let token = signed(&json!({"exp": 2000, "sub": "a"}));
    assert_eq!(reason(&jwt, &token, 0), "");
    let last = token.chars().last().unwrap();
    for other in [
        format!("{token}="),
        format!("{token}."),
        format!("{token}.AA"),
        format!(".{token}"),
        format!(" {token}"),
        token.replacen('.', "..", 1),
        // The last character of 32 bytes has two bits without a meaning.
        format!("{}{}", &token[..token.len() - 1], char::from(last as u8 + 1)),
        token.replace('.', "%2E"),
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "a.b.c".to_owned(),
    ] {
        assert_ne!(reason(&jwt, &other, 0), "", "{other}");
    }
    let list = URL_SAFE_NO_PAD.encode("[]");
    let message = format!("{}.{list}", part(&json!({"alg": "HS256"})));
    let signature = URL_SAFE_NO_PAD.encode(by_secret(SECRET)(message.as_bytes()));
    assert_eq!(reason(&jwt, &format!("{message}.{signature}"), 0), "this is no signed token");
}

#[test]
fn rfc7519_4_1_4_times_are_kept() {
    let strict = hs256("leeway = 0");
    let at = |claims: Value, now: u64| reason(&strict, &signed(&claims), now);
    assert_eq!(at(json!({"exp": 10}), 9_999), "");
    assert_eq!(at(json!({"exp": 10}), 10_000), "the token has expired");
    assert_eq!(at(json!({"exp": 10.5}), 10_400), "");
    assert_eq!(at(json!({"exp": 10.5}), 10_500), "the token has expired");
    assert_eq!(at(json!({"exp": -5}), 0), "the token has expired");
    assert_eq!(at(json!({"exp": 1e300}), u64::MAX - 1), "");
    assert_eq!(at(json!({"exp": 20, "nbf": 10}), 9_999), "the token is not valid yet");
    assert_eq!(at(json!({"exp": 20, "nbf": 10}), 10_000), "");
    assert_eq!(at(json!({}), 0), "the token does not say when it expires");
    for wrong in [json!("10"), json!(null), json!([10]), json!(true), json!({"a": 1})] {
        assert_eq!(at(json!({ "exp": wrong }), 0), "a time of the token is no number");
        assert_eq!(at(json!({"exp": 10, "nbf": wrong}), 0), "a time of the token is no number");
    }
    let lenient = hs256("leeway = 5\nexpiry = \"optional\"");
    let at = |claims: Value, now: u64| reason(&lenient, &signed(&claims), now);
    assert_eq!(at(json!({"exp": 10, "nbf": 10}), 5_000), "");
    assert_eq!(at(json!({"exp": 10, "nbf": 10}), 4_999), "the token is not valid yet");
    assert_eq!(at(json!({"exp": 10}), 14_999), "");
    assert_eq!(at(json!({"exp": 10}), 15_000), "the token has expired");
    assert_eq!(at(json!({}), u64::MAX / 2), "");
}

#[test]
fn rfc7519_4_1_3_a_token_is_for_those_it_names() {
    let us = hs256("audience = [\"us\", \"we\"]\nissuer = \"https://a.test\"");
    let nobody = hs256("");
    let with = |jwt: &Jwt, more: Value| {
        let mut claims = json!({"exp": 10, "iss": "https://a.test"});
        let object = claims.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        reason(jwt, &signed(&claims), 0)
    };
    for (aud, good) in [
        (json!("us"), true),
        (json!(["them", "we"]), true),
        (json!("them"), false),
        (json!(["them"]), false),
        (json!([]), false),
        (json!("US"), false),
        (json!(1), false),
        (json!({"us": 1}), false),
        (json!(null), false),
    ] {
        let expected = if good { "" } else { "the token is for somebody else" };
        assert_eq!(with(&us, json!({ "aud": aud })), expected, "{aud}");
        assert_eq!(with(&nobody, json!({ "aud": aud })), "the token is for somebody else");
    }
    assert_eq!(with(&us, json!({})), "the token is for somebody else");
    assert_eq!(with(&nobody, json!({})), "");
    for iss in
        [json!("https://b.test"), json!("https://a.test/"), json!(["https://a.test"]), json!(null)]
    {
        let answer = with(&us, json!({"aud": "us", "iss": iss}));
        assert_eq!(answer, "the token is from another issuer", "{iss}");
    }
}

#[test]
fn a_token_for_anybody_is_taken_where_that_is_said() {
    let jwt = hs256("audience = \"*\"");
    for claims in [
        json!({"exp": 10, "aud": "them"}),
        json!({"exp": 10, "aud": ["a", "b"]}),
        json!({"exp": 10}),
    ] {
        assert_eq!(reason(&jwt, &signed(&claims), 0), "", "{claims}");
    }
}

#[test]
fn rfc7518_3_2_a_short_secret_is_taken_where_that_is_said() {
    let short = |keys: &str| compile(&format!("algorithms = [\"HS256\"]\n{keys}"));
    let file = File::new("short", "mysecret");
    let in_file = format!("secret_file = '{}'\n", file.0.display());
    let why = short(&in_file).unwrap_err();
    assert!(why.contains("a secret of 8 bytes can be guessed; HS256 needs at least 32"), "{why}");
    let good = token(&json!({"alg": "HS256"}), &json!({"exp": 10}), by_secret("mysecret"));
    for secret in ["secret = \"mysecret\"\n", &in_file] {
        let jwt = short(&format!("{secret}allow_short_secret = true")).unwrap();
        assert_eq!(reason(&jwt, &good, 0), "");
        assert_ne!(reason(&jwt, &signed(&json!({"exp": 10})), 0), "");
    }
    let empty = File::new("empty", "\n");
    let keys = format!("secret_file = '{}'\nallow_short_secret = true", empty.0.display());
    assert!(short(&keys).is_err());
}

#[test]
fn required_claims_need_one_of_their_values() {
    let jwt = hs256(
        "[sites.auth.required_claims]\nrole = \"admin\"\nplan = [\"pro\", 7]\nverified = true\n\
         scope = \"write\"\n\"realm.roles\" = \"dev\"",
    );
    let good = json!({
        "exp": 10, "role": ["user", "admin"], "plan": 7, "verified": true,
        "scope": "read write", "realm": {"roles": ["dev"]},
    });
    assert_eq!(reason(&jwt, &signed(&good), 0), "");
    for (name, value) in [
        ("role", json!("user")),
        ("role", json!("admin user")),
        ("role", json!(["adm", "in"])),
        ("role", json!([["admin"]])),
        ("role", json!({"admin": 1})),
        ("plan", json!("7")),
        ("plan", json!(7.5)),
        ("verified", json!("true")),
        ("verified", json!(1)),
        ("scope", json!("read writes")),
        ("realm", json!({"roles": {"dev": 1}})),
        ("realm", json!("dev")),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        assert_eq!(reason(&jwt, &signed(&claims), 0), "insufficient", "{claims}");
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(reason(&jwt, &signed(&claims), 0), "insufficient", "{claims}");
    }
    // A claim of that very name comes first.
    let mut claims = good;
    claims["realm.roles"] = json!("nothing");
    assert_eq!(reason(&jwt, &signed(&claims), 0), "insufficient");
}

#[test]
fn claims_are_told_if_they_can_be() {
    let jwt = hs256(
        "[sites.auth.claims_to_headers]\nsub = \"X-User\"\nroles = \"X-Roles\"\nn = \"X-N\"\n\"a.b\" = \"X-A\"",
    );
    let told = |claims: Value| {
        let proved = verify(&jwt, &signed(&claims), 0).unwrap();
        (String::from_utf8(proved.lines.clone()).unwrap(), proved.user.clone())
    };
    let (lines, user) =
        told(json!({"exp": 10, "sub": "é b", "roles": ["x", "y"], "n": 1.5, "a": {"b": true}}));
    assert_eq!(lines, "X-User: é b\r\nX-Roles: x,y\r\nX-N: 1.5\r\nX-A: true\r\n");
    assert_eq!(user.as_deref(), Some("é b".as_bytes()));
    for sub in ["a\r\nX-Admin: 1", "a\nb", "a\0", "", " a", "a\u{85}b", &"a".repeat(5000)] {
        let (lines, _) =
            told(json!({"exp": 10, "sub": sub, "roles": ["a,b"], "n": null, "a": {"b": {}}}));
        assert_eq!(lines, "", "{sub:?}");
    }
    assert_eq!(told(json!({"exp": 10, "roles": ["x", 1]})).0, "");
}

#[test]
fn the_key_is_the_one_that_a_token_names() {
    let key = |id: &str, secret: &str| json!({"kty": "oct", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret)});
    let other = "y".repeat(64);
    let jwt = with_jwks("kid", "[\"HS256\"]", &[key("one", SECRET), key("two", &other)]).unwrap();
    let made = |header: Value, secret: &str| token(&header, &json!({"exp": 10}), by_secret(secret));
    let check = |header: Value, secret: &str| reason(&jwt, &made(header, secret), 0);
    assert_eq!(check(json!({"alg": "HS256", "kid": "one"}), SECRET), "");
    assert_eq!(check(json!({"alg": "HS256", "kid": "two"}), &other), "");
    assert_eq!(check(json!({"alg": "HS256"}), &other), "");
    let wrong = "the signature of the token is wrong";
    assert_eq!(check(json!({"alg": "HS256", "kid": "two"}), SECRET), wrong);
    let unknown = "the key of the token is not known";
    assert_eq!(check(json!({"alg": "HS256", "kid": "three"}), SECRET), unknown);
    assert_eq!(check(json!({"alg": "HS256", "kid": ""}), SECRET), unknown);
    assert_eq!(check(json!({"alg": "HS256", "kid": 1}), SECRET), "this is no signed token");
}

#[test]
fn rfc7517_5_keys_for_something_else_are_passed_over() {
    let key = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)});
    let with = |more: Value| {
        let mut key = key.clone();
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    };
    for other in [
        json!({}),
        json!({"kty": "AKP", "pub": "x"}),
        json!("a"),
        json!({"kty": "EC", "crv": "secp256k1", "x": "", "y": ""}),
        json!({"kty": "OKP", "crv": "Ed448", "x": ""}),
        with(json!({"use": "enc"})),
        with(json!({"key_ops": ["sign"]})),
        with(json!({"alg": "HS512"})),
    ] {
        let why = with_jwks("other", "[\"HS256\"]", std::slice::from_ref(&other)).unwrap_err();
        assert!(why.contains("no key of the set is for HS256"), "{why}");
        assert!(with_jwks("both", "[\"HS256\"]", &[other, key.clone()]).is_ok());
    }
    assert!(
        with_jwks("ops", "[\"HS256\"]", &[with(json!({"key_ops": ["verify"], "use": "sig"}))])
            .is_ok()
    );
}

#[test]
fn keys_that_cannot_be_used_are_refused_and_not_shown() {
    let short = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode("SECRETSECRET")});
    let why = with_jwks("short", "[\"HS256\"]", &[short]).unwrap_err();
    assert!(
        why.contains("key 1: a secret of 12 bytes can be guessed; HS256 needs at least 32"),
        "{why}"
    );
    let point = json!({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"});
    assert!(with_jwks("point", "[\"ES256\"]", &[point]).unwrap_err().contains("key 1: "));
    let many: Vec<Value> = (0..101).map(|_| json!({})).collect();
    assert!(with_jwks("many", "[\"ES256\"]", &many).unwrap_err().contains("more than 100 keys"));
    for text in ["", "{", "[]", "{\"keys\": 1}", "{\"SECRET\""] {
        let file = File::new("broken", text);
        let keys = format!("algorithms = [\"ES256\"]\njwks_file = '{}'", file.0.display());
        let why = compile(&keys).unwrap_err();
        assert!(why.contains("ravelin-") && !why.contains("SECRET"), "{why}");
    }
    let small = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    assert!(small.public_modulus_len() == 256);
    let short = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xc1; 128]), "e": "AQAB"});
    assert!(with_jwks("rsa", "[\"RS256\"]", &[short]).unwrap_err().contains("too short"));
    for (text, expected) in [
        ("nothing", "there is no `-----BEGIN PUBLIC KEY-----`"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "this is a private key"),
        ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----", "no base64"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "this is no key for RS256"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "the certificate is damaged",
        ),
    ] {
        let file = File::new("key.pem", text);
        let keys = format!("algorithms = [\"RS256\"]\npublic_key_file = '{}'", file.0.display());
        let why = compile(&keys).unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn what_was_good_is_remembered_until_it_expires_or_the_keys_change() {
    let file = File::new("changing", SECRET);
    let jwt =
        jwt(&format!("algorithms = [\"HS256\"]\nleeway = 0\nsecret_file = '{}'", file.0.display()));
    let memory = Memory::default();
    let token = signed(&json!({"exp": 10, "sub": "a"}));
    let first = jwt.verify(token.as_bytes(), &memory, 0).unwrap();
    let again = jwt.verify(token.as_bytes(), &memory, 9_999).unwrap();
    assert!(Rc::ptr_eq(&first, &again));
    let expired = jwt.verify(token.as_bytes(), &memory, 10_000);
    assert_eq!(expired.unwrap_err(), Fault::Invalid("the token has expired"));
    // A mistake changes nothing.
    std::fs::write(&file.0, "short").unwrap();
    assert!(jwt.keys.reload().unwrap_err().contains("5 bytes can be guessed"));
    assert!(jwt.verify(token.as_bytes(), &memory, 0).is_ok());
    std::fs::write(&file.0, SECRET.to_uppercase()).unwrap();
    assert_eq!(jwt.keys.reload(), Ok(1));
    let other = jwt.verify(token.as_bytes(), &memory, 0);
    assert_eq!(other.unwrap_err(), Fault::Invalid("the signature of the token is wrong"));
    jwt.keys.forget();
    assert_eq!(jwt.verify(token.as_bytes(), &memory, 0).unwrap_err(), Fault::NoKeys);
}

fn check(jwt: &Jwt, target: &str, lines: &str) -> Result<(), Denied> {
    let head = Head::new(target, lines);
    jwt.check(&head.presented(), &Memory::default()).map(drop)
}

fn status(jwt: &Jwt, target: &str, lines: &str) -> u16 {
    check(jwt, target, lines).map_or_else(|denied| denied.status, |()| 200)
}

/// A time that has not come, whenever this is run.
const LATE: u64 = 30_000_000_000;

#[test]
fn rfc6750_2_1_a_token_stands_behind_bearer() {
    let jwt = hs256("realm = \"api\"");
    let token = signed(&json!({"exp": LATE}));
    assert_eq!(status(&jwt, "/", &format!("Authorization: Bearer {token}\r\n")), 200);
    assert_eq!(status(&jwt, "/", &format!("authorization: bEARER  {token} \r\n")), 200);
    for lines in
        ["", "Authorization: Basic YTpi\r\n", "Authorization: Bearerx y\r\n", "Authorization:\r\n"]
    {
        let denied = check(&jwt, "/", lines).unwrap_err();
        assert_eq!(
            (denied.status, denied.fields),
            (401, b"WWW-Authenticate: Bearer realm=\"api\"\r\n".to_vec()),
            "{lines}"
        );
    }
    // Elsewhere it does not count.
    assert_eq!(status(&jwt, &format!("/?access_token={token}"), ""), 401);
    let twice = format!("Authorization: Bearer {token}\r\n").repeat(2);
    let denied = check(&jwt, "/", &twice).unwrap_err();
    assert_eq!(denied.status, 400);
    let fields = String::from_utf8(denied.fields).unwrap();
    assert!(fields.contains("error=\"invalid_request\""), "{fields}");
    assert_eq!(status(&jwt, "/", "Authorization: Bearer\r\n"), 400);
    let long = format!("Authorization: Bearer {}\r\n", "a".repeat(TOKEN_MAX + 1));
    assert_eq!(status(&jwt, "/", &long), 401);
}

#[test]
fn rfc6750_3_1_the_error_says_what_is_wrong() {
    let jwt = hs256("required_claims = { role = \"admin\" }");
    let with = |claims: Value| {
        let lines = format!("Authorization: Bearer {}\r\n", signed(&claims));
        let denied = check(&jwt, "/", &lines).unwrap_err();
        (denied.status, String::from_utf8(denied.fields).unwrap())
    };
    assert_eq!(
        with(json!({"exp": 1})),
        (401, "WWW-Authenticate: Bearer realm=\"restricted\", error=\"invalid_token\", error_description=\"the token has expired\"\r\n".to_owned())
    );
    assert_eq!(
        with(json!({"exp": LATE})),
        (403, "WWW-Authenticate: Bearer realm=\"restricted\", error=\"insufficient_scope\", error_description=\"the token lacks a claim that is needed\"\r\n".to_owned())
    );
}

#[test]
fn a_token_may_stand_in_a_field_a_cookie_or_the_query() {
    let token = signed(&json!({"exp": LATE}));
    let field = hs256("from = \"header:X-Token\"");
    assert_eq!(status(&field, "/", &format!("x-token: {token}\r\n")), 200);
    assert_eq!(status(&field, "/", &format!("X-Token: Bearer {token}\r\n")), 200);
    assert_eq!(status(&field, "/", &format!("Authorization: Bearer {token}\r\n")), 401);
    assert_eq!(status(&field, "/", &format!("X-Token: {token}\r\nX-Token: {token}\r\n")), 400);
    let cookie = hs256("from = \"cookie:session\"");
    assert_eq!(status(&cookie, "/", &format!("Cookie: a=b; session={token}\r\n")), 200);
    assert_eq!(status(&cookie, "/", &format!("Cookie: a=b\r\nCookie: session={token}\r\n")), 200);
    assert_eq!(status(&cookie, "/", &format!("Cookie: Session={token}\r\n")), 401);
    assert_eq!(status(&cookie, "/", &format!("Cookie: session=a; session={token}\r\n")), 400);
    let several = hs256("from = [\"cookie:session\", \"header:Authorization\"]");
    let (bearer, other) = (format!("Authorization: Bearer {token}\r\n"), "Cookie: session=a\r\n");
    assert_eq!(status(&several, "/", &bearer), 200);
    assert_eq!(status(&several, "/", &format!("Cookie: session={token}\r\n")), 200);
    assert_eq!(status(&several, "/", &format!("{bearer}{other}")), 401, "the first is what counts");
    assert_eq!(status(&several, "/", ""), 401);
    let query = hs256("from = \"query:token\"");
    assert!(query.reads_query() && !cookie.reads_query());
    assert_eq!(status(&query, &format!("/x?a=b&token={token}"), ""), 200);
    assert_eq!(status(&query, &format!("/x?atoken={token}"), ""), 401);
    assert_eq!(status(&query, &format!("/x?token={token}&token={token}"), ""), 400);
    assert_eq!(status(&query, "/x?token=", ""), 401);
    assert_eq!(status(&query, "/x", ""), 401);
}

#[test]
fn a_key_set_that_was_not_fetched_yet_is_unavailable() {
    let jwt = jwt("algorithms = [\"ES256\"]\njwks_url = \"https://127.0.0.1/keys\"");
    let lines = format!("Authorization: Bearer {}\r\n", signed(&json!({"exp": LATE})));
    let denied = check(&jwt, "/", &lines).unwrap_err();
    assert_eq!((denied.status, denied.fields), (503, b"Retry-After: 1\r\n".to_vec()));
    // Without a token there is nothing to wait for.
    assert_eq!(status(&jwt, "/", ""), 401);
    let pair = EcdsaKeyPair::generate(&sig::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let key = json!({"kty": "EC", "crv": "P-256", "kid": "1", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)});
    assert_eq!(jwt.keys.take(json!({"keys": [key]}).to_string().as_bytes()), Ok(1));
    let token = token(&json!({"alg": "ES256", "kid": "1"}), &json!({"exp": LATE}), |message| {
        pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    });
    assert_eq!(status(&jwt, "/", &format!("Authorization: Bearer {token}\r\n")), 200);
    // What is no key set changes nothing.
    assert!(jwt.keys.take(b"<html>").is_err());
    assert_eq!(status(&jwt, "/", &format!("Authorization: Bearer {token}\r\n")), 200);
}
