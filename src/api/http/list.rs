//! One page of a list, and its response with `next_cursor`, `has_more` and a `Link` to the next page.

use actix_web::HttpResponse;
use actix_web::http::header::LINK;
use serde::Serialize;

use super::query::Query;

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// The value of `after` for the next page; `None` on the last page.
    pub(crate) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of up to `limit` items from `found`, which holds one more item if another page follows.
    ///
    /// `cursor` returns the cursor of an item.
    pub(crate) fn new(mut found: Vec<T>, limit: u16, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::from(limit);
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = found.last().filter(|_| has_more).map(cursor);
        Self { items: found, next_cursor }
    }
}

/// The JSON of a list response.
#[derive(Serialize)]
struct ListBody<'a, T> {
    data: &'a [T],
    next_cursor: Option<&'a str>,
    has_more: bool,
}

impl Query {
    /// Builds the response with one page of a list. `next_cursor`: `None` on the last page.
    pub(crate) fn list<T: Serialize>(&self, data: &[T], next_cursor: Option<&str>) -> HttpResponse {
        self.list_until(data, next_cursor, next_cursor.is_some())
    }

    /// Builds the response with one page of a list whose cursor is useful on the last page too.
    ///
    /// A `Link` header names the next page if `has_more`.
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
