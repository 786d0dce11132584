//! An origin that says who it is and what it received.

use std::io;

use super::connection::Connection;
use super::json;

/// Answers every request of a connection as the origin called `name`.
pub(crate) async fn serve(name: &'static str, mut connection: Connection) -> io::Result<()> {
    while connection.next_head().await? {
        let request = Received::of(&connection);
        let keep_alive = connection.head.keep_alive;
        let body_bytes = connection.read_body().await?;
        let response = request.answer(name, body_bytes, keep_alive);
        connection.write(&response).await?;
        if !keep_alive {
            break;
        }
    }
    Ok(())
}

/// What is told of a request.
struct Received {
    is_head: bool,
    method: String,
    target: String,
    fields: Vec<String>,
}

impl Received {
    fn of(connection: &Connection) -> Self {
        let head = &connection.head;
        let fields = head.fields.iter().map(|field| {
            let line = [connection.text(field.name), b": ", connection.text(field.value)].concat();
            json::string(&line)
        });
        Self {
            is_head: connection.text(head.method) == b"HEAD",
            method: json::string(connection.text(head.method)),
            target: json::string(connection.text(head.target)),
            fields: fields.collect(),
        }
    }

    /// The whole response; to HEAD without its content (RFC 9110 section 9.3.2).
    fn answer(&self, name: &str, body_bytes: u64, keep_alive: bool) -> Vec<u8> {
        let Self { is_head, method, target, fields } = self;
        let fields = fields.join(",\n    ");
        let content = format!(
            "{{\n  \"origin\": \"{name}\",\n  \"method\": {method},\n  \"path\": {target},\n  \
             \"body_bytes\": {body_bytes},\n  \"fields\": [\n    {fields}\n  ]\n}}\n"
        );
        let connection = if keep_alive { "" } else { "Connection: close\r\n" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\n{connection}\r\n",
            content.len()
        );
        let content = if *is_head { "" } else { content.as_str() };
        [head.as_bytes(), content.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(is_head: bool) -> String {
        let request = Received {
            is_head,
            method: json::string(b"GET"),
            target: json::string(b"/api/\"x\""),
            fields: vec![json::string(b"Host: a"), json::string(b"A: b")],
        };
        String::from_utf8(request.answer("origin-1", 3, true)).unwrap()
    }

    #[test]
    fn the_answer_is_framed_and_names_the_origin() {
        let answer = received(false);
        let (head, content) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", content.len())), "{head}");
        assert!(content.contains("\"origin\": \"origin-1\""), "{content}");
        assert!(content.contains("\"path\": \"/api/\\\"x\\\"\""), "{content}");
    }

    #[test]
    fn rfc9110_9_3_2_head_is_answered_without_content() {
        let (get, head) = (received(false), received(true));
        assert!(head.ends_with("\r\n\r\n") && get.starts_with(&head));
    }
}
