//! Query parameters and the lists they page through.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::http::header::LINK;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use url::form_urlencoded;

use crate::api::problem::{Code, Problem};

/// The parameter by which a browser gives its stream token.
pub(crate) const TOKEN: &str = "access_token";
const DEFAULT_LIMIT: u16 = 50;
const MOST_LIMIT: u16 = 250;

/// A list as it is answered.
#[derive(Serialize)]
struct Page<'a, T> {
    data: &'a [T],
    next_cursor: Option<&'a str>,
    has_more: bool,
}

/// The query parameters of a request, of which each is known and comes once.
#[derive(Debug)]
pub(crate) struct Query {
    given: Vec<(String, String)>,
    path: String,
}

impl Query {
    /// Reads the parameters; others than `known` are refused.
    pub(crate) fn of(request: &HttpRequest, known: &[&str]) -> Result<Self, Problem> {
        let mut given: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(request.query_string().as_bytes()) {
            if !known.contains(&&*name) {
                let these = if known.is_empty() {
                    "there are none here".to_owned()
                } else {
                    known.join(", ")
                };
                return Err(invalid(&name, &format!("unknown parameter; known: {these}")));
            }
            if value.contains('\0') {
                return Err(invalid(&name, "may not hold the character U+0000"));
            }
            if given.iter().any(|(known, _)| *known == name) {
                return Err(invalid(&name, "is given more than once"));
            }
            given.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { given, path: request.path().to_owned() })
    }

    /// A parameter's text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter read as a `T`.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Problem> {
        self.text(name)
            .map(|text| text.parse().map_err(|error: T::Err| invalid(name, &error.to_string())))
            .transpose()
    }

    /// How many items are wanted, 1 to 250.
    pub(crate) fn limit(&self) -> Result<u16, Problem> {
        let Some(text) = self.text("limit") else { return Ok(DEFAULT_LIMIT) };
        let limit = text.parse().ok().filter(|limit| (1..=MOST_LIMIT).contains(limit));
        limit.ok_or_else(|| {
            invalid("limit", &format!("expected a whole number from 1 to {MOST_LIMIT}"))
        })
    }

    /// The answer of a list, with the link to its next page.
    pub(crate) fn page<T: Serialize>(
        &self,
        data: &[T],
        next_cursor: Option<&str>,
        has_more: bool,
    ) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        if let Some(cursor) = next_cursor.filter(|_| has_more) {
            let others = self.given.iter().filter(|(name, _)| *name != "after" && *name != TOKEN);
            let query: String = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(others)
                .append_pair("after", cursor)
                .finish();
            response.insert_header((LINK, format!("<{}?{query}>; rel=\"next\"", self.path)));
        }
        response.json(Page { data, next_cursor, has_more })
    }
}

/// The stream tokens in a request's query, of which there may be one.
pub(crate) fn tokens(request: &HttpRequest) -> Vec<String> {
    form_urlencoded::parse(request.query_string().as_bytes())
        .filter(|(name, _)| name == TOKEN)
        .map(|(_, value)| value.into_owned())
        .collect()
}

/// The problem of one parameter.
pub(crate) fn invalid(name: &str, detail: &str) -> Problem {
    Problem::new(Code::InvalidParameter, format!("{name}: {detail}"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    fn read(query: &str) -> Result<Query, Problem> {
        let request = TestRequest::with_uri(&format!("/v1/events?{query}")).to_http_request();
        Query::of(&request, &["types", "limit", "after"])
    }

    proptest! {
        #[test]
        fn parameters_are_read_as_they_were_written(types in "[^\0]{0,20}", after in "[^\0]{0,20}") {
            let query: String = form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("types", &types), ("after", &after)])
                .finish();
            let query = read(&query).unwrap();
            prop_assert_eq!(query.text("types"), Some(&*types));
            prop_assert_eq!(query.text("after"), Some(&*after));
        }

        #[test]
        fn any_query_is_read_or_refused_and_never_read_in_part(
            query in "([!$-;=?-Z_a-z~]|%[0-9a-fA-F]{2}|types=|limit=|&|%00){0,20}",
        ) {
            let given = query.split('&').filter(|pair| !pair.is_empty()).count();
            if let Ok(read) = read(&query) {
                prop_assert_eq!(read.given.len(), given);
                drop(read.limit());
                drop(read.parsed::<crate::domain::id::ConnectionId>("after"));
            }
        }
    }
}
