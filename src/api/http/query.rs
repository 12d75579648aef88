//! Query parameters, and the lists that a client pages through with `after` and `limit`.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::http::header::LINK;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use url::form_urlencoded;

use crate::api::problem::{ApiResult, Code, Problem};

/// The query parameter that carries a browser's stream token.
pub(crate) const TOKEN: &str = "access_token";
const DEFAULT_LIMIT: u16 = 50;
const MAX_LIMIT: u16 = 250;

/// The query parameters of a request. Each is known to its endpoint and appears once.
#[derive(Debug)]
pub(crate) struct Query {
    parameters: Vec<(String, String)>,
    path: String,
}

impl Query {
    /// 400 for a parameter that is not in `known`, appears twice, or has the character U+0000.
    pub(crate) fn parse(request: &HttpRequest, known: &[&str]) -> ApiResult<Self> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(request.query_string().as_bytes()) {
            if !known.contains(&&*name) {
                let accepted = if known.is_empty() {
                    "there are none here".to_owned()
                } else {
                    known.join(", ")
                };
                return Err(invalid(&name, &format!("unknown parameter; known: {accepted}")));
            }
            if value.contains('\0') {
                return Err(invalid(&name, "must not contain the character U+0000"));
            }
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(invalid(&name, "appears more than once"));
            }
            parameters.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { parameters, path: request.path().to_owned() })
    }

    /// Returns the decoded value of a parameter; `None` if the query does not have it.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Parses a parameter as a `T`. `None` without the parameter; 400 for an invalid value.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> ApiResult<Option<T>> {
        self.text(name)
            .map(|text| text.parse().map_err(|error: T::Err| invalid(name, &error.to_string())))
            .transpose()
    }

    /// The query parameter `limit`, the maximum number of items on one page: 1 to 250, by default 50.
    pub(crate) fn limit(&self) -> ApiResult<u16> {
        let Some(text) = self.text("limit") else { return Ok(DEFAULT_LIMIT) };
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| {
            invalid("limit", &format!("expected a whole number from 1 to {MAX_LIMIT}"))
        })
    }

    /// The path and query of the next page, without the stream token.
    fn with_after(&self, cursor: &str) -> String {
        let others = self.parameters.iter().filter(|(name, _)| *name != "after" && *name != TOKEN);
        let query: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .append_pair("after", cursor)
            .finish();
        format!("{}?{query}", self.path)
    }
}

/// Returns all stream tokens in a request's query. A valid request has at most one.
pub(crate) fn tokens(request: &HttpRequest) -> Vec<String> {
    form_urlencoded::parse(request.query_string().as_bytes())
        .filter(|(name, _)| name == TOKEN)
        .map(|(_, value)| value.into_owned())
        .collect()
}

/// Creates a 400 `invalid_parameter` problem for the query parameter `name`.
pub(crate) fn invalid(name: &str, detail: &str) -> Problem {
    Problem::new(Code::InvalidParameter, format!("{name}: {detail}"))
}

#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// The value of `after` for the next page; `None` on the last page.
    pub(crate) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// `found` holds one item more than `limit` if another page follows. `cursor` returns the cursor of an item.
    pub(crate) fn new(mut found: Vec<T>, limit: u16, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::from(limit);
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = found.last().filter(|_| has_more).map(cursor);
        Self { items: found, next_cursor }
    }
}

#[derive(Serialize)]
struct ListBody<'a, T> {
    data: &'a [T],
    next_cursor: Option<&'a str>,
    has_more: bool,
}

impl Query {
    /// Responds with one page of a list. `next_cursor`: `None` on the last page.
    pub(crate) fn list<T: Serialize>(&self, data: &[T], next_cursor: Option<&str>) -> HttpResponse {
        self.list_until(data, next_cursor, next_cursor.is_some())
    }

    /// Responds with one page of a list that grows: the client can use `next_cursor` also after the last page. `Link`
    /// names the next page only if `has_more`.
    pub(crate) fn list_until<T: Serialize>(
        &self,
        data: &[T],
        next_cursor: Option<&str>,
        has_more: bool,
    ) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        if let Some(cursor) = next_cursor.filter(|_| has_more) {
            response.insert_header((LINK, format!("<{}>; rel=\"next\"", self.with_after(cursor))));
        }
        response.json(ListBody { data, next_cursor, has_more })
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    fn read(query: &str) -> Result<Query, Problem> {
        let request = TestRequest::with_uri(&format!("/v1/events?{query}")).to_http_request();
        Query::parse(&request, &["types", "limit", "after"])
    }

    proptest! {
        #[test]
        fn parameters_are_decoded_as_they_were_encoded(types in "[^\0]{0,20}", after in "[^\0]{0,20}") {
            let query: String = form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("types", &types), ("after", &after)])
                .finish();
            let query = read(&query).unwrap();
            prop_assert_eq!(query.text("types"), Some(&*types));
            prop_assert_eq!(query.text("after"), Some(&*after));
        }

        #[test]
        fn a_query_is_parsed_whole_or_refused(
            query in "([!$-;=?-Z_a-z~]|%[0-9a-fA-F]{2}|types=|limit=|&|%00){0,20}",
        ) {
            let count = query.split('&').filter(|pair| !pair.is_empty()).count();
            if let Ok(read) = read(&query) {
                prop_assert_eq!(read.parameters.len(), count);
                drop(read.limit());
                drop(read.parsed::<crate::domain::id::ConnectionId>("after"));
            }
        }
    }
}
