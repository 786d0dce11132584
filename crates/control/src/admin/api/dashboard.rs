//! `/` and `/dashboard/…`: a page that shows all this to people. It is part of the program, and its
//! scripts use nothing but what this API has.

use super::super::routes::{Answer, Content, Route};
use super::super::{Problem, Request, Response, Running};

pub(super) static ROUTES: &[Route] = &[
    Route::get("/", "The dashboard.", page).answer(Content::Text("text/html")),
    Route::get("/dashboard/{file}", "Its scripts and its style.", file)
        .answer(Content::Text("text/javascript")),
];

const PAGE: &[u8] = include_bytes!("../dashboard/index.html");

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! files {
    ($($media_type:ident $name:literal;)*) => {
        /// Name, media type and content of each file.
        static FILES: &[(&str, &str, &[u8])] =
            &[$(($name, $media_type, include_bytes!(concat!("../dashboard/", $name)))),*];
    };
}

files! {
    STYLE "style.css";
    SCRIPT "app.js";
    SCRIPT "certificates.js";
    SCRIPT "charts.js";
    SCRIPT "configuration.js";
    SCRIPT "connections.js";
    SCRIPT "data.js";
    SCRIPT "endpoints.js";
    SCRIPT "explain.js";
    SCRIPT "overview.js";
    SCRIPT "requests.js";
    SCRIPT "timeline.js";
    SCRIPT "traffic.js";
    SCRIPT "ui.js";
}

fn page(_: &Running, _: Request) -> Answer<'_> {
    Box::pin(async { Ok(Response::page(PAGE)) })
}

fn file(_: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let found = FILES.iter().find(|(name, ..)| *name == request.value(0));
        let (_, media_type, content) =
            found.ok_or_else(|| Problem::missing("the dashboard has no such file"))?;
        Ok(Response::whole(media_type, *content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of files in quotes behind `before`.
    fn named(text: &str, before: &str) -> Vec<String> {
        let rest = text.split(before).skip(1);
        rest.filter_map(|rest| rest.split(['\'', '"']).next().map(str::to_owned)).collect()
    }

    #[test]
    fn every_file_that_is_loaded_is_there_and_comes_from_here() {
        let text = |content: &[u8]| String::from_utf8(content.to_vec()).unwrap();
        let is_there = |name: &str| FILES.iter().any(|(known, ..)| *known == name);
        let page = text(PAGE);
        let mut loaded = named(&page, "/dashboard/");
        assert_eq!(loaded.len(), 2);
        for (_, _, content) in FILES {
            loaded.extend(named(&text(content), "from './"));
        }
        for name in &loaded {
            assert!(is_there(name), "{name}");
        }
        for (name, ..) in FILES {
            assert!(loaded.iter().any(|one| one == name), "nothing loads {name}");
        }
        for (name, _, content) in FILES.iter().chain([&("index.html", "", PAGE)]) {
            let text = text(content)
                .replace("http://www.w3.org/2000/svg", "")
                .replace("http://example.com", "");
            for banned in ["http://", "https://", "innerHTML", "eval(", "onclick=\"", " style=\""] {
                assert!(!text.contains(banned), "{name}: {banned}");
            }
        }
    }
}
