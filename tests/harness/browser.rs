//! A headless Chromium that is told what to do over its DevTools protocol, by a pipe: no port, and it
//! ends with the test.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{Json, PATIENCE, TempDir, require};

/// The browser has to start, and it has one core with everything else.
const SLOW: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    child: Child,
    orders: ChildStdin,
    said: Receiver<String>,
    /// What pages complained of so far.
    complaints: Vec<String>,
    session: Option<String>,
    number: usize,
    _profile: TempDir,
}

impl Browser {
    #[track_caller]
    pub fn start() -> Browser {
        require("chromium", &["--version"], "apt-get install chromium");
        let profile = TempDir::new();
        let mut command = Command::new("sh");
        // The protocol is spoken at descriptors 3 and 4.
        command.args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "chromium"]);
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
        command.args(["--disable-dev-shm-usage", "--disable-sync", "--disable-component-update"]);
        command.args(["--disable-background-networking", "--remote-debugging-pipe"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.process_group(0).spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let mut pipe = child.stdout.take().unwrap();
        let (sender, said) = channel();
        thread::spawn(move || {
            let (mut buffer, mut chunk) = (Vec::new(), [0; 65536]);
            while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                buffer.extend_from_slice(&chunk[..n]);
                while let Some(end) = buffer.iter().position(|byte| *byte == 0) {
                    let message: Vec<u8> = buffer.drain(..=end).collect();
                    let text = String::from_utf8_lossy(&message[..end]).into_owned();
                    if sender.send(text).is_err() {
                        return;
                    }
                }
            }
        });
        let (complaints, session, number) = (Vec::new(), None, 0);
        let mut browser =
            Browser { child, orders, said, complaints, session, number, _profile: profile };
        let target = browser.order("Target.createTarget", r#"{"url":"about:blank"}"#);
        let target = target.get("targetId").text().to_owned();
        let attached = browser.order(
            "Target.attachToTarget",
            &format!("{{\"targetId\":\"{target}\",\"flatten\":true}}"),
        );
        browser.session = Some(attached.get("sessionId").text().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.order(&format!("{domain}.enable"), "{}");
        }
        browser
    }

    /// Gives an order and waits for the answer.
    #[track_caller]
    fn order(&mut self, method: &str, parameters: &str) -> Json {
        let answer = self.answer(method, parameters);
        assert_eq!(answer.get("error"), &Json::Null, "{method} {parameters}");
        answer.get("result").clone()
    }

    /// The answer to an order, whatever it is.
    #[track_caller]
    fn answer(&mut self, method: &str, parameters: &str) -> Json {
        self.number += 1;
        let number = self.number;
        let session = self.session.as_ref().map(|id| format!(",\"sessionId\":\"{id}\""));
        let session = session.unwrap_or_default();
        let order = format!(
            "{{\"id\":{number},\"method\":\"{method}\",\"params\":{parameters}{session}}}\0"
        );
        self.orders.write_all(order.as_bytes()).unwrap();
        self.orders.flush().unwrap();
        let deadline = Instant::now() + SLOW;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(text) = self.said.recv_timeout(left) else { panic!("no answer to {order}") };
            let message = Json::parse(&text);
            if message.get("id").number() == number as f64 {
                return message;
            }
            self.note(&message, &text);
        }
    }

    /// Keeps what a page complains of.
    fn note(&mut self, message: &Json, text: &str) {
        let parameters = message.get("params");
        let is_wrong = match message.get("method").text() {
            "Runtime.exceptionThrown" => true,
            "Log.entryAdded" => {
                matches!(parameters.get("entry").get("level").text(), "error" | "warning")
            }
            "Runtime.consoleAPICalled" => {
                matches!(parameters.get("type").text(), "error" | "warning" | "assert")
            }
            _ => false,
        };
        if is_wrong {
            self.complaints.push(text.to_owned());
        }
    }

    /// A window of this size, in light or dark colours.
    pub fn window(&mut self, width: u32, height: u32, dark: bool) {
        self.order(
            "Emulation.setDeviceMetricsOverride",
            &format!(
                "{{\"width\":{width},\"height\":{height},\"deviceScaleFactor\":1,\"mobile\":{}}}",
                width < 600
            ),
        );
        let scheme = if dark { "dark" } else { "light" };
        self.order(
            "Emulation.setEmulatedMedia",
            &format!(
                "{{\"features\":[{{\"name\":\"prefers-color-scheme\",\"value\":\"{scheme}\"}}]}}"
            ),
        );
    }

    #[track_caller]
    pub fn open(&mut self, url: &str) {
        let answer = self.order("Page.navigate", &format!("{{\"url\":{}}}", quoted(url)));
        assert_eq!(answer.get("errorText").text(), "", "{url}");
    }

    /// What an expression of the page's comes to.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Json {
        let answer = self.order("Runtime.evaluate", &evaluation(expression));
        assert_eq!(answer.get("exceptionDetails"), &Json::Null, "{expression}");
        answer.get("result").get("value").clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE * 3;
        // The page looks itself, between two frames of its own; a new page is asked again.
        let waiting = format!(
            "new Promise((done) => {{ const end = Date.now() + 2000; const look = () => {{ \
             let is = false; try {{ is = Boolean({expression}); }} catch {{ }} \
             if (is || Date.now() > end) done(is); else setTimeout(look, 50); }}; look(); }})"
        );
        loop {
            // A page that is left meanwhile says nothing.
            let answer = self.answer("Runtime.evaluate", &evaluation(&waiting));
            if *answer.get("result").get("result").get("value") == Json::Bool(true) {
                return;
            }
            if Instant::now() > deadline {
                let page = self.eval("document.body?.innerText ?? ''");
                panic!("waited in vain for {expression}\n{}\n{:?}", page.text(), self.complaints);
            }
        }
    }

    /// Presses a key, as it is called in events.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" && key.len() == 1 { key } else { "" };
            self.order(
                "Input.dispatchKeyEvent",
                &format!(
                    "{{\"type\":\"{kind}\",\"key\":{},\"text\":{}}}",
                    quoted(key),
                    quoted(text)
                ),
            );
        }
    }

    /// Panics if a page has complained of anything since the last time.
    #[track_caller]
    pub fn assert_content(&mut self) {
        // Whatever it has said by now comes before this answer.
        self.eval("0");
        let complaints = std::mem::take(&mut self.complaints);
        assert!(complaints.is_empty(), "the page complains:\n{}", complaints.join("\n"));
    }

    /// Writes what is seen to `$RAVELIN_SCREENSHOTS/name.png`, for people; without the variable
    /// nothing happens.
    pub fn screenshot(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("RAVELIN_SCREENSHOTS") else { return };
        let answer = self.order("Page.captureScreenshot", "{}");
        let data = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            answer.get("data").text(),
        );
        let path = std::path::Path::new(&directory).join(format!("{name}.png"));
        std::fs::write(path, data.unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // With all that it has started, which is its process group.
        let _ =
            Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

/// An order to evaluate this.
fn evaluation(expression: &str) -> String {
    let expression = quoted(expression);
    let how = "\"awaitPromise\":true,\"returnByValue\":true,\"userGesture\":true";
    format!("{{\"expression\":{expression},{how}}}")
}

/// As JSON has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
