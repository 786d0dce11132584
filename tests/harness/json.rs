//! Just enough of RFC 8259 to look into what Ravelin prints. Strict: anything else panics.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    #[track_caller]
    pub fn parse(text: &str) -> Json {
        let mut parser = Parser { bytes: text.trim().as_bytes(), at: 0 };
        let value = parser.value();
        assert_eq!(parser.at, parser.bytes.len(), "something follows the JSON value: {text}");
        value
    }

    /// A member of an object; `Null` when it is not there.
    pub fn get(&self, name: &str) -> &Json {
        match self {
            Json::Object(members) => members.get(name).unwrap_or(&Json::Null),
            _ => &Json::Null,
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Json::Text(text) => text,
            _ => "",
        }
    }

    pub fn number(&self) -> f64 {
        match self {
            Json::Number(n) => *n,
            _ => f64::NAN,
        }
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn fail(&self, what: &str) -> ! {
        panic!("not JSON ({what} at {}): {}", self.at, String::from_utf8_lossy(self.bytes))
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, what: &str) -> bool {
        let found = self.bytes[self.at..].starts_with(what.as_bytes());
        if found {
            self.at += what.len();
        }
        found
    }

    fn value(&mut self) -> Json {
        self.space();
        let value = match self.bytes.get(self.at) {
            Some(b'{') => self.object(),
            Some(b'[') => self.list(),
            Some(b'"') => Json::Text(self.string()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.take("null") => Json::Null,
            _ if self.take("true") => Json::Bool(true),
            _ if self.take("false") => Json::Bool(false),
            _ => self.fail("no value"),
        };
        self.space();
        value
    }

    fn object(&mut self) -> Json {
        let mut members = BTreeMap::new();
        self.at += 1;
        self.space();
        if self.take("}") {
            return Json::Object(members);
        }
        loop {
            self.space();
            let name = self.string();
            self.space();
            if !self.take(":") {
                self.fail("no colon");
            }
            let value = self.value();
            if members.insert(name, value).is_some() {
                self.fail("a member twice");
            }
            if self.take("}") {
                return Json::Object(members);
            }
            if !self.take(",") {
                self.fail("no comma");
            }
        }
    }

    fn list(&mut self) -> Json {
        let mut list = Vec::new();
        self.at += 1;
        self.space();
        if self.take("]") {
            return Json::List(list);
        }
        loop {
            list.push(self.value());
            if self.take("]") {
                return Json::List(list);
            }
            if !self.take(",") {
                self.fail("no comma");
            }
        }
    }

    fn string(&mut self) -> String {
        if !self.take("\"") {
            self.fail("no string");
        }
        let mut out = Vec::new();
        loop {
            let Some(&b) = self.bytes.get(self.at) else { self.fail("open string") };
            self.at += 1;
            match b {
                b'"' => break,
                b'\\' => self.escape(&mut out),
                0..0x20 => self.fail("control character"),
                _ => out.push(b),
            }
        }
        String::from_utf8(out).unwrap_or_else(|_| self.fail("not UTF-8"))
    }

    fn escape(&mut self, out: &mut Vec<u8>) {
        let Some(&b) = self.bytes.get(self.at) else { self.fail("open escape") };
        self.at += 1;
        match b {
            b'"' | b'\\' | b'/' => out.push(b),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let digits = self.bytes.get(self.at..self.at + 4);
                let digits = digits.and_then(|d| std::str::from_utf8(d).ok()).unwrap_or("");
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                let Some(c) = code else { self.fail("unicode escape") };
                self.at += 4;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => self.fail("escape"),
        }
    }

    fn number(&mut self) -> Json {
        let start = self.at;
        while matches!(
            self.bytes.get(self.at),
            Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
        ) {
            self.at += 1;
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or("");
        text.parse().map(Json::Number).unwrap_or_else(|_| self.fail("number"))
    }
}
